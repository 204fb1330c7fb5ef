"""Small pictures on the canvas: the curtain's edge with its handle, and names that say which slide is where.

Painted by Qt, shown by vispy, so that they look the same on every system and are in screenshots.
"""

from __future__ import annotations

from functools import lru_cache
from typing import TYPE_CHECKING, Any

import numpy as np
from qtpy.QtCore import QPointF, QRectF, Qt
from qtpy.QtGui import QColor, QFont, QFontMetricsF, QGuiApplication, QImage, QPainter, QPen, QPolygonF
from vispy.scene.visuals import Image
from vispy.visuals.transforms import STTransform

from napari_batchfx.viewer import seam

if TYPE_CHECKING:
    import napari

__all__ = ["HANDLE_PX", "Sprite", "handle_picture", "line_picture", "name_picture"]

HANDLE_PX = 32
_DARK, _LIGHT = QColor(24, 24, 28), QColor(250, 250, 250)


def _paint(width: float, height: float, ratio: float) -> tuple[QImage, QPainter]:
    image = QImage(max(1, round(width * ratio)), max(1, round(height * ratio)), QImage.Format.Format_RGBA8888)
    image.fill(Qt.GlobalColor.transparent)
    painter = QPainter(image)
    painter.setRenderHint(QPainter.RenderHint.Antialiasing)
    painter.scale(ratio, ratio)
    return image, painter


def _pixels(image: QImage) -> np.ndarray:
    pointer = image.constBits()
    if hasattr(pointer, "setsize"):  # PyQt hands out a pointer without a length
        pointer.setsize(image.sizeInBytes())
    rows = np.frombuffer(pointer, np.uint8).reshape(image.height(), image.bytesPerLine())
    return rows[:, : image.width() * 4].reshape(image.height(), image.width(), 4).copy()


@lru_cache(maxsize=4)
def line_picture(across: bool) -> np.ndarray:
    """One slice through the edge: white between dark, to be seen on tissue and on glass; uint8 (1, 5, 4) or (5, 1, 4)."""
    line = np.array(
        [[24, 24, 28, 110], [24, 24, 28, 210], [255, 255, 255, 255], [24, 24, 28, 210], [24, 24, 28, 110]],
        np.uint8,
    )
    return line[None] if across else line[:, None]


@lru_cache(maxsize=8)
def handle_picture(across: bool, ratio: float) -> np.ndarray:
    """A round handle with an arrow to either side; uint8 (h, w, 4)."""
    image, painter = _paint(HANDLE_PX, HANDLE_PX, ratio)
    middle = HANDLE_PX / 2
    painter.translate(middle, middle)
    if not across:
        painter.rotate(90)
    painter.setPen(QPen(_DARK, 1.5))
    painter.setBrush(_LIGHT)
    painter.drawEllipse(QPointF(0, 0), middle - 2, middle - 2)
    painter.setPen(Qt.PenStyle.NoPen)
    painter.setBrush(_DARK)
    for side in (-1, 1):
        tip, back = side * (middle - 6), side * 3.5
        painter.drawPolygon(QPolygonF([QPointF(tip, 0), QPointF(back, -5), QPointF(back, 5)]))
    painter.end()
    return _pixels(image)


@lru_cache(maxsize=64)
def name_picture(text: str, max_width: float, ratio: float) -> np.ndarray:
    """A name on a dark label, cut in the middle where it would be wider than ``max_width`` pixels; uint8 (h, w, 4)."""
    font = QFont(QGuiApplication.font())
    metrics = QFontMetricsF(font)
    room = max_width - 2 * metrics.height() * 0.6
    text = metrics.elidedText(text, Qt.TextElideMode.ElideMiddle, max(8.0, room))
    width = metrics.horizontalAdvance(text) + 2 * metrics.height() * 0.6
    height = metrics.height() * 1.5
    image, painter = _paint(width, height, ratio)
    background = QColor(_DARK)
    background.setAlpha(205)
    painter.setPen(Qt.PenStyle.NoPen)
    painter.setBrush(background)
    painter.drawRoundedRect(QRectF(0, 0, width, height), height * 0.3, height * 0.3)
    painter.setFont(font)
    painter.setPen(_LIGHT)
    painter.drawText(QRectF(0, 0, width, height), Qt.AlignmentFlag.AlignCenter, text)
    painter.end()
    return _pixels(image)


class Sprite:
    """One picture on the canvas, placed in its pixels."""

    def __init__(self, viewer: napari.Viewer) -> None:
        self._node = Image(np.zeros((1, 1, 4), np.uint8), interpolation="nearest")
        self._node.set_gl_state("translucent", depth_test=False, cull_face=False)
        self._node.visible = False
        self._node.transform = STTransform()
        self._picture: Any = None
        self.is_shown = seam.add_to_canvas(viewer, self._node)

    def show(
        self,
        picture: np.ndarray,
        corner: tuple[float, float],
        size: tuple[float, float] | None = None,
        ratio: float = 1.0,
    ) -> None:
        """Show a picture with its top left corner at ``(x, y)``; ``size`` stretches it to ``(width, height)``."""
        if picture is not self._picture:
            self._node.set_data(picture)
            self._picture = picture
        height, width = picture.shape[:2]
        scale = (1 / ratio, 1 / ratio) if size is None else (size[0] / width, size[1] / height)
        # Whole device pixels: text between two pixels is blurred.
        x, y = (round(value * ratio) / ratio for value in corner)
        self._node.transform.scale = (*scale, 1)
        self._node.transform.translate = (x, y, 0)
        self._node.visible = True

    def hide(self) -> None:
        """Show nothing, but stay."""
        self._node.visible = False

    def remove(self) -> None:
        """Leave the canvas."""
        self._node.parent = None
