"""Harmony, as an offline baseline."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
import numpy.typing as npt
from numpy.typing import NDArray

from napari_batchfx.adapt.correction import TIED, Correction, State
from napari_batchfx.adapt.harmony_model import HarmonyRound, fit_rounds, replay
from napari_batchfx.errors import AdaptError
from napari_batchfx.probe.columns import category_codes, feature_matrix
from napari_batchfx.probe.metrics.cramers_v import association

if TYPE_CHECKING:
    from anndata import AnnData

__all__ = ["Harmony"]

_LEAST_TILES = 30


class Harmony(Correction):
    """Clusters of tiles in which batches are mixed, and a move of each batch in each cluster.

    It needs no controls and looks at all tiles at once: what it takes for a batch effect may be tissue that
    only one batch has. So it is a **baseline to compare with**, never to be used on slides whose tissue
    differs. Tiles of fitted batches that come later are moved as the fit would have moved them; a batch that
    comes later needs a new fit.

    Features are standardised and projected on principal components, corrected there, and the difference is
    taken back to the features.

    Parameters
    ----------
    n_components : int or None
        Principal components; ``None`` takes the features as they are for components.
    theta, sigma, ridge : float
        Weight of mixing; width of the soft clusters; penalty of the moves.
    n_clusters : int, optional
        min(n / 30, 100) otherwise.
    seed : int

    Raises
    ------
    AdaptError
        At :meth:`fit`: fewer than two batches, 30 tiles or missing features; or class and batch fully tied.

    References
    ----------
    Korsunsky et al. 2019, "Fast, sensitive and accurate integration of single-cell data with Harmony",
    Nat Methods 16:1289. Written from the equations there.

    Examples
    --------
    >>> import anndata, numpy, pandas
    >>> rng = numpy.random.default_rng(0); site = numpy.tile(["A", "B"], 150)
    >>> x = rng.normal(size=(300, 4)) + 6 * numpy.eye(4)[numpy.repeat([0, 1, 2], 100)]
    >>> x[site == "B", 3] += 3
    >>> obs = pandas.DataFrame({"site": site}, index=numpy.arange(300).astype(str))
    >>> out = Harmony().fit_transform(anndata.AnnData(x.astype("float32"), obs=obs))
    >>> bool(abs(out.X[site == "A", 3].mean() - out.X[site == "B", 3].mean()) < 0.5)
    True
    """

    kind: ClassVar[str] = "harmony"

    def __init__(
        self,
        n_components: int | None = 50,
        theta: float = 2.0,
        sigma: float = 0.1,
        ridge: float = 1.0,
        n_clusters: int | None = None,
        seed: int = 0,
    ) -> None:
        super().__init__()
        if n_components is not None and n_components < 1:
            raise AdaptError(f"Harmony: at least one component is needed, not {n_components}.")
        if min(theta, ridge) < 0 or sigma <= 0:
            raise AdaptError("Harmony: theta and ridge are numbers from 0 on, sigma is above 0.")
        self.n_components, self.n_clusters, self.seed = n_components, n_clusters, int(seed)
        self.theta, self.sigma, self.ridge = float(theta), float(sigma), float(ridge)

    def _settings(self) -> dict[str, Any]:
        names = ("n_components", "theta", "sigma", "ridge", "n_clusters", "seed")
        return {name: getattr(self, name) for name in names}

    def _fit(self, table: AnnData, controls: npt.ArrayLike | None, known: frozenset[str]) -> None:
        if known:
            raise AdaptError(
                f"Harmony looks at all slides at once: to add a {self.batch}, fit it anew on all of them."
            )
        codes, names = category_codes(table, self.batch)
        rows = np.flatnonzero(codes >= 0)
        if len(names) < 2:
            raise AdaptError(f"Harmony mixes batches: give the slides at least two different {self.batch}s.")
        label = category_codes(table, "label")[0]
        both = (label >= 0) & (codes >= 0)
        tied = association(label[both], codes[both])
        if tied is not None and tied > TIED:
            raise AdaptError(
                f"Class and {self.batch} are fully tied: what belongs to the {self.batch} and what to the "
                "tissue "
                "can't be told apart, so nothing is corrected. Use control samples and a method that needs "
                "them."
            )
        x = feature_matrix(table).astype(np.float64)[rows]
        missing = int((~np.isfinite(x).all(axis=1)).sum())
        if missing:
            raise AdaptError(f"{missing:,} tiles have missing features: encode them again or leave them out.")
        if len(x) < _LEAST_TILES:
            raise AdaptError(f"Harmony needs at least {_LEAST_TILES} tiles; there are {len(x)}.")
        location, scale, loadings = self._project(x)
        z = ((x - location) / scale) @ loadings.T
        rounds, _ = fit_rounds(
            z,
            codes[rows],
            n_clusters=self.n_clusters,
            theta=self.theta,
            sigma=self.sigma,
            ridge=self.ridge,
            seed=self.seed,
        )
        self.diagnostics |= {
            "components": len(loadings),
            "clusters": rounds[0].moves.shape[1],
            "rounds": len(rounds),
            "batches": {name: {"n_tiles": int((codes == b).sum())} for b, name in enumerate(names)},
        }
        self.warnings.append(
            "Harmony looks at all slides at once and can take tissue that one batch alone has for a batch "
            "effect: "
            "a baseline to compare with."
        )
        self._pooled = {"location": location, "scale": scale, "loadings": loadings} | {
            f"centroids.{i}": one.centroids for i, one in enumerate(rounds)
        }
        for b, name in enumerate(names):
            self._by_batch[name] = {f"balance.{i}": one.balance[b] for i, one in enumerate(rounds)} | {
                f"moves.{i}": one.moves[b] for i, one in enumerate(rounds)
            }

    def _project(
        self, x: NDArray[np.float64]
    ) -> tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.float64]]:
        d = x.shape[1]
        if self.n_components is None:
            return np.zeros(d), np.ones(d), np.eye(d)
        location, scale = x.mean(axis=0), x.std(axis=0)
        scale = np.where(scale > 1e-12 * np.maximum(np.abs(x).max(axis=0), 1e-300), scale, np.inf)
        z = (x - location) / scale
        _, vectors = np.linalg.eigh(z.T @ z)
        wanted = min(self.n_components, d, len(x) - 1)
        return location, scale, np.ascontiguousarray(vectors[:, ::-1][:, :wanted].T)

    def _apply(self, x: NDArray[np.float64], state: State) -> NDArray[np.float64]:
        pooled = self._pooled
        n = sum(1 for name in pooled if name.startswith("centroids."))
        rounds = [
            HarmonyRound(pooled[f"centroids.{i}"], state[f"balance.{i}"][None], state[f"moves.{i}"][None])
            for i in range(n)
        ]
        z = ((x - pooled["location"]) / pooled["scale"]) @ pooled["loadings"].T
        moved = replay(z, np.zeros(len(z), dtype=np.intp), rounds, self.sigma) - z
        # what lies outside of the components stays as it is
        scale = np.where(np.isfinite(pooled["scale"]), pooled["scale"], 0.0)
        return np.asarray(x + (moved @ pooled["loadings"]) * scale)
