"""What each vendor's file says: the zoo's facts, the real files', and layouts written here by tifffile."""

from __future__ import annotations

import re
from dataclasses import replace

import numpy as np
import pytest
import tifffile
from tests.slides.slide_zoo import (
    SECRET,
    ZOO,
    srgb_profile,
    tissue,
    write_bif,
    write_huge,
    write_ndpi,
    write_svs,
)

from napari_batchfx.errors import SlideError, StainError
from napari_batchfx.slides import open_slide
from napari_batchfx.slides._tifffile import Tiff
from napari_batchfx.slides.vendors import read_layout


def _image(height, width):
    rng = np.random.default_rng(1)
    return rng.integers(0, 255, (height, width, 3), dtype=np.uint8)


SCN = """<?xml version="1.0"?><scn xmlns="http://www.leica-microsystems.com/scn/2010/10/01"><collection>
<image><dimensions><dimension sizeX="64" sizeY="192" r="0" ifd="0"/></dimensions><pixels/><view sizeX="25000000" sizeY="75000000"/>
<scanSettings><objectiveSettings><objective>0.6</objective></objectiveSettings></scanSettings></image>
<image><device model="Leica SCN400" version="1"/>
<pixels><dimension sizeX="512" sizeY="384" r="0" ifd="1"/><dimension sizeX="128" sizeY="96" r="1" ifd="2"/></pixels>
<view sizeX="256000" sizeY="192000"/><scanSettings><objectiveSettings><objective>20</objective></objectiveSettings>
<illuminationSettings><illuminationSource>{source}</illuminationSource></illuminationSettings></scanSettings></image>
</collection></scn>"""


def _write_scn(path, source="brightfield"):
    main = _image(384, 512)
    with tifffile.TiffWriter(path) as writer:
        options = {"tile": (64, 64), "photometric": "rgb", "metadata": None}
        writer.write(_image(192, 64), description=SCN.format(source=source), **options)
        writer.write(main, **options)
        writer.write(main[::4, ::4], **options)
    return main


def test_leica_takes_the_finest_image_not_the_overview(tmp_path):
    main = _write_scn(tmp_path / "a.scn")
    with open_slide(tmp_path / "a.scn") as slide:
        assert (slide.vendor, slide.scanner, slide.objective_power) == ("leica", "Leica SCN400", 20)
        assert slide.mpp == (0.5, 0.5)
        assert [level.shape for level in slide.levels if level.stored] == [(384, 512), (96, 128)]
        assert np.array_equal(slide.read(0, 0, 0, 384, 512), main)


def test_leica_fluorescence_is_named(tmp_path):
    _write_scn(tmp_path / "a.scn", "fluorescence")
    with open_slide(tmp_path / "a.scn") as slide:
        assert slide._source.metadata.modality == "fluorescence"


def test_philips_padded_levels_keep_their_content(tmp_path):
    """Philips pads each level to whole tiles: level 1 of 500 x 700 has 250 x 350 pixels that count."""
    spacing = '<Attribute Name="DICOM_PIXEL_SPACING">"0.00025" "0.000227"</Attribute>'
    text = (
        '<?xml version="1.0"?><DataObject ObjectType="DPUfsImport"><Attribute Name="DICOM_MANUFACTURER">PHILIPS</Attribute>'
        f'<Attribute Name="PIM_DP_SCANNED_IMAGES">{""}</Attribute>{spacing}'
        '<Attribute Name="DICOM_DEVICE_SERIAL_NUMBER">FMT0107</Attribute></DataObject>'
    )
    main = _image(500, 700)
    half = np.pad(main[::2, ::2], ((0, 256 - 250), (0, 384 - 350), (0, 0)))
    with tifffile.TiffWriter(tmp_path / "a.tiff") as writer:
        options = {"tile": (128, 128), "photometric": "rgb", "metadata": None, "software": "Philips DP v1.0"}
        writer.write(main, description=text, **options)
        writer.write(half, description="level=1", **options)
        writer.write(
            _image(100, 90),
            description="Macro -offset=(0,0)",
            rowsperstrip=100,
            photometric="rgb",
            metadata=None,
        )
        writer.write(_image(80, 90), description="Label", rowsperstrip=80, photometric="rgb", metadata=None)
    with open_slide(tmp_path / "a.tiff") as slide:
        assert slide.mpp == pytest.approx((0.25, 0.227))
        assert (slide.vendor, slide.scanner, slide.scanner_serial) == ("philips", "PHILIPS", "FMT0107")
        assert [level.shape for level in slide.levels] == [(500, 700), (250, 350)]
        assert slide.levels[1].downsample == (2, 2)
        assert np.array_equal(slide.read(1, 0, 0, 250, 350), main[::2, ::2])


