"""How soon tiles are seen in live mode, how soon a view that was left is let go, and what the window feels of it.

    tools/with-display.sh python benchmarks/encoders/live_latency.py [--encoder NAME] [--rounds 20] [--seconds 15]

Writes a JPEG pyramid into a temporary folder and opens it in a real window with live mode on. Each round moves the camera in a
few steps, 33 ms apart, as a hand does, and counts from the last one:

- new: the view has no tile in the store; until values of it are painted
- stored: the view's tiles are in the store but not on the picture; the same
- known: they are on the picture already; until the canvas is drawn
- cancel: the camera leaves, for glass, while a large view is computed; the last batch that is begun, the last tile that is read
- all over: a whole slide comes into view; until each of 4 x 4 parts of it has a value

*Painted* is when the event loop has finished the drawing that shows the values. Then the heartbeat of the event loop (see
``benchmarks/slides/panning.py``), with and without encoding side by side: at rest, and while the camera moves. Drawing is done by
the graphics driver of the machine: under Xvfb that is the processor, which encodes, too.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import sys
import tempfile
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
from slides.panning import Path2D, pan, report, texture

STEP_S = 0.033
VIEW_UM = 600.0
GLASS_UM = 700.0


def slide_of(size: int, folder: Path, name: str, mpp: float = 0.25) -> Path:
    """A square slide of texture with a margin of glass at its right."""
    from napari_batchfx.slides import write_pyramid

    tile = 256
    across = -(-size // tile)
    glass = round(GLASS_UM / mpp / tile)

    def tiles() -> Any:
        white = np.full((tile, tile, 3), 244, np.uint8)
        for index, piece in enumerate(texture(size, tile)):
            yield white if index % across >= across - glass else piece

    path = folder / name
    write_pyramid(path, tiles(), mpp, shape=(size, size), tile=tile)
    return path


class Bench:
    """A window with slides in it and live mode, and what a person does there."""

    def __init__(self, encoder: str) -> None:
        import napari

        from napari_batchfx.viewer.workbench import Workbench

        self.viewer = napari.Viewer()
        self.viewer.window.resize(1300, 850)
        docks = Workbench(self.viewer)
        self.viewer.window.add_dock_widget(docks, name="Batchfx workbench", area="right")
        self.slides_dock, self.dock = docks.docks["slides"], docks.docks["encode"]
        self.session, self.encoding = self.slides_dock.session, self.dock.encoding
        self.session.study.settings.encode.encoder = encoder
        self.begun: list[float] = []  # when a batch went into the model
        self.read: list[float] = []  # when a tile was read for it
        self.painted: list[float] = []
        canvas = self.viewer.window._qt_viewer.canvas
        canvas.events.draw.connect(self._drawn, position="last")

    def _drawn(self, _event: object = None) -> None:
        from qtpy.QtCore import QTimer

        shown = [
            (layer, np.isfinite(layer.data))
            for layer in (self.layer(e) for e in self.entries())
            if layer is not None
        ]
        # the drawing itself is done, and on the screen, when the event loop comes round again
        QTimer.singleShot(0, lambda: self.painted.append((time.perf_counter(), shown)))

    def entries(self) -> list[Any]:
        return self.session.study.slides

    def layer(self, entry: Any) -> Any:
        return self.session.layer(entry, "encoded")

    def spin(self, until: Callable[[], object], seconds: float = 30.0) -> bool:
        """Run the event loop until something holds."""
        from qtpy.QtCore import QEventLoop, QTimer

        loop, end = QEventLoop(), time.perf_counter() + seconds
        timer = QTimer()
        timer.setInterval(2)
        timer.timeout.connect(lambda: loop.quit() if until() or time.perf_counter() > end else None)
        timer.start()
        loop.exec()
        timer.stop()
        return bool(until())

    def pause(self, seconds: float) -> None:
        end = time.perf_counter() + seconds
        self.spin(lambda: time.perf_counter() > end)

    def idle(self) -> bool:
        return not self.encoding.job.is_running and not self.encoding.motion.is_moving

    def watch(self) -> None:
        """Note when batches are begun and tiles read."""
        from napari_batchfx.encoders.lanes import Lanes

        work = Lanes._work

        def noted(lanes: Any, *args: Any) -> Any:
            self.begun.append(time.perf_counter())
            return work(lanes, *args)

        Lanes._work = noted  # type: ignore[method-assign]
        for entry in self.entries():
            slide = self.session.study.open_slide(entry)
            for name in ("read", "read_once"):
                setattr(slide, name, self._noting(getattr(slide, name)))

    def _noting(self, method: Any) -> Any:
        def noted(*args: Any, **options: Any) -> Any:
            if threading.current_thread().name.startswith("batchfx-tiles"):
                self.read.append(time.perf_counter())
            return method(*args, **options)

        return noted

    def go(self, middle: tuple[float, float], side_um: float, steps: int = 6) -> float:
        """Move the camera there as a hand does; when the last step was made."""
        from napari_batchfx.viewer import seam

        camera = seam.camera(self.viewer)
        start = np.array(camera.center[-2:])
        height, width = self.viewer.canvas.size
        zoom = min(height, width) / side_um
        for step in range(1, steps + 1):
            if step > 1:
                self.pause(STEP_S)
            camera.zoom = zoom
            camera.center = tuple(start + (np.array(middle) - start) * step / steps)
        return time.perf_counter()

    def seen_cells(self, entry: Any) -> np.ndarray:
        from napari_batchfx.study.overview import tissue_cells

        look = next(look for look in self.encoding._looks() if look.entry is entry)
        study = self.session.study
        return tissue_cells(study.grid(entry), look.box_um, study.settings.encode.min_tissue)

    def until_painted(self, entry: Any, began: float, enough: Callable[[np.ndarray], bool]) -> float:
        """Milliseconds from ``began`` until a drawing whose values satisfy ``enough``."""
        self.painted = [item for item in self.painted if item[0] >= began]
        found: list[float] = []

        def there() -> bool:
            for when, shown in self.painted:
                layer = self.layer(entry)
                if any(one is layer and enough(values) for one, values in shown):
                    found.append((when - began) * 1000)
                    return True
            self.painted.clear()
            return False

        return found[0] if self.spin(there) else float("nan")


def said(title: str, values: list[float]) -> dict[str, float]:
    """Print a distribution and give it."""
    values = sorted(values)
    numbers = {
        "n": len(values),
        "p50": statistics.median(values),
        "p90": values[min(len(values) - 1, int(0.9 * len(values)))],
        "max": values[-1],
    }
    print(
        f"{title:<46} n {numbers['n']:>3}   p50 {numbers['p50']:7.1f} ms   p90 {numbers['p90']:7.1f} ms   "
        f"max {numbers['max']:7.1f} ms",
        flush=True,
    )
    return numbers


def latencies(bench: Bench, rounds: int) -> dict[str, Any]:
    """New, stored and known views, cancelling, and a whole slide."""
    (entry,) = bench.entries()
    extent = bench.session.study.open_slide(entry).extent_um
    rng = np.random.default_rng(1)
    side = VIEW_UM
    spots = [
        (side * (0.6 + row), side * (0.6 + col))
        for row in range(int(extent[0] / side) - 1)
        for col in range(int((extent[1] - GLASS_UM) / side) - 1)
    ]
    spots = [spots[i] for i in rng.permutation(len(spots))[:rounds]]
    new, stored, known, begun, read = [], [], [], [], []

    def any_of(cells: np.ndarray) -> Callable[[np.ndarray], bool]:
        return lambda values: bool(values[cells[:, 0], cells[:, 1]].any())

    def all_of(cells: np.ndarray) -> Callable[[np.ndarray], bool]:
        return lambda values: bool(values[cells[:, 0], cells[:, 1]].all())

    for spot in spots:
        at = bench.go(spot, 0.8 * side)
        cells = bench.seen_cells(entry)
        here = cells[~np.isfinite(bench.layer(entry).data[cells[:, 0], cells[:, 1]])]
        if len(here):
            new.append(bench.until_painted(entry, at, any_of(here)))
        bench.spin(bench.idle)
    for spot in spots:
        at = bench.go(spot, 0.8 * side)
        known.append(bench.until_painted(entry, at, all_of(bench.seen_cells(entry))))
        bench.pause(0.15)
    for spot in spots:
        bench.encoding.painter.overview.forget(entry.fingerprint)
        bench.layer(entry).data[...] = np.nan
        bench.pause(0.2)
        at = bench.go(spot, 0.8 * side, steps=1)
        stored.append(bench.until_painted(entry, at, all_of(bench.seen_cells(entry))))
        bench.spin(bench.idle)
    results = {
        "new": said("new: last movement to first values painted", new),
        "stored": said("stored, not on the picture: to all painted", stored),
        "known": said("known: to drawn", known),
    }
    glass = (extent[0] / 2, extent[1] - GLASS_UM / 2)
    for _ in range(rounds):
        bench.session.study.store().clear()
        bench.encoding.painter.forget()
        bench.go((extent[0] / 2, extent[1] / 2), 0.5 * extent[0])
        before = len(bench.begun)
        bench.spin(lambda n=before: len(bench.begun) > n + 4)
        at = bench.go(glass, 0.3 * GLASS_UM, steps=1)
        bench.pause(0.6)
        assert bench.begun, "nothing was encoded"
        begun.append(max(0.0, (bench.begun[-1] - at) * 1000))
        read.append(max(0.0, (bench.read[-1] - at) * 1000))
    results["cancel_batch"] = said("cancel: camera to last batch begun", begun)
    results["cancel_read"] = said("cancel: camera to last tile read", read)
    sectors = []
    for _ in range(3):
        bench.session.study.store().clear()
        bench.encoding.painter.forget()
        at = bench.go((extent[0] / 2, extent[1] / 2), 1.05 * extent[0])
        cells = bench.seen_cells(entry)
        part = (cells * 4 // (cells.max(axis=0) + 1)) @ [4, 1]

        def all_over(values: np.ndarray, cells: Any = cells, part: Any = part) -> bool:
            has = values[cells[:, 0], cells[:, 1]]
            return len(np.unique(part[has])) == len(np.unique(part))

        sectors.append(bench.until_painted(entry, at, all_over))
        if len(sectors) < 3:
            bench.go(glass, 0.3 * GLASS_UM, steps=1)
            bench.pause(0.5)
    print(
        f"    the whole slide has {len(cells)} tiles; the pace is {bench.encoding._pace.rate or 0:.0f} tiles/s"
    )
    results["all_over"] = said("all over: to a value in each of 16 parts", sectors)
    return results


def heartbeats(bench: Bench, seconds: float) -> None:
    """The event loop with and without encoding, one after the other, twice."""
    (entry,) = bench.entries()
    slide = bench.session.study.open_slide(entry)
    extent = slide.extent_um
    for turn in (1, 2):
        bench.dock.live.setChecked(False)
        bench.session.study.store().clear()
        bench.encoding.painter.forget()
        bench.go((extent[0] / 2, extent[1] / 2), 0.8 * extent[0])
        bench.pause(0.5)
        report(f"{turn}: at rest, nothing encoded", pan(bench.viewer, None, seconds))
        bench.dock.live.setChecked(True)
        bench.pause(0.3)
        before = len(bench.begun)
        report(f"{turn}: at rest, encoding live", pan(bench.viewer, None, seconds))
        print(f"    batches meanwhile: {len(bench.begun) - before}; goes on: {bench.encoding.job.is_running}")
        bench.dock.live.setChecked(False)
        route = Path2D(extent, slide.mpp[0])
        report(f"{turn}: panning, nothing encoded", pan(bench.viewer, route, seconds))
        bench.dock.live.setChecked(True)
        before = len(bench.begun)
        report(f"{turn}: panning, live", pan(bench.viewer, route, seconds))
        print(f"    batches meanwhile: {len(bench.begun) - before}")


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--encoder", default="batchfx-mini")
    parser.add_argument("--rounds", type=int, default=20)
    parser.add_argument("--size", type=int, default=20_000, help="edge of the slide in pixels of 0.25 µm")
    parser.add_argument("--seconds", type=float, default=15.0, help="length of each heartbeat round; 0: none")
    parser.add_argument("--json", type=Path, help="write the latencies there, too")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        path = slide_of(options.size, Path(folder), "wide.tif")
        bench = Bench(options.encoder)
        bench.slides_dock.add_paths([path])
        bench.pause(1.0)
        (entry,) = bench.entries()
        bench.watch()
        bench.session.study.grid(entry).tissue  # noqa: B018 - found once, before anything is timed
        bench.dock.live.setChecked(True)
        bench.go((600, 600), 300.0)
        bench.spin(lambda: bench.layer(entry) is not None and bench.idle(), 120)
        encoder = bench.session.study.encoder()
        print(
            f"{encoder.name} on {encoder.device}, {os.cpu_count()} processors, load {os.getloadavg()[0]:.1f}; "
            f"slide {options.size} px, canvas {bench.viewer.canvas.size}"
        )
        results = latencies(bench, options.rounds) if options.rounds else {}
        if options.seconds:
            heartbeats(bench, options.seconds)
        if options.json:
            options.json.write_text(json.dumps(results, indent=1))
        bench.session.close()
        bench.viewer.close()


if __name__ == "__main__":
    main()
