"""A model's configuration, checked value by value: its maker may have erred, or meant harm."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from napari_batchfx.errors import EncoderError

__all__ = [
    "MAX_SIDE",
    "NAMES",
    "class_names",
    "own_section",
    "parse_config",
    "pixel_size",
    "processor_of",
    "read_json",
]

#: Largest input in pixels that is believed; the largest tile model in use takes 1,024.
MAX_SIDE = 4096

#: Where the names of a classifier's classes are written, in order of preference.
NAMES = ("id2label", "label_names", "class_names", "classes", "idx_to_class", "class_to_idx", "label2id")

#: Longest vector that a projection is believed to give.
MAX_PROJECTED = 65_536

# a few kB in real life; thousands of class names still fit
_MAX_BYTES = 8_000_000

# arguments of timm's factory that say nothing about the network: other weights than the file's own, or
# where to put them
_ELSEWHERE = ("checkpoint_path", "pretrained", "pretrained_cfg", "pretrained_cfg_overlay", "features_only")
_HARMLESS = ("cache_dir", "device", "dtype", "exportable", "no_jit", "out_indices", "scriptable")


def read_json(path: Path, where: str = "") -> dict[str, Any]:
    """The JSON object in a file.

    Raises
    ------
    EncoderError
        If the file can't be read, is no JSON object, or is larger or deeper than a configuration can be.
    """
    shown = f"{where}: {path.name}" if where else path.name
    try:
        if path.stat().st_size > _MAX_BYTES:
            raise EncoderError(f"{shown}: of {path.stat().st_size / 1e6:,.0f} MB, which is no configuration.")
        value = json.loads(path.read_text("utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        reason = getattr(error, "strerror", None) or str(error)
        raise EncoderError(f"{shown}: can't be read as JSON ({reason}), so there is no model.") from error
    if not isinstance(value, dict):
        raise EncoderError(f"{shown}: holds no configuration (a JSON object with an architecture is needed).")
    return value


def parse_config(config: Mapping[str, Any], where: str) -> tuple[str, dict[str, Any], dict[str, Any]]:
    """Architecture, pretrained configuration and arguments of a timm ``config.json`` (new or old layout).

    Raises
    ------
    EncoderError
        If a value isn't what its name says, or an argument has nothing to do with the network.
    """
    architecture = config.get("architecture")
    if not isinstance(architecture, str):
        raise EncoderError(
            f"{where}: its config.json names neither a timm architecture nor a transformers model type, so "
            "it can't be told what it is."
        )
    if not re.fullmatch(r"[A-Za-z0-9_]+(\.[A-Za-z0-9_]+)?", architecture):
        raise _wrong(where, "architecture", architecture, "a timm name")
    if config.get("pretrained_cfg") is not None:
        pretrained = dict(_mapping(config["pretrained_cfg"], where, "pretrained_cfg"))
    else:
        pretrained = {
            k: v for k, v in config.items() if k not in ("architecture", "num_features", "model_args")
        }
    if "num_classes" in config:
        pretrained["num_classes"] = config["num_classes"]
    arguments = dict(_mapping(config.get("model_args") or {}, where, "model_args"))
    for key in _ELSEWHERE:
        if arguments.get(key):
            raise EncoderError(
                f"{where}: its configuration wants {key}, which isn't part of the network, so it "
                "isn't loaded; take "
                "it out of model_args, or ask whoever made the file."
            )
    arguments = {k: v for k, v in arguments.items() if k not in (*_ELSEWHERE, *_HARMLESS)}
    return architecture, _checked(pretrained, where), arguments


def _checked(pretrained: dict[str, Any], where: str) -> dict[str, Any]:
    """Timm's configuration of the input without what is None, every value of the right kind."""
    values = {k: v for k, v in pretrained.items() if v is not None}
    for key in ("mean", "std"):
        if key in values:
            values[key] = _three(values[key], where, key)
    for key in ("input_size", "test_input_size"):
        if key in values:
            values[key] = _input_size(values[key], where, key)
    if "num_classes" in values and not _is_count(values["num_classes"]):
        raise _wrong(where, "num_classes", values["num_classes"], "a number of classes")
    classifier = values.get("classifier")
    names = [classifier] if isinstance(classifier, str) else classifier
    if classifier is not None and not (
        isinstance(names, list | tuple) and all(isinstance(n, str) for n in names)
    ):
        raise _wrong(where, "classifier", classifier, "the name of the last layer")
    if "interpolation" in values and not isinstance(values["interpolation"], str):
        raise _wrong(where, "interpolation", values["interpolation"], '"bilinear" or "bicubic"')
    if "license" in values and not isinstance(values["license"], str):
        del values["license"]
    return values


