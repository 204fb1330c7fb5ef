"""Damaged tiles: shown as flat grey, counted once, never passed off as tissue."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from napari_batchfx.errors import SlideError

__all__ = ["MISSING_RGB", "Damage", "DamageLog", "DamagedTile", "missing_tile"]

#: The grey that stands for pixels that can't be read: no stain, and darker than glass.
MISSING_RGB = (191, 191, 191)


class DamagedTile(SlideError):
    """The pixels of one tile can't be decoded, the rest of the slide can.

    A source raises it from ``tiles``. Where one decoding gives several tiles (a band of strips) it may first
    yield what it could save, with :data:`MISSING_RGB` in the gaps, and raise afterwards.

    Parameters
    ----------
    reason : str
        What is wrong with it, in a few words.

    Examples
    --------
    >>> str(DamagedTile("the JPEG data end too soon"))
    'the JPEG data end too soon'
    """

    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self.reason = reason


@dataclass(frozen=True)
class Damage:
    """One tile found damaged.

    Parameters
    ----------
    level : int
        Index into the slide's ``levels``; always a stored one.
    row, col : int
        The tile's place in that level.
    reason : str
        What is wrong with it.
    """

    level: int
    row: int
    col: int
    reason: str


class DamageLog:
    """The damaged tiles of one slide, each once; safe to use from many threads.

    Examples
    --------
    >>> log = DamageLog()
    >>> log.add(Damage(0, 3, 4, "no JPEG data")), log.add(Damage(0, 3, 4, "again"))
    (True, False)
    >>> log.touches(0, range(2, 4), range(0, 9)), len(log.found)
    (True, 1)
    """

    def __init__(self) -> None:
        self._found: dict[tuple[int, int, int], Damage] = {}
        self._lock = threading.Lock()

    @property
    def found(self) -> tuple[Damage, ...]:
        """Every damage so far, in the order it was met."""
        with self._lock:
            return tuple(self._found.values())

    def __len__(self) -> int:
        return len(self._found)

    def __iter__(self) -> Iterator[Damage]:
        return iter(self.found)

    def add(self, damage: Damage) -> bool:
        """Note a damaged tile; False if it is known already."""
        key = (damage.level, damage.row, damage.col)
        with self._lock:
            if key in self._found:
                return False
            self._found[key] = damage
            return True

    def touches(self, level: int, rows: range, cols: range) -> bool:
        """Whether one of these tiles of a level is damaged."""
        if not self._found:
            return False
        return any(d.level == level and d.row in rows and d.col in cols for d in self.found)


def missing_tile(shape: tuple[int, int]) -> NDArray[np.uint8]:
    """Return a flat tile of :data:`MISSING_RGB`, uint8 (h, w, 3).

    Examples
    --------
    >>> missing_tile((2, 3))[1, 2].tolist()
    [191, 191, 191]
    """
    return np.full((*shape, 3), MISSING_RGB, np.uint8)
