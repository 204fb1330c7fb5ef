"""The checkerboard: squares of the common frame that show one slide and then the other."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from napari_batchfx.viewer import seam
from napari_batchfx.viewer.compare.curtain import _ratio, _resize
from napari_batchfx.viewer.compare.parts import Squares, nice_size
from napari_batchfx.viewer.compare.sprites import Sprite, name_picture

if TYPE_CHECKING:
    from napari_batchfx.viewer.compare.comparison import Comparison

__all__ = ["SquareNames", "fitting_size", "squares"]

_PER_VIEW = 4.0


def squares(size_um: float, n: int) -> list[Squares]:
    """What each of ``n`` slides shows."""
    return [Squares(size_um, n, index) for index in range(n)]


def fitting_size(span_um: float, now_um: float | None = None) -> float:
    """A square for a view whose shorter side is ``span_um``: four to ten of them fit, of a round size.

    The size stays as it is while 2.5 to 16 squares fit, so that the board does not change with every turn of the wheel.
    """
    if now_um is not None and span_um / 16 <= now_um <= span_um / 2.5:
        return now_um
    return nice_size(span_um / _PER_VIEW)


class SquareNames:
    """Names in the squares near the middle of the view: one square of each slide."""

    def __init__(self, comparison: Comparison) -> None:
        self._comparison = comparison
        self._names: list[Sprite] = []

    def update(self) -> None:
        """Draw the names where their squares are now."""
        viewer = self._comparison.session.viewer
        names, size = self._comparison.names(), self._comparison.square_um
        box = seam.view_box_um(viewer)
        _resize(self._names, len(names) if len(names) > 1 else 0, viewer)
        if box is None or len(names) < 2:
            for sprite in self._names:
                sprite.hide()
            return
        ratio, zoom = _ratio(viewer), float(seam.camera(viewer).zoom)
        down = viewer.dims.displayed[-2:] == (viewer.dims.ndim - 2, viewer.dims.ndim - 1)
        y0, x0, _, x1 = box if down else (box[1], box[0], box[3], box[2])
        # The first whole row of squares, and as many whole columns in the middle as there are slides.
        row = int(np.ceil(y0 / size))
        first = int(np.ceil(x0 / size))
        whole = int(np.floor(x1 / size)) - first
        first += max(0, (whole - len(names)) // 2)
        for offset, sprite in enumerate(self._names):
            col = first + offset
            picture = name_picture(self._name_at(row, col), max(40.0, size * zoom - 12), ratio)
            height, width = picture.shape[0] / ratio, picture.shape[1] / ratio
            corner = ((col * size - x0) * zoom + 6, (row * size - y0) * zoom + 6)
            if (
                offset < max(1, whole)
                and corner[0] + width <= (x1 - x0) * zoom
                and height + 12 <= size * zoom
            ):
                sprite.show(picture, corner, ratio=ratio)
            else:
                sprite.hide()

    def _name_at(self, row: int, col: int) -> str:
        names = self._comparison.names()
        return next(
            name
            for name, part in zip(names, squares(self._comparison.square_um, len(names)), strict=True)
            if part.shows(row, col)
        )

    def remove(self) -> None:
        """Leave the canvas."""
        _resize(self._names, 0, self._comparison.session.viewer)
