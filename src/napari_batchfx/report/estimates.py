"""A number of a report with what it needs to be judged."""

from __future__ import annotations

from dataclasses import dataclass

__all__ = ["Estimate"]


@dataclass(frozen=True)
class Estimate:
    """A number with what it needs to be judged.

    Parameters
    ----------
    value : float
        NaN where it could not be computed.
    ci : (float, float), optional
        95 % interval.
    n : int, optional
        What it rests on (tiles).
    """

    value: float
    ci: tuple[float, float] | None = None
    n: int | None = None
