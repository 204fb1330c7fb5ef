"""From the slide file to features in the store, beside the bare model on tiles that lie in memory.

    python benchmarks/encoders/end_to_end.py [--model batchfx-mini] [--kinds 20x 40x] [--rounds 5] [--tiles 0]
    python benchmarks/encoders/end_to_end.py --model vit_small_patch16_224 --kinds 20x --tiles 256 --rounds 3
    python benchmarks/encoders/end_to_end.py --device cuda --model vit_large_patch16_224 --precision bf16 --size 24000

A slide is written first (JPEG 4:2:2 quality 80, tiles of 256 px, Aperio-like, ``--size`` px a side, tissue all over, from
scikit-image's picture of stained tissue). Three kinds of slide:

- ``20x``: 0.5 um a pixel, what the model wants: tiles are cut, not resampled
- ``aperio``: 0.499 um a pixel, as Aperio's 20x slides: every tile is resampled by a factor of 0.998
- ``40x``: 0.25 um a pixel with levels 1, 4, 16, as most slides are: every tile is made of 448 x 448 px of level 0

Measured in turns, in one process, on one device (A B A B, so that a busy machine disturbs both alike):

- ours: open the file, lay the grid, read, convert, run the model, write the vectors to a store on disk, make the table
- the bare loop: the same model on the same tiles, uint8 in memory, batch by batch: to float, normalised, ``channels_last``,
  ``inference_mode``. The batch size is the best of ``--batches``, found before.
- with ``--strict`` also the same loop with a batch a core side by side, which on few cores is quicker than one batch on all of
  them, and the model alone on batches that are normalised floats already: no pipeline can be that quick, since it must convert

A thread of torch that waits for the other one spins: where other programs take the cores the bare loop's processor time says
little and its speed falls far. ``OMP_WAIT_POLICY=PASSIVE`` in the environment makes it sleep instead; on a busy machine
compare the processor time then.

Printed: tiles a second (median, range) and the ratio ours / bare (median over the rounds, range). Before that, the features
of both are compared: the worst cosine must be above 0.9999 in fp32.
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

KINDS = {"20x": (0.5, "auto"), "aperio": (0.499, (1, 4)), "40x": (0.25, (1, 4, 16))}
MINI = "batchfx-mini"
MINI_ARCHITECTURE = "mobilenetv4_conv_small"


def main() -> None:
    parser = arguments(__doc__)
    parser.add_argument(
        "--batches", type=int, nargs="+", default=[32], help="batch sizes the bare loop may choose from"
    )
    parser.add_argument("--strict", action="store_true", help="also the model alone, on normalised floats")
    options = parser.parse_args()
    prepare(options)
    with tempfile.TemporaryDirectory() as folder:
        for kind in options.kinds:
            path = slide_file(Path(folder), kind, options.size)
            compare(path, kind, options)
            path.unlink()


def arguments(text: str | None) -> argparse.ArgumentParser:
    """The options that both encoder benchmarks share."""
    parser = argparse.ArgumentParser(description=text, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default=MINI, help=f"{MINI}, or a timm name (random weights)")
    parser.add_argument("--kinds", nargs="+", choices=KINDS, default=["20x"])
    parser.add_argument("--size", type=int, default=8000, help="edge of the slide in pixels")
    parser.add_argument("--tiles", type=int, default=0, help="tiles a round; 0: all of the slide")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--precision", default="fp32", choices=["fp32", "fp16", "bf16"])
    parser.add_argument("--threads", type=int, default=2, help="torch's threads, for both")
    parser.add_argument("--workers", type=int, help="our reading threads; our own choice otherwise")
    return parser


def prepare(options: argparse.Namespace) -> None:
    import timm
    import torch

    torch.set_num_threads(options.threads)
    torch.backends.cudnn.benchmark = True
    where = torch.cuda.get_device_name() if options.device.startswith("cuda") else "CPU"
    print(
        f"{options.model}, {options.precision}, {where}, {options.threads} torch threads, torch {torch.__version__}, timm {timm.__version__}"
    )


def slide_file(folder: Path, kind: str, size: int) -> Path:
    """A slide with tissue all over; turned and mirrored pieces, so that neighbouring tiles differ."""
    from skimage.data import immunohistochemistry

    from napari_batchfx.slides import write_pyramid

    mpp, levels = KINDS[kind]
    piece = immunohistochemistry()
    n = -(-size // 512)

    def rows():
        for r in range(n):
            band = np.hstack([np.rot90(piece, (r + c) % 4)[:: 1 - 2 * (c % 2)] for c in range(n)])[:, :size]
            for y in range(0, min(512, size - 512 * r), 256):
                for x in range(0, size, 256):
                    yield np.ascontiguousarray(band[y : min(y + 256, size - 512 * r), x : x + 256])

    return write_pyramid(
        folder / f"{kind}.svs",
        rows(),
        mpp,
        shape=(size, size),
        levels=levels,
        quality=80,
        flavour="svs",
        scanner="S",
    )


class Bare:
    """The loop that somebody writes who knows torch well: no slide, no store, one batch after the other."""

    def __init__(self, options: argparse.Namespace, config: tuple) -> None:
        import timm
        import torch

        self.device = torch.device(options.device)
        if options.model == MINI and mini_weights() is not None:
            from napari_batchfx.encoders.built_in import mini_network

            model = mini_network()
        else:
            name = MINI_ARCHITECTURE if options.model == MINI else options.model
            torch.manual_seed(0)
            model = timm.create_model(name, pretrained=False, num_classes=0)
        self.model = model.eval().to(self.device, memory_format=torch.channels_last)
        types = {"fp32": None, "fp16": torch.float16, "bf16": torch.bfloat16}
        self.type = types[options.precision]
        mean, std = (torch.tensor(v, device=self.device).view(1, 3, 1, 1) for v in config)
        self.scale, self.shift = 1 / (255 * std), -mean / std

    def normalised(self, tiles):
        import torch

        batch = torch.from_numpy(tiles).to(self.device, non_blocking=True).permute(0, 3, 1, 2)
        # the view of channels-last pixels stays channels last, which is how the model wants them
        return torch.addcmul(self.shift, batch.float(), self.scale)

    def forward(self, batch):
        import torch

        with (
            torch.inference_mode(),
            torch.autocast(self.device.type, dtype=self.type, enabled=self.type is not None),
        ):
            return self.model(batch).float()

    def run(self, tiles: np.ndarray, size: int) -> np.ndarray:
        import torch

        out = [self.forward(self.normalised(tiles[i : i + size])) for i in range(0, len(tiles), size)]
        return torch.cat(out).cpu().numpy()

    def run_side_by_side(self, tiles: np.ndarray, threads: int, size: int = 8) -> np.ndarray:
        """A batch a core, each in a thread of its own: no layer waits for the slower core, nothing spins."""
        import torch

        def work(start: int):
            return self.forward(self.normalised(tiles[start : start + size]))

        with ThreadPoolExecutor(threads, initializer=lambda: torch.set_num_threads(1)) as pool:
            out = list(pool.map(work, range(0, len(tiles), size)))
        torch.set_num_threads(threads)
        return torch.cat(out).cpu().numpy()

    def run_floats(self, batches: list) -> None:
        import torch

        torch.cat([self.forward(batch) for batch in batches]).cpu()


def mini_weights() -> Path | None:
    try:
        from napari_batchfx.encoders.built_in import MINI_WEIGHTS
    except ImportError:
        return None
    return MINI_WEIGHTS if MINI_WEIGHTS.is_file() else None


def our_encoder(options: argparse.Namespace):
    from napari_batchfx.encoders import load

    name = options.model
    if name != MINI:
        name += "?pretrained=false"
    elif mini_weights() is None:
        name = f"{MINI_ARCHITECTURE}?pretrained=false"
    return load(name, device=options.device, precision=options.precision, threads=options.threads)


def ours(path: Path, encoder, cells: np.ndarray, folder: Path, workers: int | None) -> np.ndarray:
    """One clean run: a file that isn't open, nothing decoded, an empty store."""
    from napari_batchfx.features import FeatureStore, embed_job
    from napari_batchfx.jobs import run
    from napari_batchfx.slides import open_slide, tile_cache
    from napari_batchfx.tiles import TileGrid

    tile_cache().clear()
    store = FeatureStore(folder)
    with open_slide(path) as slide:
        grid = TileGrid(slide, encoder.input_px, encoder.mpp)
        return np.asarray(run(embed_job(grid, encoder, cells=cells, store=store, workers=workers)).X)


