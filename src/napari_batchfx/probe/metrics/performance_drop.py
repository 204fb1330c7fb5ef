"""PathoROB's average performance drop: what an association of class and batch in training costs."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from napari_batchfx.errors import ProbeError
from napari_batchfx.probe.metrics.result import MetricResult, undefined

__all__ = ["average_performance_drop", "performance_drops"]


def performance_drops(accuracies: ArrayLike) -> NDArray[np.float64]:
    """Relative loss of each repeat (repeats,): mean over the associated splits of acc_s / acc_0, minus 1.

    Parameters
    ----------
    accuracies : float (repeats, splits)
        Balanced accuracies; the first split has no association.

    Raises
    ------
    ProbeError
        If there are fewer than two splits, or an accuracy is not above 0 in the first split, or not finite.

    Examples
    --------
    >>> performance_drops([[0.8, 0.6, 0.4]]).round(3).tolist()
    [-0.375]
    """
    try:
        values = np.asarray(accuracies, dtype=float)
    except ValueError as error:
        raise ProbeError(
            "Accuracies must be a table of numbers: a row a repeat, a column a split."
        ) from error
    if values.ndim != 2 or values.shape[0] < 1 or values.shape[1] < 2:
        raise ProbeError(
            f"Accuracies have the shape {values.shape}; give (repeats, splits), the first split without "
            "association, and at least one more."
        )
    if not np.isfinite(values).all():
        raise ProbeError("Some accuracies are missing; leave those repeats out.")
    if (values[:, 0] <= 0).any():
        raise ProbeError("An accuracy of the first split is 0: there is nothing to lose from.")
    return np.asarray(values[:, 1:].mean(axis=1) / values[:, 0] - 1)


def average_performance_drop(accuracies: ArrayLike | Sequence[ArrayLike]) -> MetricResult:
    """Mean relative change of accuracy as class and batch become associated in training; negative: a loss.

    ``APD_r = mean_s(acc_s,r / acc_0,r) - 1`` for each repeat r, and APD their mean.

    Parameters
    ----------
    accuracies : float (repeats, splits), or a sequence of such
        Balanced accuracies on one test set, the first split without association; several data sets are
        given as a sequence, all with as many repeats (their splits may differ).

    Returns
    -------
    MetricResult
        ``interval``: 95 %, over repeats, with the differences between data sets taken out.

    Raises
    ------
    ProbeError
        If the shapes don't fit, or an accuracy of the first split is 0.

    Notes
    -----
    The interval is PathoROB's: each value less the mean of its data set plus the grand mean (Loftus and
    Masson 1994), then ``t(0.975, n) sd / sqrt(n)`` with n degrees of freedom (not n - 1) for n values. It
    speaks of the repeats, not of other slides.

    References
    ----------
    "Towards robust foundation models for digital pathology" (PathoROB), arXiv:2507.17845. Loftus GR, Masson
    MEJ. Using confidence intervals in within-subject designs. Psychon Bull Rev 1, 1994.

    Examples
    --------
    >>> average_performance_drop([[0.8, 0.8, 0.6], [1.0, 1.0, 0.9]]).value
    -0.0875
    """
    from scipy.stats import t

    sets = _sets(accuracies)
    drops = [performance_drops(one) for one in sets]
    if len({len(one) for one in drops}) > 1:
        raise ProbeError(
            f"The data sets have {', '.join(str(len(one)) for one in drops)} repeats; give as many of each."
        )
    values = np.stack(drops)
    support: dict[str, Any] = {"data_sets": len(sets), "repeats": values.shape[1]}
    support["splits"] = [int(np.shape(one)[1]) for one in sets]
    support["of_each"] = values.mean(axis=1).tolist()
    support["unassociated_accuracy"] = [float(np.asarray(one, dtype=float)[:, 0].mean()) for one in sets]
    grand = float(values.mean())
    n = values.size
    warnings = []
    interval = None
    if values.shape[1] > 1:
        centred = values - values.mean(axis=1, keepdims=True) + grand
        half = float(t.ppf(0.975, df=n) * centred.std(ddof=1) / np.sqrt(n))
        interval = (grand - half, grand + half)
        support["interval"] = "95 %, over repeats (Masson and Loftus), as published"
    else:
        warnings.append("One repeat has no interval; repeat with slides drawn anew.")
    if not np.isfinite(grand):
        return undefined("Some accuracies are missing.", support)
    return MetricResult(grand, support, warnings, interval)


def _sets(accuracies: Any) -> list[Any]:
    """One table, or several."""
    if isinstance(accuracies, np.ndarray):
        return list(accuracies) if accuracies.ndim == 3 else [accuracies]
    several = [np.ndim(one) == 2 for one in accuracies]
    return list(accuracies) if several and all(several) else [accuracies]
