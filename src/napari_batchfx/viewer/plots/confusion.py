"""Which batch the tiles of each batch were taken for, drawn."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import pyqtgraph as pg
from qtpy.QtCore import QPointF
from qtpy.QtGui import QColor

from napari_batchfx.viewer.plots.base import Plot, elided
from napari_batchfx.viewer.plots.colours import ACCENT

if TYPE_CHECKING:
    import napari
    from numpy.typing import NDArray

    from napari_batchfx.probe import SiteProbeResult

__all__ = ["ConfusionPlot"]

_WITH_COUNTS, _WITH_SHARES = 4, 10


class ConfusionPlot(Plot):
    """A row a true batch, a column what it was taken for; the stronger the colour, the larger the share of the row."""

    def __init__(self, viewer: napari.Viewer) -> None:
        self.names: list[str] = []
        self.counts: NDArray[np.int64] = np.zeros((0, 0), dtype=np.int64)
        self._batch = ""
        super().__init__(viewer, "Confusion matrix", "taken for", "is", height=15)
        self.box.invertY(True)
        self.box.setDefaultPadding(0.0)

    def show_result(self, result: SiteProbeResult) -> None:
        """Draw the matrix of a probe."""
        self.names = [str(name) for name in result.batches]
        self.counts = np.asarray(result.confusion, dtype=np.int64)
        self._batch = result.batch
        self.setAccessibleDescription(
            ". ".join(self._said(i, j) for i in range(len(self.names)) for j in (i,))
        )
        self.set_titles("taken for", f"true {result.batch}")

    @property
    def shares(self) -> NDArray[np.float64]:
        """Share of each row (b, b)."""
        total = self.counts.sum(axis=1, keepdims=True)
        return np.divide(self.counts, total, out=np.zeros(self.counts.shape), where=total > 0)

    def redraw(self) -> None:
        """Draw cells, numbers and names."""
        self.box.clear()
        b = len(self.names)
        if not b:
            return
        shares = self.shares
        low, high = _rgb(self.ground), _rgb(QColor(ACCENT))
        colours = (low + (high - low) * np.clip(shares, 0, 1)[..., None] ** 0.8).astype(np.uint8)
        self.box.addItem(pg.ImageItem(colours, axisOrder="row-major", levels=(0, 255)))
        edge = pg.mkPen(self.faint, width=1)
        for k in range(b + 1):
            for x, y in (((0, b), (k, k)), ((k, k), (0, b))):
                self.box.addItem(
                    pg.PlotCurveItem(np.array(x, float), np.array(y, float), pen=edge), ignoreBounds=True
                )
        for i in range(b if b <= _WITH_SHARES else 0):
            for j in range(b):
                text = f"{100 * shares[i, j]:.0f}"
                if b <= _WITH_COUNTS:
                    text += f" %\n{self.counts[i, j]:,}"
                item = pg.TextItem(text, color=_ink(colours[i, j]), anchor=(0.5, 0.5))
                item.setFont(self.small_font())
                item.setPos(j + 0.5, i + 0.5)
                self.box.addItem(item, ignoreBounds=True)
        self.box.setRange(xRange=(0, b), yRange=(0, b), padding=0)
        self._name_axes()

    def resizeEvent(self, ev: Any) -> None:
        """Names are as long as their cell."""
        super().resizeEvent(ev)
        if hasattr(self, "axes"):
            self._name_axes()

    def tip_at(self, point: QPointF) -> str:
        """The cell under the pointer."""
        j, i = int(np.floor(point.x())), int(np.floor(point.y()))
        b = len(self.names)
        return self._said(i, j) if 0 <= i < b and 0 <= j < b else ""

    def _said(self, i: int, j: int) -> str:
        n, total = self.counts[i, j], self.counts[i].sum()
        what = "recognised" if i == j else f"taken for {self.names[j]}"
        return f"{self.names[i]}: {n:,} of {total:,} tiles {what} ({100 * self.shares[i, j]:.1f} %)"

    def _name_axes(self) -> None:
        b = len(self.names)
        if not b:
            return
        left = min(96, max(40, self.width() // 4))
        cell = max(12, (self.width() - left - 40) // b)
        step = 1 if b <= 12 else -(-b // 12)
        shown = range(0, b, step)
        self.axes["left"].setTicks([[(i + 0.5, elided(self, self.names[i], left)) for i in shown]])
        self.axes["bottom"].setTicks(
            [[(i + 0.5, elided(self, self.names[i], step * cell - 4)) for i in shown]]
        )


def _rgb(colour: QColor) -> NDArray[np.float64]:
    return np.array([colour.red(), colour.green(), colour.blue()], dtype=float)


def _ink(ground: NDArray[np.uint8]) -> str:
    """Black or white, whichever is read on a colour."""
    return "#000000" if ground @ np.array([0.299, 0.587, 0.114]) > 130 else "#ffffff"
