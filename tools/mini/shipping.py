"""From a finished training to the file in the package: averaged weights, settled statistics, half precision."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import torch
from safetensors.torch import save_file
from tools.mini.patches import Patches
from tools.mini.training import Recipe, Training, settled
from tools.mini.views import MEAN, STD

VERSION = 1
INPUT_PX, MPP = 224, 0.5
LIMIT_BYTES = 6_000_000


def tiles_as_used(patches: Patches, n: int, seed: int = 0) -> list[np.ndarray]:
    """Batches of training patches as the encoder will see tiles: 224 px at about 0.5 um, normalised."""
    rng = np.random.default_rng(seed)
    near = np.abs(np.log(patches.mpp / MPP)) < 0.8
    batches = []
    kinds = [np.flatnonzero((patches.source == k) & near[patches.first]) for k in range(len(patches.names))]
    kinds = [rows for rows in kinds if len(rows)]
    for _ in range(n):
        # half phantom, half real, as in the training
        rows = np.concatenate(
            [rng.choice(kinds[0], 32), *(rng.choice(k, 32 // max(1, len(kinds) - 1)) for k in kinds[1:])]
        )
        pixels = patches.pixels[np.sort(patches.first[rows])].astype(np.float32) / 255
        batches.append((pixels - np.array(MEAN, np.float32)) / np.array(STD, np.float32))
    return batches


def finish(training: Training, patches: Patches, batches: int = 30) -> torch.nn.Module:
    """The averaged network with the statistics of tiles as it will see them."""
    state = {k: v.cpu() for k, v in training.average.items()}
    return settled(state, training.recipe.architecture, tiles_as_used(patches, batches))


def write(network: torch.nn.Module, recipe: Recipe, patches: Patches, path: Path) -> Path:
    """Weights in half precision (norms and their statistics in full), with everything needed to use them.

    Raises
    ------
    ValueError
        If a number doesn't survive half precision, or the file is too large for the package.
    """
    tensors = {}
    for key, value in network.state_dict().items():
        small = value.half() if value.ndim > 1 else value
        if not torch.isfinite(small.float()).all():
            raise ValueError(f"{key} doesn't fit into half precision.")
        tensors[key] = small.contiguous()
    dim = int(network.conv_head.out_channels)
    config = {
        "input_size": [3, INPUT_PX, INPUT_PX],
        "mean": list(MEAN),
        "std": list(STD),
        "interpolation": "bicubic",
        "crop_pct": 1.0,
        "license": "BSD-3-Clause",
        "num_classes": 0,
    }
    own = {
        "name": "batchfx-mini",
        "version": VERSION,
        "mpp": MPP,
        "input_px": INPUT_PX,
        "assembly": "pooled",
        "dim": dim,
        "licence": "BSD-3-Clause",
        "trained_on": {name: int((patches.source == k).sum()) for k, name in enumerate(patches.names)},
        "objective": recipe.objective,
        "telling": recipe.telling,
        "steps": recipe.steps,
        "views": 2 * recipe.steps * recipe.places,
        "seed": recipe.seed,
    }
    metadata = {
        "architecture": recipe.architecture,
        "pretrained_cfg": json.dumps(config),
        "batchfx": json.dumps(own),
    }
    save_file(tensors, path, metadata=metadata)
    if path.stat().st_size > LIMIT_BYTES:
        raise ValueError(f"{path.name} has {path.stat().st_size:,} bytes; the package takes {LIMIT_BYTES:,}.")
    return path


def ship(path: Path) -> Path:
    """Copy the file to where the package looks for it."""
    from napari_batchfx.encoders.built_in import MINI_WEIGHTS

    MINI_WEIGHTS.parent.mkdir(exist_ok=True)
    return Path(shutil.copyfile(path, MINI_WEIGHTS))
