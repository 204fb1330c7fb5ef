"""A trained network on disk: safetensors with a JSON header."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from napari_batchfx.adapt.heads.settings import TrainingPoint, TrainingSettings
from napari_batchfx.adapt.state import read_state, write_state
from napari_batchfx.errors import AdaptError

if TYPE_CHECKING:
    from napari_batchfx.adapt.heads.network import AdaptiveNetwork

__all__ = ["NETWORK_KIND", "read_network", "write_network"]

NETWORK_KIND = "network-head"


def write_network(net: AdaptiveNetwork, path: str | Path) -> Path:
    """See :meth:`AdaptiveNetwork.save`."""
    arrays = {name: np.asarray(value.cpu().numpy()) for name, value in net._model.state_dict().items()}
    description = {
        "model": net.name,
        "named": isinstance(net._given, str),
        "method": net.method,
        "classes": list(net.classes),
        "mean": list(net.mean),
        "std": list(net.std),
        "input_px": net.input_px,
        "settings": net.settings.facts(),
        "provenance": net.provenance,
        "curve": [[p.step, p.loss, p.validation, p.best] for p in net.curve],
    }
    return write_state(path, NETWORK_KIND, description, arrays)


def read_network(cls: type[AdaptiveNetwork], path: str | Path, model: Any = None) -> AdaptiveNetwork:
    """See :meth:`AdaptiveNetwork.load`."""
    import torch

    from napari_batchfx.adapt.heads.network import _build

    kind, header, arrays = read_state(path)
    name = Path(path).name
    if kind != NETWORK_KIND:
        raise AdaptError(f"{name} holds {kind or 'something else'}, not a network.")
    if model is None and not header["named"]:
        raise AdaptError(
            f"{name} holds weights of {header['model']}, a network of your own: give it as model=..."
        )
    settings = dict(header["settings"])
    settings["hidden"] = tuple(settings["hidden"])
    net = cls(
        header["model"] if model is None else model,
        header["method"],
        TrainingSettings(**settings),
        mean=tuple(header["mean"]),
        std=tuple(header["std"]),
    )
    net.classes, net.input_px = tuple(header["classes"]), int(header["input_px"])
    net.provenance = header["provenance"]
    net.curve = [TrainingPoint(int(p[0]), *p[1:]) for p in header["curve"]]
    net._model = _build(net._given, len(net.classes))
    try:
        net._model.load_state_dict({k: torch.from_numpy(np.array(v)) for k, v in arrays.items()})
    except RuntimeError as error:
        raise AdaptError(f"{name}: its weights don't fit {header['model']} as it is built here.") from error
    net._model.eval()
    return net
