"""Damaged tiles: flat grey, counted once, known to the levels made from them; the rest of the slide works."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
import tifffile

from napari_batchfx.slides import (
    MISSING_RGB,
    Damage,
    open_slide,
    set_cache_bytes,
    tile_cache,
    write_pyramid,
)
from napari_batchfx.slides.damage import DamageLog

from .array_source import array_slide
from .profiles import matrix_profile


@pytest.fixture
def image():
    return np.random.default_rng(0).integers(0, 180, (1500, 1100, 3), dtype=np.uint8)


def test_one_bad_tile_is_grey_and_the_rest_works(tmp_path, image):
    slide, _ = array_slide(tmp_path, [image], damaged=[(0, 2, 1)])
    assert slide.damage == ()
    assert not slide.damaged_in(0, 512, 256, 10, 10)
    wanted = image.copy()
    wanted[512:768, 256:512] = MISSING_RGB
    assert np.array_equal(slide.read(0, 0, 0, 1500, 1100), wanted)
    assert slide.damage == (Damage(0, 2, 1, "its data end too soon"),)
    assert slide.info()["n_damaged"] == 1


def test_counted_once_however_often_it_is_read(tmp_path, image):
    slide, source = array_slide(tmp_path, [image], damaged=[(0, 2, 1), (0, 5, 4)])
    before = tile_cache().max_bytes
    try:
        set_cache_bytes(0)
        with ThreadPoolExecutor(4) as pool:
            list(pool.map(lambda _: slide.read(0, 0, 0, 1500, 1100), range(4)))
    finally:
        set_cache_bytes(before)
    assert source.decoded.count((0, 2, 1)) == 4
    assert {(d.level, d.row, d.col) for d in slide.damage} == {(0, 2, 1), (0, 5, 4)}
    assert len(slide.damage) == 2


def test_which_regions_are_damaged(tmp_path, image):
    slide, _ = array_slide(tmp_path, [image], damaged=[(0, 5, 4)])  # the last, cropped tile
    slide.read(0, 0, 0, 1500, 1100)
    assert [level.shape for level in slide.levels] == [(1500, 1100), (750, 550)]
    assert slide.damaged_in(0, 1280, 1024, 1, 1)
    assert slide.damaged_in(0, 1000, 1000, 281, 25)
    assert not slide.damaged_in(0, 1000, 1000, 280, 25)
    assert not slide.damaged_in(0, 0, 0, 1500, 0)
    # beyond the edge the last row and column are repeated
    assert slide.damaged_in(0, 1600, 1200, 5, 5)
    # made levels: the mark is where the pixels came from
    for level in (1, -1):
        assert slide.damaged_in(level, 640, 512, 5, 5)
        assert slide.damaged_in(level, 639, 511, 2, 2)
        assert not slide.damaged_in(level, 638, 511, 1, 5)


def test_made_levels_take_the_grey_over(tmp_path, image):
    slide, _ = array_slide(tmp_path, [image], damaged=[(0, 0, 0)])
    half = slide.read(1, 0, 0, 200, 200)
    assert (half[:128, :128] == MISSING_RGB).all()
    assert not (half[128:] == MISSING_RGB).all(axis=-1).any()
    assert slide.damaged_in(1, 0, 0, 10, 10)


def test_a_band_that_is_damaged(tmp_path, image):
    slide, _ = array_slide(tmp_path, [image], banded=True, damaged=[(0, 1)])
    found = slide.read(0, 0, 0, 1500, 1100)
    assert (found[256:512] == MISSING_RGB).all()
    assert np.array_equal(found[:256], image[:256])
    assert np.array_equal(found[512:], image[512:])
    assert [(d.row, d.col) for d in slide.damage] == [(1, c) for c in range(9)]


def test_a_source_may_save_a_part_of_a_band(tmp_path, image):
    slide, _ = array_slide(tmp_path, [image], banded=True, damaged=[(0, 1)], saved=True)
    assert np.array_equal(slide.read(0, 0, 0, 1500, 1100), image)
    assert {d.reason for d in slide.damage} == {"a strip is damaged"}
    assert slide.damaged_in(0, 300, 700, 1, 1)


def test_the_grey_is_the_same_in_converted_colours(tmp_path, image):
    slide, _ = array_slide(tmp_path, [image], damaged=[(0, 0, 0)], icc_profile=matrix_profile())
    slide.with_icc("on")
    assert (slide.read(0, 0, 0, 256, 256) == MISSING_RGB).all()
    assert len(slide.damage) == 1


def test_log():
    log = DamageLog()
    assert not log.touches(0, range(10**6), range(10**6))
    log.add(Damage(1, 5, 6, "x"))
    assert log.touches(1, range(10**6), range(10**6))
    assert log.touches(1, range(5, 6), range(6, 7))
    assert not log.touches(0, range(5, 6), range(6, 7))
    assert not log.touches(1, range(6, 9), range(6, 7))


def test_a_real_file_with_a_broken_jpeg_tile(tmp_path):
    """The bytes of one tile are zeros, as after a bad copy."""
    y, x = np.mgrid[:1100, :1300]
    image = np.stack([(y // 5) % 200, (x // 6) % 200, (x + y) // 13], axis=-1).astype(np.uint8)
    path = write_pyramid(tmp_path / "a.tif", image, 0.5, tile=256, levels=1)
    with open_slide(path) as slide:
        wanted = slide.read(0, 0, 0, 1100, 1300)
    with tifffile.TiffFile(path) as tif:
        page = tif.pages[0]
        offset, count = page.dataoffsets[2 * 6 + 3], page.databytecounts[2 * 6 + 3]
    with path.open("r+b") as file:
        file.seek(offset)
        file.write(bytes(count))
    with open_slide(path) as slide:
        found = slide.read(0, 0, 0, 1100, 1300)
        assert (found[512:768, 768:1024] == MISSING_RGB).all()
        found[512:768, 768:1024] = wanted[512:768, 768:1024]
        assert np.array_equal(found, wanted)
        assert [(d.level, d.row, d.col) for d in slide.damage] == [(0, 2, 3)]
        assert slide.damaged_in(0, 767, 1023, 1, 1)
        assert not slide.damaged_in(0, 768, 1024, 100, 100)
