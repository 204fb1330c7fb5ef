"""A 4K view (3840 x 2160 px) of the stain preview, from tiles that are in the cache: read, normalise, show.

    python benchmarks/stain/preview.py [--repeats 15]

The slide is made of Camelyon17 fields (CC0) as a pyramid of JPEG tiles. The view starts in the middle of a tile. Three things
are timed in turns in one process: the view of the slide itself, its preview, and the preview of what napari asks for (whole
chunks around the view). Bar: preview < 250 ms.
"""

from __future__ import annotations

import argparse
import os
import statistics
import tempfile
import time
from pathlib import Path

import numpy as np
from PIL import Image

from napari_batchfx.slides import open_slide, set_cache_bytes, tile_cache, write_pyramid
from napari_batchfx.stain import MacenkoNormalizer, ReinhardNormalizer, preview, warm_up

DATA = Path(os.environ.get("BATCHFX_TEST_DATA", Path(__file__).parents[2].parent / "shared" / "data"))
HEIGHT, WIDTH, TOP, LEFT = 2160, 3840, 333, 129


def slide_at(folder: Path) -> Path:
    files = sorted((DATA / "tiles" / "camelyon17").rglob("*.jpg")) or sorted(
        (DATA / "tiles" / "camelyon17").rglob("*.png")
    )
    fields = [np.array(Image.open(file).convert("RGB"))[:2048, :2048] for file in files[:4]]
    image = np.concatenate([np.concatenate(fields[:2], axis=1), np.concatenate(fields[2:], axis=1)])
    image = np.concatenate([image, image], axis=1)
    return write_pyramid(folder / "view.tif", image, 0.25, tile=256, quality=85)


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--repeats", type=int, default=15)
    repeats = parser.parse_args().repeats
    set_cache_bytes(192 * 2**20)
    warm_up()
    with tempfile.TemporaryDirectory() as folder, open_slide(slide_at(Path(folder))) as slide:
        for normalizer in (MacenkoNormalizer(), ReinhardNormalizer()):
            transform = normalizer.for_slide(slide)
            plain, stained = slide.pyramid(pending="blank")[0], preview(slide, transform, pending="blank")[0]
            view = (slice(TOP, TOP + HEIGHT), slice(LEFT, LEFT + WIDTH))
            chunks = tuple(
                slice(s.start // c * c, -(-s.stop // c) * c)
                for s, c in zip(view, stained.chunksize, strict=False)
            )
            tasks = {
                "slide": lambda a=plain, v=view: np.asarray(a[v]),
                "preview": lambda a=stained, v=view: np.asarray(a[v]),
                "preview, whole chunks": lambda a=stained, v=chunks: np.asarray(a[v]),
            }
            for task in tasks.values():
                task()
            times: dict[str, list[float]] = {name: [] for name in tasks}
            cpu: dict[str, list[float]] = {name: [] for name in tasks}
            misses = tile_cache().misses
            for _ in range(repeats):
                for name, task in tasks.items():
                    start, before = time.perf_counter(), time.process_time()
                    task()
                    times[name].append(1000 * (time.perf_counter() - start))
                    cpu[name].append(1000 * (time.process_time() - before))
            assert tile_cache().misses == misses, "the cache did not hold the view"
            expected = transform.transform(slide.read(0, TOP, LEFT, HEIGHT, WIDTH))
            assert (tasks["preview"]() == expected).all()
            for name, found in times.items():
                low, high = min(found), max(found)
                spent = statistics.median(cpu[name])
                print(
                    f"{transform.method:18s} {name:22s} {statistics.median(found):6.0f} ms ({low:.0f}-{high:.0f}), "
                    f"processor {spent:.0f} ms ({min(cpu[name]):.0f}-{max(cpu[name]):.0f})"
                )
    print(f"load {os.getloadavg()[0]:.1f} on {os.cpu_count()} cores")


if __name__ == "__main__":
    main()
