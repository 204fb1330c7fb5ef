"""Whether the probabilities of a probe can be taken at their word."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

__all__ = ["BINS", "calibration"]

BINS = 10


def calibration(
    proba: NDArray[np.float64], y: NDArray[np.intp], weight: NDArray[np.floating]
) -> dict[str, Any]:
    r"""Expected calibration error and the table it is made of.

    .. math:: ECE = \sum_m \frac{w(B_m)}{w} \left| acc(B_m) - conf(B_m) \right|

    over ten equal bins of the highest probability of a tile (Guo et al. 2017, equation 3).

    Parameters
    ----------
    proba : float64 (n, b)
        Probabilities.
    y : int (n,)
        True batches.
    weight : float (n,)
        Weight of each tile; the prior the probabilities were made for.

    Returns
    -------
    dict
        ``ece``, ``log_loss``, and ``reliability``: a dict a bin with ``low``, ``high``, ``tiles``,
        ``weight`` (share), ``confidence`` and ``accuracy`` (NaN in an empty bin).

    Examples
    --------
    >>> found = calibration(np.array([[0.9, 0.1]] * 10), np.array([0] * 9 + [1]), np.ones(10))
    >>> round(found["ece"], 6), found["reliability"][9]["tiles"]
    (0.0, 10)
    """
    share = np.asarray(weight, dtype=np.float64) / float(np.sum(weight))
    top = proba.max(axis=1)
    right = (proba.argmax(axis=1) == y).astype(np.float64)
    at = np.minimum((top * BINS + 1e-9).astype(np.intp), BINS - 1)
    mass = np.bincount(at, weights=share, minlength=BINS)
    tiles = np.bincount(at, minlength=BINS)
    with np.errstate(invalid="ignore", divide="ignore"):
        confidence = np.bincount(at, weights=share * top, minlength=BINS) / mass
        accuracy = np.bincount(at, weights=share * right, minlength=BINS) / mass
    used = mass > 0
    own = proba[np.arange(len(y)), y]
    return {
        "ece": float(np.sum(mass[used] * np.abs(accuracy[used] - confidence[used]))),
        "log_loss": float(-share @ np.log(np.maximum(own, 1e-300))),
        "reliability": [
            {
                "low": i / BINS,
                "high": (i + 1) / BINS,
                "tiles": int(tiles[i]),
                "weight": float(mass[i]),
                "confidence": float(confidence[i]),
                "accuracy": float(accuracy[i]),
            }
            for i in range(BINS)
        ],
    }
