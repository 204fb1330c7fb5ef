"""A region of a slide read once from top to bottom, past the cache of the view."""

from __future__ import annotations

import os
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    from napari_batchfx.slides.slide import Slide

__all__ = ["SlideRows"]

Rgb = NDArray[np.uint8]


class SlideRows:
    """Rows of a region: sliced like an array, best in order. Memory holds one row of the file's tiles.

    Parameters
    ----------
    slide : Slide
    level : int
    box : (int, int, int, int)
        y, x, height, width in pixels of the level, inside of it.
    workers : int, optional
        Threads that decode; one less than there are cores otherwise.

    Examples
    --------
    >>> from napari_batchfx.slides import open_slide, write_pyramid
    >>> _ = write_pyramid("rows.tif", np.full((300, 400, 3), 200, np.uint8), 0.5, compression="deflate")
    >>> with open_slide("rows.tif") as slide:
    ...     SlideRows(slide, 0, (10, 20, 100, 50))[40:60].shape
    (20, 50, 3)
    """

    dtype = np.dtype(np.uint8)

    def __init__(
        self, slide: Slide, level: int, box: tuple[int, int, int, int], workers: int | None = None
    ) -> None:
        self._slide, self._level = slide, level
        self._y, self._x, height, width = box
        self.shape = (height, width, 3)
        self._workers = workers or max(1, (os.cpu_count() or 2) - 1)
        self._row = -1
        self._band: Rgb | None = None

    def __getitem__(self, rows: slice) -> Rgb:
        first, last, _ = rows.indices(self.shape[0])
        out = np.empty((last - first, *self.shape[1:]), np.uint8)
        top, bottom = self._y + first, self._y + last
        tile = self._slide.levels[self._level].tile[0]
        for row in range(top // tile, (bottom - 1) // tile + 1) if last > first else ():
            y0, y1 = max(top, row * tile), min(bottom, (row + 1) * tile)
            out[y0 - top : y1 - top] = self._band_of(row)[y0 - row * tile : y1 - row * tile]
        return out

    def _band_of(self, row: int) -> Rgb:
        """One row of the file's tiles, the region's columns."""
        if self._band is None or row != self._row:
            info = self._slide.levels[self._level]
            (height, _), (th, tw) = info.shape, info.tile
            top, width = row * th, self.shape[1]
            self._band = None  # before the next one is made: one at a time
            band = np.empty((min(th, height - top), width, 3), np.uint8)

            def put(col: int) -> None:
                left = col * tw
                wide = min(tw, info.shape[1] - left)
                piece = self._slide.read_once(self._level, top, left, len(band), wide)
                x0, x1 = max(left, self._x), min(left + wide, self._x + width)
                band[:, x0 - self._x : x1 - self._x] = piece[:, x0 - left : x1 - left]

            cols = range(self._x // tw, (self._x + width - 1) // tw + 1)
            with ThreadPoolExecutor(self._workers) as pool:
                for _ in pool.map(put, cols):
                    pass
            self._band, self._row = band, row
        return self._band
