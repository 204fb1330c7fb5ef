"""A slide of 100,000 x 100,000 px: time to first pixels, memory while panning, after closing, and over many openings.

    python benchmarks/slides/memory.py [--side 100000] [--views 400] [--cycles 200]

The slide is a pyramid whose tiles of one level all share the same data (a file of some MB with a full list of
152,881 tiles), so every tile is decoded as of a real slide. Memory is the resident set of this process. Views are
1920 x 1080 px at every level through the view's dask arrays, all over the slide.
"""

from __future__ import annotations

import argparse
import gc
import statistics
import sys
import tempfile
import time
from pathlib import Path

import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from tests.slides.slide_zoo import write_huge

from napari_batchfx.slides import open_slide, tile_cache

VIEW = (1080, 1920)


def resident_mb() -> float:
    status = Path("/proc/self/status").read_text()
    return int(status.split("VmRSS:")[1].split()[0]) / 1024


def view(array, y: int, x: int) -> np.ndarray:
    return array[y : y + VIEW[0], x : x + VIEW[1]].compute()


def pan(path: Path, n_views: int) -> None:
    rng = np.random.default_rng(0)
    began = time.perf_counter()
    with open_slide(path) as slide:
        array = slide.pyramid()[-1].compute()
        first = time.perf_counter() - began
        print(f"first pixels (coarsest level, {array.shape[1]} x {array.shape[0]} px): {first:.2f} s")
        before = resident_mb()
        peak, times = before, []
        levels = slide.pyramid()
        for k in range(n_views):
            level = levels[k % len(levels)]
            y, x = (int(rng.integers(max(1, n - v))) for n, v in zip(level.shape, VIEW, strict=False))
            started = time.perf_counter()
            view(level, y, x)
            times.append(time.perf_counter() - started)
            peak = max(peak, resident_mb())
        print(
            f"{n_views} views: median {1e3 * statistics.median(times):.0f} ms, slowest {1e3 * max(times):.0f} ms"
        )
        print(
            f"memory: {before:.0f} MB before panning, peak {peak - before:+.0f} MB (cache {tile_cache().nbytes / 2**20:.0f} MiB)"
        )
    gc.collect()
    print(f"after closing: {resident_mb() - before:+.0f} MB")


def cycles(path: Path, n: int) -> None:
    sizes, times = [], []
    for _ in range(n):
        started = time.perf_counter()
        with open_slide(path) as slide:
            slide.read(0, 50_000 % slide.shape[0], 0, 512, 512)
        times.append(time.perf_counter() - started)
        sizes.append(resident_mb())
    print(f"{n} times opened, read and closed: {statistics.median(times):.2f} s each; ", end="")
    print(
        f"memory after 10: {sizes[min(9, n - 1)]:.0f} MB, at the end: {sizes[-1] - sizes[min(9, n - 1)]:+.1f} MB"
    )


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--side", type=int, default=100_000)
    parser.add_argument("--views", type=int, default=400)
    parser.add_argument("--cycles", type=int, default=200)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        path = write_huge(Path(folder) / "huge.tif", side=options.side)
        # imports and allocator pools of a small slide don't count
        with open_slide(write_huge(Path(folder) / "small.tif", side=2000)) as small:
            small.pyramid()[0].compute()
        gc.collect()
        start = resident_mb()
        print(
            f"{options.side:,} x {options.side:,} px, {path.stat().st_size / 1e6:.0f} MB; {start:.0f} MB before opening"
        )
        pan(path, options.views)
        print(f"against before opening: {resident_mb() - start:+.0f} MB")
        cycles(path, options.cycles)


if __name__ == "__main__":
    main()
