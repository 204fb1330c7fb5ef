"""Margins between the nearest tiles of the class and the nearest of the batch: CRoMa and MaRI."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from napari_batchfx import jobs
from napari_batchfx.errors import ProbeError
from napari_batchfx.jobs import Job
from napari_batchfx.probe.metrics.jackknife import MOST, Blocks, jackknife_interval, without_each
from napari_batchfx.probe.metrics.result import MetricResult, undefined
from napari_batchfx.probe.metrics.tiles import Group, Tiles, read_tiles
from napari_batchfx.probe.metrics.typed import TypedNeighbours, most_k, typed_job, vote_accuracy
from napari_batchfx.probe.neighbours import Neighbours

if TYPE_CHECKING:
    from anndata import AnnData

__all__ = ["croma", "croma_job", "margins_from", "mari", "weighted_index_from"]

_RETENTION_K = 5


def croma(
    table: AnnData,
    label: str = "label",
    batch: str = "site",
    group: Group = "slide",
    m: int = 5,
    *,
    tail: float = 0.1,
    interval: bool = True,
    seed: int = 0,
    device: str = "auto",
) -> MetricResult:
    """How much nearer a tile's own class is, in other batches, than other classes of its own batch.

    ``CRoMa_i = (d_OS - d_SO) / (d_OS + d_SO)``, between -1 and 1, where ``d_SO`` and ``d_OS`` are mean cosine
    distances to the m nearest tiles of other slides with the same class and another batch, and with another
    class and the same batch. Above 0 biology is nearer, below 0 the batch.

    Parameters
    ----------
    table : anndata.AnnData
        ``X`` float32 (n, d).
    label, batch : str
        Columns of class and batch.
    group : str, int array (n,) or None
        What may not be a neighbour of itself.
    m : int
        Tiles of each kind that are averaged.
    tail : float
        Share of the worst tiles that the tail describes.
    interval : bool
        Whether to work out the 95 % interval of the median: from leaving each group out, as tiles and as
        neighbours.
    seed : int
        Of the deal where more than 200 groups are left out several at a time.
    device : str
        See :func:`napari_batchfx.probe.neighbours.nearest`.

    Returns
    -------
    MetricResult
        ``value``: median over tiles. ``per_tile``: the margin of each tile. ``support``: ``fragile``, the
        share of tiles at or below 0 (F0), ``tail_mean``, the mean of the worst tenth (LTM), and ``scored``,
        the share of tiles that have m tiles of both kinds.

    Raises
    ------
    ProbeError
        A column is missing or empty, or m is less than 1.

    References
    ----------
    CRoMa, of the package croma (github.com/clemsgrs/croma, Apache-2.0, version 1.0.1). There a tile without
    m tiles of both kinds is an error; here it is left out and counted.

    Examples
    --------
    >>> import anndata, pandas
    >>> obs = pandas.DataFrame({"site": list("AABB"), "label": list("xyxy"), "slide": list("1234")})
    >>> obs.index = obs.index.astype(str)
    >>> x = np.array([[1, 0], [0, 1], [1, 0.1], [0.1, 1]], dtype=np.float32)
    >>> croma(anndata.AnnData(x, obs=obs), m=1).value > 0.9
    True
    """
    return jobs.run(
        croma_job(table, label, batch, group, m, tail=tail, interval=interval, seed=seed, device=device)
    )


def croma_job(
    table: AnnData,
    label: str = "label",
    batch: str = "site",
    group: Group = "slide",
    m: int = 5,
    *,
    tail: float = 0.1,
    interval: bool = True,
    seed: int = 0,
    device: str = "auto",
) -> Job[MetricResult]:
    """:func:`croma` as a job."""
    tiles = read_tiles(table, label, batch, group)
    if m < 1 or m >= len(tiles.rows):
        raise ProbeError(f"m is {m}, and there are {len(tiles.rows):,} tiles; take between 1 and 50.")
    if reason := tiles.trouble():
        return undefined(reason, tiles.support)
    found = yield from typed_job(tiles, min(_RETENTION_K, most_k(tiles)), spare(tiles, m), device)
    return margins_from(tiles, found, m, tail, interval, seed)


def spare(tiles: Tiles, m: int) -> int:
    """Neighbours to look for: others step in for those of a group that is left out."""
    return min(2 * m, len(tiles.rows) - 1)


def margins_from(
    tiles: Tiles, found: TypedNeighbours, m: int, tail: float, interval: bool, seed: int
) -> MetricResult:
    """CRoMa from the lists of a search, which may be longer than ``m``."""
    assert found.so is not None
    assert found.os is not None
    complete = (found.so.filled >= m) & (found.os.filled >= m)
    so, os = np.full(len(complete), np.nan), np.full(len(complete), np.nan)
    so[complete] = found.so.distance[complete, :m].mean(axis=1)
    os[complete] = found.os.distance[complete, :m].mean(axis=1)
    margin = _margin(so, os)
    defined = margin[np.isfinite(margin)]
    support = tiles.support | {"m": m, "scored": len(defined) / len(margin)}
    retention = retention_from(tiles, found.every)
    if not len(defined) and complete.any():
        reason = "Around every tile that has neighbours of both kinds there are only copies of itself."
        return undefined(reason, support, retention)
    if not len(defined):
        reason = (
            f"No tile has {m} tiles of its class in other {tiles.batch_column}s and {m} of other classes in "
            f"its own {tiles.batch_column}, on other {tiles.group_column}s; take a smaller m or add slides."
        )
        return undefined(reason, support, retention)
    worst = defined[defined <= np.percentile(defined, 100 * tail)]
    support |= {"fragile": float((defined <= 0).mean()), "tail_mean": float(worst.mean()), "tail": tail}
    support["interval"] = f"95 %, each {tiles.group_column} left out, as tiles and as neighbours"
    warnings = list(tiles.notes)
    if len(defined) < len(margin):
        short, alike = int((~complete).sum()), int((complete & np.isnan(margin)).sum())
        why = [f"{short:,} lack {m} tiles of both kinds"] if short else []
        why += [f"{alike:,} have only copies of themselves around"] if alike else []
        warnings.append(f"{len(margin) - len(defined):,} tiles have no margin ({', '.join(why)}).")
    return MetricResult(
        float(np.median(defined)),
        support,
        warnings + tiles.traps(),
        _median_interval(margin, tiles, found, m, seed) if interval else None,
        tiles.spread(margin),
        retention=retention,
    )


def _margin(so: NDArray[np.float64], os: NDArray[np.float64]) -> NDArray[np.float64]:
    with np.errstate(invalid="ignore", divide="ignore"):
        return np.where(so + os > 0, (os - so) / (os + so), np.nan)


def _median_interval(
    margin: NDArray[np.float64], tiles: Tiles, found: TypedNeighbours, m: int, seed: int
) -> tuple[float, float] | None:
    """Medians without each block: its tiles don't count, and others step in for it as neighbours."""
    assert found.so is not None
    assert found.os is not None
    rows = np.flatnonzero(np.isfinite(margin))
    # a median moves in steps: blocks of fewer than sqrt(n) tiles see the steps
    most = min(MOST, max(20, int(len(rows) ** 0.5)))
    blocks = Blocks.deal(tiles.group, tiles.batch, seed, most)
    lists = []
    for near in (found.so, found.os):
        index = near.index[rows]
        lists.append((np.where(index >= 0, blocks.of[index], -1), near.distance[rows]))
    medians = np.full(len(blocks), np.nan)
    for block in range(len(blocks)):
        some = blocks.of[rows] != block
        if not some.any():
            continue
        values = margin[rows]
        touched = np.zeros(len(rows), dtype=bool)
        for of, _ in lists:
            touched |= (of[:, :m] == block).any(axis=1)
        at = np.flatnonzero(touched & some)
        values[at] = _margin(*(_first_mean(of[at], distance[at], block, m) for of, distance in lists))
        values = values[some]
        values = values[np.isfinite(values)]
        if len(values):
            medians[block] = np.median(values)
    return jackknife_interval(float(np.median(margin[rows])), medians, blocks, -1.0, 1.0)


