"""Colours and pixel size that are changed while a slide is looked at: nothing of the old is kept as new."""

from __future__ import annotations

import numpy as np
import pytest
from tests.slides.profiles import matrix_profile

from napari_batchfx.errors import TileError
from napari_batchfx.slides import Slide, open_slide, write_pyramid
from napari_batchfx.tiles import TileGrid, artefact_mask, iter_tiles, read_tile, read_tiles, tissue_mask
from napari_batchfx.tiles.overview import slide_overview


@pytest.fixture
def path(tmp_path):
    rng = np.random.default_rng(3)
    image = np.full((900, 1100, 3), 240, np.uint8)
    image[200:700, 200:800] = np.clip(rng.normal((170, 80, 140), 20, (500, 600, 3)), 0, 255)
    return write_pyramid(tmp_path / "a.tif", image, 1.0, compression="deflate", icc_profile=matrix_profile())


class _Between:
    """Changes a slide once, after its next region was read: as a window does from another thread."""

    def __init__(self, monkeypatch, *changes):
        self.changes = list(changes)
        read = Slide._read

        def then_change(slide, *place, **how):
            region = read(slide, *place, **how)
            while self.changes:
                self.changes.pop(0)(slide)
            return region

        monkeypatch.setattr(Slide, "_read", then_change)


def to_srgb(slide):
    slide.with_icc("auto")


def as_stored(slide):
    slide.with_icc("off")


def larger(slide):
    slide.with_mpp(2.0)


@pytest.mark.parametrize("changes", [[to_srgb], [to_srgb, as_stored], [larger], [larger, to_srgb]])
def test_what_is_found_is_of_the_slide_as_it_is_afterwards(path, monkeypatch, changes):
    with open_slide(path) as slide, open_slide(path) as fresh:
        for change in changes:
            change(fresh)
        expected = slide_overview(fresh), tissue_mask(fresh), artefact_mask(fresh)
        _Between(monkeypatch, *changes)
        assert np.array_equal(slide_overview(slide).image, expected[0].image)
        assert slide_overview(slide).mpp == expected[0].mpp
        assert np.array_equal(tissue_mask(slide).mask, expected[1].mask)
    for find, of in ((tissue_mask, 1), (artefact_mask, 2)):
        with open_slide(path) as slide:
            _Between(monkeypatch, *changes)
            found, again = find(slide), find(slide)
            assert found.mpp == again.mpp == expected[of].mpp
            array = "mask" if of == 1 else "flags"
            for one in (found, again):
                assert np.array_equal(getattr(one, array), getattr(expected[of], array))


def test_the_old_state_keeps_its_own(path, monkeypatch):
    with open_slide(path) as slide:
        before = slide_overview(slide).image
        to_srgb(slide)
        after = slide_overview(slide).image
        as_stored(slide)
        assert (before != after).any()
        assert slide_overview(slide).image is before


@pytest.mark.parametrize("changes", [[to_srgb], [to_srgb, as_stored], [larger]])
@pytest.mark.parametrize("workers", [1, 3])
def test_tiles_read_across_a_change_are_thrown_away(path, monkeypatch, changes, workers):
    cells = [(0, 0), (1, 1), (2, 2), (3, 3)]
    ways = [
        lambda grid: read_tiles(grid, cells, workers=workers),
        lambda grid: list(iter_tiles(grid, cells, batch_size=2, workers=workers)),
        lambda grid: read_tile(grid, 1, 1),
    ]
    for way in ways:
        with open_slide(path) as slide:
            grid = TileGrid(slide, 90, 1.1)
            _Between(monkeypatch, *changes)
            with pytest.raises(TileError, match=r"^a: its .* changed meanwhile.*encode again"):
                way(grid)


def test_a_grid_keeps_its_key_and_refuses_another_state(path):
    with open_slide(path) as slide:
        grid = TileGrid(slide, 100, 1.0)
        key, tile = grid.key, read_tile(grid, 3, 3)
        to_srgb(slide)
        assert grid.key == key
        assert not grid.is_current
        assert TileGrid(slide, 100, 1.0).key != key
        for use in (lambda: read_tile(grid, 3, 3), lambda: grid.tissue, lambda: grid.cells()):
            with pytest.raises(TileError, match="its colours were changed"):
                use()
        as_stored(slide)
        assert grid.is_current
        assert np.array_equal(read_tile(grid, 3, 3), tile)
        larger(slide)
        with pytest.raises(TileError, match="its pixel size was changed"):
            read_tiles(grid, [(0, 0)])
        assert TileGrid(slide, 100, 1.0).key == f"{key}-slide2x2"
