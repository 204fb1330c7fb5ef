"""Training of one slide-level head with given weight and temperature of the contrastive term."""

from __future__ import annotations

from collections.abc import Generator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from napari_batchfx.adapt.mil.bags import Bag
from napari_batchfx.adapt.mil.contrast import scanner_contrast
from napari_batchfx.jobs import Progress, Ticker

__all__ = ["MILSettings", "specimens", "train_mil"]

HIDDEN, ATTENTION, PROJECTION = 48, 24, 96


@dataclass(frozen=True)
class MILSettings:
    """Numbers of a training.

    Attributes
    ----------
    steps : int
    specimens : int
        Specimens of a step, each on all of its scanners.
    tiles : int
        Tiles of a bag in a step, drawn anew.
    rate, decay : float
        Of Adam.
    same_label_negatives : bool
        Whether specimens of the anchor's class are pushed away too.
    seed : int
    """

    steps: int = 150
    specimens: int = 16
    tiles: int = 64
    rate: float = 2e-3
    decay: float = 1e-4
    same_label_negatives: bool = True
    seed: int = 0


def specimens(bags: Sequence[Bag], scanners: Sequence[str]) -> dict[str, list[Bag | None]]:
    """Bags of each specimen in the order of the scanners, None where it was not scanned there."""
    found: dict[str, list[Bag | None]] = {}
    for bag in bags:
        found.setdefault(bag.specimen, [None] * len(scanners))[scanners.index(bag.scanner)] = bag
    return found


def train_mil(
    bags: Sequence[Bag],
    classes: Sequence[str],
    weight: float,
    tau: float,
    s: MILSettings,
    keep: dict[str, Any],
    ticker: Ticker,
) -> Generator[Progress, None, None]:
    """Train, putting the weights into ``keep["weights"]`` now and then and at the end."""
    import torch

    scanners = sorted({bag.scanner for bag in bags})
    by_specimen = specimens(bags, scanners)
    names = sorted(by_specimen)
    y = np.array([classes.index(next(b.label for b in by_specimen[n] if b is not None)) for n in names])
    centre, scale = _scale(bags)
    rng = np.random.default_rng(s.seed)
    generator = torch.Generator().manual_seed(s.seed)
    p = _parameters(len(centre), len(classes), generator)
    optimizer = torch.optim.Adam(list(p.values()), lr=s.rate, weight_decay=s.decay)
    for step in range(1, s.steps + 1):
        chosen = _draw(y, min(s.specimens, len(names)), rng)
        x, there = _batch([by_specimen[names[i]] for i in chosen], s.tiles, centre, scale, rng)
        optimizer.zero_grad(set_to_none=True)
        z = _pooled(p, torch.from_numpy(x))
        truth = torch.from_numpy(y[chosen])
        mask = torch.from_numpy(there)
        logits = z @ p["class"] + p["class_bias"]
        each = torch.nn.functional.cross_entropy(
            logits.reshape(-1, len(classes)), truth.repeat_interleave(len(scanners)), reduction="none"
        ).reshape(mask.shape)
        # the mean over a specimen's scanners first: no scanner and no specimen counts more than another
        loss = ((each * mask).sum(1) / mask.sum(1)).mean()
        if weight:
            projected = torch.nn.functional.normalize(z @ p["project"] + p["project_bias"], dim=-1)
            projected = torch.where(mask[..., None], projected, torch.full_like(projected, float("nan")))
            loss = loss + weight * scanner_contrast(projected, tau, None if s.same_label_negatives else truth)
        loss.backward()  # type: ignore[no-untyped-call]
        optimizer.step()
        if step % 25 == 0 or step == s.steps:
            keep["weights"] = {k: v.detach().double().numpy().copy() for k, v in p.items()}
            keep["weights"] |= {"centre": centre, "scale": scale}
        keep.setdefault("losses", []).append(float(loss.detach()))
        yield ticker.tick(partial=keep["losses"][-1])


def _scale(bags: Sequence[Bag]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    x = np.concatenate([bag.features for bag in bags]).astype(np.float64)
    sd = x.std(axis=0)
    return x.mean(axis=0), np.where(sd < 1e-12, 1.0, sd)


def _parameters(dim: int, n_classes: int, generator: Any) -> dict[str, Any]:
    import torch

    shapes = {
        "in": (dim, HIDDEN),
        "v": (HIDDEN, ATTENTION),
        "u": (HIDDEN, ATTENTION),
        "attend": (ATTENTION,),
        "class": (HIDDEN, n_classes),
        "project": (HIDDEN, PROJECTION),
    }
    p = {
        name: (torch.randn(shape, generator=generator) * (1.0 / shape[0]) ** 0.5).requires_grad_(True)
        for name, shape in shapes.items()
    }
    for name in ("in", "v", "u", "class", "project"):
        p[f"{name}_bias"] = torch.zeros(shapes[name][1], requires_grad=True)
    return p


def _pooled(p: dict[str, Any], x: Any) -> Any:
    """(specimens, scanners, tiles, d) to (specimens, scanners, 48)."""
    h = (x @ p["in"] + p["in_bias"]).relu()
    gate = (h @ p["v"] + p["v_bias"]).tanh() * (h @ p["u"] + p["u_bias"]).sigmoid()
    a = (gate @ p["attend"]).softmax(-1)
    return (a[..., None] * h).sum(-2)


def _draw(y: NDArray[np.intp], n: int, rng: np.random.Generator) -> NDArray[np.intp]:
    """``n`` specimens without repetition, classes in turn."""
    order = rng.permutation(len(y))
    turn = np.zeros(len(y))
    for c in np.unique(y):
        mine = order[y[order] == c]
        turn[mine] = np.arange(len(mine)) + rng.uniform(0, 1)
    return np.asarray(order[np.argsort(turn[order], kind="stable")][:n], dtype=np.intp)


def _batch(
    chosen: Sequence[list[Bag | None]],
    tiles: int,
    centre: NDArray[np.float64],
    scale: NDArray[np.float64],
    rng: np.random.Generator,
) -> tuple[NDArray[np.float32], NDArray[np.bool_]]:
    n_scanners = len(chosen[0])
    x = np.zeros((len(chosen), n_scanners, tiles, len(centre)), np.float32)
    there = np.zeros((len(chosen), n_scanners), bool)
    for i, views in enumerate(chosen):
        for k, bag in enumerate(views):
            if bag is None:
                continue
            rows = rng.choice(len(bag.features), tiles, replace=len(bag.features) < tiles)
            x[i, k] = (bag.features[rows] - centre) / scale
            there[i, k] = True
    return x, there