def _first_mean(
    of: NDArray[np.intp], distance: NDArray[np.float64], block: int, m: int
) -> NDArray[np.float64]:
    """Mean distance (q,) of the first m of lists (q, k) not of a block; of all there are where fewer."""
    taken = (of != block) & (of >= 0)
    taken &= np.cumsum(taken, axis=1) <= m
    with np.errstate(invalid="ignore", divide="ignore"):
        return np.asarray(np.where(taken, distance, 0.0).sum(axis=1) / taken.sum(axis=1))


def mari(
    table: AnnData,
    label: str = "label",
    batch: str = "site",
    group: Group = "slide",
    k: int = 11,
    *,
    tau: float | None = None,
    interval: bool = True,
    seed: int = 0,
    device: str = "auto",
) -> MetricResult:
    """The robustness index with near neighbours counting more: weights ``exp(-d / tau)`` instead of 1.

    Parameters
    ----------
    table, label, batch, group, k, interval, seed, device
        As for :func:`robustness_index`.
    tau : float, optional
        Distance over which a weight falls to 1/e; the median cosine distance of the SO and OS neighbours
        otherwise.

    Returns
    -------
    MetricResult
        ``support["tau"]`` is the one used; ``per_tile`` the local index.

    Raises
    ------
    ProbeError
        A column is missing or empty, or k is too large.

    References
    ----------
    MaRI, of the package croma (github.com/clemsgrs/croma, Apache-2.0).

    Examples
    --------
    >>> import anndata, pandas
    >>> obs = pandas.DataFrame({"site": list("AABB"), "label": list("xyxy"), "slide": list("1234")})
    >>> obs.index = obs.index.astype(str)
    >>> x = np.array([[1, 0], [0, 1], [1, 0.1], [0.1, 1]], dtype=np.float32)
    >>> mari(anndata.AnnData(x, obs=obs), k=2).value > 0.5
    True
    """
    tiles = read_tiles(table, label, batch, group)
    if k < 1:
        raise ProbeError("k must be 1 or more.")
    if tau is not None and tau <= 0:
        raise ProbeError("tau is a distance and must be above 0.")
    if reason := tiles.trouble() or tiles.lone():
        return undefined(reason, tiles.support)
    found = jobs.run(typed_job(tiles, k, 0, device))
    assert found.every is not None
    return weighted_index_from(tiles, found.every, k, tau, interval, seed)


