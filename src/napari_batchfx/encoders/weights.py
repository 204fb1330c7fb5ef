"""A model's configuration and the file of its weights, from a folder, a file or the hub."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from napari_batchfx.encoders.checkpoints import CHECKPOINTS, INDEX, damaged, named_architecture, pieces
from napari_batchfx.encoders.configuration import (
    NAMES,
    class_names,
    own_section,
    parse_config,
    processor_of,
    read_json,
)
from napari_batchfx.encoders.hub import WEIGHT_FILES, fetch_job
from napari_batchfx.encoders.registry import EncoderSpec
from napari_batchfx.errors import EncoderError
from napari_batchfx.jobs import Job

__all__ = ["ModelFiles", "from_file", "from_folder", "from_hub_job"]

PROCESSOR = "preprocessor_config.json"

# what a header says to timm; a configuration of transformers beside it counts instead
_TIMMS = ("architecture", "pretrained_cfg", "model_args", "num_classes")


@dataclass(frozen=True)
class ModelFiles:
    """What is needed to build a model.

    Parameters
    ----------
    source : str
        Where it comes from.
    architecture : str
        timm's name of the architecture, or transformers' model type.
    pretrained_cfg : mapping
        timm's configuration of the input, or transformers' of the image processor.
    model_args : mapping
        Arguments to timm.
    weights : Path
        The file of the weights.
    extra : mapping
        Our own section of a sidecar: mpp, assembly, licence.
    library : {"timm", "transformers"}
        What builds it.
    config : mapping
        The whole configuration.
    class_names : tuple of str
        Names of the classifier's classes, where something names them.
    """

    source: str
    architecture: str
    pretrained_cfg: Mapping[str, Any]
    model_args: Mapping[str, Any]
    weights: Path
    extra: Mapping[str, Any] = field(default_factory=dict)
    library: str = "timm"
    config: Mapping[str, Any] = field(default_factory=dict)
    class_names: tuple[str, ...] = ()

    @property
    def weight_files(self) -> tuple[Path, ...]:
        """The files that hold the numbers: one, or several pieces."""
        if self.weights.name.endswith(INDEX):
            return tuple(self.weights.with_name(piece) for piece in pieces(self.weights))
        return (self.weights,)


def _files(source: str, config: Mapping[str, Any], where: str, weights: Path, processor: Any) -> ModelFiles:
    """The parts, of timm where an architecture is named, else of transformers."""
    extra = own_section(config, where)
    names = class_names(config) or class_names(extra)
    if "architecture" not in config and isinstance(config.get("model_type"), str):
        values = processor_of(processor or {}, where)
        return ModelFiles(
            source, config["model_type"], values, {}, weights, extra, "transformers", config, names
        )
    architecture, pretrained, args = parse_config(config, where)
    return ModelFiles(source, architecture, pretrained, args, weights, extra, "timm", config, names)


def from_folder(folder: Path) -> ModelFiles:
    """Model of a local folder with ``config.json`` and its weights."""
    config = folder / "config.json"
    if not config.is_file():
        raise EncoderError(
            f"{folder.name}: no config.json in this folder; it must hold a timm or transformers model "
            "(config.json and model.safetensors)."
        )
    weights = folder / "model.safetensors"
    if not weights.is_file():
        found = sorted(folder.glob(f"*{INDEX}")) or sorted(folder.glob("*.safetensors"))
        if not found:
            found = sorted(p for p in folder.iterdir() if p.suffix.lower() in CHECKPOINTS)
        found = [p for p in found if p.is_file()]
        if len(found) > 1:
            raise EncoderError(
                f"{folder.name}: several files of weights ({', '.join(p.name for p in found[:3])}); name the "
                "one you want model.safetensors, or give its path."
            )
        if not found:
            raise EncoderError(f"{folder.name}: no model.safetensors in this folder.")
        weights = found[0]
    if weights.name.endswith(INDEX):
        for piece in pieces(weights):
            if not weights.with_name(piece).is_file():
                raise EncoderError(
                    f"{folder.name}: lacks {piece}, one of the pieces of its weights; download or "
                    "copy it again."
                )
    processor = folder / PROCESSOR
    return _files(
        str(folder),
        read_json(config),
        folder.name,
        weights,
        read_json(processor) if processor.is_file() else None,
    )


def from_file(path: Path) -> ModelFiles:
    """Model of a file of weights; itself, ``NAME.json`` or ``config.json`` names the architecture."""
    suffix = path.suffix.lower()
    if suffix not in CHECKPOINTS and suffix != ".safetensors":
        raise EncoderError(
            f"{path.name}: no model; give a folder with config.json and model.safetensors, a .safetensors "
            "file or a torch checkpoint (.pt, .pth, .ckpt, .bin)."
        )
    said = _header(path) if suffix == ".safetensors" else {}
    for sidecar in (path.with_suffix(".json"), path.with_name("config.json")):
        if sidecar.is_file():
            config = read_json(sidecar)
            if (
                suffix != ".safetensors"
                and not class_names(config)
                and not class_names(own_section(config, path.name))
            ):
                said = {k: v for k, v in named_architecture(path)[1].items() if k in NAMES}
            processor = path.with_name(PROCESSOR)
            return _files(
                str(path),
                {
                    k: v
                    for k, v in said.items()
                    if k not in config and not ("model_type" in config and k in _TIMMS)
                }
                | config,
                path.name,
                path,
                read_json(processor) if processor.is_file() else None,
            )
    if suffix != ".safetensors":
        architecture, values = named_architecture(path)
        pretrained = {k: values[k] for k in ("mean", "std") if values.get(k) is not None}
        said = {"architecture": architecture} if architecture else {}
        said |= {"pretrained_cfg": pretrained} if pretrained else {}
        said |= {"batchfx": {"mpp": values["mpp"]}} if values.get("mpp") is not None else {}
        said |= {k: values[k] for k in NAMES if k in values}
    if not said.get("architecture"):
        raise EncoderError(
            f"{path.name}: doesn't say which timm model it is; put {path.stem}.json beside it with "
            '{"architecture": "the timm name"}.'
        )
    return _files(str(path), said, path.name, path, None)


def _header(path: Path) -> dict[str, Any]:
    """What a safetensors file says of itself in its header."""
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(path, framework="pt") as file:
            metadata: dict[str, str] = file.metadata() or {}
    except (SafetensorError, OSError) as error:
        raise damaged(path, error) from error
    said: dict[str, Any] = {}
    for key, value in metadata.items():
        if key == "architecture":
            said[key] = value
        elif key in (*_TIMMS, "batchfx", *NAMES):
            try:
                said[key] = json.loads(value)
            except (ValueError, RecursionError) as error:
                raise EncoderError(f"{path.name}: {key} in its header is no JSON ({error}).") from error
    return said


def from_hub_job(hub_id: str, title: str, spec: EncoderSpec | None = None) -> Job[ModelFiles]:
    """Get what a hub repository's model needs; progress in bytes while its weights download.

    Raises
    ------
    EncoderError
        One sentence: no model, no weights, or what :func:`~napari_batchfx.encoders.hub.fetch_job` refuses.
    """
    config: dict[str, Any]
    if spec is not None and spec.weights_file:
        # a repository that holds a bare checkpoint: the registry says what it is
        config = {"architecture": spec.architecture, "num_classes": 0}
        names: tuple[str, ...] = (spec.weights_file,)
    else:
        path = yield from fetch_job(hub_id, "config.json", title=title)
        if path is None:
            raise EncoderError(
                f"{title}: {hub_id} has no config.json, so it can't be told which model it is."
            )
        config, names = read_json(path, title), WEIGHT_FILES
    processor = None
    if "architecture" not in config and "model_type" in config:
        from napari_batchfx.encoders.transformers_model import refuse_early

        refuse_early(config, title, spec)  # before the weights, which may be large
        path = yield from fetch_job(hub_id, PROCESSOR, title=title)
        processor = read_json(path, title) if path is not None else None
    files = _files(hub_id, config, title, Path(names[0]), processor)
    if files.library == "timm":
        from napari_batchfx.encoders.building import refuse_unknown

        refuse_unknown(files.architecture, title)  # before the weights, too
    for name in names:
        weights = yield from fetch_job(hub_id, name, title=title)
        if weights is not None:
            return replace(files, weights=weights)
    index = yield from fetch_job(hub_id, f"model{INDEX}", title=title)
    if index is not None:
        for piece in pieces(index):
            if (yield from fetch_job(hub_id, piece, title=title)) is None:
                raise EncoderError(f"{title}: {hub_id} lacks {piece}, one of the pieces of its weights.")
        return replace(files, weights=index)
    raise EncoderError(
        f"{title}: {hub_id} publishes no {' and no '.join(names)}, so there are no weights that could be "
        "loaded."
    )
