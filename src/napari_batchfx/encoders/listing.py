"""What encoders there are, and what is known of one before it is loaded: a picker's table and card."""

from __future__ import annotations

import dataclasses
import importlib.util
import json
import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

from napari_batchfx.encoders.built_in import MINI, mini_card
from napari_batchfx.encoders.card import EncoderCard
from napari_batchfx.encoders.naming import is_path, meant, plain_name
from napari_batchfx.encoders.registry import ENCODERS, EncoderSpec, find_spec
from napari_batchfx.errors import EncoderError

if TYPE_CHECKING:
    import pandas as pd

__all__ = ["available", "describe"]

INSTALL_TRANSFORMERS = 'pip install "napari-batchfx[transformers]"'


def available() -> pd.DataFrame:
    """Encoders that are known by name, one a row.

    Any timm model name, any ``hf-hub:org/name`` of a timm or transformers image model and any local folder,
    ``.safetensors`` file or checkpoint can be loaded too; :func:`describe` says what is known of one.

    Returns
    -------
    pandas.DataFrame
        name, title, kind, source, dim, input_px, mpp (micrometres), licence, gated (terms to accept on the
        hub first), size_mb (10^6 bytes; None where not known), cached (weights are on this machine), needs
        (what to install first), loadable (False: listed with the reason why not, in note), note.

    Examples
    --------
    >>> table = available()
    >>> table.loc[table.name == "virchow2", "dim"].item()
    2560
    """
    import pandas as pd

    columns = [
        "name",
        "title",
        "kind",
        "source",
        "dim",
        "input_px",
        "mpp",
        "licence",
        "gated",
        "size_mb",
        "cached",
        "needs",
        "loadable",
        "note",
    ]
    rows = []
    for card in (_colour_statistics(), mini_card(), *(_of_spec(spec) for spec in ENCODERS)):
        size = None if card.size_bytes is None else card.size_bytes / 1e6
        rows.append([size if c == "size_mb" else getattr(card, c) for c in columns])
    return pd.DataFrame(rows, columns=columns)


def describe(name: str | os.PathLike[str], *, ask_hub: bool = False) -> EncoderCard:
    """What is known about an encoder, without loading it.

    Parameters
    ----------
    name : str or path
        As for :func:`napari_batchfx.encoders.load`.
    ask_hub : bool
        Ask the hub for size, licence and gating as they are now (one request, up to ten seconds). Otherwise
        no network is used.

    Returns
    -------
    EncoderCard

    Raises
    ------
    EncoderError
        If a path leads nowhere, or the hub was asked and has no such model or can't be reached.

    Examples
    --------
    >>> card = describe("virchow2")
    >>> card.dim, card.gated, card.other_assemblies
    (2560, True, {'cls': 1280})
    """
    text = plain_name(name).partition("?")[0]
    if text == "colour-statistics":
        return _colour_statistics()
    if text == MINI:
        return mini_card()
    spec = find_spec(text)
    if spec is not None:
        card = _of_spec(spec, revision=text.partition("@")[2])
        return _ask(card, spec.hub_id, spec.weights_file) if ask_hub else card
    if is_path(text):
        return _of_path(Path(text).expanduser())
    if text.startswith(("hf-hub:", "hf_hub:")):
        hub_id = text.partition(":")[2]
        card = _of_hub(text, hub_id)
        return _ask(card, hub_id) if ask_hub else card
    return _of_timm(text.removeprefix("timm:"), ask_hub)


def _colour_statistics() -> EncoderCard:
    from napari_batchfx.encoders.colour_statistics import ColourStatistics

    own = ColourStatistics()
    return EncoderCard(
        own.name,
        "Colour statistics",
        "napari-batchfx",
        own.kind,
        "built in",
        own.licence,
        cached=True,
        dim=own.dim,
        input_px=own.input_px,
        mpp=own.mpp,
        assembly=own.assembly,
        note="built in: colour and texture, no network",
    )


def needs_of(library: str) -> str:
    """What to install for models of ``library``; empty where it is there."""
    if library == "transformers" and importlib.util.find_spec("transformers") is None:
        return INSTALL_TRANSFORMERS
    return ""


def _of_spec(spec: EncoderSpec, revision: str = "") -> EncoderCard:
    from napari_batchfx.encoders.hub import is_cached

    note = spec.note
    if spec.refused:
        note = f"{spec.refused}; {spec.instead}" + (f"; {note}" if note else "")
    return EncoderCard(
        spec.name,
        spec.title,
        spec.publisher,
        spec.library,
        f"https://huggingface.co/{spec.hub_id}",
        spec.licence,
        spec.licence_url or f"https://huggingface.co/{spec.hub_id}",
        spec.gated,
        spec.size_bytes,
        spec.size_is_estimate and spec.size_bytes is not None,
        not spec.refused and is_cached(spec.hub_id + (f"@{revision}" if revision else ""), spec.weights_file),
        spec.dim,
        spec.input_px,
        spec.mpp,
        spec.assembly,
        dict(spec.other_assemblies),
        needs_of(spec.library),
        not spec.refused,
        note,
        spec.citation,
    )


