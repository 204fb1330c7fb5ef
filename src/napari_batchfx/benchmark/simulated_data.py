"""Real tissue and phantom seen through eight scanners, as features of batchfx-mini."""

from __future__ import annotations

from collections.abc import Generator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from napari_batchfx.benchmark.encoding import mini_features
from napari_batchfx.benchmark.scanners import eight_scanners
from napari_batchfx.encoders import load
from napari_batchfx.encoders.built_in import mini_version
from napari_batchfx.errors import SampleError
from napari_batchfx.jobs import Progress, Ticker
from napari_batchfx.samples import SCANNERS, Phantom

__all__ = ["CLASSES", "Simulated", "simulated_features"]

SIDE = 112
CLASSES = ("fat", "gland", "lymphoid", "stroma", "tumour")
_LAYOUT = {"fat": "fat", "gland": "gland", "lymphoid": "lymphoid", "stroma": "stroma", "tumour": "tumour"}
_CRC = {"ADI": "fat", "NORM": "gland", "LYM": "lymphoid", "STR": "stroma", "TUM": "tumour"}
_PHANTOMS = 12
_TILES_EACH = 12
_CONTROLS = 256


@dataclass(frozen=True)
class Simulated:
    """Features of the same tissue on every scanner.

    Attributes
    ----------
    x : float32 (scanners, n, d)
    label : object (n,)
        "" for controls.
    unit : object (n,)
        What belongs together: phantom, real tile or block of a real slide.
    control : bool (n,)
    scanners : list of str
    """

    x: NDArray[np.float32]
    label: NDArray[np.object_]
    unit: NDArray[np.object_]
    control: NDArray[np.bool_]
    scanners: list[str]


def simulated_features(
    data: Path, cache: Path, encoder: str = "batchfx-mini"
) -> Generator[Progress, None, Simulated]:
    """Render and encode, or read what an earlier call kept in ``cache``.

    ``encoder`` is "batchfx-mini", which has learned not to mind a scanner much, or "colour-statistics", which
    is nothing but colour.
    """
    of = f"mini-{mini_version()}" if encoder == "batchfx-mini" else encoder
    file = cache / f"simulated-{of}.npz"
    scanners = eight_scanners()
    if file.is_file():
        with np.load(file, allow_pickle=False) as kept:
            text: dict[str, Any] = {k: kept[k].astype(object) for k in ("label", "unit")}
            return Simulated(kept["x"], text["label"], text["unit"], kept["control"], list(scanners))
    tissue, label, unit = yield from _tissue(data)
    encode = mini_features() if encoder == "batchfx-mini" else load(encoder).embed
    ticker = Ticker(len(tissue) * len(scanners), "rendering and encoding", unit="tiles")
    x = []
    for k, scanner in enumerate(scanners.values()):
        rows = []
        for start in range(0, len(tissue), 32):
            part = tissue[start : start + 32]
            halo = 8
            views = [
                scanner.render(c, halo_px=halo, origin_px=(0, SIDE * (start + i)), seed=k, jpeg=True)
                for i, c in enumerate(part)
            ]
            rows.append(encode(np.stack(views)))
            yield ticker.tick(len(part))
        x.append(np.concatenate(rows))
    control = np.array([not v for v in label])
    file.parent.mkdir(parents=True, exist_ok=True)
    np.savez(file, x=np.stack(x), label=np.array(label), unit=np.array(unit), control=control)
    return Simulated(np.stack(x), np.array(label, object), np.array(unit, object), control, list(scanners))


def _tissue(data: Path) -> Generator[Progress, None, tuple[list[NDArray[np.float32]], list[str], list[str]]]:
    """Concentrations (SIDE + 16 px at 1 um) of all tiles, their classes and units."""
    side = SIDE + 16
    tissue: list[NDArray[np.float32]] = []
    label: list[str] = []
    unit: list[str] = []
    ticker = Ticker(0, "drawing tissue", unit="tiles")
    for name, layout in _LAYOUT.items():
        for seed in range(_PHANTOMS):
            phantom = Phantom(7000 + seed, (2000, 2000), layout)
            rng = np.random.default_rng([seed, 5])
            for _ in range(_TILES_EACH):
                y, x = rng.uniform(100, 1700, 2)
                tissue.append(phantom.concentrations(y, x, side, side, 1.0, workers=1))
                label.append(name)
                unit.append(f"phantom {seed}")
            yield ticker.tick(_TILES_EACH)
    for (where, what, place), image in _real_tiles(data):
        tissue.append(SCANNERS["neutral"].unmix(image, steps=8))
        label.append(what)
        unit.append(f"{where} {place}")
        yield ticker.tick()
    # controls: ordinary tissue of other phantoms, the same block on every scanner
    for i in range(_CONTROLS):
        layout = ("stroma", "gland", "lymphoid")[i % 3]
        phantom = Phantom(9000 + i // 32, (2000, 2000), layout)
        y, x = np.random.default_rng([i, 9]).uniform(100, 1700, 2)
        tissue.append(phantom.concentrations(y, x, side, side, 1.0, workers=1))
        label.append("")
        unit.append(f"control {i // 32}")
        if i % 8 == 0:
            yield ticker.tick(8)
    return tissue, label, unit


def _real_tiles(data: Path) -> Generator[tuple[tuple[str, str, str], NDArray[np.uint8]], None, None]:
    """((source, class, place), image of SIDE + 16 px at about 1 um) of Camelyon17 and CRC."""
    import pandas as pd
    from PIL import Image

    folder = data / "tiles"
    if not (folder / "camelyon17" / "tiles.csv").is_file():
        raise SampleError(
            "tiles/camelyon17: no such data; say with --data where the folder of real tiles is."
        )
    side = SIDE + 16
    table = pd.read_csv(folder / "camelyon17" / "tiles.csv").dropna(subset=["label"])
    opened: dict[str, Any] = {}
    for file, slide, row, col, x, y, label in table[
        ["file", "slide", "row", "col", "x", "y", "label"]
    ].itertuples(index=False):
        if label not in CLASSES:
            continue
        if file not in opened:
            opened[file] = Image.open(data / file).convert("RGB")
        # 0.25 um a pixel: a cell of 256 px is 64 um; the tile is filled by reflection to 128 um
        cell = opened[file].crop((x, y, x + 256, y + 256)).resize((64, 64), Image.Resampling.BOX)
        image = np.pad(np.asarray(cell), ((32, side - 96), (32, side - 96), (0, 0)), mode="reflect")
        yield (f"camelyon17 {slide}", str(label), f"{row // 4}-{col // 4}"), image
    for code, name in _CRC.items():
        for path in sorted((folder / "crc_val_he_7k" / code).glob("*.*")):
            cell = Image.open(path).convert("RGB").resize((112, 112), Image.Resampling.BOX)
            image = np.pad(np.asarray(cell), ((8, side - 120), (8, side - 120), (0, 0)), mode="reflect")
            yield ("crc", name, path.stem), image
