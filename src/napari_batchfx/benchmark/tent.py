"""Entropy minimisation at test time, for comparison in the benchmark only."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from napari_batchfx.adapt.heads import layers
from napari_batchfx.adapt.row_order import row_order

__all__ = ["tent"]


def tent(
    head: Any, x: NDArray[np.float32], rows: NDArray[np.intp], context: int, seed: int, steps: int = 10
) -> NDArray[np.float64]:
    """Probabilities after ``steps`` steps on scale and shift of the normalisations that lower the entropy.

    After Wang et al. 2021, "Tent" (ICLR): statistics of the new tiles, and gradient steps (Adam, 1e-3) on the
    entropy of their predictions. It reads no label, and nothing keeps it from one class for all.

    Parameters
    ----------
    head : NeuralHead
        Trained as usual.
    x : float32 (n, d)
        All tiles of the domain.
    rows : int (m,)
        Those that take part, at most ``context`` of them.
    """
    import torch

    from napari_batchfx.probe.logistic import softmax

    chosen = x[rows[row_order(x[rows], seed)[:context]]]
    w = {k: torch.from_numpy(v.copy()) for k, v in head._weights.items()}
    moved = [w[k].requires_grad_(True) for k in ("g0", "c0", "g1", "c1")]
    optimizer = torch.optim.Adam(moved, lr=1e-3)
    data = (torch.from_numpy(chosen.astype(np.float64)) - w["centre"]) / w["scale"]

    def norm(h: Any) -> Any:
        centred = h - h.mean(0)
        return centred / (centred.square().mean(0) + layers.EPS).sqrt()

    for _ in range(steps):
        h = norm(data)
        for i in (0, 1):
            h = (norm(h @ w[f"w{i}"] + w[f"b{i}"]) * w[f"g{i}"] + w[f"c{i}"]).relu()
        log_p = (h @ w["w2"] + w["b2"]).log_softmax(1)
        optimizer.zero_grad()
        (-(log_p.exp() * log_p).sum(1).mean()).backward()
        optimizer.step()
    weights = {k: v.detach().numpy() for k, v in w.items()}
    statistics = layers.context_statistics(weights, chosen)
    return np.asarray(softmax(layers.forward(weights, x, statistics)))
