"""Whether the corners of tiles lie on one regular grid, and in which row and column each does."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

__all__ = ["Lattice", "find_lattice"]

_TOLERANCE = 0.01  # of a step: coordinates in micrometres are stored as 32 bit numbers
_FINEST = 16.0  # units; corners that only share a smaller step lie anywhere


@dataclass(frozen=True)
class Lattice:
    """A regular grid of tile corners.

    Parameters
    ----------
    cells : int32 array (n, 2)
        (row, col) of each tile; row 0 and column 0 are the first on the slide, not the first with a tile.
    step : float
        From one tile to the next, in the unit of the corners.
    offset : (float, float)
        (y, x) of the corner of row 0, column 0.
    """

    cells: NDArray[np.int32]
    step: float
    offset: tuple[float, float]


def find_lattice(corners: NDArray[np.float64], step: float | None = None) -> Lattice | None:
    """The grid that corners lie on.

    Parameters
    ----------
    corners : float array (n, 2)
        (x, y) of the tiles' top-left corners, none below zero.
    step : float, optional
        What the file says the step is; tried first. Otherwise the largest step that all corners share.

    Returns
    -------
    Lattice or None
        None where there is no common step of at least 16 units (CLAM lays the tiles of each piece of tissue
        from its own corner).

    Examples
    --------
    >>> find_lattice(np.array([[512.0, 0.0], [1024.0, 1536.0]])).cells.tolist()
    [[0, 1], [3, 2]]
    >>> find_lattice(np.array([[0.0, 0.0], [512.0, 3.0]])) is None
    True
    """
    for guess in (step, _shared_step(corners)):
        if guess is None or guess < _FINEST:
            continue
        first = corners.min(axis=0)
        places = (corners - first) / guess
        if np.abs(places - np.rint(places)).max() > _TOLERANCE:
            continue
        before = np.floor(first / guess + _TOLERANCE)
        offset = np.maximum(first - before * guess, 0.0)
        cells = (np.rint(places) + before)[:, ::-1]
        if cells.max() >= 2**31:
            return None
        return Lattice(cells.astype(np.int32), float(guess), (float(offset[1]), float(offset[0])))
    return None


def _shared_step(corners: NDArray[np.float64]) -> float | None:
    """Greatest common divisor of the distances, of whole numbers; else the smallest distance."""
    away = np.abs(corners - corners[0]).ravel()
    if not away.any():
        return None
    if (away == np.rint(away)).all():
        return float(np.gcd.reduce(away.astype(np.int64)))
    steps = np.concatenate([np.diff(np.unique(axis)) for axis in corners.T])
    steps = steps[steps > _TOLERANCE * _FINEST]
    return float(steps.min()) if len(steps) else None
