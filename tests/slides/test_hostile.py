"""Files made to hurt: each is refused in a sentence, or shows grey where it lies."""

from __future__ import annotations

import os
import struct
import threading
import zlib
from concurrent.futures import ThreadPoolExecutor

import imagecodecs
import numpy as np
import pytest
import tifffile
from PIL import Image
from tests.slides.raw_tiff import BYTE, Page, RawTiff
from tests.slides.slide_zoo import write_huge, write_ndpi

from napari_batchfx.errors import SlideError
from napari_batchfx.slides import open_slide, write_pyramid
from napari_batchfx.slides._codes import ends_early, is_harmless_jpeg2000, lacks_end, stated_size
from napari_batchfx.slides._file import SlideFile
from napari_batchfx.slides.damage import DamagedTile


@pytest.fixture(scope="module")
def image():
    small = np.random.default_rng(3).integers(90, 255, (20, 25, 3), dtype=np.uint8)
    return np.asarray(Image.fromarray(small).resize((500, 400), Image.Resampling.BICUBIC))


def exchange_tile(path, index, code):
    """Put other data in the place of a tile of the first page."""
    with tifffile.TiffFile(path, mode="r+") as tif:
        page = tif.pages[0]
        offsets, counts = list(page.dataoffsets), list(page.databytecounts)
        offsets[index], counts[index] = path.stat().st_size, len(code)
        page.tags["TileOffsets"].overwrite(offsets)
        page.tags["TileByteCounts"].overwrite(counts)
    data = path.read_bytes()
    path.write_bytes(data[: offsets[index]].ljust(offsets[index], b"\0") + code + data[offsets[index] :])


def bombs():
    jpeg = bytearray(imagecodecs.jpeg8_encode(np.zeros((64, 64, 3), np.uint8), level=80))
    struct.pack_into(">HH", jpeg, jpeg.index(b"\xff\xc0") + 5, 65_500, 65_500)
    j2k = bytearray(imagecodecs.jpeg2k_encode(np.zeros((64, 64, 3), np.uint8), codecformat="j2k"))
    struct.pack_into(">II", j2k, 8, 60_000, 60_000)
    zeros = bytes(20_000_000)
    return {
        "jpeg": bytes(jpeg),
        "jpeg2000": bytes(j2k),
        "zlib": zlib.compress(zeros),
        "zstd": imagecodecs.zstd_encode(zeros),
        "webp": imagecodecs.webp_encode(np.zeros((2000, 2000, 3), np.uint8), lossless=True),
        "png": imagecodecs.png_encode(np.zeros((2000, 2000, 3), np.uint8)),
        "jpegxl": imagecodecs.jpegxl_encode(np.zeros((600, 1000, 3), np.uint8), effort=1, lossless=False),
    }


@pytest.mark.parametrize("compression", ["jpeg", "jpeg2000", "zlib", "zstd", "webp", "png", "jpegxl"])
def test_a_tile_that_decodes_to_more_than_its_place_is_grey(tmp_path, image, compression):
    path = tmp_path / "a.tif"
    options = {"compressionargs": {"level": 95}} if compression == "jpeg" else {}
    tifffile.imwrite(path, image, photometric="rgb", tile=(128, 128), compression=compression, **options)
    exchange_tile(path, 5, bombs()[compression])
    with open_slide(path) as slide:
        got = slide.read(0, 0, 0, 400, 500)
        assert [(d.row, d.col) for d in slide.damage] == [(1, 1)]
        assert (got[128:256, 128:256] == 191).all()
        assert np.abs(got[:128].astype(int) - image[:128]).mean() < 4


@pytest.mark.parametrize(
    "encode", [imagecodecs.jpegxl_encode, imagecodecs.png_encode, imagecodecs.webp_encode]
)
@pytest.mark.parametrize("size", [(64, 64), (100, 260), (513, 77), (256, 128), (9, 1500)])
def test_stated_sizes_are_those_of_the_codecs(encode, size):
    code = encode(np.random.default_rng(0).integers(0, 255, (*size, 3), dtype=np.uint8))
    compression = {"jpegxl": 50002, "png": 34933, "webp": 50001}[encode.__name__.split("_")[0]]
    assert stated_size(bytes(code), compression) == size


@pytest.mark.parametrize("compression", [7, 34712, 34933, 50001, 50002])
def test_nonsense_states_no_size(compression):
    for data in (b"", b"\0" * 100, b"\xff" * 100, os.urandom(50), b"\xff\xd8\xff\xe0\0\x10"):
        assert isinstance(stated_size(data, compression), str)


