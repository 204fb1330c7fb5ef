"""Makes the small levels of slides that have none, one slide at a time, while the view shows what is there."""

from __future__ import annotations

from typing import TYPE_CHECKING

from qtpy.QtCore import QElapsedTimer, QObject, QTimer, Signal

from napari_batchfx.errors import BatchfxError
from napari_batchfx.viewer.preferences import preference

if TYPE_CHECKING:
    from napari_batchfx.jobs import Progress
    from napari_batchfx.study import SlideEntry
    from napari_batchfx.viewer.session import Session

__all__ = ["Preparer"]

_REFRESH_MS = 1500


class Preparer(QObject):
    """Background pyramids of one session.

    Signals: ``changed(fingerprint)`` when :meth:`text` says something new.
    """

    changed = Signal(str)

    def __init__(self, session: Session) -> None:
        super().__init__(session)
        self._session = session
        self._job = session.new_job()
        self._waiting: list[str] = []
        self._now = ""
        self._text: dict[str, str] = {}
        self._by_user = False
        self._shown = QElapsedTimer()
        self._job.progressed.connect(self._on_progress)
        self._job.failed.connect(self._on_failed)
        self._job.succeeded.connect(lambda *_: self._finish(""))
        self._job.cancelled.connect(self._on_cancelled)
        self._job.ended.connect(self._next)

    def want(self, entry: SlideEntry) -> None:
        """Prepare a slide if it needs it; asking twice does nothing."""
        if entry.fingerprint in (self._now, *self._waiting):
            return
        try:
            slide = self._session.study.open_slide(entry)
            if not slide.needs_pyramid or slide.is_prepared:
                return
        except BatchfxError:  # the slide itself says so elsewhere
            return
        self._waiting.append(entry.fingerprint)
        self._next()

    def text(self, entry: SlideEntry) -> str:
        """How far a slide is, in words; empty where there is nothing to say."""
        if entry.fingerprint in self._waiting:
            return "overview: waits for its turn"
        return self._text.get(entry.fingerprint, "")

    @property
    def is_busy(self) -> bool:
        """Whether a slide is being prepared."""
        return bool(self._now)

    def cancel(self) -> None:
        """Stop; what is finished is kept and the next time goes on from there."""
        self._waiting.clear()
        self._by_user = True
        try:
            self._job.cancel()
        finally:
            self._by_user = False

    def _next(self) -> None:
        if self._session.is_closed or self._job.is_running:
            return
        from napari_batchfx.slides import prepare_pyramid_job

        while self._waiting:
            fingerprint = self._waiting.pop(0)
            entry = next((e for e in self._session.study.slides if e.fingerprint == fingerprint), None)
            if entry is None:
                continue
            try:
                slide = self._session.study.open_slide(entry)
            except BatchfxError:
                continue
            self._now = fingerprint
            self._shown.start()
            limit = int(preference("prepared_gb")) * 10**9
            self._job.start(prepare_pyramid_job(slide, limit_bytes=limit), f"Preparing {entry.name}")
            self.changed.emit(fingerprint)
            return

    def _on_progress(self, progress: Progress) -> None:
        self._text[self._now] = f"overview: {100 * progress.fraction:.0f} % prepared"
        if self._shown.elapsed() > _REFRESH_MS:
            self._shown.restart()
            self._refresh(self._now)
            self.changed.emit(self._now)

    def _on_cancelled(self) -> None:
        """Stopped by the user, or because slides leave: what is still there goes on once the event loop is back."""
        stopped = self._now
        self._finish("overview: stopped; Show goes on with it" if self._by_user else "")
        if not self._by_user:
            QTimer.singleShot(0, lambda: self._again(stopped))

    def _again(self, fingerprint: str) -> None:
        entry = next((e for e in self._session.study.slides if e.fingerprint == fingerprint), None)
        if entry is not None and not self._session.is_closed:
            self.want(entry)

    def _on_failed(self, error: Exception) -> None:
        self._finish(str(error))

    def _finish(self, text: str) -> None:
        fingerprint, self._now = self._now, ""
        if not fingerprint or self._session.is_closed:
            return
        self._text[fingerprint] = text
        self._refresh(fingerprint)
        self.changed.emit(fingerprint)

    def _refresh(self, fingerprint: str) -> None:
        """Draw the slide's layer again: levels that came blank have their pixels now."""
        entry = next((e for e in self._session.study.slides if e.fingerprint == fingerprint), None)
        layer = None if entry is None else self._session.layer(entry, "slide")
        if layer is not None:
            layer.refresh()
