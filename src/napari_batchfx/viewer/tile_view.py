"""Looking at one tile: clicked on the canvas or stepped to, read off the window's thread, the last asked for wins."""

from __future__ import annotations

import contextlib
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any
from weakref import ref

import numpy as np
from qtpy.QtCore import QObject, QTimer, Signal

from napari_batchfx.viewer import seam
from napari_batchfx.viewer.layers import tag
from napari_batchfx.viewer.tile_frame import TileFrame
from napari_batchfx.viewer.tile_status import value_at

if TYPE_CHECKING:
    from collections.abc import Generator

    from napari_batchfx.jobs import Job
    from napari_batchfx.study import SeenTile, SlideEntry
    from napari_batchfx.viewer.session import Session

__all__ = ["KEY", "TileView", "bind_key", "slide_at", "tile_view_for"]

KEY = "W"
"""On the canvas: open the panel and show the tile under the pointer."""

_CLICK_PX = 4
"""A press that moves further before its release is a drag: it pans."""
_REST_MS = 80
_AGAIN_MS = 250
_NOTHING_THERE = "There is no tile there: it lies beyond the slide, or beside its last whole tile."


def tile_view_for(session: Session) -> TileView:
    """The session's view of one tile; every panel of a viewer shows the same."""
    found: TileView | None = session.findChild(TileView)
    return found if found is not None else TileView(session)


def bind_key(session: Session) -> None:
    """Let the key show the tile under the pointer; a key that means something already keeps its meaning."""
    session_of = ref(session)  # the viewer keeps its keys for good

    def what_the_model_saw(viewer: Any) -> None:
        session = session_of()
        if session is None or session.is_closed:
            return
        from napari_batchfx.viewer.workbench import show_dock

        show_dock(session.viewer, "tile")
        tile_view_for(session).look_at_pointer()

    with contextlib.suppress(ValueError):
        session.viewer.bind_key(KEY, what_the_model_saw)


@dataclass(frozen=True)
class _At:
    """The tile that is looked at, also while it is read."""

    cell: tuple[int, int]
    bounds_um: tuple[float, float, float, float]

    @property
    def centre_um(self) -> tuple[float, float]:
        y0, x0, y1, x1 = self.bounds_um
        return (y0 + y1) / 2, (x0 + x1) / 2


