"""A study of four small slides that was encoded and probed, copied for each test."""

from __future__ import annotations

import shutil

import numpy as np
from tests.study.conftest import MPP, TILE, half, tissue

from napari_batchfx.jobs import run
from napari_batchfx.slides import write_pyramid
from napari_batchfx.study import Study

GAINS = {"A": (1.0, 1.0, 1.0), "B": (0.97, 0.99, 1.01)}


def make(folder, n=2, *, labels=True, rows=None):
    """``folder/s.batchfx`` with ``n`` slides of each of two scanners, a patient a slide; encoded and probed.

    ``rows``: only the upper so many rows of tiles are encoded.
    """
    with Study.create(folder / "s.batchfx") as study:
        for number in range(1, n + 1):
            image = tissue(number)
            for k, (scanner, gain) in enumerate(GAINS.items()):
                noise = np.random.default_rng(10 * number + k).normal(0, 0.01, image.shape)
                pixels = (np.clip(image * gain + noise, 0, 1) * 255).astype(np.uint8)
                name = f"{scanner}-{number}"
                path = write_pyramid(folder / f"{name}.tif", pixels, MPP, compression="deflate")
                study.add_slide(path, scanner=scanner, patient=f"P{number}{scanner}")
                if labels:
                    study.annotations += [half(name, "pale", "left"), half(name, "dense", "right")]
        study.settings.encode.size_px, study.settings.encode.mpp = TILE, MPP
        study.settings.probe.permutations, study.settings.probe.n_bootstrap = 3, 50
        cells = None if rows is None else {one.name: upper(study, one, rows) for one in study.slides}
        run(study.encode_job(cells=cells))
        run(study.probe_job())
        study.save()
    return folder


def upper(study, entry, rows):
    """Cells of the upper rows of a slide."""
    cells = study.grid(entry).cells(0.0)
    return cells[cells[:, 0] < rows]


def opened(folder, target, session):
    """A copy of such a folder, opened in the window."""
    shutil.copytree(folder, target)
    study = Study.open(target / "s.batchfx")
    session.replace_study(study)
    return study
