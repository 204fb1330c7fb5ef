"""How the slides of one viewer are compared: the mode, which slides take part, and what each of them shows."""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING, Any

from qtpy.QtCore import QObject, QTimer, Signal

from napari_batchfx.errors import BatchfxError
from napari_batchfx.viewer import seam
from napari_batchfx.viewer.compare import checkerboard, curtain, grid
from napari_batchfx.viewer.compare.others import Others, chosen
from napari_batchfx.viewer.compare.parts import NOTHING, Part, even_edges
from napari_batchfx.viewer.layers import tag

if TYPE_CHECKING:
    from napari_batchfx.study import SlideEntry
    from napari_batchfx.viewer.session import Session

__all__ = ["MODES", "Comparison", "comparison_of"]

MODES = ("overlay", "grid", "curtain", "checkerboard")


def comparison_of(session: Session) -> Comparison:
    """The comparison of a session; made at the first call."""
    comparison = session.findChild(Comparison)  # it lives and dies with the session
    return comparison if comparison is not None else Comparison(session)


class Comparison(QObject):
    """Mode, edges and squares of one viewer.

    ``changed`` is emitted when the mode, the squares' size, the edges' direction or who takes part changes;
    ``edges_moved`` at every step of a drag.
    Layers belong to their slide by the tag that the session gives them, so what is added later takes part by itself.
    """

    changed = Signal()
    edges_moved = Signal()

    def __init__(self, session: Session) -> None:
        super().__init__(session)
        self.session = session
        self.across = True
        self.edges: tuple[float, ...] = ()
        self.square_um = 0.0
        self._mode = "grid" if seam.grid(session.viewer).enabled else "overlay"
        self._front: str | None = None
        self._behind: str | None = None
        self._given_square: float | None = None
        self._taking_part: list[str] = []
        self._others = Others(session)
        self._named: list[Any] = []
        self._clipper: Any = None
        self._pictures: Any = None
        self._grip: Any = None
        self._end_draw: Any = None
        self._end_view: Any = None
        self._is_busy = False
        # Once the event loop is back: layers come and go several at a time, and a drawing must not change layers.
        self._later = QTimer(self)
        self._later.setSingleShot(True)
        self._later.timeout.connect(self.refresh)
        layers = session.viewer.layers
        for event in (layers.events.inserted, layers.events.removed, layers.events.reordered):
            event.connect(self._on_layers)
        seam.grid(session.viewer).events.enabled.connect(self._on_grid)
        session.slides_changed.connect(self._later.start)

    # ------------------------------------------------------------------ what is asked for

    @property
    def mode(self) -> str:
        """One of ``MODES``."""
        return self._mode

    def set_mode(self, mode: str, front: SlideEntry | None = None, behind: SlideEntry | None = None) -> None:
        """Change the mode; see :func:`napari_batchfx.viewer.compare.set_mode`."""
        if mode not in MODES:
            raise ValueError(f"compare mode {mode!r}: choose one of {', '.join(MODES)}")
        if front is not None and front is behind:
            raise BatchfxError(f"{front.name} can't be compared with itself: choose two slides.")
        if mode != self._mode:
            self._leave()
            self._mode = mode
            self._enter()
        self._front = front.fingerprint if front is not None else None
        self._behind = behind.fingerprint if behind is not None else None
        self._others.ask_again()
        self.refresh()
        self.changed.emit()

    def set_across(self, across: bool) -> None:
        """Whether the curtain's edges stand (slides left and right) or lie (slides above each other)."""
        self.across = bool(across)
        self._show()
        self.changed.emit()

    def set_edge(self, fraction: float, index: int = 0) -> None:
        """Put an edge at a fraction of the canvas, from the left or the top; it stays on the canvas and in order."""
        if not 0 <= index < len(self.edges):
            return
        self.edges = curtain.place_edge(self.edges, index, fraction)
        self._show()
        self.edges_moved.emit()

    def move_edge(self, by: float, index: int = 0) -> None:
        """Move an edge by a fraction of the canvas."""
        if 0 <= index < len(self.edges):
            self.set_edge(self.edges[index] + by, index)

    def spread_edges(self) -> None:
        """Give every slide the same share of the canvas."""
        self.edges = even_edges(len(self.edges) + 1)
        self._show()
        self.edges_moved.emit()

    def set_square(self, size_um: float | None) -> None:
        """The width of a square in micrometres; ``None`` follows the view."""
        if size_um is not None and not size_um > 0:
            raise ValueError("square size: give micrometres above 0")
        self._given_square = None if size_um is None else float(size_um)
        self._fit_square()
        self._show()
        self.changed.emit()

    # ------------------------------------------------------------------ what is so

    def slides(self) -> list[SlideEntry]:
        """The slides that take part, in the order of the bands (left to right) or squares."""
        if self._mode in ("overlay", "grid"):
            return self.session.shown_slides()
        return [entry for entry in self._chosen() if self._others.is_visible(entry)]

    def names(self) -> list[str]:
        """The names of the slides that take part."""
        return [entry.name for entry in self.slides()]

    def sentence(self) -> str:
        """Which slide is where, in words."""
        names = self.names()
        if self._mode == "curtain" and len(names) > 1:
            sides = ("left", "right") if self.across else ("top", "bottom")
            if len(names) == 2:
                return " | ".join(f"{side} {name}" for side, name in zip(sides, names, strict=True))
            return f"{sides[0]} to {sides[1]}: " + " | ".join(names)
        if self._mode == "checkerboard" and len(names) > 1:
            return f"squares of {self.square_um:g} µm: {' | '.join(names)}"
        return " | ".join(names)

    def _chosen(self) -> list[SlideEntry]:
        return chosen(self.session, self._front, self._behind)

    def _parts(self) -> dict[str, Part]:
        """What each slide shows, by fingerprint; a slide that takes no part shows nothing."""
        slides = self.slides()
        parts: list[Part]
        if self._mode == "curtain":
            parts = list(curtain.bands(self.edges, self.across))
        else:
            parts = list(checkerboard.squares(self.square_um, len(slides)))
        return {entry.fingerprint: part for entry, part in zip(slides, parts, strict=False)}

    # ------------------------------------------------------------------ making it so

    def refresh(self) -> None:
        """Bring layers and canvas in step with mode and slides."""
        if self.session.is_closed or self._is_busy:
            return
        self._is_busy = True
        try:
            if self._mode == "grid":
                grid.keep_cells(self.session)
                self._named = grid.show_names(self.session, self._named, True)
            elif self._mode in ("curtain", "checkerboard"):
                self._others.hide(self._chosen())
        finally:
            self._is_busy = False
        before = self._taking_part
        self._taking_part = [entry.fingerprint for entry in self.slides()]
        if self._mode == "curtain" and len(self.edges) != max(0, len(self._taking_part) - 1):
            self.edges = even_edges(len(self._taking_part))
        if self._mode == "checkerboard":
            self._fit_square()
        self._show()
        if before != self._taking_part:
            self.changed.emit()

    def _fit_square(self) -> None:
        box = seam.view_box_um(self.session.viewer)
        if self._given_square is not None:
            self.square_um = self._given_square
        elif box is not None:
            span = min(box[2] - box[0], box[3] - box[1])
            self.square_um = checkerboard.fitting_size(span, self.square_um or None)
        self.square_um = self.square_um or 1.0

    def _show(self) -> None:
        """Pictures and parts as the state is now."""
        if self._clipper is None or self.session.is_closed:
            return
        self._before_draw()
        if self._end_draw is None:  # no pictures either, where the canvas can't be reached
            seam.show_text(self.session.viewer, self.sentence())
        elif self._pictures is not None:
            self._pictures.update()

    def _before_draw(self) -> None:
        if self.session.is_closed:
            return
        viewer = self.session.viewer
        if viewer.dims.ndisplay != 2:  # in 3-D all lie over each other
            self._clipper.apply({})
            return
        now = [entry.fingerprint for entry in self.slides()]
        if now != self._taking_part or self._others.was_overruled:
            self._later.start()
        parts = self._parts()
        self._clipper.apply(
            {
                layer: parts.get(tag(layer)["slide"], NOTHING)
                for layer in viewer.layers
                if tag(layer).get("slide")
            }
        )

    def _enter(self) -> None:
        viewer = self.session.viewer
        if self._mode == "grid":
            with self._busy():
                seam.grid(viewer).enabled = True
                grid.keep_cells(self.session)
                grid.fit_slides(self.session)
            return
        if self._mode == "overlay":
            return
        from napari_batchfx.viewer.compare.clipping import Clipper
        from napari_batchfx.viewer.compare.masked import MaskedCopies

        self._end_draw = seam.before_draw(viewer, self._before_draw)
        self._clipper = Clipper(viewer) if self._end_draw is not None else MaskedCopies(viewer)
        self._end_view = seam.on_view_changed(viewer, self._on_view)
        if self._mode == "curtain":
            self.edges = even_edges(2)
            self._pictures = curtain.EdgePictures(self)
            widget = seam.canvas_widget(viewer)
            self._grip = curtain.EdgeGrip(self, widget) if widget is not None else None
        else:
            self.square_um = 0.0
            self._pictures = checkerboard.SquareNames(self)

    def _leave(self) -> None:
        """Take away everything that the mode added and give back what it hid."""
        viewer = self.session.viewer
        with self._busy():
            if self._mode == "grid":
                self._named = grid.show_names(self.session, self._named, False)
                seam.grid(viewer).enabled = False
                grid.drop_spaces(self.session)
            for end in (self._end_draw, self._end_view):
                if end is not None:
                    end()
            if self._grip is not None:
                self._grip.release()
            if self._pictures is not None:
                self._pictures.remove()
            if self._clipper is not None:
                self._clipper.apply({})
                if self._end_draw is None:
                    seam.show_text(viewer, "")
            self._others.restore()
        self.edges = ()
        self._end_draw = self._end_view = self._grip = self._pictures = self._clipper = None

    @contextlib.contextmanager
    def _busy(self) -> Any:
        was, self._is_busy = self._is_busy, True
        try:
            yield
        finally:
            self._is_busy = was

    # ------------------------------------------------------------------ napari's events

    def _on_layers(self, _event: Any = None) -> None:
        if not self._is_busy and not self.session.is_closed:
            self._later.start()

    def _on_view(self) -> None:
        if self.session.is_closed:
            return
        if self._mode == "checkerboard":
            before = self.square_um
            self._fit_square()
            if before != self.square_um:
                self.changed.emit()
        self._show()

    def _on_grid(self, _event: Any = None) -> None:
        """Follow napari's own grid button."""
        on = bool(seam.grid(self.session.viewer).enabled)
        if self._is_busy or self.session.is_closed or on == (self._mode == "grid"):
            return
        if on:
            self._leave()
        else:
            with self._busy():
                self._named = grid.show_names(self.session, self._named, False)
                grid.drop_spaces(self.session)
        self._mode = "grid" if on else "overlay"
        self.refresh()
        self.changed.emit()
