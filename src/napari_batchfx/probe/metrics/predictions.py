"""Predictions of the same specimens on several scanners: how far they scatter, and how well they agree."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import combinations
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from napari_batchfx.errors import ProbeError
from napari_batchfx.probe.metrics.result import MetricResult, undefined

__all__ = ["concordance", "prediction_cov"]

_LEAST_MEAN = 0.05  # below, a coefficient of variation explodes


def prediction_cov(
    predictions: ArrayLike,
    scanners: Sequence[str] | None = None,
    *,
    threshold: float = 0.5,
    truth: ArrayLike | None = None,
    ddof: int = 1,
) -> MetricResult:
    """Coefficient of variation of a prediction over scanners, the mean over specimens.

    ``CoV_i = sd_s(q_is) / max(|mean_s(q_is)|, 0.05)``.

    Parameters
    ----------
    predictions : float (n, scanners)
        Probabilities of the same n specimens; a specimen that lacks one (NaN) is left out.
    scanners : sequence of str, optional
        Names of the columns.
    threshold : float
        From which a probability counts as positive, for the agreement of labels.
    truth : bool (n,), optional
        Then ``support["auc_gap"]`` is the largest difference between the scanners' AUC.
    ddof : int
        1: standard deviation of a sample of scanners; 0: of these.

    Returns
    -------
    MetricResult
        ``per_tile`` (n,): the CoV of each specimen. ``support``: ``sd_ratio`` (mean deviation within a
        specimen over the deviation of all predictions), ``mean_difference`` over pairs of scanners and the
        ``worst_pair``, and ``agreement``: the share of specimens with the same label everywhere.

    Raises
    ------
    ProbeError
        The shape doesn't fit.

    Examples
    --------
    >>> prediction_cov([[0.5, 0.5], [0.9, 0.6]]).value
    0.14
    """
    values, names, lost = _read(predictions, scanners)
    support: dict[str, Any] = {"specimens": len(values), "scanners": len(names)}
    if len(values) < 1:
        return undefined("No specimen has a prediction on every scanner.", support)
    mean, sd = values.mean(axis=1), values.std(axis=1, ddof=ddof)
    cov = sd / np.maximum(np.abs(mean), _LEAST_MEAN)
    overall = float(values.std(ddof=ddof))
    apart = {
        f"{names[a]} and {names[b]}": float(np.abs(values[:, a] - values[:, b]).mean())
        for a, b in combinations(range(len(names)), 2)
    }
    worst = max(apart, key=lambda pair: apart[pair])
    support |= {
        "sd_ratio": float(sd.mean()) / overall if overall > 0 else float("nan"),
        "mean_difference": float(np.mean(list(apart.values()))),
        "worst_pair": worst,
        "worst_difference": apart[worst],
        "agreement": float(((values >= threshold).all(axis=1) | (values < threshold).all(axis=1)).mean()),
    }
    warnings = [lost] if lost else []
    small = int((np.abs(mean) < _LEAST_MEAN).sum())
    if small:
        warnings.append(
            f"{small} of {len(values)} specimens have a mean below {_LEAST_MEAN}, which was raised to it: "
            "there the coefficient says little; look at the ratio of deviations."
        )
    if overall == 0:
        warnings.append("Every prediction is the same: nothing varies, on any scanner.")
    complete = np.isfinite(np.asarray(predictions, dtype=float)).all(axis=1)
    if truth is not None:
        support |= _auc_gap(values, names, np.asarray(truth)[complete])
    per_tile = np.full(len(complete), np.nan)
    per_tile[complete] = cov
    return MetricResult(float(cov.mean()), support, warnings, _interval(cov), per_tile)


def concordance(predictions: ArrayLike, scanners: Sequence[str] | None = None) -> MetricResult:
    """Lin's concordance correlation over scanners: 1 where predictions are the same, not merely in order.

    ``CCC = 2 s_ab / (s_a^2 + s_b^2 + (mean_a - mean_b)^2)`` for every pair of scanners; the mean.

    Parameters
    ----------
    predictions : float (n, scanners)
        Of the same n specimens; a specimen that lacks one (NaN) is left out.
    scanners : sequence of str, optional
        Names of the columns.

    Returns
    -------
    MetricResult
        ``support["of_each"]``: of each pair of scanners; ``worst_pair``.

    Raises
    ------
    ProbeError
        The shape doesn't fit.

    References
    ----------
    Lin LI. A concordance correlation coefficient to evaluate reproducibility. Biometrics 45, 1989.

    Examples
    --------
    >>> concordance([[0.1, 0.1], [0.5, 0.5], [0.9, 0.9]]).value
    1.0
    """
    values, names, lost = _read(predictions, scanners)
    support: dict[str, Any] = {"specimens": len(values), "scanners": len(names)}
    if len(values) < 2:
        return undefined("Fewer than two specimens have a prediction on every scanner.", support)
    of_each: dict[str, float] = {}
    for a, b in combinations(range(len(names)), 2):
        x, y = values[:, a], values[:, b]
        below = x.var() + y.var() + (x.mean() - y.mean()) ** 2
        above = 2 * ((x - x.mean()) * (y - y.mean())).mean()
        of_each[f"{names[a]} and {names[b]}"] = float(above / below) if below > 0 else float("nan")
    support["of_each"] = of_each
    defined = {pair: value for pair, value in of_each.items() if np.isfinite(value)}
    if not defined:
        return undefined("Every prediction is the same: concordance needs specimens that differ.", support)
    support["worst_pair"] = min(defined, key=lambda pair: defined[pair])
    warnings = [lost] if lost else []
    if len(values) < 10:
        warnings.append(f"Only {len(values)} specimens: a concordance of so few is rough.")
    return MetricResult(float(np.mean(list(defined.values()))), support, warnings)


def _read(
    predictions: ArrayLike, scanners: Sequence[str] | None
) -> tuple[NDArray[np.float64], list[str], str]:
    values = np.asarray(predictions, dtype=float)
    if values.ndim != 2 or values.shape[1] < 2:
        raise ProbeError(
            f"Predictions have the shape {values.shape}; give a row a specimen and a column a scanner, "
            "two or more."
        )
    names = [str(i + 1) for i in range(values.shape[1])] if scanners is None else [str(s) for s in scanners]
    if len(names) != values.shape[1]:
        raise ProbeError(f"There are {values.shape[1]} scanners and {len(names)} names; give one for each.")
    complete = np.isfinite(values).all(axis=1)
    lost = int((~complete).sum())
    said = f"{lost} of {len(values)} specimens lack a prediction and were left out." if lost else ""
    return values[complete], names, said


def _auc_gap(values: NDArray[np.float64], names: list[str], truth: NDArray[Any]) -> dict[str, Any]:
    from sklearn.metrics import roc_auc_score

    if len(np.unique(truth)) < 2:
        return {}
    auc = {name: float(roc_auc_score(truth, values[:, s])) for s, name in enumerate(names)}
    return {"auc": auc, "auc_gap": max(auc.values()) - min(auc.values())}


def _interval(values: NDArray[np.float64]) -> tuple[float, float] | None:
    if len(values) < 2:
        return None
    half = 1.959964 * float(values.std(ddof=1)) / len(values) ** 0.5
    return float(values.mean()) - half, float(values.mean()) + half
