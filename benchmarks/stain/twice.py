"""How far a second normalisation moves what was normalised already, and why.

    python benchmarks/stain/twice.py [--data ../shared/data]

The stain is estimated anew on the result of the first pass. Columns: the method as it is; the published arithmetic;
Macenko with the tissue pixels of the first pass kept for the second ("same pixels"), and with white at 255 on top.
Grey levels: mean, 99 %, largest.
"""

from __future__ import annotations

import argparse
import os
from pathlib import Path

import numpy as np
from skimage.io import imread

from napari_batchfx.stain import StainTransform, estimate, methods, reference
from napari_batchfx.stain.estimate import tissue_pixels

PICTURES = ("stain/torchstain/source.png", "stain/torchstain/target.png", "stain/henorm/example1.png")


def moved(once: np.ndarray, again: np.ndarray) -> str:
    error = np.abs(again.astype(int) - once)
    return f"{error.mean():.2f} / {np.percentile(error, 99):.0f} / {error.max()}"


def held(image: np.ndarray, white: float) -> str:
    """Macenko with the pixels that were tissue at first, whatever they have become."""
    whites = (white,) * 3
    kept = tissue_pixels(image.reshape(-1, 3), white=whites).reshape(image.shape[:2])
    target = reference("macenko")

    def normalised(pixels: np.ndarray, white_now: tuple[float, float, float]) -> np.ndarray:
        found = estimate(pixels[kept], beta=-9.0, white=white_now)
        return StainTransform(found, target).transform(pixels)

    once = normalised(image, whites)
    return moved(once, normalised(once, (240.0,) * 3))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument(
        "--data", type=Path, default=Path(os.environ.get("BATCHFX_TEST_DATA", "../shared/data"))
    )
    data = parser.parse_args().data
    for name in PICTURES:
        image = np.ascontiguousarray(imread(data / name)[..., :3])
        print(name)
        for one in methods():
            for published in (False, True):
                normalizer = one.normalizer(as_published=published)
                once = normalizer.transform(image)
                print(
                    f"  {one.id:18s}{' published' if published else ''}",
                    moved(once, normalizer.transform(once)),
                )
        for white in (240.0, 255.0):
            print(f"  macenko, same pixels, white {white:.0f}:", held(image, white))


if __name__ == "__main__":
    main()
