"""How many batches, or classes, there are around a tile: the local inverse Simpson's index."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

import numpy as np
from numpy.typing import NDArray

from napari_batchfx import jobs
from napari_batchfx.errors import ProbeError
from napari_batchfx.probe.metrics.result import MetricResult, undefined
from napari_batchfx.probe.metrics.retention import retention_beside
from napari_batchfx.probe.metrics.tiles import Group, Tiles, read_tiles
from napari_batchfx.probe.neighbours import Neighbours, Wanted, nearest_job

if TYPE_CHECKING:
    from anndata import AnnData

__all__ = ["clisi", "ilisi", "lisi", "lisi_from"]

Scaled = Literal["none", "mixing", "separation"]


def lisi(
    table: AnnData,
    key: str = "site",
    perplexity: float = 30,
    *,
    label: str | None = "label",
    group: Group = "slide",
    device: str = "auto",
) -> MetricResult:
    """Effective number of values of ``key`` around each tile, 1 to their number.

    ``LISI_i = 1 / sum_l (sum of P_ij over j of value l)^2`` with ``P_ij`` proportional to ``exp(-b_i d_ij)``
    over the ``3 perplexity - 1`` nearest tiles (Euclidean distance, not squared) and ``b_i`` such that the
    entropy of P is ``ln(perplexity)``.

    Parameters
    ----------
    table : anndata.AnnData
        ``X`` float32 (n, d).
    key : str
        Column whose values are counted: the batch (mixing is good) or the class (mixing is bad).
    perplexity : float
        Size of the neighbourhood.
    label, group : str
        Columns for ``retention``; neighbours of the own slide do count here, as in the original.
    device : str
        See :func:`napari_batchfx.probe.neighbours.nearest`.

    Returns
    -------
    MetricResult
        ``value``: median over tiles; ``per_tile`` (n,): the LISI of each. ``support["perfectly_mixed"]``:
        what tiles drawn at random would have; below the number of values where these are uneven.

    Raises
    ------
    ProbeError
        The column is missing or empty, or there are fewer than ``3 perplexity`` tiles.

    References
    ----------
    Korsunsky I et al. Fast, sensitive and accurate integration of single-cell data with Harmony. Nature
    Methods 16, 2019.

    Examples
    --------
    >>> import anndata, pandas
    >>> rng = np.random.default_rng(0); x = rng.normal(size=(200, 3)).astype("float32")
    >>> obs = pandas.DataFrame({"site": np.tile(["A", "B"], 100)}, index=[str(i) for i in range(200)])
    >>> lisi(anndata.AnnData(x, obs=obs), "site", group=None).value > 1.8
    True
    """
    return _measured(table, key, perplexity, label, group, device, "none")


def ilisi(
    table: AnnData,
    batch: str = "site",
    perplexity: float = 30,
    *,
    label: str | None = "label",
    group: Group = "slide",
    device: str = "auto",
) -> MetricResult:
    """Mixing of batches on a scale of 0 (each for itself) to 1: ``(median LISI - 1) / (batches - 1)``.

    As scib scales it (Luecken et al., Nature Methods 19, 2022). See :func:`lisi`.

    Examples
    --------
    >>> import anndata, pandas
    >>> x = np.r_[np.zeros((100, 2)), np.full((100, 2), 9)] + np.random.default_rng(0).normal(size=(200, 2))
    >>> obs = pandas.DataFrame({"site": np.repeat(["A", "B"], 100)}, index=[str(i) for i in range(200)])
    >>> ilisi(anndata.AnnData(x, obs=obs), group=None).value
    0.0
    """
    return _measured(table, batch, perplexity, label, group, device, "mixing")


def clisi(
    table: AnnData,
    label: str = "label",
    perplexity: float = 30,
    *,
    group: Group = "slide",
    device: str = "auto",
) -> MetricResult:
    """How well classes keep apart, 0 to 1: ``(classes - median LISI) / (classes - 1)``. See :func:`lisi`.

    Examples
    --------
    >>> import anndata, pandas
    >>> x = np.r_[np.zeros((100, 2)), np.full((100, 2), 9)] + np.random.default_rng(0).normal(size=(200, 2))
    >>> obs = pandas.DataFrame({"label": np.repeat(["A", "B"], 100)}, index=[str(i) for i in range(200)])
    >>> clisi(anndata.AnnData(x, obs=obs), group=None).value
    1.0
    """
    return _measured(table, label, perplexity, label, group, device, "separation")


def _measured(
    table: AnnData, key: str, perplexity: float, label: str | None, group: Group, device: str, scaled: Scaled
) -> MetricResult:
    tiles = read_tiles(table, None, key, None, unit_length=False)
    retention, minded = retention_beside(table, label, group)
    if reason := tiles.trouble():
        return undefined(reason, tiles.support, retention)
    k = neighbourhood(perplexity, len(tiles.rows))
    wanted = [Wanted(k, np.ones((1, 1), dtype=bool))]
    (near,) = jobs.run(nearest_job(tiles.x, wanted, metric="euclidean", device=device))
    return lisi_from(tiles, tiles.batch, near, perplexity, scaled, retention, minded)


def neighbourhood(perplexity: float, n: int) -> int:
    """How many neighbours a perplexity asks for, where there are n tiles."""
    if perplexity <= 1:
        raise ProbeError("The perplexity must be above 1; 30 is usual.")
    k = int(3 * perplexity) - 1
    if k >= n:
        raise ProbeError(
            f"A perplexity of {perplexity:g} needs {k + 1:,} tiles, and there are {n:,}; take a smaller one."
        )
    return k


def lisi_from(
    tiles: Tiles,
    codes: NDArray[np.intp],
    near: Neighbours,
    perplexity: float,
    scaled: Scaled,
    retention: MetricResult | None,
    minded: list[str],
) -> MetricResult:
    """The index from lists of Euclidean neighbours; ``codes`` (m,) are the values that are counted."""
    values = int(codes.max()) + 1
    k = neighbourhood(perplexity, len(codes))
    local = np.empty(len(codes))
    for i in range(0, len(codes), 8192):
        at = slice(i, i + 8192)
        p = _weights(near.distance[at, :k], perplexity)
        share = np.stack([(p * (codes[near.index[at, :k]] == c)).sum(axis=1) for c in range(values)])
        local[at] = 1 / (share**2).sum(axis=0)
    median = float(np.median(local))
    frequency = np.bincount(codes) / len(codes)
    support = tiles.support | {"perplexity": perplexity, "values": values, "median_lisi": median}
    support["perfectly_mixed"] = float(1 / (frequency**2).sum())
    warnings = tiles.notes + minded
    if scaled != "separation" and support["perfectly_mixed"] < 0.9 * values:
        warnings.append(
            f"The values are uneven: even tiles drawn at random would have {support['perfectly_mixed']:.2f} "
            f"of {values} around them."
        )
    value = {
        "none": median,
        "mixing": (median - 1) / (values - 1),
        "separation": (values - median) / (values - 1),
    }[scaled]
    return MetricResult(value, support, warnings, per_tile=tiles.spread(local), retention=retention)


def _weights(distance: NDArray[np.float64], perplexity: float) -> NDArray[np.float64]:
    """Weights (n, k) that sum to 1 with an entropy of ln(perplexity), by bisection of each row's scale."""
    target = np.log(perplexity)
    d = distance - distance[:, :1]  # a common factor of the weights
    spread = d.mean(axis=1)
    beta = np.where(spread > 0, 1 / np.where(spread > 0, spread, 1), 1.0)
    low, high = np.zeros(len(d)), np.full(len(d), np.inf)
    for _ in range(60):
        p = np.exp(-d * beta[:, None])
        total = p.sum(axis=1)
        entropy = np.log(total) + beta * (d * p).sum(axis=1) / total
        wide = entropy > target
        low, high = np.where(wide, beta, low), np.where(wide, high, beta)
        if (np.abs(entropy - target) < 1e-7).all():
            break
        # rows whose distances are all the same never get there; they stay even
        beta = np.where(spread > 0, np.where(np.isinf(high), 2 * beta, (low + high) / 2), beta)
    p = np.exp(-d * beta[:, None])
    return np.asarray(p / p.sum(axis=1, keepdims=True))
