"""Weights from a file: safetensors, or a torch checkpoint of which only the numbers are read."""

from __future__ import annotations

import argparse
import hashlib
import json
import zipfile
from collections.abc import Mapping
from pathlib import Path, PurePosixPath
from typing import Any

from napari_batchfx.encoders.configuration import NAMES
from napari_batchfx.errors import EncoderError
from napari_batchfx.jobs import Job, Progress, run

__all__ = [
    "CHECKPOINTS",
    "INDEX",
    "file_hash",
    "hash_job",
    "joint_hash",
    "named_architecture",
    "pieces",
    "read_state",
    "state_hash",
]

# bytes of a file that are hashed between two chances to stop: about a tenth of a second
_AT_ONCE = 32_000_000


#: Suffixes of torch's own files, which are pickles.
CHECKPOINTS = {".bin", ".pt", ".pth", ".ckpt", ".pkl", ".tar"}

#: How the index of weights in several pieces ends.
INDEX = ".safetensors.index.json"

# where training programs keep the weights, in order of preference
_INSIDE = ("state_dict", "model_state_dict", "model_state", "model", "teacher", "net", "weights", "params")
_ARCHITECTURE = ("architecture", "arch", "model_name", "timm_name", "backbone", "encoder", "model")


def read_state(path: Path) -> dict[str, Any]:
    """Tensors of a weights file by name, on the CPU.

    Raises
    ------
    EncoderError
        If the file is damaged, holds no tensors by name, or holds more than numbers and so wasn't opened.
    """
    if path.suffix.lower() == ".safetensors":
        return _read_safetensors(path)
    if path.name.endswith(INDEX):
        return {k: v for piece in pieces(path) for k, v in read_state(path.with_name(piece)).items()}
    state = _tensors(read_checkpoint(path))
    if not state:
        raise EncoderError(f"{path.name}: holds no weights by name (a state_dict is needed).")
    return state


def pieces(index: Path) -> list[str]:
    """Names of the files that an index of weights in several pieces lists."""
    try:
        names = list(json.loads(index.read_text("utf-8"))["weight_map"].values())
    except (OSError, ValueError, KeyError, AttributeError, TypeError, RecursionError) as error:
        raise EncoderError(
            f"{index.name}: no index of weights in several pieces; download or copy it again."
        ) from error
    if not names or not all(isinstance(name, str) and name.endswith(".safetensors") for name in names):
        raise EncoderError(
            f"{index.name}: lists other things than .safetensors files; download or copy it again."
        )
    # plain names in the same folder, whatever the index says
    return sorted({PurePosixPath(name.replace("\\", "/")).name for name in names})


def _read_safetensors(path: Path) -> dict[str, Any]:
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    try:
        return dict(load_file(path))
    except (SafetensorError, OSError) as error:
        raise damaged(path, error) from error


def damaged(path: Path, error: Exception) -> EncoderError:
    """What is wrong with a file that can't be read as safetensors."""
    try:
        with path.open("rb") as file:
            pointer = file.read(40).startswith(b"version https://git-lfs")
    except OSError as unreadable:
        return EncoderError(
            f"{path.name}: can't be read ({unreadable.strerror}); check that it is there and yours."
        )
    if pointer:
        return EncoderError(
            f"{path.name}: only git's note of where the weights are, not the weights; run `git lfs pull` in "
            "its folder."
        )
    return EncoderError(f"{path.name}: damaged or no safetensors file ({error}); download or copy it again.")


def read_checkpoint(path: Path) -> Any:
    """Content of a torch checkpoint, made of numbers, text and containers only; nothing in it is run."""
    import torch

    # before 2.6 weights_only could be tricked into running code (CVE-2025-32434)
    if tuple(int(v) for v in torch.__version__.split(".")[:2]) < (2, 6):
        raise EncoderError(
            f"{path.name}: a {path.suffix} checkpoint is a pickle; install torch 2.6 or newer, which reads "
            "just the numbers in it, or save it as .safetensors."
        )
    _refuse_unpacking(path)
    try:
        # training programs leave their arguments in it; a Namespace holds values and runs nothing
        with torch.serialization.safe_globals([argparse.Namespace]):
            return torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # torch passes on whatever a damaged file sets off
        if type(error).__name__ == "UnpicklingError":  # by name: its module is imported nowhere here
            raise EncoderError(
                f"{path.name}: a {path.suffix} checkpoint is a pickle, which can run any program when it is "
                f"opened, and this one holds more than weights{_more(path)}, so it wasn't; save its "
                "state_dict() with safetensors.torch.save_file and load that."
            ) from error
        if "TorchScript" in str(error):
            raise EncoderError(
                f"{path.name}: a TorchScript program, which would have to run, so it wasn't opened; save the "
                "model's state_dict() with safetensors.torch.save_file and load that."
            ) from error
        raise EncoderError(f"{path.name}: damaged or no torch checkpoint; copy it again.") from error


