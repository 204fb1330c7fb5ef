"""Corrections learned from tiles that show the same tissue on two batches: aligned rescans."""

from __future__ import annotations

from abc import abstractmethod
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
from numpy.typing import NDArray

from napari_batchfx.adapt.correction import FEW_CONTROLS, MIN_CONTROLS, Correction, State, control_mask
from napari_batchfx.errors import AdaptError
from napari_batchfx.probe.columns import category_codes, feature_matrix, positions
from napari_batchfx.probe.folds import spatial_regions

if TYPE_CHECKING:
    from anndata import AnnData

__all__ = ["PairCorrection", "Pairs"]

_FOLDS = 5


@dataclass(frozen=True)
class Pairs:
    """The same places on a batch (``a``) and on the reference (``b``), and a fold of each (n,).

    Folds are slides, or pieces of a slide where there are fewer than four.
    """

    a: NDArray[np.float64]
    b: NDArray[np.float64]
    fold: NDArray[np.intp]


class PairCorrection(Correction):
    """A map of each batch onto a reference batch, learned from pairs of tiles.

    Pairs are tiles with the same text in ``obs["pair"]``. Where control samples are marked, only pairs of
    controls are learned from, so that the other tiles can judge the result; otherwise all pairs are, and a
    warning says so. No label is looked at.

    Subclasses say how a map is fitted (:meth:`_fit_map`).

    Examples
    --------
    >>> from napari_batchfx.adapt import Procrustes, Ridge
    >>> all(issubclass(one, PairCorrection) for one in (Procrustes, Ridge))
    True
    """

    def __init__(self, reference_batch: str | None = None) -> None:
        super().__init__()
        self.reference_batch = reference_batch

    @abstractmethod
    def _fit_map(self, pairs: Pairs) -> State:
        """The map of one batch; "location" and "target" are the means of both sides."""

    @abstractmethod
    def _map(self, x: NDArray[np.float64], state: State) -> NDArray[np.float64]:
        """Map rows of a batch that is not the reference."""

    def _fit(self, table: AnnData, controls: npt.ArrayLike | None, known: frozenset[str]) -> None:
        codes, names = category_codes(table, self.batch)
        if not names:
            raise AdaptError(f"No slide has a {self.batch}: give each slide one in the Slides dock.")
        pair, places = category_codes(table, "pair")
        x = feature_matrix(table).astype(np.float64)
        used = (pair >= 0) & (codes >= 0) & np.isfinite(x).all(axis=1)
        if not used.any():
            raise AdaptError(
                "No tiles are known to show the same tissue: align rescans of the same section in the "
                "Slides dock."
            )
        mask = control_mask(table, controls)
        if mask.any():
            used &= mask
        elif not known:
            self.warnings.append(
                "No control samples are marked, so all pairs were learned from: accuracy on the same tiles "
                "is on "
                "the kind side."
            )
        there = np.zeros((len(names), len(places)), dtype=bool)
        there[codes[used], pair[used]] = True
        reference = self._reference(names, there, known)
        at = names.index(reference)
        yx = positions(table)
        slide = category_codes(table, "slide")[0]
        per_batch = self.diagnostics.setdefault("batches", {})
        if not known:
            self._notes["reference"] = reference
            self._by_batch[reference] = {"target": np.zeros(x.shape[1])}
        for b, name in enumerate(names):
            if name in known or name == reference:
                continue
            shared = np.flatnonzero(there[b] & there[at])
            if len(shared) < MIN_CONTROLS:
                raise AdaptError(
                    f"{self.batch} {name} has {len(shared)} tiles that show the same tissue as {reference}"
                    f"{' and are controls' if mask.any() else ''}; at least {MIN_CONTROLS} are needed, "
                    "better "
                    f"{FEW_CONTROLS}."
                )
            if len(shared) < FEW_CONTROLS:
                self.warnings.append(
                    f"{self.batch} {name} has {len(shared)} pairs: few, {FEW_CONTROLS} or more are better."
                )
            a, _ = _means(x, pair, used & (codes == b), shared)
            target, rows = _means(x, pair, used & (codes == at), shared)
            pairs = Pairs(a, target, _folds(slide[rows], None if yx is None else yx[rows]))
            self._by_batch[name] = self._fit_map(pairs)
            info = {"n_pairs": len(shared), "n_slides": len(np.unique(slide[rows]))} | self._judge(pairs)
            per_batch[name] = per_batch.get(name, {}) | info
            if info["left_after"] > info["left_after_shift"]:
                self.warnings.append(
                    f"{self.batch} {name}: on held-out pairs the map leaves "
                    f"{100 * info['left_after']:.0f} % of the difference, a plain shift "
                    f"{100 * info['left_after_shift']:.0f} %: there are too few pairs for it."
                )

    def _reference(self, names: list[str], there: NDArray[np.bool_], known: frozenset[str]) -> str:
        wanted = str(self._notes["reference"]) if known else self.reference_batch
        if wanted is None:
            # the batch that shares most places with the others
            shared = [
                int((there[b] & np.delete(there, b, axis=0).any(axis=0)).sum()) for b in range(len(names))
            ]
            return names[int(np.argmax(shared))]
        if wanted not in names:
            raise AdaptError(
                f"There is no {self.batch} {wanted} in the table, onto which the others are mapped: its "
                "tiles "
                "are needed too."
            )
        return wanted

    def _judge(self, pairs: Pairs) -> dict[str, Any]:
        """Share of the squared difference left on held-out pairs: after the map, and after a shift alone."""
        left = np.zeros(3)
        for k in np.unique(pairs.fold):
            fit, test = pairs.fold != k, pairs.fold == k
            if fit.sum() < 3:
                continue
            state = self._fit_map(Pairs(pairs.a[fit], pairs.b[fit], pairs.fold[fit]))
            a, b = pairs.a[test], pairs.b[test]
            shift = pairs.b[fit].mean(axis=0) - pairs.a[fit].mean(axis=0)
            left += [float(((one - b) ** 2).sum()) for one in (a, a + shift, self._map(a, state))]
        whole = max(float(left[0]), 1e-300)
        return {"left_after_shift": float(left[1] / whole), "left_after": float(left[2] / whole)}

    def _apply(self, x: NDArray[np.float64], state: State) -> NDArray[np.float64]:
        return self._map(x, state) if "location" in state else x


def _means(
    x: NDArray[np.float64], pair: NDArray[np.intp], rows: NDArray[np.bool_], shared: NDArray[np.intp]
) -> tuple[NDArray[np.float64], NDArray[np.intp]]:
    """Mean features (k, d) of each place's tiles, and the row of its first tile (k,)."""
    at = np.flatnonzero(rows & np.isin(pair, shared))
    place = np.searchsorted(shared, pair[at])
    total = np.zeros((len(shared), x.shape[1]))
    np.add.at(total, place, x[at])
    first = np.zeros(len(shared), dtype=np.intp)
    first[place[::-1]] = at[::-1]
    return total / np.bincount(place, minlength=len(shared))[:, None], first


def _folds(slide: NDArray[np.intp], yx: NDArray[np.float64] | None) -> NDArray[np.intp]:
    slides, codes = np.unique(slide, return_inverse=True)
    if len(slides) >= 4:
        return np.asarray(codes % _FOLDS, dtype=np.intp)
    if yx is None:
        return np.arange(len(slide), dtype=np.intp) % _FOLDS
    fold = np.zeros(len(slide), dtype=np.intp)
    for s in range(len(slides)):
        fold[codes == s] = spatial_regions(yx[codes == s], _FOLDS)
    return fold
