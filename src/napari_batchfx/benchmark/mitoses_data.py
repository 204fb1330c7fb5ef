"""The mitoses on three scanners: tiles at one pixel size, and who is trained on, tested on and a control."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from napari_batchfx.errors import SampleError
from napari_batchfx.probe.folds import grouped_folds

__all__ = ["Mitoses", "Split", "load_mitoses", "split"]

MPP = 0.25
SIDE = 96


@dataclass(frozen=True)
class Mitoses:
    """Tiles of 96 px at 0.25 um, and where they come from (all of length n)."""

    tiles: NDArray[np.uint8]
    label: NDArray[np.object_]
    scanner: NDArray[np.object_]
    patient: NDArray[np.object_]
    slide: NDArray[np.object_]

    def __len__(self) -> int:
        return len(self.label)


@dataclass(frozen=True)
class Split:
    """One seed with one scanner left out.

    Attributes
    ----------
    train : bool (n,)
        Patients of the other scanners that are trained on.
    domains : list of (name, rows, controls)
        What is tested, each with the normal mitoses of other patients of its scanner; ``name`` is "in" or
        "out".
    """

    scanner: str
    seed: int
    train: NDArray[np.bool_]
    domains: list[tuple[str, NDArray[np.intp], NDArray[np.intp]]]


def load_mitoses(data: Path) -> Mitoses:
    """Read the tiles of ``tiles/mitoses-three-scanners``.

    Raises
    ------
    SampleError
        If the folder isn't there.
    """
    import pandas as pd
    from PIL import Image

    folder = data / "tiles" / "mitoses-three-scanners"
    if not (folder / "tiles.csv").is_file():
        raise SampleError(f"{folder.name}: no such data; say with --data where the folder of real tiles is.")
    table = pd.read_csv(folder / "tiles.csv")
    tiles = np.empty((len(table), SIDE, SIDE, 3), np.uint8)
    for i, (file, mpp) in enumerate(zip(table["file"], table["mpp"], strict=True)):
        image = Image.open(folder / file).convert("RGB")
        side = round(image.width * mpp / MPP)
        # the pixel size tells the scanner too; at one pixel size only optics and colour do
        image = image.resize((side, side), Image.Resampling.BICUBIC) if side != image.width else image
        at = (side - SIDE) // 2
        tiles[i] = np.asarray(image)[at : at + SIDE, at : at + SIDE]
    text: dict[str, Any] = {
        c: table[c].astype(str).to_numpy(object) for c in ("label", "scanner", "patient", "slide")
    }
    return Mitoses(tiles, text["label"], text["scanner"], text["patient"], text["slide"])


def split(data: Mitoses, scanner: str, seed: int) -> Split:
    """Leave ``scanner`` out; a fifth of the other scanners' patients is the test inside.

    On the scanner left out patients are halved, and each half is predicted with the normal mitoses of the
    other half
    as controls. Inside, controls come from the patients that were trained on.
    """
    y = (data.label == "atypical").astype(np.intp)
    out = data.scanner == scanner
    patient = np.unique(data.patient, return_inverse=True)[1]
    held = np.zeros(len(data), bool)
    domains = []
    for name in sorted(set(data.scanner) - {scanner}):
        here = np.flatnonzero(data.scanner == name)
        held[here[grouped_folds(patient[here], y[here], 5, seed) == 0]] = True
        test = here[held[here]]
        domains.append(("in", test, here[~held[here] & (y[here] == 0)]))
    here = np.flatnonzero(out)
    half = grouped_folds(patient[here], y[here], 2, seed)
    for k in (0, 1):
        domains.append(("out", here[half == k], here[(half != k) & (y[here] == 0)]))
    return Split(scanner, seed, ~out & ~held, domains)
