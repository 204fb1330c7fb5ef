"""Batch normalisations of a torch network: their exact statistics over a context, set and put back."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import numpy as np
from numpy.typing import NDArray

from napari_batchfx.adapt.heads.statistics import Statistics, blend, merge

__all__ = ["adapted", "chunked", "has_norms", "norm_statistics", "norms", "set_norms"]


def norms(model: Any) -> list[Any]:
    """Batch normalisations with running statistics, in the order of ``modules()``."""
    from torch.nn.modules.batchnorm import _BatchNorm

    return [m for m in model.modules() if isinstance(m, _BatchNorm) and m.running_mean is not None]


def has_norms(model: Any) -> bool:
    """Whether there is anything to adapt."""
    return bool(norms(model))


def chunked(images: NDArray[np.uint8], chunk: int, mean: Sequence[float], std: Sequence[float]) -> list[Any]:
    """Normalised float32 tensors (<= chunk, 3, h, w), channels last."""
    import torch

    m = torch.tensor(mean).view(1, 3, 1, 1) * 255
    s = torch.tensor(std).view(1, 3, 1, 1) * 255
    out = []
    for start in range(0, len(images), chunk):
        x = torch.from_numpy(np.ascontiguousarray(images[start : start + chunk])).permute(0, 3, 1, 2)
        out.append(((x.float() - m) / s).contiguous(memory_format=torch.channels_last))
    return out


def norm_statistics(model: Any, chunks: Sequence[Any]) -> list[Statistics]:
    """Statistics of every batch normalisation's input over all chunks, the layers before it adapted.

    One chunk needs one pass. Several are exact too, and cost a pass a layer: the statistics of a layer are
    merged over
    the chunks (:func:`~napari_batchfx.adapt.heads.statistics.merge`) before the next layer is looked at.
    """
    import torch

    layers = norms(model)
    found: dict[int, Statistics] = {}
    kept = [(m.running_mean, m.running_var) for m in layers]
    model.eval()
    try:
        with torch.no_grad():
            if len(chunks) == 1:
                found, _ = _look(model, layers, chunks[0], found, once=False)
            else:
                while len(found) < len(layers):
                    seen: dict[int, list[Statistics]] = {}
                    for x in chunks:
                        for index, one in _look(model, layers, x, found, once=True)[0].items():
                            seen.setdefault(index, []).append(one)
                    if not seen:
                        break  # layers that no chunk reaches keep what they have
                    found |= {index: merge(parts) for index, parts in seen.items()}
                    for index in seen:
                        _set(layers[index], found[index])
    finally:
        for m, (mean, var) in zip(layers, kept, strict=True):
            m.running_mean, m.running_var = mean, var
    return [
        found.get(i) or Statistics(m.running_mean.double().numpy(), m.running_var.double().numpy(), 0)
        for i, m in enumerate(layers)
    ]


class _Enough(Exception):
    pass


def _look(
    model: Any, layers: list[Any], x: Any, known: dict[int, Statistics], *, once: bool
) -> tuple[dict[int, Statistics], None]:
    """Statistics of the layers that aren't known yet; ``once``: of the first of them only."""
    found = dict(known) if not once else {}

    def hook(index: int) -> Any:
        def see(module: Any, inputs: tuple[Any, ...]) -> None:
            if index in known or (once and found):
                if once and found:
                    raise _Enough
                return
            values = inputs[0].double()
            axes = [0, *range(2, values.dim())]
            mean = values.mean(axes)
            shape = [1, -1, *[1] * (values.dim() - 2)]
            var = ((values - mean.view(shape)) ** 2).mean(axes)
            found[index] = Statistics(mean.numpy(), var.numpy(), values.numel() // values.shape[1])
            if not once:
                _set(module, found[index])

        return see

    handles = [m.register_forward_pre_hook(hook(i)) for i, m in enumerate(layers)]
    try:
        model(x)
    except _Enough:
        pass
    finally:
        for handle in handles:
            handle.remove()
    return found, None


def _set(layer: Any, one: Statistics) -> None:
    import torch

    layer.running_mean = torch.from_numpy(one.mean).to(layer.running_mean.dtype)
    layer.running_var = torch.from_numpy(one.var).to(layer.running_var.dtype)


def set_norms(model: Any, statistics: Sequence[Statistics]) -> None:
    """Make statistics those that the network is evaluated with."""
    for layer, one in zip(norms(model), statistics, strict=True):
        _set(layer, one)


@contextmanager
def adapted(model: Any, statistics: Sequence[Statistics], weight: float = 1.0) -> Iterator[Any]:
    """The network with other statistics, ``weight`` parts of them; its own are put back."""
    layers = norms(model)
    kept = [(m.running_mean, m.running_var) for m in layers]
    try:
        for layer, one in zip(layers, statistics, strict=True):
            own = Statistics(layer.running_mean.double().numpy(), layer.running_var.double().numpy(), one.n)
            _set(layer, blend(one, own, weight))
        yield model
    finally:
        for m, (mean, var) in zip(layers, kept, strict=True):
            m.running_mean, m.running_var = mean, var
