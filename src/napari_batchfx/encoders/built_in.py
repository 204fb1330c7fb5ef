"""batchfx-mini, the small network whose weights come with the package."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

from napari_batchfx.encoders.card import EncoderCard
from napari_batchfx.errors import EncoderError

if TYPE_CHECKING:
    from napari_batchfx.encoders.weights import ModelFiles

__all__ = ["MINI", "MINI_WEIGHTS", "mini_card", "mini_files", "mini_identity", "mini_network", "mini_version"]

MINI = "batchfx-mini"
MINI_WEIGHTS = Path(__file__).parent / "models" / f"{MINI}.safetensors"


def mini_files() -> ModelFiles:
    """Configuration and weights of batchfx-mini, read as any timm file of weights is.

    Raises
    ------
    EncoderError
        If the installation lacks the file, or it is damaged.

    Examples
    --------
    >>> mini_files().architecture
    'mobilenetv4_conv_small'
    """
    from napari_batchfx.encoders.weights import from_file

    _check_there()
    return from_file(MINI_WEIGHTS)


def mini_network() -> Any:
    """batchfx-mini as a torch module: images (n, 3, h, w), normalised, to vectors (n, dim).

    Examples
    --------
    >>> import torch
    >>> tuple(mini_network()(torch.zeros(1, 3, 224, 224)).shape)
    (1, 96)
    """
    from napari_batchfx.encoders.building import build

    return build(mini_files(), MINI, {}).model


def mini_version(files: ModelFiles | None = None) -> int:
    """Version of batchfx-mini's weights: of ``files``, or of those in the package.

    Examples
    --------
    >>> mini_version() > 0
    True
    """
    return int((files or mini_files()).extra.get("version", 0))


def mini_identity(files: ModelFiles) -> str:
    """Name and version of the weights, for the key of what is made with them."""
    return f"{MINI}/v{mini_version(files)}"


def mini_card() -> EncoderCard:
    """What is known of batchfx-mini, from its header alone; torch isn't asked."""
    said = _header() if MINI_WEIGHTS.is_file() else {}
    config, own = said.get("pretrained_cfg", {}), said.get("batchfx", {})
    return EncoderCard(
        MINI,
        "batchfx-mini",
        "napari-batchfx",
        "timm",
        "built in",
        str(config.get("license", "BSD-3-Clause")),
        size_bytes=MINI_WEIGHTS.stat().st_size if said else None,
        cached=bool(said),
        dim=own.get("dim"),
        input_px=int(config.get("input_size", (3, 224, 224))[-1]),
        mpp=float(own.get("mpp", 0.5)),
        assembly="pooled",
        loadable=bool(said),
        note="built in: a small network that shows the effect, no foundation model"
        if said
        else "its weights are missing here; install napari-batchfx again",
    )


def _check_there() -> None:
    if not MINI_WEIGHTS.is_file():
        raise EncoderError(
            f"{MINI}: its weights are missing from this installation; install napari-batchfx again."
        )


def _header() -> dict[str, Any]:
    from safetensors import SafetensorError, safe_open

    from napari_batchfx.encoders.checkpoints import damaged

    try:
        with safe_open(MINI_WEIGHTS, framework="numpy") as file:
            said: dict[str, str] = file.metadata() or {}
    except (SafetensorError, OSError) as error:
        raise damaged(MINI_WEIGHTS, error) from error
    return {key: json.loads(said[key]) for key in ("pretrained_cfg", "batchfx") if key in said}
