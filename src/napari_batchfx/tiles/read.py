"""Read tiles: exact in physical size, resampled once, by a few threads, the next batch ahead of its turn."""

from __future__ import annotations

import math
import os
from collections import deque
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TypeAlias

import numpy as np
from numpy.typing import ArrayLike, NDArray

from napari_batchfx.tiles._moment import Moment
from napari_batchfx.tiles._resample import bicubic
from napari_batchfx.tiles.grid import Cells, TileGrid

__all__ = ["damaged_tiles", "default_workers", "iter_tiles", "read_tile", "read_tiles"]

Rgb = NDArray[np.uint8]
# Rounding of a position that is whole but for floating point, in pixels.
WHOLE = 1e-6
_Ahead: TypeAlias = tuple[Cells, Rgb, Moment, list[Future[None]]]
# Tiles a thread takes at a time: a native tile is decoded faster than a thread pool hands out work.
PIECE = 4


def default_workers() -> int:
    """Return how many threads read tiles unless told: the cores but one, left to the viewer; at least one."""
    return max(1, (os.cpu_count() or 2) - 1)


def read_tile(grid: TileGrid, row: int, col: int) -> Rgb:
    """Read one tile, uint8 (size_px, size_px, 3).

    The tile's rectangle in micrometres is taken from ``grid.level`` as fractions of pixels and resampled
    once, with Pillow's bicubic filter widened to the reduction (antialiased). The filter sees the true
    neighbours beyond the tile's edge, so tiles join without seams; beyond the slide's edge its last pixel is
    repeated. Where the tile's pixels are the level's pixels nothing is resampled.

    Examples
    --------
    >>> from napari_batchfx.slides import open_slide, write_pyramid
    >>> from napari_batchfx.tiles import TileGrid
    >>> _ = write_pyramid("a.tif", np.full((500, 700, 3), 200, np.uint8), mpp=0.25, compression="deflate")
    >>> with open_slide("a.tif") as slide:
    ...     tile = read_tile(TileGrid(slide, size_px=100, mpp=0.5), row=1, col=2)
    >>> tile.shape, int(tile.mean())
    ((100, 100, 3), 200)
    """
    before = grid.check_slide()
    tile = _read_tile(grid, row, col)
    grid.check_slide(before)
    return tile


def _read_tile(grid: TileGrid, row: int, col: int) -> Rgb:
    size = grid.size_px
    bounds, box = _footprint(grid, row, col)
    region = grid.slide.read(grid.level, *bounds)
    if box is None:
        return region
    return bicubic(region, size, box)


def _fill(out: Rgb, grid: TileGrid, row: int, col: int) -> None:
    bounds, box = _footprint(grid, row, col)
    tile = grid.slide.read_once(grid.level, *bounds, out) if box is None else _read_tile(grid, row, col)
    if tile is not out:
        out[:] = tile


def _footprint(
    grid: TileGrid, row: int, col: int
) -> tuple[tuple[int, int, int, int], tuple[float, float, float, float] | None]:
    """Return the pixels (y, x, h, w) of ``grid.level`` that make a tile, and the box in them to resample."""
    slide, size = grid.slide, grid.size_px
    dy, dx = slide.levels[grid.level].downsample
    my, mx = grid.slide_mpp[0] * dy, grid.slide_mpp[1] * dx
    y0, x0 = row * grid.stride_um / my, col * grid.stride_um / mx
    sy, sx = grid.mpp / my, grid.mpp / mx
    top, left = round(y0), round(x0)
    # the same pixel size to within a hundredth of a pixel over the tile, and on the pixels: nothing to
    # resample
    same = max(abs(sy - 1), abs(sx - 1)) * size < 0.01
    if same and abs(y0 - top) < WHOLE and abs(x0 - left) < WHOLE:
        return (top, left, size, size), None
    h, w = size * sy, size * sx
    margin_y, margin_x = (math.ceil(2 * max(s, 1.0)) + 1 for s in (sy, sx))
    top, left = math.floor(y0) - margin_y, math.floor(x0) - margin_x
    bottom, right = math.ceil(y0 + h) + margin_y, math.ceil(x0 + w) + margin_x
    box = (x0 - left, y0 - top, x0 - left + w, y0 - top + h)
    return (top, left, bottom - top, right - left), box


def damaged_tiles(grid: TileGrid, cells: ArrayLike) -> NDArray[np.bool_]:
    """Tell which tiles are made of pixels that were found damaged; known once they were read.

    A tile's filter reaches a few pixels beyond its edge, so a tile beside a damaged one may count, too.

    Parameters
    ----------
    grid : TileGrid
        Where tiles lie.
    cells : int, (n, 2)
        Rows and columns.

    Returns
    -------
    ndarray of bool, (n,)
        Such tiles show flat grey in part or all over; they are left out of features.

    Examples
    --------
    >>> from napari_batchfx.slides import open_slide, write_pyramid
    >>> from napari_batchfx.tiles import TileGrid
    >>> _ = write_pyramid("a.tif", np.full((500, 700, 3), 200, np.uint8), mpp=0.25, compression="deflate")
    >>> with open_slide("a.tif") as slide:
    ...     damaged_tiles(TileGrid(slide, size_px=100, mpp=0.5), [(0, 0), (1, 2)]).tolist()
    [False, False]
    """
    array = grid.check(cells)
    out = np.zeros(len(array), bool)
    if grid.slide.damage:
        for index, (row, col) in enumerate(array.tolist()):
            out[index] = grid.slide.damaged_in(grid.level, *_footprint(grid, row, col)[0])
    return out


