"""The basket of control samples as thumbnails, slide by slide; a click takes one out."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
from qtpy.QtCore import QSize, Qt, Signal
from qtpy.QtGui import QIcon, QImage, QPixmap
from qtpy.QtWidgets import QFrame, QLabel, QScrollArea, QSizePolicy, QToolButton, QVBoxLayout, QWidget

from napari_batchfx.viewer.docks.adapt_steps import button_line

if TYPE_CHECKING:
    from collections.abc import Iterable

    from numpy.typing import NDArray

    from napari_batchfx.study.control_tiles import ControlTile

__all__ = ["Basket"]

_SIDE, _HIGHEST = 40, 230
_SOURCES = {
    "suggested": "suggested",
    "class": "suggested within the class",
    "pair": "suggested, the same tissue on every slide",
    "clicked": "clicked",
    "file": "from a file",
}


class Basket(QScrollArea):
    """Thumbnails by slide.

    ``clicked(ControlTile)`` asks to take a tile out; ``pointed(ControlTile or None)`` says what the mouse is on.
    """

    clicked = Signal(object)
    pointed = Signal(object)

    def __init__(self) -> None:
        super().__init__()
        self.setWidgetResizable(True)
        self.setFrameShape(QFrame.Shape.NoFrame)
        self.setHorizontalScrollBarPolicy(Qt.ScrollBarPolicy.ScrollBarAlwaysOff)
        self.setAccessibleName("Control samples")
        self.setSizePolicy(QSizePolicy.Policy.Ignored, QSizePolicy.Policy.Fixed)
        self._body = QWidget()
        self._column = QVBoxLayout(self._body)
        self._column.setContentsMargins(0, 0, 0, 0)
        self._column.setSpacing(2)
        self._column.addStretch(1)
        self.setWidget(self._body)
        self._groups: dict[str, tuple[QLabel, QWidget]] = {}
        self.buttons: dict[ControlTile, _Thumbnail] = {}
        self._pictures: dict[ControlTile, QIcon] = {}
        self.hide()

    def show_tiles(self, tiles: Iterable[ControlTile]) -> list[ControlTile]:
        """Show these tiles; gives back those whose pictures are not known yet."""
        wanted = list(tiles)
        here = set(wanted)
        for tile in [tile for tile in self.buttons if tile not in here]:
            button = self.buttons.pop(tile)
            self._groups[tile.slide][1].layout().removeWidget(button)
            button.setParent(None)
            button.deleteLater()
        for tile in wanted:
            if tile not in self.buttons:
                self._add(tile)
        counts = {name: sum(tile.slide == name for tile in wanted) for name in self._groups}
        for name, (label, _) in list(self._groups.items()):
            if counts[name]:
                label.setText(f"{name} · {counts[name]}")
            else:
                for widget in self._groups.pop(name):
                    self._column.removeWidget(widget)
                    widget.setParent(None)
                    widget.deleteLater()
        self.setVisible(bool(wanted))
        self._fit()
        return [tile for tile in wanted if tile not in self._pictures]

    def set_pixels(self, tile: ControlTile, pixels: NDArray[np.uint8]) -> None:
        """A tile's picture, uint8 (h, w, 3)."""
        pixels = np.ascontiguousarray(pixels)
        height, width = pixels.shape[:2]
        image = QImage(pixels.data, width, height, 3 * width, QImage.Format.Format_RGB888).copy()
        self._pictures[tile] = QIcon(QPixmap.fromImage(image))
        if tile in self.buttons:
            self.buttons[tile].setIcon(self._pictures[tile])

    def forget(self) -> None:
        """Forget all pictures: another study, or a slide in other colours."""
        self._pictures.clear()

    def sizeHint(self) -> QSize:
        """As high as the thumbnails, up to a limit."""
        wanted = self._body.layout().heightForWidth(max(self.viewport().width(), 120))
        return QSize(280, min(_HIGHEST, max(_SIDE, wanted)))

    def resizeEvent(self, event: Any) -> None:
        """The lines break elsewhere: another height."""
        super().resizeEvent(event)
        self._fit()

    def _fit(self) -> None:
        height = self.sizeHint().height()
        if height != self.maximumHeight():
            self.setFixedHeight(height)

    def _add(self, tile: ControlTile) -> None:
        if tile.slide not in self._groups:
            label, line = QLabel(), button_line(gap=2)
            self._groups[tile.slide] = label, line
            for widget in (label, line):
                self._column.insertWidget(self._column.count() - 1, widget)
        button = self.buttons[tile] = _Thumbnail(tile)
        if tile in self._pictures:
            button.setIcon(self._pictures[tile])
        button.clicked.connect(lambda *_: self.clicked.emit(tile))
        button.pointed.connect(self.pointed)
        self._groups[tile.slide][1].layout().addWidget(button)


class _Thumbnail(QToolButton):
    """A control sample; it says why it was taken."""

    pointed = Signal(object)

    def __init__(self, tile: ControlTile) -> None:
        super().__init__()
        self.tile = tile
        self.setIconSize(QSize(_SIDE, _SIDE))
        self.setFixedSize(_SIDE + 4, _SIDE + 4)
        self.setStyleSheet("QToolButton { padding: 1px; }")
        why = f"{_SOURCES[tile.source]}: {tile.reason}" if tile.reason else _SOURCES[tile.source]
        self.setToolTip(f"{tile.slide}\n{why}\nClick to take it out.")
        self.setAccessibleName(f"Control sample on {tile.slide}, {why}")

    def enterEvent(self, event: Any) -> None:
        """Frame the tile on its slide."""
        super().enterEvent(event)
        self.pointed.emit(self.tile)

    def leaveEvent(self, event: Any) -> None:
        """No frame."""
        super().leaveEvent(event)
        self.pointed.emit(None)
