"""Colours: equal to LittleCMS, equal to the arithmetic of the profile, from many threads, never mixed up."""

from __future__ import annotations

import gc
import io
import weakref
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
from PIL import Image, ImageCms

from napari_batchfx.errors import SlideError
from napari_batchfx.slides import open_slide, tile_cache, write_pyramid
from napari_batchfx.slides.colour import profile_name, to_srgb
from napari_batchfx.slides.halving import box_half
from napari_batchfx.tiles import TileGrid

from .profiles import GAMMA, PRIMARIES, grey_profile, matrix_profile, table_profile


@pytest.fixture(scope="module")
def image():
    return np.random.default_rng(0).integers(0, 256, (300, 420, 3), dtype=np.uint8)


def little_cms(image, profile):
    transform = ImageCms.buildTransform(
        ImageCms.ImageCmsProfile(io.BytesIO(profile)), ImageCms.createProfile("sRGB"), "RGB", "RGB", 1, 0x0040
    )
    return np.asarray(ImageCms.applyTransform(Image.fromarray(image), transform))


@pytest.mark.parametrize("profile", [matrix_profile(), matrix_profile(gamma=1.0), table_profile()])
def test_equal_to_little_cms(image, profile):
    made = to_srgb(profile)(image)
    assert np.array_equal(made, little_cms(image, profile))
    # and the profile does something
    assert np.abs(made.astype(int) - image).max() > 20


def test_equal_to_the_arithmetic_of_a_matrix_profile(image):
    """By hand: curve, primaries, sRGB's own matrix (D50, IEC 61966-2-1 with Bradford) and curve; 1 grey level."""
    srgb = np.array(
        [
            [0.4360747, 0.2225045, 0.0139322],
            [0.3850649, 0.7168786, 0.0971045],
            [0.1430804, 0.0606169, 0.7141733],
        ]
    )
    light = np.clip((image / 255.0) ** GAMMA @ PRIMARIES @ np.linalg.inv(srgb), 0, 1)
    wanted = 255 * np.where(light <= 0.0031308, 12.92 * light, 1.055 * light ** (1 / 2.4) - 0.055)
    assert np.abs(to_srgb(matrix_profile())(image) - wanted).max() <= 1


def test_white_stays_white_and_a_tables_black_stays_where_it_is():
    ends = np.array([[[255, 255, 255], [0, 0, 0]]], np.uint8)
    assert to_srgb(matrix_profile())(ends).tolist() == [[[255, 255, 255], [0, 0, 0]]]
    white, black = to_srgb(table_profile())(ends)[0]
    assert white.min() >= 254
    # L* 8 in the table: black point compensation would make it 0
    assert 20 <= black.mean() <= 30


def test_many_threads_one_transform(image):
    profile = matrix_profile("for threads")
    wanted = little_cms(image, profile)
    transform = to_srgb(profile)
    with ThreadPoolExecutor(8) as pool:
        assert all(np.array_equal(made, wanted) for made in pool.map(transform, [image] * 40))


def test_slides_of_one_scanner_share_a_transform_and_the_last_lets_go():
    one, two = to_srgb(matrix_profile("shared")), to_srgb(matrix_profile("shared"))
    assert one is two
    assert to_srgb(matrix_profile("another")).key != one.key
    gone = weakref.ref(one)
    del one, two
    gc.collect()
    assert gone() is None


def test_names():
    assert profile_name(matrix_profile("Aperio  ScanScope\0")) == "Aperio ScanScope"
    assert profile_name(b"no profile") == "damaged profile"


@pytest.fixture(scope="module")
def path(image, tmp_path_factory):
    file = tmp_path_factory.mktemp("colour") / "a.tif"
    return write_pyramid(
        file, image, 0.5, tile=112, levels=(1, 4), compression="deflate", icc_profile=matrix_profile()
    )


def test_pixels_as_stored_unless_asked(path, image):
    with open_slide(path) as slide:
        assert (slide.icc, slide.colour_key, slide.icc_name) == ("off", "", "Test scanner, wide gamut")
        assert np.array_equal(slide.read(0, 0, 0, 300, 420), image)


def test_colours_change_and_never_mix(path, image):
    wanted = little_cms(image, matrix_profile())
    with open_slide(path) as slide:
        levels = slide.pyramid()
        made_level = slide.read(1, 0, 0, 150, 210)
        token = slide._token
        slide.with_icc("auto")
        assert not any(key[0] == token for key in tile_cache()._tiles)
        assert np.array_equal(slide.read(0, 0, 0, 300, 420), wanted)
        # a made level is made of converted tiles, and a pyramid made before shows them
        assert np.array_equal(slide.read(1, 0, 0, 150, 210), box_half(wanted))
        assert np.array_equal(levels[0].compute(), wanted)
        assert np.array_equal(levels[1].compute(), box_half(wanted))
        slide.with_icc("off")
        assert np.array_equal(slide.read(0, 0, 0, 300, 420), image)
        assert np.array_equal(slide.read(1, 0, 0, 150, 210), made_level)


def test_the_same_colours_keep_their_tiles(path):
    with open_slide(path) as slide:
        slide.with_icc("auto")
        slide.read(0, 0, 0, 50, 50)
        token = slide._token
        slide.with_icc("on")
        assert slide._token == token
        assert slide.icc == "on"


def test_features_of_other_colours_have_another_key(path):
    with open_slide(path) as slide:
        grid = TileGrid(slide, 100, 0.5)
        stored = grid.key
        slide.with_icc("on")
        assert grid.key == stored
        assert TileGrid(slide, 100, 0.5).key == f"{stored}-{slide.colour_key}"
        assert slide.colour_key.startswith("srgb-")


@pytest.mark.parametrize("profile", [grey_profile(), b"no profile at all", matrix_profile()[:200]])
def test_unusable_profile(image, profile, tmp_path):
    path = write_pyramid(tmp_path / "a.tif", image, 0.5, compression="deflate", icc_profile=profile)
    with open_slide(path) as slide:
        assert slide.info()["icc_note"] == ""
        slide.with_icc("auto")
        assert slide.colour_key == ""
        assert np.array_equal(slide.read(0, 0, 0, 300, 420), image)
        assert slide.info()["icc_note"].endswith("; pixels as stored")
        with pytest.raises(SlideError, match=r"^a\.tif: the colour profile is .*use them as stored"):
            slide.with_icc("on")
        assert slide.icc == "auto"


def test_no_profile(image, tmp_path):
    path = write_pyramid(tmp_path / "a.tif", image, 0.5, compression="deflate")
    with open_slide(path, icc="auto") as slide:
        assert (slide.icc, slide.icc_name, slide.colour_key, slide.icc_note) == ("auto", None, "", "")
        assert np.array_equal(slide.read(0, 0, 0, 300, 420), image)
        with pytest.raises(SlideError, match="it has no colour profile"):
            slide.with_icc("on")
        with pytest.raises(SlideError, match="there is no 'maybe'"):
            slide.with_icc("maybe")
    with pytest.raises(SlideError, match="it has no colour profile"):
        open_slide(path, icc="on")


def test_an_image_held_in_memory(image, tmp_path):
    Image.fromarray(image).save(tmp_path / "a.png", icc_profile=table_profile())
    with open_slide(tmp_path / "a.png", icc="on") as slide:
        assert np.array_equal(slide.read(0, 0, 0, 300, 420), little_cms(image, table_profile()))
