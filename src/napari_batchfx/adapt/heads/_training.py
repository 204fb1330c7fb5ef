"""The training loop of the heads: one forward pass for all domains of a step, each normalised by itself."""

from __future__ import annotations

from collections.abc import Generator
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from napari_batchfx.adapt.heads import layers
from napari_batchfx.adapt.heads._data import TrainingData
from napari_batchfx.adapt.heads.episodes import EpisodeSampler
from napari_batchfx.adapt.heads.settings import TrainingPoint
from napari_batchfx.adapt.heads.statistics import MIN_CONTROLS, Statistics
from napari_batchfx.errors import AdaptError
from napari_batchfx.jobs import Progress, Ticker

if TYPE_CHECKING:
    from napari_batchfx.adapt.heads.base import NeuralHead

__all__ = ["train_head"]

_SOURCE_TILES = 8192


def train_head(head: NeuralHead, data: TrainingData) -> Generator[Progress, None, None]:
    """Train ``head`` in place; the weights of the best validation stay, also when the generator is closed."""
    import torch

    s = head.settings
    draw = EpisodeSampler(
        data.y,
        data.domain,
        data.control,
        data.train,
        n_targets=s.targets,
        n_controls=s.controls if head.with_controls else 0,
        label_shift=s.label_shift and head.episodic,
        seed=s.seed,
    )
    if head.with_controls:
        _check_controls(data, draw, head.batch)
    generator = torch.Generator().manual_seed(s.seed)
    net = _Net(data.x.shape[1], s.hidden, len(data.classes), generator)
    extra = _Adversary(net, len(data.domains), generator) if head.method == "dann" else None
    optimizer = torch.optim.Adam(
        [*net.parameters(), *(extra.parameters() if extra else [])], lr=s.rate, weight_decay=s.decay
    )
    x, truth = torch.from_numpy(data.x), torch.from_numpy(data.y)
    centre, scale = _first_look(data)
    x = (x - centre) / scale
    source_rows = _source_rows(data, draw, s.seed)
    best: tuple[float, layers.HeadWeights, list[Statistics]] = (float("inf"), {}, [])
    ticker = Ticker(s.steps, "training the classifier", unit="steps")
    losses: list[float] = []
    stale = 0
    domains_a_step = min(s.domains, len(draw.domains)) if len(draw.domains) > 1 else 1
    try:
        for step in range(1, s.steps + 1):
            optimizer.zero_grad(set_to_none=True)
            if head.episodic:
                drawn = [draw.episode(d) for d in draw.some_domains(domains_a_step)]
                rows = np.stack([np.concatenate(pair) for pair in drawn])
            else:
                rows = draw.mixed(s.targets * domains_a_step)[None]
            wanted = rows[:, : s.targets] if head.episodic else rows
            hidden = net.hidden(x[torch.from_numpy(rows)], s.dropout, generator)
            logits = net.classify(hidden[:, : wanted.shape[1]])
            loss = torch.nn.functional.cross_entropy(
                logits.reshape(-1, len(data.classes)), truth[torch.from_numpy(wanted)].reshape(-1)
            )
            if extra is not None:
                loss = loss + extra.loss(hidden, torch.from_numpy(data.domain[rows]), step / s.steps)
            loss.backward()  # type: ignore[no-untyped-call]
            optimizer.step()
            losses.append(float(loss.detach()))
            point = None
            if step % s.every == 0 or step == s.steps:
                weights = net.weights(centre, scale)
                source = layers.context_statistics(weights, data.x[source_rows])
                value = _validate(head, data, draw, weights, source)
                stale = 0 if value < best[0] else stale + s.every
                if value < best[0]:
                    best = (value, weights, source)
                    head._adopt(weights, source)
                point = TrainingPoint(step, float(np.mean(losses)), value, best[0])
                head.curve.append(point)
                losses = []
            yield ticker.tick(partial=point)
            if stale >= s.patience:
                break
    finally:
        if best[1]:
            head._adopt(best[1], best[2])


class _Net:
    """The head in torch; rows come as (domains, n, d) and are normalised over n."""

    def __init__(self, dim: int, hidden: tuple[int, int], n_classes: int, generator: Any) -> None:
        import torch

        self._p: dict[str, Any] = {}
        sizes = [dim, *hidden, n_classes]
        for i in range(3):
            bound = (6.0 / sizes[i]) ** 0.5 if i < 2 else (1.0 / sizes[i]) ** 0.5
            w = (torch.rand(sizes[i], sizes[i + 1], generator=generator) * 2 - 1) * bound
            self._p[f"w{i}"], self._p[f"b{i}"] = w, torch.zeros(sizes[i + 1])
            if i < 2:
                self._p[f"g{i}"], self._p[f"c{i}"] = torch.ones(sizes[i + 1]), torch.zeros(sizes[i + 1])
        for value in self._p.values():
            value.requires_grad_(True)

    def parameters(self) -> list[Any]:
        return list(self._p.values())

    def hidden(self, x: Any, dropout: float, generator: Any) -> Any:
        h = _norm(x)
        for i in (0, 1):
            h = _norm(h @ self._p[f"w{i}"] + self._p[f"b{i}"]) * self._p[f"g{i}"] + self._p[f"c{i}"]
            h = h.relu()
            if i == 0 and dropout:
                h = h * (_uniform(h, generator) >= dropout) / (1 - dropout)
        return h

    def classify(self, h: Any) -> Any:
        return h @ self._p["w2"] + self._p["b2"]

    def weights(self, centre: Any, scale: Any) -> layers.HeadWeights:
        """As float64 arrays, with the training's centre and scale of the features."""
        arrays = {name: value.detach().double().numpy().copy() for name, value in self._p.items()}
        return {**arrays, "centre": centre.double().numpy(), "scale": scale.double().numpy()}


