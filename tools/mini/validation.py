"""What recipes and checkpoints are chosen by: phantoms and osteosarcoma images that are neither trained nor tested on."""

from __future__ import annotations

from functools import cache
from pathlib import Path

import numpy as np
from benchmarks.encoders.labelled import Labelled, phantom
from benchmarks.encoders.protocol import PROBES, balanced_accuracy, cross_validated
from tools.mini.patches import VALIDATION_SEED, is_held_out, random_scanner, random_staining


@cache
def phantom_tiles() -> Labelled:
    """Phantoms of validation under four scanners that were drawn for them."""
    rng = np.random.default_rng(VALIDATION_SEED)
    scanners = {f"drawn {k}": random_scanner(rng, 0.5) for k in range(4)}
    stainings = {f"drawn {k}": random_staining(rng) for k in range(5)}
    return phantom(scanners, stainings, VALIDATION_SEED, n_phantoms=10, per_class=2)


@cache
def osteosarcoma_tiles(data: Path) -> Labelled:
    """Held-out osteosarcoma images, cut into nine tiles each; ``group`` is the image."""
    import csv

    from PIL import Image

    folder = data / "tiles" / "osteosarcoma_ut"
    with (folder / "metadata.csv").open(encoding="utf-8") as file:
        rows = [row for i, row in enumerate(csv.DictReader(file)) if is_held_out(i)]
    tiles, label, group = [], [], []
    for row in rows:
        pixels = np.asarray(Image.open(folder / row["file"]).convert("RGB"))
        for y in (32, 400, 768):
            for x in (32, 400, 768):
                tiles.append(pixels[y : y + 224, x : x + 224])
                label.append(row["label"])
                group.append(row["file"])
    return Labelled(np.stack(tiles), np.array(label), np.array(group), np.array(group))


def across_domains(x: np.ndarray, tiles: Labelled, probe) -> float:
    """Balanced accuracy of classes, trained on half of the scanners and the groups, tested on the rest; both ways."""
    domains = np.unique(tiles.domain)
    groups = np.unique(tiles.group)
    scores = []
    for k in (0, 1):
        train = np.isin(tiles.domain, domains[k::2]) & np.isin(tiles.group, groups[::2])
        test = np.isin(tiles.domain, domains[1 - k :: 2]) & np.isin(tiles.group, groups[1::2])
        found = probe(x[train], tiles.y[train], tiles.group[train], x[test])
        scores.append(balanced_accuracy(tiles.y[test], found))
    return float(np.mean(scores))


def validate(embed, data: Path) -> dict[str, float]:
    """Balanced accuracies of ``embed`` (tiles uint8 to vectors) on what is kept for choosing."""
    scores = {}
    tiles = phantom_tiles()
    x = embed(tiles.tiles)
    bone = osteosarcoma_tiles(data)
    xb = embed(bone.tiles)
    for name, probe in PROBES.items():
        scores[f"phantom classes, {name}"] = across_domains(x, tiles, probe)
        found = cross_validated(xb, bone.y, bone.group, probe)
        scores[f"osteosarcoma classes, {name}"] = balanced_accuracy(bone.y, found)
    scanner = np.unique(tiles.domain, return_inverse=True)[1]
    found = cross_validated(x, scanner, tiles.group, PROBES["linear probe"])
    scores["phantom scanners, linear probe"] = balanced_accuracy(scanner, found)
    return scores
