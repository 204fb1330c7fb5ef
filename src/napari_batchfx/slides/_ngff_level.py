"""One array of an OME-Zarr pyramid: its header, checked, and how its chunk files are named."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

from napari_batchfx.errors import SlideError

__all__ = ["MAX_JSON", "NgffLevel", "read_json", "read_level"]

MAX_JSON = 16 * 2**20
MAX_CHUNK = 256 * 2**20
MAX_SIDE = 2**24
MAX_PIXELS = 2**40
_COMPRESSORS = {"blosc", "zstd", "gzip", "zlib", "lz4"}
_CODECS = {"bytes", "transpose", "crc32c", "sharding_indexed", "blosc", "zstd", "gzip"}


@dataclass(frozen=True)
class NgffLevel:
    """One array of the pyramid.

    Parameters
    ----------
    path : Path
        The folder of the array.
    shape, chunks, files : tuple of int
        In the order of the axes: full size, what one decoding gives, what one file holds (several chunks of a
        shard).
    compressor : str
        The compressor if each chunk is a file of its own, "" where chunks lie in shards, "none" without one.
    separator, prefix : str
        How a file is named after its place.
    """

    path: Path
    shape: tuple[int, ...]
    chunks: tuple[int, ...]
    files: tuple[int, ...]
    compressor: str
    separator: str
    prefix: str

    @property
    def grid(self) -> tuple[int, ...]:
        """How many files there can be along each axis."""
        return tuple(-(-size // part) for size, part in zip(self.shape, self.files, strict=True))

    def file(self, key: Sequence[int]) -> Path:
        """Return the file at a place of the grid; files of what is all fill value aren't there."""
        parts = [str(int(k)) for k in key]
        text = self.separator.join([self.prefix, *parts] if self.prefix else parts)
        return self.path.joinpath(*text.split("/"))


def read_json(path: Path, name: str, documents: list[Path]) -> dict[str, Any] | None:
    """Return a header, ``None`` if there is no such file; what was read is added to ``documents``."""
    try:
        if path.stat().st_size > MAX_JSON:
            raise SlideError(f"{name}: its header {path.name} is too large to be one; export it again.")
        found = json.loads(path.read_bytes())
    except FileNotFoundError:
        return None
    except (OSError, ValueError, RecursionError) as error:
        raise SlideError(
            f"{name}: its header {path.name} can't be read or is damaged; copy or export it again."
        ) from error
    if not isinstance(found, dict):
        raise SlideError(f"{name}: its header {path.name} is damaged; copy or export it again.")
    documents.append(path)
    return found


def read_level(root: Path, entry: Any, n_axes: int, name: str, documents: list[Path]) -> NgffLevel:
    """Read the array that a multiscales entry names.

    Raises
    ------
    SlideError
        If it lies outside of the folder, is missing or damaged, isn't 8-bit, or asks for absurd memory.
    """
    text = entry.get("path") if isinstance(entry, dict) else None
    relative = PurePosixPath(text) if isinstance(text, str) and text else None
    if (
        relative is None
        or relative.is_absolute()
        or ".." in relative.parts
        or "\\" in str(relative)
        or ":" in str(relative)
    ):
        raise SlideError(f"{name}: its OME-Zarr header names levels outside of its folder; export it again.")
    path = root.joinpath(*relative.parts)
    if (v3 := read_json(path / "zarr.json", name, documents)) is not None:
        level, dtype = _v3(path, v3)
    elif (v2 := read_json(path / ".zarray", name, documents)) is not None:
        level, dtype = _v2(path, v2)
    else:
        raise SlideError(f"{name}: its level {text:.40} is missing; copy the whole folder again.")
    if level is None or not (len(level.shape) == len(level.chunks) == len(level.files) == n_axes):
        raise SlideError(f"{name}: the header of its level {text:.40} is damaged; copy or export it again.")
    if dtype not in {"uint8", "|u1", "u1"}:
        raise SlideError(
            f"{name}: its pixels are {dtype:.20}, not 8-bit; export it as 8-bit RGB and open that."
        )
    size = math.prod(level.chunks)
    if size > MAX_CHUNK:
        raise SlideError(
            f"{name}: its chunks hold {size / 2**20:,.0f} MB each, more than {MAX_CHUNK // 2**20} MB; export "
            "it again with chunks of 512 or 1024 px."
        )
    if max(level.shape) > MAX_SIDE or math.prod(level.shape) > MAX_PIXELS:
        raise SlideError(f"{name}: its header states a size that no slide has; export it again.")
    if level.compressor not in _COMPRESSORS | {"", "none"}:
        raise SlideError(
            f"{name}: its pixels are compressed with {level.compressor:.30}, which isn't read here; "
            f"export it again with "
            "blosc, zstd or gzip."
        )
    return level


def _sizes(value: Any) -> tuple[int, ...] | None:
    ok = isinstance(value, list) and all(type(v) is int and v > 0 for v in value)
    return tuple(value) if ok else None


def _v2(path: Path, header: Mapping[str, Any]) -> tuple[NgffLevel | None, str]:
    shape, chunks = _sizes(header.get("shape")), _sizes(header.get("chunks"))
    codec = header.get("compressor")
    compressor = str(codec.get("id")) if isinstance(codec, dict) else "none"
    if header.get("filters"):
        compressor = "filters"
    if shape is None or chunks is None:
        return None, ""
    separator = "/" if header.get("dimension_separator") == "/" else "."
    return NgffLevel(path, shape, chunks, chunks, compressor, separator, ""), str(header.get("dtype"))


def _v3(path: Path, header: Mapping[str, Any]) -> tuple[NgffLevel | None, str]:
    try:
        shape = _sizes(header["shape"])
        grid = _sizes(header["chunk_grid"]["configuration"]["chunk_shape"])
        codecs: Sequence[Mapping[str, Any]] = header["codecs"]
        names = [str(codec["name"]) for codec in codecs]
        encoding = header.get("chunk_key_encoding") or {}
        plain = encoding.get("name") == "v2"
        separator = (encoding.get("configuration") or {}).get("separator") or ("." if plain else "/")
        chunks = grid
        if "sharding_indexed" in names:
            inner = codecs[names.index("sharding_indexed")]["configuration"]
            chunks = _sizes(inner["chunk_shape"])
            names = [str(codec["name"]) for codec in inner["codecs"]] + ["sharding_indexed"]
    except (KeyError, TypeError, AttributeError, IndexError):
        return None, ""
    if shape is None or chunks is None or grid is None or header.get("node_type") != "array":
        return None, ""
    strange = [name for name in names if name not in _CODECS]
    used = [name for name in names if name in _COMPRESSORS]
    compressor = (
        strange[0]
        if strange
        else ""
        if "sharding_indexed" in names
        else used[0]
        if len(used) == 1
        else "none"
    )
    return (
        NgffLevel(
            path, shape, chunks, grid, compressor, "/" if separator == "/" else ".", "" if plain else "c"
        ),
        str(header.get("data_type")),
    )
