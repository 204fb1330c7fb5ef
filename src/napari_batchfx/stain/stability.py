"""How much features and predictions move when the staining does: the numbers of the robustness protocol."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from napari_batchfx.errors import StainError

__all__ = ["MinMaxAuc", "PredictionSpread", "feature_spread", "min_max_auc", "prediction_spread"]

Floats = npt.NDArray[np.float64]
LEAST_OF_A_CLASS = 5


def feature_spread(features: npt.ArrayLike) -> Floats:
    """How far a tile's vector moves between staining conditions.

    Parameters
    ----------
    features : float (c, n, d)
        Vectors of the same n tiles under c conditions; the first is as scanned.

    Returns
    -------
    float64 (n,)
        Mean cosine distance (0..2) of the other conditions to the first; NaN where a vector is missing or
        zero.

    Raises
    ------
    StainError
        If there are fewer than two conditions, or the shape is another.

    Notes
    -----
    Cosine distance alone misleads: an encoder whose vectors are all alike has a small one. Compare it with
    the distance between different tiles (:func:`feature_spread` of shuffled tiles).

    Examples
    --------
    >>> feature_spread([[[1, 0]], [[0, 1]], [[1, 0]]]).tolist()
    [0.5]
    """
    stack = _stack(features, "features")
    length = np.linalg.norm(stack, axis=2, keepdims=True)
    with np.errstate(invalid="ignore", divide="ignore"):
        unit = np.where(length > 0, stack / length, np.nan)
    return np.asarray(np.mean(1.0 - (unit[1:] * unit[:1]).sum(axis=2), axis=0))


@dataclass(frozen=True, eq=False)
class PredictionSpread:
    """How much predictions move between staining conditions.

    Parameters
    ----------
    spread : float64 (n,)
        Largest less smallest probability of the class called as scanned.
    changed : float64 (n,)
        Share of the other conditions under which another class is called.
    called : int64 (n,)
        Number of the class called as scanned; -1 where there is no prediction.
    """

    spread: Floats
    changed: Floats
    called: npt.NDArray[np.int64]

    @property
    def n_changed(self) -> int:
        """Tiles that are called otherwise under at least one condition."""
        return int((self.changed > 0).sum())


def prediction_spread(proba: npt.ArrayLike) -> PredictionSpread:
    """Spread of a head's predictions over staining conditions.

    Parameters
    ----------
    proba : float (c, n, k)
        Probabilities of k classes for the same n tiles under c conditions; the first is as scanned.

    Returns
    -------
    PredictionSpread
        NaN for a tile that lacks a prediction under any condition.

    Raises
    ------
    StainError
        If there are fewer than two conditions, or the shape is another.

    Examples
    --------
    >>> found = prediction_spread([[[0.9, 0.1]], [[0.4, 0.6]]])
    >>> round(float(found.spread[0]), 2), found.n_changed
    (0.5, 1)
    """
    stack = _stack(proba, "probabilities")
    known = np.isfinite(stack).all(axis=(0, 2))
    filled = np.where(np.isfinite(stack), stack, -1.0)
    called = filled[0].argmax(axis=1)
    own = np.take_along_axis(stack, called[None, :, None], axis=2)[..., 0]
    changed = (filled[1:].argmax(axis=2) != called).mean(axis=0)
    with np.errstate(invalid="ignore"):
        spread = own.max(axis=0) - own.min(axis=0)
    return PredictionSpread(
        np.where(known, spread, np.nan),
        np.where(known, changed, np.nan),
        np.where(known, called, -1).astype(np.int64),
    )


@dataclass(frozen=True, eq=False)
class MinMaxAuc:
    """Robustness to staining: the largest less the smallest AUC over conditions; smaller is better.

    Parameters
    ----------
    value : float
        Largest less smallest.
    ci : (float, float)
        95 % bootstrap interval, resampling whole groups.
    auc : dict of str to float
        Of each condition.
    n, n_positive, n_groups : int
        Tiles, tiles of the positive class, and groups that were resampled.
    warnings : tuple of str
        What could mislead.
    """

    value: float
    ci: tuple[float, float]
    auc: dict[str, float]
    n: int
    n_positive: int
    n_groups: int
    warnings: tuple[str, ...] = ()

    def to_dict(self) -> dict[str, Any]:
        """Plain values for JSON."""
        return {
            "value": self.value,
            "ci": list(self.ci),
            "auc": self.auc,
            "n": self.n,
            "n_positive": self.n_positive,
            "n_groups": self.n_groups,
            "warnings": list(self.warnings),
        }


def min_max_auc(
    scores: npt.ArrayLike,
    positive: npt.ArrayLike,
    names: Sequence[str] | None = None,
    groups: npt.ArrayLike | None = None,
    *,
    n_bootstrap: int = 1000,
    seed: int = 0,
) -> MinMaxAuc:
    """The protocol's robustness: AUC under each staining condition, largest less smallest.

    Parameters
    ----------
    scores : float (c, n)
        Probability of the positive class for n tiles (or slides) under c conditions.
    positive : bool (n,)
        The truth.
    names : sequence of str, optional
        Of the conditions.
    groups : (n,), optional
        What belongs together when resampling (patients, slides); each row by itself otherwise.
    n_bootstrap : int
        Resamplings.
    seed : int
        Of the resampling.

    Returns
    -------
    MinMaxAuc

    Raises
    ------
    StainError
        If a class has fewer than five rows, a score is missing, or there are fewer than two conditions.

    References
    ----------
    Schönpflug et al., arXiv:2603.12886, 2026: max AUC - min AUC, 1,000 bootstrap rounds.

    Examples
    --------
    >>> truth = np.repeat([False, True], 10)
    >>> min_max_auc([truth * 1.0, np.zeros(20)], truth, ["as scanned", "pale"]).value
    0.5
    """
    values = np.asarray(scores, np.float64)
    truth = np.asarray(positive, bool)
    if values.ndim != 2 or values.shape[0] < 2 or values.shape[1] != len(truth):
        raise StainError("Scores are (conditions, tiles), at least two conditions and one column a tile.")
    if not np.isfinite(values).all():
        raise StainError("A score is missing; leave out tiles that have no prediction under every condition.")
    smallest = int(min(truth.sum(), (~truth).sum()))
    if smallest < LEAST_OF_A_CLASS:
        raise StainError(
            f"The AUC needs at least {LEAST_OF_A_CLASS} labelled tiles of each class; there are {smallest} "
            "of the rarer one."
        )
    named = [str(i) for i in range(len(values))] if names is None else [str(name) for name in names]
    found = np.array([_auc(row, truth) for row in values])
    codes = np.arange(len(truth)) if groups is None else np.unique(np.asarray(groups), return_inverse=True)[1]
    members = [np.flatnonzero(codes == code) for code in range(int(codes.max()) + 1)]
    rng = np.random.default_rng(seed)
    ranges = []
    for _ in range(n_bootstrap):
        rows = np.concatenate([members[i] for i in rng.integers(0, len(members), len(members))])
        if truth[rows].any() and not truth[rows].all():
            drawn = [_auc(row[rows], truth[rows]) for row in values]
            ranges.append(max(drawn) - min(drawn))
    low, high = np.percentile(ranges, [2.5, 97.5]) if ranges else (np.nan, np.nan)
    warnings = []
    if len(members) < 5:
        warnings.append(
            f"Only {len(members)} groups were resampled, so the interval is narrower than the uncertainty."
        )
    # A range can't be negative: where nothing moves, noise alone makes it larger than 0.
    if n_bootstrap and low > found.max() - found.min():
        warnings.append(
            "The interval lies above the value: with few tiles a range is overestimated by chance."
        )
    return MinMaxAuc(
        float(found.max() - found.min()),
        (float(low), float(high)),
        {name: float(value) for name, value in zip(named, found, strict=True)},
        len(truth),
        int(truth.sum()),
        len(members),
        tuple(warnings),
    )


def _auc(scores: Floats, truth: npt.NDArray[np.bool_]) -> float:
    """Area under the ROC curve by ranks; ties count half."""
    from scipy.stats import rankdata

    ranks, n = rankdata(scores), int(truth.sum())
    return float((ranks[truth].sum() - n * (n + 1) / 2) / (n * (len(truth) - n)))


def _stack(values: npt.ArrayLike, what: str) -> Floats:
    stack = np.asarray(values, np.float64)
    if stack.ndim != 3 or stack.shape[0] < 2:
        raise StainError(f"The {what} are (conditions, tiles, values), with at least two conditions.")
    return stack
