"""Estimating the stain of a slide: seconds of each method, reading included, nothing cached.

    python benchmarks/stain/estimation.py SLIDE [--large]

With ``--large`` the slide's pixels are first laid out many times into a pyramid of 20,000 px a side.
"""

from __future__ import annotations

import argparse
import os
import tempfile
import time
from pathlib import Path

import numpy as np

from napari_batchfx import open_slide
from napari_batchfx.slides import write_pyramid
from napari_batchfx.stain import estimate_slide, methods


def enlarged(path: Path, folder: Path, side: int = 20_000) -> Path:
    with open_slide(path) as slide:
        pixels = slide.read(0, 0, 0, *slide.levels[0].shape)
        mpp = slide.mpp[0] if slide.mpp else 0.5
    times = [-(-side // n) for n in pixels.shape[:2]]
    return write_pyramid(folder / "large.tif", np.tile(pixels, (*times, 1))[:side, :side], mpp)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("slide", type=Path)
    parser.add_argument("--large", action="store_true")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        path = enlarged(options.slide, Path(folder)) if options.large else options.slide
        for one in methods():
            seconds = []
            for _ in range(3):
                with open_slide(path) as slide:  # a fresh one: no decoded tile is kept
                    start = time.perf_counter()
                    found = estimate_slide(slide, one.id)
                    seconds.append(time.perf_counter() - start)
                    shape = slide.levels[0].shape
            print(
                f"{one.id}: {np.median(seconds):.2f} s ({min(seconds):.2f}-{max(seconds):.2f}), "
                f"{found.n_pixels:,} pixels of {shape[0]} x {shape[1]}, load {os.getloadavg()[0]:.1f}"
            )


if __name__ == "__main__":
    main()
