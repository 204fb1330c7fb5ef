"""Pathology encoders by name: the rows of ``registry.json``."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from importlib import resources
from typing import Any

__all__ = ["ENCODERS", "EncoderSpec", "find_spec"]

Three = tuple[float, float, float]


@dataclass(frozen=True)
class EncoderSpec:
    """One row of the registry.

    Parameters
    ----------
    name, title : str
        Name to load it by, and as its authors write it.
    hub_id : str
        Repository on the Hugging Face Hub.
    dim : int
        Length of the vector.
    assembly : str
        How its authors put the vector together: ``"cls"`` (class token), ``"cls+mean"`` (class token and mean
        of the patch tokens, registers left out), ``"pooled"``; other words where it can't be loaded here.
    prefix_tokens : int
        Class and register tokens before the patch tokens; checked against the model.
    norm : tuple
        (mean, std) as the authors give them; compared with the configuration that comes with the weights.
    licence : str
        Licence of the weights.
    gated : bool
        Whether the authors' terms have to be accepted on the hub first.
    model_kwargs : mapping
        Arguments to timm beyond those in the repository's configuration.
    input_px, mpp
        Tile side in pixels and pixel size in micrometres.
    note : str
        What a user should know.
    library : {"timm", "transformers", "none"}
        What builds the model; ``"none"`` where only program code from its authors could.
    architecture : str
        timm's name of the architecture, for repositories without ``config.json``.
    weights_file : str
        Name of the weights' file where it isn't one of the usual.
    model_type, published_model_type : str
        transformers' name of the architecture, and the one in the repository where it differs.
    timm_name : str
        timm's name with the tag of the weights, for models of timm itself.
    interpolation : str
        ``"bilinear"``, ``"bicubic"``, or empty where the authors don't say.
    other_assemblies : mapping
        Other assemblies in use and the length of their vectors.
    parameters : int or None
        Number of parameters, where published.
    size_mb : float or None
        Size of the download in MB, where published.
    publisher, licence_url, citation : str
        Who published it, where the licence is, and the paper (``doi:``, ``arXiv:`` or an address).
    refused, instead : str
        Why it can't be loaded here, and what to do instead.
    """

    name: str
    title: str
    hub_id: str
    dim: int
    assembly: str
    prefix_tokens: int
    norm: tuple[Three, Three]
    licence: str
    gated: bool
    model_kwargs: Mapping[str, Any] = field(default_factory=dict)
    input_px: int = 224
    mpp: float = 0.5
    note: str = ""
    library: str = "timm"
    architecture: str = ""
    weights_file: str = ""
    model_type: str = ""
    published_model_type: str = ""
    timm_name: str = ""
    interpolation: str = ""
    other_assemblies: Mapping[str, int] = field(default_factory=dict)
    parameters: int | None = None
    size_mb: float | None = None
    publisher: str = ""
    licence_url: str = ""
    citation: str = ""
    refused: str = ""
    instead: str = ""

    @property
    def size_bytes(self) -> int | None:
        """Size of the download in bytes: as published, else four bytes a parameter."""
        if self.size_mb is not None:
            return round(self.size_mb * 1e6)
        return 4 * self.parameters if self.parameters else None

    @property
    def size_is_estimate(self) -> bool:
        """Whether :attr:`size_bytes` is only four bytes a parameter."""
        return self.size_mb is None


def _row(values: dict[str, Any]) -> EncoderSpec:
    mean, std = values.pop("mean"), values.pop("std")
    norm = ((mean[0], mean[1], mean[2]), (std[0], std[1], std[2]))
    return EncoderSpec(hub_id=values.pop("repository"), norm=norm, **values)


def _read() -> tuple[EncoderSpec, ...]:
    text = resources.files("napari_batchfx.encoders").joinpath("registry.json").read_text("utf-8")
    return tuple(_row(values) for values in json.loads(text))


#: Facts from the model cards and the loaders of permissively licensed evaluation suites; see the
#: documentation of encoders.
ENCODERS: tuple[EncoderSpec, ...] = _read()


def find_spec(name: str) -> EncoderSpec | None:
    """Row of a registry name, an authors' title, or a hub id; case doesn't matter.

    Examples
    --------
    >>> find_spec("hf-hub:paige-ai/virchow2").dim
    2560
    """
    wanted = name.lower().removeprefix("hf-hub:").removeprefix("hf_hub:").split("@")[0]
    for spec in ENCODERS:
        if wanted in (spec.name, spec.title.lower(), spec.hub_id.lower()):
            return spec
    return None
