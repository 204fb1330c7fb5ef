"""Before and after under a curtain: left of an edge that is dragged the slide as scanned, right of it the preview."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from qtpy.QtCore import QObject, Signal

from napari_batchfx.viewer import seam
from napari_batchfx.viewer.compare.curtain import EdgeGrip, EdgePictures, place_edge
from napari_batchfx.viewer.compare.parts import Band

if TYPE_CHECKING:
    from napari_batchfx.viewer.session import Session
    from napari_batchfx.viewer.stain_layers import StainLayers

__all__ = ["StainCurtain"]


class StainCurtain(QObject):
    """One edge over the canvas; only preview layers are cut.

    It has the parts that edge, handle and names of the Slides dock's curtain ask for (``edges``, ``across``, ``names``), so that
    both look and move alike.
    """

    changed = Signal()

    def __init__(self, session: Session, layers: StainLayers) -> None:
        super().__init__(session)
        self.session = session
        self.across = True
        self.edges: tuple[float, ...] = ()
        self._layers = layers
        self._clipper: Any = None
        self._pictures: Any = None
        self._grip: Any = None
        self._ends: list[Any] = []

    @property
    def is_on(self) -> bool:
        """Whether the edge is on the canvas."""
        return bool(self.edges)

    def switch(self, on: bool) -> bool:
        """Show or take away the edge; whether it is on now (the canvas may be out of reach)."""
        if on == self.is_on or self.session.is_closed:
            return self.is_on
        if on:
            self._enter()
        else:
            self._leave()
        self.changed.emit()
        return self.is_on

    def names(self) -> list[str]:
        """What is written over the two sides."""
        shown = self._layers.shown()
        title = shown[-1].name.rpartition(" · ")[2] if shown else ""
        return ["as scanned", title or "normalised"]

    def set_edge(self, fraction: float, index: int = 0) -> None:
        """Put the edge at a fraction of the canvas from the left."""
        if self.edges:
            self.edges = place_edge(self.edges, index, fraction)
            self._show()

    def move_edge(self, by: float, index: int = 0) -> None:
        """Move the edge by a fraction of the canvas."""
        if self.edges:
            self.set_edge(self.edges[index] + by, index)

    def spread_edges(self) -> None:
        """Back to the middle."""
        self.set_edge(0.5)

    def _enter(self) -> None:
        from napari_batchfx.viewer.compare.clipping import Clipper

        viewer = self.session.viewer
        end = seam.before_draw(viewer, self._before_draw)
        if end is None:
            return
        self._ends = [end, seam.on_view_changed(viewer, self._show)]
        self._clipper = Clipper(viewer)
        self._pictures = EdgePictures(self)
        widget = seam.canvas_widget(viewer)
        self._grip = EdgeGrip(self, widget) if widget is not None else None
        self.edges = (0.5,)
        self._show()

    def _leave(self) -> None:
        for end in self._ends:
            end()
        if self._grip is not None:
            self._grip.release()
        if self._pictures is not None:
            self._pictures.remove()
        if self._clipper is not None:
            self._clipper.apply({})
        self.edges, self._ends = (), []
        self._clipper = self._pictures = self._grip = None

    def _show(self) -> None:
        if self.edges and not self.session.is_closed:
            self._before_draw()
            self._pictures.update()

    def _before_draw(self) -> None:
        if self._clipper is None or self.session.is_closed:
            return
        flat = self.session.viewer.dims.ndisplay == 2
        part = Band(self.edges[0] if self.edges else 0.0, 2.0, self.across)
        self._clipper.apply(dict.fromkeys(self._layers.shown(), part) if flat and self.edges else {})
