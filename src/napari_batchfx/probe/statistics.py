"""Balanced accuracy, its interval over groups, and relabellings that respect the groups."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

__all__ = [
    "balance_weights",
    "balanced_accuracy",
    "bootstrap_interval",
    "paired_interval",
    "permute_labels",
    "recalls",
    "wilson_interval",
]


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
    """95 % interval (2,) of the balanced accuracy, from drawing whole units with replacement.

    Units that hold the same classes are drawn among each other, so that no draw lacks a class. The variance
    of the draws, corrected for the number of units (n over n less the kinds of units), says how many
    independent tiles would be as uncertain, and the interval is Wilson's with that many and the quantile of
    the t distribution (Korn and Graubard 1998, "Confidence intervals for proportions with small expected
    number of positive counts estimated from survey data", Survey Methodology 24; Franco et al. 2019, Journal
    of Survey Statistics and Methodology 7). Percentiles of the draws are far too narrow for few units: of
    two, they can't leave the range of the two. Where every draw gives the same value (all right or all
    wrong) the bootstrap says nothing; then the interval is Wilson's with one observation a unit.

    With ``folds`` (of a cross-validation) the variance grows by the ratio of test to training units,
    1 / (folds - 1): other units would have trained other classifiers (after Nadeau and Bengio 2003, Machine
    Learning 52).

    Examples
    --------
    >>> y, unit = np.repeat([0, 1], 20), np.arange(40) // 5
    >>> predicted = np.where(np.arange(40) % 5 == 0, 1 - y, y)
    >>> predicted[:5] = 0
    >>> bootstrap_interval(y, predicted, unit, 2).round(2).tolist()
    [0.64, 0.93]
    """
    drawn = _draws(y, (predicted,), unit, n_classes, n_bootstrap, seed)
    value = balanced_accuracy(y, predicted, n_classes)
    variance = float(drawn.values[0].var()) if n_bootstrap else 0.0
    variance *= drawn.inflation(folds)
    return wilson_interval(value, variance, drawn.free, drawn.units, most=float(len(y)))


def paired_interval(
    y: NDArray[np.intp],
    before: NDArray[np.intp],
    after: NDArray[np.intp],
    unit: NDArray[np.intp],
    n_classes: int,
    n_bootstrap: int = 1000,
    seed: int = 0,
    folds: int | None = None,
) -> NDArray[np.float64]:
    """95 % interval (2,) of the change in balanced accuracy from one prediction to another of the same tiles.

    As :func:`bootstrap_interval`, with both predictions taken on the same draws, so that what they share
    cancels; Wilson's on the scale from -1 to 1, and at least as wide as if every tile were a unit. Where
    nothing changed in any unit, as much may change as a share that was never seen in so many units.

    Parameters
    ----------
    y, before, after : int (n,)
        True and predicted classes, 0 .. n_classes - 1.
    unit : int (n,)
        What was held out together.
    n_classes, n_bootstrap, seed, folds
        As there.

    Examples
    --------
    >>> y, unit = np.repeat([0, 1], 20), np.arange(40) // 5
    >>> after = np.where(np.arange(40) % 5 < 1 + np.arange(40) // 5 % 2, 1 - y, y)
    >>> paired_interval(y, y, after, unit, 2).round(2).tolist()
    [-0.46, -0.12]
    """
    drawn = _draws(y, (before, after), unit, n_classes, n_bootstrap, seed)
    change = balanced_accuracy(y, after, n_classes) - balanced_accuracy(y, before, n_classes)
    variance = float((drawn.values[1] - drawn.values[0]).var()) if n_bootstrap else 0.0
    variance = max(variance * drawn.inflation(folds), _independent(y, before, after, n_classes))
    if variance < 1e-24 or drawn.free < 1:
        unseen = 1.0 - float(wilson_interval(1.0, 0.0, drawn.free, drawn.units)[0])
        return np.array([max(-1.0, change - unseen), min(1.0, change + unseen)])
    share = wilson_interval((change + 1) / 2, variance / 4, drawn.free, drawn.units)
    return np.asarray(2 * share - 1)


def _independent(
    y: NDArray[np.intp], before: NDArray[np.intp], after: NDArray[np.intp], n_classes: int
) -> float:
    """Variance that the change would have if every tile were a unit."""
    change = (after == y).astype(float) - (before == y)
    spread = [change[y == k].var() / (y == k).sum() for k in range(n_classes) if (y == k).any()]
    return float(np.sum(spread)) / len(spread) ** 2


@dataclass(frozen=True)
class _Draws:
    """Balanced accuracies (predictions, draws) on draws of whole units, and how many units there are."""

    values: NDArray[np.float64]
    units: int
    free: int

    def inflation(self, folds: int | None) -> float:
        """What the variance of the draws has to be multiplied with."""
        return self.units / max(self.free, 1) * (1.0 if folds is None else folds / (folds - 1))


def _draws(
    y: NDArray[np.intp],
    predictions: tuple[NDArray[np.intp], ...],
    unit: NDArray[np.intp],
    n_classes: int,
    n_bootstrap: int,
    seed: int,
) -> _Draws:
    """Draw units with replacement, those that hold the same classes among each other; the same for all."""
    _, unit = np.unique(unit, return_inverse=True)
    n_units = int(unit.max()) + 1
    total = np.zeros((n_units, n_classes))
    np.add.at(total, (unit, y), 1.0)
    right = np.zeros((len(predictions), n_units, n_classes))
    for counts, predicted in zip(right, predictions, strict=True):
        hit = y == predicted
        np.add.at(counts, (unit[hit], y[hit]), 1.0)
    _, stratum = np.unique(total > 0, axis=0, return_inverse=True)
    stratum = stratum.ravel()
    rng = np.random.default_rng(seed)
    draws_total = np.zeros((n_bootstrap, n_classes))
    draws_right = np.zeros((len(predictions), n_bootstrap, n_classes))
    for s in range(int(stratum.max()) + 1):
        members = np.flatnonzero(stratum == s)
        times = rng.multinomial(len(members), np.full(len(members), 1.0 / len(members)), size=n_bootstrap)
        draws_total += times @ total[members]
        draws_right += times @ right[:, members]
    present = total.sum(axis=0) > 0
    with np.errstate(invalid="ignore", divide="ignore"):
        values = np.nanmean((draws_right / draws_total)[:, :, present], axis=2)
    return _Draws(np.asarray(values), n_units, n_units - (int(stratum.max()) + 1))


def wilson_interval(
    p: float, variance: float, free: int, units: int, most: float = float("inf")
) -> NDArray[np.float64]:
    """95 % interval (2,) of a share from its variance, with ``free`` degrees of freedom.

    Wilson's, with the number of observations that would be as uncertain (``p (1 - p) / variance``, ``most``
    at most) and the quantile of the t distribution; with one observation a unit where nothing varies.

    Examples
    --------
    >>> wilson_interval(0.5, 0.01, 1000, 50).round(2).tolist()
    [0.32, 0.68]
    >>> wilson_interval(1.0, 0.0, 8, 10).round(2).tolist()
    [0.72, 1.0]
    """
    from scipy.stats import t

    if free < 1 or variance < 1e-24:
        n, z = float(units), 1.959964
    else:
        n, z = min(p * (1.0 - p) / variance, most), float(t.ppf(0.975, free))
    if n <= 0:
        return np.array([0.0, 1.0])
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
