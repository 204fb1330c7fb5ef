"""OME-Zarr slides written with zarr itself: axes, units, levels, layouts, and what is refused."""

from __future__ import annotations

import contextlib
import gzip
import json
import os
import struct
import threading

import numpy as np
import pytest
import zarr
from PIL import Image
from tests.slides.ngff_writer import write_ngff
from zarr.codecs import BloscCodec, GzipCodec, ZstdCodec

from napari_batchfx.errors import SlideError
from napari_batchfx.slides import MISSING_RGB, can_open, fingerprint, open_slide


@pytest.fixture
def levels():
    rng = np.random.default_rng(8)
    small = rng.integers(0, 255, (12, 14, 3), dtype=np.uint8)
    image = np.asarray(Image.fromarray(small).resize((700, 611), Image.Resampling.BICUBIC))
    return [image, image[::2, ::2], image[::4, ::4]]


@pytest.mark.parametrize("version", ["0.4", "0.5"])
@pytest.mark.parametrize("axes", ["tczyx", "czyx", "cyx", "yxc", "zyxc"])
def test_axes_in_any_usual_order(tmp_path, levels, version, axes):
    root = write_ngff(tmp_path / "a.ome.zarr", levels, version=version, axes=axes, chunk=128)
    assert can_open(root)
    with open_slide(root) as slide:
        assert slide.name == "a"
        assert (slide.shape, slide.mpp, slide.mpp_source) == ((611, 700), (0.25, 0.5), "file")
        assert [(level.shape, level.tile) for level in slide.levels] == [
            ((611, 700), (128, 128)), ((306, 350), (128, 128)), ((153, 175), (128, 128)),
        ]  # fmt: skip
        for level, image in enumerate(levels):
            assert np.array_equal(slide.read(level, 0, 0, *image.shape[:2]), image)
        assert np.array_equal(slide.pyramid()[0].compute(), levels[0])


@pytest.mark.parametrize(
    ("unit", "factor"),
    [("micrometer", 1), ("nanometer", 1e3), ("millimeter", 1e-3), ("µm", 1), ("angstrom", 1e4)],
)
def test_units_of_the_pixel_size(tmp_path, levels, unit, factor):
    root = write_ngff(tmp_path / "a.zarr", levels, unit=unit, mpp=(0.25 * factor, 0.5 * factor))
    with open_slide(root) as slide:
        assert slide.mpp == pytest.approx((0.25, 0.5), rel=1e-12)


@pytest.mark.parametrize("unit", [None, "pixel", "second"])
def test_a_scale_without_a_length_is_no_pixel_size(tmp_path, levels, unit):
    with open_slide(write_ngff(tmp_path / "a.zarr", levels, unit=unit)) as slide:
        assert slide.mpp is None
        assert slide.mpp_source == "unknown"


def test_a_scale_of_the_whole_multiscale_counts_too(tmp_path, levels):
    root = write_ngff(tmp_path / "a.zarr", levels, axes="cyx", mpp=(1.0, 1.0), outer=[1.0, 0.25, 0.5])
    with open_slide(root) as slide:
        assert slide.mpp == (0.25, 0.5)


@pytest.mark.parametrize("version", ["0.4", "0.5"])
def test_the_layout_of_bioformats2raw(tmp_path, levels, version):
    root = tmp_path / "a.zarr"
    write_ngff(root, levels, version=version, at="0")
    write_ngff(root, [levels[0][:64, :90]], version=version, at="1")
    (root / "OME").mkdir(exist_ok=True)
    (root / "OME" / "METADATA.ome.xml").write_text(
        '<OME xmlns="http://www.openmicroscopy.org/Schemas/OME/2016-06"><Instrument ID="I:0">'
        '<Microscope Manufacturer="Hamamatsu" Model="C13220" SerialNumber="77"/><Objective ID="O:0" NominalMagnification="40"/>'
        '</Instrument><Image ID="Image:0" Name="Doe Jane"><AcquisitionDate>2024-02-08T11:37:00</AcquisitionDate></Image></OME>'
    )
    with open_slide(root) as slide:
        assert np.array_equal(slide.read(0, 0, 0, 611, 700), levels[0])
        assert (slide.vendor, slide.scanner, slide.scanner_serial) == ("hamamatsu", "C13220", "77")
        assert (slide.objective_power, slide.scan_date) == (40, "2024-02-08T11:37:00")
        assert "Doe Jane" in slide.private().values()
        assert "Doe" not in str(slide.info())
        # image 0 is the slide: what it holds is what counts
        assert slide.fingerprint == fingerprint(root / "0")


