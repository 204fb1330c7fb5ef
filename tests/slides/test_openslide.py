"""OpenSlide as the reader: MIRAX, fallback, pixels against our own readers, damage, threads, old versions."""

from __future__ import annotations

import contextlib
import sys
import threading

import numpy as np
import pytest
from PIL import Image
from tests.slides.dicom_writer import write_dicom
from tests.slides.mirax_writer import SIDE, write_mirax

from napari_batchfx.errors import SlideError
from napari_batchfx.slides import MISSING_RGB, can_open, fingerprint, open_slide, write_pyramid
from napari_batchfx.slides._openslide import OpenSlideSource
from napari_batchfx.slides.open import _fallback

openslide = pytest.importorskip("openslide")


@pytest.fixture
def image():
    rng = np.random.default_rng(3)
    small = rng.integers(0, 255, (9, 12, 3), dtype=np.uint8)
    return np.asarray(Image.fromarray(small).resize((512, 384), Image.Resampling.BICUBIC))


@pytest.fixture
def mirax(tmp_path, image):
    half = np.asarray(Image.fromarray(image).resize((256, 192), Image.Resampling.BOX))
    return write_mirax(
        tmp_path / "my slide ü.mrxs", [image, half], label=image[:64, :96], empty={(2, 3)}, fill=0xF0F1F2
    )


def differences(a, b):
    found = np.abs(a.astype(int) - b.astype(int))
    return found.max(), found.mean()


def test_svs_pixels_are_those_of_our_own_reader(real_data):
    path = real_data("slides/CMU-1-Small-Region.svs")
    rng = np.random.default_rng(0)
    with open_slide(path) as ours, open_slide(path, backend="openslide") as theirs:
        assert (ours.shape, ours.mpp, ours.vendor) == (theirs.shape, theirs.mpp, theirs.vendor)
        assert ours.objective_power == theirs.objective_power
        assert ours.scan_date == theirs.scan_date
        assert ours.fingerprint == theirs.fingerprint
        for y, x in [(0, 0), (2967 - 300, 2220 - 300), *rng.integers(0, 1900, (6, 2))]:
            worst, mean = differences(ours.read(0, y, x, 300, 300), theirs.read(0, y, x, 300, 300))
            assert worst <= 2
            assert mean <= 0.5


def test_a_fluorescence_scan_is_named_as_one(real_data):
    with open_slide(real_data("slides/fluorescence-ndpi/test3-DAPI.ndpi"), backend="openslide") as slide:
        assert slide.modality == "fluorescence"
        assert slide.vendor == "hamamatsu"


def test_mirax(mirax, image):
    assert can_open(mirax)
    with open_slide(mirax) as slide:
        assert slide.name == "my slide ü"
        assert (slide.shape, slide.mpp, slide.mpp_source) == ((384, 512), (0.25, 0.25), "file")
        assert [(level.shape, level.tile, level.stored) for level in slide.levels] == [
            ((384, 512), (SIDE, SIDE), True), ((192, 256), (SIDE, SIDE), True),
        ]  # fmt: skip
        assert (slide.vendor, slide.scanner, slide.scanner_serial) == ("mirax", "Pannoramic 250", "PSCAN-1")
        assert slide.objective_power == 20
        # day first, as 3DHISTECH writes it
        assert slide.scan_date == "2008-06-02T13:50:21"
        whole = slide.read(0, 0, 0, 384, 512)
        assert differences(whole[:256], image[:256])[1] < 1
        # what wasn't scanned has the slide's own background colour
        assert (whole[256:, 384:] == (0xF0, 0xF1, 0xF2)).all()


def test_a_mirax_label_is_read_by_name_only_and_its_barcode_kept_apart(mirax, image):
    with open_slide(mirax) as slide:
        assert slide.associated == ("label",)
        assert differences(slide.associated_image("label"), image[:64, :96])[1] < 2
        assert {"S09-1234", "Doe Jane 1957"} <= set(slide.private().values())
        assert "Doe" not in str(slide.info())
        with pytest.raises(SlideError, match="has no image called 'macro'; it has label"):
            slide.associated_image("macro")


