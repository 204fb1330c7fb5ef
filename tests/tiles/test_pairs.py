"""Tiles of two aligned slides: who belongs to whom, and the same tissue cut from the other slide."""

from __future__ import annotations

import numpy as np
import pytest

from napari_batchfx.errors import TileError
from napari_batchfx.samples import SCANNERS, Phantom
from napari_batchfx.slides import open_slide, write_pyramid
from napari_batchfx.tiles import TileGrid, match_tiles, read_matched, read_tiles

SIZE = 240.0


def lay(turn, scale, mirror, shift):
    c, s = scale * np.cos(np.radians(turn)), scale * np.sin(np.radians(turn))
    matrix = np.eye(3)
    matrix[:2, :2] = np.array([[c, -s], [s, c]]) @ np.diag([1, -1 if mirror else 1])
    matrix[:2, 2] = SIZE / 2 - matrix[:2, :2] @ [SIZE / 2, SIZE / 2] + shift
    return matrix


def scan(path, mpp, affine=None):
    """No noise, no JPEG: what differs is the resampling."""
    model = SCANNERS["neutral"].with_(mpp=mpp, noise=0.0, blur_um=0.8)
    n, halo = round(SIZE / mpp), model.halo_px
    conc = Phantom(3, (SIZE, SIZE), "tumour").concentrations(
        -halo * mpp, -halo * mpp, n + 2 * halo, n + 2 * halo, mpp, affine=affine
    )
    return write_pyramid(
        path, model.render(conc, halo_px=halo), mpp, compression="deflate", flavour="generic"
    )


@pytest.fixture(scope="module")
def a(tmp_path_factory):
    with open_slide(scan(tmp_path_factory.mktemp("a") / "a.tif", 0.5)) as slide:
        yield slide


@pytest.mark.parametrize(
    ("mpp", "truth"),
    [
        (0.5, lay(180, 1.0, False, (0, 0))),
        (0.4, lay(33, 1.0, False, (7.3, -4.1))),
        (0.25, lay(-70, 1.0, True, (0.2, 3.3))),
        (0.4, lay(5, 1.08, False, (0, 0))),
    ],
    ids=["half a turn", "turned", "mirrored and finer", "scaled"],
)
def test_the_same_tissue_is_cut(a, tmp_path, mpp, truth):
    """The phantom is drawn at the other place exactly; a quarter of a pixel off would show."""
    grid = TileGrid(a, size_px=96, mpp=0.5)
    with open_slide(scan(tmp_path / "b.tif", mpp, truth)) as b:
        cut = read_matched(grid, [(2, 2), (1, 2)], b, truth).astype(float)
        off = truth.copy()
        off[0, 2] += 0.125
        moved = read_matched(grid, [(2, 2), (1, 2)], b, off).astype(float)
    own = read_tiles(grid, [(2, 2), (1, 2)]).astype(float)
    error = np.abs(cut - own).mean()
    assert error < 1.6
    assert error < 0.8 * np.abs(moved - own).mean()
    assert np.corrcoef(cut.ravel(), own.ravel())[0, 1] > 0.998


def test_a_finer_slide_does_not_fold_back(tmp_path):
    """Stripes of 2 px on b are grey on tiles of 4 times its pixel size."""
    pixels = np.full((800, 800, 3), 40, np.uint8)
    pixels[:, ::2] = 200
    path = write_pyramid(tmp_path / "s.tif", pixels, 0.25, compression="deflate", flavour="generic")
    blank = write_pyramid(tmp_path / "a.tif", pixels[:200, :200] * 0 + 200, 1.0, compression="deflate")
    turn = np.array([[0, -1.0, 200.0], [1.0, 0, 0], [0, 0, 1]])
    with open_slide(blank) as a, open_slide(path) as b:
        tile = read_matched(TileGrid(a, size_px=100, mpp=1.0), [(0, 1)], b, turn)[0].astype(float)
    assert tile.std() < 3
    assert tile.mean() == pytest.approx(120, abs=1)


def test_matches_are_mutual_and_near(a):
    grid = TileGrid(a, size_px=96, mpp=0.5)
    same = match_tiles(grid, grid, np.eye(3))
    assert len(same) == grid.n_cells
    assert np.array_equal(same.cells_a, same.cells_b)
    assert not same.distance_um.any()
    turned = match_tiles(grid, grid, lay(180, 1.0, False, (0, 0)))
    assert np.array_equal(turned.cells_a + turned.cells_b, np.broadcast_to(np.array(grid.shape) - 1, (25, 2)))
    for matrix in (lay(30, 1.0, False, (5, 9)), lay(-80, 1.03, True, (20, 0))):
        found = match_tiles(grid, grid, matrix, max_distance=0.4)
        there = grid.center_um(found.cells_b) @ matrix[:2, :2].T + matrix[:2, 2]
        distance = np.hypot(*(there - grid.center_um(found.cells_a)).T)
        assert np.allclose(distance, found.distance_um)
        assert distance.max() <= 0.4 * grid.size_um
        assert (
            len(np.unique(found.cells_a, axis=0)) == len(np.unique(found.cells_b, axis=0)) == len(found) > 8
        )
    assert len(match_tiles(grid, grid, lay(0, 1.0, False, (5000, 0)))) == 0


def test_what_can_not_be_paired_is_said(a):
    grid = TileGrid(a, size_px=96, mpp=0.5)
    with pytest.raises(TileError, match="one tile size"):
        match_tiles(grid, TileGrid(a, size_px=48, mpp=0.5), np.eye(3))
    for matrix in (np.zeros((3, 3)), np.eye(2), "no"):
        with pytest.raises(TileError, match="matrix"):
            match_tiles(grid, grid, matrix)
    with pytest.raises(TileError, match="outside"):
        read_matched(grid, [(99, 0)], a, np.eye(3))
    assert read_matched(grid, np.empty((0, 2), int), a, np.eye(3)).shape == (0, 96, 96, 3)
