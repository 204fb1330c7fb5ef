"""Gated attention over the tiles of a bag, evaluated in float64 without torch."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

__all__ = ["Weights", "pool"]

Weights = dict[str, NDArray[np.float64]]


def pool(w: Weights, features: NDArray[np.floating]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Vector of a bag (48,) and the attention of its tiles (n,), which sums to 1.

    ``a_j ~ exp(w . (tanh(V h_j) * sigmoid(U h_j)))``, Ilse et al. 2018, ICML, equation 9.
    """
    x = (np.asarray(features, dtype=np.float64) - w["centre"]) / w["scale"]
    h = np.maximum(x @ w["in"] + w["in_bias"], 0.0)
    gate = np.tanh(h @ w["v"] + w["v_bias"]) / (1.0 + np.exp(-(h @ w["u"] + w["u_bias"])))
    score = gate @ w["attend"]
    a = np.exp(score - score.max())
    a /= a.sum()
    return np.asarray(a @ h), np.asarray(a)
