import json

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from napari_batchfx.errors import StainError
from napari_batchfx.stain import HEDJitter, RandStainNA, StainJitter, estimate, rgb_to_lab, separate

from .stain_paint import paint

IMAGES = hnp.arrays(np.uint8, st.tuples(st.integers(1, 9), st.integers(1, 9), st.just(3)))


@pytest.fixture(scope="module")
def tiles():
    rng = np.random.default_rng(5)
    return np.stack([paint(rng.gamma(1.5 + 0.2 * i, 0.4, (48, 48, 2))) for i in range(6)])


def every(tiles, seed=0):
    return [HEDJitter(seed=seed), StainJitter(seed=seed), RandStainNA.fit(tiles, seed=seed)]


@pytest.mark.parametrize("which", [0, 1, 2])
def test_a_tiles_draw_follows_from_seed_and_pixels_alone(tiles, which):
    one, again, other = (every(tiles, seed)[which] for seed in (1, 1, 2))
    out = one(tiles)
    np.testing.assert_array_equal(out, again(tiles))
    np.testing.assert_array_equal(out[::-1], again(tiles[::-1]))
    np.testing.assert_array_equal(out[2], again(tiles[2]))
    assert (out != other(tiles)).any()
    assert (out != tiles).any()
    assert one.key == again.key != other.key


@settings(max_examples=40, deadline=None)
@given(IMAGES, st.integers(0, 2), st.integers(0, 5))
def test_any_image_is_taken(image, which, seed):
    known = np.random.default_rng(0).integers(0, 255, (3, 8, 8, 3), np.uint8)
    before = image.copy()
    out = every(known, seed)[which](image)
    assert out.shape == image.shape
    assert out.dtype == np.uint8
    np.testing.assert_array_equal(image, before)


def test_without_width_nothing_changes(tiles):
    for still in (HEDJitter(0.0, 0.0), StainJitter(None, 0.0, 0.0)):
        assert np.abs(still(tiles).astype(int) - tiles).max() <= 1
    np.testing.assert_array_equal(RandStainNA.fit(tiles, spread=-1.0, seed=1)(tiles),
                                  RandStainNA.fit(tiles, spread=-1.0, seed=9)(tiles))  # fmt: skip


def test_stain_jitter_scales_the_two_stains_and_spares_glass(tiles):
    source = estimate(tiles)
    tile = tiles[0].copy()
    tile[:8] = 244
    jitter = StainJitter(source, 0.4, 0.0, seed=3)
    out = jitter(tile)
    np.testing.assert_array_equal(out[:8], tile[:8])
    before, after = separate(tile, source), separate(out, source)
    strong = (before > 0.6).all(axis=-1) & (out.min(axis=-1) > 8)  # not where 8 bits end
    ratio = after[strong] / before[strong]
    assert ratio.std(axis=0).max() < 0.05, "one factor a stain and tile"
    assert np.all(np.abs(np.median(ratio, axis=0) - 1) <= 0.41)


def test_randstainna_brings_a_tile_to_the_drawn_statistics(tiles):
    still = RandStainNA.fit(tiles, spread=-1.0)  # no variation: the mean template
    lab = rgb_to_lab(still(tiles[0])).reshape(-1, 3)
    np.testing.assert_allclose(lab.mean(axis=0), still.average[0], atol=2.5)
    again = RandStainNA.from_dict(json.loads(json.dumps(still.to_dict())))
    assert again.key == still.key


def test_features_of_augmented_tiles_are_kept_under_their_own_key(tmp_path):
    from napari_batchfx.encoders import load
    from napari_batchfx.features import FeatureStore, embed
    from napari_batchfx.slides import open_slide, write_pyramid
    from napari_batchfx.tiles import TileGrid

    pixels = paint(np.random.default_rng(0).gamma(1.5, 0.4, (256, 256, 2)))
    path = write_pyramid(tmp_path / "a.tif", pixels, 0.5, compression="deflate")
    store, encoder, cells = FeatureStore(tmp_path / "f.zarr"), load("colour-statistics"), [[0, 0], [1, 1]]
    with open_slide(path) as slide:
        grid = TileGrid(slide, 64, 0.5)
        tables = [
            embed(grid, encoder, cells=cells, normalizer=one, store=store)
            for one in (None, HEDJitter(seed=1), HEDJitter(seed=2), HEDJitter(seed=1))
        ]
    plain, first, second, again = (np.asarray(table.X) for table in tables)
    np.testing.assert_array_equal(first, again)
    assert (first != plain).any()
    assert (first != second).any()
    assert len(list(store.keys())) == 3


def test_impossible_numbers_are_refused(tiles):
    for wrong in (
        lambda: HEDJitter(sigma=2.0),
        lambda: StainJitter(bias=-1.0),
        lambda: RandStainNA.fit(tiles[:1]),
        lambda: RandStainNA(np.zeros((2, 2)), np.zeros((2, 3))),
        lambda: RandStainNA.from_dict({}),
        lambda: RandStainNA.fit(tiles, spread=-2.0),
    ):
        with pytest.raises(StainError):
            wrong()
