"""What the site probe found."""

from __future__ import annotations

from dataclasses import dataclass, field, fields
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    from napari_batchfx.probe.fitted import FittedProbe

__all__ = ["SiteProbeResult"]

ALPHA = 0.05
ENOUGH = 19  # relabellings: with fewer, 1 / (1 + n) is above ALPHA

_ARRAYS = {"confidence": float, "proba": float, "ci": float, "confusion": int, "folds": int, "recall": float}


@dataclass(frozen=True)
class SiteProbeResult:
    """Out-of-fold result of a site probe; rows follow the table it was computed on.

    Attributes
    ----------
    confidence : float (n,)
        Out-of-fold probability of the tile's own batch, temperature-scaled; NaN where a tile could not be
        scored.
    proba : float (n, b)
        Out-of-fold probability of every batch.
    batches : list of str, length b
        Names of the batches, in the order of the columns.
    balanced_accuracy : float
        Mean over batches of the share of their tiles that is recognised.
    ci : float (2,)
        95 % bootstrap interval over groups (or spatial blocks).
    chance : float
        1 / b.
    permutation_p : float
        Share of relabellings of whole slides, groups or blocks that do as well, (1 + hits) / (1 +
        permutations); NaN where none were asked for.
    p_floor : float
        Lowest p that these permutations could have given, 1 / (1 + permutations); NaN in results of a
        version that did not note it.
    relabellings : int or None
        How many other ways to share the batches out to whole units exist (a million stands for more); None
        where none were asked for.
    confusion : int (b, b)
        Tiles of batch (row) taken for batch (column).
    recall : float (b,)
        Share of each batch's tiles that is recognised.
    folds : int (n,)
        Test fold of each tile, -1 where not scored.
    batch, grouped_by : str
        Column that was recognised, and what was held out together.
    warnings : list of str
        What could mislead, in words.
    support : dict
        Tiles, slides and groups of each batch, and how many tiles were left out and why.
    by_class : dict
        Balanced accuracy inside each biological class (``{"value", "n"}``), where the table has labels.
    association : float or None
        Cramér's V between label and batch.
    settings : dict
        ``C`` and temperature of every fold, permutations run and asked for, bootstrap draws, seed.
    probe : str
        "logistic", "centroid", "knn" or "linear".
    slide_balanced_accuracy : float
        As the balanced accuracy, but every slide counts the same within its batch, however many tiles it has.
    calibration : dict
        ``ece`` (expected calibration error), ``log_loss``, and ``reliability``, a row a tenth of the
        confidence: ``low``, ``high``, ``tiles``, ``confidence``, ``accuracy``, ``weight``. Slides and batches
        weigh the same, as in training. Empty in results of a version that did not note it.
    fitted : FittedProbe or None
        The classifiers, to score further tiles with; not part of :meth:`to_dict`.
    """

    confidence: NDArray[np.float64]
    proba: NDArray[np.float64]
    batches: list[str]
    balanced_accuracy: float
    ci: NDArray[np.float64]
    chance: float
    permutation_p: float
    confusion: NDArray[np.int64]
    recall: NDArray[np.float64]
    folds: NDArray[np.int64]
    batch: str
    grouped_by: str
    warnings: list[str] = field(default_factory=list)
    support: dict[str, Any] = field(default_factory=dict)
    by_class: dict[str, dict[str, float]] = field(default_factory=dict)
    association: float | None = None
    settings: dict[str, Any] = field(default_factory=dict)
    p_floor: float = float("nan")
    relabellings: int | None = None
    probe: str = "logistic"
    slide_balanced_accuracy: float = float("nan")
    calibration: dict[str, Any] = field(default_factory=dict)
    fitted: FittedProbe | None = field(default=None, repr=False, compare=False)

    @property
    def margin(self) -> NDArray[np.float64]:
        """Probability of the tile's own batch less that of the likeliest other (n,): above 0 = recognised."""
        if not len(self.proba):
            return np.zeros(0)
        ranked = np.sort(self.proba, axis=1)
        own_is_top = self.confidence >= ranked[:, -1]
        return np.asarray(self.confidence - np.where(own_is_top, ranked[:, -2], ranked[:, -1]))

    @property
    def entropy(self) -> NDArray[np.float64]:
        """Entropy of the probabilities over that of guessing (n,): 0 = sure of one batch, 1 = no idea."""
        p = np.clip(self.proba, 1e-300, 1.0)
        return np.asarray(-(p * np.log(p)).sum(axis=1) / np.log(len(self.batches)))

    @property
    def ece(self) -> float:
        """Expected calibration error; NaN where it was not noted."""
        value = self.calibration.get("ece")
        return float("nan") if value is None else float(value)

    @property
    def finding(self) -> Literal["recognised", "undecided", "not recognised"]:
        """What interval and permutations say together.

        "recognised": the interval lies above chance and p <= 0.05. "undecided": the permutations could not
        have given such a p, because there are too few units or too few were asked for. "not recognised": they
        could have, and p or the interval says no.
        """
        above = bool(self.ci[0] > self.chance)
        p, floor = self.permutation_p, self.p_floor
        if above and p <= ALPHA:
            return "recognised"
        if np.isfinite(p) and (floor <= ALPHA or (np.isnan(floor) and not above)):
            return "not recognised"
        return "undecided"

    @property
    def recognised(self) -> bool:
        """Whether the batch is recognised above chance: the interval and the permutations agree."""
        return self.finding == "recognised"

    @property
    def verdict(self) -> str:
        """One plain sentence, and further ones with what limits it."""
        percent, low, high, guess = (
            round(100 * float(v)) for v in (self.balanced_accuracy, self.ci[0], self.ci[1], self.chance)
        )
        if self.recognised:
            text = (
                f"A simple classifier recognises the {self.batch} from one tile in {percent} of 100 cases "
                f"({low}-{high}); guessing gets {guess}."
            )
        elif self.finding == "not recognised":
            text = (
                f"A simple classifier does not recognise the {self.batch} beyond guessing: right for "
                f"{percent} of 100 "
                f"tiles ({low}-{high}); guessing gets {guess}."
            )
        else:
            text = (
                f"Right for {percent} of 100 tiles ({low}-{high}); guessing gets {guess}. {self._undecided()}"
            )
        if self.warnings:
            text += " " + self.warnings[0]
        return text

    def _undecided(self) -> str:
        """Why it can't be told from chance, and what to do."""
        unit = self.grouped_by.partition(";")[0]
        p, floor = self.permutation_p, self.p_floor
        if not np.isfinite(p):
            return (
                f"This was not compared with relabelled {unit}s, so it can't be told from chance: ask for "
                f"{ENOUGH} permutations or more."
            )
        if np.isnan(floor):
            return (
                f"Whether this can be told from chance was not noted (p = {p:.2g} against relabelled "
                f"{unit}s): run the probe again."
            )
        if self.relabellings is not None and self.relabellings < ENOUGH:
            n = self.relabellings
            fewest = min(int(s["groups"]) for s in self.support["batches"].values())
            return (
                f"With {fewest} {unit}{'' if fewest == 1 else 's'} a {self.batch} this can't be told from "
                f"chance: only {n} {'relabelling exists' if n == 1 else 'relabellings exist'}, so p can't be "
                f"below {1 / (1 + n):.2g}; add {unit}s."
            )
        n = round(1 / floor) - 1
        return (
            f"With {n} permutation{'' if n == 1 else 's'} this can't be told from chance: p can't be below "
            f"{floor:.2g}; ask for {ENOUGH} or more."
        )

    def to_dict(self) -> dict[str, Any]:
        """Plain values for JSON; NaN becomes ``None``."""
        return {f.name: _plain(getattr(self, f.name)) for f in fields(self) if f.name != "fitted"}

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> SiteProbeResult:
        """Take back what :meth:`to_dict` gave."""
        known = {f.name for f in fields(cls)} - {"fitted"}
        out = {k: v for k, v in values.items() if k in known}
        for name, kind in _ARRAYS.items():
            out[name] = np.asarray(with_nan(out[name]), dtype=kind)
        b = len(out["batches"])
        out["proba"] = out["proba"].reshape(-1, b)
        for name in ("permutation_p", "balanced_accuracy", "p_floor", "slide_balanced_accuracy"):
            value = out.get(name)
            out[name] = float("nan") if value is None else float(value)
        return cls(**out)


def _plain(value: Any) -> Any:
    if isinstance(value, np.ndarray):
        return _plain(value.tolist())
    if isinstance(value, np.generic):
        return _plain(value.item())
    if isinstance(value, float):
        return value if np.isfinite(value) else None
    if isinstance(value, dict):
        return {str(k): _plain(v) for k, v in value.items()}
    if isinstance(value, (list, tuple)):
        return [_plain(v) for v in value]
    return value


def with_nan(value: Any) -> Any:
    """Plain values as JSON gave them, with NaN where it had ``None``."""
    if isinstance(value, list):
        return [with_nan(v) for v in value]
    if isinstance(value, dict):
        return {k: with_nan(v) for k, v in value.items()}
    return float("nan") if value is None else value
