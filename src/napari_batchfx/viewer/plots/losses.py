"""The loss of a training as it goes."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pyqtgraph as pg
from qtpy.QtCore import QPointF, Qt

from napari_batchfx.viewer.plots.base import Plot
from napari_batchfx.viewer.plots.colours import ACCENT

if TYPE_CHECKING:
    import napari

    from napari_batchfx.adapt import TrainingPoint

__all__ = ["LossPlot"]


class LossPlot(Plot):
    """Loss over steps: dashed on the tiles it trains on, full on those it doesn't, a dot at the best."""

    def __init__(self, viewer: napari.Viewer) -> None:
        self.points: list[TrainingPoint] = []
        super().__init__(viewer, "Loss of the training", "step", "loss", height=8)
        self.axes["left"].enableAutoSIPrefix(False)  # thousandths without their unit mislead

    def clear(self) -> None:
        """A new training begins."""
        self.points = []
        self.redraw()

    def add_point(self, point: TrainingPoint) -> None:
        """The next point of the curve."""
        self.points.append(point)
        self.setAccessibleDescription(self._said(point))
        self.redraw()

    def redraw(self) -> None:
        """Draw both curves and the best."""
        self.box.clear()
        if not self.points:
            return
        step = np.array([one.step for one in self.points], dtype=float)
        valid = np.array([one.validation for one in self.points])
        dashed = pg.mkPen(self.faint, width=1, style=Qt.PenStyle.DashLine)
        self.box.addItem(pg.PlotCurveItem(step, np.array([one.loss for one in self.points]), pen=dashed))
        self.box.addItem(pg.PlotCurveItem(step, valid, pen=pg.mkPen(ACCENT, width=1.5)))
        best = int(np.argmin(valid))
        self.box.addItem(
            pg.ScatterPlotItem(
                step[[best]], valid[[best]], size=8, brush=pg.mkBrush(ACCENT), pen=pg.mkPen(self.ground)
            )
        )
        self.box.autoRange(padding=0.07)

    def tip_at(self, point: QPointF) -> str:
        """The point of the curve nearest to the pointer."""
        if not self.points:
            return ""
        return self._said(min(self.points, key=lambda one: abs(one.step - point.x())))

    @staticmethod
    def _said(point: TrainingPoint) -> str:
        return (
            f"step {point.step}: loss {point.loss:.3g}; {point.validation:.3g} on tiles it doesn't train on, "
            f"best so far {point.best:.3g}"
        )
