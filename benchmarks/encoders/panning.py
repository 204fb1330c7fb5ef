"""A long session in live mode: does the memory stay flat, and is any thread left at the end?

    tools/with-display.sh python benchmarks/encoders/panning.py [--minutes 10] [--encoder NAME] [--slides 2] [--no-live]

Opens slides in a real window, side by side, switches live mode on and moves the camera as a person does: pans and zooms for a
while, rests for a while. Every ten seconds the resident memory is written down; the first part of the session, in which the cache
of decoded tiles fills and the encoder's buffers grow, is the warm-up. At the end the window is closed, and what threads are left
that were not there before is printed. Also the heartbeat of the event loop over the whole session, and how many tiles were
computed and how many of them more than once (none, or the run fails).
"""

from __future__ import annotations

import argparse
import ctypes
import gc
import math
import os
import sys
import tempfile
import threading
import time
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import psutil

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
from encoders.live_latency import Bench, slide_of
from slides.panning import Watch, report

EVERY_S = 10.0
WARM_UP = 0.25
MOVE_S, REST_S = 4.0, 2.5


class Hand:
    """Where the camera is: pans and zooms along a curve for some seconds, then rests."""

    def __init__(self, extent_um: tuple[float, float]) -> None:
        self._extent = extent_um

    def at(self, seconds: float) -> tuple[tuple[float, float], float]:
        turn, within = divmod(seconds, MOVE_S + REST_S)
        moved = turn * MOVE_S + min(within, MOVE_S)  # seconds of movement so far
        height, width = self._extent
        y = height * (0.5 + 0.38 * math.sin(moved * 0.21))
        x = width * (0.5 + 0.38 * math.sin(moved * 0.33 + 1))
        return (y, x), 2.0 ** (-0.6 + 1.6 * math.sin(moved * 0.9))


def own_and_mapped() -> str:
    """Of the resident memory: what the process made, and pages of files, which the system takes back when it needs them."""
    try:
        lines = Path("/proc/self/status").read_text().splitlines()
    except OSError:
        return "parts not known here"
    kb = {
        line.split(":")[0]: int(line.split()[1]) for line in lines if line.startswith(("RssAnon", "RssFile"))
    }
    return f"own {kb['RssAnon'] / 1e3:.0f}, files {kb['RssFile'] / 1e3:.0f}"


class MallInfo(ctypes.Structure):
    """glibc's `struct mallinfo2`: bytes of all arenas together."""

    _fields_ = [
        (name, ctypes.c_size_t)
        for name in [
            "arena",
            "ordblks",
            "smblks",
            "hblks",
            "hblkhd",
            "usmblks",
            "fsmblks",
            "uordblks",
            "fordblks",
            "keepcost",
        ]
    ]


def allocated() -> str:
    """Where memory that the process made is: Python's blocks, what malloc has given out, and what it holds that is free."""
    text = f"{sys.getallocatedblocks() / 1e3:.0f} k Python blocks"
    try:
        ask = ctypes.CDLL(None).mallinfo2
    except (OSError, AttributeError):
        return text
    ask.restype = MallInfo
    info = ask()
    return (
        f"{text}, malloc: given out {info.uordblks / 1e6:.0f}, mapped {info.hblkhd / 1e6:.0f}, "
        f"held free {info.fordblks / 1e6:.0f}"
    )


