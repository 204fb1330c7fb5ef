"""A slide-level classifier whose vectors of one specimen agree on every scanner."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

import numpy as np
from numpy.typing import NDArray

from napari_batchfx.adapt.head import Prediction
from napari_batchfx.adapt.mil._training import MILSettings, specimens, train_mil
from napari_batchfx.adapt.mil.attention import Weights, pool
from napari_batchfx.adapt.mil.bags import Bag, bags_of
from napari_batchfx.adapt.state import encoder_key, write_state
from napari_batchfx.errors import AdaptError
from napari_batchfx.jobs import Job, Ticker, run
from napari_batchfx.probe.folds import grouped_folds
from napari_batchfx.probe.metrics import MetricResult, prediction_cov

if TYPE_CHECKING:
    from anndata import AnnData

__all__ = ["ScanGenMIL", "Tried"]

GRID = ((0.0, 0.1), (0.1, 0.1), (0.2, 0.1), (0.5, 0.1), (1.0, 0.1), (0.5, 0.5))
_AUC_SLACK = 0.01


@dataclass(frozen=True)
class Tried:
    """One pair of settings and what it gave on the specimens of the validation.

    Attributes
    ----------
    weight, tau : float
        Of the contrastive term (lambda) and its temperature.
    auc : float
        Mean over scanners (and classes, one against the rest).
    cov : float
        Coefficient of variation of the probabilities over scanners.
    """

    weight: float
    tau: float
    auc: float
    cov: float


class ScanGenMIL:
    """Attention over the tiles of a slide, trained to give a specimen the same vector on each scanner.

    ``tiles -> linear 48, ReLU -> gated attention -> classes``, and ``-> linear 96 -> length 1`` for the
    contrastive
    term of :func:`~napari_batchfx.adapt.mil.scanner_contrast`, which is used in training only. After Carloni
    et al.
    2025, arXiv 2507.22092, and Ilse et al. 2018 (attention).

    Parameters
    ----------
    weight, tau : float, optional
        Of the contrastive term. Chosen by validation where not given: among the settings whose AUC on
        held-out
        specimens is within 0.01 of the best, the one whose probabilities vary least over scanners.
    settings : MILSettings, optional

    Attributes
    ----------
    classes : tuple of str
    tried : list of Tried
    weight, tau : float
        As used.

    Examples
    --------
    >>> import anndata, pandas
    >>> rng = np.random.default_rng(0); n = 12 * 2 * 20
    >>> specimen = np.repeat(np.arange(12), 40); scanner = np.tile(np.repeat(["A", "B"], 20), 12)
    >>> x = rng.normal(size=(n, 6)); x[:, 0] += 3 * (specimen % 2); x[:, 1] += 3 * (scanner == "B")
    >>> obs = pandas.DataFrame({"specimen": specimen.astype(str), "scanner": scanner})
    >>> obs["label"] = np.where(specimen % 2, "mutant", "wild"); obs.index = obs.index.astype(str)
    >>> table = anndata.AnnData(x.astype("float32"), obs=obs)
    >>> head = ScanGenMIL(weight=0.5, tau=0.1, settings=MILSettings(steps=40)).fit(table)
    >>> prediction, bags = head.predict(table)
    >>> bool((prediction.label == np.array([bag.label for bag in bags])).all()), head.attention(table).shape
    (True, (480,))
    """

    kind = "scangen-mil"

    def __init__(
        self, weight: float | None = None, tau: float | None = None, settings: MILSettings | None = None
    ) -> None:
        self._fixed = None if weight is None else (float(weight), 0.1 if tau is None else float(tau))
        self.weight, self.tau = self._fixed or (float("nan"), float("nan"))
        self.settings = settings or MILSettings()
        self.classes: tuple[str, ...] = ()
        self.scanners: tuple[str, ...] = ()
        self.encoder = ""
        self.tried: list[Tried] = []
        self.losses: list[float] = []
        self.warnings: list[str] = []
        self._weights: Weights = {}

    def fit(
        self, table: AnnData, label: str = "label", specimen: str = "specimen", scanner: str = "scanner"
    ) -> Self:
        """Train to the end; see :meth:`fit_job`."""
        run(self.fit_job(table, label, specimen, scanner))
        return self

    def fit_job(
        self, table: AnnData, label: str = "label", specimen: str = "specimen", scanner: str = "scanner"
    ) -> Job[Self]:
        """Train, yielding after every step (``partial``: the loss); closed early, the best so far is kept.

        Parameters
        ----------
        table : anndata.AnnData
            Tiles of specimens with a class, each on two or more scanners.
        label, specimen, scanner : str
            Columns; see :func:`bags_of`.

        Raises
        ------
        AdaptError
            With fewer than two classes of three specimens each, or no specimen on two scanners.
        """
        bags = [bag for bag in bags_of(table, label, specimen, scanner) if bag.label]
        self._check(bags)
        self.encoder, self.tried, self.losses = encoder_key(table), [], []
        pairs = [self._fixed] if self._fixed else list(GRID)
        n_runs = len(pairs) + (1 if len(pairs) > 1 else 0)
        ticker = Ticker(self.settings.steps * n_runs, "training the slide classifier", unit="steps")
        best = pairs[0]
        keep: dict[str, Any] = {}
        try:
            if len(pairs) > 1:
                inner, outer = _split(bags, self.settings.seed)
                for weight, tau in pairs:
                    keep = {}
                    yield from train_mil(inner, self.classes, weight, tau, self.settings, keep, ticker)
                    self.tried.append(Tried(weight, tau, *self._score(keep["weights"], outer)))
                    best = self._choose()
                    if best == (weight, tau):
                        self._weights, (self.weight, self.tau) = keep["weights"], best
            self.weight, self.tau = best
            keep = {}
            yield from train_mil(bags, self.classes, *best, self.settings, keep, ticker)
        finally:
            if "weights" in keep and not (self._weights and len(keep["losses"]) < self.settings.steps):
                self._weights = keep["weights"]
            self.losses = keep.get("losses", [])
        return self

    def predict(
        self, table: AnnData, specimen: str = "specimen", scanner: str = "scanner"
    ) -> tuple[Prediction, list[Bag]]:
        """Class of every bag of a table, and the bags they belong to.

        Raises
        ------
        AdaptError
            If the head is not trained, or the table comes from another encoder.
        """
        self._check_table(table)
        bags = bags_of(table, "label", specimen, scanner)
        return Prediction.from_proba(self.classes, self._proba(self._weights, bags)), bags

    def attention(
        self, table: AnnData, specimen: str = "specimen", scanner: str = "scanner"
    ) -> NDArray[np.float64]:
        """Attention of every tile (n,), times the tiles of its bag: 1 is average; NaN without features."""
        self._check_table(table)
        out = np.full(table.n_obs, np.nan)
        for bag in bags_of(table, "label", specimen, scanner):
            out[bag.rows] = pool(self._weights, bag.features)[1] * len(bag.rows)
        return out

    def variation(self, table: AnnData, specimen: str = "specimen", scanner: str = "scanner") -> MetricResult:
        """How far predictions of a specimen scatter over scanners, for the last class by name."""
        prediction, bags = self.predict(table, specimen, scanner)
        return _variation(bags, prediction.proba[:, -1])

    def save(self, path: str | Path) -> Path:
        """Write the head as one safetensors file with a JSON header."""
        if not self._weights:
            raise AdaptError("The slide classifier has not been trained yet: there is nothing to save.")
        description = {
            "classes": list(self.classes),
            "scanners": list(self.scanners),
            "encoder": self.encoder,
            "weight": self.weight,
            "tau": self.tau,
            "settings": asdict(self.settings),
            "tried": [asdict(t) for t in self.tried if np.isfinite([t.auc, t.cov]).all()],
            "warnings": self.warnings,
        }
        return write_state(path, self.kind, description, self._weights)

    @classmethod
    def _restore(cls, header: dict[str, Any], arrays: dict[str, NDArray[Any]]) -> ScanGenMIL:
        head = cls(header["weight"], header["tau"], MILSettings(**header["settings"]))
        head.classes, head.scanners = tuple(header["classes"]), tuple(header["scanners"])
        head.encoder, head.warnings = header["encoder"], list(header["warnings"])
        head.tried = [Tried(**t) for t in header["tried"]]
        head._weights = {name: np.asarray(a, dtype=np.float64) for name, a in arrays.items()}
        return head

    def _check(self, bags: Sequence[Bag]) -> None:
        self.classes = tuple(sorted({bag.label for bag in bags}))
        self.scanners = tuple(sorted({bag.scanner for bag in bags}))
        counts = {c: len({b.specimen for b in bags if b.label == c}) for c in self.classes}
        if len(counts) < 2 or min(counts.values()) < 3:
            said = ", ".join(f"{c} ({n})" for c, n in counts.items()) or "none"
            raise AdaptError(
                f"A slide classifier needs two classes of three specimens or more; there are: {said}."
            )
        twice = sum(
            sum(v is not None for v in views) > 1 for views in specimens(bags, self.scanners).values()
        )
        if not twice:
            raise AdaptError(
                "No specimen was scanned on two scanners: align rescans, or simulate scanners first."
            )
        self.warnings = []
        if twice < sum(counts.values()):
            self.warnings.append(
                f"{sum(counts.values()) - twice} of {sum(counts.values())} specimens have one scan only and "
                "take no part in the contrast."
            )

    def _check_table(self, table: AnnData) -> None:
        if not self._weights:
            raise AdaptError("The slide classifier has not been trained yet: train it or load one.")
        key = encoder_key(table)
        if key and self.encoder and key != self.encoder:
            raise AdaptError(
                f"The slide classifier was trained on features of {self.encoder}, this table holds those of "
                f"{key}."
            )
        if table.n_vars != len(self._weights["centre"]):
            raise AdaptError(
                f"The slide classifier takes vectors of {len(self._weights['centre'])} numbers, this table "
                f"has {table.n_vars}: use the encoder it was trained on."
            )

    def _proba(self, weights: Weights, bags: Sequence[Bag]) -> NDArray[np.float64]:
        from napari_batchfx.probe.logistic import softmax

        z = np.stack([pool(weights, bag.features)[0] for bag in bags])
        return np.asarray(softmax(z @ weights["class"] + weights["class_bias"]))

    def _score(self, weights: Weights, bags: Sequence[Bag]) -> tuple[float, float]:
        from sklearn.metrics import roc_auc_score

        proba = self._proba(weights, bags)
        y = np.array([self.classes.index(bag.label) for bag in bags])
        where = np.array([bag.scanner for bag in bags])
        aucs = [
            roc_auc_score(y[where == s] == c, proba[where == s, c])
            for s in np.unique(where)
            for c in range(len(self.classes))
            if 0 < (y[where == s] == c).sum() < (where == s).sum()
        ]
        cov = _variation(bags, proba[:, -1]).value
        return float(np.mean(aucs)) if aucs else float("nan"), float(cov)

    def _choose(self) -> tuple[float, float]:
        known = [t for t in self.tried if np.isfinite(t.auc)]
        if not known:
            return self.tried[0].weight, self.tried[0].tau
        enough = max(t.auc for t in known) - _AUC_SLACK
        best = min((t for t in known if t.auc >= enough), key=lambda t: t.cov)
        return best.weight, best.tau


def _variation(bags: Sequence[Bag], proba: NDArray[np.float64]) -> MetricResult:
    scanners = sorted({bag.scanner for bag in bags})
    names = sorted({bag.specimen for bag in bags})
    values = np.full((len(names), len(scanners)), np.nan)
    for bag, p in zip(bags, proba, strict=True):
        values[names.index(bag.specimen), scanners.index(bag.scanner)] = p
    return prediction_cov(values, scanners)


def _split(bags: Sequence[Bag], seed: int) -> tuple[list[Bag], list[Bag]]:
    """Three quarters of the specimens to train on, the rest to choose by."""
    names, unit = np.unique([bag.specimen for bag in bags], return_inverse=True)
    y = np.unique([bag.label for bag in bags], return_inverse=True)[1]
    held = grouped_folds(unit.astype(np.intp), y.astype(np.intp), 4 if len(names) >= 12 else 3, seed) == 0
    return (
        [bag for bag, out in zip(bags, held, strict=True) if not out],
        [bag for bag, out in zip(bags, held, strict=True) if out],
    )
