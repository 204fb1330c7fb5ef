"""Compiled pieces of the neighbour search: keep the best of a block of scores, and measure them exactly.

All are serial and release the GIL; the search spreads rows over its own threads, since numba's portable
threading layer may not be entered from two Python threads at once.
"""

from __future__ import annotations

from typing import Any, TypeAlias

import numpy as np
from numba import njit
from numpy.typing import NDArray

__all__ = ["keep_best", "keep_best_columns", "measure"]

Floats: TypeAlias = NDArray[np.floating[Any]]
Ints: TypeAlias = NDArray[np.integer[Any]]

_STEP = 64  # scores looked at together: one comparison tells that none of them gets into the list


@njit(nogil=True, cache=True)  # type: ignore[untyped-decorator]
def _sift(best: Floats, where: Ints, score: float, at: int) -> None:
    """Put a score at the root of a min-heap, in place of the smallest."""
    n = best.shape[0]
    i = 0
    while True:
        child = 2 * i + 1
        if child >= n:
            break
        if child + 1 < n and best[child + 1] < best[child]:
            child += 1
        if best[child] >= score:
            break
        best[i] = best[child]
        where[i] = where[child]
        i = child
    best[i] = score
    where[i] = at


@njit(nogil=True, cache=True)  # type: ignore[untyped-decorator]
def _above(scores: Floats, a: int, b: int, bar: float) -> int:
    count = 0
    for j in range(a, b):
        count += scores[j] > bar
    return count


@njit(nogil=True, cache=True)  # type: ignore[untyped-decorator]
def _scan(scores: Floats, a: int, b: int, offset: int, best: Floats, where: Ints) -> None:
    for start in range(a, b, _STEP):
        stop = min(start + _STEP, b)
        if _above(scores, start, stop, best[0]) == 0:
            continue
        for j in range(start, stop):
            if scores[j] > best[0]:
                _sift(best, where, scores[j], offset + j)


@njit(nogil=True, cache=True)  # type: ignore[untyped-decorator]
def keep_best(
    scores: Floats,
    first: int,
    last: int,
    offset: int,
    starts: Ints,
    cell: Ints,
    own: Ints,
    want: NDArray[np.bool_],
    best: Floats,
    where: Ints,
) -> None:
    """Take up the best scores of a block (q, r) into the running heaps (q, k) of queries first..last.

    Neighbours stand cell by cell (``starts``), and inside a cell the query's own group is the range
    ``own[q, c]``, which is passed over.
    """
    n = scores.shape[1]
    for i in range(first, last):
        row, heap, places = scores[i], best[i], where[i]
        c = np.searchsorted(starts, offset, side="right") - 1
        while c < starts.shape[0] - 1 and starts[c] < offset + n:
            if want[cell[i], c]:
                a = max(starts[c] - offset, 0)
                b = min(starts[c + 1] - offset, n)
                low = min(max(own[i, c, 0] - offset, a), b)
                high = min(max(own[i, c, 1] - offset, low), b)
                _scan(row, a, low, offset, heap, places)
                _scan(row, high, b, offset, heap, places)
            c += 1


@njit(nogil=True, cache=True)  # type: ignore[untyped-decorator]
def _scan_columns(
    row: Floats, a: int, b: int, offset: int, bars: Floats, best: Floats, where: Ints, at: int
) -> None:
    for start in range(a, b, _STEP):
        stop = min(start + _STEP, b)
        count = 0
        for j in range(start, stop):
            count += row[j] > bars[offset + j]
        if count == 0:
            continue
        for j in range(start, stop):
            if row[j] > bars[offset + j]:
                _sift(best[offset + j], where[offset + j], row[j], at)
                bars[offset + j] = best[offset + j, 0]


@njit(nogil=True, cache=True)  # type: ignore[untyped-decorator]
def keep_best_columns(
    scores: Floats,
    first: int,
    last: int,
    above: int,
    offset: int,
    starts: Ints,
    cell: Ints,
    own: Ints,
    want: NDArray[np.bool_],
    best: Floats,
    where: Ints,
    bars: Floats,
) -> None:
    """The same for the queries that are columns first..last; rows, from ``above`` on, are their neighbours.

    ``bars`` (n,) are the smallest scores of the columns' heaps; ``own`` says for a row which columns
    are of its group.
    """
    for i in range(scores.shape[0]):
        row = scores[i]
        c = np.searchsorted(starts, offset + first, side="right") - 1
        while c < starts.shape[0] - 1 and starts[c] < offset + last:
            if want[c, cell[i]]:
                a = max(starts[c] - offset, first)
                b = min(starts[c + 1] - offset, last)
                low = min(max(own[i, c, 0] - offset, a), b)
                high = min(max(own[i, c, 1] - offset, low), b)
                _scan_columns(row, a, low, offset, bars, best, where, above + i)
                _scan_columns(row, high, b, offset, bars, best, where, above + i)
            c += 1


@njit(nogil=True, cache=True, fastmath={"reassoc", "contract", "nsz"})  # type: ignore[untyped-decorator]
def measure(queries: Floats, x: Floats, dim: int, where: Ints, first: int, last: int, out: Floats) -> None:
    """Squared distances, summed in float64, of queries (q, d) to their candidates ``where`` (q, k)."""
    for i in range(first, last):
        a = queries[i]
        for j in range(where.shape[1]):
            if where[i, j] < 0:
                out[i, j] = np.inf
                continue
            b = x[where[i, j]]
            total = 0.0
            for d in range(dim):
                gap = np.float64(a[d]) - np.float64(b[d])
                total += gap * gap
            out[i, j] = total
