"""The linear layer of Kömen et al. 2024: Adam, cross-entropy, the weights of the lowest validation loss."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from napari_batchfx.probe.probes import LinearScorer, Scaler

__all__ = ["fit_adam_layer"]

LEARNING_RATE = 1e-3
TILES_A_STEP = 100
EPOCHS = 20
MIN_STEPS = 1_000


def fit_adam_layer(
    x: NDArray[np.float32],
    y: NDArray[np.intp],
    weight: NDArray[np.floating],
    validation: NDArray[np.bool_],
    n_classes: int,
    seed: int,
    train: NDArray[np.bool_] | None = None,
) -> LinearScorer:
    """Train one linear layer as the paper does.

    Adam at a rate of 0.001, batches of 100 tiles, 20 passes (or 1,000 steps where that is more: with few
    tiles 20 passes are a handful of steps), and the weights of the pass with the lowest validation loss.
    Tiles are drawn in proportion to ``weight``, as the paper draws the same number from every slide.

    Parameters
    ----------
    x : float32 (n, d)
        Features; standardised here on the rows that are trained on.
    y : int (n,)
        Batches, 0 .. n_classes - 1.
    weight : float (n,)
        Every batch the same in sum, and every slide within its batch.
    validation : bool (n,)
        Rows that only choose the pass; no group of them is in the others.
    seed : int
        Of draws.
    train : bool (n,), optional
        Rows that are trained on; all but ``validation`` otherwise.

    Returns
    -------
    LinearScorer

    References
    ----------
    Kömen et al. 2024, arXiv:2411.05489, section 4.1.
    """
    import torch

    taken = np.flatnonzero(~validation if train is None else train)
    scaler = Scaler.fit(x[taken], weight[taken])
    generator = torch.Generator().manual_seed(seed)
    layer = torch.nn.Linear(x.shape[1], n_classes)
    with torch.no_grad():
        bound = 1.0 / np.sqrt(x.shape[1])
        for parameter in layer.parameters():  # torch's own start, of this seed alone
            parameter.copy_((torch.rand(parameter.shape, generator=generator) * 2 - 1) * bound)
    optimiser = torch.optim.Adam(layer.parameters(), lr=LEARNING_RATE)
    mean, scale = torch.from_numpy(scaler.mean), torch.from_numpy(scaler.scale)
    features, target = torch.from_numpy(np.ascontiguousarray(x)), torch.from_numpy(y.astype(np.int64))
    rows = torch.from_numpy(taken)
    cumulative = torch.from_numpy(np.cumsum(np.asarray(weight, dtype=np.float64)[taken]))
    held = torch.from_numpy(np.flatnonzero(validation))
    held_weight = torch.from_numpy(np.asarray(weight, dtype=np.float32)[validation])
    steps = -(-len(taken) // TILES_A_STEP)
    passes = max(EPOCHS, -(-MIN_STEPS // steps))
    # few tiles mean hundreds of short passes: looking every 50 steps is enough
    look = max(steps, 50)
    best, kept = np.inf, [p.detach().clone() for p in layer.parameters()]
    for step in range(passes * steps):
        draw = torch.rand(TILES_A_STEP, generator=generator, dtype=torch.float64) * cumulative[-1]
        at = rows[torch.searchsorted(cumulative, draw).clamp(max=len(rows) - 1)]
        loss = torch.nn.functional.cross_entropy(layer((features[at] - mean) / scale), target[at])
        optimiser.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]  # torch leaves it untyped
        optimiser.step()
        if (step + 1) % look == 0 or step + 1 == passes * steps:
            with torch.no_grad():
                total = 0.0
                for part in range(0, len(held), 8192):
                    some = held[part : part + 8192]
                    out = layer((features[some] - mean) / scale)
                    nll = torch.nn.functional.cross_entropy(out, target[some], reduction="none")
                    total += float(nll @ held_weight[part : part + 8192])
            if total < best:
                best, kept = total, [p.detach().clone() for p in layer.parameters()]
    coef = (kept[0].numpy() / scaler.scale).T
    return LinearScorer(scaler.mean, np.ascontiguousarray(coef, dtype=np.float32), kept[1].numpy())
