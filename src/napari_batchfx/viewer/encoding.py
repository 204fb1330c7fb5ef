"""Encoding from the viewer: the visible region (once or live), drawn shapes, whole slides; overlays fill as tiles come."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import numpy as np
from qtpy.QtCore import QObject, Qt, QTimer, Signal

from napari_batchfx.slides import give_back_memory
from napari_batchfx.study.live_view import LiveView, Look
from napari_batchfx.viewer import regions, seam, seen
from napari_batchfx.viewer.motion import Motion
from napari_batchfx.viewer.painting import Painter

if TYPE_CHECKING:
    from napari_batchfx.jobs import Job
    from napari_batchfx.study import SlideEntry
    from napari_batchfx.viewer.session import Session

__all__ = ["Encoding"]

_GLANCE_MS = 40
"""While the view moves, how often it is looked up whether the store has tiles of it."""
_PATIENCE_S = 0.015
"""How long the window waits for what is stored of a new view, so that one drawing shows the view and its values."""
_TELL_MS = 1000
"""How often, at most, the other docks hear of new features while live goes on."""
_BREATH_S = 0.15
"""How long other jobs wait between two batches while the view moves."""


class Encoding(QObject):
    """Runs encode jobs for one session and paints what they finish.

    Parameters
    ----------
    session : Session
        The viewer's session.
    """

    changed = Signal()  # started, stopped, or live switched
    _look_soon = Signal()

    def __init__(self, session: Session) -> None:
        super().__init__(session)
        self.session = session
        self.job = session.new_job()
        self.live = False
        self.painter = Painter(session)
        self.motion = Motion(session.viewer, self)
        self._view: LiveView | None = None  # of the job that works for the view, while there is one
        self._pace: Any = None
        self._scope: set[str] = set()
        self._told: set[str] = set()
        self._watched: set[str] = set()
        self._said = (False, False)
        self._glanced = 0.0
        self._glance = _single_shot(self, self._on_glance)
        # A posted event is served before the canvas is drawn anew, and a timer after it.
        self._look_soon.connect(self._on_glance, Qt.ConnectionType.QueuedConnection)
        self._tell = _single_shot(self, self._tell_docks)
        self.motion.moved.connect(self._on_moved)
        self.motion.rested.connect(self._on_rested)
        self.job.progressed.connect(self._on_progress)
        self.job.ended.connect(self._on_ended)
        session.slide_hidden.connect(self._on_slide_hidden)
        session.layers_changed.connect(self._on_layers)
        session.study_changed.connect(self._forget)
        session.settings_changed.connect(self._forget)
        session.slide_altered.connect(self._on_slide_altered)
        seam.on_window_closed(session.viewer, self._close)

    @property
    def is_busy(self) -> bool:
        """Whether tiles are encoded, or will be as soon as the view shows some."""
        return self.live or self.job.is_running

    # ------------------------------------------------------------------ what to encode

    def set_live(self, on: bool) -> None:
        """Follow the view: whenever it rests, encode the tissue on the canvas, from its centre out."""
        self.live = on
        if on:
            self.session.allow_overlays("encoded")
            self._watch_layers()
            if not self.job.is_running:
                self.encode_view()
        elif self._view is not None:
            self.cancel()
        self._say_changed()

    def encode_view(self) -> bool:
        """Encode the tissue on the canvas now; whether there is a slide to encode."""
        looks = self._looks()
        if not looks:
            return False
        self._announce()
        self._start_view(looks, held=False)
        return True

    def encode_shapes(self) -> bool:
        """Encode the tiles inside the drawn shapes; whether there is a shape over a slide."""
        polygons = regions.selected_polygons(self.session)
        entries = [entry for entry in self.session.shown_slides() if self._has_mpp(entry)]
        if not polygons or not entries:
            return False
        per_slide = {
            entry.name: [self.session.to_slide_um(entry, polygon) for polygon in polygons]
            for entry in entries
        }
        study, overview = self.session.study, self.painter.overview

        def job() -> Job[Any]:
            from napari_batchfx.study.mapping import encode_map_job

            yield from study.encoder_job()  # the size of tiles may be its own
            cells = {}
            for entry in entries:
                grid = study.grid(entry)
                inside = [grid.cells_in_polygon(polygon) for polygon in per_slide[entry.name]]
                cells[entry.name] = (
                    np.unique(np.concatenate(inside), axis=0) if inside else np.empty((0, 2), int)
                )
            return (yield from encode_map_job(study, entries, cells, overview))

        self._announce()
        self._start(self._gently(job()), entries)
        return True

    def encode_slides(self, entries: list[SlideEntry]) -> bool:
        """Encode all tissue of slides; whether there is a slide to encode."""
        from napari_batchfx.study.mapping import encode_map_job

        entries = [entry for entry in entries if self._has_mpp(entry)]
        if not entries:
            return False
        job = encode_map_job(self.session.study, entries, None, self.painter.overview)
        self._announce()
        self._start(self._gently(job), entries)
        return True

    def cancel(self) -> None:
        """Stop; tiles that are done are kept."""
        view, self._view = self._view, None
        if view is not None:
            view.close()  # wakes a job that waits for the view to rest
        self.job.cancel()
        self.painter.paint_later()  # the batch that was under way comes after this

    # ------------------------------------------------------------------ the view

    def _looks(self) -> list[Look]:
        return seen.looks(self.session)

    def _on_moved(self) -> None:
        if self.session.is_closed:
            self._close()
            return
        if self._view is not None:
            self._view.hold()  # no tile of the view that is left is begun any more
        if self.live and not self._glance.isActive():
            since = 1000 * (time.monotonic() - self._glanced)
            if since >= _GLANCE_MS:
                self._glanced = time.monotonic()
                self._look_soon.emit()
            else:
                self._glance.start(round(_GLANCE_MS - since))

    def _on_glance(self) -> None:
        """In the middle of a movement: what is stored is shown; nothing is computed."""
        if self.motion.is_moving and not self.session.is_closed:
            self._follow(held=True)

    def _on_rested(self) -> None:
        if self.session.is_closed:
            self._close()
        elif self.live:
            self._follow(held=False)
            if self._view is None and not self.job.is_running:
                # Nothing is to be computed; what the movement left goes back all the same. A job does it at its end.
                threading.Thread(target=give_back_memory, name="batchfx-memory", daemon=True).start()
        elif self._view is not None:
            self._view.hold(False)

    def _follow(self, *, held: bool) -> None:
        """Let the live job work for what is seen now; it is started where there is something to do."""
        self._glanced = time.monotonic()
        if self._view is None and self.job.is_running:
            return  # whole slides are under way: they will get here
        looks = self._looks()
        least = self.session.study.settings.encode.min_tissue
        lacks = not all(self.painter.overview.covers(look, least) for look in looks)
        if self._view is not None and self._view.aim(looks, held=held):
            self._scope |= {look.entry.fingerprint for look in looks}
        elif lacks:
            self._start_view(looks, held=held)
        if held and lacks and self._view is not None and self._view.wait_shown(_PATIENCE_S):
            self.painter.paint_now()

    def _start_view(self, looks: list[Look], *, held: bool) -> None:
        from napari_batchfx.study.live import Pace, live_job

        view = LiveView()
        view.aim(looks, held=held)
        self._pace = self._pace or Pace()
        job = live_job(self.session.study, view, self.painter.overview, self._pace)
        self._start(job, [look.entry for look in looks], view)

    def _gently(self, job: Job[Any]) -> Job[Any]:
        """A job that leaves the processor to the drawing while the view moves, without stopping altogether."""
        try:
            while True:
                yield next(job)
                end = time.monotonic() + _BREATH_S
                while self.motion.is_moving and time.monotonic() < end:
                    time.sleep(0.02)
        except StopIteration as stop:
            return stop.value
        finally:
            job.close()

    # ------------------------------------------------------------------ results

    def _start(self, job: Job[Any], entries: list[SlideEntry], view: LiveView | None = None) -> None:
        self.cancel()
        self._view = view
        self._scope = {entry.fingerprint for entry in entries}
        # napari's progress bar runs the event loop; one that comes and goes with every movement would flicker.
        self.job.start(job, "Encoding tiles", bar=not (view is not None and self.live))
        self._say_changed()

    def _announce(self) -> None:
        self.session.allow_overlays("encoded")
        self.painter.announce()

    def _on_progress(self, progress: Any) -> None:
        if progress.partial is not None and len(progress.partial.cells):
            self._told.add(progress.partial.fingerprint)
            self.painter.paint_soon()

    def _on_ended(self) -> None:
        self._view = None
        self.painter.paint_now(thumbnails=True)
        self._told |= self._scope if not self.live else set()
        self._scope = set()
        if self.live and not self._tell.isActive():
            self._tell.start(_TELL_MS)
        elif not self.live:
            self._tell_docks()
        self._say_changed()

    def _tell_docks(self) -> None:
        told, self._told = self._told, set()
        if self.session.is_closed:
            return
        for fingerprint in told:
            self.session.features_changed.emit(fingerprint)

    def _say_changed(self) -> None:
        """In live mode jobs come and go with every movement: the docks hear of what they show, not of each."""
        now = (self.live, self.job.is_running)
        if not (self.live and self._said[0]):
            self.changed.emit()
        self._said = now

    def _on_slide_hidden(self, fingerprint: str) -> None:
        """The slide's layer was deleted while its tiles are encoded: stop; what is done is kept."""
        if self.job.is_running and fingerprint in self._scope:
            self.cancel()

    def _on_layers(self) -> None:
        if self.live and self._watch_layers():  # not for every overlay that is made
            self.motion.nudge()

    def _watch_layers(self) -> bool:
        """A slide that is hidden leaves the view, and comes back when it is shown; whether others are there now."""
        shown = self.session.shown_slides()
        for entry in shown:
            self.session.layer(entry, "slide").events.visible.connect(self._on_visible)
        before, self._watched = self._watched, {entry.fingerprint for entry in shown}
        return before != self._watched

    def _on_visible(self, _event: object = None) -> None:
        if self.live:
            self.motion.nudge()

    def _forget(self) -> None:
        """Other settings, another study: what is on the canvas says nothing about them; live begins anew."""
        self.cancel()
        self.painter.forget()
        self._pace = None
        if self.live:
            self.motion.nudge()

    def _on_slide_altered(self, fingerprint: str) -> None:
        """Values of the slide as it was must not mix with new ones; live goes on with it as it is now."""
        self.painter.overview.forget(fingerprint)
        self.session.features_changed.emit(fingerprint)
        if self.live:
            self.motion.nudge()

    def _close(self) -> None:
        self.live = False
        self.motion.stop()
        for timer in (self._glance, self._tell):
            timer.stop()
        self.painter.stop()

    def _has_mpp(self, entry: SlideEntry) -> bool:
        from napari_batchfx.errors import BatchfxError

        try:
            return self.session.study.open_slide(entry).mpp is not None
        except BatchfxError:
            return False


def _single_shot(parent: QObject, slot: Callable[[], None]) -> QTimer:
    timer = QTimer(parent)
    timer.setSingleShot(True)
    timer.timeout.connect(slot)
    return timer
