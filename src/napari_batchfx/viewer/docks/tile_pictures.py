"""A small picture with its name and size under it, as large as its place allows."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
from qtpy.QtCore import QRectF, QSize, Qt
from qtpy.QtGui import QColor, QImage, QPainter, QPen
from qtpy.QtWidgets import QGridLayout, QSizePolicy, QWidget

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

__all__ = ["PictureRow", "TilePicture"]

_SMALLEST, _LARGEST = 56, 240


class TilePicture(QWidget):
    """Pixels as they are, enlarged without smoothing so that each is seen, reduced smoothly.

    Parameters
    ----------
    name : str
        What it shows, written under it.
    short : str
        The same where there is little room.
    tooltip : str
        One sentence.
    """

    def __init__(self, name: str, short: str, tooltip: str, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self.name, self._short, self._tooltip = name, short, tooltip
        self._image: QImage | None = None
        self._instead = ""
        self._frame: tuple[float, float, float, float] | None = None
        self.pixels: NDArray[np.uint8] | None = None
        policy = QSizePolicy(QSizePolicy.Policy.Expanding, QSizePolicy.Policy.Preferred)
        policy.setHeightForWidth(True)
        self.setSizePolicy(policy)
        self.setMinimumWidth(_SMALLEST)
        self.setMaximumWidth(_LARGEST)
        self.show_pixels(None)

    def show_pixels(
        self,
        pixels: NDArray[np.uint8] | None,
        instead: str = "",
        frame_px: tuple[float, float, float, float] | None = None,
    ) -> None:
        """Show an image, uint8 (h, w, 3), with a frame (y0, x0, y1, x1) in it; or the words instead of it."""
        self.pixels, self._instead, self._frame = pixels, instead, frame_px
        size = short = ""
        if pixels is None:
            self._image = None
        else:
            data = np.ascontiguousarray(pixels)
            height, width = data.shape[:2]
            # copied: the array may go before the picture does
            self._image = QImage(data.tobytes(), width, height, 3 * width, QImage.Format.Format_RGB888).copy()
            size = f"{width} x {height} px"
            # a tile is square: said once, it fits in a narrow dock
            short = f"{width} px" if width == height else size
        self._size_text = "" if frame_px is not None else short
        self.setToolTip(self._tooltip)
        self.setAccessibleName(self.name)
        self.setAccessibleDescription(size or instead.replace("\n", " ") or "nothing yet")
        self.update()

    def hasHeightForWidth(self) -> bool:
        return True

    def heightForWidth(self, width: int) -> int:
        return min(width, _LARGEST) + self._caption_height()

    def sizeHint(self) -> QSize:
        return QSize(130, self.heightForWidth(130))

    def minimumSizeHint(self) -> QSize:
        return QSize(_SMALLEST, self.heightForWidth(_SMALLEST))

    def _caption_height(self) -> int:
        return 2 * self.fontMetrics().height() + 4

    def paintEvent(self, _event: Any) -> None:
        painter = QPainter(self)
        side = min(self.width(), self.height() - self._caption_height())
        box = QRectF(0, 0, side, side)
        ink = self.palette().color(self.foregroundRole())
        if self._image is None:
            faint = QColor(ink)
            faint.setAlpha(90)
            painter.setPen(QPen(faint, 1, Qt.PenStyle.DotLine))
            painter.drawRect(box.adjusted(0.5, 0.5, -0.5, -0.5))
            painter.setPen(ink)
            painter.drawText(box, int(Qt.AlignmentFlag.AlignCenter), self._instead)
        else:
            enlarged = side >= self._image.width()
            painter.setRenderHint(QPainter.RenderHint.SmoothPixmapTransform, not enlarged)
            painter.drawImage(box, self._image)
            if self._frame is not None:
                scale = side / self._image.width()
                y0, x0, y1, x1 = (value * scale for value in self._frame)
                for colour, width in ((QColor(0, 0, 0), 3.0), (QColor(255, 225, 25), 1.5)):
                    painter.setPen(QPen(colour, width))
                    painter.drawRect(QRectF(x0, y0, x1 - x0, y1 - y0))
        painter.setPen(ink)
        line = self.fontMetrics().height()
        faint = QColor(ink)
        faint.setAlpha(160)
        fits = self.fontMetrics().horizontalAdvance(self.name) <= self.width()
        name = self.name if fits else self._short
        for index, (text, colour) in enumerate(((name, ink), (self._size_text, faint))):
            painter.setPen(colour)
            room = QRectF(0, side + 2 + index * line, self.width(), line)
            shown = self.fontMetrics().elidedText(text, Qt.TextElideMode.ElideRight, self.width())
            painter.drawText(room, int(Qt.AlignmentFlag.AlignLeft), shown)
        painter.end()


class PictureRow(QWidget):
    """Pictures in one row, or in two columns where there is the height for it."""

    def __init__(self, pictures: Sequence[TilePicture], parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self._pictures = tuple(pictures)
        self._columns = 0
        self._grid = QGridLayout(self)
        self._grid.setContentsMargins(0, 0, 0, 0)
        self._grid.setSpacing(6)
        self.set_columns(2)

    def set_columns(self, n: int) -> None:
        """Lay them out in ``n`` columns."""
        if n == self._columns:
            return
        self._columns = n
        for picture in self._pictures:
            self._grid.removeWidget(picture)
        for index, picture in enumerate(self._pictures):
            self._grid.addWidget(picture, index // n, index % n)