def test_a_mirax_slide_without_its_folder_says_so(mirax):
    mirax.with_suffix("").rename(mirax.with_name("elsewhere"))
    with pytest.raises(
        SlideError, match=r"my slide ü\.mrxs: a MIRAX slide is this file and the folder my slide ü"
    ):
        open_slide(mirax)
    with pytest.raises(SlideError, match="data folder of a MIRAX slide"):
        open_slide(mirax.with_name("elsewhere"))


def test_a_damaged_mirax_slide_is_one_sentence(mirax):
    index = mirax.with_suffix("") / "Index.dat"
    index.write_bytes(index.read_bytes()[:60])
    with pytest.raises(SlideError, match=r"my slide ü\.mrxs: OpenSlide can't open it"):
        open_slide(mirax)


def test_a_damaged_tile_is_missing_and_the_rest_is_there(mirax, image):
    """In OpenSlide an error sticks to its handle: the next tile must still come."""
    data = mirax.with_suffix("") / "Data0000.dat"
    pixels = bytearray(data.read_bytes())
    second = pixels.index(b"\xff\xd8\xff", 100)
    pixels[second : second + 400] = b"\x55" * 400
    data.write_bytes(pixels)
    with open_slide(mirax) as slide:
        whole = slide.read(0, 0, 0, 384, 512)
        assert (whole[:SIDE, SIDE : 2 * SIDE] == MISSING_RGB).all()
        assert differences(whole[SIDE:256], image[SIDE:256])[1] < 1
        assert [(d.level, d.row, d.col) for d in slide.damage] == [(0, 0, 1)]


