"""A linear classifier of tiles, and its predictions."""

from __future__ import annotations

from collections.abc import Generator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

import numpy as np
from numpy.typing import NDArray

from napari_batchfx.adapt.reference import CompactReference
from napari_batchfx.adapt.state import encoder_key, write_state
from napari_batchfx.errors import AdaptError
from napari_batchfx.jobs import Progress, Ticker
from napari_batchfx.probe.columns import category_codes, feature_matrix, has_values, positions

if TYPE_CHECKING:
    from anndata import AnnData

__all__ = ["ERMHead", "Prediction", "training_folds"]

MIN_LABELLED = 5
_GRID = (1e-4, 1e-3, 1e-2, 1e-1, 1.0)


@dataclass(frozen=True)
class Prediction:
    """Predicted classes of tiles.

    Attributes
    ----------
    classes : tuple of str, length c
    proba : float64 (n, c)
        NaN where a tile was not predicted.
    label : object (n,)
        Class names, "" where a tile was not predicted.
    """

    classes: tuple[str, ...]
    proba: NDArray[np.float64]
    label: NDArray[np.object_]

    @classmethod
    def from_proba(cls, classes: tuple[str, ...], proba: NDArray[np.float64]) -> Self:
        """The most probable class of each row."""
        known = np.isfinite(proba).all(axis=1)
        names = np.asarray(classes, dtype=object)
        label = np.full(len(proba), "", dtype=object)
        label[known] = names[proba[known].argmax(axis=1)]
        return cls(classes, proba, label)

    @property
    def predicted(self) -> NDArray[np.bool_]:
        """Which tiles have a prediction (n,)."""
        return np.asarray(np.isfinite(self.proba).all(axis=1), dtype=bool)

    @property
    def entropy(self) -> NDArray[np.float64]:
        """Uncertainty (n,): entropy of the probabilities, 0 certain to 1 even; NaN where there is none."""
        p = np.maximum(self.proba, 1e-300)
        return np.asarray(-(p * np.log(p)).sum(axis=1) / np.log(max(2, len(self.classes))))

    @property
    def confidence(self) -> NDArray[np.float64]:
        """Probability of the predicted class (n,), NaN where there is none."""
        return np.where(self.predicted, np.nan_to_num(self.proba, nan=-1.0).max(axis=1), np.nan)

    def only(self, rows: NDArray[np.bool_]) -> Prediction:
        """The same with every other row left without prediction."""
        return Prediction.from_proba(self.classes, np.where(np.asarray(rows)[:, None], self.proba, np.nan))


