"""A linear map of one batch's features onto another's, by pairs."""

from __future__ import annotations

from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from napari_batchfx.adapt.correction import State
from napari_batchfx.adapt.on_pairs import PairCorrection, Pairs
from napari_batchfx.errors import AdaptError

__all__ = ["Ridge"]

#: Penalties tried, in units of the pairs' mean eigenvalue.
_GRID = tuple(10.0**k for k in range(-4, 6))


class Ridge(PairCorrection):
    """The linear map of a batch that predicts the features of the same tissue on a reference batch.

    With A and B the centred features of the pairs, x' = mu_B + (x - mu_A) (I + D) with

    D = (A' A + p I)^(-1) A' (B - A)

    The penalty p draws the map towards a plain shift, not towards nothing, so it does not make tiles alike
    where pairs are few. It is chosen on held-out slides, or pieces of a slide.

    Parameters
    ----------
    reference_batch : str, optional
        The batch that stays as it is; the one that shares most places with the others otherwise.
    penalty : float, optional
        p in units of the mean eigenvalue of A' A; chosen otherwise.

    Raises
    ------
    AdaptError
        If the penalty is not above 0.

    References
    ----------
    Hoerl & Kennard 1970, "Ridge regression", Technometrics 12:55.

    Examples
    --------
    >>> import anndata, numpy, pandas
    >>> rng = numpy.random.default_rng(0); a = rng.normal(size=(200, 3)); m = numpy.diag([2.0, 1, 0.5])
    >>> obs = pandas.DataFrame({"scanner": numpy.repeat(["A", "B"], 200)}, index=map(str, range(400)))
    >>> obs["pair"] = [f"p{i % 200}" for i in range(400)]
    >>> table = anndata.AnnData(numpy.vstack([a, a @ m + 1]).astype("float32"), obs=obs)
    >>> out = Ridge("A").fit_transform(table, batch="scanner")
    >>> bool(numpy.allclose(out.X[200:], a, atol=1e-2))
    True
    """

    kind: ClassVar[str] = "ridge"

    def __init__(self, reference_batch: str | None = None, penalty: float | None = None) -> None:
        super().__init__(reference_batch)
        if penalty is not None and not 0.0 < penalty < np.inf:
            raise AdaptError(f"Ridge: the penalty is a number above 0, not {penalty!r}.")
        self.penalty = penalty

    def _settings(self) -> dict[str, Any]:
        return {"reference_batch": self.reference_batch, "penalty": self.penalty}

    def _fit_map(self, pairs: Pairs) -> State:
        penalty = self.penalty if self.penalty is not None else self._choose(pairs)
        return _solve(pairs.a, pairs.b, [penalty])[0]

    def _choose(self, pairs: Pairs) -> float:
        left = np.zeros(len(_GRID))
        for k in np.unique(pairs.fold):
            fit, test = pairs.fold != k, pairs.fold == k
            if fit.sum() < 3:
                continue
            scale = pairs.b[fit].std(axis=0)
            scale = np.where(scale > 0, scale, 1.0)
            for i, state in enumerate(_solve(pairs.a[fit], pairs.b[fit], _GRID)):
                left[i] += (((self._map(pairs.a[test], state) - pairs.b[test]) / scale) ** 2).sum()
        return _GRID[int(np.argmin(left))]

    def _map(self, x: NDArray[np.float64], state: State) -> NDArray[np.float64]:
        centred = (x - state["location"]) / state["scale"]
        moved = centred + (centred @ state["left"]) @ state["right"]
        return np.asarray(moved * state["scale"] + state["target"])


def _solve(a: NDArray[np.float64], b: NDArray[np.float64], penalties: Any) -> list[State]:
    """Maps for several penalties from one decomposition: D = V diag(s / (s^2 + p)) U' (B - A)."""
    location, target = a.mean(axis=0), b.mean(axis=0)
    sd = np.sqrt((a.var(axis=0) + b.var(axis=0)) / 2)
    scale = np.where(sd > 1e-12 * max(float(sd.max()), 1e-300), sd, 1.0)
    a, b = (a - location) / scale, (b - target) / scale
    u, s, vt = np.linalg.svd(a, full_matrices=False)
    kept = s > 1e-9 * max(float(s[0]), 1e-300)
    u, s, vt = u[:, kept], s[kept], vt[kept]
    unit = float((s**2).sum() / max(a.shape[1], 1))
    right = u.T @ (b - a)
    return [
        {
            "location": location,
            "target": target,
            "scale": scale,
            "left": vt.T,
            "right": (s / (s**2 + p * unit))[:, None] * right,
            "penalty": np.array([p]),
        }
        for p in penalties
    ]
