"""Compile what numba compiles, into the caches beside the source, by one small job of each kind.

About a minute of work in a fresh checkout, nothing in a second call. The processes of the tests, which start at the same
time, would otherwise each compile all of it.
"""

from __future__ import annotations

import tempfile

import numpy as np

from napari_batchfx import encoders
from napari_batchfx.jobs import run
from napari_batchfx.probe.neighbours import nearest
from napari_batchfx.samples import demo_pair
from napari_batchfx.stain.kernels import warm_up


def main() -> None:
    with tempfile.TemporaryDirectory() as folder:
        run(demo_pair(folder, size_um=150))
    rng = np.random.default_rng(0)
    encoders.load("colour-statistics").embed(rng.integers(0, 255, (2, 64, 64, 3), dtype=np.uint8))
    nearest(rng.normal(size=(40, 4)).astype(np.float32), k=3)
    warm_up()


if __name__ == "__main__":
    main()
