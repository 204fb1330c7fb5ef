"""Choose matched tiles that are spread over slides, and over each slide."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

__all__ = ["choose_sets"]


def choose_sets(
    sets: NDArray[np.intp],
    distance: NDArray[np.float64],
    slide: NDArray[np.intp],
    yx: NDArray[np.float64] | None,
    quota: NDArray[np.intp],
    least: float,
    wanted: int,
) -> NDArray[np.intp]:
    """Farthest-point sampling of sets of tiles, one tile a batch.

    Starts with the closest match. The next set is one of those whose slides have the fewest tiles so far,
    and of these the one whose tiles lie farthest from what was chosen on their slides.

    Parameters
    ----------
    sets : int (k, B)
        Rows.
    distance : float (k,)
        Of the matches; NaN = not known.
    slide : int (n,)
    yx : float (n, 2) or None
        Positions of all rows.
    quota : int (slides,)
        Most tiles of each slide.
    least : float
        Least distance of two tiles of a slide.
    wanted : int
        Most sets.

    Returns
    -------
    int (m,)
        Indices into ``sets``, in the order they were chosen.

    Examples
    --------
    >>> sets = np.arange(4)[:, None]; place = np.array([[0.0, 0], [0, 1], [0, 2], [0, 9]])
    >>> one = np.zeros(4, dtype=int)
    >>> choose_sets(sets, np.zeros(4), one, place, np.array([3]), 1.5, 4).tolist()
    [0, 3, 2]
    """
    at = slide[sets]
    counts = np.zeros(len(quota), dtype=np.intp)
    nearest = np.full(sets.shape, np.inf)
    left = np.ones(len(sets), dtype=bool)
    tie = np.where(np.isfinite(distance), distance, 0.0)
    chosen: list[int] = []
    while len(chosen) < wanted:
        open_ = left & (counts[at] < quota[at]).all(axis=1) & (nearest.min(axis=1) >= least)
        if not open_.any():
            break
        fewest = counts[at].max(axis=1)
        spread = nearest.min(axis=1)
        pool = np.flatnonzero(open_ & (fewest == fewest[open_].min()))
        pick = int(pool[np.lexsort((pool, tie[pool], -spread[pool]))[0]])
        chosen.append(pick)
        left[pick] = False
        counts[at[pick]] += 1
        if yx is None:
            continue
        for row in sets[pick]:
            same = at == slide[row]
            gap = np.hypot(*(yx[sets[same]] - yx[row]).T)
            nearest[same] = np.minimum(nearest[same], gap)
    return np.array(chosen, dtype=np.intp)
