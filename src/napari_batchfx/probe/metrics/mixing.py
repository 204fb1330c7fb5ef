"""Mixing of batches as single-cell benchmarks measure it: kBET, silhouette of the batch, connectivity."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from napari_batchfx import jobs
from napari_batchfx.probe.columns import has_values
from napari_batchfx.probe.metrics.result import MetricResult, undefined
from napari_batchfx.probe.metrics.retention import retention_beside
from napari_batchfx.probe.metrics.tiles import Group, Tiles, read_tiles
from napari_batchfx.probe.neighbours import Neighbours, Wanted, nearest, nearest_job

if TYPE_CHECKING:
    from anndata import AnnData

__all__ = ["batch_asw", "connectivity_from", "graph_connectivity", "kbet"]


def kbet(
    table: AnnData,
    label: str | None = "label",
    batch: str = "site",
    group: Group = "slide",
    *,
    alpha: float = 0.05,
    device: str = "auto",
    beside: bool = True,
) -> MetricResult:
    """Share of neighbourhoods whose batches could have been drawn at random from their class.

    Inside each class, a chi-squared test compares the batches among the k0 tiles around a tile (itself
    included) with those of the class; ``k0 = clip(mean tiles a batch / 4, 10, 70)``. The score of a class is
    1 less the share of tests below ``alpha``; the value is their mean.

    Parameters
    ----------
    table : anndata.AnnData
        ``X`` float32 (n, d).
    label : str or None
        Column of the class; all tiles are one class where it is ``None`` or there is no such column.
    batch, group : str
        Columns of the batch, and of what ``retention`` holds together.
    alpha : float
        Level of the tests; mixed perfectly, about this share is rejected.
    device : str
        See :func:`napari_batchfx.probe.neighbours.nearest`.
    beside : bool
        Whether to measure ``retention`` too.

    Returns
    -------
    MetricResult
        ``per_tile``: the p of each test. ``support["classes_tested"]``: the score of each class.

    Raises
    ------
    ProbeError
        A column is missing or empty.

    References
    ----------
    Büttner M et al. A test metric for assessing single-cell RNA-seq batch correction. Nature Methods 16,
    2019; per class and k0 as in scib (Luecken et al. 2022).

    Examples
    --------
    >>> import anndata, pandas
    >>> x = np.random.default_rng(0).normal(size=(200, 3))
    >>> obs = pandas.DataFrame({"site": np.tile(["A", "B"], 100)}, index=[str(i) for i in range(200)])
    >>> kbet(anndata.AnnData(x, obs=obs), None, group=None).value > 0.8
    True
    """
    from scipy.stats import chi2

    tiles, retention, minded = _read(table, label, batch, group, beside)
    if reason := _no_batches(tiles):
        return undefined(reason, tiles.support, retention)
    p = np.full(len(tiles.rows), np.nan)
    scores: dict[str, float] = {}
    skipped = []
    for c, name in enumerate(tiles.labels):
        rows = np.flatnonzero(tiles.label == c)
        part = tiles.only(rows)
        counts = np.bincount(part.batch)
        k0 = int(np.clip(len(rows) / len(counts) // 4, 10, 70))
        if len(counts) < 2 or len(rows) <= k0:
            skipped.append(name)
            continue
        near = nearest(part.x, k0 - 1, metric="euclidean", device=device)
        local = np.zeros((len(rows), len(counts)))
        at = np.arange(len(rows))
        local[at, part.batch] = 1
        for j in range(k0 - 1):
            local[at, part.batch[near.index[:, j]]] += 1
        expected = k0 * counts / len(rows)
        p[rows] = chi2.sf(((local - expected) ** 2 / expected).sum(axis=1), len(counts) - 1)
        scores[name or "all"] = float((p[rows] >= alpha).mean())
    support = tiles.support | {"classes_tested": scores, "alpha": alpha}
    if not scores:
        return undefined(f"No class has enough tiles in two {batch}s to be tested.", support, retention)
    return MetricResult(
        float(np.mean(list(scores.values()))),
        support,
        tiles.notes + minded + _skipped(skipped, batch),
        per_tile=tiles.spread(p),
        retention=retention,
    )


def batch_asw(
    table: AnnData,
    label: str | None = "label",
    batch: str = "site",
    group: Group = "slide",
    *,
    max_tiles: int = 10_000,
    seed: int = 0,
    beside: bool = True,
) -> MetricResult:
    """Mean over classes of ``mean(1 - |silhouette of the batch|)`` (Euclidean): 1 mixed, 0 apart.

    Parameters
    ----------
    table, label, batch, group
        As for :func:`kbet`.
    max_tiles : int
        Tiles of a class at most, drawn at random: all distances among them are needed.
    seed : int
    beside : bool
        Whether to measure ``retention`` too.

    Returns
    -------
    MetricResult
        ``per_tile``: one less the silhouette's absolute value; ``support["classes_tested"]``: the score of
        each class.

    Raises
    ------
    ProbeError
        A column is missing or empty.

    References
    ----------
    Luecken MD et al. Benchmarking atlas-level data integration in single-cell genomics. Nature Methods 19,
    2022 (scib).

    Examples
    --------
    >>> import anndata, pandas
    >>> x = np.random.default_rng(0).normal(size=(200, 3))
    >>> obs = pandas.DataFrame({"site": np.tile(["A", "B"], 100)}, index=[str(i) for i in range(200)])
    >>> batch_asw(anndata.AnnData(x, obs=obs), None, group=None).value > 0.9
    True
    """
    from sklearn.metrics import silhouette_samples

    tiles, retention, minded = _read(table, label, batch, group, beside)
    if reason := _no_batches(tiles):
        return undefined(reason, tiles.support, retention)
    rng = np.random.default_rng(seed)
    local = np.full(len(tiles.rows), np.nan)
    scores: dict[str, float] = {}
    skipped = []
    drawn = False
    for c, name in enumerate(tiles.labels):
        rows = np.flatnonzero(tiles.label == c)
        if len(rows) > max_tiles:
            rows, drawn = np.sort(rng.choice(rows, max_tiles, replace=False)), True
        batches = len(np.unique(tiles.batch[rows]))
        if batches < 2 or batches == len(rows):
            skipped.append(name)
            continue
        local[rows] = 1 - np.abs(silhouette_samples(tiles.x[rows], tiles.batch[rows]))
        scores[name or "all"] = float(local[rows].mean())
    support = tiles.support | {"classes_tested": scores, "scored": int(np.isfinite(local).sum())}
    if not scores:
        return undefined(f"No class occurs in two {batch}s.", support, retention)
    warnings = tiles.notes + minded + _skipped(skipped, batch)
    if drawn:
        warnings.append(f"At most {max_tiles:,} tiles a class were drawn.")
    return MetricResult(
        float(np.mean(list(scores.values()))),
        support,
        warnings,
        per_tile=tiles.spread(local),
        retention=retention,
    )


def graph_connectivity(
    table: AnnData, label: str = "label", group: Group = "slide", k: int = 15, *, device: str = "auto"
) -> MetricResult:
    """Mean over classes of the share of their tiles in the largest connected piece of the neighbour graph.

    Tiles are joined with their k nearest (Euclidean, the own slide included); of a class only the joins
    inside it count. 1: every class hangs together across batches.

    Parameters
    ----------
    table : anndata.AnnData
    label : str
        Column of the class.
    group : str, int array (n,) or None
        What ``retention`` holds together.
    k : int
        Neighbours each tile is joined with.
    device : str
        See :func:`napari_batchfx.probe.neighbours.nearest`.

    Returns
    -------
    MetricResult
        ``support["classes_tested"]``: the share of each class.

    Raises
    ------
    ProbeError
        The column is missing or empty, or k is too large.

    References
    ----------
    Luecken MD et al. 2022 (scib).

    Examples
    --------
    >>> import anndata, pandas
    >>> x = np.random.default_rng(0).normal(size=(60, 3)); x[:10] += 50
    >>> obs = pandas.DataFrame({"label": ["a"] * 60}, index=[str(i) for i in range(60)])
    >>> graph_connectivity(anndata.AnnData(x, obs=obs), group=None, k=5).value
    0.83
    """
    tiles = read_tiles(table, None, label, None, unit_length=False)
    retention, minded = retention_beside(table, label, group)
    wanted = [Wanted(k, np.ones((1, 1), dtype=bool))]
    (near,) = jobs.run(nearest_job(tiles.x, wanted, metric="euclidean", device=device))
    return connectivity_from(tiles, tiles.batch, tiles.batches, near, k, retention, minded)


def connectivity_from(
    tiles: Tiles,
    codes: NDArray[np.intp],
    names: list[str],
    near: Neighbours,
    k: int,
    retention: MetricResult | None,
    minded: list[str],
) -> MetricResult:
    """Graph connectivity from lists of Euclidean neighbours; ``codes`` (m,) are the classes."""
    from scipy.sparse import coo_array
    from scipy.sparse.csgraph import connected_components

    n = len(codes)
    start = np.repeat(np.arange(n), k)
    stop = near.index[:, :k].ravel()
    same = codes[start] == codes[stop]
    ones = np.ones(int(same.sum()), dtype=np.int8)
    graph = coo_array((ones, (start[same], stop[same])), shape=(n, n)).tocsr()
    _, piece = connected_components(graph, directed=False)
    scores: dict[str, float] = {}
    for c, name in enumerate(names):
        mine = piece[codes == c]
        scores[name] = float(np.bincount(mine).max() / len(mine))
    support: dict[str, Any] = tiles.support | {"k": k, "classes_tested": scores}
    return MetricResult(
        float(np.mean(list(scores.values()))), support, tiles.notes + minded, retention=retention
    )


def _read(
    table: AnnData, label: str | None, batch: str, group: Group, beside: bool
) -> tuple[Tiles, MetricResult | None, list[str]]:
    if label is not None and not has_values(table, label):
        label = None
    tiles = read_tiles(table, label, batch, None, unit_length=False)
    retention, minded = retention_beside(table, label, group) if beside else (None, [])
    return tiles, retention, minded


def _no_batches(tiles: Tiles) -> str:
    if len(tiles.batches) < 2:
        return tiles.trouble()
    if (tiles.x == tiles.x[0]).all():
        return "Every tile has the same features: the encoder sees nothing here."
    return ""


def _skipped(names: list[str], batch: str) -> list[str]:
    if not names:
        return []
    return [f"Left out, for they have too few tiles or only one {batch}: {', '.join(names)}."]