def test_labels_are_never_taken(tmp_path, levels):
    root = write_ngff(tmp_path / "a.zarr", levels)
    group = zarr.open_group(str(root), mode="a")
    group.create_group("labels").attrs["labels"] = ["nuclei"]
    write_ngff(root / "labels" / "nuclei", levels, attributes={"image-label": {"version": "0.4"}})
    with open_slide(root) as slide:
        assert slide.associated == ()
        assert np.array_equal(slide.read(0, 0, 0, 611, 700), levels[0])
    with pytest.raises(SlideError, match="nuclei: it is a label image"):
        open_slide(root / "labels" / "nuclei")


@pytest.mark.parametrize("codec", [BloscCodec(cname="lz4"), ZstdCodec(), GzipCodec(), None])
def test_compressions(tmp_path, levels, codec):
    root = write_ngff(tmp_path / "a.zarr", levels, version="0.5", compressors=codec)
    with open_slide(root) as slide:
        assert np.array_equal(slide.read(0, 0, 0, 611, 700), levels[0])


def test_shards_and_flat_names(tmp_path, levels):
    sharded = write_ngff(tmp_path / "a.zarr", levels, version="0.5", shards=2)
    flat = write_ngff(tmp_path / "b.zarr", levels, separator=".")
    for root in (sharded, flat):
        with open_slide(root) as slide:
            assert slide.levels[0].tile == (128, 128)
            assert np.array_equal(slide.read(0, 0, 0, 611, 700), levels[0])
    assert (flat / "s0" / "0.0.0.0.0").is_file()


def test_very_small_chunks_are_read_in_groups(tmp_path, levels):
    image = levels[0][:200, :600]
    with open_slide(write_ngff(tmp_path / "a.zarr", [image], chunk=40)) as slide:
        assert slide.levels[0].tile == (520, 520)
        assert np.array_equal(slide.read(0, 20, 100, 180, 500), image[20:, 100:])


def test_chunks_that_are_not_stored_have_the_fill_value(tmp_path, levels):
    image = levels[0].copy()
    image[:128, :128] = 0
    root = write_ngff(tmp_path / "a.zarr", [image])
    assert not (root / "s0" / "0" / "0" / "0" / "0" / "0").exists()
    with open_slide(root) as slide:
        assert np.array_equal(slide.read(0, 0, 0, 611, 700), image)
        assert slide.damage == ()


def test_a_damaged_chunk_is_missing_and_the_rest_is_there(tmp_path, levels):
    root = write_ngff(tmp_path / "a.zarr", levels)
    (root / "s0" / "0" / "0" / "0" / "1" / "2").write_bytes(b"\x55" * 300)
    with open_slide(root) as slide:
        expected = levels[0].copy()
        expected[128:256, 256:384] = MISSING_RGB
        assert np.array_equal(slide.read(0, 0, 0, 611, 700), expected)
        assert [(d.level, d.row, d.col) for d in slide.damage] == [(0, 1, 2)]


