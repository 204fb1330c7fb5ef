"""The curtain: slides share the canvas, each in its band, with edges that are dragged by the mouse."""

from __future__ import annotations

from itertools import pairwise
from typing import TYPE_CHECKING, Any

from qtpy.QtCore import QEvent, QObject, Qt

from napari_batchfx.viewer import seam
from napari_batchfx.viewer.compare.parts import Band
from napari_batchfx.viewer.compare.sprites import (
    HANDLE_PX,
    Sprite,
    handle_picture,
    line_picture,
    name_picture,
)

if TYPE_CHECKING:
    from napari_batchfx.viewer.compare.comparison import Comparison

__all__ = ["EdgeGrip", "EdgePictures", "bands", "place_edge"]

MARGIN, GAP = 0.02, 0.02
"""How near an edge comes to the border of the canvas and to the next edge, so that it can be taken again."""
_REACH_PX = 6
_STEP = 0.01


def bands(edges: tuple[float, ...], across: bool) -> list[Band]:
    """The bands between edges; the first and the last go on beyond the canvas."""
    borders = (-1.0, *edges, 2.0)
    return [Band(low, high, across) for low, high in pairwise(borders)]


def place_edge(edges: tuple[float, ...], index: int, fraction: float) -> tuple[float, ...]:
    """The edges with one of them put elsewhere; it stays between its neighbours and on the canvas."""
    low = edges[index - 1] + GAP if index > 0 else MARGIN
    high = edges[index + 1] - GAP if index + 1 < len(edges) else 1 - MARGIN
    placed = min(max(float(fraction), low), max(low, high))
    return (*edges[:index], placed, *edges[index + 1 :])


class EdgePictures:
    """What is seen of the curtain: the edges, their handles, and the name of each slide over its band."""

    def __init__(self, comparison: Comparison) -> None:
        self._comparison = comparison
        self._lines: list[Sprite] = []
        self._handles: list[Sprite] = []
        self._names: list[Sprite] = []

    def update(self) -> None:
        """Draw the state as it is."""
        comparison = self._comparison
        viewer = comparison.session.viewer
        height, width = (float(side) for side in viewer.canvas.size)
        across, edges = comparison.across, comparison.edges
        ratio = _ratio(viewer)
        length = width if across else height
        _resize(self._lines, len(edges), viewer)
        _resize(self._handles, len(edges), viewer)
        for edge, line, handle in zip(edges, self._lines, self._handles, strict=True):
            at = edge * length
            picture = line_picture(across)
            if across:
                line.show(picture, (at - 2.5, 0), (5, height))
                corner = (at - HANDLE_PX / 2, height / 2 - HANDLE_PX / 2)
            else:
                line.show(picture, (0, at - 2.5), (width, 5))
                corner = (width / 2 - HANDLE_PX / 2, at - HANDLE_PX / 2)
            handle.show(handle_picture(across, ratio), corner, ratio=ratio)
        names = comparison.names() if edges else []
        _resize(self._names, len(names), viewer)
        borders = (0.0, *edges, 1.0)
        for i, (name, sprite) in enumerate(zip(names, self._names, strict=True)):
            low, high = borders[i] * length, borders[i + 1] * length
            room = (high - low - 16) if across else width * 0.5
            if room < 28 or high - low < 40:
                sprite.hide()
                continue
            picture = name_picture(name, room, ratio)
            label_w = picture.shape[1] / ratio
            if across:
                corner = ((low + high - label_w) / 2, 10)
            else:
                corner = ((width - label_w) / 2, low + 10 if i == 0 else low + 24)
            sprite.show(picture, corner, ratio=ratio)

    def remove(self) -> None:
        """Leave the canvas."""
        viewer = self._comparison.session.viewer
        for sprites in (self._lines, self._handles, self._names):
            _resize(sprites, 0, viewer)


def _resize(sprites: list[Sprite], n: int, viewer: Any) -> None:
    while len(sprites) > n:
        sprites.pop().remove()
    while len(sprites) < n:
        sprites.append(Sprite(viewer))


