"""Balanced accuracy, its interval over groups, and relabellings that respect the groups."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

__all__ = ["balance_weights", "balanced_accuracy", "bootstrap_interval", "permute_labels", "recalls"]


def balance_weights(y: NDArray[np.intp], slide: NDArray[np.intp]) -> NDArray[np.float64]:
    """Weights (n,), mean 1: every batch counts the same, and every slide the same within its batch.

    Examples
    --------
    >>> balance_weights(np.array([0, 0, 0, 1]), np.array([0, 0, 1, 2])).tolist()
    [0.5, 0.5, 1.0, 2.0]
    """
    _, cell = np.unique(np.column_stack([y, slide]), axis=0, return_inverse=True)
    cell = cell.ravel()
    tiles = np.bincount(cell)
    batch_of_cell = np.zeros(len(tiles), dtype=np.intp)
    batch_of_cell[cell] = y
    slides = np.bincount(batch_of_cell, minlength=int(y.max()) + 1)
    weight = 1.0 / (tiles[cell] * slides[y])
    return np.asarray(weight * len(y) / weight.sum())


def recalls(y: NDArray[np.intp], predicted: NDArray[np.intp], n_classes: int) -> NDArray[np.float64]:
    """Share of each class that is right (n_classes,); NaN for a class that does not occur."""
    total = np.bincount(y, minlength=n_classes).astype(float)
    right = np.bincount(y[y == predicted], minlength=n_classes)
    with np.errstate(invalid="ignore", divide="ignore"):
        return np.asarray(right / total)


def balanced_accuracy(y: NDArray[np.intp], predicted: NDArray[np.intp], n_classes: int) -> float:
    """Mean recall over the classes that occur."""
    return float(np.nanmean(recalls(y, predicted, n_classes)))


def bootstrap_interval(
    y: NDArray[np.intp],
    predicted: NDArray[np.intp],
    unit: NDArray[np.intp],
    n_classes: int,
    n_bootstrap: int = 1000,
    seed: int = 0,
    folds: int | None = None,
) -> NDArray[np.float64]:
    """95 % percentile interval (2,) of the balanced accuracy, drawing whole units with replacement.

    Units that hold the same classes are drawn among each other, so that no draw lacks a class. Where every
    draw gives the same value (all right or all wrong) the bootstrap says nothing; then the interval is
    Wilson's, with one observation a unit.

    With ``folds`` (of a cross-validation), the quantiles are those of the t distribution for this number of
    units (the expanded percentile interval of Hesterberg 2015, "What teachers should know about the
    bootstrap", The American Statistician 69, section 5.3), and the variance grows by the ratio of test to
    training units, 1 / (folds - 1): other units would have trained other classifiers (after Nadeau and Bengio
    2003, Machine Learning 52). The plain percentiles are too narrow for few units.
    """
    _, unit = np.unique(unit, return_inverse=True)
    n_units = int(unit.max()) + 1
    total = np.zeros((n_units, n_classes))
    right = np.zeros((n_units, n_classes))
    np.add.at(total, (unit, y), 1.0)
    hit = y == predicted
    np.add.at(right, (unit[hit], y[hit]), 1.0)
    _, stratum = np.unique(total > 0, axis=0, return_inverse=True)
    stratum = stratum.ravel()
    rng = np.random.default_rng(seed)
    draws_total = np.zeros((n_bootstrap, n_classes))
    draws_right = np.zeros((n_bootstrap, n_classes))
    for s in range(int(stratum.max()) + 1):
        members = np.flatnonzero(stratum == s)
        times = rng.multinomial(len(members), np.full(len(members), 1.0 / len(members)), size=n_bootstrap)
        draws_total += times @ total[members]
        draws_right += times @ right[members]
    present = total.sum(axis=0) > 0
    with np.errstate(invalid="ignore", divide="ignore"):
        values = np.nanmean((draws_right / draws_total)[:, present], axis=1)
    if n_bootstrap == 0 or np.ptp(values) < 1e-12:
        return _wilson(balanced_accuracy(y, predicted, n_classes), n_units)
    tail = 0.025 if folds is None else _tail(n_units, int(stratum.max()) + 1, folds)
    return np.asarray(np.quantile(values, [tail, 1.0 - tail]))


def _tail(n_units: int, n_strata: int, folds: int) -> float:
    """The share of draws to leave out at each end."""
    from scipy.stats import norm, t

    free = n_units - n_strata
    if free < 1:
        return 0.0
    wider = np.sqrt(n_units / free * folds / (folds - 1))
    return float(norm.cdf(-wider * t.ppf(0.975, free)))


def _wilson(p: float, n: int, z: float = 1.959964) -> NDArray[np.float64]:
    centre = (p + z * z / (2 * n)) / (1 + z * z / n)
    half = z * np.sqrt(p * (1 - p) / n + z * z / (4 * n * n)) / (1 + z * z / n)
    return np.array([max(0.0, min(p, centre - half)), min(1.0, max(p, centre + half))])


def permute_labels(
    y: NDArray[np.intp], unit: NDArray[np.intp], within: NDArray[np.intp], rng: np.random.Generator
) -> NDArray[np.intp]:
    """Labels (n,) relabelled a whole unit at a time.

    Units with one label exchange it with other units of the same ``within`` stratum. A unit with several
    labels (a patient scanned on each scanner) has its labels exchanged inside it.
    """
    out = y.copy()
    order = np.argsort(unit, kind="stable")
    starts = np.flatnonzero(np.r_[True, np.diff(unit[order]) != 0])
    members = np.split(order, starts[1:])
    plain: dict[int, list[NDArray[np.intp]]] = {}
    for rows in members:
        labels, inverse = np.unique(y[rows], return_inverse=True)
        if len(labels) > 1:
            out[rows] = rng.permutation(labels)[inverse]
        else:
            plain.setdefault(int(within[rows[0]]), []).append(rows)
    for units in plain.values():
        labels = np.array([y[rows[0]] for rows in units])
        for rows, label in zip(units, rng.permutation(labels), strict=True):
            out[rows] = label
    return out
