"""Whether the view is moving: the camera changed a moment ago, or a mouse button is down on the canvas."""

from __future__ import annotations

from typing import Any

from qtpy.QtCore import QEvent, QObject, Qt, QTimer, Signal

from napari_batchfx.viewer import seam

__all__ = ["REST_MS", "Motion"]

REST_MS = 70
"""The view rests when nothing moved it for so long: two frames of a slow screen, and less than a person notices."""


class Motion(QObject):
    """Tells when a viewer's view begins to move, moves on, and rests.

    A pointer that only hovers moves nothing: napari draws nothing new for it, and looking at values under the
    pointer is what one does while tiles come.

    Parameters
    ----------
    viewer : napari.Viewer
    parent : QObject
    """

    moved = Signal()  # at every change of the camera or the canvas, and when a button goes down
    rested = Signal()

    def __init__(self, viewer: Any, parent: QObject) -> None:
        super().__init__(parent)
        #: May be read from any thread.
        self.is_moving = False
        self._is_pressed = False
        self._timer = QTimer(self)
        self._timer.setTimerType(Qt.TimerType.PreciseTimer)
        self._timer.setSingleShot(True)
        self._timer.setInterval(REST_MS)
        self._timer.timeout.connect(self._on_rest)
        self._disconnect = seam.on_view_changed(viewer, self.nudge)
        widget = seam.canvas_widget(viewer)
        if widget is not None:
            widget.installEventFilter(self)

    def nudge(self, _event: object = None) -> None:
        """The view is another one now."""
        self.is_moving = True
        self._timer.start()
        self.moved.emit()

    def stop(self) -> None:
        """Tell nothing more."""
        self._disconnect()
        self._timer.stop()
        self.is_moving = False

    def eventFilter(self, watched: QObject | None, event: QEvent | None) -> bool:
        """See buttons go down and up on the canvas; everything goes on to it."""
        if event is not None:
            kind = event.type()
            if kind == QEvent.Type.MouseButtonPress:
                self._is_pressed = True
                self.nudge()
            elif kind == QEvent.Type.MouseButtonRelease or (
                # a release that went elsewhere, to a menu or another window, shows with the next movement
                kind in (QEvent.Type.MouseMove, QEvent.Type.Leave)
                and self._is_pressed
                and getattr(event, "buttons", lambda: Qt.MouseButton.NoButton)() == Qt.MouseButton.NoButton
            ):
                self._is_pressed = False
                self._timer.start()
        return False

    def _on_rest(self) -> None:
        if not self._is_pressed:
            self.is_moving = False
            self.rested.emit()