def _ratio(viewer: Any) -> float:
    widget = seam.canvas_widget(viewer)
    return float(widget.devicePixelRatioF()) if widget is not None else 1.0


class EdgeGrip(QObject):
    """Takes mouse and keys near an edge before napari sees them: no tool draws and no camera moves meanwhile.

    A double click spreads the edges evenly; Shift with an arrow key moves the edge that was moved last.
    """

    def __init__(self, comparison: Comparison, widget: Any) -> None:
        super().__init__(comparison)
        self._comparison = comparison
        self._widget = widget
        self._dragged: int | None = None
        self._last = 0
        self._offset = 0.0
        self._own_cursor: Any = None
        widget.installEventFilter(self)

    def release(self) -> None:
        """Let go of the canvas."""
        self._widget.removeEventFilter(self)
        self._set_cursor(False)
        self.deleteLater()

    def eventFilter(self, watched: QObject, event: QEvent) -> bool:
        if self._comparison.session.is_closed:
            return False
        kind = event.type()
        if kind == QEvent.Type.MouseMove:
            return self._on_move(event)
        if kind in (QEvent.Type.MouseButtonPress, QEvent.Type.MouseButtonDblClick):
            return self._on_press(event, kind == QEvent.Type.MouseButtonDblClick)
        if kind == QEvent.Type.MouseButtonRelease and self._dragged is not None:
            self._dragged = None
            self._set_cursor(self._edge_at(event) is not None)
            return True
        if kind == QEvent.Type.Leave and self._dragged is None:
            self._set_cursor(False)
        if kind == QEvent.Type.KeyPress:
            return self._on_key(event)
        return False

    def _along(self, event: Any) -> tuple[float, float]:
        position = event.position()
        if self._comparison.across:
            return position.x(), float(self._widget.width())
        return position.y(), float(self._widget.height())

    def _edge_at(self, event: Any) -> int | None:
        at, length = self._along(event)
        position = event.position()
        other = position.y() if self._comparison.across else position.x()
        middle = (self._widget.height() if self._comparison.across else self._widget.width()) / 2
        on_handle = abs(other - middle) <= HANDLE_PX / 2
        reach = HANDLE_PX / 2 if on_handle else _REACH_PX
        near = [(abs(edge * length - at), i) for i, edge in enumerate(self._comparison.edges)]
        distance, index = min(near, default=(reach + 1, 0))
        return index if distance <= reach else None

    def _on_press(self, event: Any, is_double: bool) -> bool:
        index = self._edge_at(event)
        if index is None or event.button() != Qt.MouseButton.LeftButton:
            return False
        self._last = index
        if is_double:
            self._comparison.spread_edges()
            return True
        at, length = self._along(event)
        self._dragged = index
        self._offset = self._comparison.edges[index] * length - at
        return True

    def _on_move(self, event: Any) -> bool:
        if self._dragged is None:
            if not event.buttons():
                self._set_cursor(self._edge_at(event) is not None)
            return False
        if self._dragged >= len(self._comparison.edges):  # its slide went meanwhile
            self._dragged = None
            return True
        at, length = self._along(event)
        self._comparison.set_edge((at + self._offset) / max(1.0, length), self._dragged)
        return True

    def _on_key(self, event: Any) -> bool:
        if event.modifiers() != Qt.KeyboardModifier.ShiftModifier or not self._comparison.edges:
            return False
        keys = (
            (Qt.Key.Key_Left, Qt.Key.Key_Right)
            if self._comparison.across
            else (Qt.Key.Key_Up, Qt.Key.Key_Down)
        )
        if event.key() not in keys:
            return False
        by = -_STEP if event.key() == keys[0] else _STEP
        self._comparison.move_edge(by, min(self._last, len(self._comparison.edges) - 1))
        return True

    def _set_cursor(self, on: bool) -> None:
        if on and self._own_cursor is None:
            self._own_cursor = self._widget.cursor()
            across = self._comparison.across
            self._widget.setCursor(Qt.CursorShape.SplitHCursor if across else Qt.CursorShape.SplitVCursor)
        elif not on and self._own_cursor is not None:
            self._widget.setCursor(self._own_cursor)
            self._own_cursor = None
