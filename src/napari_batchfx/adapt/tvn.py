"""Typical variation normalisation, regularised for few controls."""

from __future__ import annotations

from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from napari_batchfx.adapt.covariance import (
    Shrinkage,
    check_shrinkage,
    condition_number,
    matrix_power,
    shrinkage_of,
    shrunk_covariance,
    subspace_rank,
)
from napari_batchfx.adapt.on_controls import ControlCorrection
from napari_batchfx.adapt.standardize import location_and_scale, steady_scale
from napari_batchfx.errors import AdaptError

__all__ = ["TVN"]


class TVN(ControlCorrection):
    """Whiten on the control samples, and give the controls of every batch the same covariance.

    1. Each batch is standardised on its controls (as :class:`StandardizeOnControls`).
    2. Principal components of all controls; the leading r = min(256, controls / 4) span the subspace that
       the controls can describe. In it features are whitened. What lies outside of it stays as step 1 left
       it.
    3. In the whitened subspace each batch's control covariance C_b is turned into the identity: C_b^(-1/2)
       (CORAL onto the pooled controls). C_b is shrunk towards the pooled one, which is a multiple of the
       identity there.

    Parameters
    ----------
    shrinkage : "ledoit-wolf" or float in 0..1
        Of the pooled spectrum (towards its mean) and of each batch's covariance (towards the pooled one). 0
        makes the covariance of the transformed controls the identity exactly.
    ridge : float
        Of another variant of step 3: (C_b + ridge I)^(-1/2), without shrinkage; 0.5 in screens.
    recolour : bool
        Multiply by (C_pool + ridge I)^(1/2) after that; C_pool is the identity but for shrinkage.

    Raises
    ------
    AdaptError
        If a number is out of its range.

    References
    ----------
    Ando, McLean & Berndl 2017, "Improving phenotypic measurements in high-content imaging screens", bioRxiv
    161422; Sun, Feng & Saenko 2016 (CORAL), AAAI; Ledoit & Wolf 2004, J Multivar Anal 88:365. The reduced
    subspace is for tables with fewer controls than features.

    Examples
    --------
    >>> import anndata, numpy, pandas
    >>> rng = numpy.random.default_rng(0); site = numpy.repeat(["A", "B"], 200)
    >>> x = (rng.normal(size=(400, 4)) * numpy.where(site == "B", 3, 1)[:, None]).astype("float32")
    >>> obs = pandas.DataFrame({"site": site, "control": True}, index=numpy.arange(400).astype(str))
    >>> out = TVN(shrinkage=0.0).fit_transform(anndata.AnnData(x, obs=obs))
    >>> bool(numpy.allclose(numpy.cov(out.X[site == "B"].T), numpy.eye(4), atol=1e-5))
    True
    """

    kind: ClassVar[str] = "tvn"

    def __init__(
        self, shrinkage: Shrinkage = "ledoit-wolf", ridge: float = 0.0, recolour: bool = False
    ) -> None:
        super().__init__()
        self.shrinkage = check_shrinkage("TVN", shrinkage)
        if not 0.0 <= ridge < np.inf:
            raise AdaptError(f"TVN: ridge is a number from 0 on, not {ridge!r}.")
        self.ridge = float(ridge)
        self.recolour = bool(recolour)

    def _settings(self) -> dict[str, Any]:
        return {"shrinkage": self.shrinkage, "ridge": self.ridge, "recolour": self.recolour}

    def _fit_pooled(
        self, x: NDArray[np.float64], y: NDArray[np.intp], weight: NDArray[np.float64]
    ) -> dict[str, NDArray[np.float64]]:
        n, d = x.shape
        n_batches = int(y.max()) + 1
        moments = [location_and_scale(x[y == b], weight[y == b], False) for b in range(n_batches)]
        scale = np.sqrt(np.mean([s**2 for _, s in moments], axis=0))
        scale = np.where(scale > 0, scale, 1.0)
        z = np.empty_like(x)
        for b, (mean, sd) in enumerate(moments):
            z[y == b] = (x[y == b] - mean) / steady_scale(sd, scale)
        w = weight / weight.sum()
        rows = z * np.sqrt(w)[:, None]
        _, s, vt = np.linalg.svd(rows, full_matrices=False)
        # what the centring of each batch took away counts as lost degrees of freedom
        spectrum = s**2 / max(1e-12, 1.0 - n_batches * float(w @ w))
        rank = subspace_rank(n, spectrum)
        directions, values = vt[:rank], spectrum[:rank]
        alpha = shrinkage_of(rows * np.sqrt(n), self.shrinkage)
        shrunk = (1.0 - alpha) * values + alpha * float(spectrum.sum() / d)
        self.diagnostics |= {
            "rank": rank,
            "dim": d,
            "variance_in_subspace": float(values.sum() / max(spectrum.sum(), 1e-300)),
            "effective_rank": float(spectrum.sum() ** 2 / max(float((spectrum**2).sum()), 1e-300)),
            "shrinkage": alpha,
            "condition_number": float(shrunk[0] / max(shrunk[-1], 1e-300)),
        }
        if rank < d:
            self.warnings.append(
                f"{n} control samples describe {rank} of {d} directions "
                f"({100 * self.diagnostics['variance_in_subspace']:.0f} % of their variance): whitened "
                "there, only "
                f"standardised elsewhere."
            )
        shrunk = np.maximum(shrunk, 1e-12)
        # the pooled covariance in the whitened subspace is diagonal, and the identity without shrinkage
        colour = np.sqrt(values / shrunk + self.ridge)
        return {"scale": scale, "directions": directions, "spectrum": shrunk, "colour": colour}

    def _fit_batch(
        self, name: str, x: NDArray[np.float64], weight: NDArray[np.float64]
    ) -> dict[str, NDArray[np.float64]]:
        mean, sd = location_and_scale(x, weight, False)
        sd = steady_scale(sd, self._pooled["scale"])
        w = weight / weight.sum()
        directions = self._pooled["directions"]
        white = ((x - mean) / sd) @ directions.T / np.sqrt(self._pooled["spectrum"])
        covariance, alpha = shrunk_covariance(white, w, 0.0 if self.ridge else self.shrinkage)
        eye = np.eye(len(covariance))
        info = self.diagnostics.setdefault("batches", {}).setdefault(name, {})
        info |= {"shrinkage": alpha, "condition_number": condition_number(covariance + self.ridge * eye)}
        align = matrix_power(covariance + self.ridge * eye, -0.5)
        if self.recolour:
            align = align * self._pooled["colour"]
        # x V diag(1/sqrt(l)) C_b^(-1/2) V', less what of x lay in the subspace
        inside = (directions.T / np.sqrt(self._pooled["spectrum"])) @ align
        return {"location": mean, "scale": sd, "inside": inside}

    def _apply(self, x: NDArray[np.float64], state: dict[str, NDArray[np.float64]]) -> NDArray[np.float64]:
        directions = self._pooled["directions"]
        z = (x - state["location"]) / state["scale"]
        outside = z - (z @ directions.T) @ directions
        return np.asarray(outside + (z @ state["inside"]) @ directions)