def processor_of(processor: Mapping[str, Any], where: str) -> dict[str, Any]:
    """An image processor of transformers, checked, its numbers for pixels in 0..1.

    A processor may scale pixels by another number than 1/255, or not at all; mean and sd are those after that
    scaling, so they are divided by it.
    """
    values = {k: v for k, v in processor.items() if v is not None}
    normalised = values.get("do_normalize", True)
    if normalised:
        mean = _three(values["image_mean"], where, "image_mean") if "image_mean" in values else None
        std = _three(values["image_std"], where, "image_std") if "image_std" in values else None
    else:
        mean, std = (0.0, 0.0, 0.0), (1.0, 1.0, 1.0)
    factor = values.get("rescale_factor", 1 / 255) if values.get("do_rescale", True) else 1.0
    if not _is_number(factor) or factor <= 0:
        raise _wrong(where, "rescale_factor", factor, "a number above 0")
    scale, shift = 255 * float(factor), 1.0 if values.get("rescale_offset") is True else 0.0
    if abs(scale - 1) > 1e-6 or shift:
        r, g, b = mean or (0.485, 0.456, 0.406)
        mean = ((r + shift) / scale, (g + shift) / scale, (b + shift) / scale)
        r, g, b = std or (0.229, 0.224, 0.225)
        std = (r / scale, g / scale, b / scale)
    result: dict[str, Any] = {k: values[k] for k in ("do_center_crop", "crop_size", "size") if k in values}
    for key in ("crop_size", "size"):
        if key in result:
            _side(result[key], where, key)
    if values.get("resample") in (0, 1, 2, 3, 4, 5):
        result["resample"] = int(values["resample"])
    return result | {k: v for k, v in (("image_mean", mean), ("image_std", std)) if v is not None}


def _side(size: Any, where: str, key: str) -> None:
    """Refuse what isn't a side in pixels or a square."""
    sides: list[Any] = [size]
    if isinstance(size, Mapping):
        sides = [size[k] for k in ("height", "width", "shortest_edge") if size.get(k) is not None]
    elif isinstance(size, list | tuple):
        sides = list(size)
    if not all(_is_count(v) and 1 <= v <= MAX_SIDE for v in sides):
        raise _wrong(where, key, size, f"a side of 1 to {MAX_SIDE:,} px")
    if len(set(sides)) > 1:
        raise EncoderError(
            f"{where}: takes images of {sides[1]} x {sides[0]} px; only models with square input can "
            "be used on tiles."
        )


