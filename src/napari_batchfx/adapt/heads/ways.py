"""Predictions of the same tiles with three kinds of statistics, side by side."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from napari_batchfx.adapt.head import Prediction

__all__ = ["DomainContext", "Ways"]


@dataclass(frozen=True)
class DomainContext:
    """What the statistics of one domain came from.

    Attributes
    ----------
    name : str
    n_controls, n_targets : int
        Tiles in the context of the mixed statistics.
    weight : float
        How far they are believed: 1 fully, 0 not at all (then those of the training are used).
    """

    name: str
    n_controls: int
    n_targets: int
    weight: float


@dataclass(frozen=True)
class Ways:
    """Predictions with the statistics of the training, of the controls, and of controls and tiles together.

    Attributes
    ----------
    source, controls, mixed : Prediction
        Rows follow the table.
    contexts : list of DomainContext
    warnings : list of str
    """

    source: Prediction
    controls: Prediction
    mixed: Prediction
    contexts: list[DomainContext] = field(default_factory=list)
    warnings: list[str] = field(default_factory=list)

    def flipped(self, way: str = "mixed") -> NDArray[np.bool_]:
        """Tiles (n,) whose class differs from that of the unadapted head."""
        other: Prediction = getattr(self, way)
        return np.asarray(self.source.predicted & other.predicted & (self.source.label != other.label))

    @property
    def sentence(self) -> str:
        """How many tiles change with each kind of statistics."""
        n = int(self.source.predicted.sum())
        return (
            f"Of {n:,} tiles {int(self.flipped('controls').sum()):,} change class with the statistics of "
            f"the controls, {int(self.flipped('mixed').sum()):,} with those of controls and tiles together."
        )
