"""Open real and written slides; compare pixels with tifffile.imread and with the arrays written."""

from __future__ import annotations

import numpy as np
import pytest
import tifffile
from PIL import Image

from napari_batchfx.errors import SlideError
from napari_batchfx.slides import can_open, open_slide, write_pyramid


@pytest.fixture
def image():
    rng = np.random.default_rng(3)
    small = rng.integers(0, 255, (30, 40, 3), dtype=np.uint8)
    return np.asarray(Image.fromarray(small).resize((803, 611), Image.Resampling.BICUBIC))


def test_aperio_facts_and_pixels(real_data):
    path = real_data("slides/CMU-1-Small-Region.svs")
    with open_slide(path) as slide:
        assert slide.name == "CMU-1-Small-Region"
        assert slide.shape == (2967, 2220)
        assert slide.mpp == (0.499, 0.499)
        assert slide.mpp_source == "file"
        assert (slide.vendor, slide.scanner, slide.objective_power) == ("aperio", "CPAPERIOCS", 20.0)
        assert [level.shape for level in slide.levels] == [(2967, 2220), (1484, 1110), (742, 555)]
        assert [level.stored for level in slide.levels] == [True, False, False]
        assert np.array_equal(slide.read(0, 0, 0, *slide.shape), tifffile.imread(path, key=0))


def test_label_and_macro_are_never_levels(real_data):
    with open_slide(real_data("slides/CMU-1-Small-Region.svs")) as slide:
        shapes = {level.shape for level in slide.levels}
        # thumbnail, label and macro pages of this file
        assert not shapes & {(768, 574), (463, 387), (431, 1280)}
        assert not any("label" in key or "macro" in key for key in slide.info())


@pytest.mark.parametrize(
    ("name", "shape", "mpp"),
    [
        ("OS-2-ndpi", (2202, 2202), (0.22710240047237298, 0.2270972430394695)),
        ("OS-2-vsi", (1445, 1445), (0.3460559834973875, 0.34605325860336383)),
    ],
)
def test_ome_pixel_size_per_axis(real_data, name, shape, mpp):
    path = real_data(f"scanners/ki67-two-scanners/{name}.ome.tif")
    with open_slide(path) as slide:
        assert (slide.name, slide.shape, slide.mpp) == (name, shape, mpp)
        assert slide.vendor is None
        assert slide.scanner is None
        assert np.array_equal(slide.read(0, 100, 200, 700, 900), tifffile.imread(path)[100:800, 200:1100])


def test_fluorescence_opens_and_says_so(real_data):
    with open_slide(real_data("slides/fluorescence-ndpi/test3-DAPI.ndpi")) as slide:
        assert slide._source.metadata.modality == "fluorescence"
        assert slide.mpp == pytest.approx((10_000 / 43_826, 10_000 / 43_826))
        assert [level.shape for level in slide.levels if level.stored] == [
            (4864, 3968),
            (2432, 1984),
            (1216, 992),
            (608, 496),
        ]


def test_ndpi_pixels_through_the_tiff_layer(real_data):
    """The fluorescence file is the only real NDPI here: its flat JPEG segments must decode as tifffile does."""
    from napari_batchfx.slides._tiff_source import _stored
    from napari_batchfx.slides._tifffile import Tiff

    path = real_data("slides/fluorescence-ndpi/test3-DAPI.ndpi")
    tiff = Tiff(path)
    page = next(p for p in tiff.pages if p.width == 992)
    stored = _stored(page, (page.height, page.width), tiff.segments(page).size)
    assert stored.banded
    read = tiff.segments(page).read
    rows = [read(row, 0) for row in range(4)]
    assert np.array_equal(np.concatenate(rows), tifffile.imread(path, key=page.index[0])[:32])
    tiff.close()


@pytest.mark.parametrize("flavour", ["generic", "ome", "svs"])
@pytest.mark.parametrize("compression", ["deflate", "lzw", "none"])
def test_written_slides_come_back_exactly(tmp_path, image, flavour, compression):
    path = write_pyramid(
        tmp_path / "a.tif", image, (0.26, 0.25), tile=64, levels=3, compression=compression, flavour=flavour
    )
    with open_slide(path) as slide:
        assert np.array_equal(slide.read(0, 0, 0, *slide.shape), image)
        assert [level.shape for level in slide.levels if level.stored] == [(611, 803), (306, 402), (153, 201)]
        assert slide.mpp == (
            pytest.approx((0.255, 0.255)) if flavour == "svs" else pytest.approx((0.26, 0.25))
        )
        assert slide.mpp_source == ("tiff resolution" if flavour == "generic" else "file")


