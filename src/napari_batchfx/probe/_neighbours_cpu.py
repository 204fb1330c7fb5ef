"""The neighbour search on a processor: the product in numpy, lists kept and measured by compiled code."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from napari_batchfx.probe._neighbours_kernels import keep_best, keep_best_columns, measure

if TYPE_CHECKING:
    from napari_batchfx.probe.neighbours import Wanted

__all__ = ["ProcessorSearch"]

_RANGES = 2 * 10**7  # of groups in cells, kept at once: 160 MB


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
        self._turn_to(self.points[rows])
        self.wanted, self.rows_cell = wanted, self.cell[rows]
        groups, which = np.unique(self.own[rows], return_inverse=True)
        self.passed_over = self._ranges(groups)[which.ravel()]
        return _empty(len(rows), widths)

    def take_up(self, lists: list[Any], first: int, last: int) -> list[Any]:
        scores = self._product(first, last)

        def keep(part: tuple[int, int]) -> None:
            for want, (best, where) in zip(self.wanted, lists, strict=True):
                keep_best(
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

        self._spread(keep, len(self.queries))
        return lists

    def all_pairs(self, wanted: Sequence[Wanted], widths: Sequence[int], block: int) -> Iterator[list[Any]]:
        """The lists of all points, taking each pair once: rows of a block take columns, and columns rows.

        Yields them after each block; they are whole after the last.
        """
        n = len(self.points)
        lists = _empty(n, widths)
        bars = [np.full(n, -np.inf, np.float32) for _ in widths]
        ranges = self._ranges(np.arange(self.groups))
        self.wanted = wanted
        for i in range(0, n, block):
            rows = slice(i, min(i + block, n))
            self._turn_to(self.points[rows].copy())
            self.rows_cell, self.passed_over = self.cell[rows], ranges[self.own[rows]]
            mine = [(best[rows], where[rows]) for best, where in lists]
            for j in range(i, n, block):
                self.take_up(mine, j, min(j + block, n))
                if j > i:
                    self._take_columns(i, j, min(j + block, n), lists, bars)
                yield lists

    def _take_columns(self, above: int, first: int, last: int, lists: list[Any], bars: list[Any]) -> None:
        """Let the columns of the product at hand take up its rows."""
        scores = self._last_product

        def keep(part: tuple[int, int]) -> None:
            for want, (best, where), bar in zip(self.wanted, lists, bars, strict=True):
                keep_best_columns(
                    scores,
                    *part,
                    above,
                    first,
                    self.starts,
                    self.rows_cell,
                    self.passed_over,
                    want.cells,
                    best,
                    where,
                    bar,
                )

        self._spread(keep, last - first)

    @property
    def can_pair(self) -> bool:
        """Whether the ranges of every group in every cell fit into memory."""
        return self.groups * (len(self.starts) - 1) <= _RANGES

    def _ranges(self, groups: NDArray[np.intp]) -> NDArray[np.int32]:
        """Where the points of some groups stand in each cell (groups, cells, 2)."""
        key = np.arange(len(self.starts) - 1)[None, :] * self.groups + groups[:, None]
        ends = [np.searchsorted(self.key, key, side=side) for side in ("left", "right")]
        return np.stack(ends, 2).astype(np.int32)

    def _turn_to(self, queries: NDArray[np.float32]) -> None:
        """Make a copy of points the queries; of Euclidean ones the last two columns change places."""
        if queries.shape[1] > self.dim:
            queries[:, self.dim :] = queries[:, : self.dim - 1 : -1].copy()
        self.queries = queries

    def _product(self, first: int, last: int) -> NDArray[np.float32]:
        size = len(self.queries) * (last - first)
        if len(self.scores) < size:
            self.scores = np.empty(size, dtype=np.float32)
        self._last_product = self.scores[:size].reshape(len(self.queries), last - first)
        np.matmul(self.queries, self.points[first:last].T, out=self._last_product)
        return self._last_product

    def measure(self, found: Any) -> tuple[NDArray[np.int32], NDArray[np.float64]]:
        _, where = found
        out = np.empty(where.shape)
        self._spread(lambda part: measure(self.queries, self.points, self.dim, where, *part, out), len(where))
        return where, out

    def _spread(self, work: Callable[[tuple[int, int]], None], q: int) -> None:
        if self.threads == 1 or q < 64:
            work((0, q))
            return
        edges = np.linspace(0, q, self.threads + 1).astype(int)
        with ThreadPoolExecutor(self.threads) as pool:
            list(pool.map(work, _pairs(edges)))


def _empty(n: int, widths: Sequence[int]) -> list[Any]:
    return [(np.full((n, k), -np.inf, np.float32), np.full((n, k), -1, np.int32)) for k in widths]


def _pairs(edges: NDArray[np.int_]) -> Iterator[tuple[int, int]]:
    yield from zip(edges[:-1].tolist(), edges[1:].tolist(), strict=True)


def _threads() -> int:
    limit = os.environ.get("NUMBA_NUM_THREADS", "")
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else (os.cpu_count() or 1)
    return max(1, min(cores, int(limit) if limit.isdigit() and int(limit) else cores))