@pytest.mark.parametrize("codec", ["gzip", "zstd", "blosc"])
def test_a_chunk_that_would_swell_is_not_decoded(tmp_path, levels, codec):
    made = {"gzip": GzipCodec(), "zstd": ZstdCodec(), "blosc": BloscCodec()}[codec]
    root = write_ngff(tmp_path / "a.zarr", levels, version="0.5", compressors=made)
    chunk = root / "s0" / "c" / "0" / "0" / "0" / "0" / "0"
    if codec == "gzip":
        chunk.write_bytes(gzip.compress(bytes(2**27), 1))
    elif codec == "zstd":
        # a frame that states 2 GB of one repeated byte (RFC 8878: magic, single segment with 8 bytes of size, RLE)
        chunk.write_bytes(b"\x28\xb5\x2f\xfd\xe0" + struct.pack("<Q", 2**31) + b"\x03\0\x10\x41")
    else:
        code = bytearray(chunk.read_bytes())
        code[4:8] = struct.pack("<I", 2**31 - 64)
        chunk.write_bytes(code)
    with open_slide(root) as slide:
        assert (slide.read(0, 0, 0, 128, 128) == MISSING_RGB).all()
        assert "where 49,152 belong" in slide.damage[0].reason
        assert np.array_equal(slide.read(0, 0, 128, 128, 128), levels[0][:128, 128:256])


def edited(root, name, **changes):
    """Change values of a JSON header."""
    header = json.loads((root / name).read_text())
    header.update(changes)
    (root / name).write_text(json.dumps(header))
    return root


def test_refusals_are_one_sentence_that_names_the_folder(tmp_path, levels):
    small = [levels[1][:100, :90], levels[2][:50, :45]]

    def write(name, **kwargs):
        return write_ngff(tmp_path / name, small, **kwargs)

    def scales(root):
        return json.loads((root / ".zattrs").read_text())["multiscales"]

    grey = tmp_path / "grey"
    four = tmp_path / "four"
    for root, n in ((grey, 1), (four, 4)):
        write(root.name)
        edited(root / "s0", ".zarray", shape=[1, n, 1, 100, 90])
    outside = write("outside")
    wrong = scales(outside)
    wrong[0]["datasets"][0]["path"] = "../deep/s0"
    edited(outside, ".zattrs", multiscales=wrong)
    strange = write("strange")
    wrong = scales(strange)
    wrong[0]["axes"][0]["name"] = "q"
    edited(strange, ".zattrs", multiscales=wrong)
    nothing = tmp_path / "nothing"
    zarr.open_group(str(nothing), mode="w", zarr_format=2)
    bad = write("bad")
    (bad / ".zattrs").write_text('{"multiscales": [')
    nested = write("nested")
    (nested / ".zattrs").write_text("[" * 100_000)
    missing = write("missing")
    (missing / "s1" / ".zarray").unlink()
    plate = tmp_path / "plate"
    zarr.open_group(str(plate), mode="w", zarr_format=2).attrs["plate"] = {}
    stains = {
        "omero": {
            "channels": [
                {"color": c, "label": n}
                for c, n in (("0000FF", "DAPI"), ("00FF00", "FITC"), ("FF0000", "TRITC"))
            ]
        }
    }
    cases = {
        write("deep", dtype="uint16"): "uint16|u2",
        grey: "it has 1 colour channel, not the three",
        four: "it has 4 colour channels, not the three",
        write("stains", attributes=stains): r"three channels \(DAPI, FITC, TRITC\) are stains",
        edited(write("chunks") / "s0", ".zarray", chunks=[1, 3, 1, 40_000, 40_000]).parent: "chunks hold 4,578 MB",
        edited(write("huge") / "s0", ".zarray", shape=[1, 3, 1, 2**40, 90]).parent: "a size that no slide has",
        edited(write("codec") / "s0", ".zarray", compressor={"id": "bz2", "level": 1}).parent: "compressed with bz2",
        edited(write("filters") / "s0", ".zarray", filters=[{"id": "delta"}]).parent: "compressed with filters",
        outside: "levels outside of its folder",
        strange: "its axes are q, c, z, y, x",
        nothing: "holds no OME-Zarr image",
        bad: r"header \.zattrs can't be read or is damaged",
        nested: r"header \.zattrs can't be read or is damaged",
        missing: "its level s1 is missing",
        write("crumbs", chunk=8): "chunks are only 8 x 8 px",
        plate: "a plate of many images",
        edited(write("later"), ".zattrs", version="0.9"): "it is OME-Zarr 0.9",
    }  # fmt: skip
    for root, words in cases.items():
        with pytest.raises(SlideError, match=words) as caught:
            open_slide(root)
        assert str(caught.value).startswith(root.name + ":")
        assert "\n" not in str(caught.value)
        assert can_open(root) in (True, False)