@pytest.mark.parametrize("colour", ["rgb", "ycbcr"])
@pytest.mark.parametrize("flavour", ["generic", "svs"])
def test_jpeg_colours_are_those_of_tifffile(tmp_path, image, colour, flavour):
    path = write_pyramid(
        tmp_path / "a.svs", image, 0.5, tile=128, jpeg_colour=colour, flavour=flavour, quality=95
    )
    with open_slide(path) as slide:
        got = slide.read(0, 0, 0, *slide.shape)
    assert np.array_equal(got, tifffile.imread(path, key=0))
    # a wrong colour space would be off by tens of grey levels
    assert np.abs(got.astype(int) - image).mean() < 4


def test_jpeg2000(tmp_path, image):
    path = write_pyramid(tmp_path / "a.tif", image, 0.5, tile=128, compression="jpeg2000", quality=45)
    with open_slide(path) as slide:
        assert np.abs(slide.read(0, 0, 0, *slide.shape).astype(int) - image).mean() < 2


def test_aperio_jpeg2000_ycbcr(tmp_path, image):
    """Compression 33003 stores YCbCr that the codec does not convert."""
    import imagecodecs

    ycbcr = np.asarray(Image.fromarray(image[:256, :256]).convert("YCbCr"))
    code = imagecodecs.jpeg2k_encode(ycbcr, level=0, codecformat="j2k", mct=False, reversible=True)
    path = tmp_path / "a.svs"
    with tifffile.TiffWriter(path) as writer:
        writer.write(
            iter([code]), shape=(256, 256, 3), dtype=np.uint8, tile=(256, 256), compression=34712,
            photometric="rgb", description="Aperio Image Library\r\n256x256|MPP = 0.5", metadata=None,
        )  # fmt: skip
    # tifffile writes no 33003: change the Compression tag's value in place
    with tifffile.TiffFile(path, mode="r+") as tif:
        tif.pages[0].tags["Compression"].overwrite(33003)
    with open_slide(path) as slide:
        assert np.abs(slide.read(0, 0, 0, 256, 256).astype(int) - image[:256, :256]).max() <= 3


@pytest.mark.parametrize("kwargs", [{}, {"rowsperstrip": 7}, {"rowsperstrip": 611, "compression": "zlib"}])
def test_strips(tmp_path, image, kwargs):
    path = tmp_path / "strips.tif"
    tifffile.imwrite(path, image, photometric="rgb", metadata=None, **kwargs)
    with open_slide(path, mpp=0.5) as slide:
        assert np.array_equal(slide.read(0, 0, 0, *slide.shape), image)
        assert np.array_equal(slide.read(0, 300, 500, 90, 40), image[300:390, 500:540])
        assert np.array_equal(slide.pyramid()[0].compute(), image)


def test_planar_samples(tmp_path, image):
    path = tmp_path / "planar.tif"
    planes = np.moveaxis(image, -1, 0)
    tifffile.imwrite(path, planes, photometric="rgb", planarconfig="separate", tile=(64, 64), metadata=None)
    with open_slide(path) as slide:
        assert np.array_equal(slide.read(0, 0, 0, *slide.shape), image)


def test_ome_written_by_tifffile_with_sub_ifds(tmp_path, image):
    path = tmp_path / "b.ome.tif"
    meta = {"axes": "YXS", "PhysicalSizeX": 250.0, "PhysicalSizeXUnit": "nm", "PhysicalSizeY": 0.3}
    with tifffile.TiffWriter(path, ome=True) as writer:
        writer.write(image, subifds=1, tile=(64, 64), photometric="rgb", metadata=meta)
        writer.write(image[::4, ::4], subfiletype=1, tile=(64, 64), photometric="rgb")
    with open_slide(path) as slide:
        assert slide.name == "b"
        assert slide.mpp == (0.3, 0.25)
        assert [(level.downsample[0], level.stored) for level in slide.levels] == [
            (1, True),
            (2, False),
            (4, True),
        ]
        assert np.array_equal(slide.read(2, 0, 0, 153, 201), image[::4, ::4])


