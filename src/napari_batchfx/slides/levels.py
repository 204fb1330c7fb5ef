"""The levels of a slide: those the file stores, and 2x steps between and below them, made when needed."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from napari_batchfx.slides._sources import StoredLevel

__all__ = ["Level", "levels_to_prepare", "made_from", "plan_levels"]

VIRTUAL_TILE = 512
COARSEST_PIXELS = 2**20
# Stored steps up to 2.5x are fine for a viewer; wider ones get a 2x level in between.
WIDEST_STEP = 2.5
# A stored level up to this size is read whole in a moment: levels made from it need no preparation.
QUICK_PIXELS = 4 * COARSEST_PIXELS


@dataclass(frozen=True)
class Level:
    """One level of the pyramid.

    Parameters
    ----------
    shape : (int, int)
        Height and width in pixels of this level.
    downsample : (float, float)
        Level-0 pixels that one pixel covers, (y, x): pixel (i, j) covers level-0 rows ``i * y`` to ``(i + 1)
        * y``.
    stored : bool
        Whether the file holds it; others are made by 2x2 box means of the level before.
    tile : (int, int)
        Height and width of the pieces it is read in.
    source : int
        Index of the stored level in the file, -1 for a made one.
    banded : bool
        Whether reading one tile decodes a whole row of tiles (strips).
    """

    shape: tuple[int, int]
    downsample: tuple[float, float]
    stored: bool
    tile: tuple[int, int]
    source: int = -1
    banded: bool = False


def plan_levels(stored: Sequence[StoredLevel]) -> tuple[Level, ...]:
    """Lay out the pyramid: every stored level, 2x steps in the gaps, and on until a level has <= 1 MPix.

    Parameters
    ----------
    stored : sequence of StoredLevel
        Largest first.
    """
    full = stored[0].shape
    levels: list[Level] = []
    for index, info in enumerate(stored):
        downsample = (_step(full[0], info.shape[0]), _step(full[1], info.shape[1]))
        while levels and max(downsample) / max(levels[-1].downsample) > WIDEST_STEP:
            levels.append(_half(levels[-1]))
        levels.append(Level(info.shape, downsample, True, info.tile, index, info.banded))
    while levels[-1].shape[0] * levels[-1].shape[1] > COARSEST_PIXELS:
        levels.append(_half(levels[-1]))
    return tuple(levels)


def _step(full: int, small: int) -> float:
    """Downsample of a stored level: the whole number if its size fits one, else the ratio."""
    whole = round(full / small)
    return float(whole) if abs(full / whole - small) < 1 else full / small


def _half(level: Level) -> Level:
    shape = (-(-level.shape[0] // 2), -(-level.shape[1] // 2))
    downsample = (level.downsample[0] * 2, level.downsample[1] * 2)
    return Level(shape, downsample, False, (VIRTUAL_TILE, VIRTUAL_TILE))


def made_from(levels: Sequence[Level], index: int) -> int:
    """Return the stored level that a level is made from; a stored one is its own."""
    while not levels[index].stored:
        index -= 1
    return index


def levels_to_prepare(levels: Sequence[Level]) -> tuple[range, ...]:
    """Return the made levels whose pixels are worth keeping on disk, as runs of neighbours.

    From 4x below the stored level on, where a view of 1024 px takes 16 MPix of it; from 2x on where a read
    decodes whole rows of tiles. Nothing where the stored level is small, or where only one such step fills a
    gap.
    """
    runs: list[range] = []
    for base, level in enumerate(levels):
        if not level.stored or level.shape[0] * level.shape[1] <= QUICK_PIXELS:
            continue
        end = base + 1
        while end < len(levels) and not levels[end].stored:
            end += 1
        first = base + (1 if level.banded else 2)
        only_a_gap = end < len(levels) and end - first < (1 if level.banded else 2)
        if first < end and not only_a_gap:
            runs.append(range(first, end))
    return tuple(runs)
