"""Predictions before and after a correction, side by side."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt
from numpy.typing import NDArray

from napari_batchfx.adapt.head import Prediction
from napari_batchfx.adapt.intervals import change_interval, draw_units, share_interval
from napari_batchfx.errors import AdaptError

__all__ = ["Comparison", "Estimate", "compare_predictions"]


@dataclass(frozen=True)
class Estimate:
    """A number with its 95 % interval."""

    value: float
    ci: tuple[float, float]

    def __str__(self) -> str:
        return f"{self.value:.2f} ({self.ci[0]:.2f}-{self.ci[1]:.2f})"


@dataclass(frozen=True)
class Comparison:
    """What a correction did to predictions.

    Attributes
    ----------
    n, n_changed : int
        Tiles predicted both times, and those whose class changed.
    changes : list of dict
        ``{"from", "to", "n"}``, most frequent first.
    n_truth, n_groups : int
        Tiles with a known class that the accuracy rests on, and the groups they come from.
    balanced_accuracy_before, balanced_accuracy_after, balanced_accuracy_difference : Estimate or None
    macro_f1_before, macro_f1_after, macro_f1_difference : Estimate or None
        95 % intervals over whole groups, wider where there are few (:mod:`napari_batchfx.adapt.intervals`);
        the difference is paired. ``None`` without truth.
    recall_before, recall_after : dict
        Share of each class that is right.
    auc_before, auc_after : float or None
        Area under the ROC curve, each class against the others, mean over the classes.
    ece_before, ece_after : float or None
        Expected calibration error, every class with the same weight: 0.1 means that stated probabilities are
        off by 10 points on average. None of these numbers moves if one class is more frequent elsewhere.
    inside_before, inside_after : Estimate or None
        Balanced accuracy on the slides it learns from, on tiles held out by patient, slide or place.
    warnings : list of str
    """

    n: int
    n_changed: int
    changes: list[dict[str, Any]]
    n_truth: int = 0
    n_groups: int = 0
    balanced_accuracy_before: Estimate | None = None
    balanced_accuracy_after: Estimate | None = None
    balanced_accuracy_difference: Estimate | None = None
    macro_f1_before: Estimate | None = None
    macro_f1_after: Estimate | None = None
    macro_f1_difference: Estimate | None = None
    recall_before: dict[str, float] = field(default_factory=dict)
    recall_after: dict[str, float] = field(default_factory=dict)
    auc_before: float | None = None
    auc_after: float | None = None
    ece_before: float | None = None
    ece_after: float | None = None
    inside_before: Estimate | None = None
    inside_after: Estimate | None = None
    warnings: list[str] = field(default_factory=list)

    @property
    def sentence(self) -> str:
        """How many tiles changed, and from what to what."""
        text = f"{self.n_changed:,} of {self.n:,} tiles changed"
        if self.changes:
            parts = [f"{c['n']:,} {c['from']} -> {c['to']}" for c in self.changes[:4]]
            rest = sum(c["n"] for c in self.changes[4:])
            if rest:
                parts.append(f"{rest:,} otherwise")
            text += ": " + ", ".join(parts)
        text += "."
        if self.balanced_accuracy_before is not None and self.balanced_accuracy_after is not None:
            text += (
                f" Balanced accuracy {self.balanced_accuracy_before} before, "
                f"{self.balanced_accuracy_after} after, "
                f"on {self.n_truth:,} tiles whose class is known."
            )
        return text

    def to_dict(self) -> dict[str, Any]:
        """Plain values for JSON."""
        out = asdict(self)
        for name, value in out.items():
            if isinstance(value, dict) and "ci" in value:
                value["ci"] = [float(v) for v in value["ci"]]
                out[name] = value
        return {**out, "sentence": self.sentence}


def compare_predictions(
    before: Prediction,
    after: Prediction,
    truth: npt.ArrayLike | None = None,
    groups: npt.ArrayLike | None = None,
    *,
    n_bootstrap: int = 1000,
    seed: int = 0,
) -> Comparison:
    """Compare two predictions of the same tiles.

    Parameters
    ----------
    before, after : Prediction
        Of the same n tiles; only tiles predicted both times count.
    truth : array (n,), optional
        Class names; missing ones ("" or None) are left out.
    groups : array (n,), optional
        What is drawn together in the bootstrap (patients, slides, blocks); default every tile by itself.

    Returns
    -------
    Comparison

    Raises
    ------
    AdaptError
        If lengths don't agree.

    Examples
    --------
    >>> a = Prediction.from_proba(("normal", "tumour"), np.array([[0.9, 0.1], [0.2, 0.8]]))
    >>> b = Prediction.from_proba(("normal", "tumour"), np.array([[0.9, 0.1], [0.7, 0.3]]))
    >>> compare_predictions(a, b).sentence
    '1 of 2 tiles changed: 1 tumour -> normal.'
    """
    n = len(before.label)
    if len(after.label) != n:
        raise AdaptError(f"The predictions are of different tiles: {n:,} before, {len(after.label):,} after.")
    both = before.predicted & after.predicted
    changed = both & (before.label != after.label)
    pairs: dict[tuple[str, str], int] = {}
    for pair in zip(before.label[changed], after.label[changed], strict=True):
        pairs[pair] = pairs.get(pair, 0) + 1
    changes = [
        {"from": a, "to": b, "n": k}
        for (a, b), k in sorted(pairs.items(), key=lambda item: (-item[1], item[0]))
    ]
    basic = Comparison(int(both.sum()), int(changed.sum()), changes)
    if truth is None:
        return basic
    known = np.array(
        ["" if v is None or v != v else str(v) for v in np.asarray(truth, dtype=object)], dtype=object
    )
    group = np.arange(n) if groups is None else np.asarray(groups)
    if len(known) != n or len(group) != n:
        raise AdaptError(f"Truth and groups need one value for each of {n:,} tiles.")
    rows = both & (known != "")
    if not rows.any():
        return basic
    names = sorted(set(known[rows]) | set(before.classes) | set(after.classes))
    code = {name: i for i, name in enumerate(names)}
    y = np.array([code[v] for v in known[rows]], dtype=np.intp)
    p = [np.array([code[v] for v in q.label[rows]], dtype=np.intp) for q in (before, after)]
    unit = np.unique(group[rows].astype(str), return_inverse=True)[1]
    numbers, recall = _scores(y, p, unit, len(names), n_bootstrap, seed)
    auc, ece = zip(*(_probabilities(one, known, rows) for one in (before, after)), strict=True)
    warnings: list[str] = []
    n_groups = int(unit.max()) + 1
    if n_groups < 5:
        warnings.append(f"The accuracy rests on {n_groups} groups only: its interval is a rough one.")
    unseen = sorted(set(known[rows]) - set(before.classes))
    if unseen:
        warnings.append(f"The classifier never saw {', '.join(unseen)}: those tiles can only be wrong.")
    absent = [name for name in before.classes if name not in set(known[rows])]
    if absent:
        warnings.append(
            f"No tile with known class is {', '.join(absent)}: the accuracy says nothing about it."
        )
    return Comparison(
        basic.n,
        basic.n_changed,
        changes,
        n_truth=int(rows.sum()),
        n_groups=n_groups,
        recall_before={names[c]: v for c, v in recall[0].items()},
        recall_after={names[c]: v for c, v in recall[1].items()},
        warnings=warnings,
        **numbers,
        auc_before=auc[0],
        auc_after=auc[1],
        ece_before=ece[0],
        ece_after=ece[1],
    )


def _probabilities(
    found: Prediction, known: NDArray[Any], rows: NDArray[np.bool_]
) -> tuple[float | None, float | None]:
    """AUC and calibration error over the tiles whose class the classifier knows, classes weighted equally."""
    from sklearn.metrics import roc_auc_score

    from napari_batchfx.probe.calibration import calibration

    code = {name: i for i, name in enumerate(found.classes)}
    y = np.array([code.get(v, -1) for v in known[rows]], dtype=np.intp)
    proba, y = found.proba[rows][y >= 0], y[y >= 0]
    present = np.unique(y)
    if not len(y):
        return None, None
    n = np.bincount(y, minlength=len(found.classes))
    weight = 1.0 / n[y]
    auc = None
    if len(present) > 1:
        # the others count the same, too: a class that is frequent doesn't stand for all others
        auc = float(np.mean([roc_auc_score(y == c, proba[:, c], sample_weight=weight) for c in present]))
    return auc, float(calibration(proba, y, weight)["ece"])


def _scores(
    y: NDArray[np.intp],
    predictions: list[NDArray[np.intp]],
    unit: NDArray[np.intp],
    n_classes: int,
    n_bootstrap: int,
    seed: int,
) -> tuple[dict[str, Any], list[dict[int, float]]]:
    """Balanced accuracy and macro F1 of both predictions, and of their difference, from one set of draws."""
    n_units = int(unit.max()) + 1
    tables = []
    for p in predictions:
        counts = np.zeros((n_units, n_classes, n_classes))
        np.add.at(counts, (unit, y, p), 1.0)
        tables.append(counts.reshape(n_units, -1))
    holds = tables[0].reshape(n_units, n_classes, n_classes).sum(axis=2) > 0
    times, free = draw_units(holds, n_bootstrap, seed)
    times = np.vstack([np.ones(n_units), times])
    present = np.bincount(y, minlength=n_classes) > 0
    out: dict[str, Any] = {}
    recall: list[dict[int, float]] = []
    values: dict[str, list[NDArray[np.float64]]] = {"balanced_accuracy": [], "macro_f1": []}
    for m in tables:
        confusion = (times @ m).reshape(-1, n_classes, n_classes)
        right = np.einsum("bii->bi", confusion)
        actual, called = confusion.sum(axis=2), confusion.sum(axis=1)
        with np.errstate(invalid="ignore", divide="ignore"):
            r = np.where(actual > 0, right / actual, np.nan)[:, present]
            f1 = np.where(actual + called > 0, 2 * right / (actual + called), np.nan)[:, present]
        values["balanced_accuracy"].append(np.nanmean(r, axis=1))
        values["macro_f1"].append(np.nanmean(f1, axis=1))
        recall.append({int(c): float(v) for c, v in zip(np.flatnonzero(present), r[0], strict=True)})
    is_same = bool(np.array_equal(predictions[0], predictions[1]))
    for name, (first, second) in values.items():
        for suffix, v in (("before", first), ("after", second)):
            ends = share_interval(v[0], v[1:], n_units, free, len(y))
            out[f"{name}_{suffix}"] = Estimate(float(v[0]), ends)
        change = second - first
        # the same call for every tile is no change that happened to be none
        ends = (0.0, 0.0) if is_same else change_interval(change[0], change[1:], n_units, free)
        out[f"{name}_difference"] = Estimate(float(change[0]), ends)
    return out, recall