def test_rgba_lies_on_white(tmp_path, image):
    alpha = np.full(image.shape[:2], 255, np.uint8)
    alpha[:100] = 0
    rgba = np.dstack([image, alpha])
    expected = image.copy()
    expected[:100] = 255
    tifffile.imwrite(tmp_path / "a.tif", rgba, photometric="rgb", extrasamples=["unassalpha"], tile=(64, 64))
    Image.fromarray(rgba).save(tmp_path / "a.png")
    for name in ("a.tif", "a.png"):
        with open_slide(tmp_path / name, mpp=0.5) as slide:
            assert np.array_equal(slide.read(0, 0, 0, *slide.shape), expected), name


def test_plain_images(tmp_path, image):
    Image.fromarray(image).save(tmp_path / "a.png")
    Image.fromarray(image).save(tmp_path / "a.jpg", quality=90)
    with open_slide(tmp_path / "a.png", mpp=(0.5, 0.25)) as slide:
        assert (slide.mpp, slide.mpp_source) == ((0.5, 0.25), "given")
        assert np.array_equal(slide.read(0, 0, 0, *slide.shape), image)
        assert slide.extent_um == (611 * 0.5, 803 * 0.25)
    with open_slide(tmp_path / "a.jpg") as slide:
        assert slide.mpp is None
        assert slide.mpp_source == "unknown"
        with pytest.raises(SlideError, match=r"a\.jpg: no pixel size"):
            _ = slide.extent_um
        slide.with_mpp((0.4, 0.5))
        assert slide.mpp == (0.4, 0.5)
        with pytest.raises(SlideError, match="plausible"):
            slide.with_mpp(500)
        for wrong in ((0.5,), (0.5, 0.5, 0.5), "small", ("a", "b"), [None, None]):
            with pytest.raises(SlideError, match="is no pixel size"):
                slide.with_mpp(wrong)
        assert slide.mpp == (0.4, 0.5)