def test_threads_read_what_one_reads_while_tiles_fail(mirax):
    data = mirax.with_suffix("") / "Data0000.dat"
    pixels = bytearray(data.read_bytes())
    pixels[:400] = b"\x55" * 400
    data.write_bytes(pixels)
    source = OpenSlideSource(mirax)
    places = [(row, col) for row in range(3) for col in range(4)]
    expected = {place: result(source, *place) for place in places}
    assert expected[(0, 0)] is None
    assert sum(tile is None for tile in expected.values()) == 1
    wrong = []

    def work(seed):
        for k in np.random.default_rng(seed).permutation(len(places)):
            got, right = result(source, *places[k]), expected[places[k]]
            if (got is None) != (right is None) or (right is not None and not np.array_equal(got, right)):
                wrong.append(places[k])

    threads = [threading.Thread(target=work, args=(seed,)) for seed in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert wrong == []
    source.close()
    with pytest.raises(SlideError, match="is closed"):
        next(source.tiles(0, 0, 0))


def result(source, row, col):
    try:
        return next(source.tiles(0, row, col))[1]
    except SlideError:
        return None


def test_a_mirax_slide_is_known_by_content(mirax, image, tmp_path):
    first = fingerprint(mirax)
    moved = tmp_path / "other"
    moved.mkdir()
    mirax.with_suffix("").rename(moved / "renamed")
    mirax.rename(moved / "renamed.mrxs")
    assert fingerprint(moved / "renamed.mrxs") == first
    data = moved / "renamed" / "Data0000.dat"
    data.write_bytes(data.read_bytes()[:-1] + b"x")
    assert fingerprint(moved / "renamed.mrxs") != first


def test_a_replaced_data_file_is_noticed(mirax):
    source = OpenSlideSource(mirax)
    assert source.is_unchanged()
    (mirax.with_suffix("") / "Data0000.dat").unlink()
    assert not source.is_unchanged()
    source.close()


def test_an_old_library_is_refused(mirax, monkeypatch):
    monkeypatch.setattr(openslide, "__library_version__", "4.0.0")
    with pytest.raises(
        SlideError, match=r"OpenSlide 4\.0\.0 has memory-safety faults.*openslide-bin>=4\.0\.1"
    ):
        open_slide(mirax)
    assert not can_open(mirax)


def test_without_openslide_the_sentence_says_what_to_install(mirax, monkeypatch, tmp_path):
    # the import system itself then says that there is no such module
    monkeypatch.setitem(sys.modules, "openslide", None)
    assert not can_open(mirax)
    for path, backend in ((mirax, "auto"), (mirax, "openslide")):
        with pytest.raises(SlideError, match=r'pip install "napari-batchfx\[openslide\]"') as caught:
            open_slide(path, backend=backend)
        assert str(caught.value).startswith(path.name)


def test_what_our_reader_declines_goes_to_openslide_where_that_can(real_data, tmp_path, image):
    from napari_batchfx.slides._declined import NotReadHere

    declined = NotReadHere("a.svs: it isn't read here.")
    source = _fallback(real_data("slides/CMU-1-Small-Region.svs"), "auto", declined)
    assert isinstance(source, OpenSlideSource)
    source.close()
    Image.fromarray(image).save(tmp_path / "a.png")
    for path, backend in (
        (tmp_path / "a.png", "auto"),
        (real_data("slides/CMU-1-Small-Region.svs"), "tifffile"),
    ):
        with pytest.raises(NotReadHere):
            _fallback(path, backend, declined)


def test_openslide_declines_what_it_does_not_know(tmp_path, image):
    Image.fromarray(image).save(tmp_path / "a.png")
    with pytest.raises(SlideError, match=r"a\.png: OpenSlide doesn't know this kind of file"):
        open_slide(tmp_path / "a.png", backend="openslide")


def test_a_level_that_is_smaller_by_no_whole_number_is_off_by_less_than_a_pixel(real_data):
    """OpenSlide takes places in level-0 pixels: tiles of such levels are interpolated; ours read them as stored."""
    folder = real_data("slides/cmu-1-dicom-pyramid")
    with openslide.OpenSlide(folder / "level-0-frames-0-30.dcm") as plain:
        whole = np.asarray(plain.read_region((0, 0), 1, plain.level_dimensions[1]))[..., :3]
        source = OpenSlideSource(folder / "level-0-frames-0-30.dcm")
        tile = next(source.tiles(1, 1, 1))[1]
        there = whole[500:1000, 500:1000]
        assert 0 < differences(tile, there)[1] < 2
        # a shift of a whole pixel would be more
        assert differences(tile, there)[1] < differences(tile[:-1], there[1:])[1] / 2
        source.close()


def test_written_pyramids_are_read_alike(tmp_path, image):
    path = write_pyramid(
        tmp_path / "a.tif", np.tile(image, (2, 2, 1)), 0.5, tile=128, levels=2, compression="jpeg"
    )
    with open_slide(path) as ours, open_slide(path, backend="openslide") as theirs:
        assert [level.shape for level in ours.levels] == [level.shape for level in theirs.levels]
        for level, info in enumerate(ours.levels):
            worst, mean = differences(
                ours.read(level, 0, 0, *info.shape), theirs.read(level, 0, 0, *info.shape)
            )
            assert worst <= 2
            assert mean <= 0.5


def test_a_file_that_crashes_the_library_does_not_crash_us(tmp_path, image):
    """OpenSlide 4.0.1 ends the process on sparse frames without positions (found by mutating files)."""
    tags = [(0x00209311, "CS", "TILED_SPARSE")]
    path = write_dicom(tmp_path / "a.dcm", image[:128, :128], tags=tags)
    with pytest.raises(SlideError, match=r"a\.dcm: OpenSlide (crashes on it|can't open it)"):
        open_slide(path, backend="openslide")
    with pytest.raises(SlideError, match="doesn't say where its frames lie"):
        open_slide(path)


def test_mutated_mirax_slides_never_crash(mirax):
    rng = np.random.default_rng(4)
    opened = 0
    files = sorted(mirax.with_suffix("").iterdir())
    for k in range(12):
        path = files[k % len(files)]
        whole = path.read_bytes()
        data = bytearray(whole)
        for at in rng.integers(0, len(data), 4):
            data[at] = rng.integers(0, 256)
        path.write_bytes(data)
        with contextlib.suppress(SlideError), open_slide(mirax) as slide:
            slide.read(0, 0, 0, 384, 512)
            opened += 1
        path.write_bytes(whole)
    assert opened > 2