def own_section(config: Mapping[str, Any], where: str) -> dict[str, Any]:
    """Our own section of a configuration (``batchfx``): mpp, assembly, licence, projected, levels.

    ``projected`` is the length of the vector where the network's last layer (timm's classifier) is a
    projection that belongs to the encoder: 192 numbers of 1,280, say. With ``levels`` it reads every level
    of the network (:mod:`~napari_batchfx.encoders.levels`).
    """
    from napari_batchfx.encoders.timm_encoder import ASSEMBLIES

    own = dict(_mapping(config.get("batchfx") or {}, where, "batchfx"))
    if "mpp" in own:
        own["mpp"] = pixel_size(own["mpp"], where)
    if "assembly" in own and own["assembly"] not in ASSEMBLIES:
        raise _wrong(where, "assembly", own["assembly"], f"one of {', '.join(ASSEMBLIES)}")
    if "projected" in own:
        if not _is_count(own["projected"]) or own["projected"] > MAX_PROJECTED:
            raise _wrong(where, "projected", own["projected"], f"a length of up to {MAX_PROJECTED:,} numbers")
        own["projected"] = int(own["projected"])
    levels = own.get("levels", False)
    if not isinstance(levels, bool) or (levels and not own.get("projected")):
        raise _wrong(where, "levels", levels, "true, with projected, or false")
    if "licence" in own:
        own["licence"] = str(own["licence"])
    return own


def pixel_size(value: Any, where: str) -> float:
    """A pixel size in micrometres, above 0 and at most 100."""
    if not _is_number(value) or not 0 < value <= 100:
        raise EncoderError(
            f"{where}: mpp is {_short(value)}; it must be a pixel size in micrometres, such as 0.5."
        )
    return float(value)


def class_names(config: Mapping[str, Any]) -> tuple[str, ...]:
    """Names of the classes in their order, however they are written.

    timm writes ``label_names``, transformers ``id2label``, torchvision's data sets ``class_to_idx``, people
    ``classes`` or ``class_names``; each a list, names by number or numbers by name. Empty where there are
    none.
    """
    for key in NAMES:
        names = config.get(key)
        if isinstance(names, Mapping):
            names = _ordered(names)
        if isinstance(names, list | tuple) and names and all(isinstance(n, str | int) for n in names):
            return tuple(str(name) for name in names)
    return ()


def _ordered(names: Mapping[Any, Any]) -> list[str] | None:
    """Names in the order of their numbers 0, 1, 2, ...; None where they aren't numbered so."""
    if all(_is_count(v) for v in names.values()):
        names = {v: k for k, v in names.items()}
    try:
        numbered = {int(k): str(v) for k, v in names.items()}
    except (TypeError, ValueError):
        return None
    return [numbered[i] for i in range(len(numbered))] if set(numbered) == set(range(len(names))) else None


def _mapping(value: Any, where: str, key: str) -> Mapping[str, Any]:
    if not isinstance(value, Mapping):
        raise _wrong(where, key, value, "a JSON object")
    return value


def _three(values: Any, where: str, key: str) -> tuple[float, float, float]:
    if hasattr(values, "tolist"):  # a tensor or array of a checkpoint
        values = values.tolist()
    if not isinstance(values, list | tuple) or len(values) != 3 or not all(_is_number(v) for v in values):
        raise _wrong(where, key, values, "three numbers, of red, green and blue")
    if "std" in key and min(values) <= 0:
        raise _wrong(where, key, values, "three numbers above 0")
    return float(values[0]), float(values[1]), float(values[2])


def _input_size(values: Any, where: str, key: str) -> tuple[int, int, int]:
    if not isinstance(values, list | tuple) or len(values) != 3 or not all(_is_count(v) for v in values):
        raise _wrong(where, key, values, "[3, height, width] in pixels")
    if values[0] != 3:
        raise EncoderError(f"{where}: takes images with {values[0]} channels; tiles have three (RGB).")
    if not all(1 <= v <= MAX_SIDE for v in values[1:]):
        raise _wrong(where, key, values, f"[3, height, width] with sides of 1 to {MAX_SIDE:,} px")
    return 3, int(values[1]), int(values[2])


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)


def _is_count(value: Any) -> bool:
    return _is_number(value) and value == int(value) and value >= 0


def _wrong(where: str, key: str, value: Any, needed: str) -> EncoderError:
    return EncoderError(f"{where}: {key} in its configuration is {_short(value)}; it must be {needed}.")


def _short(value: Any) -> str:
    text = " ".join(repr(value).split())
    return text if len(text) <= 60 else f"{text[:57]}..."
