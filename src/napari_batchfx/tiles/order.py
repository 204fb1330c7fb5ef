"""In which order tiles are worth encoding: a view coarse to fine, a whole slide block by block."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray

from napari_batchfx.tiles.grid import Cells, TileGrid

__all__ = ["BUDGET", "block_order", "view_order"]

#: Tiles of the first, coarse pass over a view: about a second of a small encoder on two cores.
BUDGET = 256


def view_order(
    grid: TileGrid,
    cells: ArrayLike,
    centre_um: tuple[float, float] | None = None,
    budget: int | None = None,
    *,
    min_tissue: float = 0.25,
) -> Cells:
    r"""Order the cells of a view so that all of it gets colour early.

    Cells with tissue come first, the others after all of them. With no more cells than ``budget`` each of the
    two runs from the centre outwards. With more, the cells are cut into squares of :math:`s \times s` cells,
    :math:`s` the smallest power of two that leaves at most ``budget`` squares; the cell nearest to each
    square's middle comes first, then those of the squares of :math:`s/2` that have none yet, and so on; each
    pass runs from the centre outwards. After the pass of :math:`s` no cell is further than :math:`s - 1` rows
    and columns from an encoded one, however ragged the tissue. Squares are counted from the slide's corner: a
    view that moves a little asks for the same cells again.

    Parameters
    ----------
    grid : TileGrid
        Where tiles lie, and where tissue is.
    cells : int, (n, 2)
        Rows and columns.
    centre_um : (float, float), optional
        Centre of the view (y, x) in micrometres; the middle of the cells unless given.
    budget : int, optional
        Most tiles of the first pass; 256 unless given.
    min_tissue : float
        Share of tissue from which a cell counts as tissue; 0 treats all alike and looks for no tissue.

    Returns
    -------
    ndarray of int, (n, 2)
        Every cell, each once.

    Raises
    ------
    TileError
        If a cell isn't in the grid.
    ValueError
        If ``budget`` is below 1.

    Examples
    --------
    >>> from napari_batchfx.slides import open_slide, write_pyramid
    >>> from napari_batchfx.tiles import TileGrid
    >>> _ = write_pyramid("a.tif", np.full((400, 400, 3), 200, np.uint8), mpp=0.5, compression="deflate")
    >>> with open_slide("a.tif") as slide:
    ...     grid = TileGrid(slide, size_px=100, mpp=0.5)
    ...     view_order(grid, grid.all_cells(), budget=4, min_tissue=0)[:4].tolist()
    [[2, 2], [0, 2], [2, 0], [0, 0]]
    """
    if budget is not None and budget < 1:
        raise ValueError("budget must be at least 1")
    array = _unique(grid.check(cells))
    if not len(array):
        return array
    centres = grid.center_um(array)
    middle = (centres.min(axis=0) + centres.max(axis=0)) / 2 if centre_um is None else np.asarray(centre_um)
    distance = np.hypot(*(centres - middle).T)
    is_tissue = (
        grid.tissue[array[:, 0], array[:, 1]] >= min_tissue if min_tissue > 0 else np.ones(len(array), bool)
    )
    parts = [
        part[_coarse_to_fine(array[part], distance[part], budget or BUDGET)]
        for part in (np.flatnonzero(is_tissue), np.flatnonzero(~is_tissue))
    ]
    result: Cells = array[np.concatenate(parts)]
    return result


def block_order(cells: ArrayLike, block: int = 16) -> Cells:
    """Order the cells of a whole slide block by block, to and fro.

    Neighbours share tiles of the file, which are decoded once while they are at hand, and rows of the store.
    Blocks of a row of blocks run to the right, those of the next to the left; inside a block row by row.

    Parameters
    ----------
    cells : int, (n, 2)
        Rows and columns.
    block : int
        Edge of a block in cells.

    Returns
    -------
    ndarray of int, (n, 2)
        Every cell, each once.

    Raises
    ------
    ValueError
        If ``block`` is below 1 or ``cells`` aren't pairs.

    Examples
    --------
    >>> block_order([(0, 0), (0, 1), (0, 2), (1, 0), (1, 1), (2, 0)], block=2).tolist()
    [[0, 0], [0, 1], [1, 0], [1, 1], [0, 2], [2, 0]]
    """
    if block < 1:
        raise ValueError("block must be at least 1")
    array = np.asarray(cells, dtype=np.int64)
    if array.size == 0:
        return np.empty((0, 2), np.int64)
    if array.ndim != 2 or array.shape[1] != 2:
        raise ValueError(f"cells are pairs (n, 2), got {array.shape}")
    array = _unique(array)
    row, col = (array // block).T
    turned = np.where(row % 2 == 0, col, -col)
    result: Cells = array[np.lexsort((array[:, 1], array[:, 0], turned, row))]
    return result


def _unique(array: Cells) -> Cells:
    result: Cells = np.unique(array, axis=0)
    return result


def _coarse_to_fine(cells: Cells, distance: NDArray[np.float64], budget: int) -> NDArray[np.intp]:
    """Places of the cells in the order of their turn; ties go by row and column, as the cells are sorted."""
    step = 1
    while len(_first_of_each(cells, step, np.arange(len(cells)))) > budget:
        step *= 2
    left = np.arange(len(cells))
    turns: list[NDArray[np.intp]] = []
    taken = np.empty(0, np.int64)
    while len(left):
        chosen = _first_of_each(cells, step, left, taken)
        turns.append(chosen[np.argsort(distance[chosen], kind="stable")])
        left = np.setdiff1d(left, chosen, assume_unique=True)
        done = np.concatenate(turns)
        step //= 2
        taken = _square(cells[done], step) if step else taken
    return np.concatenate(turns) if turns else left


def _square(cells: Cells, step: int) -> NDArray[np.int64]:
    """Number of the square of ``step`` cells that each cell lies in."""
    row, col = (cells // step).T
    result: NDArray[np.int64] = row * (1 << 32) + col
    return result


def _first_of_each(
    cells: Cells, step: int, among: NDArray[np.intp], taken: NDArray[np.int64] | None = None
) -> NDArray[np.intp]:
    """Of every square that isn't taken, the place of the cell nearest to its middle."""
    squares = _square(cells[among], step)
    if taken is not None and len(taken):
        free = ~np.isin(squares, taken)
        among, squares = among[free], squares[free]
    off = cells[among] % step - (step - 1) / 2
    order = np.lexsort((among, (off**2).sum(axis=1), squares))
    _, first = np.unique(squares[order], return_index=True)
    return among[order[first]]
