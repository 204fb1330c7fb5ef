"""The training loop of :class:`~napari_batchfx.adapt.heads.network.AdaptiveNetwork`."""

from __future__ import annotations

import copy
from collections.abc import Generator
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from napari_batchfx.adapt.heads._norms import chunked, norm_statistics, set_norms
from napari_batchfx.adapt.heads.episodes import EpisodeSampler
from napari_batchfx.adapt.heads.settings import TrainingPoint
from napari_batchfx.adapt.heads.statistics import MIN_CONTROLS
from napari_batchfx.errors import AdaptError
from napari_batchfx.jobs import Progress, Ticker
from napari_batchfx.probe.folds import grouped_folds

if TYPE_CHECKING:
    from napari_batchfx.adapt.heads.network import AdaptiveNetwork

__all__ = ["train_network"]


def train_network(
    net: AdaptiveNetwork,
    images: NDArray[np.uint8],
    y: NDArray[np.intp],
    domain: NDArray[np.intp],
    control: NDArray[np.bool_],
    group: NDArray[np.intp],
) -> Generator[Progress, None, None]:
    """Train ``net`` in place; the weights of the best validation stay, also when the generator is closed."""
    import torch

    s, model = net.settings, net._model
    episodic, with_controls = net.method in ("armbn", "csarmbn"), net.method == "csarmbn"
    train, valid = _split(y, group, s.seed)
    draw = EpisodeSampler(
        y,
        domain,
        control,
        train,
        n_targets=s.targets,
        n_controls=s.controls if with_controls else 0,
        label_shift=s.label_shift and episodic,
        seed=s.seed,
    )
    if with_controls:
        for d in draw.domains:
            if len(draw.controls_of(d)) < MIN_CONTROLS:
                raise AdaptError(
                    f"Domain {net.provenance['domains'][d]} has {len(draw.controls_of(d))} control samples; "
                    f"csarmbn needs {MIN_CONTROLS} or more in every training domain."
                )
    rng = np.random.default_rng(s.seed + 1)
    optimizer = torch.optim.AdamW(model.parameters(), lr=s.rate, weight_decay=s.decay)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, s.rate, total_steps=s.steps, pct_start=0.2)
    truth = torch.from_numpy(y)
    best: tuple[float, Any] = (float("inf"), None)
    ticker = Ticker(s.steps, "training the network", unit="steps")
    losses: list[float] = []
    stale = 0
    try:
        for step in range(1, s.steps + 1):
            model.train()
            optimizer.zero_grad(set_to_none=True)
            batches = (
                [draw.episode(d) for d in draw.some_domains(s.domains)]
                if episodic
                else [(draw.mixed(s.targets * s.domains), np.zeros(0, np.intp))]
            )
            total = 0.0
            for targets, controls in batches:
                rows = np.concatenate([targets, controls])
                (x,) = chunked(_augment(images[rows], rng), len(rows), net.mean, net.std)
                # running statistics of single domains mean nothing: they are computed anew below
                logits = model(x)[: len(targets)]
                loss = torch.nn.functional.cross_entropy(logits, truth[targets]) / len(batches)
                loss.backward()  # type: ignore[no-untyped-call]
                total += float(loss.detach())
            optimizer.step()
            schedule.step()
            losses.append(total)
            point = None
            if step % s.every == 0 or step == s.steps:
                value = _validate(net, images, y, domain, control, train, valid)
                stale = 0 if value < best[0] else stale + s.every
                if value < best[0]:
                    best = (value, copy.deepcopy(model.state_dict()))
                point = TrainingPoint(step, float(np.mean(losses)), value, best[0])
                net.curve.append(point)
                losses = []
            yield ticker.tick(partial=point)
            if stale >= s.patience:
                break
    finally:
        if best[1] is not None:
            model.load_state_dict(best[1])
        _source_statistics(net, images, draw)
        model.eval()


def _augment(images: NDArray[np.uint8], rng: np.random.Generator) -> NDArray[np.uint8]:
    """Each image turned and mirrored at random: no colour, which is what the domains differ in."""
    out = np.empty_like(images)
    square = images.shape[1] == images.shape[2]
    for i, image in enumerate(images):
        turned = np.rot90(image, int(rng.integers(4)) if square else 2 * int(rng.integers(2)))
        out[i] = turned[:, ::-1] if rng.integers(2) else turned
    return out


def _split(
    y: NDArray[np.intp], group: NDArray[np.intp], seed: int
) -> tuple[NDArray[np.intp], NDArray[np.intp]]:
    """Rows to train on, and labelled rows of about a seventh of the groups to validate on."""
    labelled = np.flatnonzero(y >= 0)
    folds = grouped_folds(group[labelled], y[labelled], 7, seed)
    for k in range(7):
        valid = labelled[folds == k]
        rest = labelled[folds != k]
        if len(valid) and len(np.unique(y[rest])) == len(np.unique(y[labelled])):
            mine = np.isin(group, np.unique(group[valid]))
            return np.flatnonzero(~mine), valid
    return np.arange(len(y)), labelled


def _validate(
    net: AdaptiveNetwork,
    images: NDArray[np.uint8],
    y: NDArray[np.intp],
    domain: NDArray[np.intp],
    control: NDArray[np.bool_],
    train: NDArray[np.intp],
    valid: NDArray[np.intp],
) -> float:
    """Cross-entropy of held-out tiles, classes the same weight, as the network would be used."""
    from napari_batchfx.adapt.heads._norms import adapted

    losses = np.zeros(len(y))
    model = net._model
    for d in np.unique(domain[valid]):
        rows = valid[domain[valid] == d]
        if net.method in ("armbn", "csarmbn"):
            here = train[(domain[train] == d) & (y[train] >= 0)][: net.settings.targets]
            if net.method == "csarmbn":
                mine = train[(domain[train] == d) & control[train]][: net.settings.controls]
                here = np.concatenate([here, mine])
            context = norm_statistics(model, chunked(images[here], len(here), net.mean, net.std))
            with adapted(model, context):
                proba = net._predict(model, images[rows], 64).proba
        else:
            proba = net._predict(model, images[rows], 64).proba
        losses[rows] = -np.log(np.maximum(proba[np.arange(len(rows)), y[rows]], 1e-12))
    return float(np.mean([losses[valid][y[valid] == c].mean() for c in np.unique(y[valid])]))


def _source_statistics(net: AdaptiveNetwork, images: NDArray[np.uint8], draw: EpisodeSampler) -> None:
    """Statistics of the training tiles, domains in equal parts: what the network falls back to."""
    rows = np.unique(draw.mixed(256))
    set_norms(net._model, norm_statistics(net._model, chunked(images[rows], len(rows), net.mean, net.std)))
