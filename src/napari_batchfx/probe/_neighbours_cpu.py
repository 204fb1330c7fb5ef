"""The neighbour search on a processor: the product in numpy, lists kept and measured by compiled code.

The compiled pieces are serial and release the GIL; rows are spread over threads here, since numba's portable
threading layer may not be entered from two Python threads at once.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np
from numba import njit
from numpy.typing import NDArray

if TYPE_CHECKING:
    from napari_batchfx.probe.neighbours import Wanted

__all__ = ["ProcessorSearch"]

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
def _keep_best(
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


@njit(nogil=True, cache=True, fastmath={"reassoc", "contract", "nsz"})  # type: ignore[untyped-decorator]
def _measure(queries: Floats, x: Floats, dim: int, where: Ints, first: int, last: int, out: Floats) -> None:
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


class ProcessorSearch:
    """Holds the points and answers block by block; used by :func:`nearest_job`."""

    def __init__(
        self, points: NDArray[np.float32], dim: int, cell: NDArray[np.intp], own: NDArray[np.intp]
    ) -> None:
        self.points, self.dim, self.cell, self.own = points, dim, cell, own
        cells = int(cell.max(initial=0)) + 1
        self.starts = np.searchsorted(cell, np.arange(cells + 1)).astype(np.int64)
        self.groups = int(own.max(initial=0)) + 1
        self.key = cell * self.groups + own  # sorted, as the points are
        self.threads = _threads()
        self.scores = np.empty(0, dtype=np.float32)

    def start(self, rows: NDArray[np.intp], wanted: Sequence[Wanted], widths: Sequence[int]) -> list[Any]:
        self.queries = self.points[rows]
        if self.queries.shape[1] > self.dim:
            self.queries[:, self.dim] = 1.0
        self.wanted, self.rows_cell = wanted, self.cell[rows]
        cells = len(self.starts) - 1
        groups, which = np.unique(self.own[rows], return_inverse=True)
        key = np.arange(cells)[None, :] * self.groups + groups[:, None]
        ranges = np.stack([np.searchsorted(self.key, key), np.searchsorted(self.key, key, side="right")], 2)
        self.passed_over = ranges[which.ravel()]
        q = len(rows)
        return [(np.full((q, k), -np.inf, np.float32), np.full((q, k), -1, np.int32)) for k in widths]

    def take_up(self, lists: list[Any], first: int, last: int) -> list[Any]:
        q = len(self.queries)
        if len(self.scores) < q * (last - first):
            self.scores = np.empty(q * (last - first), dtype=np.float32)
        scores = self.scores[: q * (last - first)].reshape(q, last - first)
        np.matmul(self.queries, self.points[first:last].T, out=scores)

        def keep(part: tuple[int, int]) -> None:
            for want, (best, where) in zip(self.wanted, lists, strict=True):
                _keep_best(
                    scores,
                    *part,
                    first,
                    self.starts,
                    self.rows_cell,
                    self.passed_over,
                    want.cells,
                    best,
                    where,
                )

        self._spread(keep)
        return lists

    def measure(self, found: Any) -> tuple[NDArray[np.int32], NDArray[np.float64]]:
        _, where = found
        out = np.empty(where.shape)
        self._spread(lambda part: _measure(self.queries, self.points, self.dim, where, *part, out))
        return where, out

    def _spread(self, work: Callable[[tuple[int, int]], None]) -> None:
        q = len(self.queries)
        if self.threads == 1 or q < 64:
            work((0, q))
            return
        edges = np.linspace(0, q, self.threads + 1).astype(int)
        with ThreadPoolExecutor(self.threads) as pool:
            list(pool.map(work, _pairs(edges)))


def _pairs(edges: NDArray[np.int_]) -> Iterator[tuple[int, int]]:
    yield from zip(edges[:-1].tolist(), edges[1:].tolist(), strict=True)


def _threads() -> int:
    limit = os.environ.get("NUMBA_NUM_THREADS", "")
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else (os.cpu_count() or 1)
    return max(1, min(cores, int(limit) if limit.isdigit() and int(limit) else cores))