class ERMHead:
    """Multinomial logistic regression on frozen features (empirical risk minimisation, a linear probe).

    Features are standardised on the training tiles; classes count the same; the L2 penalty is chosen by
    cross-validation over patients, or slides, or pieces of a slide where there is only one.

    Parameters
    ----------
    c : float, optional
        Fixed inverse penalty instead of choosing one (scikit-learn's ``C``).
    seed : int
        Of the folds.

    Attributes
    ----------
    classes : tuple of str
    encoder : str
        Key of the encoder it was trained on; "" if the table didn't say.
    c : float
        Inverse penalty used.
    diagnostics : dict
        Tiles of each class, and how the penalty was chosen.
    reference : CompactReference or None
        What the training tiles looked like, by site or scanner where the table says so.

    Examples
    --------
    >>> import anndata, numpy, pandas
    >>> rng = numpy.random.default_rng(0); y = numpy.tile([0, 1], 40)
    >>> x = rng.normal(size=(80, 4)).astype("float32"); x[:, 0] += 5 * y
    >>> obs = pandas.DataFrame({"label": numpy.where(y, "tumour", "normal")})
    >>> obs["slide"] = (numpy.arange(80) // 20).astype(str)
    >>> obs.index = obs.index.astype(str)
    >>> table = anndata.AnnData(x, obs=obs)
    >>> ERMHead().fit(table).predict(table).classes
    ('normal', 'tumour')
    """

    KIND = "linear-head"

    def __init__(self, c: float | None = None, seed: int = 0) -> None:
        if c is not None and not c > 0:
            raise AdaptError(f"The inverse penalty C must be larger than 0, not {c}.")
        self._fixed = c
        self.seed = seed
        self.c = float("nan") if c is None else float(c)
        self.classes: tuple[str, ...] = ()
        self.encoder = ""
        self.diagnostics: dict[str, Any] = {}
        self.warnings: list[str] = []
        self.reference: CompactReference | None = None
        self._weights: dict[str, NDArray[np.float64]] = {}

    @property
    def dim(self) -> int:
        """Length of the vectors it takes."""
        return len(self._weights["mean"]) if self._weights else 0

    def fit(self, table: AnnData, label: str = "label", group: str = "patient") -> Self:
        """Train on the tiles of a table that have a class.

        Raises
        ------
        AdaptError
            If there are fewer than two classes, or a class has fewer than 5 tiles.
        """
        for _ in self.fit_steps(table, label, group, Ticker(0, "training the classifier", unit="fits")):
            pass
        return self

    def fit_steps(
        self, table: AnnData, label: str, group: str, ticker: Ticker
    ) -> Generator[Progress, None, None]:
        """:meth:`fit`, yielding after every fit."""
        from napari_batchfx.probe.crossfit import choose_penalty
        from napari_batchfx.probe.logistic import Basis, fit_softmax
        from napari_batchfx.probe.statistics import balance_weights

        codes, names = category_codes(table, label)
        x = feature_matrix(table)
        finite = np.isfinite(x).all(axis=1)
        rows = np.flatnonzero((codes >= 0) & finite)
        counts = np.bincount(codes[rows], minlength=len(names))
        present = np.flatnonzero(counts)
        if len(present) < 2:
            what = f"only {names[present[0]]}" if len(present) else "no class"
            raise AdaptError(f"The training tiles have {what}: label tiles of at least two classes.")
        few = [f"{names[c]} ({counts[c]})" for c in present if counts[c] < MIN_LABELLED]
        if few:
            raise AdaptError(
                f"Too few labelled training tiles: {', '.join(few)}; at least {MIN_LABELLED} of each class."
            )
        self.warnings = []
        lost = int(((codes >= 0) & ~finite).sum())
        if lost:
            self.warnings.append(
                f"{lost:,} labelled tiles have missing features and were not used for training."
            )
        y = np.searchsorted(present, codes[rows]).astype(np.intp)
        n_classes = len(present)
        weight = balance_weights(y, np.zeros(len(y), dtype=np.intp))
        basis = Basis.fit(x[rows], weight)
        z = basis.transform(x[rows])
        how = "given"
        if self._fixed is None:
            inner, how, _ = training_folds(table, rows, y, group, self.seed)
            if inner is None:
                self.c = 1e-2
                self.warnings.append(
                    "A class sits in one group only, so the penalty could not be chosen and is the default."
                )
            else:
                self.c, _ = yield from choose_penalty(
                    z, basis.values, y, weight, inner, n_classes, ticker, grid=_GRID
                )
        fit = fit_softmax(z, basis.values, y, weight, self.c, n_classes, tol=1e-5)
        yield ticker.tick()
        coef = np.asarray(basis.vectors, dtype=np.float64) @ fit.coef / basis.scale[:, None]
        self._weights = {"mean": basis.mean, "coef": coef, "intercept": fit.intercept}
        self.classes = tuple(names[c] for c in present)
        self.encoder = encoder_key(table)
        known = next((c for c in ("scanner", "site") if has_values(table, c)), "slide")
        self.reference = CompactReference.of(table, known, seed=self.seed)
        self.diagnostics = {
            "tiles": {name: int(n) for name, n in zip(self.classes, counts[present], strict=True)},
            "C": float(self.c),
            "chosen_by": how,
        }

    def predict(self, table: AnnData) -> Prediction:
        """Classes of the tiles of a table; tiles with missing features are left without.

        Raises
        ------
        AdaptError
            If the head is not trained, or the table comes from another encoder.
        """
        if not self._weights:
            raise AdaptError("The classifier has not been trained yet: train it or load one.")
        key = encoder_key(table)
        if key and self.encoder and key != self.encoder:
            raise AdaptError(
                f"The classifier was trained on features of {self.encoder}, this table holds those of {key}."
            )
        if table.n_vars != self.dim:
            raise AdaptError(
                f"The classifier takes vectors of {self.dim} numbers, this table has {table.n_vars}: use "
                "the encoder it was trained on."
            )
        from napari_batchfx.probe.logistic import softmax

        x = feature_matrix(table, np.float64)
        proba = np.full((len(x), len(self.classes)), np.nan)
        finite = np.isfinite(x).all(axis=1)
        w = self._weights
        proba[finite] = softmax((x[finite] - w["mean"]) @ w["coef"] + w["intercept"])
        return Prediction.from_proba(self.classes, proba)

    def save(self, path: str | Path) -> Path:
        """Write the head as one safetensors file with a JSON header."""
        if not self._weights:
            raise AdaptError("The classifier has not been trained yet: there is nothing to save.")
        description = {
            "classes": list(self.classes),
            "encoder": self.encoder,
            "dim": self.dim,
            "diagnostics": self.diagnostics,
            "warnings": self.warnings,
        }
        arrays: dict[str, NDArray[Any]] = dict(self._weights)
        if self.reference is not None:
            facts, own = self.reference.to_state()
            description["reference"] = facts
            arrays |= own
        return write_state(path, self.KIND, description, arrays)

    @classmethod
    def _restore(cls, header: dict[str, Any], arrays: dict[str, NDArray[Any]]) -> ERMHead:
        """A head from a file's header and arrays."""
        head = cls()
        head.classes, head.encoder = tuple(header["classes"]), header["encoder"]
        head.diagnostics, head.warnings = header["diagnostics"], list(header["warnings"])
        head.c = float(header["diagnostics"]["C"])
        head._weights = {name: np.asarray(arrays[name], np.float64) for name in ("mean", "coef", "intercept")}
        if "reference" in header:
            head.reference = CompactReference.from_state(header["reference"], arrays)
        return head


