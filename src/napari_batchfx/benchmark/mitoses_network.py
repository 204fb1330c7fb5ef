"""The mitoses through a whole network: trained on two scanners, tested on the third."""

from __future__ import annotations

import copy
from collections.abc import Generator
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from napari_batchfx.adapt.heads.network import AdaptiveNetwork
from napari_batchfx.adapt.heads.settings import TrainingSettings
from napari_batchfx.benchmark.mitoses_data import Mitoses, Split
from napari_batchfx.jobs import Progress

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
#: Episodic training goes on from the weights of the usual one: half the steps, a third of the rate.
FURTHER = {"steps": 60, "patience": 60, "rate": 1e-3}
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
    data: Mitoses, at: Split, tiles: NDArray[np.uint8]
) -> Generator[Progress, None, dict[str, dict[str, Any]]]:
    """Train and predict with every method: "adabn" shares the weights of "erm", the others go on from them.

    Returns
    -------
    dict
        For each method: {"natural": [...], "shifted": [...]}, lists of [where, row, probability of atypical].
    """
    import torch

    plain = TrainingSettings(**NETWORK_SETTINGS, seed=at.seed)  # type: ignore[arg-type]
    # as many images a step as the others have with their controls
    plain = replace(plain, targets=plain.targets + plain.controls)
    torch.manual_seed(at.seed)
    erm = AdaptiveNetwork(small_network(), "erm", plain)
    yield from _train(erm, data, at, tiles)
    results = {"erm": _test(erm, data, at, tiles)}
    erm.method = "adabn"
    results["adabn"] = _test(erm, data, at, tiles)
    for method in ("armbn", "csarmbn"):
        further = TrainingSettings(**(NETWORK_SETTINGS | FURTHER), seed=at.seed)  # type: ignore[arg-type]
        if method == "armbn":
            further = replace(further, targets=further.targets + further.controls)
        net = AdaptiveNetwork(copy.deepcopy(erm.module), method, further)
        yield from _train(net, data, at, tiles)
        results[method] = _test(net, data, at, tiles)
    return results


def _train(
    net: AdaptiveNetwork, data: Mitoses, at: Split, tiles: NDArray[np.uint8]
) -> Generator[Progress, None, None]:
    rows = np.flatnonzero(at.train)
    controls = data.label[rows] == "normal" if net.method == "csarmbn" else None
    yield from net.fit_job(
        tiles[rows], list(data.label[rows]), list(data.scanner[rows]), controls, list(data.patient[rows])
    )


def _test(net: AdaptiveNetwork, data: Mitoses, at: Split, tiles: NDArray[np.uint8]) -> dict[str, Any]:
    y = (data.label == "atypical").astype(np.intp)
    natural, shifted = [], []
    for where, test, controls in at.domains:
        natural += predict_rows(net, tiles, test, controls, where, at.seed)
        for batch in shifted_batches(y, test, at.seed) if where == "out" else ():
            shifted += predict_rows(net, tiles, batch, controls, where, at.seed)
    return {"natural": natural, "shifted": shifted}


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
        proba = net.predict(tiles[rows], mask, context=128, seed=seed).proba[: len(test)]
    else:
        proba = net.predict(tiles[test], context=128, seed=seed).proba
    k = net.classes.index("atypical")
    return [[where, int(r), round(float(p), 5)] for r, p in zip(test, proba[:, k], strict=True)]
