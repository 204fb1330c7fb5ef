"""Encoding from the viewer: the visible region (once or live), drawn shapes, whole slides; overlays fill as tiles come."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
from qtpy.QtCore import QObject, QTimer, Signal

from napari_batchfx.viewer import regions, seam

if TYPE_CHECKING:
    from napari_batchfx.jobs import Job
    from napari_batchfx.study import SlideEntry
    from napari_batchfx.viewer.session import Session

__all__ = ["Encoding"]

_SETTLE_MS = 150
"""How long the view must rest before a live job starts."""
_PAINT_MS = 100


class Encoding(QObject):
    """Runs encode jobs for one session and paints what they finish.

    Parameters
    ----------
    session : Session
        The viewer's session.
    """

    changed = Signal()  # started, stopped, or live switched

    def __init__(self, session: Session) -> None:
        super().__init__(session)
        self.session = session
        self.job = session.new_job()
        self.live = False
        self._is_view_job = False
        self._is_loading = False
        self._view_moved = False
        self._announce = False
        self._scope: set[str] = set()
        self._maps: dict[str, Any] = {}
        self._dirty: set[str] = set()
        self._settle = QTimer(self)
        self._settle.setSingleShot(True)
        self._settle.setInterval(_SETTLE_MS)
        self._settle.timeout.connect(self._view_rested)
        self._paint = QTimer(self)
        self._paint.setSingleShot(True)
        self._paint.setInterval(_PAINT_MS)
        self._paint.timeout.connect(self._paint_dirty)
        self._disconnect = seam.on_view_changed(session.viewer, self._on_view)
        self.job.progressed.connect(self._on_progress)
        self.job.succeeded.connect(self._on_done)
        self.job.ended.connect(self._on_ended)
        session.slide_hidden.connect(self._on_slide_hidden)
        session.study_changed.connect(self._forget)
        session.settings_changed.connect(self._forget)
        session.slide_altered.connect(self._on_slide_altered)

    # ------------------------------------------------------------------ what to encode

    def set_live(self, on: bool) -> None:
        """Follow the view: whenever it rests, encode the tissue on the canvas, from its centre out."""
        self.live = on
        if on:
            self.session.allow_overlays("encoded")
            if not self.job.is_running:
                self.encode_view()
        elif self._is_view_job:
            self.job.cancel()
        self.changed.emit()

    def encode_view(self, *, announce: bool = True) -> bool:
        """Encode the tissue on the canvas now; whether there is a slide to encode."""
        self._announce = announce
        wanted = self._visible()
        if not wanted:
            return False
        self._start(lambda: self._view_job(wanted), [entry for entry, *_ in wanted], is_view=True)
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
        study = self.session.study

        def job() -> Job[Any]:
            from napari_batchfx.study.overview import encode_map_job

            yield from study.encoder_job()  # the size of tiles may be its own
            cells = {}
            for entry in entries:
                grid = study.grid(entry)
                inside = [grid.cells_in_polygon(polygon) for polygon in per_slide[entry.name]]
                cells[entry.name] = (
                    np.unique(np.concatenate(inside), axis=0) if inside else np.empty((0, 2), int)
                )
            return (yield from encode_map_job(study, entries, cells))

        self._start(job, entries, is_view=False)
        return True

    def encode_slides(self, entries: list[SlideEntry]) -> bool:
        """Encode all tissue of slides; whether there is a slide to encode."""
        from napari_batchfx.study.overview import encode_map_job

        entries = [entry for entry in entries if self._has_mpp(entry)]
        if not entries:
            return False
        self._start(lambda: encode_map_job(self.session.study, entries, None), entries, is_view=False)
        return True

    def cancel(self) -> None:
        """Stop; tiles that are done are kept."""
        self.job.cancel()

    # ------------------------------------------------------------------ the view

    def _visible(self) -> list[tuple[SlideEntry, tuple[float, float, float, float], tuple[float, float]]]:
        """Slides whose layer is visible and on the canvas: box and centre of the view in their own micrometres."""
        box = seam.view_box_um(self.session.viewer)
        if box is None:
            return []
        y0, x0, y1, x1 = box
        corners = np.array([[y0, x0], [y0, x1], [y1, x0], [y1, x1]])
        found = []
        for entry in self.session.shown_slides():
            layer = self.session.layer(entry, "slide")
            if not layer.visible or not self._has_mpp(entry):
                continue
            own = self.session.to_slide_um(entry, corners)
            (b0, a0), (b1, a1) = own.min(axis=0), own.max(axis=0)
            height, width = self.session.study.open_slide(entry).extent_um
            if b1 > 0 and a1 > 0 and b0 < height and a0 < width:
                centre = self.session.to_slide_um(entry, [[(y0 + y1) / 2, (x0 + x1) / 2]])[0]
                found.append((entry, (b0, a0, b1, a1), (float(centre[0]), float(centre[1]))))
        return found

    def _view_job(self, wanted: list[Any]) -> Job[Any]:
        from napari_batchfx.study.overview import encode_map_job, view_cells

        study = self.session.study
        # Grids, tissue and the encoder are made here, in the worker's thread: the window must not wait for them.
        yield from study.encoder_job()
        cells = {entry.name: view_cells(study, entry, box, centre) for entry, box, centre in wanted}
        return (yield from encode_map_job(study, [entry for entry, *_ in wanted], cells))

    def _on_view(self) -> None:
        if self.live:
            self._settle.start()

    def _view_rested(self) -> None:
        if not self.live or (self.job.is_running and not self._is_view_job):
            return  # whole slides are under way: they will get here
        if self.job.is_running and self._is_loading:
            self._view_moved = (
                True  # a download isn't begun again for every move; the tiles come when it is done
            )
            return
        self.encode_view(announce=False)

    # ------------------------------------------------------------------ results

    def _start(self, job: Any, entries: list[SlideEntry], *, is_view: bool) -> None:
        self.job.cancel()
        self._is_view_job, self._is_loading, self._view_moved = is_view, False, False
        self._scope = {entry.fingerprint for entry in entries}
        if not is_view:
            self._announce = True
        if self._announce:
            self.session.allow_overlays("encoded")
        self.job.start(job(), "Encoding tiles")
        self.changed.emit()

    def _on_progress(self, progress: Any) -> None:
        self._is_loading = progress.unit in ("bytes", "encoders")
        if self._view_moved and not self._is_loading:
            self.encode_view(announce=False)
            return
        tiles = progress.partial
        if tiles is None:
            return
        tile_map = self._maps.get(tiles.fingerprint)
        if tile_map is None or tile_map.values.shape != tiles.blank.values.shape:
            tile_map = self._maps[tiles.fingerprint] = tiles.blank
        tile_map.set(tiles.cells, tiles.values)
        self._dirty.add(tiles.fingerprint)
        if not self._paint.isActive():
            self._paint.start()

    def _paint_dirty(self) -> None:
        dirty, self._dirty = self._dirty, set()
        for entry in self.session.shown_slides():
            if entry.fingerprint in dirty:
                self.session.show_map(entry, "encoded", self._maps[entry.fingerprint], "encoded tiles")
        if dirty and self._announce:
            self._announce = False
            self.session.show_only("encoded")

    def _on_done(self, outcome: Any) -> None:
        self._maps.update(outcome.maps)
        self._dirty |= set(outcome.maps)
        self._paint_dirty()

    def _on_ended(self) -> None:
        self._paint_dirty()
        scope, self._scope = self._scope, set()
        self._is_view_job = False
        for fingerprint in scope:
            self.session.features_changed.emit(fingerprint)
        self.changed.emit()

    def _on_slide_hidden(self, fingerprint: str) -> None:
        """The slide's layer was deleted while its tiles are encoded: stop; what is done is kept."""
        if self.job.is_running and fingerprint in self._scope:
            self.job.cancel()

    def _forget(self) -> None:
        self.job.cancel()
        self._maps.clear()
        self._dirty.clear()
        for entry in self.session.study.slides:
            self.session.drop(entry, "encoded")

    def _on_slide_altered(self, fingerprint: str) -> None:
        """Values of the slide as it was must not mix with new ones; live goes on with it as it is now."""
        self._maps.pop(fingerprint, None)
        self._dirty.discard(fingerprint)
        self.session.features_changed.emit(fingerprint)
        if self.live:
            self._settle.start()

    def _has_mpp(self, entry: SlideEntry) -> bool:
        from napari_batchfx.errors import BatchfxError

        try:
            return self.session.study.open_slide(entry).mpp is not None
        except BatchfxError:
            return False