def training_folds(
    table: AnnData, rows: NDArray[np.intp], y: NDArray[np.intp], group: str, seed: int
) -> tuple[NDArray[np.intp] | None, str, NDArray[np.intp]]:
    """Folds of rows with every class in every training part, what they hold out together, and its codes."""
    from napari_batchfx.probe.folds import grouped_folds, spatial_regions

    n_classes = int(y.max()) + 1
    yx = positions(table)
    slide = category_codes(table, "slide")[0][rows]
    options: list[tuple[str, NDArray[np.intp]]] = []
    for name in dict.fromkeys((group, "slide")):
        codes = category_codes(table, name)[0][rows]
        if (codes >= 0).all():
            options.append((name, codes))
    if yx is not None:
        pieces = np.zeros(len(rows), dtype=np.intp)
        for s in np.unique(slide):
            mine = slide == s
            pieces[mine] = (s + 1) * 16 + spatial_regions(yx[rows][mine], 12)
        options.append(("spatial block", pieces))
    options.append(("tile", np.arange(len(rows))))
    for name, codes in options:
        fewest = min(len(np.unique(codes[y == c])) for c in range(n_classes))
        if fewest < 2:
            continue
        folds = grouped_folds(codes, y, min(3, fewest), seed)
        whole = all(len(np.unique(y[folds != k])) == n_classes for k in np.unique(folds))
        if whole and len(np.unique(folds)) > 1:
            return folds, name, np.asarray(codes, dtype=np.intp)
    return None, "default", np.arange(len(rows))
