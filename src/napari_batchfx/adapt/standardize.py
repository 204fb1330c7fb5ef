"""Standardise each batch on its control samples."""

from __future__ import annotations

from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from napari_batchfx.adapt.on_controls import ControlCorrection

__all__ = ["StandardizeOnControls", "location_and_scale", "steady_scale"]

_FLAT = 1e-6


class StandardizeOnControls(ControlCorrection):
    """Shift and scale each feature so that the controls of every batch have mean 0 and standard deviation 1.

    z = (x - mu_b) / sigma_b, with mu_b and sigma_b over the controls of batch b; with ``robust``, median and
    1.4826 times the median absolute deviation. A feature that is flat in the controls of a batch takes the
    pooled scale, and 1 where that is flat too.

    Parameters
    ----------
    robust : bool
        Median and MAD instead of mean and standard deviation.

    References
    ----------
    Caicedo et al. 2017, "Data-analysis strategies for image-based cell profiling", Nat Methods 14:849
    (normalisation on negative controls); RobustMAD of pycytominer.

    Examples
    --------
    >>> import anndata, numpy, pandas
    >>> rng = numpy.random.default_rng(0); site = numpy.repeat(["A", "B"], 50)
    >>> x = (rng.normal(size=(100, 3)) + 5 * (site == "B")[:, None]).astype("float32")
    >>> obs = pandas.DataFrame({"site": site, "control": True}, index=numpy.arange(100).astype(str))
    >>> out = StandardizeOnControls().fit_transform(anndata.AnnData(x, obs=obs))
    >>> bool(numpy.abs(out.X[site == "B"].mean(axis=0)).max() < 1e-5)
    True
    """

    kind: ClassVar[str] = "standardize"

    def __init__(self, robust: bool = False) -> None:
        super().__init__()
        self.robust = bool(robust)

    def _settings(self) -> dict[str, Any]:
        return {"robust": self.robust}

    def _fit_pooled(
        self, x: NDArray[np.float64], y: NDArray[np.intp], weight: NDArray[np.float64]
    ) -> dict[str, NDArray[np.float64]]:
        # scale within batches: a shift between batches is no spread of the tissue
        spread = [
            location_and_scale(x[y == b], weight[y == b], self.robust)[1] for b in range(int(y.max()) + 1)
        ]
        scale = np.sqrt(np.mean(np.square(spread), axis=0))
        return {"scale": np.where(scale > 0, scale, 1.0)}

    def _fit_batch(
        self, name: str, x: NDArray[np.float64], weight: NDArray[np.float64]
    ) -> dict[str, NDArray[np.float64]]:
        location, scale = location_and_scale(x, weight, self.robust)
        flat = scale <= _FLAT * self._pooled["scale"]
        info = self.diagnostics.setdefault("batches", {}).setdefault(name, {})
        info["flat_features"] = int(flat.sum())
        return {"location": location, "scale": np.where(flat, self._pooled["scale"], scale)}

    def _apply(self, x: NDArray[np.float64], state: dict[str, NDArray[np.float64]]) -> NDArray[np.float64]:
        return np.asarray((x - state["location"]) / state["scale"])


def location_and_scale(
    x: NDArray[np.float64], weight: NDArray[np.float64], robust: bool
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Weighted mean and standard deviation (ddof 1), or median and scaled MAD, of each column."""
    w = weight / weight.sum()
    if robust:
        median = _weighted_median(x, w)
        return median, 1.4826 * _weighted_median(np.abs(x - median), w)
    mean = w @ x
    effective = 1.0 - float(w @ w)  # 1 - 1/n for equal weights
    return mean, np.sqrt((w @ (x - mean) ** 2) / max(effective, 1e-12))


def steady_scale(sd: NDArray[np.float64], pooled: NDArray[np.float64]) -> NDArray[np.float64]:
    """Standard deviations, with the pooled one where a feature is flat."""
    return np.where(sd <= _FLAT * pooled, pooled, sd)


def _weighted_median(x: NDArray[np.float64], w: NDArray[np.float64]) -> NDArray[np.float64]:
    if np.allclose(w, w[0]):
        return np.asarray(np.median(x, axis=0))
    order = np.argsort(x, axis=0)
    cumulative = np.cumsum(w[order], axis=0)
    at = (cumulative < 0.5).sum(axis=0).clip(max=len(x) - 1)
    columns = np.arange(x.shape[1])
    return np.asarray(x[order[at, columns], columns])
