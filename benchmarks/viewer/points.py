"""How quickly the scatter of the probe dock pans, beside pyqtgraph's own item, in one window.

tools/with-display.sh .venv/bin/python benchmarks/viewer/points.py [--points 100000] [--rounds 3]
"""

from __future__ import annotations

import argparse
import time

import napari
import numpy as np
import pyqtgraph as pg
from qtpy.QtWidgets import QApplication

from napari_batchfx.viewer.plots.colours import SERIES
from napari_batchfx.viewer.plots.points import PointPlot


def frames(widget, box, n):
    """Milliseconds of each of ``n`` frames of a pan."""
    taken = []
    for i in range(n):
        start = time.perf_counter()
        box.translateBy(x=0.01 if i % 2 else -0.01, y=0.01)
        widget.viewport().repaint()
        taken.append(1000 * (time.perf_counter() - start))
    low, median, high = np.percentile(taken, [5, 50, 95])
    return f"{median:.0f} ({low:.0f}-{high:.0f})"


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--points", type=int, default=100_000)
    parser.add_argument("--rounds", type=int, default=3)
    asked = parser.parse_args()
    viewer = napari.Viewer(show=False)
    rng = np.random.default_rng(0)
    code = rng.integers(0, 4, asked.points)
    xy = (rng.normal(size=(asked.points, 2)) + 3 * np.c_[code % 2, code // 2]).astype(np.float32)
    ours = PointPlot(viewer)
    theirs = pg.PlotWidget()
    for widget in (ours, theirs):
        widget.resize(360, 320)
        widget.show()
    ours.show_points(xy)
    ours.colour(code, list(SERIES))
    brushes = [pg.mkBrush(colour) for colour in SERIES]
    theirs.addItem(
        pg.ScatterPlotItem(x=xy[:, 0], y=xy[:, 1], size=3, pen=None, brush=[brushes[c] for c in code])
    )
    QApplication.processEvents()
    lit = np.arange(asked.points) < asked.points // 20
    frames(ours, ours.box, 5)
    frames(theirs, theirs.getViewBox(), 3)
    for _ in range(asked.rounds):
        plain = frames(ours, ours.box, 40)
        other = frames(theirs, theirs.getViewBox(), 15)
        ours.select(lit)
        faded = frames(ours, ours.box, 40)
        ours.select(~lit & lit)
        print(f"ms a frame: ours {plain}, with lit points {faded}; ScatterPlotItem {other}", flush=True)
    start = time.perf_counter()
    n = ours.inside(np.array([[0, 0], [1, 0], [1, 2.0], [0, 2]])).sum()
    print(f"lasso: {1000 * (time.perf_counter() - start):.0f} ms, {n:,} points")
    viewer.close()


if __name__ == "__main__":
    main()
