"""From a finished training to the file in the package: averaged weights, settled statistics, half precision."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import torch
from safetensors import safe_open
from safetensors.torch import load_file, save_file
from tools.mini import readout
from tools.mini.patches import Patches
from tools.mini.training import Recipe, Training, settled
from tools.mini.views import MEAN, STD

VERSION = 3
INPUT_PX, MPP = readout.TILE_PX, 0.5
LIMIT_BYTES = 6_000_000


def finish(
    training: Training, tiles: readout.Tiles, recipe: readout.Recipe | None = None, log=None
) -> torch.nn.Module:
    """The averaged network with BatchNorm's statistics of tiles as it will see them, and a last layer fitted to them."""
    state = {k: v.cpu() for k, v in training.average.items()}
    pixels = tiles.pixels[:: max(1, len(tiles.pixels) // 1024)]
    batches = [
        (pixels[i : i + 64].astype(np.float32) / 255 - np.float32(MEAN)) / np.float32(STD)
        for i in range(0, len(pixels), 64)
    ]
    network = settled(state, training.recipe.architecture, batches)
    return _fitted(network, tiles, recipe or readout.Recipe(), log)


def save(training: Training, path: Path) -> Path:
    """The averaged weights of a stage, in half precision, for the next one to start from."""
    tensors = {k: v.half() if v.ndim > 1 else v for k, v in training.average.items()}
    save_file({k: v.cpu().contiguous() for k, v in tensors.items()}, path)
    return path


def weights(path: Path) -> dict[str, torch.Tensor]:
    """Weights of a stage, or of version 1, in single precision."""
    return {k: v.float() if v.is_floating_point() else v for k, v in load_file(path).items()}


def with_last_layer(
    path: Path, tiles: readout.Tiles, recipe: readout.Recipe | None = None, log=None
) -> tuple[torch.nn.Module, Recipe]:
    """A network that was shipped, its BatchNorm statistics as they are, with the last layer fitted anew.

    Also the recipe of its own training, as far as its header says it.
    """
    import timm

    with safe_open(path, framework="pt") as file:
        said = file.metadata()
    state = {k: v for k, v in weights(path).items() if not k.startswith("classifier.")}
    network = timm.create_model(said["architecture"], pretrained=False, num_classes=0)
    network.load_state_dict(state)
    own = json.loads(said["batchfx"])
    names = ("objective", "telling", "told", "begun", "steps", "seed")
    trained = Recipe(
        architecture=said["architecture"],
        places=own["views"] // (2 * own["steps"]),
        **{name: own[name] for name in names if name in own},
    )
    return _fitted(network.eval(), tiles, recipe or readout.Recipe(), log), trained


def _fitted(network: torch.nn.Module, tiles: readout.Tiles, recipe: readout.Recipe, log) -> torch.nn.Module:
    network, explained = readout.fit(network, tiles, recipe)
    if log is not None:
        said, left = explained[: recipe.told].mean(), explained[recipe.told :].mean()
        log(f"of tiles held out the last layer reads {said:.3f} of what was told, {left:.3f} of the rest")
    return network


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
    dim = int(network.classifier.out_features)
    config = {
        "input_size": [3, INPUT_PX, INPUT_PX],
        "mean": list(MEAN),
        "std": list(STD),
        "interpolation": "bicubic",
        "crop_pct": 1.0,
        "license": "BSD-3-Clause",
        "num_classes": dim,
    }
    own = {
        "name": "batchfx-mini",
        "version": VERSION,
        "mpp": MPP,
        "input_px": INPUT_PX,
        "assembly": "pooled",
        "dim": dim,
        "projected": dim,
        "levels": True,
        "licence": "BSD-3-Clause",
        "trained_on": {name: int((patches.source == k).sum()) for k, name in enumerate(patches.names)},
        "objective": recipe.objective,
        "telling": recipe.telling,
        "told": recipe.told,
        "begun": recipe.begun,
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
