"""Along which principal components a batch lies, drawn beside how much of the variance they hold."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import pyqtgraph as pg
from qtpy.QtCore import QPointF, Qt

from napari_batchfx.viewer.plots.base import Plot
from napari_batchfx.viewer.plots.colours import ACCENT, SERIES

if TYPE_CHECKING:
    import napari

    from napari_batchfx.probe import SignatureResult

__all__ = ["AccuracyPlot", "ComponentPlot", "VariancePlot"]


class ComponentPlot(Plot):
    """How well each component alone tells two batches apart: a line a pair, dashed what slides alone reach."""

    def __init__(self, viewer: napari.Viewer) -> None:
        self.found: SignatureResult | None = None
        super().__init__(viewer, "Separation by each component", "", "AUROC", height=11)

    def show_result(self, found: SignatureResult | None) -> None:
        """Draw what carries a batch."""
        self.found = found
        self.redraw()

    def redraw(self) -> None:
        """Draw a line a pair."""
        self.box.clear()
        found = self.found
        if found is None or not found.explained_variance:
            return
        x = np.arange(1, len(found.explained_variance) + 1)
        many = len(found.auroc) > len(SERIES)
        for k, areas in enumerate(found.auroc.values()):
            colour = pg.mkColor(SERIES[k % len(SERIES)])
            colour.setAlpha(90 if many else 255)
            y = np.asarray(areas, dtype=float)
            line = pg.PlotDataItem(
                x,
                y,
                pen=pg.mkPen(colour, width=1.5),
                symbol="o",
                symbolSize=4,
                symbolBrush=colour,
                symbolPen=None,
            )
            self.box.addItem(line)
        level = np.asarray(found.auroc_level, dtype=float)
        if np.isfinite(level).any():
            dashed = pg.mkPen(self.text, width=1, style=Qt.PenStyle.DashLine)
            self.box.addItem(pg.PlotCurveItem(x, level, pen=dashed, connect="finite"))
        self.box.setRange(xRange=(0.5, len(x) + 0.5), yRange=(0.5, 1.0), padding=0.03)

    def tip_at(self, point: QPointF) -> str:
        """The component under the pointer."""
        return "" if self.found is None else _said(self.found, round(point.x()) - 1)


class VariancePlot(Plot):
    """The share of the variance of each component, under the same axis."""

    def __init__(self, viewer: napari.Viewer) -> None:
        self.found: SignatureResult | None = None
        super().__init__(viewer, "Explained variance", "principal component", "variance, %", height=7)

    def show_result(self, found: SignatureResult | None) -> None:
        """Draw a bar a component."""
        self.found = found
        self.redraw()

    def redraw(self) -> None:
        """Draw the bars."""
        self.box.clear()
        if self.found is None or not self.found.explained_variance:
            return
        share = 100 * np.asarray(self.found.explained_variance)
        x = np.arange(1, len(share) + 1)
        self.box.addItem(pg.BarGraphItem(x=x, height=share, width=0.7, brush=self.faint, pen=None))
        self.box.setRange(xRange=(0.5, len(x) + 0.5), yRange=(0, float(share.max())), padding=0.03)

    def tip_at(self, point: QPointF) -> str:
        """The component under the pointer."""
        return "" if self.found is None else _said(self.found, round(point.x()) - 1)


class AccuracyPlot(Plot):
    """Accuracy of the probe on the first so many components, with interval; dotted is guessing."""

    def __init__(self, viewer: napari.Viewer) -> None:
        self.found: SignatureResult | None = None
        super().__init__(
            viewer, "Accuracy on the first components", "first components", "accuracy", height=10
        )

    def show_result(self, found: SignatureResult | None) -> None:
        """Draw the accuracy over the number of components."""
        self.found = found
        self.redraw()

    def redraw(self) -> None:
        """Draw dots with intervals; the numbers stand at equal steps."""
        self.box.clear()
        if self.found is None or not self.found.first:
            return
        rows = self.found.first
        x = np.arange(len(rows), dtype=float)
        y, low, high = (np.array([row[key] for row in rows]) for key in ("balanced_accuracy", "low", "high"))
        dotted = pg.mkPen(self.text, width=1, style=Qt.PenStyle.DotLine)
        self.box.addItem(
            pg.PlotCurveItem(np.array([-0.5, len(x) - 0.5]), np.full(2, self.found.chance), pen=dotted),
            ignoreBounds=True,
        )
        bars = pg.ErrorBarItem(x=x, y=y, top=high - y, bottom=y - low, beam=0.2, pen=pg.mkPen(ACCENT))
        self.box.addItem(bars)
        self.box.addItem(
            pg.PlotDataItem(
                x,
                y,
                pen=pg.mkPen(ACCENT, width=1.5),
                symbol="o",
                symbolSize=6,
                symbolBrush=ACCENT,
                symbolPen=None,
            )
        )
        self.axes["bottom"].setTicks([[(float(i), f"{row['components']}") for i, row in enumerate(rows)]])
        self.box.setRange(
            xRange=(-0.5, len(x) - 0.5), yRange=(min(float(low.min()), self.found.chance), 1.0), padding=0.04
        )

    def tip_at(self, point: QPointF) -> str:
        """The number of components under the pointer."""
        rows: list[dict[str, Any]] = [] if self.found is None else self.found.first
        i = round(point.x())
        if not 0 <= i < len(rows):
            return ""
        row = rows[i]
        return (
            f"first {row['components']}, {100 * row['variance']:.0f} % of the variance: "
            f"{row['balanced_accuracy']:.3f} ({row['low']:.2f}-{row['high']:.2f})"
        )


def _said(found: SignatureResult, i: int) -> str:
    if not 0 <= i < len(found.explained_variance):
        return ""
    lines = [f"component {i + 1}: {100 * found.explained_variance[i]:.1f} % of the variance"]
    ranked = sorted(found.auroc.items(), key=lambda one: -(one[1][i] if np.isfinite(one[1][i]) else 0))
    lines += [f"{pair}: {areas[i]:.2f}" for pair, areas in ranked[:6]]
    if np.isfinite(found.auroc_level[i]):
        lines.append(f"slides alone reach {found.auroc_level[i]:.2f}")
    return "\n".join(lines)
