"""Reading tiles and regions: napari-batchfx beside OpenSlide and beside zarr over tifffile, in one process.

    python benchmarks/slides/tiles.py [--threads 1] [--rounds 7] [SLIDE ...]

Without SLIDE it writes a pyramid of 6144 px (JPEG 4:2:2, tiles of 256 px, quality 80) from scikit-image's picture of
stained tissue. Four tasks, each from cold caches, the readers in turns so that a busy machine disturbs all alike:

- ``aligned``: tiles of the file, in random order, each once
- ``unaligned``: 224 px at 0.5 um a pixel from a slide of 0.25 um, at random places, resampled with Pillow's bicubic
  filter; OpenSlide reads the same rectangle of the same level and resizes it with the same filter
- ``regions``: 2048 px through the view's dask array, beside the same slices of a zarr array over tifffile
- ``regions+zarr-in-dask``: the same with zarr behind dask, what a plain napari plugin shows

Every reader gives the same: one array of all tiles, uint8 (n, size, size, 3), its memory included.

Printed: the median over the rounds in wall and processor time, and the ratio to ours (median and range of the rounds'
ratios). Processor time is the less disturbed figure; both sides run the same number of threads.
"""

from __future__ import annotations

import argparse
import contextlib
import statistics
import tempfile
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
from PIL import Image

from napari_batchfx.slides import open_slide, tile_cache, write_pyramid
from napari_batchfx.tiles import TileGrid, read_tiles

Work = Callable[[], object]
TILE = 224
REGION = 2048


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("slides", nargs="*", type=Path, metavar="SLIDE")
    parser.add_argument("--size", type=int, default=6144, help="edge of the slide that is written, in pixels")
    parser.add_argument("--count", type=int, default=300, help="tiles a round")
    parser.add_argument("--threads", type=int, nargs="+", default=[1, 2])
    parser.add_argument("--rounds", type=int, default=7)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        paths = options.slides or [tissue(Path(folder) / "tissue.tif", options.size)]
        for path in paths:
            print(f"{path.name}, {path.stat().st_size / 1e6:.0f} MB")
            for n_threads in options.threads:
                for task in (aligned, unaligned):
                    report(
                        f"{task.__name__}, {n_threads} thread(s)",
                        task(path, options.count, n_threads),
                        options.rounds,
                    )
            report("regions", regions(path), options.rounds)


