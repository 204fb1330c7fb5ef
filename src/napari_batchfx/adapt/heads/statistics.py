"""Mean and variance of a layer's input: merged over chunks, blended with those of the training."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

__all__ = ["FEW_CONTROLS", "MIN_CONTROLS", "Statistics", "blend", "merge", "trust"]

MIN_CONTROLS = 16
FEW_CONTROLS = 64
PRIOR_TILES = 32.0


@dataclass(frozen=True)
class Statistics:
    """What a batch normalisation subtracts and divides by.

    Attributes
    ----------
    mean, var : float64 (d,)
        The variance is that of the rows themselves (divided by n), as a batch normalisation uses it.
    n : int
        Rows it was computed from.
    """

    mean: NDArray[np.float64]
    var: NDArray[np.float64]
    n: int

    @classmethod
    def of(cls, x: NDArray[np.floating]) -> Statistics:
        """Of the rows of ``x`` (n, d)."""
        rows = np.asarray(x, dtype=np.float64)
        mean = rows.mean(axis=0)
        return cls(mean, ((rows - mean) ** 2).mean(axis=0), len(rows))


def merge(parts: Sequence[Statistics]) -> Statistics:
    """Statistics of all rows from those of their chunks.

    The variance holds what lies between the chunks too: the mean of ``var + (mean - grand mean)**2``, chunks
    weighted
    by their rows (Chan, Golub and LeVeque 1979). Averaging the variances alone would lose it.

    Examples
    --------
    >>> x = np.array([[0.0], [2.0], [10.0]])
    >>> whole, merged = Statistics.of(x), merge([Statistics.of(x[:2]), Statistics.of(x[2:])])
    >>> bool(np.allclose(whole.var, merged.var)), merged.n
    (True, 3)
    """
    n = np.array([part.n for part in parts], dtype=np.float64)
    weight = (n / n.sum())[:, None]
    means = np.stack([part.mean for part in parts])
    mean = (weight * means).sum(axis=0)
    var = (weight * (np.stack([part.var for part in parts]) + (means - mean) ** 2)).sum(axis=0)
    return Statistics(mean, var, int(n.sum()))


def blend(new: Statistics, source: Statistics, weight: float) -> Statistics:
    """``weight`` parts of ``new`` and the rest of ``source``, means and variances alike.

    For statistics of few tiles: Schneider et al. 2020, "Improving robustness against common corruptions by
    covariate
    shift adaptation", equation 3.

    Examples
    --------
    >>> one = Statistics(np.zeros(1), np.ones(1), 10)
    >>> blend(one, Statistics(np.ones(1), np.ones(1), 10), 0.25).mean.tolist()
    [0.75]
    """
    if weight >= 1.0:
        return new
    return Statistics(
        weight * new.mean + (1 - weight) * source.mean, weight * new.var + (1 - weight) * source.var, new.n
    )


def trust(n: int, enough: int = FEW_CONTROLS, least: int = MIN_CONTROLS) -> float:
    """Trust in statistics of ``n`` tiles: 1 from ``enough``, 0 below ``least``, else n / (n + 32).

    Examples
    --------
    >>> trust(128), trust(32), trust(8)
    (1.0, 0.5, 0.0)
    """
    if n >= enough:
        return 1.0
    return n / (n + PRIOR_TILES) if n >= least else 0.0
