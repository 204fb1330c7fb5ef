"""A small meter on the canvas: what the probe says of the tiles in view, against guessing, while the view moves."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
from qtpy.QtCore import QEvent, QObject, QRectF, Qt, QTimer
from qtpy.QtGui import QColor, QFontMetrics, QPainter
from qtpy.QtWidgets import QWidget

from napari_batchfx.report.figures import CONFIDENCE
from napari_batchfx.study.live_view import Look
from napari_batchfx.viewer import seam

if TYPE_CHECKING:
    from napari_batchfx.study.probe_picture import ViewFigure
    from napari_batchfx.viewer.probe_overlay import ProbeOverlay
    from napari_batchfx.viewer.session import Session

__all__ = ["ProbeMeter"]

_EVERY_MS = 60
_MARGIN, _BAR = 8, 8


class ProbeMeter(QObject):
    """Shows the meter of one viewer.

    Parameters
    ----------
    overlay : ProbeOverlay
        Whose picture it reads.
    """

    def __init__(self, overlay: ProbeOverlay) -> None:
        super().__init__(overlay)
        self._overlay = overlay
        self._session = overlay.session
        self.widget: _Meter | None = None
        self._disconnect: Any = None
        self._timer = QTimer(self)
        self._timer.setSingleShot(True)
        self._timer.setInterval(_EVERY_MS)
        self._timer.timeout.connect(self.refresh)
        overlay.came.connect(self._soon)
        for signal in (
            self._session.slides_changed,
            self._session.layers_changed,
            self._session.results_changed,
        ):
            signal.connect(self._soon)

    @property
    def is_on(self) -> bool:
        """Whether it is on the canvas."""
        return self.widget is not None

    def set_on(self, on: bool) -> None:
        """Put it on the canvas, or take it away."""
        if on and self.widget is None:
            canvas = seam.canvas_widget(self._session.viewer)
            if canvas is None:
                return
            self.widget = _Meter(canvas)
            self._disconnect = seam.on_view_changed(self._session.viewer, self._soon)
            self.refresh()
        elif not on and self.widget is not None:
            self._disconnect()
            self._timer.stop()
            self.widget.hide()
            self.widget.deleteLater()
            self.widget = None

    def refresh(self) -> None:
        """Say what is in view now."""
        if self.widget is None or self._session.is_closed:
            return
        picture = self._overlay.picture
        if picture is None:
            self.widget.say(None)
            return
        picture.prepare()
        self.widget.say(picture.figure(looks_of(self._session)))

    def _soon(self, *_: object) -> None:
        if self.widget is not None and not self._timer.isActive():
            self._timer.start()


def looks_of(session: Session) -> list[Look]:
    """The slides that are visible and on the canvas, with the box of the view in their own micrometres."""
    box = seam.view_box_um(session.viewer)
    if box is None:
        return []
    y0, x0, y1, x1 = box
    corners = np.array([[y0, x0], [y0, x1], [y1, x0], [y1, x1]])
    found = []
    for entry in session.shown_slides():
        if not session.layer(entry, "slide").visible:
            continue
        own = session.to_slide_um(entry, corners)
        (b0, a0), (b1, a1) = own.min(axis=0), own.max(axis=0)
        bounds = (float(b0), float(a0), float(b1), float(a1))
        found.append(Look(entry, bounds, ((bounds[0] + bounds[2]) / 2, (bounds[1] + bounds[3]) / 2)))
    return found


class _Meter(QWidget):
    """A bar from 0 to 100 with a tick at guessing, and one line."""

    def __init__(self, canvas: QWidget) -> None:
        super().__init__(canvas)
        self.setAttribute(Qt.WidgetAttribute.WA_TransparentForMouseEvents)
        self.setAccessibleName("Site probe in view")
        self.figure: ViewFigure | None = None
        self.text = ""
        canvas.installEventFilter(self)
        self.show()

    def say(self, figure: ViewFigure | None) -> None:
        """Show other numbers."""
        self.figure = figure
        self.text = "run the probe first" if figure is None else figure.text
        self.setAccessibleDescription(self.text)
        self._place()
        self.update()

    def eventFilter(self, watched: QObject | None, event: QEvent | None) -> bool:
        """Stay at the top when the canvas changes its size."""
        if event is not None and event.type() == QEvent.Type.Resize:
            self._place()
        return False

    def _place(self) -> None:
        canvas = self.parentWidget()
        if canvas is None:
            return
        metrics = QFontMetrics(self.font())
        width = min(canvas.width() - 2 * _MARGIN, metrics.horizontalAdvance(self.text) + 20)
        self.resize(max(60, width), metrics.height() + _BAR + 16)
        self.move((canvas.width() - self.width()) // 2, _MARGIN)

    def paintEvent(self, event: Any) -> None:
        """Draw text, bar and tick on a ground that is read over every stain."""
        painter = QPainter(self)
        painter.setRenderHint(QPainter.RenderHint.Antialiasing)
        painter.setPen(Qt.PenStyle.NoPen)
        painter.setBrush(QColor(20, 22, 26, 215))
        painter.drawRoundedRect(QRectF(self.rect()), 5, 5)
        metrics = painter.fontMetrics()
        painter.setPen(QColor("#f2f2f2"))
        line = metrics.elidedText(self.text, Qt.TextElideMode.ElideRight, self.width() - 16)
        painter.drawText(
            QRectF(8, 4, self.width() - 16, metrics.height()), Qt.AlignmentFlag.AlignCenter, line
        )
        bar = QRectF(10, metrics.height() + 8, self.width() - 20, _BAR)
        painter.setPen(Qt.PenStyle.NoPen)
        painter.setBrush(QColor("#565b63"))
        painter.drawRect(bar)
        figure = self.figure
        if figure is not None and figure.tiles:
            share = float(np.clip(figure.recognised, 0, 1))
            painter.setBrush(QColor(CONFIDENCE[4 if share > figure.chance else 0]))
            painter.drawRect(QRectF(bar.left(), bar.top(), bar.width() * share, bar.height()))
            painter.setPen(QColor("#ffffff"))
            x = bar.left() + bar.width() * figure.chance
            painter.drawLine(int(x), int(bar.top()) - 3, int(x), int(bar.bottom()) + 3)
        painter.end()
