"""Rotate one batch's features onto another's, by pairs."""

from __future__ import annotations

from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from napari_batchfx.adapt.correction import State
from napari_batchfx.adapt.covariance import subspace_rank
from napari_batchfx.adapt.on_pairs import PairCorrection, Pairs

__all__ = ["Procrustes"]


class Procrustes(PairCorrection):
    """The rotation of a batch that lays its tiles best on the same tissue of a reference batch.

    With A and B the centred features of the pairs, the orthogonal matrix that minimises ||A W - B|| is
    W = U V', from the singular value decomposition U S V' of A' B. Distances within a batch stay as they are.
    A rotation of d dimensions needs more pairs than there mostly are, so it turns the leading
    min(256, n / 4) principal directions of the n pairs only; outside of them features are shifted.

    Parameters
    ----------
    reference_batch : str, optional
        The batch that stays as it is; the one that shares most places with the others otherwise.
    standardise : bool
        Turn features counted in their spread over the pairs, not in their own units: without it features of
        large numbers rule.

    References
    ----------
    Schönemann 1966, "A generalized solution of the orthogonal Procrustes problem", Psychometrika 31:1.

    Examples
    --------
    >>> import anndata, numpy, pandas
    >>> rng = numpy.random.default_rng(0); a = rng.normal(size=(200, 3)); turn = numpy.diag([1.0, -1, -1])
    >>> obs = pandas.DataFrame({"scanner": numpy.repeat(["A", "B"], 200)}, index=map(str, range(400)))
    >>> obs["pair"] = [f"p{i % 200}" for i in range(400)]
    >>> table = anndata.AnnData(numpy.vstack([a, a @ turn]).astype("float32"), obs=obs)
    >>> out = Procrustes("A", standardise=False).fit_transform(table, batch="scanner")
    >>> bool(numpy.allclose(out.X[200:], a, atol=1e-4))
    True
    """

    kind: ClassVar[str] = "procrustes"

    def __init__(self, reference_batch: str | None = None, standardise: bool = True) -> None:
        super().__init__(reference_batch)
        self.standardise = bool(standardise)

    def _settings(self) -> dict[str, Any]:
        return {"reference_batch": self.reference_batch, "standardise": self.standardise}

    def _fit_map(self, pairs: Pairs) -> State:
        location, target = pairs.a.mean(axis=0), pairs.b.mean(axis=0)
        a, b = pairs.a - location, pairs.b - target
        scale = np.ones(a.shape[1])
        if self.standardise:
            sd = np.sqrt((a**2 + b**2).mean(axis=0) / 2)
            scale = np.where(sd > 1e-12 * max(float(sd.max()), 1e-300), sd, 1.0)
        a, b = a / scale, b / scale
        _, s, vt = np.linalg.svd(np.vstack([a, b]), full_matrices=False)
        directions = vt[: subspace_rank(len(a), s**2)]
        u, _, v = np.linalg.svd((a @ directions.T).T @ (b @ directions.T))
        return {
            "location": location,
            "target": target,
            "scale": scale,
            "directions": directions,
            "turn": u @ v,
        }

    def _map(self, x: NDArray[np.float64], state: State) -> NDArray[np.float64]:
        z = (x - state["location"]) / state["scale"]
        inside = z @ state["directions"].T
        z = z + (inside @ state["turn"] - inside) @ state["directions"]
        return np.asarray(z * state["scale"] + state["target"])