@pytest.mark.parametrize("overlap", [0, 18])
def test_ventana_only_without_overlap(tmp_path, overlap):
    xmp = (
        '<EncodeInfo><SlideInfo><iScan Magnification="40" ScanRes="0.25" UnitNumber="BI10N0294" ScannerModel="iScan HT"/>'
        f'</SlideInfo><TileJointInfo OverlapX="{overlap}" OverlapY="0"/></EncodeInfo>'
    ).encode()
    main = _image(256, 384)
    with tifffile.TiffWriter(tmp_path / "a.tif") as writer:
        writer.write(_image(256, 128), description="Label Image", photometric="rgb", metadata=None)
        writer.write(
            main, description="level=0 mag=40 quality=90", tile=(64, 64), photometric="rgb", metadata=None,
            extratags=[(700, "B", len(xmp), xmp, True)],
        )  # fmt: skip
    if overlap:
        with pytest.raises(SlideError, match="overlapping"):
            open_slide(tmp_path / "a.tif")
        return
    with open_slide(tmp_path / "a.tif") as slide:
        assert (slide.vendor, slide.scanner, slide.mpp) == ("ventana", "iScan HT", (0.25, 0.25))
        assert np.array_equal(slide.read(0, 0, 0, 256, 384), main)


@pytest.mark.parametrize("name", ZOO)
def test_facts_of_the_zoo(written, name):
    zoo = written(name)
    with open_slide(zoo.path) as slide:
        assert slide.vendor == zoo.vendor
        if zoo.facts["mpp"] is None:
            assert slide.mpp_source in {"unknown", "objective power (estimate)"}
        else:
            assert slide.mpp == pytest.approx(zoo.facts["mpp"], rel=1e-9)
            assert slide.mpp_source == ("file" if zoo.vendor else "tiff resolution")
        for fact, value in (
            (slide.scanner, "scanner"),
            (slide.scanner_serial, "serial"),
            (slide.objective_power, "power"),
            (slide.scan_date, "scan_date"),
        ):
            assert fact == zoo.facts.get(value), value
        assert slide.modality == zoo.facts.get("modality", "brightfield")
        assert (slide.icc_profile == srgb_profile()) == ("icc" in name)


@pytest.mark.parametrize("name", ZOO)
def test_levels_and_pixels_of_the_zoo(written, name):
    """Levels are those written, largest first; lossless ones come back exactly, JPEG in the mean."""
    zoo = written(name)
    with open_slide(zoo.path) as slide:
        stored = [level.shape for level in slide.levels if level.stored]
        assert stored == [pixels.shape[:2] for pixels in zoo.pixels]
        for index, level in enumerate(slide.levels):
            if level.stored:
                got = slide.read(index, 0, 0, *level.shape).astype(int)
                missing = (got == 255).all(axis=-1)  # glass where the file leaves tiles out
                difference = np.abs(got - zoo.pixels[stored.index(level.shape)])[~missing]
                assert difference.max() <= (0 if zoo.is_lossless else 48)
                assert difference.mean() < 10  # small levels hold sharp colours, which JPEG halves
                assert missing.mean() < (0.15 if "missing" in name or "sparse" in name else 0.01)


def _odd(rng, text):
    """Cut, double, or put nonsense into a header's text, often in place of a number."""
    nonsense = [
        "nan",
        "inf",
        "-1",
        "0",
        "1e400",
        "",
        "²",
        "9" * 30,
        '"',
        "<",
        "|",
        "=",
        ";",
        "\0",
        "é",
        "None",
    ]
    word = nonsense[rng.integers(len(nonsense))]
    numbers = list(re.finditer(r"[\d.]+", text))
    if numbers and rng.random() < 0.5:
        found = numbers[rng.integers(len(numbers))]
        return text[: found.start()] + word + text[found.end() :]
    at = int(rng.integers(len(text) + 1))
    return text[:at] + word + text[at + int(rng.integers(30)) :]


@pytest.mark.parametrize("name", ZOO)
def test_odd_headers_are_read_or_are_one_sentence(written, name):
    """Whatever a vendor's text holds: a layout of at least one page with finite facts, or a SlideError."""
    rng = np.random.default_rng(list(name.encode()))
    tiff = Tiff(written(name).path)
    refusals = []
    for _ in range(12):
        pages = [
            replace(
                page,
                description=_odd(rng, page.description),
                xmp=page.xmp and _odd(rng, page.xmp),
                date_time=_odd(rng, page.date_time),
                ndpi=page.ndpi
                and {k: _odd(rng, v) if isinstance(v, str) else v for k, v in page.ndpi.items()},
            )
            for page in tiff.pages
        ]
        try:
            layout = read_layout(pages, "odd.svs")
        except SlideError as error:
            refusals.append(str(error))
            continue
        assert layout.pages
        meta = layout.metadata
        assert meta.mpp is None or all(0.05 <= value <= 20 for value in meta.mpp)
        assert meta.objective_power is None or 0 < meta.objective_power <= 200
    tiff.close()
    assert all(text.startswith("odd.svs: ") for text in refusals)


