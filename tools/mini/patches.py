"""What batchfx-mini is trained on: phantom tissue under many scanners, and the real images whose licence allows it.

Patches of 224 px as bytes in one file, so that an epoch costs no decoding. The phantom's come in twos: the same
tissue on two scanners and with two stainings.
"""

from __future__ import annotations

import csv
import json
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from napari_batchfx.samples import SCANNERS, Phantom, ScannerModel, StainBatch

PATCH_PX = 224
TRAINING_SEED = 700_000  # phantoms of training: seeds from here on
VALIDATION_SEED = 800_000
EVALUATION_SEED = 900_000
TRAINING_SCANNERS = ("aperio_cs2", "neutral")  # the two others of the package are kept for the evaluation
MPPS = (0.25, 0.35, 0.5, 0.5, 0.7)
OSTEOSARCOMA_MPP = 1.0  # about: the collection is at 10x


@dataclass(frozen=True)
class Patches:
    """Patches and what belongs together.

    ``pixels`` uint8 (n, 224, 224, 3); ``mpp`` (n,) um; ``first``, ``second`` (m,) the two patches that views of one
    place are cut from, ``source`` (m,) index into ``names``.
    """

    pixels: np.ndarray
    mpp: np.ndarray
    first: np.ndarray
    second: np.ndarray
    source: np.ndarray
    names: tuple[str, ...]


def random_scanner(rng: np.random.Generator, mpp: float) -> ScannerModel:
    """A scanner that nobody built: white, tone curve, colours, optics and noise drawn around those of real ones."""
    mixing = rng.normal(0.0, 0.08, (3, 3))
    np.fill_diagonal(mixing, 0.0)
    np.fill_diagonal(mixing, 1.0 - mixing.sum(1))
    gamma = rng.uniform(0.8, 1.3) * np.exp(rng.normal(0.0, 0.12, 3))
    white = np.minimum(rng.uniform(228.0, 254.0) + rng.normal(0.0, 3.0, 3), 255.0)
    return ScannerModel(
        "drawn",
        white=tuple(white.tolist()),
        gamma=tuple(gamma.tolist()),
        matrix=tuple(tuple(row) for row in mixing.tolist()),
        mpp=mpp,
        blur_um=float(rng.uniform(0.15, 0.6)),
        noise=float(rng.uniform(0.5, 3.0)),
        jpeg_quality=int(rng.integers(70, 96)),
    )


def random_staining(rng: np.random.Generator) -> StainBatch:
    """A laboratory that nobody runs."""
    h, e = np.exp(rng.normal(0.0, 0.25, 2))
    return StainBatch("drawn", float(h), float(e), float(rng.uniform(-2, 5)), float(rng.uniform(-3, 4)))


def training_scanner(rng: np.random.Generator, mpp: float) -> ScannerModel:
    """One of the training scanners, or a drawn one (four times in five)."""
    if rng.random() < 0.2:
        return SCANNERS[str(rng.choice(TRAINING_SCANNERS))].with_(mpp=mpp)
    return random_scanner(rng, mpp)


