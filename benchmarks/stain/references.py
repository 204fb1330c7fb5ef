"""The built-in targets of each stain method: what it finds in tissue of one and the same look.

    python benchmarks/stain/references.py DATA

DATA is the folder of test data (tiles/camelyon17 and scanners/ki67-two-scanners in it). The look is that of
``REFERENCE``: eight Camelyon17 fields after Macenko normalisation, each slide with its own estimate.
"""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import tifffile
from skimage.io import imread

from napari_batchfx.stain import MacenkoNormalizer, estimate, methods
from napari_batchfx.stain.channels import nonnegative
from napari_batchfx.stain.estimate import optical_density
from napari_batchfx.stain.vectors import RUIFROK_DAB


def main() -> None:
    data = Path(sys.argv[1])
    looks = []
    for folder in sorted((data / "tiles/camelyon17").glob("patient*")):
        fields = np.stack([imread(path)[..., :3] for path in sorted(folder.glob("*.jpg"))])
        looks.append(MacenkoNormalizer().from_source(estimate(fields)).transform(fields))
    pixels = np.concatenate(looks).reshape(-1, 3)[::37]
    for one in methods():
        found = estimate(pixels, one.id)
        if one.id in ("macenko-cohort", "modified-reinhard"):
            continue
        if one.has_vectors:
            print(one.id, found.matrix.round(4).tolist(), found.max_concentration.round(4).tolist())
        else:
            print(one.id, found.mean.round(1).tolist(), found.std.round(1).tolist())
    strongest = []
    for name in ("OS-2-ndpi.ome.tif", "OS-2-vsi.ome.tif"):
        image = tifffile.imread(data / "scanners/ki67-two-scanners" / name)[..., :3]
        amounts = nonnegative(np.maximum(optical_density(image.reshape(-1, 3)[::5]), 0), RUIFROK_DAB)
        strongest.append(np.percentile(amounts, 99, axis=0))
        print(name, strongest[-1].round(3).tolist())
    print("H-DAB", np.mean(strongest, axis=0).round(2).tolist())


if __name__ == "__main__":
    main()
