"""A small head as arrays: normalisations, two hidden layers, classes; in float64, without torch."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from napari_batchfx.adapt.heads.statistics import Statistics, blend

__all__ = ["EPS", "N_NORMS", "HeadWeights", "blended", "context_statistics", "forward"]

EPS = 1e-5
N_NORMS = 3
CHUNK = 4096

HeadWeights = dict[str, NDArray[np.float64]]
"""``centre, scale`` of the training features; ``w0, b0, g0, c0``: a linear layer, scale and shift of its
normalisation; ``w1 ... c1``; ``w2, b2``."""


def _norm(x: NDArray[np.float64], one: Statistics) -> NDArray[np.float64]:
    return (x - one.mean) / np.sqrt(one.var + EPS)


def _scaled(weights: HeadWeights, x: NDArray[np.floating]) -> NDArray[np.float64]:
    return np.asarray((np.asarray(x, dtype=np.float64) - weights["centre"]) / weights["scale"])


def _layer(weights: HeadWeights, i: int, x: NDArray[np.float64]) -> NDArray[np.float64]:
    return np.asarray(x @ weights[f"w{i}"] + weights[f"b{i}"])


def forward(
    weights: HeadWeights, x: NDArray[np.floating], statistics: Sequence[Statistics], chunk: int = CHUNK
) -> NDArray[np.float64]:
    """Logits (n, classes) of rows (n, d) with given statistics; the rows don't see each other."""
    out = np.empty((len(x), weights["w2"].shape[1]))
    for start in range(0, len(x), chunk):
        h = _norm(_scaled(weights, x[start : start + chunk]), statistics[0])
        for i in (0, 1):
            h = _norm(_layer(weights, i, h), statistics[i + 1]) * weights[f"g{i}"] + weights[f"c{i}"]
            h = np.maximum(h, 0.0)
        out[start : start + chunk] = _layer(weights, 2, h)
    return out


def context_statistics(weights: HeadWeights, x: NDArray[np.floating]) -> list[Statistics]:
    """Statistics of the three normalisations over a context (n, d), the layers before each adapted."""
    h = _scaled(weights, x)
    found = [Statistics.of(h)]
    h = _norm(h, found[0])
    for i in (0, 1):
        z = _layer(weights, i, h)
        found.append(Statistics.of(z))
        h = np.maximum(_norm(z, found[-1]) * weights[f"g{i}"] + weights[f"c{i}"], 0.0)
    return found


def blended(new: Sequence[Statistics], source: Sequence[Statistics], weight: float) -> list[Statistics]:
    """Layer by layer :func:`~napari_batchfx.adapt.heads.statistics.blend`."""
    return [blend(a, b, weight) for a, b in zip(new, source, strict=True)]