def phantom_pairs(
    n: int, seed: int, workers: int = 2, side_um: float = 1200.0
) -> tuple[np.ndarray, np.ndarray]:
    """``n`` places of many phantoms, each on two scanners: uint8 (n, 2, 224, 224, 3), and their mpp (n,)."""
    out = np.empty((n, 2, PATCH_PX, PATCH_PX, 3), np.uint8)
    mpps = np.empty(n, np.float32)
    per_phantom = 24

    def draw(k: int) -> None:
        rng = np.random.default_rng([seed, k])
        layout = "gallery" if rng.random() < 0.8 else "resection"
        phantom = Phantom(seed + k, (side_um, side_um), layout)
        for i in range(k * per_phantom, min(n, (k + 1) * per_phantom)):
            mpp = float(rng.choice(MPPS))
            reach = side_um - PATCH_PX * mpp
            for _ in range(4):  # glass is seldom kept
                y, x = rng.uniform(0.0, reach, 2)
                kinds = phantom.classes(y, x, 8, 8, PATCH_PX * mpp / 8, workers=1)
                if (kinds == 0).mean() < 0.5 or rng.random() < 0.1:
                    break
            conc = phantom.concentrations(
                y - 4 * mpp, x - 4 * mpp, PATCH_PX + 8, PATCH_PX + 8, mpp, workers=1
            )
            staining = random_staining(rng)
            for j in (0, 1):
                if j and rng.random() < 0.5:
                    staining = random_staining(rng)
                scanner = training_scanner(rng, mpp)
                seen = scanner.render(
                    conc, staining, halo_px=4, seed=int(rng.integers(1 << 30)), jpeg=rng.random() < 0.5
                )
                out[i, j] = seen
            mpps[i] = mpp

    with ThreadPoolExecutor(workers) as pool:
        list(pool.map(draw, range(-(-n // per_phantom))))
    return out, mpps


def is_held_out(index: int) -> bool:
    """Whether an osteosarcoma image (by its row in the table) is kept for validation: every third."""
    return index % 3 == 2


def real_images(data: Path) -> list[tuple[str, np.ndarray, float]]:
    """Name of the source, pixels and um/px of every real image that is trained on."""
    import tifffile
    from PIL import Image

    from napari_batchfx.slides import open_slide

    with open_slide(data / "slides" / "CMU-1-Small-Region.svs") as slide:
        images = [("CMU-1", slide.read(0, 0, 0, *slide.shape), float(slide.mpp[0]))]
    pair = data / "scanners" / "ki67-two-scanners"
    for name, source, mpp in (
        ("OS-1-detail.ome.tif", "OS-1", 0.2271),
        ("OS-2-ndpi.ome.tif", "OS-2 Hamamatsu", 0.2271),
        ("OS-2-vsi.ome.tif", "OS-2 Olympus", 0.3461),
    ):
        pixels = tifffile.imread(pair / name)
        images.append((source, pixels, mpp))
    folder = data / "tiles" / "osteosarcoma_ut"
    with (folder / "metadata.csv").open(encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    for i, row in enumerate(rows):
        if not is_held_out(i):
            images.append(
                (
                    "osteosarcoma",
                    np.asarray(Image.open(folder / row["file"]).convert("RGB")),
                    OSTEOSARCOMA_MPP,
                )
            )
    return images


def cut(pixels: np.ndarray, stride: int) -> np.ndarray:
    """Overlapping patches that cover an image, uint8 (n, 224, 224, 3); those of empty glass are left out."""
    starts = [
        np.unique(np.append(np.arange(0, s - PATCH_PX, stride), s - PATCH_PX)) for s in pixels.shape[:2]
    ]
    found = [pixels[y : y + PATCH_PX, x : x + PATCH_PX] for y in starts[0] for x in starts[1]]
    kept = [p for k, p in enumerate(found) if (p.min(-1) < 215).mean() > 0.05 or k % 16 == 0]
    return np.ascontiguousarray(np.stack(kept))


def halved(pixels: np.ndarray) -> np.ndarray:
    """Half the size, each pixel the mean of four."""
    h, w = (s // 2 * 2 for s in pixels.shape[:2])
    four = pixels[:h, :w].reshape(h // 2, 2, w // 2, 2, 3).astype(np.uint16).sum((1, 3))
    return ((four + 2) // 4).astype(np.uint8)


def make(data: Path, folder: Path, n_phantom: int, workers: int = 2) -> Path:
    """Write ``patches.npy`` and ``patches.json`` into ``folder``; nothing is done where they are there."""
    done = folder / "patches.json"
    if done.exists() and json.loads(done.read_text("utf-8"))["n_phantom"] == n_phantom:
        return folder
    folder.mkdir(parents=True, exist_ok=True)
    pairs, mpp = phantom_pairs(n_phantom, TRAINING_SEED, workers)
    blocks, mpps = [pairs.reshape(-1, PATCH_PX, PATCH_PX, 3)], [np.repeat(mpp, 2)]
    first, second = [2 * np.arange(n_phantom)], [2 * np.arange(n_phantom) + 1]
    source, names, n = [np.zeros(n_phantom, int)], ["phantom"], 2 * n_phantom
    for name, pixels, um in real_images(data):
        if name not in names:
            names.append(name)
        levels = [(pixels, um)] if um > 0.6 else [(pixels, um), (halved(pixels), 2 * um)]
        for level, level_um in levels:
            if min(level.shape[:2]) < PATCH_PX:
                continue
            block = cut(level, PATCH_PX // 2)
            index = n + np.arange(len(block))
            blocks.append(block)
            mpps.append(np.full(len(block), level_um))
            first.append(index)
            second.append(index)
            source.append(np.full(len(block), names.index(name)))
            n += len(block)
    np.save(folder / "patches.npy", np.concatenate(blocks))
    said = {
        "n_phantom": n_phantom,
        "names": names,
        "mpp": np.concatenate(mpps).round(4).tolist(),
        "first": np.concatenate(first).tolist(),
        "second": np.concatenate(second).tolist(),
        "source": np.concatenate(source).tolist(),
    }
    done.write_text(json.dumps(said), encoding="utf-8")
    return folder


def load(folder: Path) -> Patches:
    """Read what :func:`make` wrote; the pixels stay on the disk and are mapped."""
    said = json.loads((folder / "patches.json").read_text("utf-8"))
    return Patches(
        np.load(folder / "patches.npy", mmap_mode="r"),
        np.array(said["mpp"], np.float32),
        np.array(said["first"]),
        np.array(said["second"]),
        np.array(said["source"]),
        tuple(said["names"]),
    )
