"""Ten million stored tiles: how long opening, asking and reading a view take, and what it costs in memory.

    python benchmarks/encoders/ten_million_tiles.py [FOLDER] [--tiles 10000000] [--dim 256] [--keep]

Needs about 11 GB of disk with 256 numbers a tile (1,024 numbers: 42 GB). What depends on the number of tiles
alone (opening, asking, memory) is the same for any length of a vector; a view's read is measured with 1,024
numbers a tile too, on a tenth of the tiles: it reads the same files however many others there are.
"""

from __future__ import annotations

import argparse
import json
import math
import os
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np

SLIDE, ENCODER, GRID = "f" * 32, "synthetic/v1/fp32", "224px-0.5um-step224"
BAND = 32  # rows of tiles written at a time


def vectors(cells: np.ndarray, dim: int) -> np.ndarray:
    """Numbers that say which tile they are of, and differ along the vector."""
    key = (cells[:, 0].astype(np.int64) * 100_003 + cells[:, 1]).astype(np.uint32)
    mixed = (key[:, None] * np.uint32(2654435761) + np.arange(dim, dtype=np.uint32) * np.uint32(40503)) >> 8
    return mixed.astype(np.float32) / np.float32(2**24)


def fill(folder: Path, n: int, dim: int) -> float:
    """Store n tiles of a square slide; seconds."""
    from napari_batchfx.features import FeatureStore

    side = math.ceil(math.sqrt(n))
    entry = FeatureStore(folder).array(SLIDE, ENCODER, GRID, dim=dim)
    start = time.perf_counter()
    with entry.writing("ten million"):
        for first in range(0, side, BAND):
            rows = np.arange(first, min(first + BAND, side))
            cells = np.stack(np.meshgrid(rows, np.arange(side), indexing="ij"), -1).reshape(-1, 2)
            cells = cells[cells[:, 0] * side + cells[:, 1] < n]
            for at in range(0, len(cells), 25_600):
                entry.append(cells[at : at + 25_600], vectors(cells[at : at + 25_600], dim))
    return time.perf_counter() - start


def resident_mb() -> float:
    """Resident memory now, MB."""
    return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE") / 1e6


def forget_pages(folder: Path) -> None:
    """Take the store's files out of the system's page cache."""
    subprocess.run(["sync", "-f", str(folder)], check=False)
    for path, _, names in os.walk(folder):
        for name in names:
            handle = os.open(os.path.join(path, name), os.O_RDONLY)
            os.posix_fadvise(handle, 0, 0, os.POSIX_FADV_DONTNEED)
            os.close(handle)


def timed(function, *arguments):
    """Milliseconds, and the result."""
    start = time.perf_counter()
    result = function(*arguments)
    return 1e3 * (time.perf_counter() - start), result


def measure(folder: Path, side: int, dim: int) -> dict:
    """In a fresh process: everything that a window asks."""
    from napari_batchfx.features import FeatureStore

    before = resident_mb()
    opened, entry = timed(lambda: FeatureStore(folder).array(SLIDE, ENCODER, GRID))
    counted, n = timed(lambda: entry.n)
    after = resident_mb()
    rng = np.random.default_rng(0)

    def view():
        corner = rng.integers(0, side - 31, 2)
        return np.stack(np.meshgrid(np.arange(20), np.arange(30), indexing="ij"), -1).reshape(-1, 2) + corner

    views = [view() for _ in range(60)]
    asked = [timed(lambda v=v: entry.has(v, verify=False))[0] for v in views]
    read = []
    for v in views:
        ms, got = timed(entry.read, v)
        assert np.array_equal(got, vectors(v, dim))
        read.append(ms)
    used = time.process_time()
    again = [timed(entry.read, v)[0] for v in views]
    used = 1e3 * (time.process_time() - used) / len(views)
    verified = [timed(lambda v=v: entry.has(v).all())[0] for v in views]
    size_first, size = timed(lambda: entry.nbytes)
    size_then = timed(lambda: entry.nbytes)[0]
    cells_ms, cells = timed(entry.done_cells)
    peak = resident_mb()
    every = [timed(lambda: entry.has(cells, verify=False).all())[0] if len(cells) else 0.0]

    def spread(values):
        return [round(float(q), 3) for q in np.percentile(values, [50, 95, 100])]

    return {
        "tiles": n,
        "open_ms": round(opened, 1),
        "n_ms": round(counted, 1),
        "index_MB": round(after - before, 1),
        "has_view_ms_p50_p95_max": spread(asked),
        "read_view_first_ms_p50_p95_max": spread(read),
        "read_view_again_ms_p50_p95_max": spread(again),
        "read_view_processor_ms": round(used, 3),
        "verify_view_ms_p50_p95_max": spread(verified),
        "nbytes_first_ms": round(size_first, 2),
        "nbytes_ms": round(size_then, 3),
        "GB": round(size / 1e9, 3),
        "done_cells_ms": round(cells_ms, 1),
        "with_done_cells_MB": round(peak - before, 1),
        "has_all_ms": round(every[0], 1),
    }


def main() -> None:
    """Fill, then measure in fresh processes: with the files cached by the system, and without."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("folder", nargs="?", type=Path, help="made and deleted; a temporary one otherwise")
    parser.add_argument("--tiles", type=int, default=10_000_000)
    parser.add_argument("--dim", type=int, default=256)
    parser.add_argument("--keep", action="store_true", help="leave the stores, and use those there are")
    parser.add_argument("--measure", nargs=3, help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.measure:
        store, side, dim = given.measure
        print(json.dumps(measure(Path(store), int(side), int(dim))))
        return
    folder = given.folder or Path(tempfile.mkdtemp(prefix="ten-million-"))
    folder.mkdir(parents=True, exist_ok=True)
    for n, dim in ((given.tiles, given.dim), (given.tiles // 10, 1024)):
        store = folder / f"{n}-{dim}.zarr"
        if not store.exists():
            seconds = fill(store, n, dim)
            print(f"{n:,} tiles of {dim} numbers written in {seconds:.0f} s ({n / seconds:,.0f} tiles/s)")
        arguments = ["--measure", str(store), str(math.ceil(math.sqrt(n))), str(dim)]
        for state in ("cached", "not cached"):
            if state == "not cached":
                forget_pages(store)
            done = subprocess.run([sys.executable, __file__, *arguments], stdout=subprocess.PIPE, check=True)
            print(f"{dim} numbers a tile, files {state} by the system:")
            for key, value in json.loads(done.stdout).items():
                print(f"    {key:<34}{value:,}" if isinstance(value, int) else f"    {key:<34}{value}")
        if not given.keep:
            shutil.rmtree(store)
    if not given.keep and given.folder is None:
        shutil.rmtree(folder)


if __name__ == "__main__":
    main()