class TileView(QObject):
    """Which tile is looked at, and what is known of it.

    Signals: ``shown(SeenTile)`` when there is something (more) to show, ``missed(str)`` where there is no tile,
    ``cleared`` when the tile went with its slide.
    """

    shown = Signal(object)
    missed = Signal(str)
    cleared = Signal()

    def __init__(self, session: Session) -> None:
        super().__init__(session)
        self.session = session
        self.frame = TileFrame(session)
        self.job = session.new_job()
        self.tile: SeenTile | None = None
        self._entry: SlideEntry | None = None
        self._at: _At | None = None
        self._picks = self._follows = False
        self._pointer: tuple[SlideEntry, tuple[float, float]] | None = None
        self._rest = _once(self, _REST_MS, self._pointer_rested)
        self._again = _once(self, _AGAIN_MS, self._look_again)
        self.job.progressed.connect(lambda progress: self._on_tile(progress.partial))
        self.job.succeeded.connect(self._on_done)
        session.slides_changed.connect(self._on_slides)
        session.layers_changed.connect(self._on_slides)
        session.study_changed.connect(self.clear)
        session.slide_altered.connect(lambda *_: self._again.start())
        for signal in (session.settings_changed, session.results_changed, session.features_changed):
            signal.connect(lambda *_: self._again.start())

    # ------------------------------------------------------------------ which tile

    @property
    def entry(self) -> SlideEntry | None:
        """The slide of the tile."""
        return self._entry

    def look(self, entry: SlideEntry, place_um: tuple[float, float]) -> None:
        """Look at the tile at a place (y, x) in a slide's micrometres; an earlier one is no longer waited for."""
        self._entry = entry
        self.job.start(_job_at(self.session, entry, place_um), bar=False)

    def step(self, down: int, right: int) -> bool:
        """Look at a neighbour; whether there is one."""
        grid = self._grid()
        if self._at is None or self._entry is None:
            return False
        row, col = self._at.cell[0] + down, self._at.cell[1] + right
        if grid is None or not (0 <= row < grid.shape[0] and 0 <= col < grid.shape[1]):
            return False
        y0, x0, y1, x1 = (float(v) for v in grid.bounds_um([(row, col)])[0])
        # The next step goes on from here, however long reading takes.
        self._at = _At((row, col), (y0, x0, y1, x1))
        self.frame.show(self._entry, self._at.bounds_um)
        self._keep_in_view(self._at.centre_um)
        self.look(self._entry, self._at.centre_um)
        return True

    def clear(self) -> None:
        """Look at nothing."""
        self.job.cancel()
        self._again.stop()
        self.tile = self._entry = self._at = None
        self.frame.hide()
        self.cleared.emit()

    # ------------------------------------------------------------------ the mouse

    def set_picking(self, on: bool) -> None:
        """Whether a click on a slide looks at its tile."""
        _switch(self.session.viewer.mouse_drag_callbacks, self._on_press, on)
        self._picks = on

    def set_following(self, on: bool) -> None:
        """Whether the tile under the pointer is looked at wherever it rests."""
        _switch(self.session.viewer.mouse_move_callbacks, self._on_move, on)
        self._follows = on
        if not on:
            self._rest.stop()

    def look_at_pointer(self) -> None:
        """Look at the tile under the mouse."""
        cursor = self.session.viewer.cursor
        self._look_at(cursor.position, cursor.viewbox)

    def _on_press(self, viewer: Any, event: Any) -> Generator[None, None, None]:
        """A click, told from a drag by how far it moved; drawing tools keep theirs."""
        if event.button != 1 or event.modifiers or not _is_free(viewer):
            return
        start, moved = np.asarray(event.pos, dtype=float), False
        position, viewbox = tuple(event.position), event.viewbox
        yield
        while event.type == "mouse_move":
            moved |= bool(np.hypot(*(np.asarray(event.pos, dtype=float) - start)) > _CLICK_PX)
            yield
        if not moved:
            self._look_at(position, viewbox)

    def _on_move(self, viewer: Any, event: Any) -> None:
        if event.buttons if hasattr(event, "buttons") else False:
            return
        found = self._place(event.position, event.viewbox)
        if found is not None:
            self._pointer = found
            self._rest.start()

    def _pointer_rested(self) -> None:
        pointer, self._pointer = self._pointer, None
        if pointer is None or not self._follows:
            return
        entry, (y, x) = pointer
        if self._at is not None and entry is self._entry:
            y0, x0, y1, x1 = self._at.bounds_um
            if y0 <= y < y1 and x0 <= x < x1:
                return  # the same tile
        self.look(entry, (y, x))

    def _look_at(self, position: Any, viewbox: Any) -> None:
        found = self._place(position, viewbox)
        if found is None:
            self.missed.emit("There is no slide with a known pixel size there.")
        else:
            self.look(*found)

    def _place(self, position: Any, viewbox: Any) -> tuple[SlideEntry, tuple[float, float]] | None:
        if self.session.viewer.dims.ndisplay != 2:
            return None
        return slide_at(self.session, np.asarray(position, dtype=float)[-2:], viewbox)

    # ------------------------------------------------------------------ what comes

    def _on_tile(self, tile: SeenTile | None) -> None:
        if tile is None or self._entry is None:
            return
        self._at = _At(tile.cell, tile.bounds_um)
        layer = self.session.layer(self._entry, "encoded")
        if layer is not None and not tag(layer).get("placeholder"):
            # While tiles are still coming the overlay has an axis of its own: say what is seen.
            tile = _with_value(tile, "encoded tiles", *value_at(layer, self._at.centre_um))
        self.tile = tile
        self.frame.show(self._entry, tile.bounds_um)
        self.shown.emit(tile)

    def _on_done(self, tile: SeenTile | None) -> None:
        if tile is None:
            self.missed.emit(_NOTHING_THERE)
        else:
            self._on_tile(tile)

    def _on_slides(self) -> None:
        entry = self._entry
        if entry is None:
            return
        if entry not in self.session.study.slides or self.session.layer(entry, "slide") is None:
            self.clear()

    def _look_again(self) -> None:
        """Something it was made from changed: read it anew, at the same place."""
        if self._at is not None and self._entry is not None and (self._picks or self._follows):
            self.look(self._entry, self._at.centre_um)

    def _grid(self) -> Any:
        """The grid of the slide, where asking for it waits for nothing."""
        from napari_batchfx.errors import BatchfxError

        study = self.session.study
        choice = study.settings.encode
        if (choice.size_px is None or choice.mpp is None) and study.loaded_encoder() is None:
            return None
        try:
            return study.grid(self._entry) if self._entry is not None else None
        except BatchfxError:
            return None

    def _keep_in_view(self, place_um: tuple[float, float]) -> None:
        """Move the camera where a step left the view."""
        viewer, entry = self.session.viewer, self._entry
        box = seam.view_box_um(viewer)
        if box is None or entry is None:
            return
        y, x = (np.asarray(entry.affine_um) @ [*place_um, 1.0])[:2]
        if not (box[0] <= y <= box[2] and box[1] <= x <= box[3]):
            down, across = (axis - (viewer.dims.ndim - 2) for axis in viewer.dims.displayed[-2:])
            seam.camera(viewer).center = ((y, x)[down], (y, x)[across])