def weighted_index_from(
    tiles: Tiles, near: Neighbours, k: int, tau: float | None, interval: bool, seed: int
) -> MetricResult:
    """MaRI from the lists of a search."""
    index, distance = near.index[:, :k], near.distance[:, :k]
    there = index >= 0
    same_label = tiles.label[index] == tiles.label[:, None]
    same_batch = tiles.batch[index] == tiles.batch[:, None]
    so, os = there & same_label & ~same_batch, there & ~same_label & same_batch
    retention = retention_from(tiles, near, k)
    support = tiles.support | {"k": k, "telling": float((so | os).any(axis=1).mean())}
    if not (so | os).any():
        reason = f"Among the {k} nearest tiles none tells class from {tiles.batch_column}; take a larger k."
        return undefined(reason, support, retention)
    scale = float(np.median(distance[so | os])) if tau is None else tau
    # where half of them are copies any scale gives the weight 1
    weight: NDArray[np.float64] = np.exp(-distance / scale) if scale > 0 else np.exp(-distance)
    part, other = (weight * so).sum(axis=1), (weight * os).sum(axis=1)
    how = f"95 %, each {tiles.group_column} left out, as tiles and as neighbours, tau as it is"
    support |= {"tau": scale, "interval": how}
    with np.errstate(invalid="ignore", divide="ignore"):
        local = part / (part + other)
    value = float(part.sum() / (part.sum() + other.sum()))
    ends = None
    if interval:
        blocks, rows = Blocks.deal(tiles.group, tiles.batch, seed), np.arange(len(index))
        mine = without_each(blocks.pairs(rows, index, weight * so))
        others = without_each(blocks.pairs(rows, index, weight * os))
        with np.errstate(invalid="ignore", divide="ignore"):
            ends = jackknife_interval(value, mine / (mine + others), blocks)
    return MetricResult(
        value,
        support,
        tiles.notes + tiles.traps(),
        ends,
        tiles.spread(local),
        retention=retention,
    )


def retention_from(tiles: Tiles, near: Neighbours | None, k: int = _RETENTION_K) -> MetricResult | None:
    """Balanced accuracy of the class by vote of lists that are there already."""
    if near is None:
        return None
    k = min(k, near.k)
    return MetricResult(
        vote_accuracy(tiles, near, [k])[k], tiles.support | {"k": k, "chance": 1 / len(tiles.labels)}
    )
