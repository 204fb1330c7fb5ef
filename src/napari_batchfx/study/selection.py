"""Which slides, and which tiles of them, a step is about: short text that a person can read."""

from __future__ import annotations

import re
from typing import Any

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, Field

from napari_batchfx.errors import StudyError

__all__ = ["Selection", "cells_of_text", "text_of_cells"]

#: A tile text may not name more tiles than this: a file of a stranger must not fill the memory.
MAX_TILES = 50_000_000
_ROW = re.compile(r"(\d{1,9}):((?:\d{1,9}(?:-\d{1,9})?)(?:,\d{1,9}(?:-\d{1,9})?)*)")


class Selection(BaseModel):
    """Slides and tiles that work is limited to.

    Attributes
    ----------
    slides : list of str
        Names; empty = all slides.
    tiles : dict of str to str
        For slides of which not all tiles with enough tissue are meant: the tiles, as :func:`text_of_cells`
        writes them.

    Examples
    --------
    >>> chosen = Selection(slides=["A", "B"], tiles={"B": "0:2-4 1:3"})
    >>> chosen.takes("C"), chosen.cells("A"), chosen.cells("B").tolist()
    (False, None, [[0, 2], [0, 3], [0, 4], [1, 3]])
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    slides: list[str] = Field(default_factory=list)
    tiles: dict[str, str] = Field(default_factory=dict)

    @property
    def is_everything(self) -> bool:
        """Whether nothing is left out."""
        return not self.slides and not self.tiles

    def takes(self, slide: str) -> bool:
        """Whether anything of a slide is meant."""
        return not self.slides or slide in self.slides

    def cells(self, slide: str) -> NDArray[np.int64] | None:
        """Cells (n, 2) of a slide, or None where all with enough tissue are meant."""
        return cells_of_text(self.tiles[slide], slide) if slide in self.tiles else None

    def renamed(self, old: str, new: str) -> Selection:
        """The same with another name for a slide."""
        return Selection(
            slides=[new if name == old else name for name in self.slides],
            tiles={new if name == old else name: text for name, text in self.tiles.items()},
        )


def text_of_cells(cells: NDArray[np.integer[Any]]) -> str:
    """Cells as text, row by row: ``0:2-4,7 1:3`` are columns 2 to 4 and 7 of row 0, and 3 of row 1.

    Parameters
    ----------
    cells : int array (n, 2)
        (row, col), in any order, not negative.

    Examples
    --------
    >>> text_of_cells(np.array([[1, 3], [0, 2], [0, 3], [0, 4], [0, 7]]))
    '0:2-4,7 1:3'
    """
    wide = np.unique(np.asarray(cells, dtype=np.int64).reshape(-1, 2), axis=0)
    if not len(wide):
        return ""
    breaks = np.flatnonzero((np.diff(wide[:, 0]) != 0) | (np.diff(wide[:, 1]) != 1)) + 1
    first, last = np.r_[0, breaks], np.r_[breaks, len(wide)] - 1
    rows: dict[int, list[str]] = {}
    for row, start, stop in zip(
        wide[first, 0].tolist(), wide[first, 1].tolist(), wide[last, 1].tolist(), strict=True
    ):
        rows.setdefault(row, []).append(f"{start}-{stop}" if stop > start else f"{start}")
    return " ".join(f"{row}:{','.join(runs)}" for row, runs in rows.items())


def cells_of_text(text: str, slide: str = "tiles") -> NDArray[np.int64]:
    """Cells (n, 2) of what :func:`text_of_cells` wrote, row-major.

    Raises
    ------
    StudyError
        If the text is something else, or names more than 50 million tiles.

    Examples
    --------
    >>> cells_of_text("0:2-3 1:3").tolist()
    [[0, 2], [0, 3], [1, 3]]
    """
    runs: list[tuple[int, int, int]] = []
    total = 0
    for part in text.split():
        match = _ROW.fullmatch(part)
        if match is None:
            raise StudyError(f"{slide}: {part[:40]!r} names no tiles; write ROW:FIRST-LAST, such as 0:2-4,7.")
        for run in match[2].split(","):
            first, _, last = run.partition("-")
            start, stop = int(first), int(last or first)
            total += stop - start + 1
            if stop < start or total > MAX_TILES:
                raise StudyError(
                    f"{slide}: {run!r} in row {match[1]} can't be; a slide has at most {MAX_TILES:,} tiles."
                )
            runs.append((int(match[1]), start, stop))
    if not runs:
        return np.empty((0, 2), np.int64)
    rows = np.concatenate([np.full(stop - start + 1, row, np.int64) for row, start, stop in runs])
    cols = np.concatenate([np.arange(start, stop + 1, dtype=np.int64) for _, start, stop in runs])
    return np.stack([rows, cols], axis=1)
