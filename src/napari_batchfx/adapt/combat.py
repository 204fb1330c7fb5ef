"""ComBat on control samples."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from napari_batchfx.adapt.combat_model import CombatBase, Prior, adjust, batch_effect, fit_base
from napari_batchfx.adapt.correction import State
from napari_batchfx.adapt.on_controls import ControlCorrection
from napari_batchfx.errors import AdaptError
from napari_batchfx.probe.columns import category_codes

if TYPE_CHECKING:
    from anndata import AnnData

__all__ = ["ComBat"]


class ComBat(ControlCorrection):
    """Shift and scale each feature of a batch, by its controls, with what all features say about the batch.

    Features are standardised over the controls of all batches. Each batch's shift gamma and variance delta of
    a feature are drawn towards those of all features (empirical Bayes), which steadies them where controls
    are few:

    x' = sigma (z - gamma) / sqrt(delta) + mean

    A batch that comes later gets its own gamma and delta from its controls; the rest stays.

    Parameters
    ----------
    parametric : bool
        Priors as a normal and an inverse gamma distribution; otherwise the features themselves.
    mean_only : bool
        Shift only: for batches with very few controls, or whose tissue varies more in one than in another.
    reference_batch : str, optional
        Batch that stays as it is, and that the others are brought to.
    empirical_bayes : bool
        Without it every feature is by itself.

    Notes
    -----
    Covariates are fitted beside the batches, on controls, so that different mixtures of tissue do not pass
    for a batch. They are *not* asked for when tiles are corrected (that would need their class): every tile
    is taken to be of the controls' mean covariates, which matters little where variances are near 1.

    Raises
    ------
    AdaptError
        At :meth:`fit`: if the reference batch has no controls, or covariates and batches are tied.

    References
    ----------
    Johnson, Li & Rabinovic 2007, Biostatistics 8:118.

    Examples
    --------
    >>> import anndata, numpy, pandas
    >>> rng = numpy.random.default_rng(0); site = numpy.repeat(["A", "B"], 50)
    >>> x = (rng.normal(size=(100, 9)) + 5 * (site == "B")[:, None]).astype("float32")
    >>> obs = pandas.DataFrame({"site": site, "control": True}, index=numpy.arange(100).astype(str))
    >>> out = ComBat(reference_batch="A").fit_transform(anndata.AnnData(x, obs=obs))
    >>> bool((out.X[:50] == x[:50]).all() and abs(out.X[50:].mean() - x[:50].mean()) < 0.1)
    True
    """

    kind: ClassVar[str] = "combat"
    _weighs: ClassVar[bool] = False

    def __init__(
        self,
        parametric: bool = True,
        mean_only: bool = False,
        reference_batch: str | None = None,
        empirical_bayes: bool = True,
    ) -> None:
        super().__init__()
        self.parametric = bool(parametric)
        self.mean_only = bool(mean_only)
        self.reference_batch = reference_batch
        self.empirical_bayes = bool(empirical_bayes)

    def _settings(self) -> dict[str, Any]:
        return {
            "parametric": self.parametric,
            "mean_only": self.mean_only,
            "reference_batch": self.reference_batch,
            "empirical_bayes": self.empirical_bayes,
        }

    @property
    def _prior(self) -> Prior:
        if not self.empirical_bayes:
            return "none"
        return "parametric" if self.parametric else "nonparametric"

    def _prepare(self, table: AnnData, rows: NDArray[np.intp], names: list[str], is_first: bool) -> None:
        if is_first:
            if self.reference_batch is not None and self.reference_batch not in names:
                raise AdaptError(
                    f"ComBat: there is no {self.batch} {self.reference_batch} to bring the others to; there "
                    f"are {', '.join(names)}."
                )
            self._names = names
            self._notes["levels"] = {column: self._levels(table, rows, column) for column in self.covariates}
        self._design = np.hstack(
            [np.zeros((len(rows), 0)), *(self._columns(table, rows, column) for column in self.covariates)]
        )
        batch = category_codes(table, self.batch)
        of = [batch[1][code] for code in batch[0][rows]]
        self._design_of = {name: self._design[[one == name for one in of]] for name in names}

    def _levels(self, table: AnnData, rows: NDArray[np.intp], column: str) -> list[str]:
        codes, names = category_codes(table, column)
        present = sorted({names[code] for code in codes[rows] if code >= 0})
        if not present:
            raise AdaptError(f"The covariate {column} is empty: leave it out or fill it in.")
        if (codes[rows] < 0).any():
            raise AdaptError(
                f"The covariate {column} is missing on {int((codes[rows] < 0).sum()):,} control samples: "
                "fill it "
                "in, or take them out of the controls."
            )
        return present

    def _columns(self, table: AnnData, rows: NDArray[np.intp], column: str) -> NDArray[np.float64]:
        """One-hot without the first level (m, levels - 1)."""
        levels: list[str] = self._notes["levels"][column]
        codes, names = category_codes(table, column)
        values = [names[code] if code >= 0 else "" for code in codes[rows]]
        unknown = sorted(set(values) - set(levels))
        if unknown:
            raise AdaptError(
                f"Control samples have a {column} ({unknown[0] or 'none'}) that the correction was not "
                "fitted "
                f"with; there are {', '.join(levels)}."
            )
        return np.array([[float(value == level) for level in levels[1:]] for value in values]).reshape(
            len(rows), len(levels) - 1
        )

    def _base(self) -> CombatBase:
        state = self._pooled
        return CombatBase(state["mean"], state["coefficients"], state["sd"])

    def _fit_pooled(self, x: NDArray[np.float64], y: NDArray[np.intp], weight: NDArray[np.float64]) -> State:
        reference = None if self.reference_batch is None else self._names.index(self.reference_batch)
        try:
            base = fit_base(x, y, self._design, reference)
        except ValueError as error:
            raise AdaptError(
                f"Among the control samples {' and '.join(self.covariates)} and {self.batch} are tied, so "
                "they "
                "can't be told apart: leave the covariate out, or choose controls of the same tissue on "
                "every "
                f"{self.batch}."
            ) from error
        self.diagnostics["flat_features"] = int((base.sd == 0).sum())
        return {
            "mean": base.mean,
            "coefficients": base.coefficients,
            "sd": base.sd,
            "covariates": self._design.mean(axis=0, keepdims=True),
        }

    def _fit_batch(self, name: str, x: NDArray[np.float64], weight: NDArray[np.float64]) -> State:
        shift, variance = np.zeros(x.shape[1]), np.ones(x.shape[1])
        if name == self.reference_batch:
            return {"shift": shift, "variance": variance}
        base = self._base()
        varying = base.sd > 0
        z = base.standardise(x, self._design_of[name])[:, varying]
        shift[varying], variance[varying] = batch_effect(z, self._prior, self.mean_only)
        raw = batch_effect(z, "none", self.mean_only)
        info = self.diagnostics.setdefault("batches", {}).setdefault(name, {})
        spread = float(np.var(raw[0]))
        # how much nearer to each other the features' shifts are than as measured
        info["shrinkage"] = float(1.0 - np.var(shift[varying]) / spread) if spread > 0 else 0.0
        info["median_variance"] = float(np.median(variance))
        return {"shift": shift, "variance": variance}

    def _apply(self, x: NDArray[np.float64], state: State) -> NDArray[np.float64]:
        covariates = np.repeat(self._pooled["covariates"], len(x), axis=0)
        return adjust(x, covariates, self._base(), state["shift"], state["variance"])
