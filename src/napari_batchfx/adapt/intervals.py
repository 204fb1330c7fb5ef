"""95 % intervals over patients, slides or blocks, of shares and of their change, wide enough for few of them.

Percentiles of bootstrap draws are far too narrow for few units: of two, they can't leave the range of the
two. Here the draws give a variance, corrected for the number of units; the interval is Wilson's with as many
observations as would be as uncertain, and the quantile of the t distribution, as for the site probe (Korn and
Graubard 1998; see :func:`napari_batchfx.probe.statistics.bootstrap_interval`).
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from napari_batchfx.probe.statistics import wilson_interval

__all__ = ["change_interval", "draw_units", "share_interval"]


def draw_units(holds: NDArray[np.bool_], n_bootstrap: int, seed: int = 0) -> tuple[NDArray[np.float64], int]:
    """How often each unit is drawn, float (n_bootstrap, units), and the degrees of freedom.

    Units that hold the same classes are drawn among each other, so that no draw lacks a class, where there
    are two of each kind at least; all together otherwise.

    Parameters
    ----------
    holds : bool (units, classes)
        Whether a unit has tiles of a class.
    n_bootstrap, seed : int

    Examples
    --------
    >>> times, free = draw_units(np.array([[1, 0], [1, 0], [0, 1], [0, 1]], dtype=bool), 50)
    >>> times.shape, free, bool((times[:, :2].sum(axis=1) == 2).all())
    ((50, 4), 2, True)
    """
    units = len(holds)
    _, kind, n = np.unique(holds, axis=0, return_inverse=True, return_counts=True)
    kind = kind.ravel() if n.min() > 1 else np.zeros(units, dtype=np.intp)
    rng = np.random.default_rng(seed)
    times = np.zeros((max(n_bootstrap, 1), units))
    for one in np.unique(kind):
        members = np.flatnonzero(kind == one)
        even = np.full(len(members), 1.0 / len(members))
        times[:, members] = rng.multinomial(len(members), even, size=len(times))
    return times, units - int(kind.max()) - 1


def share_interval(
    value: float, draws: NDArray[np.float64], units: int, free: int, n: int
) -> tuple[float, float]:
    """Interval of a share from its values on draws of units; ``n`` tiles at most are independent.

    Examples
    --------
    >>> low, high = share_interval(0.8, np.array([0.7, 0.8, 0.9, 0.8]), 4, 3, 100)
    >>> round(low, 2), round(high, 2)
    (0.48, 0.95)
    """
    found = wilson_interval(float(value), _variance(draws, units, free), free, units, most=float(n))
    return float(found[0]), float(found[1])


def change_interval(value: float, draws: NDArray[np.float64], units: int, free: int) -> tuple[float, float]:
    """Interval of a change of a share, between -1 and 1, from its values on draws that both sides share.

    Where it is the same in every unit, as much may change as a share that was never seen in so many units.

    Examples
    --------
    >>> low, high = change_interval(0.1, np.array([0.0, 0.1, 0.2, 0.1]), 4, 3)
    >>> round(low, 2), round(high, 2)
    (-0.16, 0.35)
    >>> low, high = change_interval(0.1, np.full(4, 0.1), 40, 39)
    >>> round(low, 2), round(high, 2)
    (0.01, 0.19)
    """
    variance = _variance(draws, units, free)
    if free < 1 or variance < 1e-24:
        unseen = 1.0 - float(wilson_interval(1.0, 0.0, free, units)[0])
        return max(-1.0, float(value) - unseen), min(1.0, float(value) + unseen)
    found = 2 * wilson_interval((float(value) + 1) / 2, variance / 4, free, units) - 1
    return float(found[0]), float(found[1])


def _variance(draws: NDArray[np.float64], units: int, free: int) -> float:
    return float(draws.var()) * units / max(free, 1)
