"""CORAL: give every batch's control samples the same mean and covariance."""

from __future__ import annotations

from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from napari_batchfx.adapt.correction import State
from napari_batchfx.adapt.covariance import (
    Shrinkage,
    check_shrinkage,
    condition_number,
    matrix_power,
    shrunk_covariance,
    subspace_rank,
)
from napari_batchfx.adapt.on_controls import ControlCorrection
from napari_batchfx.adapt.standardize import location_and_scale
from napari_batchfx.errors import AdaptError

__all__ = ["Coral"]


class Coral(ControlCorrection):
    """Correlation alignment of every batch, by its controls, with a reference batch or with all of them.

    x' = (x - mu_b) (C_b + r I)^(-1/2) (C_t + r I)^(1/2) + mu_t

    with means and covariances of the controls of batch b and of the target t. Features stay on their scale:
    a classifier trained on the reference batch can be used as it is. Inside, features are counted in the
    controls' pooled spread, and covariances are aligned in the subspace of the leading min(256, n / 2)
    principal components (n: controls of the smallest batch); what lies outside is shifted only.

    Parameters
    ----------
    reference_batch : str, optional
        The target, left as it is; the mean of all batches otherwise.
    shrinkage : "ledoit-wolf" or float in 0..1
        Of each batch's covariance towards a multiple of the identity; 0 matches covariances exactly.
    ridge : float
        r of the equation, in units of the controls' pooled variance.

    Raises
    ------
    AdaptError
        If a number is out of its range; at :meth:`fit`, if the reference batch has no controls.

    References
    ----------
    Sun, Feng & Saenko 2016, "Return of frustratingly easy domain adaptation", AAAI.

    Examples
    --------
    >>> import anndata, numpy, pandas
    >>> rng = numpy.random.default_rng(0); site = numpy.repeat(["A", "B"], 200)
    >>> x = (rng.normal(size=(400, 3)) * numpy.where(site == "B", 3, 1)[:, None]).astype("float32")
    >>> obs = pandas.DataFrame({"site": site, "control": True}, index=numpy.arange(400).astype(str))
    >>> out = Coral("A", shrinkage=0.0).fit_transform(anndata.AnnData(x, obs=obs))
    >>> a, b = (numpy.cov(out.X[site == s].T) for s in "AB")
    >>> bool(numpy.allclose(a, b, atol=1e-5))
    True
    """

    kind: ClassVar[str] = "coral"

    def __init__(
        self,
        reference_batch: str | None = None,
        shrinkage: Shrinkage = "ledoit-wolf",
        ridge: float = 0.0,
    ) -> None:
        super().__init__()
        self.reference_batch = reference_batch
        self.shrinkage = check_shrinkage("CORAL", shrinkage)
        if not 0.0 <= ridge < np.inf:
            raise AdaptError(f"CORAL: ridge is a number from 0 on, not {ridge!r}.")
        self.ridge = float(ridge)

    def _settings(self) -> dict[str, Any]:
        return {
            "reference_batch": self.reference_batch,
            "shrinkage": self.shrinkage,
            "ridge": self.ridge,
        }

    def _prepare(self, table: Any, rows: NDArray[np.intp], names: list[str], is_first: bool) -> None:
        if is_first:
            self._names = names
            if self.reference_batch is not None and self.reference_batch not in names:
                raise AdaptError(
                    f"CORAL: there is no {self.batch} {self.reference_batch} to align the others with; there "
                    f"are {', '.join(names)}."
                )

    def _fit_pooled(self, x: NDArray[np.float64], y: NDArray[np.intp], weight: NDArray[np.float64]) -> State:
        n, d = x.shape
        n_batches = int(y.max()) + 1
        moments = [location_and_scale(x[y == b], weight[y == b], False) for b in range(n_batches)]
        scale = np.sqrt(np.mean([sd**2 for _, sd in moments], axis=0))
        scale = np.where(scale > 1e-12 * np.maximum(np.abs(x).max(axis=0), 1e-300), scale, 1.0)
        means = np.array([mean for mean, _ in moments])
        z = (x - means[y]) / scale
        w = weight / weight.sum()
        _, s, vt = np.linalg.svd(z * np.sqrt(w)[:, None], full_matrices=False)
        smallest = int(np.bincount(y).min())
        rank = subspace_rank(smallest, s**2, a_direction=2)
        directions = vt[:rank]
        share = float((s[:rank] ** 2).sum() / max(float((s**2).sum()), 1e-300))
        self.diagnostics |= {"rank": rank, "dim": d, "variance_in_subspace": share}
        if rank < d and share < 0.999:
            self.warnings.append(
                f"{n} control samples describe {rank} of {d} directions ({100 * share:.0f} % of their "
                "variance): aligned there, only shifted elsewhere."
            )
        inside = z @ directions.T
        covariances = [
            shrunk_covariance(inside[y == b], weight[y == b] / weight[y == b].sum(), self.shrinkage)[0]
            for b in range(n_batches)
        ]
        if self.reference_batch is None:
            mean, covariance = means.mean(axis=0), np.mean(covariances, axis=0)
        else:
            at = self._names.index(self.reference_batch)
            mean, covariance = means[at], covariances[at]
        colour = matrix_power(covariance + self.ridge * np.eye(rank), 0.5)
        return {"scale": scale, "directions": directions, "mean": mean, "colour": colour}

    def _fit_batch(self, name: str, x: NDArray[np.float64], weight: NDArray[np.float64]) -> State:
        mean = weight @ x
        directions, scale = self._pooled["directions"], self._pooled["scale"]
        inside = ((x - mean) / scale) @ directions.T
        covariance, alpha = shrunk_covariance(inside, weight, self.shrinkage)
        covariance = covariance + self.ridge * np.eye(len(covariance))
        info = self.diagnostics.setdefault("batches", {}).setdefault(name, {})
        info |= {"shrinkage": alpha, "condition_number": condition_number(covariance)}
        if name == self.reference_batch:
            return {"location": mean}
        return {"location": mean, "align": matrix_power(covariance, -0.5) @ self._pooled["colour"]}

    def _apply(self, x: NDArray[np.float64], state: State) -> NDArray[np.float64]:
        if "align" not in state:
            return x
        directions, scale = self._pooled["directions"], self._pooled["scale"]
        z = (x - state["location"]) / scale
        inside = z @ directions.T
        z = z + (inside @ state["align"] - inside) @ directions
        return np.asarray(z * scale + self._pooled["mean"])