def tissue(path: Path, size: int) -> Path:
    from skimage.data import immunohistochemistry

    piece = immunohistochemistry()
    n = -(-size // 512)
    # turned and mirrored, so that neighbouring tiles differ
    rows = [np.hstack([np.rot90(piece, (r + c) % 4)[:: 1 - 2 * (c % 2)] for c in range(n)]) for r in range(n)]
    return write_pyramid(path, np.vstack(rows)[:size, :size], 0.25, quality=80)


@contextlib.contextmanager
def measured(into: list[tuple[float, float]], n: int) -> Iterator[None]:
    wall, processor = time.perf_counter(), time.process_time()
    yield
    into.append(((time.perf_counter() - wall) / n, (time.process_time() - processor) / n))


def report(task: str, readers: dict[str, tuple[int, Callable[[], Work]]], rounds: int) -> None:
    times: dict[str, list[tuple[float, float]]] = {name: [] for name in readers}
    for turn in range(rounds + 1):
        for name, (n, prepare) in readers.items():
            work = prepare()
            here: list[tuple[float, float]] = []
            with measured(here, n):
                work()
            if turn:  # the first turn warms up imports and the disk's cache
                times[name] += here
    print(f"  {task}")
    ours = times["napari-batchfx"]
    for name, values in times.items():
        line = f"    {name:28s}"
        for k, label in ((0, "wall"), (1, "processor")):
            ratios = [v[k] / o[k] for v, o in zip(values, ours, strict=True)]
            line += f" {1e3 * statistics.median(v[k] for v in values):8.3f} ms {label}"
            line += f" ({statistics.median(ratios):.2f} x, {min(ratios):.2f}-{max(ratios):.2f})"
        print(line, flush=True)


def batch(items: list, work: Callable[[object], object], n_threads: int, size: int) -> np.ndarray:
    """Read tiles into one array, uint8 (n, size, size, 3), as an encoder takes them and as ours come."""
    out = np.empty((len(items), size, size, 3), np.uint8)

    def put(index: int) -> None:
        out[index] = work(items[index])

    if n_threads == 1:
        for index in range(len(items)):
            put(index)
        return out
    with ThreadPoolExecutor(n_threads) as pool:
        list(pool.map(put, range(len(items))))
    return out


def aligned(path: Path, count: int, n_threads: int) -> dict[str, tuple[int, Callable[[], Work]]]:
    """Tiles of the file at level 0."""
    with open_slide(path) as slide:
        t = slide.levels[0].tile[0]
        shape = [n // t for n in slide.shape]
    cells = np.random.default_rng(1).permutation(np.indices(shape).reshape(2, -1).T)[:count]
    corners = (cells * t).tolist()

    def ours() -> Work:
        tile_cache().clear()
        slide = open_slide(path)
        grid = TileGrid(slide, t, slide.mpp[0])
        return lambda: read_tiles(grid, cells, workers=n_threads)

    def zarr_over_tifffile() -> Work:
        array = zarr_array(path)
        return lambda: batch(
            corners, lambda c: np.asarray(array[c[0] : c[0] + t, c[1] : c[1] + t]), n_threads, t
        )

    def openslide() -> Work:
        slide = openslide_handle(path)
        return lambda: batch(
            corners,
            lambda c: np.asarray(slide.read_region((c[1], c[0]), 0, (t, t)).convert("RGB")),
            n_threads,
            t,
        )

    readers = {"napari-batchfx": ours, "zarr over tifffile": zarr_over_tifffile, "OpenSlide": openslide}
    return {name: (len(cells), reader) for name, reader in readers.items()}


def unaligned(path: Path, count: int, n_threads: int) -> dict[str, tuple[int, Callable[[], Work]]]:
    """Tiles of a physical size, off the file's tiles, resampled once by a factor that is no whole number."""
    with open_slide(path) as slide:
        mpp = slide.mpp[0] * 1.72
        grid = TileGrid(slide, TILE, mpp)
        cells = np.random.default_rng(2).permutation(grid.all_cells())[:count]
        level = grid.level
        scale = mpp / (slide.mpp[0] * slide.levels[level].downsample[0])
        step = slide.levels[level].downsample[0]

    def ours() -> Work:
        tile_cache().clear()
        slide = open_slide(path)
        grid = TileGrid(slide, TILE, mpp)
        return lambda: read_tiles(grid, cells, workers=n_threads)

    def openslide() -> Work:
        slide = openslide_handle(path)
        stored = slide.get_best_level_for_downsample(step * 1.001)
        edge = TILE * scale
        n = round(edge)

        def read(cell) -> np.ndarray:
            y, x = (int(v * edge * step) for v in cell)
            region = slide.read_region((x, y), stored, (n, n)).convert("RGB")
            return np.asarray(region.resize((TILE, TILE), Image.Resampling.BICUBIC))

        return lambda: batch(cells.tolist(), read, n_threads, TILE)

    return {"napari-batchfx": (len(cells), ours), "OpenSlide + Pillow": (len(cells), openslide)}


def regions(path: Path) -> dict[str, tuple[int, Callable[[], Work]]]:
    """Regions of 2048 px on the file's tiles, one after the other, as a view asks for them."""
    import dask.array as da

    with open_slide(path) as slide:
        shape, t = slide.shape, slide.levels[0].tile[0]
    side = min(REGION // t * t, min(shape) // t * t)
    corners = [
        (y, x) for y in range(0, shape[0] - side + 1, side) for x in range(0, shape[1] - side + 1, side)
    ]

    def through(array) -> Work:
        return lambda: [np.asarray(array[y : y + side, x : x + side]) for y, x in corners]

    def ours() -> Work:
        tile_cache().clear()
        return through(open_slide(path).pyramid()[0])

    readers = {
        "napari-batchfx": ours,
        "zarr over tifffile": lambda: through(zarr_array(path)),
        "zarr over tifffile in dask": lambda: through(
            da.from_array(zarr_array(path), chunks=(1024, 1024, 3))
        ),
    }
    return {name: (len(corners), reader) for name, reader in readers.items()}


def zarr_array(path: Path):
    import tifffile
    import zarr

    found = zarr.open(tifffile.imread(path, aszarr=True, level=0), mode="r")
    return found if isinstance(found, zarr.Array) else found["0"]


def openslide_handle(path: Path):
    from openslide import OpenSlide, OpenSlideCache

    slide = OpenSlide(str(path))
    # as much as we keep, and none of it filled by the round before
    slide.set_cache(OpenSlideCache(tile_cache().max_bytes))
    return slide


if __name__ == "__main__":
    main()
