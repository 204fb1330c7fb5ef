"""Whether the confidence of a probe can be taken at its word, drawn."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import pyqtgraph as pg
from qtpy.QtCore import QPointF, Qt

from napari_batchfx.viewer.plots.base import Plot
from napari_batchfx.viewer.plots.colours import ACCENT

if TYPE_CHECKING:
    import napari

    from napari_batchfx.probe import SiteProbeResult

__all__ = ["CalibrationPlot"]


class CalibrationPlot(Plot):
    """Share right over confidence, a dot a tenth, its area the share of tiles; on the dashed line the two agree."""

    def __init__(self, viewer: napari.Viewer) -> None:
        self.bins: list[dict[str, Any]] = []
        self._chance = 0.5
        super().__init__(viewer, "Calibration", "confidence", "share right", height=14)

    def show_result(self, result: SiteProbeResult) -> None:
        """Draw the bins of a probe that have tiles."""
        self.bins = [one for one in result.calibration.get("reliability", []) if one["tiles"]]
        self._chance = float(result.chance)
        self.setAccessibleDescription(". ".join(self._said(one) for one in self.bins))
        self.redraw()

    def redraw(self) -> None:
        """Draw line, chance and dots."""
        self.box.clear()
        dashed = pg.mkPen(self.text, width=1, style=Qt.PenStyle.DashLine)
        self.box.addItem(pg.PlotCurveItem(np.arange(2.0), np.arange(2.0), pen=dashed), ignoreBounds=True)
        dotted = pg.mkPen(self.faint, width=1, style=Qt.PenStyle.DotLine)
        self.box.addItem(
            pg.PlotCurveItem(np.full(2, self._chance), np.arange(2.0), pen=dotted), ignoreBounds=True
        )
        if self.bins:
            x, y = (np.array([one[key] for one in self.bins]) for key in ("confidence", "accuracy"))
            size = [6 + 22 * np.sqrt(one["weight"]) for one in self.bins]
            self.box.addItem(pg.PlotCurveItem(x, y, pen=pg.mkPen(ACCENT, width=1.5)))
            dots = pg.ScatterPlotItem(x, y, size=size, brush=pg.mkBrush(ACCENT), pen=pg.mkPen(self.ground))
            self.box.addItem(dots)
        self.box.setRange(xRange=(0, 1), yRange=(0, 1), padding=0.12)  # a dot at 1, 1 whole

    def tip_at(self, point: QPointF) -> str:
        """The bin under the pointer."""
        for one in self.bins:
            if one["low"] <= point.x() < one["high"] + 1e-9:
                return self._said(one)
        return ""

    @staticmethod
    def _said(one: dict[str, Any]) -> str:
        return (
            f"confidence {one['low']:.1f}-{one['high']:.1f}: {one['confidence']:.2f} on average, "
            f"right {one['accuracy']:.2f}; {one['tiles']:,} tiles"
        )
