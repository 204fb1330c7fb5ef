"""How long the window's event loop is held up while a slide is panned and its tiles are encoded.

    tools/with-display.sh python benchmarks/slides/panning.py [--size 20000] [--seconds 30] [--slicing async]

Writes a JPEG pyramid into a temporary folder, opens it in a real window and moves the camera every 33 ms along a path with
zooms in and out. A heartbeat in the event loop is due every 10 ms; how late it comes is the time that the window could not
answer. A second thread looks at what the GUI thread does while a beat is overdue. Three rounds: the view at rest, panning
alone, panning while the whole slide is encoded. Prints the median, the 99th percentile and the longest delay, and what held
up the worst ones. Drawing is done by the graphics driver of the machine: under Xvfb that is the processor.
"""

from __future__ import annotations

import argparse
import math
import os
import statistics
import sys
import tempfile
import threading
import time
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from types import FrameType
from typing import Any

import numpy as np

BEAT_MS, MOVE_MS = 10, 33
LATE_MS = 50.0

# What is looked for in the GUI thread's stack, innermost frame first.
PARTS = (
    ("garbage collection", ("gc.collect",)),
    ("reading pixels", ("napari_batchfx/slides/",)),
    ("loading a view (dask)", ("/dask/",)),
    ("napari slicing", ("napari/layers/_scalar_field", "napari/layers/base", "_layer_slicer")),
    ("sending pixels to the card", ("gloo/texture", "glir.py")),
    ("drawing", ("vispy/", "OpenGL/", "napari/_vispy")),
    ("progress bar", ("napari/utils/progress", "qt_progress", "tqdm")),
    ("our overlays", ("napari_batchfx/viewer",)),
    ("napari's widgets", ("napari/_qt",)),
)


@dataclass
class Late:
    """One beat that came late, and what the GUI thread was seen doing meanwhile."""

    delay_ms: float
    at_s: float
    seen: list[tuple[str, str]] = field(default_factory=list)


class Watch:
    """Heartbeat in the event loop, and a thread that looks on."""

    def __init__(self) -> None:
        from qtpy.QtCore import Qt, QTimer

        self.delays: list[float] = []
        self.late: list[Late] = []
        self._due = self._start = time.perf_counter()
        self._seen: list[tuple[float, tuple[str, str]]] = []
        self._stop = threading.Event()
        self._gui = threading.get_ident()
        self._timer = QTimer()
        self._timer.setTimerType(Qt.TimerType.PreciseTimer)
        self._timer.setInterval(BEAT_MS)
        self._timer.timeout.connect(self._beat)
        self._thread = threading.Thread(target=self._look, daemon=True)

    def __enter__(self) -> Watch:
        self._start = time.perf_counter()
        self._due = self._start + BEAT_MS / 1000
        self._timer.start()
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._timer.stop()
        self._thread.join()

    def _beat(self) -> None:
        now = time.perf_counter()
        delay = max(0.0, (now - self._due) * 1000)
        self.delays.append(delay)
        if delay > LATE_MS:
            seen = [what for when, what in self._seen if when >= self._due - BEAT_MS / 1000]
            self.late.append(Late(delay, now - self._start, seen))
        self._seen.clear()
        self._due = now + BEAT_MS / 1000

    def _look(self) -> None:
        while not self._stop.wait(0.004):
            if time.perf_counter() > self._due + 0.015:
                frame = sys._current_frames().get(self._gui)
                if frame is not None:
                    self._seen.append((time.perf_counter(), part_of(frame)))


def part_of(frame: FrameType | None) -> tuple[str, str]:
    """Which part of the program a stack is in, and its innermost Python line."""
    innermost = ""
    names = []
    while frame is not None:
        code = frame.f_code
        name = f"{code.co_filename}:{code.co_name}"
        names.append(name)
        innermost = (
            innermost or f"{'/'.join(code.co_filename.split('/')[-2:])}:{frame.f_lineno} {code.co_name}"
        )
        frame = frame.f_back
    for part, marks in PARTS:
        if any(mark in name for name in names for mark in marks):
            return part, innermost
    return "event loop", innermost