def _of_hub(name: str, hub_id: str) -> EncoderCard:
    from napari_batchfx.encoders.hub import cached_file, is_cached

    config = cached_file(hub_id, "config.json")
    facts = _config_facts(config) if config is not None else {}
    return EncoderCard(
        name,
        hub_id,
        hub_id.partition("/")[0],
        source=f"https://huggingface.co/{hub_id.partition('@')[0]}",
        cached=is_cached(hub_id),
        **facts,
    )


def _of_path(path: Path) -> EncoderCard:
    from napari_batchfx.encoders.weights import from_file, from_folder

    if not path.exists():
        raise EncoderError(f"{path.name}: there is no such file or folder.")
    files = from_folder(path) if path.is_dir() else from_file(path)
    facts = _facts(files.library, files.pretrained_cfg, files.config)
    extra = files.extra
    licence = extra.get("licence") or facts.pop("licence", None) or "unknown"
    return EncoderCard(
        str(path),
        path.name if path.is_dir() else path.stem,
        source=path.name,
        licence=str(licence),
        size_bytes=sum(f.stat().st_size for f in files.weight_files),
        cached=True,
        mpp=float(extra.get("mpp", 0.5)),
        assembly=str(extra.get("assembly", "")),
        **facts,
    )


def _of_timm(name: str, ask_hub: bool) -> EncoderCard:
    import timm

    architecture, dot, tag = name.partition(".")
    if not timm.is_model(architecture):
        raise EncoderError(f"{name}: no encoder and no timm model of this name{meant(name)}")
    tags = timm.list_pretrained(f"{architecture}.*")
    if dot and name not in tags:
        hint = f"there are {', '.join(tags[:3])}" if tags else "there are none of it"
        raise EncoderError(f"{name}: timm has no trained weights with the tag {tag}; {hint}.")
    config = timm.models.get_pretrained_cfg(name)
    if config is None:
        return EncoderCard(name, name, "timm", loadable=False, note="timm has no trained weights for it")
    from napari_batchfx.encoders.hub import is_cached

    hub_id = str(config.hf_hub_id or "")
    card = EncoderCard(
        name,
        name,
        "timm",
        source=f"https://huggingface.co/{hub_id}" if hub_id else "",
        licence=str(config.license or "unknown"),
        cached=bool(hub_id) and is_cached(hub_id),
        input_px=int(config.input_size[-1]),
        mpp=0.5,
        loadable=bool(hub_id),
        note="photographs, not pathology" if hub_id else "timm has no trained weights for it",
    )
    return _ask(card, hub_id) if ask_hub and hub_id else card


def _config_facts(config: Path) -> dict[str, Any]:
    try:
        values = json.loads(config.read_text("utf-8"))
    except (OSError, ValueError):
        return {}
    if not isinstance(values, dict):
        return {}
    library = "timm" if isinstance(values.get("architecture"), str) else "transformers"
    return _facts(library, values.get("pretrained_cfg") or values, values)


def _facts(library: str, pretrained: Any, config: Any) -> dict[str, Any]:
    """Input size, licence and what is missing, from a configuration."""
    facts: dict[str, Any] = {"kind": library, "needs": needs_of(library)}
    if library == "transformers":
        size = config.get("image_size")
        if isinstance(size, int):
            facts["input_px"] = size
        if isinstance(config.get("hidden_size"), int):
            facts["dim"] = config["hidden_size"]
    else:
        size = pretrained.get("input_size")
        if isinstance(size, list) and len(size) == 3:
            facts["input_px"] = int(size[-1])
        if pretrained.get("license"):
            facts["licence"] = str(pretrained["license"])
        if isinstance(config.get("num_features"), int):
            facts["dim"] = config["num_features"]
    return facts


def _ask(card: EncoderCard, hub_id: str, weights_file: str = "") -> EncoderCard:
    """The card with what the hub says now."""
    from napari_batchfx.encoders.hub import ask

    facts = ask(hub_id, card.title, weights_file)
    size = facts.size_bytes
    return dataclasses.replace(
        card,
        gated=facts.gated,
        size_bytes=size if size is not None else card.size_bytes,
        size_is_estimate=card.size_is_estimate and size is None,
        licence=card.licence if card.licence != "unknown" else facts.licence,
    )
