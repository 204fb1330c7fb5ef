"""Tiles a second: napari-batchfx against zarr over tifffile, and OpenSlide where it is installed.

    python benchmarks/tiles_read.py [--size 8192] [--workers 2] [--tile 256]

Writes a JPEG pyramid of synthetic texture into a temporary folder. Each reader reads the same tiles (those
of the file, in random order, each once) in turns, three rounds, from a cold cache of its own. Prints the
median of the rounds, in wall time and in processor time, which a busy machine disturbs less.
"""

from __future__ import annotations

import argparse
import statistics
import tempfile
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np

from napari_batchfx.slides import open_slide, tile_cache, write_pyramid
from napari_batchfx.tiles import TileGrid, read_tiles


def texture(size: int, tile: int):
    """Stream tiles of smooth pink and purple noise, which JPEG codes at about the size of tissue."""
    rng = np.random.default_rng(0)
    for _ in range((-(-size // tile)) ** 2):
        coarse = rng.normal(0, 30, (tile // 8, tile // 8, 1)).repeat(8, 0).repeat(8, 1)
        yield np.clip(coarse + np.array([200, 140, 190]) + rng.normal(0, 6, (tile, tile, 1)), 0, 255).astype(
            np.uint8
        )


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--size", type=int, default=8192, help="edge of the slide in pixels")
    parser.add_argument("--tile", type=int, default=256, help="edge of the tiles read, in pixels")
    parser.add_argument("--count", type=int, default=1000)
    parser.add_argument("--workers", type=int, default=2)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "slide.tif"
        write_pyramid(
            path,
            texture(options.size, options.tile),
            0.5,
            shape=(options.size, options.size),
            tile=options.tile,
            levels=1,
        )
        readers = {"napari-batchfx": ours, "zarr over tifffile": zarr_store, "OpenSlide": openslide}
        rates: dict[str, list[tuple[float, float]]] = {name: [] for name in readers}
        for _ in range(3):
            for name, reader in readers.items():
                rate = reader(path, options)
                if rate:
                    rates[name].append(rate)
    first = [statistics.median(column) for column in zip(*rates["napari-batchfx"], strict=True)]
    for name, values in rates.items():
        if not values:
            print(f"{name:20s} not installed")
            continue
        wall, processor = (statistics.median(column) for column in zip(*values, strict=True))
        print(
            f"{name:20s} {wall:8,.0f} tiles/s ({first[0] / wall:.2f} x)   "
            f"{1e3 / processor:.3f} ms of processor time a tile ({first[1] / processor:.2f} x)"
        )


def timed(n: int, work: Callable[[], object]) -> tuple[float, float]:
    wall, processor = time.perf_counter(), time.process_time()
    work()
    return n / (time.perf_counter() - wall), n / (time.process_time() - processor)


def corners(grid_shape: tuple[int, int], count: int) -> np.ndarray:
    cells = np.indices(grid_shape).reshape(2, -1).T
    return np.random.default_rng(1).permutation(cells)[:count]


def ours(path: Path, options: argparse.Namespace) -> tuple[float, float]:
    tile_cache().clear()
    with open_slide(path) as slide:
        grid = TileGrid(slide, options.tile, 0.5)
        cells = corners(grid.shape, options.count)
        return timed(len(cells), lambda: read_tiles(grid, cells, workers=options.workers))


def with_threads(options: argparse.Namespace, read: Callable[[int, int], object]) -> tuple[float, float]:
    t = options.tile
    cells = (corners((options.size // t,) * 2, options.count) * t).tolist()
    with ThreadPoolExecutor(options.workers) as pool:
        return timed(len(cells), lambda: list(pool.map(lambda corner: read(*corner), cells)))


def zarr_store(path: Path, options: argparse.Namespace) -> tuple[float, float] | None:
    try:
        import tifffile
        import zarr

        store = tifffile.imread(path, aszarr=True, level=0)
    except ImportError:
        return None
    t = options.tile
    with store:
        array = zarr.open(store, mode="r")
        return with_threads(options, lambda y, x: np.asarray(array[y : y + t, x : x + t]))


def openslide(path: Path, options: argparse.Namespace) -> tuple[float, float] | None:
    try:
        from openslide import OpenSlide
    except ImportError:
        return None
    t = options.tile
    with OpenSlide(str(path)) as slide:
        return with_threads(options, lambda y, x: np.asarray(slide.read_region((x, y), 0, (t, t)))[..., :3])


if __name__ == "__main__":
    main()
