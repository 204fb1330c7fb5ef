"""Covariances of few control samples: shrunk, and in the subspace that the samples can describe."""

from __future__ import annotations

from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

from napari_batchfx.errors import AdaptError

__all__ = [
    "CONTROLS_A_DIRECTION",
    "MAX_RANK",
    "Shrinkage",
    "check_shrinkage",
    "condition_number",
    "matrix_power",
    "shrinkage_of",
    "shrunk_covariance",
    "subspace_rank",
]

#: "ledoit-wolf", or a share in 0..1.
Shrinkage: TypeAlias = str | float

MAX_RANK = 256
CONTROLS_A_DIRECTION = 4


def check_shrinkage(who: str, shrinkage: Shrinkage) -> Shrinkage:
    """The same, checked.

    Raises
    ------
    AdaptError
        If it is neither "ledoit-wolf" nor a number from 0 to 1.
    """
    ok = shrinkage == "ledoit-wolf" if isinstance(shrinkage, str) else 0.0 <= shrinkage <= 1.0
    if not ok:
        raise AdaptError(f"{who}: shrinkage is 'ledoit-wolf' or a number from 0 to 1, not {shrinkage!r}.")
    return shrinkage


def shrinkage_of(rows: NDArray[np.float64], shrinkage: Shrinkage) -> float:
    """The share, 0..1, by which the covariance of centred rows (n, d) is drawn towards its mean eigenvalue.

    References
    ----------
    Ledoit & Wolf 2004, J Multivar Anal 88:365.
    """
    if not isinstance(shrinkage, str):
        return float(shrinkage)
    from sklearn.covariance import ledoit_wolf_shrinkage

    return float(ledoit_wolf_shrinkage(rows, assume_centered=True))


def subspace_rank(n: int, spectrum: NDArray[np.float64], a_direction: int = CONTROLS_A_DIRECTION) -> int:
    """How many principal directions n samples can describe: min(256, n / 4), of those that vary at all."""
    varying = int((spectrum > 1e-18 * max(float(spectrum[0]), 1e-300)).sum())
    return max(1, min(MAX_RANK, n // a_direction, varying))


def shrunk_covariance(
    rows: NDArray[np.float64], weight: NDArray[np.float64], shrinkage: Shrinkage
) -> tuple[NDArray[np.float64], float]:
    """Unbiased covariance (r, r) of centred rows with weights that sum to 1, shrunk, and by how much."""
    scaled = rows * np.sqrt(weight)[:, None]
    covariance = scaled.T @ scaled / max(1e-12, 1.0 - float(weight @ weight))
    alpha = shrinkage_of(scaled * np.sqrt(len(rows)), shrinkage)
    r = len(covariance)
    return (1.0 - alpha) * covariance + alpha * float(np.trace(covariance) / r) * np.eye(r), alpha


def matrix_power(covariance: NDArray[np.float64], power: float) -> NDArray[np.float64]:
    """Power of a symmetric matrix; eigenvalues below 1e-9 of the largest are lifted to that."""
    values, vectors = np.linalg.eigh(covariance)
    values = np.maximum(values, 1e-9 * max(float(values[-1]), 1e-12))
    return np.asarray((vectors * values**power) @ vectors.T)


def condition_number(covariance: NDArray[np.float64]) -> float:
    """Largest over smallest eigenvalue, the smallest lifted as in :func:`matrix_power`."""
    values = np.linalg.eigvalsh(covariance)
    return float(values[-1] / max(float(values[0]), 1e-9 * max(float(values[-1]), 1e-12)))
