"""The frame around the tile that is looked at, drawn over its slide on the canvas."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from napari_batchfx.viewer import seam

if TYPE_CHECKING:
    from collections.abc import Callable

    from napari_batchfx.study import SlideEntry
    from napari_batchfx.viewer.session import Session

__all__ = ["TileFrame"]

_OUTER, _INNER = ("#000000", 5.0), ("#ffe119", 2.0)  # yellow on black is seen on every stain


class TileFrame:
    """A rectangle over one slide; it moves with the view and with the grid, and is no layer.

    Parameters
    ----------
    session : Session
        The viewer's session.
    """

    def __init__(self, session: Session) -> None:
        self._session = session
        self._lines: list[Any] = []
        self._entry: SlideEntry | None = None
        self._corners: np.ndarray = np.empty((0, 2))
        self._drawn: Any = None
        self._stop: Callable[[], None] | None = None

    @property
    def is_shown(self) -> bool:
        """Whether it is on the canvas."""
        return any(line.parent is not None for line in self._lines)

    def show(self, entry: SlideEntry, bounds_um: tuple[float, float, float, float]) -> None:
        """Draw it around a box (y0, x0, y1, x1) in the slide's micrometres."""
        y0, x0, y1, x1 = bounds_um
        self._entry = entry
        self._corners = np.array([[y0, x0], [y0, x1], [y1, x1], [y1, x0], [y0, x0]], dtype=float)
        if self._stop is None:
            # The scene that the slide is drawn in is another after every switch of the grid.
            self._stop = seam.before_draw(self._session.viewer, self.follow)
        self.follow()

    def hide(self) -> None:
        """Take it off the canvas."""
        self._entry = None
        if self._stop is not None:
            self._stop()
            self._stop = None
        self._place(None, None)

    def follow(self) -> None:
        """Draw it where its slide is drawn now."""
        entry = self._entry
        layer = None if entry is None or self._session.is_closed else self._session.layer(entry, "slide")
        viewer = self._session.viewer
        if layer is None or not layer.visible or viewer.dims.ndisplay != 2:
            self._place(None, None)
            return
        affine = np.asarray(layer.affine.affine_matrix)[-3:, -3:]
        world = (np.c_[self._corners, np.ones(len(self._corners))] @ affine.T)[:, :2]
        # Down and across the canvas lie the last two displayed axes, which a transposed view swaps.
        down, across = (axis - (viewer.dims.ndim - 2) for axis in viewer.dims.displayed[-2:])
        self._place(seam.scene_of(viewer, layer), world[:, [across, down]])

    def _place(self, scene: Any, points: np.ndarray | None) -> None:
        drawn = None if scene is None or points is None else (id(scene), points.tobytes())
        if drawn == self._drawn:
            return
        self._drawn = drawn
        if not self._lines and drawn is not None:
            self._lines = [seam.line_node(colour, width) for colour, width in (_OUTER, _INNER)]
        for line in self._lines:
            if points is not None:
                line.set_data(pos=points)
            line.parent = scene
