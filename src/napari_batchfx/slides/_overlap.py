"""Tiles that overlap their neighbours by a whole number of pixels, cut so that they lie side by side."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

__all__ = ["ReadTile", "without_overlaps"]

ReadTile = Callable[[int, int], NDArray[np.uint8] | None]


def without_overlaps(
    read: ReadTile, stored: tuple[int, int], segment: tuple[int, int], overlap: tuple[int, int]
) -> tuple[ReadTile, tuple[int, int]]:
    """Return ``read(row, col)`` of the pieces that remain when overlaps are taken off, and their size.

    Of two neighbours the lower and the right one shows the shared pixels, as in OpenSlide; what the last tile holds
    beyond one step is one more row or column of pieces.

    Parameters
    ----------
    read : callable
        Reads a stored tile, uint8 (h, w, 3), ``None`` where the file has none.
    stored : (int, int)
        Height and width of the page as stored, which counts the overlaps twice.
    segment : (int, int)
        Height and width of a stored tile.
    overlap : (int, int)
        Pixels that neighbours share, (y, x).

    Examples
    --------
    >>> tiles = {(0, 0): np.array([[1, 2, 3]]), (0, 1): np.array([[3, 4, 5]])}
    >>> piece, size = without_overlaps(lambda r, c: tiles[r, c], (1, 6), (1, 3), (0, 1))
    >>> size, [piece(0, c).tolist() for c in range(3)]
    ((1, 2), [[[1, 2]], [[3, 4]], [[5]]])
    """
    rows, cols = (-(-n // s) for n, s in zip(stored, segment, strict=True))
    step = (segment[0] - overlap[0], segment[1] - overlap[1])

    def piece(row: int, col: int) -> NDArray[np.uint8] | None:
        r, c = min(row, rows - 1), min(col, cols - 1)
        tile = read(r, c)
        if tile is None:
            return None
        y, x = (row - r) * step[0], (col - c) * step[1]
        return tile[y : y + step[0], x : x + step[1]]

    return piece, step
