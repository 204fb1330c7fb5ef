"""How soon the canvas follows the strength slider of the Stain dock, in a real window.

    tools/with-display.sh python benchmarks/stain/slider.py [--width 3840 --height 2160]

From ``setValue`` until the canvas has been drawn anew. The same for the way that was given up: the preview computed anew for
every value (what it takes, without the drawing). Bar: 100 ms. Without a graphics card the drawing itself grows with the canvas.
"""

from __future__ import annotations

import argparse
import os
import statistics
import tempfile
import time
from pathlib import Path

import napari
import numpy as np
from preview import slide_at
from qtpy.QtWidgets import QApplication

from napari_batchfx.viewer import seam
from napari_batchfx.viewer.docks.stain import StainDock
from napari_batchfx.viewer.session import session_for


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--width", type=int, default=1500)
    parser.add_argument("--height", type=int, default=1000)
    parser.add_argument("--steps", type=int, default=30)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        viewer = napari.Viewer(show=True)
        viewer.window.resize(options.width, options.height)
        session = session_for(viewer)
        entry = session.add_slide(slide_at(Path(folder)))
        dock = StainDock(viewer)
        viewer.window.add_dock_widget(dock, name="Stain", area="right")
        dock.start()
        until(lambda: not dock.job.is_running)
        canvas = seam.canvas_widget(viewer)
        # one pixel of the slide a pixel of the canvas
        seam.fit_to(viewer, (0, 0, canvas.height() * 0.25, canvas.width() * 0.25), margin=1.0)
        settle(1.0)
        drawn = [0.0]
        vispy = seam._vispy_canvas(viewer)
        vispy.events.draw.connect(lambda _event: drawn.__setitem__(0, time.perf_counter()), position="last")
        took, cpu, own = [], [], []
        for k in range(options.steps):
            value = 3 + (k * 37) % 94
            settle(0.05)
            start, before, drawn[0] = time.perf_counter(), time.process_time(), 0.0
            dock.strength.setValue(value)
            own.append(1000 * (time.process_time() - before))
            until(lambda: drawn[0] > 0)
            took.append(1000 * (drawn[0] - start))
            cpu.append(1000 * (time.process_time() - before))
        layer = session.layer(entry, "preview")
        corners = layer.corner_pixels
        view = tuple(slice(*corners[:, d]) for d in (0, 1))
        data = layer.data[layer.data_level] if layer.multiscale else layer.data
        anew = []
        for _ in range(7):
            before = time.process_time()
            np.asarray(data[view])
            anew.append(1000 * (time.process_time() - before))
        print(f"canvas {canvas.width()} x {canvas.height()} px")
        print(f"slider to drawn: {text(took)}, processor {text(cpu)}")
        print(f"of that before the drawing begins: processor {text(own)}")
        print(f"computing the view anew instead: processor {text(anew)}")
        print(f"load {os.getloadavg()[0]:.1f} on {os.cpu_count()} cores")
        viewer.close()


def text(values: list[float]) -> str:
    return f"{statistics.median(values):.0f} ms ({min(values):.0f}-{max(values):.0f})"


def settle(seconds: float) -> None:
    end = time.perf_counter() + seconds
    while time.perf_counter() < end:
        QApplication.processEvents()
        time.sleep(0.002)


def until(condition: object, seconds: float = 300) -> None:
    end = time.perf_counter() + seconds
    while not condition():
        QApplication.processEvents()
        if time.perf_counter() > end:
            raise SystemExit("it takes too long")


if __name__ == "__main__":
    main()
