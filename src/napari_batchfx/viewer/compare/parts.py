"""Which part of the canvas a slide shows: a band between two edges of a curtain, or its squares of a checkerboard."""

from __future__ import annotations

import math
from dataclasses import dataclass

__all__ = ["NOTHING", "Band", "Part", "Squares", "even_edges", "nice_size", "square_step"]


@dataclass(frozen=True)
class Band:
    """From ``low`` to ``high``, fractions of the canvas from the left (``across``) or from the top."""

    low: float
    high: float
    across: bool = True


@dataclass(frozen=True)
class Squares:
    """The squares of slide ``index`` of ``n``; ``size_um`` wide, laid out from the origin of the common frame."""

    size_um: float
    n: int
    index: int

    def shows(self, row: int, col: int) -> bool:
        """Whether the square in that row and column shows this slide."""
        return (col + square_step(self.n) * row) % self.n == self.index


Part = Band | Squares
NOTHING = Band(2.0, 2.0)
"""No part of the canvas."""


def square_step(n: int) -> int:
    """By how many slides the next row of squares is ahead: neighbours in both directions show different slides.

    With two and three slides a step of one does; with more, two, like a knight's move, keeps diagonals from showing one slide.
    """
    return 1 if n < 4 else 2


def even_edges(n: int) -> tuple[float, ...]:
    """The ``n - 1`` edges that give ``n`` slides equal bands."""
    return tuple((i + 1) / n for i in range(max(0, n - 1)))


def nice_size(span_um: float) -> float:
    """A round length, 1, 2 or 5 times a power of ten, not above a length in micrometres.

    >>> nice_size(730.0)
    500.0
    """
    if not (span_um > 0 and math.isfinite(span_um)):
        return 1.0
    power = 10.0 ** math.floor(math.log10(span_um))
    return next(step * power for step in (5.0, 2.0, 1.0) if step * power <= span_um * (1 + 1e-9))