def compare(path: Path, kind: str, options: argparse.Namespace) -> None:
    from napari_batchfx.slides import open_slide
    from napari_batchfx.tiles import TileGrid, read_tiles

    encoder = our_encoder(options)
    bare = Bare(options, (encoder.mean, encoder.std))
    with open_slide(path) as slide:
        grid = TileGrid(slide, encoder.input_px, encoder.mpp)
        cells = grid.all_cells()[: options.tiles or None]
        tiles = read_tiles(grid, cells)
        print(
            f"\n{kind}: {slide.shape[0]} px at {slide.mpp[0]} um, level {grid.level}, {len(cells)} tiles, {path.stat().st_size / 1e6:.0f} MB"
        )
    size = fastest_batch(bare, tiles, options.batches)
    floats = []
    if options.strict:
        floats = [
            bare.normalised(tiles[i : i + size]).clone() for i in range(0, min(len(tiles), 8 * size), size)
        ]
        # the last batch may be smaller
        floats = (floats * -(-len(tiles) // (len(floats) * size)))[: len(tiles) // size]
        floats.append(floats[0][: len(tiles) % size])
        floats = [batch for batch in floats if len(batch)]
    with tempfile.TemporaryDirectory() as folder:
        count = iter(range(10_000))
        a = ours(path, encoder, cells, Path(folder) / f"{next(count)}.zarr", options.workers)
        b = bare.run(tiles, size)
        cosine = (a * b).sum(1) / np.linalg.norm(a, axis=1) / np.linalg.norm(b, axis=1)
        print(f"  the same vectors: worst cosine {cosine.min():.7f}; the bare loop takes batches of {size}")
        assert cosine.min() > (0.9999 if options.precision == "fp32" else 0.999)
        works: dict[str, Callable[[], object]] = {
            "ours, file to store": lambda: ours(
                path, encoder, cells, Path(folder) / f"{next(count)}.zarr", options.workers
            ),
            "bare loop, tiles in memory": lambda: bare.run(tiles, size),
        }
        if options.strict and options.device == "cpu":
            works["bare model, a batch a core"] = lambda: bare.run_side_by_side(tiles, options.threads)
        if floats:
            works["bare model, floats in memory"] = lambda: bare.run_floats(floats)
        report(works, len(cells), options.rounds)
    encoder.close()


def fastest_batch(bare: Bare, tiles: np.ndarray, sizes: list[int]) -> int:
    if len(sizes) == 1:
        return sizes[0]
    some = tiles[: 2 * max(sizes)]
    bare.run(some, sizes[0])
    return min(sizes, key=lambda n: min(seconds(lambda: bare.run(some, n))[0] for _ in range(3)))


def seconds(work: Callable[[], object]) -> tuple[float, float]:
    wall, processor = time.perf_counter(), time.process_time()
    work()
    return time.perf_counter() - wall, time.process_time() - processor


def report(works: dict[str, Callable[[], object]], n: int, rounds: int) -> None:
    """Run everything in turns; the first is ours, and its ratio to each of the others is printed."""
    times: dict[str, list[tuple[float, float]]] = {name: [] for name in works}
    for _ in range(rounds):
        for name, work in works.items():
            times[name].append(seconds(work))
    first = next(iter(works))
    for name, values in times.items():
        rates = sorted(n / wall for wall, _ in values)
        processor = statistics.median(p for _, p in values) / n
        line = f"  {name:32s} {statistics.median(rates):7.1f} tiles/s ({rates[0]:.1f}-{rates[-1]:.1f}), processor {1e3 * processor:.2f} ms a tile"
        if name != first:
            for k, label in ((0, "wall"), (1, "processor")):
                ratios = sorted(v[k] / o[k] for v, o in zip(values, times[first], strict=True))
                line += (
                    f"; {label} ours/this {statistics.median(ratios):.3f} ({ratios[0]:.3f}-{ratios[-1]:.3f})"
                )
        print(line, flush=True)


if __name__ == "__main__":
    main()