def slide_at(
    session: Session, world_um: np.ndarray, viewbox: tuple[int, int] | None = None
) -> tuple[SlideEntry, tuple[float, float]] | None:
    """The slide that is seen at a place (y, x) of the common frame, and the place in its own micrometres.

    Where slides lie over each other it is the selected one, else the one on top; in napari's grid that of the cell.
    """
    viewer = session.viewer
    settings = seam.grid(viewer)
    layers = list(viewer.layers)
    found = []
    for entry in session.ready_slides():
        layer = session.layer(entry, "slide")
        if layer is None or not layer.visible or not layer.opacity:
            continue
        index = layers.index(layer)
        if settings.enabled and viewbox is not None and settings.position(index, layers) != tuple(viewbox):
            continue
        y, x = (float(v) for v in session.to_slide_um(entry, world_um)[0])
        height, width = session.study.open_slide(entry).extent_um
        if 0 <= y < height and 0 <= x < width:
            found.append((entry is session.active_slide(), index, entry, (y, x)))
    if not found:
        return None
    *_, entry, place = max(found, key=lambda one: one[:2])
    return entry, place


def _job_at(session: Session, entry: SlideEntry, place_um: tuple[float, float]) -> Job[Any]:
    from napari_batchfx.study.inspection import saw_job

    study = session.study
    yield from study.encoder_job()  # the size of tiles may be its own
    cell = study.grid(entry).cell_at(*place_um)
    if cell is None:
        return None
    return (yield from saw_job(study, entry, cell))


def _is_free(viewer: Any) -> bool:
    """Whether a click means nothing to the selected layer."""
    active = viewer.layers.selection.active
    return active is None or str(active.mode) == "pan_zoom"


def _switch(callbacks: list[Any], callback: Any, on: bool) -> None:
    if on and callback not in callbacks:
        callbacks.append(callback)
    elif not on and callback in callbacks:
        callbacks.remove(callback)


def _with_value(tile: SeenTile, name: str, value: float, words: str) -> SeenTile:
    """A tile with another value of an overlay, put first."""
    if not np.isfinite(value):
        return tile
    return replace(
        tile,
        values={name: value} | tile.values | {name: value},
        words={name: words} | tile.words | {name: words},
    )


def _once(parent: QObject, milliseconds: int, slot: Any) -> QTimer:
    timer = QTimer(parent)
    timer.setSingleShot(True)
    timer.setInterval(milliseconds)
    timer.timeout.connect(slot)
    return timer
