"""How much of the variance of features goes with the batch: principal component regression."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from napari_batchfx.errors import ProbeError
from napari_batchfx.probe.metrics.result import MetricResult, undefined
from napari_batchfx.probe.metrics.retention import retention_beside
from napari_batchfx.probe.metrics.tiles import Group, read_tiles

if TYPE_CHECKING:
    from anndata import AnnData

__all__ = ["pcr", "pcr_comparison"]


def pcr(
    table: AnnData,
    batch: str = "site",
    n_components: int = 50,
    *,
    label: str | None = "label",
    group: Group = "slide",
    beside: bool = True,
) -> MetricResult:
    """Share of the variance of the leading principal components that the batch explains, 0 to 1.

    ``PCR = sum_l var_l R2_l / sum_l var_l``, with ``R2_l`` of a linear regression of component l on the
    batch: the variance between batch means over all of it.

    Parameters
    ----------
    table : anndata.AnnData
        ``X`` float32 (n, d).
    batch : str
        Column of the batch.
    n_components : int
        Components, the strongest first; no more than there are features.
    label, group : str
        Columns for ``retention``.
    beside : bool
        Whether to measure ``retention`` too.

    Returns
    -------
    MetricResult
        ``support["r2"]`` and ``support["variance_share"]``: of each component.

    Raises
    ------
    ProbeError
        The column is missing or empty, or ``n_components`` is below 1.

    References
    ----------
    Büttner M et al., Nature Methods 16, 2019; scib (Luecken et al. 2022).

    Examples
    --------
    >>> import anndata, pandas
    >>> x = np.random.default_rng(0).normal(size=(100, 3)); x[50:, 0] += 100
    >>> obs = pandas.DataFrame({"site": np.repeat(["A", "B"], 50)}, index=[str(i) for i in range(100)])
    >>> pcr(anndata.AnnData(x, obs=obs), n_components=1, group=None).value
    1.00
    """
    if n_components < 1:
        raise ProbeError("At least 1 component is needed.")
    tiles = read_tiles(table, None, batch, None, unit_length=False)
    retention, minded = retention_beside(table, label, group) if beside else (None, [])
    if reason := tiles.trouble():
        return undefined(reason, tiles.support, retention)
    between, total = _variances(tiles.x, tiles.batch, n_components)
    used = total > total[0] * 1e-12
    between, total = between[used], total[used]
    r2 = between / total
    support = tiles.support | {"components": len(total), "r2": r2.tolist()}
    support["variance_share"] = (total / total.sum()).tolist()
    return MetricResult(
        float(between.sum() / total.sum()), support, tiles.notes + minded, retention=retention
    )


def pcr_comparison(
    before: AnnData,
    after: AnnData,
    batch: str = "site",
    n_components: int = 50,
    *,
    label: str | None = "label",
    group: Group = "slide",
) -> MetricResult:
    """Share of the batch's variance that a correction removed: ``(before - after) / before``, not below 0.

    Parameters
    ----------
    before, after : anndata.AnnData
        The same tiles before and after a correction. Others as for :func:`pcr`.

    Returns
    -------
    MetricResult
        ``retention`` is that of ``after``; ``support`` has both PCR and both retentions.

    Raises
    ------
    ProbeError
        The tables have different tiles, or the column is missing.

    Examples
    --------
    >>> import anndata, pandas
    >>> x = np.random.default_rng(0).normal(size=(100, 3)); y = x.copy(); x[50:, 0] += 100
    >>> obs = pandas.DataFrame({"site": np.repeat(["A", "B"], 50)}, index=[str(i) for i in range(100)])
    >>> pcr_comparison(anndata.AnnData(x, obs=obs), anndata.AnnData(y, obs=obs), group=None).value > 0.9
    True
    """
    if before.n_obs != after.n_obs:
        raise ProbeError(
            f"Before there are {before.n_obs:,} tiles and after {after.n_obs:,}; give the same tiles."
        )
    first = pcr(before, batch, n_components, label=label, group=group)
    second = pcr(after, batch, n_components, label=label, group=group)
    support = {key: value for key, value in first.support.items() if key not in ("r2", "variance_share")}
    support |= {"before": first.value, "after": second.value}
    for when, one in (("before", first), ("after", second)):
        if one.retention is not None:
            support[f"retention_{when}"] = one.retention.value
    if np.isnan(first.value) or np.isnan(second.value) or first.value <= 0:
        reason = first.reason or second.reason or f"The {batch} explained nothing before."
        return undefined(reason, support, second.retention)
    warnings = list(second.warnings)
    if second.value > first.value:
        warnings.append(
            f"The {batch} explains more after ({second.value:.3f}) than before ({first.value:.3f})."
        )
    if first.retention and second.retention and first.retention.value - second.retention.value > 0.01:
        warnings.append(
            f"It costs biology: the vote for the class falls from {first.retention.value:.3f} to "
            f"{second.retention.value:.3f}."
        )
    value = max(0.0, (first.value - second.value) / first.value)
    return MetricResult(value, support, warnings, retention=second.retention)


def _variances(
    x: NDArray[np.float32], batch: NDArray[np.intp], n_components: int
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Variance between batches and in all of each leading component.

    The components are eigenvectors of the covariance (d, d), so that no matrix (n, n) is needed.
    """
    n, d = x.shape
    mean = x.mean(axis=0, dtype=np.float64)
    total = np.zeros((d, d))
    sums = np.zeros((int(batch.max()) + 1, d))
    for i in range(0, n, 8192):
        part = x[i : i + 8192].astype(np.float64) - mean
        total += part.T @ part
        np.add.at(sums, batch[i : i + 8192], part)
    counts = np.bincount(batch)
    means = sums / counts[:, None]
    values, vectors = np.linalg.eigh(total / n)
    lead = np.argsort(values)[::-1][: min(n_components, n, d)]
    along = means @ vectors[:, lead]
    between = (counts[:, None] / n * along**2).sum(axis=0)
    return between, values[lead]
