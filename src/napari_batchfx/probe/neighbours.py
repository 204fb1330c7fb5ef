"""Exact nearest neighbours of tiles, in blocks: the own slide left out, several lists from one pass."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from napari_batchfx import jobs
from napari_batchfx.errors import ProbeError
from napari_batchfx.jobs import Job, Ticker

__all__ = ["Neighbours", "Wanted", "merge", "nearest", "nearest_job"]

Metric = Literal["cosine", "euclidean"]

_QUERIES = 1_024  # a block of the product is 1,024 x 4,096 float32: 16 MB
_POINTS = 4_096
_GPU = 4  # a GPU takes blocks so many times larger, each way
_PAIRED = 2_048  # all pairs: square blocks, each looked at from both sides
_SPARE = 8  # candidates kept beyond k, so that rounding in the product can't lose a true neighbour
_WORTH_A_GPU = 2e11  # multiplications; below, starting torch takes longer than the search


@dataclass(frozen=True)
class Neighbours:
    """The nearest neighbours of each query, the nearest first.

    Attributes
    ----------
    index : int32 (q, k)
        Rows of the neighbours; -1 where there are fewer than k.
    distance : float64 (q, k)
        Cosine distance (0..2) or Euclidean distance; infinite where there are fewer than k.
    """

    index: NDArray[np.int32]
    distance: NDArray[np.float64]

    @property
    def k(self) -> int:
        """Length of the lists."""
        return int(self.index.shape[1])

    @property
    def filled(self) -> NDArray[np.intp]:
        """How many neighbours each query has (q,)."""
        return np.asarray((self.index >= 0).sum(axis=1))


@dataclass(frozen=True)
class Wanted:
    """One list to keep: how long, and which cells' tiles count as neighbours of which cells' queries.

    Attributes
    ----------
    k : int
    cells : bool (c, c)
        Row: cell of the query; column: cell of the neighbour.
    """

    k: int
    cells: NDArray[np.bool_]


def nearest(
    x: NDArray[np.floating],
    k: int,
    *,
    group: NDArray[np.integer[Any]] | None = None,
    metric: Metric = "cosine",
    queries: NDArray[np.integer[Any]] | None = None,
    device: str = "auto",
) -> Neighbours:
    """The k nearest rows of each row, its own group left out; exact, in float32 and in blocks.

    Parameters
    ----------
    x : float (n, d)
        Features, all finite; for the cosine no row may be zero.
    k : int
        Neighbours of each row.
    group : int (n,), optional
        What must not be a neighbour of itself: the slide, the patient. Only the row itself otherwise.
    metric : {"cosine", "euclidean"}
        Cosine distance is ``1 - cos``.
    queries : int (q,), optional
        Rows to find neighbours for; every row otherwise.
    device : str
        "cpu", "cuda", "mps"; "auto" takes a GPU where there is one and the search is large.

    Returns
    -------
    Neighbours
        Equally distant neighbours stand in the order of their rows.

    Raises
    ------
    ProbeError
        If k is not between 1 and n - 1, features are not finite, or a row of zeros has no direction.

    Notes
    -----
    The product of a block of rows with all the others gives candidates, k + 8 or more for each query; their
    distances are then summed from the differences in float64, which decides the order. Memory beyond one
    copy of the features doesn't grow with n.

    Examples
    --------
    >>> x = np.array([[1, 0], [1, 0.1], [0, 1], [0.1, 1]], dtype=np.float32)
    >>> nearest(x, 1).index.ravel().tolist()
    [1, 0, 3, 2]
    >>> nearest(x, 1, group=np.array([0, 0, 1, 1])).index.ravel().tolist()
    [3, 3, 1, 1]
    """
    wanted = [Wanted(k, np.ones((1, 1), dtype=bool))]
    (found,) = jobs.run(nearest_job(x, wanted, group=group, metric=metric, queries=queries, device=device))
    return found


def nearest_job(
    x: NDArray[np.floating],
    wanted: Sequence[Wanted],
    *,
    cell: NDArray[np.integer[Any]] | None = None,
    group: NDArray[np.integer[Any]] | None = None,
    metric: Metric = "cosine",
    queries: NDArray[np.integer[Any]] | None = None,
    device: str = "auto",
    what: str = "looking for neighbours",
) -> Job[list[Neighbours]]:
    """:func:`nearest` as a job that keeps several lists in one pass, one for each of ``wanted``.

    ``cell`` (n,) says which cell a row belongs to (class and site, say), and each wanted list says which
    cells it takes. Yields after every block of the product, about 0.1 s of work.

    Examples
    --------
    >>> x = np.array([[1, 0], [1, 0.1], [0, 1], [0.1, 1]], dtype=np.float32)
    >>> other = Wanted(1, ~np.eye(2, dtype=bool))
    >>> jobs.run(nearest_job(x, [other], cell=np.array([0, 0, 1, 1])))[0].index.ravel().tolist()
    [3, 3, 1, 1]
    """
    n, dim = x.shape
    for want in wanted:
        if not 1 <= want.k < n:
            raise ProbeError(f"k is {want.k}, but {n:,} tiles have at most {n - 1:,} neighbours each.")
    cells: NDArray[np.intp] = np.zeros(n, dtype=np.intp)
    if cell is not None:
        cells = np.asarray(cell, dtype=np.intp)
    own: NDArray[np.intp] = np.arange(n)
    if group is not None:
        own = np.unique(np.asarray(group), return_inverse=True)[1].ravel()
    order = np.lexsort((own, cells))
    points = _points(x, order, metric)
    cells, own = cells[order], np.asarray(own[order], dtype=np.intp)
    place = np.empty(n, dtype=np.intp)
    place[order] = np.arange(n)
    asked = np.arange(n) if queries is None else np.asarray(queries, dtype=np.intp)
    turn = np.argsort(place[asked], kind="stable")  # queries in the order of the points: blocks are slices
    rows = place[asked][turn]

    where = _device(device, float(len(rows)) * n * dim)
    search: Any
    if where == "cpu":
        from napari_batchfx.probe._neighbours_cpu import ProcessorSearch

        search = ProcessorSearch(points, dim, cells, own)
    else:
        from napari_batchfx.probe._neighbours_torch import TorchSearch

        search = TorchSearch(points, dim, cells, own, where.removeprefix("torch:"))
    widths = [min(want.k + max(_SPARE, want.k // 8), n - 1) for want in wanted]
    index = [np.full((len(rows), want.k), -1, dtype=np.int32) for want in wanted]
    distance = [np.full((len(rows), want.k), np.inf) for want in wanted]
    ticker = Ticker(len(rows), what)
    yield ticker.tick(0)
    paired: list[Any] = []
    if queries is None and where == "cpu" and search.can_pair:
        steps = -(-n // _PAIRED) * (-(-n // _PAIRED) + 1) // 2
        for step, lists in enumerate(search.all_pairs(wanted, widths, _PAIRED), 1):
            paired = lists
            yield ticker.tick(n * step // (steps + 1) - ticker.done)
    larger = 1 if where.removeprefix("torch:") == "cpu" else _GPU
    height, breadth = _QUERIES * larger, _POINTS * larger
    for at in range(0, len(rows), height):
        block = rows[at : at + height]
        lists = search.start(block, wanted, widths)
        if paired:
            lists = [(best[block], spots[block]) for best, spots in paired]
        else:
            for first in range(0, n, breadth):
                lists = search.take_up(lists, first, min(first + breadth, n))
                yield ticker.tick(0)
        for i, want in enumerate(wanted):
            candidates, squared = search.measure(lists[i])
            original = np.where(candidates >= 0, order[candidates], n)
            by = np.lexsort((original, squared), axis=-1)[:, : want.k]
            near, far = np.take_along_axis(original, by, 1), np.take_along_axis(squared, by, 1)
            target = turn[at : at + height]
            index[i][target] = np.where(near < n, near, -1)
            distance[i][target] = far / 2 if metric == "cosine" else np.sqrt(far)
        yield ticker.tick(0 if paired else len(block))
    yield ticker.tick(ticker.total - ticker.done)
    return [Neighbours(a, b) for a, b in zip(index, distance, strict=True)]


def merge(lists: Sequence[Neighbours], k: int) -> Neighbours:
    """The k nearest out of several lists of the same queries, over different tiles.

    Examples
    --------
    >>> a = Neighbours(np.array([[3, 1]], dtype=np.int32), np.array([[0.1, 0.4]]))
    >>> b = Neighbours(np.array([[2, -1]], dtype=np.int32), np.array([[0.2, np.inf]]))
    >>> merge([a, b], 3).index.tolist()
    [[3, 2, 1]]
    """
    index = np.concatenate([one.index for one in lists], axis=1)
    distance = np.concatenate([one.distance for one in lists], axis=1)
    last = np.where(index < 0, np.iinfo(np.int32).max, index)
    order = np.lexsort((last, distance), axis=-1)[:, :k]
    return Neighbours(np.take_along_axis(index, order, 1), np.take_along_axis(distance, order, 1))


def _points(x: NDArray[np.floating], order: NDArray[np.intp], metric: str) -> NDArray[np.float32]:
    """Rows in order, float32: of unit length, or centred and followed by minus half their square and 1."""
    n, dim = x.shape
    points = np.empty((n, dim + 2 * (metric == "euclidean")), dtype=np.float32)
    mean = x.mean(axis=0, dtype=np.float64) if metric == "euclidean" else None
    for i in range(0, n, 4096):
        rows = np.asarray(x[order[i : i + 4096]], dtype=np.float64)
        if mean is None:
            length = np.sqrt(np.einsum("ij,ij->i", rows, rows))[:, None]
            bad = not np.isfinite(length).all()
            if not bad and (length == 0).any():
                raise ProbeError("A tile whose features are all zero has no direction; leave it out.")
            points[i : i + 4096] = rows / length
        else:
            rows -= mean
            half = np.einsum("ij,ij->i", rows, rows) / 2
            bad = not np.isfinite(half).all()
            points[i : i + 4096, :dim] = rows
            points[i : i + 4096, dim] = -half
            points[i : i + 4096, dim + 1] = 1
        if bad:
            raise ProbeError("Some features are not finite (NaN or infinite); leave those tiles out.")
    return points


def _device(device: str, work: float) -> str:
    if device == "cpu" or (device == "auto" and work < _WORTH_A_GPU):
        return "cpu"
    if device.startswith("torch:"):  # for comparisons: torch on a processor
        return device
    import torch

    if device == "auto":
        return "torch:cuda" if torch.cuda.is_available() else "cpu"
    try:
        torch.empty(1, device=device)
    except (RuntimeError, AssertionError, NotImplementedError) as error:
        raise ProbeError(f"The device {device} can't be used here; take cpu or auto.") from error
    return f"torch:{device}"
