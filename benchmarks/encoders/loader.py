"""From the slide file to features, beside a plain PyTorch Dataset and DataLoader over OpenSlide with the same model.

    python benchmarks/encoders/loader.py [--model batchfx-mini] [--kinds 20x 40x] [--rounds 5] [--loaders 0 1 2]
    python benchmarks/encoders/loader.py --device cuda --model vit_large_patch16_224 --precision bf16 --loaders 8 16 --size 24000

The peer is what the field's tutorials write, done well: an OpenSlide handle a worker, ``read_region`` of the level that is just
fine enough, Pillow's bicubic filter where the pixel size differs, ToTensor and Normalize, batches of 32 in pinned memory for a
GPU, the model in ``inference_mode`` and ``channels_last``; its features stay in memory, while ours are written to a store on
disk. Each number of loader processes is run in turns with ours; the best of them is the peer. Slides as in ``end_to_end.py``.
"""

from __future__ import annotations

import argparse
import statistics
import tempfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
from end_to_end import Bare, arguments, our_encoder, ours, prepare, seconds, slide_file


def main() -> None:
    parser = arguments(__doc__)
    parser.add_argument("--loaders", type=int, nargs="+", default=[0, 1, 2], help="num_workers to try")
    parser.add_argument("--batch", type=int, default=32)
    options = parser.parse_args()
    prepare(options)
    with tempfile.TemporaryDirectory() as folder:
        for kind in options.kinds:
            path = slide_file(Path(folder), kind, options.size)
            compare(path, kind, options)
            path.unlink()


class Tiles:
    """The Dataset: one tile an item, normalised floats."""

    def __init__(
        self, path: Path, cells: np.ndarray, size: int, mpp: float, slide_mpp: float, mean, std
    ) -> None:
        from torchvision import transforms

        self.path, self.cells, self.size = str(path), cells, size
        self.scale = mpp / slide_mpp
        self.convert = transforms.Compose([transforms.ToTensor(), transforms.Normalize(mean, std)])
        self.slide = None

    def __len__(self) -> int:
        return len(self.cells)

    def __getitem__(self, index: int):
        from openslide import OpenSlide
        from PIL import Image

        if self.slide is None:
            # opened where it is read: a handle doesn't survive the fork
            self.slide = OpenSlide(self.path)
        level = self.slide.get_best_level_for_downsample(self.scale * 1.001)
        down = self.slide.level_downsamples[level]
        row, col = self.cells[index]
        edge = self.size * self.scale
        n = round(edge / down)
        image = self.slide.read_region((round(col * edge), round(row * edge)), level, (n, n)).convert("RGB")
        if n != self.size:
            image = image.resize((self.size, self.size), Image.Resampling.BICUBIC)
        return self.convert(image)


def loop(dataset: Tiles, model: Bare, workers: int, batch: int) -> np.ndarray:
    import torch

    dataset.slide = None
    loader = torch.utils.data.DataLoader(
        dataset, batch_size=batch, num_workers=workers, pin_memory=model.device.type == "cuda"
    )
    out = []
    for images in loader:
        images = images.to(model.device, non_blocking=True, memory_format=torch.channels_last)
        out.append(model.forward(images))
    return torch.cat(out).cpu().numpy()


def compare(path: Path, kind: str, options: argparse.Namespace) -> None:
    from napari_batchfx.slides import open_slide
    from napari_batchfx.tiles import TileGrid

    encoder = our_encoder(options)
    model = Bare(options, (encoder.mean, encoder.std))
    with open_slide(path) as slide:
        grid = TileGrid(slide, encoder.input_px, encoder.mpp)
        cells = grid.all_cells()[: options.tiles or None]
        dataset = Tiles(path, cells, encoder.input_px, encoder.mpp, slide.mpp[0], encoder.mean, encoder.std)
        print(
            f"\n{kind}: {slide.shape[0]} px at {slide.mpp[0]} um, {len(cells)} tiles, {path.stat().st_size / 1e6:.0f} MB"
        )
    with tempfile.TemporaryDirectory() as folder:
        count = iter(range(10_000))

        def run() -> np.ndarray:
            return ours(path, encoder, cells, Path(folder) / f"{next(count)}.zarr", options.workers)

        a, b = run(), loop(dataset, model, 0, options.batch)
        cosine = (a * b).sum(1) / np.linalg.norm(a, axis=1) / np.linalg.norm(b, axis=1)
        print(
            f"  vectors: median cosine {np.median(cosine):.6f}, worst {cosine.min():.6f} (the peer cuts at whole pixels)"
        )
        works: dict[str, Callable[[], object]] = {"ours, file to store": run}
        for n in options.loaders:
            works[f"DataLoader, num_workers={n}"] = lambda n=n: loop(dataset, model, n, options.batch)
        times: dict[str, list[float]] = {name: [] for name in works}
        for _ in range(options.rounds):
            for name, work in works.items():
                times[name].append(seconds(work)[0])
    first, *others = works
    best = min(others, key=lambda name: statistics.median(times[name]))
    for name, values in times.items():
        rates = sorted(len(cells) / v for v in values)
        line = f"  {name:32s} {statistics.median(rates):7.1f} tiles/s ({rates[0]:.1f}-{rates[-1]:.1f})"
        if name != first:
            ratios = sorted(v / o for v, o in zip(values, times[first], strict=True))
            line += f"; ours is {statistics.median(ratios):.2f} x as quick ({ratios[0]:.2f}-{ratios[-1]:.2f})"
            line += "  <- the best of them" if name == best else ""
        print(line, flush=True)
    encoder.close()


if __name__ == "__main__":
    main()