def _norm(x: Any) -> Any:
    mean = x.mean(1, keepdim=True)
    centred = x - mean
    return centred / (centred.square().mean(1, keepdim=True) + layers.EPS).sqrt()


def _uniform(like: Any, generator: Any) -> Any:
    import torch

    return torch.rand(like.shape, generator=generator)


class _Adversary:
    """Domain classifier behind a gradient reversal (Ganin et al. 2016), its weight rising as there."""

    def __init__(self, net: _Net, n_domains: int, generator: Any) -> None:
        import torch

        width = net._p["w2"].shape[0]
        self._w = (torch.randn(width, n_domains, generator=generator) * 0.05).requires_grad_(True)
        self._b = torch.zeros(n_domains, requires_grad=True)

    def parameters(self) -> list[Any]:
        return [self._w, self._b]

    def loss(self, hidden: Any, domain: Any, progress: float, weight: float = 0.5) -> Any:
        import torch

        strength = weight * (2.0 / (1.0 + float(np.exp(-10.0 * progress))) - 1.0)
        # value of h, gradient of -strength * h
        reversed_ = hidden.detach() * (1 + strength) - strength * hidden
        logits = reversed_ @ self._w + self._b
        return torch.nn.functional.cross_entropy(logits.reshape(-1, logits.shape[-1]), domain.reshape(-1))


def _check_controls(data: TrainingData, draw: EpisodeSampler, batch: str) -> None:
    for d in draw.domains:
        n = len(draw.controls_of(d))
        if n < MIN_CONTROLS:
            raise AdaptError(
                f"{batch} {data.domains[d]} has {n} control samples for training; at least {MIN_CONTROLS} "
                f"are needed in every {batch}: mark more, or choose a method that needs none."
            )


def _first_look(data: TrainingData) -> tuple[Any, Any]:
    import torch

    rows = data.x[data.train].astype(np.float64)
    scale = rows.std(axis=0)
    scale[scale < 1e-12] = 1.0
    return torch.from_numpy(rows.mean(axis=0)).float(), torch.from_numpy(scale).float()


def _source_rows(data: TrainingData, draw: EpisodeSampler, seed: int) -> NDArray[np.intp]:
    """Labelled training rows, at most 8,192, the same number of each domain where there are enough."""
    rng = np.random.default_rng(seed)
    each = -(-_SOURCE_TILES // len(draw.domains))
    parts = []
    for d in draw.domains:
        rows = data.train[(data.domain[data.train] == d) & (data.y[data.train] >= 0)]
        parts.append(rng.choice(rows, each, replace=False) if len(rows) > each else rows)
    return np.sort(np.concatenate(parts))


def _validate(
    head: NeuralHead,
    data: TrainingData,
    draw: EpisodeSampler,
    weights: layers.HeadWeights,
    source: list[Statistics],
) -> float:
    """Log loss of the validation tiles, classes in equal parts, with the statistics of a new slide."""
    from napari_batchfx.probe.logistic import softmax

    valid = data.valid if len(data.valid) else data.train[data.y[data.train] >= 0]
    losses = []
    for d in np.unique(data.domain[valid]):
        rows = valid[data.domain[valid] == d][:2000]
        statistics = source
        if head.episodic:
            here = data.train[(data.domain[data.train] == d) & (data.y[data.train] >= 0)]
            here = here[:: max(1, len(here) // (2 * head.settings.targets))][: 2 * head.settings.targets]
            if head.with_controls and d in draw.domains:
                mine = draw.controls_of(d)[: 2 * head.settings.controls]
                here = np.concatenate([here, mine])
            if len(here) >= MIN_CONTROLS:
                statistics = layers.context_statistics(weights, data.x[here])
        proba = softmax(layers.forward(weights, data.x[rows], statistics))
        y = data.y[rows]
        loss = -np.log(np.maximum(proba[np.arange(len(rows)), y], 1e-12))
        losses.append(np.mean([loss[y == c].mean() for c in np.unique(y)]))
    return float(np.mean(losses))
