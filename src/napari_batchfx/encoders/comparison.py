"""The registry's row against what came with the weights: differences are told, misleading ones refused."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import Any

from napari_batchfx.encoders.registry import EncoderSpec
from napari_batchfx.errors import EncoderError

__all__ = ["compare"]


def compare(
    spec: EncoderSpec,
    config: dict[str, Any],
    given: Mapping[str, Any],
    prefix_tokens: int,
    defaults: Mapping[str, Any] = MappingProxyType({}),
) -> list[str]:
    """Warnings where the model's configuration and the registry differ; the registry fills its gaps.

    Parameters
    ----------
    spec : EncoderSpec
        The row.
    config : dict
        input_size, mean, std and interpolation of ``timm.data.resolve_model_data_config``; changed in place
        where the weights came without a value.
    given : mapping
        What came with the weights.
    prefix_tokens : int
        Class and register tokens of the model.
    defaults : mapping
        mean and std that the library has for every model of this architecture. Where the weights came with
        no more
        than these, nobody has said anything of them, and the row counts.

    Raises
    ------
    EncoderError
        If the model has other class and register tokens than its authors describe.
    """
    if spec.assembly != "pooled" and prefix_tokens != spec.prefix_tokens:
        # averaging register tokens as if they were patches would change the vector without a sign
        raise EncoderError(
            f"{spec.title}: the model has {prefix_tokens} class and register tokens where "
            f"{spec.prefix_tokens} are expected; the weights are another model's."
        )
    notes = []
    unsaid = bool(defaults) and all(_close(config[key], defaults[key]) for key in ("mean", "std"))
    for key, expected in (("mean", spec.norm[0]), ("std", spec.norm[1])):
        if given.get(key) is None:
            config[key] = expected
        elif _close(config[key], expected):
            continue
        elif unsaid:
            notes.append(
                f"{spec.title}: the weights came with the {key} that timm has for the architecture "
                f"({_numbers(config[key])}); the one that its authors publish ({_numbers(expected)}) is used."
            )
            config[key] = expected
        else:
            notes.append(
                f"{spec.title}: the {key} that came with the weights ({_numbers(config[key])}) differs from "
                f"the published one ({_numbers(expected)}); the one with the weights is used."
            )
    if spec.interpolation:
        if given.get("interpolation") is None:
            config["interpolation"] = spec.interpolation
        elif config["interpolation"] != spec.interpolation:
            notes.append(
                f"{spec.title}: the weights came with {config['interpolation']} resizing where "
                f"{spec.interpolation} is published; the one with the weights is used."
            )
    if config["input_size"][-1] != spec.input_px:
        if spec.model_kwargs.get("dynamic_img_size"):
            config["input_size"] = (3, spec.input_px, spec.input_px)
        else:
            notes.append(
                f"{spec.title}: the model takes {config['input_size'][-1]} px where {spec.input_px} px are "
                "published; tiles are resized."
            )
    return notes


def _close(a: Any, b: Any) -> bool:
    return all(abs(x - y) <= 1e-3 for x, y in zip(a, b, strict=True))


def _numbers(values: Any) -> str:
    return ", ".join(f"{v:.4g}" for v in values)
