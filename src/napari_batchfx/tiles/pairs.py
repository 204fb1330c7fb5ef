"""The same tissue on two aligned slides: which tiles belong together, and the same piece cut from both."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from napari_batchfx.errors import TileError
from napari_batchfx.slides import Slide
from napari_batchfx.tiles.grid import TileGrid
from napari_batchfx.tiles.read import default_workers

__all__ = ["TileMatches", "match_tiles", "read_matched"]

Rgb = NDArray[np.uint8]
Matrix = NDArray[np.float64]

# Least sampling step in level pixels, and half the width of the filter in steps.
HALO = 3


@dataclass(frozen=True)
class TileMatches:
    """Tiles of two grids that show the same tissue.

    Parameters
    ----------
    cells_a, cells_b : int (n, 2)
        Rows and columns; each cell at most once, in the order of ``cells_a``.
    distance_um : float64 (n,)
        Between the centres, on a.
    """

    cells_a: NDArray[np.int64]
    cells_b: NDArray[np.int64]
    distance_um: NDArray[np.float64]

    def __len__(self) -> int:
        return len(self.cells_a)


def match_tiles(
    grid_a: TileGrid, grid_b: TileGrid, b_to_a_um: ArrayLike, max_distance: float = 0.5
) -> TileMatches:
    """Pair tiles whose centres are each other's nearest, and near.

    Parameters
    ----------
    grid_a, grid_b : TileGrid
        Tiles of about the same physical size.
    b_to_a_um : array (3, 3)
        On (y, x, 1): b's micrometres to a's (``Alignment.affine_um``).
    max_distance : float
        Largest distance of the centres in tiles of a. 0.5 leaves at least half of the tile in common where
        the slides aren't turned against each other, and every tile is used once.

    Returns
    -------
    TileMatches

    Raises
    ------
    TileError
        If the matrix can't be used, or the tiles differ in size by more than a quarter.

    Examples
    --------
    >>> from napari_batchfx.slides import open_slide, write_pyramid
    >>> _ = write_pyramid("a.tif", np.full((400, 400, 3), 200, np.uint8), mpp=0.5, compression="deflate")
    >>> with open_slide("a.tif") as slide:
    ...     grid = TileGrid(slide, size_px=100, mpp=0.5)
    ...     found = match_tiles(grid, grid, [[1, 0, 50.0], [0, 1, 10.0], [0, 0, 1]])
    >>> len(found), found.cells_a[0].tolist(), found.cells_b[0].tolist(), float(found.distance_um[0])
    (12, [1, 0], [0, 0], 10.0)
    """
    from scipy.spatial import cKDTree

    matrix = _checked(b_to_a_um)
    scale = float(np.sqrt(abs(np.linalg.det(matrix[:2, :2]))))
    if not 0.75 < grid_b.size_um * scale / grid_a.size_um < 1 / 0.75:
        raise TileError(
            f"Tiles of {grid_a.size_um:.0f} µm on {grid_a.slide.name} and {grid_b.size_um * scale:.0f} µm on "
            f"{grid_b.slide.name} don't show the same piece; use one tile size."
        )
    cells_a, cells_b = grid_a.all_cells(), grid_b.all_cells()
    centres_a = grid_a.center_um(cells_a)
    centres_b = grid_b.center_um(cells_b) @ matrix[:2, :2].T + matrix[:2, 2]
    far = max_distance * grid_a.size_um
    # ties (an offset of exactly half a tile) go to the first cell on both sides
    nearest_b = cKDTree(centres_b).query(centres_a, distance_upper_bound=far * (1 + 1e-9))
    nearest_a = cKDTree(centres_a).query(centres_b)[1]
    index = nearest_b[1]
    near = np.flatnonzero(index < len(cells_b))
    mutual = near[nearest_a[index[near]] == near]
    return TileMatches(cells_a[mutual], cells_b[index[mutual]], np.asarray(nearest_b[0][mutual], float))


def read_matched(
    grid_a: TileGrid, cells: ArrayLike, slide_b: Slide, b_to_a_um: ArrayLike, *, workers: int | None = None
) -> Rgb:
    """The tissue of a's tiles cut from slide b, turned and scaled into a's frame.

    Every pixel of the tile is mapped to b in micrometres and interpolated once, with cubic splines, from b's
    coarsest stored level that is fine enough. A level finer than the tile is smoothed first, as far as the
    reduction asks (Gaussian of half the excess): nothing folds back.

    Parameters
    ----------
    grid_a : TileGrid
        Tiles on slide a: their size, place and pixel size.
    cells : int (n, 2)
        Rows and columns in that grid.
    slide_b : Slide
        With a known pixel size.
    b_to_a_um : array (3, 3)
        On (y, x, 1): b's micrometres to a's.
    workers : int, optional
        Threads; the cores but one unless given.

    Returns
    -------
    ndarray of uint8, (n, size_px, size_px, 3)
        RGB; beyond b's edge its nearest pixels are repeated.

    Raises
    ------
    TileError
        If a cell isn't in the grid or the matrix can't be used.
    SlideError
        If b has no pixel size or can't be read.

    Examples
    --------
    >>> from napari_batchfx.slides import open_slide, write_pyramid
    >>> pixels = np.full((400, 400, 3), 200, np.uint8)
    >>> pixels[:200, :200] = 100
    >>> _ = write_pyramid("a.tif", pixels, mpp=0.5, compression="deflate")
    >>> half_turn = [[-1, 0, 200.0], [0, -1, 200.0], [0, 0, 1]]
    >>> with open_slide("a.tif") as a:
    ...     tiles = read_matched(TileGrid(a, size_px=200, mpp=0.5), [(0, 0), (1, 1)], a, half_turn)
    >>> [int(tile.mean()) for tile in tiles]
    [200, 100]
    """
    back: Matrix = np.asarray(np.linalg.inv(_checked(b_to_a_um)), dtype=np.float64)
    array = grid_a.check(cells)
    slide_b.extent_um  # noqa: B018 - says so where there is no pixel size
    level = _level(slide_b, grid_a.mpp * float(np.sqrt(abs(np.linalg.det(back[:2, :2])))))
    out = np.empty((len(array), grid_a.size_px, grid_a.size_px, 3), np.uint8)

    def put(index: int) -> None:
        row, col = array[index].tolist()
        out[index] = _cut(grid_a, row, col, slide_b, level, back)

    with ThreadPoolExecutor(max(1, min(workers or default_workers(), len(array)))) as pool:
        for _ in pool.map(put, range(len(array))):
            pass
    return out


def _checked(matrix_um: ArrayLike) -> Matrix:
    try:
        matrix = np.asarray(matrix_um, dtype=np.float64)
    except (TypeError, ValueError) as error:
        raise TileError("An alignment is a 3 x 3 matrix of numbers.") from error
    if matrix.shape != (3, 3) or not np.isfinite(matrix).all() or abs(np.linalg.det(matrix[:2, :2])) < 1e-9:
        raise TileError("An alignment is an invertible 3 x 3 matrix of finite numbers.")
    return matrix


def _level(slide: Slide, mpp: float) -> int:
    """The coarsest stored level at least as fine as ``mpp`` (1 % tolerance)."""
    fits = [
        i for i, level in enumerate(slide.levels) if level.stored and max(slide.level_mpp(i)) <= mpp * 1.01
    ]
    return fits[-1] if fits else 0


def _cut(grid: TileGrid, row: int, col: int, slide: Slide, level: int, back: Matrix) -> Rgb:
    from scipy import ndimage

    my, mx = slide.level_mpp(level)
    size = grid.size_px
    # tile pixel (centres) -> a's um -> b's um -> level pixel (centres)
    start = np.array([row, col]) * grid.stride_um + grid.mpp / 2
    to_a = np.array([[grid.mpp, 0, start[0]], [0, grid.mpp, start[1]], [0, 0, 1]])
    to_level = np.array([[1 / my, 0, -0.5], [0, 1 / mx, -0.5], [0, 0, 1]]) @ back @ to_a
    corners = np.array([[0, 0, 1], [0, size - 1, 1], [size - 1, 0, 1], [size - 1, size - 1, 1]]) @ to_level.T
    # how many level pixels a tile pixel is wide, along each axis of the level
    steps = np.sqrt((to_level[:2, :2] ** 2).sum(axis=1))
    sigma = 0.5 * np.sqrt(np.maximum(steps**2 - 1, 0))
    halo = np.ceil(4 * sigma).astype(int) + 2 * HALO
    low = np.floor(corners[:, :2].min(axis=0)).astype(int) - halo
    high = np.ceil(corners[:, :2].max(axis=0)).astype(int) + halo + 1
    region = slide.read(level, int(low[0]), int(low[1]), *(int(n) for n in high - low)).astype(np.float32)
    offset = to_level[:2, 2] - low
    tile = np.empty((size, size, 3), np.float32)
    for channel in range(3):
        plane = region[..., channel]
        if sigma.max() > 0.05:
            plane = ndimage.gaussian_filter(plane, sigma)
        tile[..., channel] = ndimage.affine_transform(
            plane, to_level[:2, :2], offset, output_shape=(size, size), order=3, mode="nearest"
        )
    result: Rgb = np.clip(np.rint(tile), 0, 255).astype(np.uint8)
    return result
