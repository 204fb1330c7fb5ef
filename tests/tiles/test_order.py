"""Orders of tiles: each once, tissue first, coarse to fine, near what is shown already; blocks stay together."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from napari_batchfx.errors import TileError
from napari_batchfx.slides import open_slide, write_pyramid
from napari_batchfx.tiles import TileGrid, block_order, nearest_first, view_order


@pytest.fixture(scope="module")
def grid(tmp_path_factory):
    """40 x 60 tiles of 8 px; a disc and a thin strip of tissue on glass."""
    image = np.full((320, 480, 3), 242, np.uint8)
    y, x = np.mgrid[:320, :480]
    stained = ((y - 130) ** 2 + (x - 150) ** 2 < 90**2) | ((abs(y - 250) < 12) & (x > 200))
    noise = np.random.default_rng(0).integers(-20, 20, (320, 480, 1))
    image[stained] = np.clip([170, 80, 150] + noise[stained], 0, 255)
    path = tmp_path_factory.mktemp("order") / "a.tif"
    write_pyramid(path, image, mpp=2.0, compression="deflate")
    with open_slide(path) as slide:
        grid = TileGrid(slide, size_px=8, mpp=2.0)
        assert 0.1 < (grid.tissue >= 0.25).mean() < 0.6
        yield grid


def some_cells(grid, data):
    every = grid.all_cells()
    share = data.draw(st.floats(0.002, 1.0))
    rng = np.random.default_rng(data.draw(st.integers(0, 99)))
    return every[rng.random(len(every)) < share]


def as_set(cells):
    return set(map(tuple, cells.tolist()))


def reach(cells, encoded):
    """Rows or columns from the farthest cell to its nearest encoded one."""
    return np.abs(cells[:, None] - encoded[None]).max(-1).min(1).max()


@settings(max_examples=30, deadline=None)
@given(st.data())
def test_each_cell_once_and_the_same_whatever_order_they_come_in(grid, data):
    cells = some_cells(grid, data)
    budget = data.draw(st.integers(1, 400))
    order = view_order(grid, cells, budget=budget)
    assert as_set(order) == as_set(cells)
    assert len(order) == len(cells)
    mixed = np.random.default_rng(0).permutation(np.concatenate([cells, cells[:3]]))
    np.testing.assert_array_equal(view_order(grid, mixed, budget=budget), order)


@settings(max_examples=30, deadline=None)
@given(st.data())
def test_tissue_comes_first(grid, data):
    order = view_order(grid, some_cells(grid, data), budget=data.draw(st.integers(1, 400)))
    is_tissue = grid.tissue[order[:, 0], order[:, 1]] >= 0.25
    assert not (np.diff(is_tissue.astype(int)) > 0).any()


@settings(max_examples=30, deadline=None)
@given(st.data())
def test_colour_comes_early_everywhere(grid, data):
    """After at most ``budget`` tiles no cell is further than s - 1 from an encoded one; halving s each pass."""
    cells = some_cells(grid, data)
    budget = data.draw(st.integers(1, 200))
    order = view_order(grid, cells, budget=budget, min_tissue=0)
    if not len(order):
        return
    step = 1
    while len(np.unique(order // step, axis=0)) > budget:
        step *= 2
    done = 0
    while True:
        # a pass is as long as there are squares, whichever cell stands for one
        done = max(done, len(np.unique(order // step, axis=0)))
        assert reach(order, order[:done]) <= step - 1
        if step == 1:
            break
        step //= 2
    assert done == len(order)


def test_each_pass_stands_for_squares_of_its_size(grid):
    order = view_order(grid, grid.all_cells(), budget=40, min_tissue=0)
    # 40 x 60 cells in squares of 8: 5 x 8 of them
    first = order[:40]
    assert len(np.unique(first // 8, axis=0)) == 40
    second = order[: len(np.unique(order // 4, axis=0))]
    assert len(np.unique(second // 4, axis=0)) == len(second)


def test_within_the_budget_it_is_nearest_first(grid):
    cells = grid.cells(min_tissue=0.25)
    centre = tuple(grid.center_um(cells[100:101])[0])
    order = view_order(grid, cells, centre, budget=len(cells))
    distance = np.hypot(*(grid.center_um(order) - centre).T)
    assert (np.diff(distance) >= 0).all()
    np.testing.assert_array_equal(order, nearest_first(cells, centre, grid))


def test_passes_run_from_the_centre_outwards(grid):
    centre = (300.0, 200.0)
    order = view_order(grid, grid.all_cells(), centre, budget=40, min_tissue=0)
    distance = np.hypot(*(grid.center_um(order[:40]) - centre).T)
    assert (np.diff(distance) >= 0).all()


def test_a_view_that_moves_asks_for_the_same_cells(grid):
    """The first pass over two overlapping views shares every square that lies in both."""
    left = view_order(grid, grid.cells_in_box(0, 0, 640, 640), budget=25, min_tissue=0)[:25]
    right = view_order(grid, grid.cells_in_box(0, 128, 640, 768), budget=25, min_tissue=0)[:25]
    assert len(as_set(left) & as_set(right)) == 20


def test_nothing_and_wrong_cells(grid):
    assert view_order(grid, []).shape == (0, 2)
    assert block_order([]).shape == (0, 2)
    with pytest.raises(TileError, match="outside"):
        view_order(grid, [(0, 99)])
    with pytest.raises(ValueError, match="budget"):
        view_order(grid, [(0, 0)], budget=0)
    with pytest.raises(ValueError, match="block"):
        block_order([(0, 0)], block=0)
    with pytest.raises(ValueError, match="pairs"):
        block_order([1, 2, 3])


@settings(max_examples=40, deadline=None)
@given(st.lists(st.tuples(st.integers(0, 70), st.integers(0, 70)), max_size=300), st.integers(1, 20))
def test_blocks_stay_together(cells, block):
    order = block_order(cells, block)
    assert as_set(order) == set(cells)
    assert len(order) == len(set(cells))
    if not len(order):
        return
    blocks = order // block
    changes = 1 + int((np.diff(blocks, axis=0) != 0).any(1).sum())
    assert changes == len(np.unique(blocks, axis=0))  # no block is left and entered again
    for one in np.unique(blocks, axis=0):
        inside = order[(blocks == one).all(1)]
        np.testing.assert_array_equal(inside, inside[np.lexsort(inside.T[::-1])])


def test_neighbouring_blocks_follow_each_other():
    """To and fro: over a full grid every block touches the one before it."""
    blocks = block_order(np.indices((48, 64)).reshape(2, -1).T, 16)[::256] // 16
    assert (np.abs(np.diff(blocks, axis=0)).sum(1) == 1).all()
