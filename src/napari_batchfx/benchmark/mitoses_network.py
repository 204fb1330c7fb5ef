"""The mitoses through a whole network: trained on two scanners, tested on the third."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from napari_batchfx.adapt.heads.network import AdaptiveNetwork
from napari_batchfx.adapt.heads.settings import TrainingSettings
from napari_batchfx.benchmark.mitoses_data import Mitoses, Split
from napari_batchfx.jobs import run

__all__ = ["NETWORK_SETTINGS", "middle", "run_network", "shifted_batches", "small_network"]

NETWORK_SETTINGS = {
    "targets": 32,
    "controls": 32,
    "domains": 1,
    "steps": 120,
    "patience": 120,
    "every": 20,
    "rate": 3e-3,
}
SIDE = 64
SHIFT_ALPHA = 0.1
SHIFT_BATCHES = 3


def middle(tiles: NDArray[np.uint8], side: int = SIDE) -> NDArray[np.uint8]:
    """The middle of each tile, where the mitosis is: 64 px, 16 um; what two shared cores can train on."""
    at = (tiles.shape[1] - side) // 2
    return np.ascontiguousarray(tiles[:, at : at + side, at : at + side])


def small_network(n_classes: int = 2) -> Any:
    """ResNet-10 (timm's resnet10t) of half the width, from random weights."""
    import timm

    return timm.create_model("resnet10t", num_classes=n_classes, channels=(32, 64, 128, 256), stem_width=16)


def shifted_batches(
    y: NDArray[np.intp], rows: NDArray[np.intp], seed: int, n: int = 64, alpha: float = SHIFT_ALPHA
) -> list[NDArray[np.intp]]:
    """Batches of ``n`` rows whose mixture of the two classes is drawn from Dirichlet(alpha)."""
    rng = np.random.default_rng([seed, 77])
    parts = [rows[y[rows] == c] for c in (0, 1)]
    batches = []
    for _ in range(SHIFT_BATCHES):
        counts = rng.multinomial(n, rng.dirichlet([alpha, alpha]))
        batches.append(
            np.concatenate(
                [rng.choice(p, k, replace=k > len(p)) for p, k in zip(parts, counts, strict=True) if k]
            )
        )
    return batches


def run_network(
    data: Mitoses,
    at: Split,
    method: str,
    tiles: NDArray[np.uint8],
) -> dict[str, dict[str, Any]]:
    """Train once and predict; "erm" gives "adabn" too, which shares its weights.

    Returns
    -------
    dict
        For each method: {"natural": [...], "shifted": [...]}, each a list of [where, row, probability of
        atypical].
    """
    import torch

    settings = TrainingSettings(**NETWORK_SETTINGS, seed=at.seed)  # type: ignore[arg-type]
    y = (data.label == "atypical").astype(np.intp)
    if method == "erm":  # as many images a step as the others have with their controls
        settings = replace(settings, targets=settings.targets + settings.controls)
    torch.manual_seed(at.seed)
    net = AdaptiveNetwork(small_network(), method, settings)
    rows = np.flatnonzero(at.train)
    normal = y[rows] == 0
    run(
        net.fit_job(
            tiles[rows],
            list(data.label[rows]),
            list(data.scanner[rows]),
            normal if method == "csarmbn" else None,
            list(data.patient[rows]),
        )
    )
    results: dict[str, dict[str, Any]] = {}
    for name in (method, "adabn") if method == "erm" else (method,):
        net.method = name
        natural, shifted = [], []
        for where, test, controls in at.domains:
            natural += predict_rows(net, tiles, test, controls, where, at.seed)
            for batch in shifted_batches(y, test, at.seed) if where == "out" else ():
                shifted += predict_rows(net, tiles, batch, controls, where, at.seed)
        results[name] = {"natural": natural, "shifted": shifted}
    return results


def predict_rows(
    net: AdaptiveNetwork,
    tiles: NDArray[np.uint8],
    test: NDArray[np.intp],
    controls: NDArray[np.intp],
    where: str,
    seed: int,
) -> list[list[Any]]:
    """[where, row, probability of atypical] of the test rows; no label is read."""
    rows = np.concatenate([test, controls])
    mask = np.arange(len(rows)) >= len(test)
    if net.method == "csarmbn":
        proba = net.predict(tiles[rows], mask, seed=seed).proba[: len(test)]
    else:
        proba = net.predict(tiles[test], seed=seed).proba
    k = net.classes.index("atypical")
    return [[where, int(r), round(float(p), 5)] for r, p in zip(test, proba[:, k], strict=True)]
