"""Two concentrations from three optical densities."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

__all__ = ["nonnegative"]


def nonnegative(density: npt.NDArray[np.float64], matrix: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    """Non-negative least squares of optical density (..., 3) on two vectors (2, 3): (..., 2)."""
    both = density @ np.linalg.pinv(matrix)
    # Where one would be negative, the other alone.
    alone = np.maximum(density @ (matrix / (matrix**2).sum(axis=1, keepdims=True)).T, 0.0)
    h = np.where(both[..., 0] < 0, 0.0, np.where(both[..., 1] < 0, alone[..., 0], both[..., 0]))
    e = np.where(both[..., 1] < 0, 0.0, np.where(both[..., 0] < 0, alone[..., 1], both[..., 1]))
    return np.stack([h, e], axis=-1)
