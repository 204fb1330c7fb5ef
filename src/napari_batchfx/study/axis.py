"""The axis that encoded tiles are shown on: the first principal one of a sample that grows with them."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

__all__ = ["SAMPLE", "Axis"]

#: Tiles that the axis is fitted on, at most.
SAMPLE = 512


@dataclass
class Axis:
    """First principal axis of standardised features, fitted on a sample that grows with the tiles seen."""

    rows: list[NDArray[np.float32]] = field(default_factory=list)
    seen: int = 0
    fitted_on: int = 0
    mean: Any = None
    scale: Any = None
    axis: Any = None
    spread: float = 1.0

    def add(self, features: NDArray[np.float32]) -> bool:
        """Take tiles into the sample; whether the axis is another one now."""
        if self.seen < SAMPLE:
            self.rows.append(features[: SAMPLE - self.seen])
            self.seen += len(self.rows[-1])
        # Refitted when the sample has doubled: early pictures settle, and the cost stays small.
        if self.rows and (self.axis is None or self.seen >= 2 * self.fitted_on):
            self.fit(np.concatenate(self.rows))
            return True
        return False

    def fit(self, sample: NDArray[np.float32]) -> None:
        """Fit on tiles (n, dim); fewer than two leave it as it is."""
        rows = np.asarray(sample, dtype=np.float64)
        rows = rows[np.isfinite(rows).all(axis=1)]
        if len(rows) < 2:
            return
        self.mean, scale = rows.mean(axis=0), rows.std(axis=0)
        self.scale = np.where(scale > 0, scale, 1.0)
        z = (rows - self.mean) / self.scale
        axis = np.linalg.svd(z, full_matrices=False)[2][0]
        # By the largest loading; later as before, so that colours do not flip.
        before = axis[np.abs(axis).argmax()] if self.axis is None else axis @ self.axis
        self.axis = axis * (1.0 if before >= 0 else -1.0)
        self.spread = float((z @ self.axis).std()) or 1.0
        self.fitted_on = len(rows)

    def scores(self, features: NDArray[np.float32]) -> NDArray[np.float32]:
        """Where tiles (n, dim) lie on the axis, in standard deviations; 0 before there is one."""
        if self.axis is None:
            return np.zeros(len(features), dtype=np.float32)
        z = (np.asarray(features, dtype=np.float64) - self.mean) / self.scale
        values: NDArray[np.float32] = (z @ self.axis / self.spread).astype(np.float32)
        return values
