"""Intervals from drawing whole slides or patients: tiles of one slide are not independent."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

__all__ = ["draw_groups", "median_interval", "ratio_interval"]


def draw_groups(
    group: NDArray[np.intp], batch: NDArray[np.intp], n_bootstrap: int, seed: int
) -> NDArray[np.intp]:
    """How often each group is drawn (n_bootstrap, groups), among the groups of the same batches."""
    present = np.zeros((int(group.max()) + 1, int(batch.max()) + 1), dtype=bool)
    present[group, batch] = True
    stratum = np.unique(present, axis=0, return_inverse=True)[1].ravel()
    rng = np.random.default_rng(seed)
    times = np.zeros((n_bootstrap, len(present)), dtype=np.intp)
    for s in range(int(stratum.max()) + 1):
        members = np.flatnonzero(stratum == s)
        times[:, members] = rng.multinomial(
            len(members), np.full(len(members), 1 / len(members)), size=n_bootstrap
        )
    return times


def ratio_interval(
    part: NDArray[np.floating],
    whole: NDArray[np.floating],
    group: NDArray[np.intp],
    batch: NDArray[np.intp],
    n_bootstrap: int,
    seed: int,
) -> tuple[float, float] | None:
    """95 % percentile interval of ``sum(part) / sum(whole)`` over draws of groups.

    Where every draw gives the same (all or nothing) it is Wilson's, with one observation a group.
    """
    if n_bootstrap < 1 or whole.sum() <= 0:
        return None
    groups = int(group.max()) + 1
    top = np.bincount(group, part, groups)
    bottom = np.bincount(group, whole, groups)
    times = draw_groups(group, batch, n_bootstrap, seed)
    with np.errstate(invalid="ignore", divide="ignore"):
        values = (times @ top) / (times @ bottom)
    values = values[np.isfinite(values)]
    if len(values) and np.ptp(values) > 1e-12:
        low, high = np.quantile(values, [0.025, 0.975])
        return float(low), float(high)
    return _wilson(float(top.sum() / bottom.sum()), int((bottom > 0).sum()))


def _wilson(p: float, n: int, z: float = 1.959964) -> tuple[float, float]:
    centre = (p + z * z / (2 * n)) / (1 + z * z / n)
    half = z * float(np.sqrt(p * (1 - p) / n + z * z / (4 * n * n))) / (1 + z * z / n)
    return max(0.0, min(p, centre - half)), min(1.0, max(p, centre + half))


def median_interval(
    values: NDArray[np.floating],
    group: NDArray[np.intp],
    batch: NDArray[np.intp],
    n_bootstrap: int,
    seed: int,
) -> tuple[float, float] | None:
    """95 % percentile interval of the median over draws of groups; NaN values don't count."""
    there = np.isfinite(values)
    if n_bootstrap < 1 or not there.any():
        return None
    times = draw_groups(group, batch, n_bootstrap, seed)
    order = np.flatnonzero(there)[np.argsort(values[there], kind="stable")]
    ordered, of = values[order], group[order]
    medians = np.full(n_bootstrap, np.nan)
    for i, weight in enumerate(times):
        total = np.cumsum(weight[of])
        if total[-1]:
            # the two middle ones of the drawn tiles, as for any median
            a, b = np.searchsorted(total, [(total[-1] - 1) // 2 + 1, total[-1] // 2 + 1])
            medians[i] = (ordered[a] + ordered[b]) / 2
    low, high = np.nanquantile(medians, [0.025, 0.975])
    return float(low), float(high)