def _refuse_unpacking(path: Path) -> None:
    """Refuse a checkpoint that is much larger in memory than on the disk; torch writes none."""
    try:
        with zipfile.ZipFile(path) as archive:
            size = sum(item.file_size for item in archive.infolist())
    except (OSError, zipfile.BadZipFile, ValueError, NotImplementedError):
        return  # an older format, or damaged: torch says so
    if size > 2 * path.stat().st_size + 1_000_000:
        raise EncoderError(
            f"{path.name}: would unpack to {size / 1e6:,.0f} MB, far more than its own "
            f"{path.stat().st_size / 1e6:,.1f} MB, so it wasn't opened; ask whoever made it for .safetensors."
        )


def _more(path: Path) -> str:
    """What a checkpoint holds beside numbers, read from its listing without opening it."""
    import torch

    try:
        names = torch.serialization.get_unsafe_globals_in_checkpoint(str(path))
    except Exception:  # noqa: BLE001 - old formats have no listing; the sentence does without
        return ""
    return f" ({', '.join(sorted(names)[:2])})" if names else ""


def _tensors(content: Any) -> dict[str, Any]:
    """The mapping of names to tensors inside a checkpoint."""
    import torch

    if not isinstance(content, Mapping):
        return {}
    if content and all(isinstance(v, torch.Tensor) for v in content.values()):
        return {str(k): v for k, v in content.items()}
    for key in _INSIDE:
        inside = _tensors(content.get(key))
        if inside:
            return inside
    return {str(k): v for k, v in content.items() if isinstance(v, torch.Tensor)}


def named_architecture(path: Path) -> tuple[str, dict[str, Any]]:
    """The timm architecture that a checkpoint names, and what else it says of itself.

    Training programs write it as ``arch`` (timm), in ``hyper_parameters`` (Lightning) or in ``args``.
    """
    import timm

    content = read_checkpoint(path)
    if not isinstance(content, Mapping):
        return "", {}
    places: list[Mapping[str, Any]] = [content]
    for key in ("hyper_parameters", "args", "config", "hparams"):
        value = content.get(key)
        if isinstance(value, argparse.Namespace):
            value = vars(value)
        if isinstance(value, Mapping):
            places.append(value)
    said: dict[str, Any] = {}
    for place in places:
        for key in (*NAMES, "mpp", "mean", "std"):
            if key in place and key not in said:
                said[key] = place[key]
    for place in places:
        for key in _ARCHITECTURE:
            name = place.get(key)
            if isinstance(name, str) and timm.is_model(name.removeprefix("timm/").split(".")[0]):
                return name.removeprefix("timm/").split(".")[0], said
    return "", said


def file_hash(path: Path) -> str:
    """SHA-256 of a file, hex; of weights in several pieces that of the pieces' own."""
    if path.name.endswith(INDEX):
        return joint_hash([file_hash(path.with_name(piece)) for piece in pieces(path)])
    return run(hash_job(path, path.name))


def joint_hash(digests: list[str]) -> str:
    """SHA-256 of weights in several pieces, from those of the pieces."""
    return hashlib.sha256("".join(digests).encode()).hexdigest()


def hash_job(path: Path, title: str) -> Job[str]:
    """:func:`file_hash` of one file as a job: weights of some GB take seconds to read.

    Yields
    ------
    Progress
        In MB read.

    Returns
    -------
    str
        SHA-256, hex.
    """
    digest = hashlib.sha256()
    try:
        total, done = path.stat().st_size, 0
        with path.open("rb") as file:
            while piece := file.read(_AT_ONCE):
                digest.update(piece)
                done += len(piece)
                if total > _AT_ONCE:
                    yield Progress(
                        round(done / 1e6), round(total / 1e6), f"checking the weights of {title}", "MB"
                    )
        return digest.hexdigest()
    except OSError as error:
        raise EncoderError(
            f"{path.name}: can't be read ({error.strerror}); check that it is there and that you may read it."
        ) from error


def state_hash(state: Mapping[str, Any]) -> str:
    """SHA-256 over names, shapes, types and bytes of the tensors, in the order of their names."""
    import torch

    digest = hashlib.sha256()
    for name in sorted(state):
        tensor = state[name].detach().cpu().contiguous()
        digest.update(f"{name}|{tuple(tensor.shape)}|{tensor.dtype}|".encode())
        digest.update(tensor.reshape(-1).view(dtype=torch.uint8).numpy().tobytes())
    return digest.hexdigest()
