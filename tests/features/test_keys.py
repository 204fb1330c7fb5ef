"""What a stored vector depends on is in its key: any change gives another entry, and back the old one."""

import functools

import numpy as np
import pytest
from tests.slides.profiles import matrix_profile

from napari_batchfx.encoders import ColourStatistics, load
from napari_batchfx.features import FeatureStore, embed
from napari_batchfx.slides import open_slide, write_pyramid
from napari_batchfx.stain import StainTransform, estimate
from napari_batchfx.tiles import TileGrid, read_tiles

TINY = "test_vit?pretrained=false"
PIXELS = np.random.default_rng(4).integers(90, 250, (420, 420, 3), dtype=np.uint8)


@pytest.fixture(scope="module")
def file(tmp_path_factory):
    path = tmp_path_factory.mktemp("keys") / "a.tif"
    return write_pyramid(path, PIXELS, 0.5, compression="deflate", icc_profile=matrix_profile())


@functools.cache
def model(encoder, seed, precision):
    return load(encoder, seed=seed, precision=precision) if encoder == TINY else load(encoder)


def laid(slide, *, size_px=160, mpp=0.5, stride_px=None, **_):
    return TileGrid(slide, size_px, mpp, stride_px)


def stored(
    folder, file, *, encoder=TINY, seed=0, precision="fp32", icc=None, slide_mpp=None, stain=None, **more
):
    """Encode one tile; what the store has then, and how many tiles were new."""
    store = FeatureStore(folder)
    before = sum(row["n"] for row in store.keys())  # noqa: SIM118 - no dict
    with open_slide(file, mpp=slide_mpp) as slide:
        if icc:
            slide.with_icc(icc)
        embed(
            laid(slide, **more),
            model(encoder, seed, precision),
            cells=[[0, 0]],
            normalizer=stain,
            store=store,
        )
    return sum(row["n"] for row in store.keys()) - before  # noqa: SIM118 - no dict


def transform(strength):
    source = estimate(np.asarray(PIXELS), "reinhard")
    return StainTransform(source, estimate(255 - PIXELS, "reinhard"), strength=strength)


CHANGES = {
    "another encoder": {"encoder": "colour-statistics"},
    "other weights": {"seed": 1},
    "another precision": {"precision": "bf16"},
    "other tiles": {"size_px": 200},
    "another pixel size of the tiles": {"mpp": 0.6},
    "another step": {"stride_px": 80},
    "a pixel size that was given": {"slide_mpp": 0.51},
    "a colour profile": {"icc": "on"},
    "a stain variant": {"stain": lambda: transform(1.0)},
    "another strength": {"stain": lambda: transform(0.5)},
}


@pytest.fixture(scope="module")
def folder(tmp_path_factory, file):
    folder = tmp_path_factory.mktemp("store") / "features.zarr"
    assert stored(folder, file) == 1
    return folder


@pytest.mark.parametrize("what", CHANGES)
def test_a_change_gives_another_entry(folder, file, what):
    change = {key: value() if callable(value) else value for key, value in CHANGES[what].items()}
    assert stored(folder, file, **change) == 1
    # back, and again: both are there
    assert stored(folder, file) == 0
    assert stored(folder, file, **change) == 0


def test_another_slide_gives_another_entry(folder, tmp_path):
    pixels = PIXELS.copy()
    pixels[3, 3] ^= 1
    other = write_pyramid(
        tmp_path / "a.tif", pixels, 0.5, compression="deflate", icc_profile=matrix_profile()
    )
    assert stored(folder, other) == 1


def test_a_file_under_another_name_is_the_same_slide(folder, file, tmp_path):
    copy = tmp_path / "renamed.tif"
    copy.write_bytes(file.read_bytes())
    assert stored(folder, copy) == 0


def test_tissue_settings_are_no_part_of_it(file, tmp_path):
    """They select tiles; the vector of a tile doesn't depend on them."""
    from napari_batchfx.tiles import TissueSettings

    store = FeatureStore(tmp_path / "features.zarr")
    with open_slide(file) as slide:
        plain = TileGrid(slide, 64, 0.5)
        other = TileGrid(slide, 64, 0.5, tissue_settings=TissueSettings(threshold=0.1))
        embed(plain, ColourStatistics(), cells=[[1, 1]], store=store)
        array = store.array(slide.fingerprint, ColourStatistics().key, other.key)
        np.testing.assert_array_equal(
            array.read([[1, 1]]), ColourStatistics().embed(read_tiles(plain, np.array([[1, 1]])))
        )
