"""Slides compared on one canvas: over each other, side by side, under a curtain or as a checkerboard.

Slides are in step in every mode because their layers are in micrometres and carry the alignment; there is one camera.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from napari_batchfx.viewer.compare.comparison import MODES, Comparison, comparison_of

if TYPE_CHECKING:
    from napari_batchfx.study import SlideEntry
    from napari_batchfx.viewer.session import Session

__all__ = [
    "MODES",
    "Comparison",
    "comparison_of",
    "is_side_by_side",
    "keep_cells",
    "mode_of",
    "move_edge",
    "set_mode",
    "set_side_by_side",
    "set_square",
]


def set_mode(
    session: Session, mode: str, front: SlideEntry | None = None, behind: SlideEntry | None = None
) -> None:
    """Compare the slides in another way.

    Parameters
    ----------
    session : Session
        The viewer's session.
    mode : {"overlay", "grid", "curtain", "checkerboard"}
        "overlay": slides over each other, as napari shows them. "grid": a cell each. "curtain": bands of the canvas with
        edges to drag. "checkerboard": squares.
    front, behind : SlideEntry, optional
        In curtain and checkerboard, the two slides to compare: ``front`` is left (or above) of the edge. Without both, all
        slides that are visible take part, in the study's order: n slides have n - 1 edges. With one, the other is the
        first slide that is not it. "overlay" and "grid" show all slides.

    Raises
    ------
    ValueError
        If there is no such mode.
    BatchfxError
        If ``front`` and ``behind`` are the same slide.
    """
    comparison_of(session).set_mode(mode, front, behind)


def mode_of(session: Session) -> str:
    """How the slides are compared: one of ``MODES``."""
    return comparison_of(session).mode


def move_edge(session: Session, by: float, index: int = 0) -> None:
    """Move an edge of the curtain by a fraction of the canvas, to the right or down; for keys and buttons."""
    comparison_of(session).move_edge(by, index)


def set_square(session: Session, size_um: float | None) -> None:
    """Set the width of the checkerboard's squares in micrometres; ``None``: a size that fits the view."""
    comparison_of(session).set_square(size_um)


def is_side_by_side(session: Session) -> bool:
    """Whether the grid is on."""
    return mode_of(session) == "grid"


def set_side_by_side(session: Session, on: bool) -> None:
    """Switch between slides over each other and slides side by side."""
    if on != is_side_by_side(session):
        set_mode(session, "grid" if on else "overlay")


def keep_cells(session: Session) -> None:
    """Bring the canvas in step with the layers, whatever the mode."""
    comparison_of(session).refresh()
