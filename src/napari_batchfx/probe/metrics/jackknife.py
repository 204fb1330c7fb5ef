"""Intervals from leaving whole slides or patients out, as tiles that ask and as neighbours.

A slide matters twice to a measure of neighbours: its tiles have neighbours, and they are neighbours. Drawing
slides with the lists kept sees the first alone: its 95 % intervals held the mean of all draws in 52 to 73 of
100 made tables (4 to 12 slides a site), these hold it in 92 to 99 (benchmarks/probe/properties.py).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from napari_batchfx.probe.statistics import wilson_interval

__all__ = ["MOST", "Blocks", "jackknife_interval", "without_each"]

MOST = 200


@dataclass(frozen=True)
class Blocks:
    """What is left out together: a group, or several of one kind where there are many.

    Attributes
    ----------
    of : int (n,)
        Block of each tile.
    stratum : int (b,)
        Kind of each block: blocks of a kind hold tiles of the same batches.
    """

    of: NDArray[np.intp]
    stratum: NDArray[np.intp]

    @classmethod
    def deal(
        cls, group: NDArray[np.intp], batch: NDArray[np.intp], seed: int = 0, most: int = MOST
    ) -> Blocks:
        """Blocks, about ``most`` at most, of groups (n,) whose tiles are of batches (n,).

        Examples
        --------
        >>> Blocks.deal(np.array([0, 0, 1, 2]), np.array([0, 0, 1, 1])).stratum.tolist()
        [0, 1, 1]
        """
        _, group = np.unique(group, return_inverse=True)
        present = np.zeros((int(group.max()) + 1, int(batch.max()) + 1), dtype=bool)
        present[group, batch] = True
        _, kind = np.unique(~present, axis=0, return_inverse=True)
        kind = kind.ravel()
        if len(kind) <= most:
            return cls(group.ravel().astype(np.intp), kind.astype(np.intp))
        rng = np.random.default_rng(seed)
        of_group = np.zeros(len(kind), dtype=np.intp)
        stratum: list[int] = []
        for one in range(int(kind.max()) + 1):
            members = rng.permutation(np.flatnonzero(kind == one))
            wanted = min(len(members), max(2, round(most * len(members) / len(kind))))
            of_group[members] = len(stratum) + np.arange(len(members)) % wanted
            stratum += [one] * wanted
        return cls(of_group[group.ravel()], np.array(stratum, dtype=np.intp))

    def __len__(self) -> int:
        return len(self.stratum)

    def pairs(
        self, rows: NDArray[np.intp], index: NDArray[np.integer], amount: NDArray[np.floating]
    ) -> NDArray[np.float64]:
        """Sum ``amount`` (q, k) by the block of the row and the block of its neighbour ``index`` (q, k)."""
        b = len(self)
        cell = self.of[rows][:, None] * b + self.of[index]
        sums = np.bincount(cell.ravel(), np.asarray(amount, dtype=np.float64).ravel(), b * b)
        return np.asarray(sums, dtype=np.float64).reshape(b, b)


def without_each(pairs: NDArray[np.float64]) -> NDArray[np.float64]:
    """The sum of ``pairs`` (..., b, b) without the row and the column of each block, (..., b)."""
    whole = pairs.sum(axis=(-2, -1))[..., None]
    return np.asarray(whole - pairs.sum(axis=-1) - pairs.sum(axis=-2) + pairs.diagonal(axis1=-2, axis2=-1))


def jackknife_interval(
    value: float, left_out: NDArray[np.float64], blocks: Blocks, low: float = 0.0, high: float = 1.0
) -> tuple[float, float] | None:
    r"""95 % interval of a value between ``low`` and ``high`` from its values without each block.

    .. math:: v = \sum_s \frac{b_s - 1}{b_s} \sum_{i \in s} (\theta_{(i)} - \bar\theta_s)^2

    over kinds of blocks :math:`s` (the delete-a-group jackknife: Kott 2001, Journal of Official Statistics
    17). It sees both parts that a slide plays, as for any measure of pairs (Efron and Stein 1981, The Annals
    of Statistics 9). The interval is Wilson's with as many observations as would be as uncertain, and the
    quantile of the t distribution, so that it stays within the bounds. Where no block matters (all or
    nothing) it is Wilson's with one observation a block; ``None`` for fewer than two blocks of a kind.

    Examples
    --------
    >>> blocks = Blocks(np.arange(4), np.zeros(4, dtype=int))
    >>> low, high = jackknife_interval(0.5, np.array([0.4, 0.5, 0.5, 0.6]), blocks)
    >>> round(low, 2), round(high, 2)
    (0.19, 0.81)
    """
    variance, free = 0.0, 0
    for one in np.unique(blocks.stratum):
        mine = left_out[blocks.stratum == one]
        mine = mine[np.isfinite(mine)]
        if len(mine) > 1:
            variance += (len(mine) - 1) / len(mine) * float(((mine - mine.mean()) ** 2).sum())
            free += len(mine) - 1
    if free < 1:
        return None
    share = (value - low) / (high - low)
    found = wilson_interval(share, variance / (high - low) ** 2, free, len(blocks))
    return float(low + (high - low) * found[0]), float(low + (high - low) * found[1])
