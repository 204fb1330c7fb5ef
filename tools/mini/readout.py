"""The last layer: about a hundred numbers read from every level of the network, in closed form.

The vector has two parts. The first are the principal components of what was told (colour statistics and appearance);
the second are principal components of the last level's 1,280 features, of what the first leaves: what contrast has
learned. Both are read by ridge regression from the features and from mean and standard deviation of the channels of
each level (:func:`napari_batchfx.encoders.levels.level_statistics`), all standardised. It is fitted on tiles as they are
used, 224 px, and each number is centred and has a spread of one.
"""

from __future__ import annotations

import json
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
from tools.mini.patches import Patches
from tools.mini.views import MEAN, STD, ViewMaker, ViewSettings
from torch import nn

from napari_batchfx.encoders.levels import level_statistics, read_levels

TILE_PX = 224
PER_BATCH = 16
LOOK = {"mpp_low": 0.38, "mpp_high": 0.75, "stain": 0.1, "blur": 0.2, "other": 0.0, "phantom_share": 0.25}


@dataclass(frozen=True)
class Tiles:
    """Tiles uint8 (n, 224, 224, 3), and what is told of them (n, k)."""

    pixels: np.ndarray
    told: np.ndarray


@dataclass(frozen=True)
class Recipe:
    """What decides the last layer."""

    tiles: int = 2048
    told: int = 64
    left: int = 32
    penalty: float = 0.03  # of the ridge regression on standardised columns
    seed: int = 2


def make_tiles(
    patches: Patches, views: ViewSettings, n: int, seed: int, folder: Path, threads: int = 2
) -> Tiles:
    """Training tiles under many colours, written into ``folder``; nothing is done where they are there."""
    done = folder / "tiles.json"
    wanted = {"n": n, "seed": seed}
    if not (done.exists() and json.loads(done.read_text("utf-8")) == wanted):
        folder.mkdir(parents=True, exist_ok=True)
        maker = ViewMaker(patches, replace(views, **LOOK), seed, threads, "all")
        pixels = np.lib.format.open_memmap(folder / "tiles.npy", "w+", np.uint8, (n, TILE_PX, TILE_PX, 3))
        told = []
        for i in range(0, n, 2 * PER_BATCH):
            seen, said = maker.batch(i, PER_BATCH, TILE_PX)
            pixels[i : i + len(seen)] = np.rint((seen * np.float32(STD) + np.float32(MEAN)) * 255).clip(
                0, 255
            )
            told.append(said)
        pixels.flush()
        np.save(folder / "told.npy", np.concatenate(told))
        done.write_text(json.dumps(wanted), encoding="utf-8")
    return Tiles(np.load(folder / "tiles.npy", mmap_mode="r"), np.load(folder / "told.npy"))


@torch.inference_mode()
def features(network: nn.Module, tiles: np.ndarray, size: int = 16) -> np.ndarray:
    """What the network's levels give of tiles uint8 (n, px, px, 3): float64 (n, 1,280 + 2 x channels)."""
    out = []
    mean, std = torch.tensor(MEAN), torch.tensor(STD)
    for i in range(0, len(tiles), size):
        x = torch.from_numpy(np.array(tiles[i : i + size])).float() / 255
        out.append(level_statistics(network, ((x - mean) / std).permute(0, 3, 1, 2)).numpy())
    return np.concatenate(out).astype(np.float64)


def components(x: np.ndarray, k: int) -> tuple[np.ndarray, np.ndarray]:
    """The first ``k`` principal directions (d, k) of centred ``x`` (n, d), and the spread along each."""
    values, vectors = np.linalg.eigh(x.T @ x / len(x))
    values, vectors = values[::-1][:k], vectors[:, ::-1][:, :k]
    return vectors * np.where(vectors.sum(0) < 0, -1.0, 1.0), np.sqrt(np.maximum(values, 1e-12))


def standardised(x: np.ndarray, floor: float = 1e-4) -> np.ndarray:
    """Columns centred, with a spread of one, within 5 of it."""
    return np.clip((x - x.mean(0)) / np.maximum(x.std(0), floor), -5, 5)


def ridge(x: np.ndarray, y: np.ndarray, penalty: float) -> np.ndarray:
    """Coefficients (d, k) of centred ``x`` (n, d) for ``y`` (n, k); ``penalty`` in units of the mean variance."""
    gram = x.T @ x / len(x)
    return np.linalg.solve(gram + penalty * np.trace(gram) / len(gram) * np.eye(len(gram)), x.T @ y / len(x))


def targets(f: np.ndarray, told: np.ndarray, recipe: Recipe) -> np.ndarray:
    """What the vector should be (n, told + left), from features (n, 1,280) and what is told (n, k)."""
    z = standardised(told.astype(np.float64))
    directions, spread = components(z - z.mean(0), recipe.told)
    y = (z - z.mean(0)) @ directions / spread
    x = f - f.mean(0)
    rest = x - y @ (y.T @ x / len(x))  # the columns of y are uncorrelated, with a spread of one
    directions, spread = components(rest, recipe.left)
    return np.concatenate([y, rest @ directions / spread], 1)


def fit(network: nn.Module, tiles: Tiles, recipe: Recipe) -> tuple[nn.Module, np.ndarray]:
    """The network with its last layer, and the share of each target that is read from tiles held out (an eighth)."""
    every = features(network, tiles.pixels)
    y = targets(every[:, : network.head_hidden_size], tiles.told, recipe)
    centre, scale = every.mean(0), np.maximum(every.std(0), 1e-4)
    x = (every - centre) / scale
    # pairs of views lie in one batch: held out by batches
    batch = np.arange(len(x)) // (2 * PER_BATCH)
    held = np.isin(batch, np.unique(batch)[::8])
    read = x[held] @ ridge(x[~held], y[~held], recipe.penalty)
    explained = 1 - (read - y[held]).var(0) / np.maximum(y[held].var(0), 1e-9)

    w = ridge(x, y, recipe.penalty)
    w /= np.maximum((x @ w).std(0), 1e-3) * scale[:, None]
    network = read_levels(network, recipe.told + recipe.left)
    with torch.no_grad():
        network.classifier.weight.copy_(torch.from_numpy(w.T))
        network.classifier.bias.copy_(torch.from_numpy(-centre @ w))
    return network.eval(), explained
