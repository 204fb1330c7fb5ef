"""The stain of every slide in one plot: in which direction each stain absorbs, and how strong it is."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import pyqtgraph as pg
from qtpy.QtCore import QPointF, Qt, Signal

from napari_batchfx.viewer.plots.base import Plot

if TYPE_CHECKING:
    import napari

    from napari_batchfx.study.stain_overview import StainOverview, StainRow

__all__ = ["StainPlot"]

_COLOURS = {"haematoxylin": "#7b6fd0", "eosin": "#e0679d", "DAB": "#b3742b", "tissue": "#c75f9b"}
_NEAR_PX = 9
_ALL_NAMED = 3


class StainPlot(Plot):
    """A dot a slide and stain; slides that stand apart are ringed and named, a click selects the slide.

    ``picked`` is emitted with the fingerprint of the slide that was clicked.
    """

    picked = Signal(str)

    def __init__(self, viewer: napari.Viewer) -> None:
        self.overview: StainOverview | None = None
        self.chosen = ""
        self._dots: list[tuple[StainRow, str, float, float]] = []
        super().__init__(viewer, "Stain of every slide", "", "", height=14)
        self.setCursor(Qt.CursorShape.PointingHandCursor)

    def show_overview(self, overview: StainOverview | None) -> None:
        """Draw other estimates."""
        self.overview = overview
        self._dots = [
            (row, *dot)
            for row in (overview.rows if overview is not None else ())
            if not row.declined
            for dot in row.dots
        ]
        self.setAccessibleDescription(". ".join(self._said(*dot) for dot in self._dots))
        if overview is None or overview.has_vectors:
            self.set_titles("colour: direction from red to green, °", "intensity")
        else:
            self.set_titles("mean hue, °", "mean lightness")

    def choose(self, fingerprint: str) -> None:
        """Mark a slide."""
        if fingerprint != self.chosen:
            self.chosen = fingerprint
            self.redraw()

    def redraw(self) -> None:
        """Draw dots, rings and names."""
        self.box.clear()
        if not self._dots:
            return
        points = np.array([(x, y) for _, _, x, y in self._dots])
        few = len({row.fingerprint for row, *_ in self._dots}) <= _ALL_NAMED
        for stain in dict.fromkeys(name for _, name, _, _ in self._dots):
            own = [k for k, dot in enumerate(self._dots) if dot[1] == stain]
            colour = pg.mkColor(_COLOURS.get(stain, "#7b6fd0"))
            rings = [self._ring(self._dots[k][0]) for k in own]
            self.box.addItem(
                pg.ScatterPlotItem(
                    points[own, 0], points[own, 1], size=11, brush=pg.mkBrush(colour), pen=rings
                )
            )
            middle = points[own].mean(axis=0)
            top = float(points[own, 1].max())
            self._write(stain, float(middle[0]), top, colour, (0.25, 1.25))
        for row, stain, x, y in self._dots:
            if (few or row.apart) and stain in ("haematoxylin", "tissue"):
                self._write(row.slide, x, y, self.text, (-0.12, 0.5))
        low, high = points.min(axis=0), points.max(axis=0)
        room = np.maximum(high - low, [6.0, 0.3 * max(1.0, float(high[1]))])
        middle = (low + high) / 2
        self.box.setRange(
            xRange=(middle[0] - 0.62 * room[0], middle[0] + 0.78 * room[0]),
            yRange=(middle[1] - 0.7 * room[1], middle[1] + 0.8 * room[1]),
            padding=0,
        )

    def tip_at(self, point: QPointF) -> str:
        """The slide under the pointer."""
        found = self._dot_at(point)
        return "" if found is None else self._said(*found)

    def mouseReleaseEvent(self, ev: Any) -> None:
        """Select the slide that was clicked."""
        super().mouseReleaseEvent(ev)
        found = (
            self._dot_at(self.in_plot(ev.position())) if ev.button() == Qt.MouseButton.LeftButton else None
        )
        if found is not None:
            self.picked.emit(found[0].fingerprint)

    def place_of(self, fingerprint: str, k: int = 0) -> QPointF:
        """Where a slide's dot is on the widget."""
        own = [dot for dot in self._dots if dot[0].fingerprint == fingerprint][k]
        return QPointF(self.mapFromScene(self.box.mapViewToScene(QPointF(own[2], own[3]))))

    def _ring(self, row: StainRow) -> Any:
        if row.fingerprint == self.chosen:
            return pg.mkPen(self.text, width=2.5)
        return pg.mkPen("#d99000", width=2.5) if row.apart else pg.mkPen(self.ground, width=1)

    def _write(self, text: str, x: float, y: float, colour: Any, anchor: tuple[float, float]) -> None:
        item = pg.TextItem(text, color=colour, anchor=anchor)
        item.setFont(self.small_font())
        item.setPos(x, y)
        self.box.addItem(item, ignoreBounds=True)

    def _dot_at(self, point: QPointF) -> tuple[StainRow, str, float, float] | None:
        if not self._dots:
            return None
        width, height = self.box.viewPixelSize()
        away = [
            float(np.hypot((x - point.x()) / width, (y - point.y()) / height)) for _, _, x, y in self._dots
        ]
        nearest = int(np.argmin(away))
        return self._dots[nearest] if away[nearest] <= _NEAR_PX else None

    @staticmethod
    def _said(row: StainRow, stain: str, x: float, y: float) -> str:
        apart = f"; stands apart: {', '.join(row.apart)}" if row.apart else ""
        return f"{row.slide}, {stain}: {x:.0f}°, intensity {y:.2f}{apart}"