def test_real_files_say_when_and_what(real_data):
    with open_slide(real_data("slides/CMU-1-Small-Region.svs")) as slide:
        assert slide.scan_date == "2009-12-29T09:59:15"
        assert slide.private() == {
            "Filename": "CMU-1",
            "User": "b414003d-95c6-48b0-9369-8010ed517ba7",
            "ImageID": "1004486",
        }
        assert sorted(slide.associated) == ["label", "macro", "thumbnail"]
        assert slide.associated_image("label").shape == (463, 387, 3)
        assert "1004486" not in str(slide.info())
    with open_slide(real_data("slides/fluorescence-ndpi/test3-DAPI.ndpi")) as slide:
        assert (slide.modality, slide.scan_date) == ("fluorescence", "2017-02-07T13:06:43")
        assert (slide.scanner, slide.scanner_serial, slide.objective_power) == ("C9600-12", "950291", 40.0)
        assert slide.associated == ("macro",)


def test_fluorescence_pixels_are_those_of_tifffile(real_data):
    path = real_data("slides/fluorescence-ndpi/test3-DAPI.ndpi")
    with open_slide(path) as slide:
        assert np.array_equal(
            slide.read(2, 100, 200, 300, 400), tifffile.imread(path, key=2)[100:400, 200:600]
        )


def test_stain_tools_decline_fluorescence(written):
    from napari_batchfx.stain import estimate_slide

    with (
        open_slide(written("ndpi-fluorescence").path) as slide,
        pytest.raises(StainError, match=r"dapi: it is a fluorescence scan, not brightfield"),
    ):
        estimate_slide(slide)


@pytest.mark.parametrize("ifd", ["ndpi", "classic"])
def test_planes_out_of_focus_and_odd_magnifications(tmp_path, ifd):
    zoo = write_ndpi(
        tmp_path, levels=2, tile_mcus=128, kind=ifd, name="one-row.ndpi" if ifd == "ndpi" else "one-row.tif"
    )
    with open_slide(zoo.path) as slide:
        assert [level.shape for level in slide.levels if level.stored] == [(640, 1024), (320, 512)]


def test_overlapping_ventana_tiles_are_declined_with_the_reason(tmp_path):
    zoo = write_bif(tmp_path, overlap=12)
    with pytest.raises(SlideError, match=r"a\.bif: Ventana BIF slides with overlapping tiles"):
        open_slide(zoo.path, backend="tifffile")


def test_overlapping_ventana_tiles_open_through_openslide(tmp_path):
    """OpenSlide takes 12 px off every seam of 6 columns."""
    pytest.importorskip("openslide")
    zoo = write_bif(tmp_path, overlap=12)
    with open_slide(zoo.path) as slide:
        assert slide.shape == (512, 768 - 5 * 12)
        assert (slide.vendor, slide.mpp) == ("ventana", (0.465, 0.465))
        assert not any(SECRET in str(value) for value in slide.info().values())


@pytest.mark.parametrize("flavour", ["generic", "svs", "ome", "philips"])
@pytest.mark.parametrize("how", ["jpeg", "deflate"])
def test_a_hundred_thousand_pixels_a_side(tmp_path, flavour, how):
    path = write_huge(tmp_path / "huge.tif", flavour=flavour, how=how)
    assert path.stat().st_size < 6e6
    with open_slide(path) as slide:
        side = slide.shape[0]
        assert slide.shape == (side, side)
        assert side in (100_000, 100_096)
        assert slide.mpp == (0.25, 0.25)
        expected = tissue(256, 256, seed=0)
        row, col = (side // 256 - 1) * 256, 137 * 256
        difference = np.abs(slide.read(0, row, col, 256, 256).astype(int) - expected)
        assert difference.max() <= (0 if how == "deflate" else 20)


def test_an_old_svs_takes_the_resolution_before_the_objective(tmp_path):
    zoo = write_svs(tmp_path, mpp=None, power=20)
    with open_slide(zoo.path) as slide:
        assert (slide.mpp, slide.mpp_source) == ((0.5, 0.5), "objective power (estimate)")
    zoo = write_svs(tmp_path, mpp=None, power=None, name="b.svs")
    with open_slide(zoo.path) as slide:
        assert (slide.mpp, slide.mpp_source) == (None, "unknown")
    zoo = write_svs(tmp_path, mpp=94.0, name="c.svs")
    with open_slide(zoo.path) as slide:
        assert slide.mpp_source == "objective power (estimate)"
