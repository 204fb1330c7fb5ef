"""Taking out of features what other numbers of the same tile explain of them."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

__all__ = ["take_out"]

RIDGE = 1e-3


def take_out(
    x: NDArray[np.float32],
    q: NDArray[np.float32],
    weight: NDArray[np.float64],
    x_new: NDArray[np.float32],
    q_new: NDArray[np.float32],
) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Residuals of features after a weighted ridge regression on ``q``, estimated on the first rows only.

    Parameters
    ----------
    x, x_new : float32 (n, d), (m, d)
        Features to train on, and others.
    q, q_new : float32 (n, k), (m, k)
        What is taken out, standardised here on the first rows; a constant column counts for nothing.
    weight : float64 (n,)
        Weights of the first rows.

    Returns
    -------
    tuple of float32 (n, d), (m, d)

    Examples
    --------
    >>> q = np.random.default_rng(0).normal(size=(50, 1)).astype(np.float32)
    >>> left, _ = take_out(3 * q, q, np.ones(50), 3 * q, q)
    >>> bool(left.std() < 0.02)
    True
    """
    share = weight / weight.sum()
    mean = share @ q
    sd = np.sqrt(share @ (q - mean) ** 2)
    scale = np.where(sd <= 1e-6 * np.maximum(np.abs(mean), 1e-12), np.inf, np.where(sd > 0, sd, 1.0))
    z = (q - mean) / scale
    weighted = z * share[:, None]
    middle = (share.astype(np.float32) @ x).astype(np.float64)
    gram = weighted.T @ z + RIDGE * np.eye(q.shape[1])
    slope = np.linalg.solve(gram, weighted.T.astype(np.float32) @ x - np.outer(weighted.sum(axis=0), middle))
    new = ((q_new - mean) / scale).astype(np.float32)
    slope32 = slope.astype(np.float32)
    return x - z.astype(np.float32) @ slope32, x_new - new @ slope32