def test_refusals_are_one_sentence_that_names_the_file(tmp_path, image):
    def tiff(name, array, **kwargs):
        tifffile.imwrite(tmp_path / name, array, **kwargs)
        return tmp_path / name

    (tmp_path / "empty.svs").write_bytes(b"")
    (tmp_path / "text.svs").write_text("this is no slide")
    (tmp_path / "header.tif").write_bytes(b"II*\0\x08\0\0\0")
    (tmp_path / "nonsense.tif").write_bytes(b"II*\0" + bytes(range(256)) * 4)
    (tmp_path / "broken.png").write_bytes(b"\x89PNG\r\n\x1a\n" + b"x" * 50)
    (tmp_path / "slide.mrxs").write_bytes(b"\xff" * 100)
    Image.fromarray(image).save(tmp_path / "cut.png")
    whole = (tmp_path / "cut.png").read_bytes()
    (tmp_path / "cut.png").write_bytes(whole[: len(whole) // 2])
    Image.fromarray(image[..., 0].astype(np.uint16)).save(tmp_path / "deep.png")
    Image.fromarray(image[..., 0]).save(tmp_path / "grey.png")
    Image.fromarray(image[..., 0]).save(tmp_path / "grey.jpg")
    Image.fromarray(image[..., :2], "LA").save(tmp_path / "grey alpha.png")
    Image.fromarray(image[..., 0] > 128).save(tmp_path / "mask.png")
    cases = {
        tmp_path / "missing.svs": "no such file",
        tmp_path: "folder",
        tmp_path / "empty.svs": "empty",
        tmp_path / "text.svs": "neither",
        tmp_path / "header.tif": "incomplete",
        tmp_path / "nonsense.tif": "incomplete|damaged",
        tmp_path / "broken.png": "damaged",
        tmp_path / "cut.png": "incomplete",
        tmp_path / "deep.png": "16-bit",
        tmp_path / "slide.mrxs": "MIRAX",
        tmp_path / "grey.png": "greyscale",
        tmp_path / "grey.jpg": "greyscale",
        tmp_path / "grey alpha.png": "greyscale",
        tmp_path / "mask.png": "greyscale",
        tmp_path / ("a" * 300 + ".svs"): "too long",
        tiff("deep.tif", image.astype(np.uint16) * 200, photometric="rgb"): "16-bit",
        tiff("float.tif", image.astype(np.float32), photometric="rgb"): "floating",
        tiff("grey.tif", image[..., 0], photometric="minisblack"): "greyscale",
        tiff("two.tif", np.moveaxis(image[..., :2], -1, 0), photometric="minisblack"): "greyscale",
    }
    for path, words in cases.items():
        with pytest.raises(SlideError, match=words) as caught:
            open_slide(path)
        text = str(caught.value)
        assert text.startswith(path.name)
        assert "\n" not in text
        assert can_open(path) in (True, False)


def test_a_file_cut_at_its_end_shows_what_it_has(tmp_path, image):
    path = write_pyramid(tmp_path / "a.tif", image, 0.5, tile=64, levels=1)
    with tifffile.TiffFile(path) as tif:
        offsets = np.array(tif.pages[0].dataoffsets)
    with open_slide(path) as slide:
        whole = slide.read(0, 0, 0, *slide.shape)
    first, cut = offsets[0], offsets[60]
    data = path.read_bytes()
    path.write_bytes(data[: cut + 10])
    with open_slide(path) as slide:
        got = slide.read(0, 0, 0, *slide.shape)
        assert {(d.row * 13 + d.col) for d in slide.damage} == set(range(60, 130))
        assert "beyond the end of the file" in slide.damage[0].reason
    for index in range(130):
        y, x = index // 13 * 64, index % 13 * 64
        tile = got[y : y + 64, x : x + 64]
        expected = whole[y : y + 64, x : x + 64] if index < 60 else np.full_like(tile, 191)
        assert np.array_equal(tile, expected), index
    path.write_bytes(data[: first + 10])
    with pytest.raises(SlideError, match=r"a\.tif: the file is truncated"):
        open_slide(path)


@pytest.mark.parametrize("compression", ["jpeg", "deflate", "lzw", "jpeg2000"])
@pytest.mark.parametrize("how", ["0x55", "zeros", "half", "tail of zeros"])
def test_one_damaged_tile_is_grey_and_counted(tmp_path, image, compression, how):
    quality = 40 if compression == "jpeg2000" else 90
    path = write_pyramid(tmp_path / "a.tif", image, 0.5, tile=256, compression=compression, quality=quality)
    with open_slide(path) as slide:
        whole = slide.read(0, 0, 0, *slide.shape)
    with tifffile.TiffFile(path, mode="r+") as tif:
        offset, count = tif.pages[0].dataoffsets[2], tif.pages[0].databytecounts[2]
        counts = list(tif.pages[0].databytecounts)
        if how == "half":
            counts[2] = count // 2
            tif.pages[0].tags["TileByteCounts"].overwrite(counts)
    with path.open("r+b") as file:
        file.seek(offset)
        if how == "tail of zeros":
            file.seek(offset + count // 3)
            file.write(bytes(count - count // 3))
        elif how != "half":
            file.write({"0x55": b"\x55", "zeros": b"\0"}[how] * count)
    with open_slide(path) as slide:
        got = slide.read(0, 0, 0, *slide.shape)
        assert [(d.level, d.row, d.col) for d in slide.damage] == [(0, 0, 2)]
        assert slide.damaged_in(0, 0, 600, 5, 5)
        assert not slide.damaged_in(0, 300, 600, 5, 5)
    assert (got[:256, 512:768] == 191).all()
    whole[:256, 512:768] = 191
    assert np.array_equal(got, whole)


def test_resolution_must_be_plausible(tmp_path, image):
    tifffile.imwrite(
        tmp_path / "dpi.tif", image, photometric="rgb", resolution=(72, 72), resolutionunit="INCH"
    )
    with open_slide(tmp_path / "dpi.tif") as slide:
        assert slide.mpp is None


def test_objective_power_is_an_estimate(tmp_path, image):
    path = write_pyramid(tmp_path / "a.svs", image, None, flavour="svs", objective_power=40, scanner="AT2")
    with open_slide(path) as slide:
        assert slide.mpp == (0.25, 0.25)
        assert slide.mpp_source == "objective power (estimate)"
        assert slide.scanner == "AT2"


@pytest.mark.parametrize("flavour", ["ome", "svs"])
def test_scanner_is_written_and_read(tmp_path, image, flavour):
    path = write_pyramid(
        tmp_path / "a.tif", image, 0.5, flavour=flavour, vendor="Aperio", scanner='CS2 "B" & co', scanner_serial="SS1",
        objective_power=20, icc_profile=b"profile" * 30,
    )  # fmt: skip
    with open_slide(path) as slide:
        assert (slide.vendor, slide.scanner, slide.scanner_serial) == ("aperio", 'CS2 "B" & co', "SS1")
        assert slide.objective_power == 20
        assert slide.icc_profile == b"profile" * 30


def test_a_damaged_macro_page_does_not_matter(tmp_path, image):
    path = tmp_path / "a.svs"
    with tifffile.TiffWriter(path) as writer:
        text = "Aperio Image Library\r\n803x611|MPP = 0.5"
        writer.write(
            image, tile=(64, 64), compression="jpeg", photometric="rgb", description=text, metadata=None
        )
        writer.write(
            image[:99], rowsperstrip=99, compression="jpeg", photometric="rgb", description="macro 803x99"
        )
    with tifffile.TiffFile(path) as tif:
        offset, count = tif.pages[1].dataoffsets[0], tif.pages[1].databytecounts[0]
        expected = tif.pages[0].asarray()
    with path.open("r+b") as file:
        file.seek(offset)
        file.write(b"\0" * count)
    with open_slide(path) as slide:
        assert [level.shape for level in slide.levels if level.stored] == [(611, 803)]
        assert np.array_equal(slide.read(0, 0, 0, 611, 803), expected)


def test_what_a_file_leaves_out_is_glass(tmp_path, image):
    """Scanners may store no bytes for empty tiles: they are white, not black."""
    path = write_pyramid(tmp_path / "a.tif", image, 0.5, tile=64, levels=1, compression="deflate")
    with tifffile.TiffFile(path, mode="r+") as tif:
        counts = list(tif.pages[0].databytecounts)
        counts[1] = 0
        tif.pages[0].tags["TileByteCounts"].overwrite(counts)
    with open_slide(path) as slide:
        assert (slide.read(0, 0, 64, 64, 64) == 255).all()
        assert np.array_equal(slide.read(0, 0, 0, 64, 64), image[:64, :64])


def test_a_closed_plain_image_says_so(tmp_path, image):
    Image.fromarray(image).save(tmp_path / "a.png")
    slide = open_slide(tmp_path / "a.png", mpp=0.5)
    slide.close()
    with pytest.raises(SlideError, match=r"a\.png is closed"):
        slide.read(0, 0, 0, 5, 5)
    with pytest.raises(SlideError, match=r"a\.png is closed"):
        next(slide._source.tiles(0, 0, 0))


def test_backends_and_pixel_sizes_that_do_not_exist(tmp_path, image):
    path = write_pyramid(tmp_path / "a.tif", image, 0.5)
    for kwargs in ({"backend": "magic"}, {"backend": "image"}, {"mpp": 0.0}, {"mpp": (0.5, 900)}):
        with pytest.raises(SlideError, match=r"a\.tif"):
            open_slide(path, **kwargs)
    # nothing keeps the file open after a refusal
    path.unlink()


@pytest.mark.parametrize("what", [None, 3, ["a.svs"]])
def test_what_is_no_path_is_a_sentence(what):
    with pytest.raises(SlideError, match="from the path of its file"):
        open_slide(what)
    assert not can_open(what)


def test_a_level_that_is_not_there_is_a_sentence(tmp_path, image):
    with open_slide(write_pyramid(tmp_path / "a.tif", image, 0.5)) as slide:
        n = len(slide.levels)
        assert slide.read(-1, 0, 0, 4, 4).shape == (4, 4, 3)
        for level in (n, -n - 1, 9):
            with pytest.raises(
                SlideError, match=rf"a\.tif: has levels 0 to {n - 1}, there is no level {level}"
            ):
                slide.read(level, 0, 0, 4, 4)
            with pytest.raises(SlideError, match="there is no level"):
                slide.level_mpp(level)