def read_tiles(grid: TileGrid, cells: ArrayLike, *, workers: int | None = None) -> Rgb:
    """Read tiles in the order of ``cells``.

    Parameters
    ----------
    grid : TileGrid
        Where tiles lie.
    cells : int, (n, 2)
        Rows and columns.
    workers : int, optional
        Threads; the cores but one unless given.

    Returns
    -------
    ndarray of uint8, (n, size_px, size_px, 3)
        RGB.

    Raises
    ------
    TileError
        If a cell isn't in the grid, or the slide's colours or pixel size are not those that the grid was made
        for, or were changed while it was read.
    SlideError
        If the slide is closed or damaged.

    Examples
    --------
    >>> from napari_batchfx.slides import open_slide, write_pyramid
    >>> from napari_batchfx.tiles import TileGrid
    >>> _ = write_pyramid("a.tif", np.full((500, 700, 3), 200, np.uint8), mpp=0.25, compression="deflate")
    >>> with open_slide("a.tif") as slide:
    ...     read_tiles(TileGrid(slide, size_px=100, mpp=0.5), [(0, 0), (1, 2)]).shape
    (2, 100, 100, 3)
    """
    array = grid.check(cells)
    before = grid.check_slide()
    out = _read_all(grid, array, workers)
    grid.check_slide(before)
    return out


def _read_all(grid: TileGrid, array: Cells, workers: int | None) -> Rgb:
    out = np.empty((len(array), grid.size_px, grid.size_px, 3), np.uint8)
    n_threads = min(workers or default_workers(), len(array))
    if n_threads <= 1:
        for index, (row, col) in enumerate(array.tolist()):
            _fill(out[index], grid, row, col)
        return out

    def put(start: int) -> None:
        for index, (row, col) in enumerate(array[start : start + PIECE].tolist(), start):
            _fill(out[index], grid, row, col)

    with ThreadPoolExecutor(n_threads, thread_name_prefix="batchfx-tiles") as pool:
        futures = [pool.submit(put, start) for start in range(0, len(array), PIECE)]
        try:
            for future in futures:
                future.result()
        except BaseException:
            pool.shutdown(wait=True, cancel_futures=True)
            raise
    return out


def iter_tiles(
    grid: TileGrid, cells: ArrayLike, batch_size: int = 32, workers: int | None = None
) -> Iterator[tuple[Cells, Rgb]]:
    """Yield batches of tiles in the order of ``cells``; the next is read while the caller works on this one.

    Parameters
    ----------
    grid : TileGrid
        Where tiles lie.
    cells : int, (n, 2)
        Rows and columns, in the order wanted.
    batch_size : int
        Tiles a batch; the last one may be smaller.
    workers : int, optional
        Threads; the cores but one unless given.

    Yields
    ------
    cells : int, (k, 2)
    tiles : uint8, (k, size_px, size_px, 3)

    Raises
    ------
    TileError, SlideError
        As :func:`read_tiles`. Closing the iterator stops its threads.

    Examples
    --------
    >>> from napari_batchfx.slides import open_slide, write_pyramid
    >>> from napari_batchfx.tiles import TileGrid
    >>> _ = write_pyramid("a.tif", np.full((500, 700, 3), 200, np.uint8), mpp=0.25, compression="deflate")
    >>> with open_slide("a.tif") as slide:
    ...     grid = TileGrid(slide, size_px=100, mpp=0.5)
    ...     [len(tiles) for _, tiles in iter_tiles(grid, grid.cells(min_tissue=0), batch_size=4)]
    [4, 2]
    """
    array = grid.check(cells)
    if batch_size < 1:
        raise ValueError("batch_size must be at least 1")
    return _batches(grid, array, batch_size, workers or default_workers())


def _batches(grid: TileGrid, array: Cells, batch_size: int, workers: int) -> Iterator[tuple[Cells, Rgb]]:
    ahead: deque[_Ahead] = deque()
    pool = ThreadPoolExecutor(workers, thread_name_prefix="batchfx-tiles")

    def put(out: Rgb, part: Cells, start: int) -> None:
        for index, (row, col) in enumerate(part[start : start + PIECE].tolist(), start):
            _fill(out[index], grid, row, col)

    def start(part: Cells) -> None:
        before = grid.check_slide()
        out = np.empty((len(part), grid.size_px, grid.size_px, 3), np.uint8)
        futures = [pool.submit(put, out, part, i) for i in range(0, len(part), PIECE)]
        ahead.append((part, out, before, futures))

    try:
        for begin in range(0, len(array), batch_size):
            start(array[begin : begin + batch_size])
            if len(ahead) > 1:
                yield _finished(grid, ahead)
        while ahead:
            yield _finished(grid, ahead)
    finally:
        pool.shutdown(wait=True, cancel_futures=True)


def _finished(grid: TileGrid, ahead: deque[_Ahead]) -> tuple[Cells, Rgb]:
    part, out, before, futures = ahead.popleft()
    for future in futures:
        future.result()
    # A batch that was read across a change of colours is of both: nobody gets it.
    grid.check_slide(before)
    return part, out
