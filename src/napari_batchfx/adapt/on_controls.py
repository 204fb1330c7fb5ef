"""Corrections that are fitted on control samples."""

from __future__ import annotations

from abc import abstractmethod
from typing import TYPE_CHECKING, ClassVar

import numpy as np
import numpy.typing as npt
from numpy.typing import NDArray

from napari_batchfx.adapt.correction import (
    FEW_CONTROLS,
    MIN_CONTROLS,
    TIED,
    Correction,
    State,
    control_mask,
)
from napari_batchfx.errors import AdaptError
from napari_batchfx.probe.columns import category_codes, feature_matrix
from napari_batchfx.probe.metrics.cramers_v import association

if TYPE_CHECKING:
    from anndata import AnnData

__all__ = ["ControlCorrection"]

_UNEVEN = 0.3


class ControlCorrection(Correction):
    """A correction fitted for each batch on its control samples.

    Subclasses say what is shared by all batches (:meth:`_fit_pooled`) and what belongs to one
    (:meth:`_fit_batch`).

    Examples
    --------
    >>> from napari_batchfx.adapt import TVN, Harmony
    >>> issubclass(TVN, ControlCorrection), issubclass(Harmony, ControlCorrection)
    (True, False)
    """

    #: Whether covariates even out the mixture of tissue by weights.
    _weighs: ClassVar[bool] = True

    @abstractmethod
    def _fit_pooled(self, x: NDArray[np.float64], y: NDArray[np.intp], weight: NDArray[np.float64]) -> State:
        """What all batches share, from the controls ``x`` (m, d); weights sum to 1 in each batch of ``y``."""

    @abstractmethod
    def _fit_batch(self, name: str, x: NDArray[np.float64], weight: NDArray[np.float64]) -> State:
        """What belongs to one batch, from its controls (m, d)."""

    def _prepare(self, table: AnnData, rows: NDArray[np.intp], names: list[str], is_first: bool) -> None:
        """Look at the controls' rows before they are fitted; for subclasses that need more of the table."""

    def _fit(self, table: AnnData, controls: npt.ArrayLike | None, known: frozenset[str]) -> None:
        rows, x, y, names, weight = self._controls(table, controls, known)
        self._prepare(table, rows, names, not known)
        if not known:
            self._pooled = self._fit_pooled(x, y, weight)
        for b, name in enumerate(names):
            mine = y == b
            self._by_batch[name] = self._fit_batch(name, x[mine], weight[mine] / weight[mine].sum())

    def _controls(
        self, table: AnnData, controls: npt.ArrayLike | None, known: frozenset[str]
    ) -> tuple[NDArray[np.intp], NDArray[np.float64], NDArray[np.intp], list[str], NDArray[np.float64]]:
        """Rows, features, batches and weights of the controls, checked; ``known`` batches are skipped."""
        mask = control_mask(table, controls)
        codes, names = category_codes(table, self.batch)
        if not names:
            raise AdaptError(f"No slide has a {self.batch}: give each slide one in the Slides dock.")
        label = category_codes(table, "label")[0]
        both = (label >= 0) & (codes >= 0)
        if not mask.any():
            v = association(label[both], codes[both])
            if v is not None and v > TIED:
                raise AdaptError(
                    f"Class and {self.batch} are fully tied and there are no control samples: what "
                    f"belongs to the {self.batch} and "
                    "what to the tissue can't be told apart, so nothing is corrected. Mark control "
                    f"samples on every {self.batch}."
                )
            raise AdaptError(
                f"There are no control samples: mark ordinary tissue on every {self.batch} as control."
            )
        tied = association(label[both & mask], codes[both & mask])
        if tied is not None and tied > TIED:
            raise AdaptError(
                f"Among the control samples class and {self.batch} are fully tied: choose controls of the "
                "same tissue on every "
                f"{self.batch}."
            )
        if tied is not None and tied > _UNEVEN and not self.covariates:
            self.warnings.append(
                f"The control samples hold a different mixture of classes in each {self.batch} (Cramér's "
                f"V {tied:.2f}): part of "
                f"the correction may be biology; covariates=('label',) evens it out."
            )
        wanted = [b for b, name in enumerate(names) if name not in known]
        rows = np.flatnonzero(mask & np.isin(codes, wanted))
        x = feature_matrix(table).astype(np.float64)[rows]
        missing = int((~np.isfinite(x).all(axis=1)).sum())
        if missing:
            raise AdaptError(
                f"{missing:,} control samples have missing features: encode them again or take them out "
                "of the controls."
            )
        weight, kept = self._weights(table, rows, codes, wanted, names)
        rows, x, weight = rows[kept], x[kept], weight[kept]
        slides = category_codes(table, "slide")[0]
        per_batch = self.diagnostics.setdefault("batches", {})
        for b in wanted:
            mine = codes[rows] == b
            n = int(mine.sum())
            if n < MIN_CONTROLS:
                raise AdaptError(
                    f"{self.batch} {names[b]} has {n} control samples; at least {MIN_CONTROLS} are "
                    f"needed, better {FEW_CONTROLS}."
                )
            if n < FEW_CONTROLS:
                self.warnings.append(
                    f"{self.batch} {names[b]} has {n} control samples: few, {FEW_CONTROLS} or more make a "
                    "steadier correction."
                )
            per_batch[names[b]] = {"n_controls": n, "n_slides": len(np.unique(slides[rows][mine]))}
        y = np.searchsorted(wanted, codes[rows]).astype(np.intp)
        return rows, x, y, [names[b] for b in wanted], weight

    def _weights(
        self,
        table: AnnData,
        rows: NDArray[np.intp],
        codes: NDArray[np.intp],
        wanted: list[int],
        names: list[str],
    ) -> tuple[NDArray[np.float64], NDArray[np.bool_]]:
        """Weights that sum to 1 in each batch, every kind of tissue the same in all of them."""
        kinds = np.zeros(len(rows), dtype=np.intp)
        for column in self.covariates if self._weighs else ():
            values, levels = category_codes(table, column)
            if not levels:
                raise AdaptError(f"The covariate {column} is empty: leave it out or fill it in.")
            kinds = kinds * (len(levels) + 1) + values[rows] + 1
        _, kinds = np.unique(kinds, return_inverse=True)
        batch = codes[rows]
        counts = np.zeros((len(wanted), int(kinds.max(initial=0)) + 1))
        if len(rows):
            np.add.at(counts, (np.searchsorted(wanted, batch), kinds), 1.0)
        shared = np.asarray((counts > 0).all(axis=0)) | (not self.covariates or not self._weighs)
        kept = np.asarray(shared[kinds], dtype=bool)
        if self.covariates and not kept.any():
            raise AdaptError(
                f"No kind of control tissue is in every {self.batch}: choose controls of the same tissue "
                "on each."
            )
        if not kept.all():
            self.warnings.append(
                f"{int((~kept).sum()):,} control samples are of a kind that is not in every {self.batch} "
                "and were left out."
            )
        weight = np.zeros(len(rows))
        total = counts.sum(axis=0) * shared
        target = total / max(total.sum(), 1.0)
        for i, b in enumerate(wanted):
            mine = (batch == b) & kept
            weight[mine] = (
                target[kinds[mine]] / counts[i, kinds[mine]]
                if self.covariates and self._weighs
                else 1.0 / max(int(mine.sum()), 1)
            )
        return weight, kept
