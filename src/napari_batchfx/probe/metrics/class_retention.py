"""Whether the biology is still there: a nearest-neighbour classifier of the class."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from napari_batchfx.probe.columns import category_codes, feature_matrix
from napari_batchfx.probe.metrics.result import MetricResult
from napari_batchfx.probe.neighbours import nearest
from napari_batchfx.probe.statistics import bootstrap_interval, recalls

if TYPE_CHECKING:
    from anndata import AnnData

__all__ = ["class_retention"]


def class_retention(
    table: AnnData,
    label: str = "label",
    group: str | NDArray[np.intp] = "patient",
    k: int = 5,
    *,
    max_queries: int = 5_000,
    n_bootstrap: int = 1000,
    seed: int = 0,
) -> MetricResult:
    """Balanced accuracy of a k-nearest-neighbour vote for the class; the tile's own group doesn't vote.

    Compare it before and after a correction: a fall is biology lost.

    Parameters
    ----------
    table : anndata.AnnData
        ``X`` (n, d); features are scaled to unit variance first, so that the unit of a feature doesn't
        matter.
    label : str
        Column of the class; tiles without one don't take part.
    group : str or int array (n,)
        Column of what belongs together ("patient", "slide"), or codes of your own (spatial blocks).
    k : int
        Neighbours that vote; a tie goes to the class of the nearest among the tied.
    max_queries : int
        Tiles that are classified at most, drawn at random; every tile can be a neighbour.

    Returns
    -------
    MetricResult
        ``support``: tiles, groups, classes, chance, recall of each class and ``ci`` (95 %, bootstrap over
        groups).

    References
    ----------
    The biological kNN of PathoROB (arXiv:2507.17845, section "Robustness index"), with the own group removed
    from the neighbours.

    Examples
    --------
    >>> import anndata, numpy, pandas
    >>> rng = numpy.random.default_rng(0); y = numpy.tile([0, 1], 40)
    >>> x = rng.normal(size=(80, 4)).astype("float32"); x[:, 0] += 5 * y
    >>> obs = pandas.DataFrame({"label": y.astype(str), "patient": (numpy.arange(80) // 20).astype(str)})
    >>> obs.index = obs.index.astype(str)
    >>> class_retention(anndata.AnnData(x, obs=obs)).value > 0.9
    True
    """
    codes, names = category_codes(table, label)
    if isinstance(group, str):
        group_codes, _ = category_codes(table, group)
        group_name = group
    else:
        group_codes, group_name = np.asarray(group, dtype=np.intp), "group"
    x = feature_matrix(table)
    rows = np.flatnonzero((codes >= 0) & (group_codes >= 0) & np.isfinite(x).all(axis=1))
    present = np.unique(codes[rows])
    groups = np.unique(group_codes[rows])
    support = {
        "tiles": len(rows),
        "groups": len(groups),
        "classes": len(present),
        "k": k,
        "grouped_by": group_name,
    }
    if len(present) < 2 or len(groups) < 2:
        what = "classes" if len(present) < 2 else f"{group_name}s"
        return MetricResult(
            float("nan"), support, [f"Fewer than two {what} have labelled tiles: nothing to compare."]
        )
    y = np.searchsorted(present, codes[rows])
    unit = np.searchsorted(groups, group_codes[rows])
    x = x[rows]
    sd = x.std(axis=0, dtype=np.float64)
    # beyond float32's own steps a deviation is rounding, not signal
    scale = np.where(sd > 1e-6 * np.maximum(1e-12, np.abs(x).max(axis=0)), sd, np.inf)
    x = np.asarray((x - x.mean(axis=0, dtype=np.float64).astype(np.float32)) / scale.astype(np.float32))

    rng = np.random.default_rng(seed)
    queries = np.arange(len(rows))
    if len(queries) > max_queries:
        queries = np.sort(rng.choice(len(rows), max_queries, replace=False))
    predicted = _vote(x, y, unit, queries, k, len(present))
    voted = predicted >= 0
    truth = y[queries][voted]
    predicted = predicted[voted]
    r = recalls(truth, predicted, len(present))
    support["queries"] = int(voted.sum())
    support["chance"] = 1.0 / len(present)
    support["recall"] = {names[c]: float(v) for c, v in zip(present, r, strict=True)}
    ci = bootstrap_interval(truth, predicted, unit[queries][voted], len(present), n_bootstrap, seed)
    support["ci"] = ci.tolist()
    interval = (float(ci[0]), float(ci[1])) if n_bootstrap else None
    return MetricResult(float(np.nanmean(r)), support, interval=interval)


def _vote(
    x: NDArray[np.float32],
    y: NDArray[np.intp],
    unit: NDArray[np.intp],
    queries: NDArray[np.intp],
    k: int,
    n_classes: int,
) -> NDArray[np.intp]:
    near = nearest(x, min(k, len(x) - 1), group=unit, metric="euclidean", queries=queries, device="cpu")
    votes = np.zeros((len(queries), n_classes))
    # the nearer of two neighbours breaks a tie: 1 + a bonus that can't outvote a neighbour
    bonus = 1.0 + 1e-3 * (near.k - np.arange(near.k)) / near.k
    for j in range(near.k):
        index = near.index[:, j]
        votes[np.arange(len(queries)), y[index]] += np.where(index >= 0, bonus[j], 0.0)
    return np.where(near.index[:, 0] >= 0, votes.argmax(axis=1), -1)
