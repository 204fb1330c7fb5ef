"""What a user may write to name an encoder, and what was probably meant where there is none of the name."""

from __future__ import annotations

import difflib
import os
import re
from pathlib import Path

from napari_batchfx.errors import EncoderError

__all__ = ["is_path", "meant", "plain_name", "split_options"]

_HUB = ("hf-hub:", "hf_hub:")
_LONGEST = 4096  # characters of a path on most systems; 255 of a name in it


def plain_name(name: str | os.PathLike[str]) -> str:
    """The name without what came along when it was copied: spaces, quotation marks, a browser's address.

    Raises
    ------
    EncoderError
        If nothing is left, or it can be no name: a line break, an impossible length, no
        ``organisation/model`` after
        ``hf-hub:``.

    Examples
    --------
    >>> plain_name(" https://huggingface.co/owkin/phikon-v2/tree/main ")
    'hf-hub:owkin/phikon-v2'
    """
    text = os.fspath(name).strip()
    if len(text) > 1 and text[0] == text[-1] and text[0] in "\"'":
        text = text[1:-1].strip()
    if not text:
        raise EncoderError("No encoder is named; give a name of the list, a hub id or a file.")
    parts = re.split(r"[/\\]", text)
    if len(text) > _LONGEST or max(map(len, parts)) > 255 or any(ord(c) < 32 for c in text):
        raise EncoderError(f"{' '.join(text[:40].split())}...: can't be the name of an encoder or of a file.")
    if text.startswith(("https://", "http://")):
        return _of_address(text)
    if text.startswith(_HUB):
        hub_id = text.partition(":")[2]
        if hub_id.startswith(("https://", "http://")):
            return _of_address(hub_id)
        if not re.fullmatch(r"[\w.-]+/[\w.-]+(@[\w./-]*)?", hub_id):
            raise EncoderError(f'{text}: no hub name; write "hf-hub:organisation/model".')
    return text


def _of_address(address: str) -> str:
    """``hf-hub:organisation/model@revision`` of the address of a model's page."""
    found = re.fullmatch(
        r"https?://[^/\s]+/(?P<repo>[\w.-]+/[\w.-]+)(/(tree|blob|resolve)/(?P<revision>[\w.-]+)(/.*)?)?/?([?#].*)?",
        address,
    )
    if found is None or found["repo"].split("/")[0] in ("datasets", "spaces", "docs"):
        raise EncoderError(
            f'{address[:80]}: no address of a model\'s page on the hub; write "hf-hub:organisation/model".'
        )
    revision = found["revision"]
    return f"hf-hub:{found['repo']}" + (f"@{revision}" if revision and revision != "main" else "")


def split_options(text: str, pretrained: bool) -> tuple[str, bool]:
    """A name without ``?pretrained=false``, and whether trained weights are wanted."""
    base, mark, query = text.partition("?")
    if not mark:
        return text, pretrained
    for item in query.split("&"):
        key, _, value = item.partition("=")
        if key != "pretrained" or value.lower() not in ("true", "false", "1", "0"):
            raise EncoderError(
                f'{base}: unknown option "{item}"; only ?pretrained=false can follow a model\'s name.'
            )
        pretrained = value.lower() in ("true", "1")
    return base, pretrained


def is_path(text: str) -> bool:
    """Whether ``text`` means a file or folder; a path separator, a suffix of weights or a folder says so."""
    if text.startswith((*_HUB, "timm:")):
        return False
    from napari_batchfx.encoders.checkpoints import CHECKPOINTS

    # file systems can hold a folder named like a model; the registry's names come first
    path = Path(text).expanduser()
    return (
        any(s in text for s in (os.sep, "/", "\\"))
        or path.suffix.lower() in (*CHECKPOINTS, ".safetensors")
        or path.is_dir()
    )


def meant(name: str) -> str:
    """``; did you mean resnet50?``, or where to look where nothing comes close."""
    import timm

    from napari_batchfx.encoders.registry import ENCODERS

    wanted = name.lower().split(".")[0]
    ours = [spec.name for spec in ENCODERS]
    near = [n for n in ours if wanted and (n.startswith(wanted) or wanted.startswith(n))]
    near += difflib.get_close_matches(wanted, ours, 2, 0.7)
    models = timm.list_models()
    near += (
        difflib.get_close_matches(wanted, models, 2, 0.8) or [n for n in models if wanted and wanted in n][:3]
    )
    close = list(dict.fromkeys(near))[:3]
    if close:
        return f"; did you mean {', '.join(close)}?"
    return "; see napari_batchfx.encoders.available() and timm's list of models."
