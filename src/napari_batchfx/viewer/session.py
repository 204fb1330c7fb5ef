"""One viewer's work: its study, which layers belong to which slide, and who has to know when something changes.

The docks share it. It holds no science: slides, features and results live in the :class:`~napari_batchfx.Study`.
"""

from __future__ import annotations

import contextlib
from pathlib import Path
from typing import TYPE_CHECKING, Any
from weakref import WeakKeyDictionary

import numpy as np
from qtpy.QtCore import QObject, QTimer, Signal

from napari_batchfx.errors import BatchfxError, SlideError
from napari_batchfx.viewer import layers as batchfx_layers
from napari_batchfx.viewer import overlays, seam
from napari_batchfx.viewer.ahead import ReadAhead
from napari_batchfx.viewer.layers import tag
from napari_batchfx.viewer.preparing import Preparer
from napari_batchfx.viewer.saving import Saver
from napari_batchfx.viewer.slide_layers import SlideLayers
from napari_batchfx.viewer.tile_status import TileStatus
from napari_batchfx.viewer.tile_view import bind_key

if TYPE_CHECKING:
    import napari
    from napari.layers import Layer

    from napari_batchfx.study import SlideEntry, Study
    from napari_batchfx.viewer.qtjobs import QtJob

__all__ = ["MANY", "Session", "session_for"]

#: A study of more slides than these doesn't show all of them when it is opened, nor opens their files.
MANY = 24
SHOWN_OF_MANY = 4

_sessions: WeakKeyDictionary[Any, Session] = WeakKeyDictionary()


def session_for(viewer: napari.Viewer) -> Session:
    """The session of a viewer; made at the first call."""
    viewer = seam.unwrap(viewer)
    session = _sessions.get(viewer)
    if session is None or session.is_closed:
        session = _sessions[viewer] = Session(viewer)
    return session


