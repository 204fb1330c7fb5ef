"""Sphering: whiten all batches on their control samples."""

from __future__ import annotations

from typing import Any, ClassVar, Literal, get_args

import numpy as np
from numpy.typing import NDArray

from napari_batchfx.adapt.correction import State
from napari_batchfx.adapt.covariance import (
    CONTROLS_A_DIRECTION,
    Shrinkage,
    check_shrinkage,
    shrinkage_of,
)
from napari_batchfx.adapt.on_controls import ControlCorrection
from napari_batchfx.adapt.standardize import location_and_scale, steady_scale
from napari_batchfx.errors import AdaptError

__all__ = ["Sphere"]

Way = Literal["pca", "zca", "pca-cor", "zca-cor"]


class Sphere(ControlCorrection):
    """Whiten on the control samples: what varies among ordinary tissue counts the same in every direction.

    Each batch is centred on its controls (and, for the ``-cor`` ways, standardised on them), which takes the
    shift of the batch away. One matrix W for all batches makes the pooled covariance of the controls the
    identity. With eigenvectors V and shrunk eigenvalues l of that covariance, W = V diag(l^(-1/2)) ("pca":
    principal components) or V diag(l^(-1/2)) V' ("zca": as near to the features as can be).

    Parameters
    ----------
    way : {"zca-cor", "zca", "pca-cor", "pca"}
    shrinkage : "auto", "ledoit-wolf" or float in 0..1
        Of the eigenvalues towards their mean. Ledoit and Wolf's share suits the covariance, not its inverse:
        with few controls directions that hold nothing but noise are blown up. "auto" is at least
        1 - n / (4 d) for n controls of d features (four controls a direction, as in :class:`TVN`). 0 makes
        the covariance of the transformed controls the identity exactly; it needs more controls than features.

    Raises
    ------
    AdaptError
        If a setting is none of these; at :meth:`fit`, if ``shrinkage=0`` is asked of too few controls.

    References
    ----------
    Kessy, Lewin & Strimmer 2018, "Optimal whitening and decorrelation", Am Stat 72:309; Ledoit & Wolf 2004,
    J Multivar Anal 88:365.

    Examples
    --------
    >>> import anndata, numpy, pandas
    >>> rng = numpy.random.default_rng(0); site = numpy.repeat(["A", "B"], 200)
    >>> x = rng.normal(size=(400, 4)) @ rng.normal(size=(4, 4)) + 3 * (site == "B")[:, None]
    >>> obs = pandas.DataFrame({"site": site, "control": True}, index=numpy.arange(400).astype(str))
    >>> out = Sphere("zca", shrinkage=0.0).fit_transform(anndata.AnnData(x.astype("float32"), obs=obs))
    >>> bool(numpy.allclose(out.X.T @ out.X / 398, numpy.eye(4), atol=1e-5))
    True
    """

    kind: ClassVar[str] = "sphere"

    def __init__(self, way: Way = "zca-cor", shrinkage: Shrinkage = "auto") -> None:
        super().__init__()
        if way not in get_args(Way):
            raise AdaptError(f"Sphere: the way is one of {', '.join(get_args(Way))}, not {way!r}.")
        self.way = way
        self.shrinkage = "auto" if shrinkage == "auto" else check_shrinkage("Sphere", shrinkage)

    def _settings(self) -> dict[str, Any]:
        return {"way": self.way, "shrinkage": self.shrinkage}

    def _moments(
        self, x: NDArray[np.float64], weight: NDArray[np.float64]
    ) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        mean, sd = location_and_scale(x, weight, False)
        return mean, sd if self.way.endswith("-cor") else np.ones_like(sd)

    def _fit_pooled(self, x: NDArray[np.float64], y: NDArray[np.intp], weight: NDArray[np.float64]) -> State:
        n, d = x.shape
        n_batches = int(y.max()) + 1
        moments = [self._moments(x[y == b], weight[y == b]) for b in range(n_batches)]
        scale = np.sqrt(np.mean([sd**2 for _, sd in moments], axis=0))
        scale = np.where(scale > 0, scale, 1.0)
        z = np.empty_like(x)
        for b, (mean, sd) in enumerate(moments):
            z[y == b] = (x[y == b] - mean) / steady_scale(sd, scale)
        w = weight / weight.sum()
        rows = z * np.sqrt(w)[:, None]
        _, s, vt = np.linalg.svd(rows, full_matrices=False)
        # what the centring of each batch took away counts as lost degrees of freedom
        values = s**2 / max(1e-12, 1.0 - n_batches * float(w @ w))
        wanted = "ledoit-wolf" if self.shrinkage == "auto" else self.shrinkage
        alpha = shrinkage_of(rows * np.sqrt(n), wanted)
        if self.shrinkage == "auto":
            alpha = max(alpha, 1.0 - n / (CONTROLS_A_DIRECTION * d))
        rank = int((values > 1e-12 * max(float(values[0]), 1e-300)).sum())
        if alpha == 0.0 and rank < d:
            raise AdaptError(
                f"Sphering without shrinkage needs more control samples than features that vary: {n} "
                "controls "
                f"describe {rank} of {d} directions. Mark more, or let it shrink."
            )
        mean_value = float(values.sum() / d)
        shrunk = np.maximum((1.0 - alpha) * values + alpha * mean_value, 1e-300)
        rest = max(alpha * mean_value, 1e-300)
        self.diagnostics |= {
            "rank": rank,
            "dim": d,
            "effective_rank": float(values.sum() ** 2 / max(float((values**2).sum()), 1e-300)),
            "shrinkage": alpha,
            "condition_number": float(shrunk[0] / (rest if rank < d else shrunk[-1])),
        }
        if alpha > 0.5:
            self.warnings.append(
                f"{n} control samples are few for {d} features: their covariance is drawn "
                f"{100 * alpha:.0f} % "
                "of the way to a ball, so little is whitened."
            )
        directions = vt
        if self.way.startswith("pca") and len(vt) < d:
            directions = np.ascontiguousarray(np.linalg.qr(vt.T, mode="complete")[0].T)
            directions[: len(vt)] = vt
            shrunk = np.concatenate([shrunk, np.full(d - len(vt), rest)])
        # a component's sign is arbitrary: its largest entry is made positive
        top = np.abs(directions).argmax(axis=1)
        directions = directions * np.sign(directions[np.arange(len(directions)), top])[:, None]
        return {
            "scale": scale,
            "directions": directions,
            "factors": 1.0 / np.sqrt(shrunk),
            "rest": np.array([1.0 / np.sqrt(rest) if len(directions) < d else 0.0]),
        }

    def _fit_batch(self, name: str, x: NDArray[np.float64], weight: NDArray[np.float64]) -> State:
        mean, sd = self._moments(x, weight)
        return {"location": mean, "scale": steady_scale(sd, self._pooled["scale"])}

    def _apply(self, x: NDArray[np.float64], state: State) -> NDArray[np.float64]:
        directions, factors = self._pooled["directions"], self._pooled["factors"]
        z = (x - state["location"]) / state["scale"]
        inside = z @ directions.T
        if self.way.startswith("pca"):
            return np.asarray(inside * factors)
        out = (inside * factors) @ directions
        rest = float(self._pooled["rest"][0])
        return np.asarray(out if rest == 0.0 else out + rest * (z - inside @ directions))
