"""A study of 1,000 slides and 10,000,000 tiles: how long napari takes to open it, and what it takes then.

    xvfb-run -a python benchmarks/study/open_large.py --slides 1000 --tiles 10000

The tiles are written straight into the store (random vectors, of few numbers to spare the disk: ``--numbers``), so no
encoder is measured. "Shown" is when the table of slides is filled, the first slides are on the canvas and every dock
has said what it finds in the study, features among it. The first turn opens it in a fresh napari, the others in the
place of the study before.
"""

from __future__ import annotations

import argparse
import os
import tempfile
import time
from pathlib import Path

import numpy as np
import psutil


def make(folder: Path, n: int, tiles: int, numbers: int) -> Path:
    """A study with features of every slide."""
    from napari_batchfx.slides import write_pyramid
    from napari_batchfx.study import Study

    side = int(np.sqrt(tiles))
    rng = np.random.default_rng(0)
    pixels = rng.integers(90, 190, (512, 512, 3), dtype=np.uint8)
    cells = np.argwhere(np.ones((side, side), bool))
    with Study.create(folder / "large") as study:
        for number in range(n):
            pixels[:16, :16] = rng.integers(0, 255, (16, 16, 3), dtype=np.uint8)
            path = write_pyramid(folder / f"s{number:05}.tif", pixels, 0.5, compression="deflate")
            entry = study.add_slide(path, scanner=f"scanner {number % 3}", site=f"site {number % 5}")
            study.tidy(entry)
            vectors = rng.standard_normal((len(cells), numbers), dtype=np.float32)
            array = study.store().array(
                entry.fingerprint, "colour-statistics/v1/fp32", "224px-0.5um-step224", dim=numbers
            )
            array.append(cells, vectors)
            study.store().put_away(entry.fingerprint)
        study.save()
        return study.folder


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--slides", type=int, default=1000)
    parser.add_argument("--tiles", type=int, default=10_000)
    parser.add_argument("--numbers", type=int, default=4)
    parser.add_argument("--turns", type=int, default=3)
    asked = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        start = time.perf_counter()
        folder = make(Path(name), asked.slides, asked.tiles, asked.numbers)
        print(
            f"made in {time.perf_counter() - start:.0f} s: {asked.slides * int(asked.tiles**0.5) ** 2:,} tiles",
            flush=True,
        )
        import napari
        from qtpy.QtWidgets import QApplication

        from napari_batchfx.study import Study
        from napari_batchfx.viewer.session import session_for
        from napari_batchfx.viewer.workbench import Workbench

        process = psutil.Process()
        viewer = napari.Viewer(show=True)
        bench = Workbench(viewer)
        viewer.window.add_dock_widget(bench)
        QApplication.processEvents()
        for turn in range(asked.turns):
            before, cpu, load = process.memory_info().rss, sum(process.cpu_times()[:2]), os.getloadavg()[0]
            start = time.perf_counter()
            study = Study.open(folder)
            opened = time.perf_counter() - start
            session_for(viewer).replace_study(study)
            QApplication.processEvents()
            shown = time.perf_counter() - start
            used = sum(process.cpu_times()[:2]) - cpu
            memory = (process.memory_info().rss - before) / 1e6
            print(
                f"turn {turn + 1}: study {opened:.2f} s, shown in napari {shown:.2f} s (processor {used:.2f} s), "
                f"{memory:+.0f} MB, {bench.docks['slides'].table.rowCount()} slides in the table, {len(viewer.layers)} "
                f"layers, {study.store().nbytes / 1e6:,.0f} MB of features, load {load:.1f}",
                flush=True,
            )
            start = time.perf_counter()
            for dock in bench.docks.values():
                dock.refresh()
            print(f"  all docks refreshed in {1000 * (time.perf_counter() - start):.0f} ms", flush=True)
        viewer.close()


if __name__ == "__main__":
    main()