def texture(size: int, tile: int) -> Any:
    """Stream tiles of smooth pink and purple noise, which JPEG codes at about the size of tissue."""
    rng = np.random.default_rng(0)
    ready = []
    for _ in range(40):
        coarse = rng.normal(0, 30, (tile // 8, tile // 8, 1)).repeat(8, 0).repeat(8, 1)
        ready.append(
            np.clip(coarse + np.array([200, 140, 190]) + rng.normal(0, 6, (tile, tile, 1)), 0, 255).astype(
                np.uint8
            )
        )
    for _ in range((-(-size // tile)) ** 2):
        yield ready[rng.integers(len(ready))]


class Loads:
    """How long the GUI thread waits for pixels of a view: every computation of a dask array in it."""

    def __init__(self) -> None:
        import dask.base

        self.milliseconds: list[float] = []
        self._gui = threading.get_ident()
        self._compute = dask.base.compute
        dask.base.compute = self._timed

    def _timed(self, *args: Any, **options: Any) -> Any:
        if threading.get_ident() != self._gui:
            return self._compute(*args, **options)
        start = time.perf_counter()
        try:
            return self._compute(*args, **options)
        finally:
            self.milliseconds.append((time.perf_counter() - start) * 1000)

    def report(self) -> None:
        """Print what there was since the last time."""
        times, self.milliseconds = sorted(self.milliseconds), []
        if times:
            print(
                f"    loads in the GUI thread: {len(times)}, median {statistics.median(times):.0f} ms, "
                f"longest {times[-1]:.0f} ms, over {LATE_MS:.0f} ms: {sum(t > LATE_MS for t in times)}"
            )


class Path2D:
    """Where the camera is at a time: a wide curve over the slide, zooming between one and a sixteenth pixel a pixel."""

    def __init__(self, extent_um: tuple[float, float], mpp: float) -> None:
        self._extent, self._mpp = extent_um, mpp

    def at(self, seconds: float) -> tuple[tuple[float, float], float]:
        height, width = self._extent
        y = height * (0.5 + 0.35 * math.sin(seconds * 0.11))
        x = width * (0.5 + 0.35 * math.sin(seconds * 0.17 + 1))
        zoom = 2.0 ** (-2 + 2 * math.sin(seconds * 0.5)) / self._mpp
        return (y, x), zoom


def pan(viewer: Any, path: Path2D | None, seconds: float) -> Watch:
    """Run the event loop for a time, moving the camera along a path; what the heartbeat saw."""
    from qtpy.QtCore import QEventLoop, QTimer

    from napari_batchfx.viewer import seam

    loop, started = QEventLoop(), time.perf_counter()
    camera = seam.camera(viewer)

    def move() -> None:
        assert path is not None
        camera.center, camera.zoom = path.at(time.perf_counter() - started)

    mover = QTimer()
    mover.setInterval(MOVE_MS)
    if path is not None:
        mover.timeout.connect(move)
        mover.start()
    QTimer.singleShot(round(seconds * 1000), loop.quit)
    with Watch() as watch:
        loop.exec()
    mover.stop()
    return watch


def report(title: str, watch: Watch) -> None:
    """Print one round."""
    delays = sorted(watch.delays)
    p99 = delays[min(len(delays) - 1, math.ceil(0.99 * len(delays)) - 1)]
    print(
        f"{title:<38} beats {len(delays):>5}   p50 {statistics.median(delays):6.1f} ms   p99 {p99:6.1f} ms   "
        f"max {delays[-1]:6.1f} ms   over {LATE_MS:.0f} ms: {len(watch.late)}",
        flush=True,
    )
    shares: Counter[str] = Counter()
    for late in watch.late:
        for part, _ in late.seen:
            shares[part] += 1
    total = sum(shares.values())
    if total:
        print(
            "    seen in late beats: "
            + ", ".join(f"{part} {100 * n / total:.0f} %" for part, n in shares.most_common())
        )
    for late in sorted(watch.late, key=lambda late: -late.delay_ms)[:4]:
        parts = Counter(late.seen).most_common(3)
        lines = "; ".join(f"{part} [{line}] x{n}" for (part, line), n in parts) or "not seen (no Python ran)"
        print(f"    {late.delay_ms:6.1f} ms at {late.at_s:5.1f} s: {lines}")


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--size", type=int, default=20_000, help="edge of the slide in pixels")
    parser.add_argument("--seconds", type=float, default=30.0, help="length of each round")
    parser.add_argument(
        "--slicing", choices=("sync", "async"), help="napari's way to load views (default: as set)"
    )
    parser.add_argument("--chunk", type=int, help="edge of the pieces that a view is loaded in, in pixels")
    parser.add_argument("--ahead", action="store_true", help="read around the view in a thread")
    parser.add_argument("--encoder", default="colour-statistics")
    parser.add_argument("--slide", type=Path, help="a slide of your own instead")
    options = parser.parse_args()

    import napari
    from napari.settings import get_settings

    from napari_batchfx.slides import write_pyramid
    from napari_batchfx.viewer import seam
    from napari_batchfx.viewer.workbench import Workbench

    if options.chunk:
        from napari_batchfx.slides import _pyramid

        _pyramid.CHUNK = options.chunk
    if options.slicing:
        get_settings().experimental.async_ = options.slicing == "async"
    with tempfile.TemporaryDirectory() as folder:
        path = options.slide or Path(folder) / "wide.tif"
        if options.slide is None:
            shape = (options.size, options.size)
            write_pyramid(path, texture(options.size, 256), 0.25, shape=shape, tile=256)
        viewer = napari.Viewer()
        viewer.window.resize(1300, 850)
        bench = Workbench(viewer)
        viewer.window.add_dock_widget(bench, name="Batchfx workbench", area="right")
        session = bench.docks["slides"].session
        print(f"napari {napari.__version__}, {os.cpu_count()} processors, load {os.getloadavg()[0]:.1f}")
        # What drawing alone costs on this machine: one small image that is never loaded anew.
        bare = viewer.add_image(np.full((64, 64, 3), 200, np.uint8), rgb=True, scale=(78.0, 78.0))
        pan(viewer, None, 2.0)  # the window appears
        report(
            "panning over one flat picture", pan(viewer, Path2D((5000.0, 5000.0), 0.25), options.seconds / 2)
        )
        viewer.layers.remove(bare)
        if options.ahead:
            from napari_batchfx.viewer.ahead import ReadAhead

            ReadAhead(session)
        bench.docks["slides"].add_paths([path])
        (entry,) = session.study.slides
        slide = session.study.open_slide(entry)
        assert slide.mpp is not None
        route = Path2D(slide.extent_um, slide.mpp[0])
        session.study.settings.encode.encoder = options.encoder
        encoding = bench.docks["encode"].encoding
        seam.fit_to(viewer, session.box_um(entry))
        pan(viewer, None, 2.0)
        loads = Loads()
        slicing = "async" if get_settings().experimental.async_ else "sync"
        print(
            f"{path.name}: {slide.shape[1]} x {slide.shape[0]} px, napari {napari.__version__}, slicing {slicing}"
        )
        report("at rest", pan(viewer, None, options.seconds / 4))
        report("panning", pan(viewer, route, options.seconds))
        loads.report()
        encoding.encode_slides([entry])
        pan(viewer, None, 3.0)  # the encoder is loaded and the tissue found
        loads.milliseconds.clear()
        report("panning while encoding", pan(viewer, route, options.seconds))
        loads.report()
        layer = session.layer(entry, "encoded")
        done = 0 if layer is None else int(np.isfinite(layer.data).sum())
        print(f"tiles encoded meanwhile: {done}; still encoding at the end: {encoding.job.is_running}")
        session.close()
        viewer.close()


if __name__ == "__main__":
    main()