def count_stores(bench: Bench) -> Counter[tuple[str, int, int]]:
    """How often every cell is computed from now on."""
    from napari_batchfx.study.slide_work import SlideWork

    seen: Counter[tuple[str, int, int]] = Counter()
    keep = SlideWork.keep

    def noted(work: Any, batch: Any) -> Any:
        seen.update((work.entry.fingerprint, int(row), int(col)) for row, col in batch.cells)
        return keep(work, batch)

    SlideWork.keep = noted  # type: ignore[method-assign]
    return seen


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--minutes", type=float, default=10.0)
    parser.add_argument("--encoder", default="batchfx-mini")
    parser.add_argument("--slides", type=int, default=2)
    parser.add_argument("--size", type=int, default=20_000, help="edge of the slides in pixels of 0.25 µm")
    parser.add_argument(
        "--no-live", action="store_true", help="the same movements without live mode, to compare"
    )
    options = parser.parse_args()

    from qtpy.QtCore import QEventLoop, QTimer

    from napari_batchfx.slides.cache import tile_cache
    from napari_batchfx.viewer import seam

    process = psutil.Process()
    threads_before = {thread.ident for thread in threading.enumerate()}
    native_before = process.num_threads()
    with tempfile.TemporaryDirectory() as folder:
        paths = [slide_of(options.size, Path(folder), f"s{i}.tif") for i in range(options.slides)]
        bench = Bench(options.encoder)
        bench.slides_dock.add_paths(paths)
        if options.slides > 1:
            bench.slides_dock.compare.choose("grid")
        bench.pause(1.0)
        for entry in bench.entries():
            bench.session.study.grid(entry).tissue  # noqa: B018 - found before the session begins
        encoder = bench.session.study.encoder()
        print(
            f"{encoder.name}, {options.slides} slides of {options.size} px, {os.cpu_count()} processors, "
            f"load {os.getloadavg()[0]:.1f}"
        )
        seen = count_stores(bench)
        bench.dock.live.setChecked(not options.no_live)
        hand = Hand(bench.session.study.open_slide(bench.entries()[0]).extent_um)
        camera = seam.camera(bench.viewer)
        loop, began = QEventLoop(), time.perf_counter()
        memory: list[tuple[float, float]] = []

        def move() -> None:
            now = time.perf_counter() - began
            center, zoom = hand.at(now)
            if tuple(camera.center[-2:]) != center:
                camera.center, camera.zoom = center, zoom
            if not memory or now - memory[-1][0] >= EVERY_S:
                memory.append((now, process.memory_info().rss / 1e6))
                if len(memory) % 6 == 1:
                    print(
                        f"    {now:5.0f} s  {memory[-1][1]:6.0f} MB ({own_and_mapped()}, decoded tiles "
                        f"{tile_cache().nbytes / 1e6:.0f}, {allocated()})  {sum(seen.values())} tiles",
                        flush=True,
                    )

        mover = QTimer()
        mover.setInterval(33)
        mover.timeout.connect(move)
        mover.start()
        QTimer.singleShot(round(60_000 * options.minutes), loop.quit)
        with Watch() as watch:
            loop.exec()
        mover.stop()
        report("the whole session", watch)
        after = np.array([rss for when, rss in memory if when >= WARM_UP * 60 * options.minutes])
        slope = np.polyfit(np.arange(len(after)) * EVERY_S / 60, after, 1)[0] if len(after) > 2 else 0.0
        print(
            f"memory after the warm-up ({WARM_UP:.0%}): {after.min():.0f} to {after.max():.0f} MB, "
            f"last less first {after[-1] - after[0]:+.0f} MB, slope {slope:+.1f} MB a minute"
        )
        twice = sum(n > 1 for n in seen.values())
        print(f"tiles computed: {sum(seen.values())}, more than once: {twice}")
        bench.dock.live.setChecked(False)
        bench.session.close()
        bench.viewer.close()
        bench.pause(0.5)
        del bench
        gc.collect()
        left = [
            thread.name
            for thread in threading.enumerate()
            if thread.ident not in threads_before and thread.name.startswith(("batchfx", "read-ahead"))
        ]
        others = [thread.name for thread in threading.enumerate() if thread.ident not in threads_before]
        print(f"threads of ours left: {left}; Python threads that are new at all: {others}")
        print(f"native threads: {native_before} before, {process.num_threads()} after")
        if left or twice:
            raise SystemExit(1)


if __name__ == "__main__":
    main()
