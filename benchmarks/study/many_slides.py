"""Many small slides through the command line: one process and two workers, in turns; memory as slides grow.

    python benchmarks/study/many_slides.py --slides 200 --tiles 1000 --turns 1

Every run is a process of its own, on a study without features. Wall time, processor time of all its processes
and the largest memory of any of them are the system's (``wait4``); the load is read before and after.

One process already reads in one thread and computes in others, and so uses more than one core; two workers have one
core each. On two cores the ratio of two workers to one process can't be two: it is also given against one process that
is held to one core (Linux), which says what a worker more brings.
"""

from __future__ import annotations

import argparse
import csv
import json
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path

import numpy as np
import psutil

PX = 32


def make_slides(folder: Path, n: int, tiles: int) -> Path:
    """Slides of ``tiles`` tiles of 32 px, different in content, and their CSV."""
    from napari_batchfx.slides import write_pyramid

    side = int(np.ceil(np.sqrt(tiles)))
    rng = np.random.default_rng(0)
    base = rng.integers(90, 190, (side * PX, side * PX, 3), dtype=np.uint8)
    base[..., 1] //= 2
    with (folder / "slides.csv").open("w", newline="") as file:
        rows = csv.writer(file)
        rows.writerow(["path", "patient", "site", "scanner"])
        for number in range(n):
            base[: PX // 2, : PX // 2] = rng.integers(60, 200, (PX // 2, PX // 2, 3), dtype=np.uint8)
            path = write_pyramid(folder / f"s{number:05}.tif", base, 0.5, compression="jpeg")
            rows.writerow([path.name, f"P{number // 2}", f"site {number % 4}", f"scanner {number % 3}"])
    return folder / "slides.csv"


def run(words: list[str], core: int | None = None) -> dict[str, float]:
    """Run the command line, on one core if asked; wall and processor seconds, and the largest memory of all its processes."""
    hold = None if core is None else lambda: os.sched_setaffinity(0, {core})
    load, start = os.getloadavg()[0], time.perf_counter()
    process = subprocess.Popen(
        [sys.executable, "-m", "napari_batchfx.cli", *words], stdout=subprocess.PIPE, preexec_fn=hold
    )
    peak = [0.0]
    cpu: dict[int, float] = {}

    def watch() -> None:
        own = psutil.Process(process.pid)
        while process.poll() is None:
            try:
                family = [own, *own.children(recursive=True)]
                peak[0] = max(peak[0], sum(one.memory_info().rss for one in family) / 1e6)
                for one in family:
                    times = one.cpu_times()
                    cpu[one.pid] = times.user + times.system
            except psutil.Error:
                pass
            time.sleep(0.2)

    watcher = threading.Thread(target=watch)
    watcher.start()
    out, _ = process.communicate()
    watcher.join()
    assert process.returncode == 0, process.returncode
    facts = json.loads(out)
    return {
        "wall": time.perf_counter() - start,
        "cpu": sum(cpu.values()),
        "peak_mb": peak[0],
        "load": (load + os.getloadavg()[0]) / 2,
        "encoding": facts["seconds"],
        "tiles": facts["tiles_encoded"],
    }


def study_of(folder: Path, name: str, sheet: Path, n: int) -> Path:
    """A study of the first ``n`` slides."""
    with sheet.open() as file:
        rows = list(csv.reader(file))[: n + 1]
    part = folder / f"first-{n}.csv"
    with part.open("w", newline="") as file:
        csv.writer(file).writerows(rows)
    study = folder / f"{name}.batchfx"
    words = [sys.executable, "-m", "napari_batchfx.cli", "add", str(study), str(part), "--json"]
    subprocess.run(words, check=True, stdout=subprocess.DEVNULL)
    return study


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--slides", type=int, default=100)
    parser.add_argument("--tiles", type=int, default=1000)
    parser.add_argument("--turns", type=int, default=3)
    parser.add_argument("--local", type=int, default=2)
    asked = parser.parse_args()
    options = ["--tile-px", str(PX), "--tile-mpp", "0.5", "--min-tissue", "0", "--json"]
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        start = time.perf_counter()
        sheet = make_slides(folder, asked.slides, asked.tiles)
        print(f"{asked.slides} slides written in {time.perf_counter() - start:.0f} s", flush=True)
        start = time.perf_counter()
        study = study_of(folder, "all", sheet, asked.slides)
        print(f"added in {time.perf_counter() - start:.1f} s", flush=True)
        found: dict[str, list[dict[str, float]]] = {"one process": [], f"{asked.local} workers": []}
        ways = [("one process", []), (f"{asked.local} workers", ["--local", str(asked.local)])]
        if hasattr(os, "sched_setaffinity"):
            found["on one core"] = []
            ways.append(("on one core", []))
        for turn in range(asked.turns):
            for how, more in ways:
                shutil.rmtree(study / "features.zarr", ignore_errors=True)
                found[how].append(
                    run(
                        ["embed", str(study), *options, *more],
                        min(os.sched_getaffinity(0)) if how == "on one core" else None,
                    )
                )
                print(f"turn {turn + 1}, {how}: {found[how][-1]}", flush=True)
        for key in ("wall", "encoding", "cpu", "peak_mb"):
            for how, rows in found.items():
                values = [row[key] for row in rows]
                print(
                    f"{key:>9} {how:>12}: {statistics.median(values):8.1f} ({min(values):.1f}-{max(values):.1f})"
                )
        one, many, *held = (statistics.median([row["encoding"] for row in rows]) for rows in found.values())
        print(f"ratio of encoding times, {asked.local} workers to one process: {one / many:.2f}")
        if held:
            print(f"the same to one process on one core: {held[0] / many:.2f}")
        few = study_of(folder, "few", sheet, max(20, asked.slides // 4))
        print(f"{max(20, asked.slides // 4)} slides, one process: {run(['embed', str(few), *options])}")


if __name__ == "__main__":
    main()
