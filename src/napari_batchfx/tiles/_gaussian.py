"""Gaussian smoothing of a float32 image, a band of rows at a time."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

__all__ = ["gaussian"]

Field = NDArray[np.float32]
# Rows at a time: what is worked on stays in the processor's cache, which is four times as fast.
BAND = 64


def gaussian(values: Field, sigma: tuple[float, float]) -> Field:
    """Smooth as :func:`scipy.ndimage.gaussian_filter` does (reflected border, cut at 4 sigma), but faster.

    Parameters
    ----------
    values : ndarray of float32, (h, w)
    sigma : (float, float)
        Standard deviations in pixels, (y, x); 0 leaves an axis alone.
    """
    down, across = (_half_kernel(s) for s in sigma)
    ry, rx = len(down) - 1, len(across) - 1
    padded = np.pad(np.asarray(values, np.float32), ((ry, ry), (rx, rx)), mode="symmetric")
    height, width = values.shape
    out = np.empty((height, width), np.float32)
    for top in range(0, height, BAND):
        n = min(BAND, height - top)
        band = padded[top : top + n + 2 * ry]
        rows = band[ry : ry + n] * down[0]
        for k in range(1, ry + 1):
            rows += (band[ry - k : ry - k + n] + band[ry + k : ry + k + n]) * down[k]
        part = out[top : top + n]
        np.multiply(rows[:, rx : rx + width], across[0], out=part)
        for k in range(1, rx + 1):
            part += (rows[:, rx - k : rx - k + width] + rows[:, rx + k : rx + k + width]) * across[k]
    return out


def _half_kernel(sigma: float) -> Field:
    """Weights of the centre and of each distance from it."""
    if sigma <= 0:
        return np.ones(1, np.float32)
    distance = np.arange(int(4 * sigma + 0.5) + 1)
    weights = np.exp(-0.5 * (distance / sigma) ** 2)
    half: Field = (weights / (2 * weights.sum() - 1)).astype(np.float32)
    return half
