"""A study of four small slides that was encoded and probed, copied for each test."""

from __future__ import annotations

import shutil

import numpy as np
from tests.study.conftest import MPP, TILE, half, tissue

from napari_batchfx.jobs import run
from napari_batchfx.slides import write_pyramid
from napari_batchfx.study import Study

GAINS = {"A": (1.0, 1.0, 1.0), "B": (0.97, 0.99, 1.01)}


def make(folder, n=2, *, labels=True):
    """``folder/s.batchfx`` with ``n`` slides of each of two scanners, a patient a slide; encoded and probed."""
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
        run(study.encode_job())
        run(study.probe_job())
        study.save()
    return folder


def opened(folder, target, session):
    """A copy of such a folder, opened in the window."""
    shutil.copytree(folder, target)
    study = Study.open(target / "s.batchfx")
    session.replace_study(study)
    return study
