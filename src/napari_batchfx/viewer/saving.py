"""Saving while somebody works: every few seconds, off the GUI thread, only where something changed."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import TYPE_CHECKING

from qtpy.QtCore import QObject, QTimer

from napari_batchfx.errors import BatchfxError
from napari_batchfx.study.autosave import EVERY_S
from napari_batchfx.viewer import regions

if TYPE_CHECKING:
    from napari_batchfx.viewer.session import Session

__all__ = ["Saver"]


class Saver(QObject):
    """Keeps a session's study on the disk.

    A study that has a folder of its own is saved there; one that hasn't is kept in the cache until napari closes, and is
    found again after a crash (:func:`napari_batchfx.study.unsaved_studies`). A study that another window has is never
    written.
    """

    def __init__(self, session: Session) -> None:
        super().__init__(session)
        self.session = session
        self._thread: threading.Thread | None = None
        self._timer = QTimer(self)
        self._timer.setInterval(round(EVERY_S * 1000))
        self._timer.timeout.connect(self.save_soon)
        self._timer.start()

    def save_soon(self) -> None:
        """Save what changed, in a thread; does nothing while the last save is still being written."""
        if self.session.is_closed or (self._thread is not None and self._thread.is_alive()):
            return
        write = self._changed()
        if write is not None:
            self._thread = threading.Thread(target=_quietly, args=(write,), name="batchfx-save", daemon=True)
            self._thread.start()

    def finish(self) -> None:
        """Save the last changes of a study that has a folder, here and now."""
        self._timer.stop()
        if self._thread is not None:
            self._thread.join(timeout=30)
        if not self.session.study.is_temporary and (write := self._changed()) is not None:
            _quietly(write)

    def _changed(self) -> Callable[[], None] | None:
        study = self.session.study
        if not study.slides and study.is_temporary:
            return None
        if not self._is_drawing():
            regions.pull(self.session)
        try:
            return study.autosave()
        except BatchfxError:  # read-only: the Report dock says so
            return None

    def _is_drawing(self) -> bool:
        """Whether a shape is being drawn or moved just now: half of one is not saved."""
        return any(
            regions.is_regions(layer)
            and (getattr(layer, "_is_creating", False) or getattr(layer, "_is_moving", False))
            for layer in self.session.viewer.layers
        )


def _quietly(write: Callable[[], None]) -> None:
    """A disk that is full or gone is told when somebody saves; the work goes on."""
    try:
        write()
    except (BatchfxError, OSError):
        return