class Session(QObject, SlideLayers):
    """What the docks of one viewer share.

    Signals tell the docks what changed: ``slides_changed``, ``layers_changed`` (a slide shown or hidden, an overlay
    made or deleted), ``slide_altered(fingerprint)`` (read in other colours or another size), ``features_changed(fingerprint)``, ``regions_changed``, ``results_changed``, ``settings_changed``
    and ``study_changed`` (another study altogether; ``slides_changed`` always follows it).
    """

    slides_changed = Signal()
    layers_changed = Signal()
    slide_hidden = Signal(str)
    slide_altered = Signal(str)
    features_changed = Signal(str)
    regions_changed = Signal()
    results_changed = Signal()
    settings_changed = Signal()
    study_changed = Signal()

    def __init__(self, viewer: napari.Viewer) -> None:
        from napari_batchfx.viewer.preferences import apply_preferences, new_study

        super().__init__()
        apply_preferences()
        self.viewer = viewer
        self.study: Study = new_study()
        self.study.leave_a_core_free()
        self.is_closed = False
        self._jobs: list[QtJob] = []
        #: Told of tiles and their grid as they are encoded, in the job's thread.
        self.tile_listeners: list[Any] = []
        self._dismissed: set[tuple[str, str]] = set()
        self._removing = False
        self.holds_regions = False
        # Once the event loop is back: layers come and go several at a time, and a closing window clears them one by one.
        self._cells = QTimer(self)
        self._cells.setSingleShot(True)
        self._cells.timeout.connect(self._keep_cells)
        self.preparer = Preparer(self)
        self.ahead = ReadAhead(self)
        self.status = TileStatus(self)
        self.saver = Saver(self)
        bind_key(self)
        viewer.layers.events.inserted.connect(self._on_inserted)
        viewer.layers.events.removed.connect(self._on_removed)
        seam.on_window_closed(viewer, self.close)
        for layer in list(viewer.layers):
            self._adopt(layer)

    # ------------------------------------------------------------------ jobs

    def new_job(self) -> QtJob:
        """A job runner that is cancelled when the window closes."""
        from napari_batchfx.viewer.qtjobs import QtJob

        job = QtJob(self)
        self._jobs.append(job)
        return job

    def close(self) -> None:
        """Stop every job, then let go of slides and study; features stay in the study's folder."""
        if self.is_closed:
            return
        self.saver.finish()
        self.is_closed = True
        self._cells.stop()
        self.ahead.stop()
        running = [job for job in self._jobs if job.is_running]
        for job in self._jobs:
            job.blockSignals(True)
            job.cancel()
        for job in running:
            job.wait()
        with contextlib.suppress(RuntimeError, TypeError, ValueError):
            self.viewer.layers.events.inserted.disconnect(self._on_inserted)
            self.viewer.layers.events.removed.disconnect(self._on_removed)
        self.study.close()

    # ------------------------------------------------------------------ study

    def replace_study(self, study: Study) -> None:
        """Go on with another study: its slides are shown, the layers of the old one leave."""
        from napari_batchfx.viewer.regions import push

        for job in self._jobs:
            job.cancel()
        old = self.study
        self.saver.save_soon()
        blocked = self.blockSignals(True)  # the docks hear of all of it at once, below
        self._removing = True
        try:
            with seam.many_layers(self.viewer):
                for layer in [layer for layer in self.viewer.layers if tag(layer)]:
                    self.viewer.layers.remove(layer)
                self._removing = False
                self.study = study
                study.leave_a_core_free()
                self._dismissed.clear()
                old.close()
                # Of many slides a few are shown; the others are in the table, and Show brings them.
                for entry in study.slides if len(study.slides) <= MANY else study.slides[:SHOWN_OF_MANY]:
                    with contextlib.suppress(BatchfxError):  # missing slides are listed in study.problems
                        self.show_slide(entry)
                push(self)
        finally:
            self._removing = False
            self.blockSignals(blocked)
        self.study_changed.emit()
        self.slides_changed.emit()

    # ------------------------------------------------------------------ slides

    def add_slide(self, path: Path | str, *, mpp: Any = None, **meta: str) -> SlideEntry:
        """Open a slide, put it into the study and show it.

        Raises
        ------
        SlideError
            If it can't be opened; everything else stays as it is.
        """
        known = len(self.study.slides)
        entry = self.study.add_slide(path, mpp=mpp, **meta)
        try:
            if entry.fingerprint in self.study.reopened:  # found again, and read in another way now
                self.study.reopened.discard(entry.fingerprint)
                self.drop(entry, "slide")
            self.show_slide(entry)
            if len(self.study.slides) == known:  # it was there: grey from a file that was away is drawn anew
                for layer in self.layers_of(entry):
                    layer.refresh()
        except (BatchfxError, OSError) as error:
            if len(self.study.slides) > known:
                self.study.remove_slide(entry)
            raise (
                error
                if isinstance(error, BatchfxError)
                else SlideError(f"{entry.name}: it can't be read ({error}).")
            ) from error
        self.slides_changed.emit()
        return entry

    def add_slides(self, paths: list[Path | str]) -> list[str]:
        """Open several slides; returns a sentence for each that could not be opened."""
        problems = []
        for path in paths:
            try:
                self.add_slide(path)
            except BatchfxError as error:
                problems.append(str(error))
        return problems

    def show_slide(self, entry: SlideEntry) -> Layer:
        """The slide's image layer; made if it isn't there."""
        layer = self.layer(entry, "slide")
        if layer is None:
            from napari.layers import Image

            slide = self.study.open_slide(entry)
            data, options, _ = batchfx_layers.slide_layer_data(slide, entry.name)
            affine = batchfx_layers.affine_to_napari(entry.affine_um)
            layer = self._insert(Image(data, affine=affine, **options), entry)
            seam.show_scale_bar(self.viewer)
        self.preparer.want(entry)
        return layer

    def remove_slide(self, entry: SlideEntry) -> None:
        """Take a slide and its layers out of the study; jobs under way are stopped, they may be reading it."""
        for job in self._jobs:
            job.cancel()
        self._take(self.layers_of(entry))
        self.study.remove_slide(entry)
        self.slides_changed.emit()

    def update_slide(self, entry: SlideEntry, **values: Any) -> None:
        """Change what is known of a slide; layers follow a new name, pixel size or colour profile."""
        from napari_batchfx.viewer.regions import pull, push

        pull(self)
        old = entry.name
        is_other = "mpp" in values or "icc" in values
        if is_other:
            for job in self._jobs:  # they read the slide as it was
                job.cancel()
        self.holds_regions = "mpp" in values  # shapes of the old pixel size must not be read back
        try:
            self.study.update_slide(entry, **values)
            if entry.name != old:
                for layer in self.layers_of(entry):
                    if layer.name == old or layer.name.startswith(f"{old} · "):
                        layer.name = entry.name + layer.name.removeprefix(old)
            if "mpp" in values:
                self._rescale(entry)
                self.place_slides()
                push(self)
        finally:
            self.holds_regions = False
        if "icc" in values:
            self._recolour(entry)
            self.preparer.want(entry)
        self.slides_changed.emit()
        if is_other:
            self.slide_altered.emit(entry.fingerprint)

    def set_affine(self, entry: SlideEntry, affine_um: Any) -> None:
        """Move a slide, and everything over it, into the common frame."""
        (a, b, c), (d, e, f), _ = (tuple(float(v) for v in row) for row in np.asarray(affine_um))
        entry.affine_um = ((a, b, c), (d, e, f), (0.0, 0.0, 1.0))
        for layer in self.layers_of(entry):
            layer.affine = np.asarray(entry.affine_um)
        self.slides_changed.emit()

    def place_slides(self) -> None:
        """Put the layers of every slide where the study has it."""
        for entry in self.study.slides:
            for layer in self.layers_of(entry):
                if not np.allclose(layer.affine.affine_matrix[-3:, -3:], entry.affine_um):
                    layer.affine = np.asarray(entry.affine_um)
        self.slides_changed.emit()

    def shown_slides(self) -> list[SlideEntry]:
        """Slides whose image layer is in the viewer, in the study's order."""
        shown = {tag(one).get("slide") for one in self.viewer.layers if tag(one).get("kind") == "slide"}
        return [entry for entry in self.study.slides if entry.fingerprint in shown]

    def ready_slides(self) -> list[SlideEntry]:
        """Slides with a known pixel size that can be read."""
        ready = []
        # Of many slides those that are shown: opening a thousand takes as long as it takes.
        for entry in self.study.slides if len(self.study.slides) <= MANY else self.shown_slides():
            with contextlib.suppress(BatchfxError):
                if self.study.open_slide(entry).mpp is not None:
                    ready.append(entry)
        return ready

    def entry_of(self, layer: Layer | None) -> SlideEntry | None:
        """The slide that a layer belongs to."""
        fingerprint = tag(layer).get("slide") if layer is not None else None
        return next((entry for entry in self.study.slides if entry.fingerprint == fingerprint), None)

    def active_slide(self) -> SlideEntry | None:
        """The slide of the selected layer, else the first one shown."""
        entry = self.entry_of(self.viewer.layers.selection.active)
        shown = self.shown_slides()
        return entry if entry in shown else (shown[0] if shown else None)

    def box_um(self, entry: SlideEntry) -> tuple[float, float, float, float]:
        """A slide's box ``(y0, x0, y1, x1)`` in the common frame."""
        height, width = self.study.open_slide(entry).extent_um
        corners = np.array([[0, 0, 1], [0, width, 1], [height, 0, 1], [height, width, 1]], dtype=float)
        moved = corners @ np.asarray(entry.affine_um).T
        (y0, x0), (y1, x1) = moved[:, :2].min(axis=0), moved[:, :2].max(axis=0)
        return float(y0), float(x0), float(y1), float(x1)

    def to_slide_um(self, entry: SlideEntry, points_um: Any) -> np.ndarray:
        """Points (n, 2) of the common frame in the slide's own micrometres."""
        points = np.atleast_2d(np.asarray(points_um, dtype=float))
        inverse = np.linalg.inv(np.asarray(entry.affine_um))
        return (np.c_[points, np.ones(len(points))] @ inverse.T)[:, :2]

    def show_only(self, kind: str | None, note: str = "") -> None:
        """Of all overlays leave visible those of one kind (see :func:`overlays.show_only`)."""
        overlays.show_only(self, kind, note)

    # ------------------------------------------------------------------ napari's events

    def _adopt(self, layer: Layer) -> None:
        """A slide layer that the reader made becomes a slide of the study."""
        info = tag(layer)
        if info.get("kind") != "slide" or self.entry_of(layer) is not None or not info.get("path"):
            return
        with contextlib.suppress(
            SlideError
        ):  # the file went away between reading and now: the layer stays as it is
            self.preparer.want(self.study.add_slide(info["path"]))

    def _on_inserted(self, event: Any) -> None:
        layer = event.value
        if tag(layer).get("kind") == "slide":
            self._adopt(layer)
            seam.show_scale_bar(self.viewer)
            self.slides_changed.emit()
        self._cells.start()
        self.layers_changed.emit()

    def _on_removed(self, event: Any) -> None:
        info = tag(event.value)
        is_copy = any(
            (tag(other).get("slide"), tag(other).get("kind")) == (info.get("slide"), info.get("kind"))
            for other in self.viewer.layers
        )
        if info and not self._removing and not info.get("placeholder") and not is_copy:
            self._dismissed.add((info["slide"], info["kind"]))
            if info["kind"] == "slide":
                self.slide_hidden.emit(info["slide"])
        self._cells.start()
        self.layers_changed.emit()

    def _keep_cells(self) -> None:
        from napari_batchfx.viewer.compare import keep_cells

        if not self.is_closed:
            keep_cells(self)
