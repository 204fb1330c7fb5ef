"""What a long command says at its end."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

from napari_batchfx.cli._app import count

if TYPE_CHECKING:
    from napari_batchfx.study import EncodeOutcome

__all__ = ["Stopwatch", "encode_facts", "encode_summary"]


class Stopwatch:
    """Seconds since it was made."""

    def __init__(self) -> None:
        self._start = time.monotonic()

    @property
    def seconds(self) -> float:
        """Seconds so far."""
        return time.monotonic() - self._start


def encode_facts(outcome: EncodeOutcome, seconds: float) -> dict[str, Any]:
    """An encode outcome as plain values."""
    return {
        "slides": len(outcome.slides),
        "failed": [problem.subject for problem in outcome.problems],
        "tiles_encoded": outcome.tiles,
        "tiles_there_already": outcome.kept,
        "tiles_damaged": outcome.damaged,
        "seconds": round(seconds, 3),
        "tiles_per_second": round(outcome.tiles / seconds, 3) if outcome.tiles and seconds > 0 else None,
    }


def encode_summary(outcome: EncodeOutcome, seconds: float) -> str:
    """One line: ``encoded: 1,204 tiles (300 there already), 4 slides, 12 s, 98 tiles/s; 1 slide failed``."""
    also = f", {outcome.damaged:,} damaged and left out" if outcome.damaged else ""
    text = (
        f"encoded: {count(outcome.tiles, 'tile')} ({outcome.kept:,} there already{also}), "
        f"{count(len(outcome.slides), 'slide')}"
    )
    if outcome.tiles and seconds > 0:
        text += f", {seconds:,.0f} s, {outcome.tiles / seconds:,.0f} tiles/s"
    if outcome.problems:
        text += f"; {count(len(outcome.problems), 'slide')} failed"
    return text