def test_signs_of_lost_jpeg_data():
    noise = np.random.default_rng(0).integers(0, 255, (128, 128, 3), dtype=np.uint8)
    code = bytes(imagecodecs.jpeg8_encode(noise, level=90))
    assert not lacks_end(code)
    assert ends_early(code, 7) is None
    assert lacks_end(code[: len(code) // 2])
    middle = len(code) // 2
    lost = code[:middle] + bytes(600) + code[middle + 600 :]
    assert ends_early(lost, 7) == "a part of the JPEG data is lost"
    # plain tiles with tables of their own may be coded in zeros: they are whole
    plain = bytes(imagecodecs.jpeg8_encode(np.full((2048, 2048, 3), 255, np.uint8), level=90, optimize=True))
    assert bytes(256) in plain
    assert ends_early(plain, 7) is None


def test_jpeg2000_of_many_parts_is_not_harmless():
    code = bytearray(imagecodecs.jpeg2k_encode(np.zeros((64, 64, 3), np.uint8), codecformat="j2k"))
    assert is_harmless_jpeg2000(bytes(code))
    layers = bytearray(code)
    struct.pack_into(">H", layers, layers.index(b"\xff\x52") + 6, 65_535)
    struct.pack_into(">II", layers, 24, 2, 2)
    assert not is_harmless_jpeg2000(bytes(layers))


def test_a_writer_that_leaves_out_end_markers_everywhere_is_read(tmp_path, image):
    path = write_pyramid(tmp_path / "a.tif", image, 0.5, tile=128, levels=1)
    with open_slide(path) as slide:
        whole = slide.read(0, 0, 0, 400, 500)
    with tifffile.TiffFile(path, mode="r+") as tif:
        counts = [n - 2 for n in tif.pages[0].databytecounts]
        tif.pages[0].tags["TileByteCounts"].overwrite(counts)
    with open_slide(path) as slide:
        assert np.array_equal(slide.read(0, 0, 0, 400, 500), whole)
        assert slide.damage == ()


@pytest.mark.parametrize("kind", ["classic", "big"])
def test_directories_that_point_back_are_refused(tmp_path, kind):
    out = RawTiff(tmp_path / "loop.tif", kind)
    place = out.data(bytes(64 * 64 * 3))
    tags = {"ImageWidth": 64, "ImageLength": 64, "BitsPerSample": [8, 8, 8], "Compression": 1, "SamplesPerPixel": 3,
            "PhotometricInterpretation": 2, "RowsPerStrip": 64}  # fmt: skip
    path = out.finish([Page(dict(tags), [place]) for _ in range(3)])
    with open_slide(path) as slide:
        assert slide.shape == (64, 64)
    data = bytearray(path.read_bytes())
    fmt, at = ("<Q", 8) if kind == "big" else ("<I", 4)
    first = struct.unpack_from(fmt, data, at)[0]
    n = struct.unpack_from("<Q" if kind == "big" else "<H", data, first)[0]
    link = first + (8 + 20 * n if kind == "big" else 2 + 12 * n)
    struct.pack_into(fmt, data, link, first)
    path.write_bytes(data)
    with pytest.raises(SlideError, match=r"loop\.tif: .*point back at one another"):
        open_slide(path)


def change_tag(path, name, value):
    with tifffile.TiffFile(path, mode="r+") as tif:
        tif.pages[0].tags[name].overwrite(value)


@pytest.mark.parametrize(
    ("tag", "value", "words"),
    [
        ("ImageWidth", 4_000_000_000, "which no slide has"),
        ("ImageLength", 100_000, "need .* tiles, the file lists"),
        ("TileWidth", 2**30, "too large to be read piece by piece"),
        ("ImageWidth", 0, "holds no image"),
        ("Compression", 65_000, "TIFF compression 65000"),
    ],
)
def test_numbers_that_make_no_sense_are_named(tmp_path, image, tag, value, words):
    path = write_pyramid(tmp_path / "a.tif", image, 0.5, tile=128, levels=1)
    change_tag(path, tag, value)
    with pytest.raises(SlideError, match=rf"a\.tif: .*{words}"):
        open_slide(path, backend="tifffile")


def test_real_sizes_open(tmp_path):
    with open_slide(write_huge(tmp_path / "huge.tif", side=300_000, tile=512)) as slide:
        assert slide.shape == (300_000, 300_000)
        assert slide.read(0, 299_900, 299_900, 100, 100).shape == (100, 100, 3)


def test_a_header_larger_than_reason_is_refused(tmp_path):
    out = RawTiff(tmp_path / "fat.tif")
    place = out.data(bytes(64 * 64 * 3))
    tags = {"ImageWidth": 64, "ImageLength": 64, "BitsPerSample": [8, 8, 8], "Compression": 1, "SamplesPerPixel": 3,
            "PhotometricInterpretation": 2, "RowsPerStrip": 64, (65_001, BYTE): np.zeros(65 * 2**20, np.uint8)}  # fmt: skip
    with pytest.raises(SlideError, match=r"fat\.tif: .*larger than 64 MB"):
        open_slide(out.finish([Page(tags, [place])]))


def test_a_smaller_level_that_is_damaged_is_left_out(tmp_path, image):
    path = write_pyramid(tmp_path / "a.tif", image, 0.5, tile=64, levels=2, compression="deflate")
    with tifffile.TiffFile(path, mode="r+") as tif:
        tif.pages[1].tags["TileOffsets"].overwrite(list(tif.pages[1].dataoffsets)[:3])
    with open_slide(path) as slide:
        assert [level.shape for level in slide.levels if level.stored] == [(400, 500)]
        assert np.array_equal(slide.read(0, 0, 0, 400, 500), image)


def test_one_lost_strip_takes_its_rows_only(tmp_path, image):
    path = tmp_path / "strips.tif"
    tifffile.imwrite(path, image, photometric="rgb", metadata=None, rowsperstrip=50, compression="zlib")
    with tifffile.TiffFile(path) as tif:
        offset, count = tif.pages[0].dataoffsets[2], tif.pages[0].databytecounts[2]
    with path.open("r+b") as file:
        file.seek(offset)
        file.write(bytes(count))
    expected = image.copy()
    expected[100:150] = 191
    with open_slide(path, mpp=0.5) as slide:
        assert np.array_equal(slide.read(0, 0, 0, 400, 500), expected)
        assert slide.damage
        assert "1 of 8 strips" in slide.damage[0].reason


def test_a_lost_piece_of_an_ndpi_is_grey(tmp_path):
    zoo = write_ndpi(tmp_path)
    with open_slide(zoo.path) as slide:
        whole = slide.read(0, 0, 0, *slide.shape)
    with tifffile.TiffFile(zoo.path) as tif:
        offset, count = tif.pages[0].dataoffsets[0], tif.pages[0].databytecounts[0]
    with zoo.path.open("r+b") as file:
        file.seek(offset)
        file.write(bytes(count))
    with open_slide(zoo.path) as slide:
        got = slide.read(0, 0, 0, *slide.shape)
        assert slide.damage
    assert (got[:8, :128] == 191).all()
    assert np.array_equal(got[8:], whole[8:])


@pytest.mark.parametrize("how", ["png", "many scans"])
def test_plain_images_that_take_too_much_are_refused(tmp_path, how):
    path = tmp_path / "bomb.img"
    if how == "png":
        Image.new("RGB", (20, 20)).save(path, "PNG")
        data = bytearray(path.read_bytes())
        struct.pack_into(">II", data, 16, 12_000, 12_000)
        struct.pack_into(">I", data, 29, zlib.crc32(bytes(data[12:29])))
    else:
        Image.new("RGB", (64, 64), (200, 100, 150)).save(path, "JPEG", progressive=True)
        code = path.read_bytes()
        last = code.rindex(b"\xff\xda")
        data = code[:-2] + code[last:-2] * 200 + code[-2:]
    path.write_bytes(data)
    with pytest.raises(SlideError, match=r"bomb\.img: it is (too large|a JPEG in 2\d\d scans)"):
        open_slide(path)


def test_a_file_knows_what_took_its_place(tmp_path):
    path = tmp_path / "a.bin"
    path.write_bytes(b"abcdef")
    file = SlideFile(path)
    assert file.is_unchanged()
    assert file.read(2, 3) == b"cde"
    with pytest.raises(DamagedTile, match="beyond the end"):
        file.read(4, 3)
    (tmp_path / "b.bin").write_bytes(b"abcdef")
    (tmp_path / "b.bin").replace(path)
    assert not file.is_unchanged()
    path.unlink()
    assert not file.is_unchanged()
    # the open file is still there
    assert file.read(0, 6) == b"abcdef"
    file.close()
    file.close()
    with pytest.raises(SlideError, match=r"a\.bin is closed"):
        file.read(0, 1)


def test_closing_while_others_read_gives_bytes_or_a_sentence(tmp_path):
    """The number of a closed file is given to the next one opened: a reader must never get that one's bytes."""
    one, other = tmp_path / "one.bin", tmp_path / "other.bin"
    one.write_bytes(b"1" * 100_000)
    other.write_bytes(b"2" * 100_000)
    for _ in range(30):
        file, start = SlideFile(one), threading.Barrier(4)

        def read(file=file, start=start):
            start.wait()
            seen = set()
            for _ in range(200):
                try:
                    seen |= set(file.read(0, 1000))
                except SlideError:
                    return seen
            return seen

        with ThreadPoolExecutor(4) as pool:
            futures = [pool.submit(read) for _ in range(3)]
            start.wait()
            file.close()
            handles = [other.open("rb") for _ in range(3)]
            assert all(future.result() <= {ord("1")} for future in futures)
            for handle in handles:
                handle.close()


def test_laughs_and_nesting_in_the_description(tmp_path, image):
    laughs = '<!ENTITY l0 "ha">' + "".join(f'<!ENTITY l{k} "{f"&l{k - 1};" * 10}">' for k in range(1, 12))
    for name, text in {
        "laughs.tif": f'<?xml version="1.0"?><!DOCTYPE x [{laughs}]><OME>&l11;</OME>',
        "deep.tif": "<OME>" + "<a>" * 50_000 + "</a>" * 50_000 + "</OME>",
    }.items():
        path = tmp_path / name
        tifffile.imwrite(
            path, image, photometric="rgb", description=text.encode(), metadata=None, tile=(128, 128)
        )
        with open_slide(path) as slide:
            assert slide.shape == (400, 500)