def test_red_green_blue_channels_are_fine(tmp_path, levels):
    channels = [{"color": c, "label": str(k)} for k, c in enumerate(("FF0000", "00FF00", "0000FF"))]
    with open_slide(
        write_ngff(tmp_path / "a.zarr", levels, attributes={"omero": {"channels": channels}})
    ) as slide:
        assert slide.shape == (611, 700)


def test_a_file_of_a_zarr_folder_names_the_folder(tmp_path, levels):
    root = write_ngff(tmp_path / "a.zarr", levels)
    with pytest.raises(SlideError, match=r"\.zattrs: it is the header of a Zarr folder"):
        open_slide(root / ".zattrs")


def test_the_fingerprint_is_that_of_the_content(tmp_path, levels):
    root = write_ngff(tmp_path / "a.zarr", levels)
    first = fingerprint(root)
    os.rename(root, tmp_path / "b.zarr")
    root = tmp_path / "b.zarr"
    assert fingerprint(root) == first
    # files that come and go beside the image don't count
    (root / "notes.txt").write_text("x")
    assert fingerprint(root) == first
    array = zarr.open_array(str(root / "s2"), mode="r+")
    array[0, :, 0, 40, 40] = 255 - array[0, :, 0, 40, 40]
    assert fingerprint(root) != first


def test_a_replaced_header_is_noticed(tmp_path, levels):
    from napari_batchfx.slides._ngff import NgffSource

    root = write_ngff(tmp_path / "a.zarr", levels)
    source = NgffSource(root)
    assert source.is_unchanged()
    edited(root, ".zattrs", other=1)
    assert not source.is_unchanged()
    source.close()
    with pytest.raises(SlideError, match=r"a\.zarr is closed"):
        next(source.tiles(0, 0, 0))


def test_threads_read_what_one_reads(tmp_path, levels):
    wrong = []
    with open_slide(write_ngff(tmp_path / "a.zarr", levels)) as slide:

        def work(seed):
            rng = np.random.default_rng(seed)
            for _ in range(12):
                y, x = int(rng.integers(0, 500)), int(rng.integers(0, 600))
                if not np.array_equal(slide.read(0, y, x, 100, 90), levels[0][y : y + 100, x : x + 90]):
                    wrong.append((y, x))

        threads = [threading.Thread(target=work, args=(seed,)) for seed in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    assert wrong == []


def test_mutated_folders_never_crash(tmp_path, levels):
    """Any byte of headers and chunks may be wrong: a SlideError or a slide, nothing else."""
    rng = np.random.default_rng(2)
    small = [levels[1][:100, :90], levels[2][:50, :45]]
    root = write_ngff(tmp_path / "a.zarr", small, version="0.5", chunk=64)
    files = sorted(path for path in root.rglob("*") if path.is_file())
    opened = 0
    for k in range(120):
        path = files[k % len(files)]
        whole = path.read_bytes()
        data = bytearray(whole)
        for at in rng.integers(0, len(data), rng.integers(1, 4)):
            data[at] = rng.integers(0, 256)
        path.write_bytes(data)
        with contextlib.suppress(SlideError), open_slide(root) as slide:
            slide.read(0, 0, 0, 100, 90)
            opened += 1
        path.write_bytes(whole)
    assert 20 < opened < 120


def test_a_slide_of_100_000_px_opens_by_its_header(tmp_path, levels):
    root = write_ngff(tmp_path / "a.zarr", levels[:1], axes="cyx")
    edited(root / "s0", ".zarray", shape=[3, 100_000, 100_000])
    with open_slide(root) as slide:
        assert slide.shape == (100_000, 100_000)
        assert np.array_equal(slide.read(0, 128, 128, 128, 128), levels[0][128:256, 128:256])
        # nothing is stored there: the fill value
        assert not slide.read(0, 90_000, 90_000, 50, 50).any()
