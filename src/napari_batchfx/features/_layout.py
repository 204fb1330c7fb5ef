"""What an entry is, in the zarr.json files that any zarr 3 reader takes; and what is read from them."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from napari_batchfx.features._blocks import edge_for
from napari_batchfx.features._files import Files

__all__ = ["CHUNK", "KEYS", "Layout", "group_json", "read_json", "read_layout", "room_for", "write_layout"]

CHUNK = 256
"""Rows and columns of cells in one file that says which are done."""
KEYS = ("fingerprint", "encoder", "grid", "stain")

_CHECK = {"name": "crc32c"}
_BYTES = {"name": "bytes", "configuration": {"endian": "little"}}


@dataclass
class Layout:
    """What the entry's files say.

    Parameters
    ----------
    attributes : dict or None
        fingerprint, encoder, grid, stain; None where they can't be read.
    dim : int or None
        Length of a vector; None where it can't be read.
    edge : int
        Rows and columns of cells that share a file of vectors.
    shape : (int, int)
        Rows and columns that the zarr arrays have room for.
    whole : bool
        Whether all of it could be read; else it is written anew before anything is added.
    """

    attributes: dict[str, str] | None
    dim: int | None
    edge: int = 0
    shape: tuple[int, int] = (0, 0)
    whole: bool = False


def read_json(data: bytes | None) -> dict[str, Any] | None:
    """A zarr.json, or None where there is none or it is torn."""
    try:
        found = json.loads(data) if data is not None else None
    except ValueError:
        return None
    return found if isinstance(found, dict) else None


def group_json(attributes: Mapping[str, Any]) -> bytes:
    """The zarr.json of a group."""
    return _dump({"attributes": dict(attributes), "zarr_format": 3, "node_type": "group"})


def read_layout(files: Files) -> Layout:
    """Read what there is; never fails for what is torn or missing."""
    group = read_json(files.get("zarr.json"))
    attributes = None
    if group is not None and isinstance(group.get("attributes"), dict):
        found = group["attributes"]
        if all(isinstance(found.get(key), str) for key in KEYS):
            attributes = {key: found[key] for key in KEYS}
    layout = Layout(attributes, None)
    vectors, done = read_json(files.get("vectors/zarr.json")), read_json(files.get("done/zarr.json"))
    try:
        if vectors is not None:
            rows, cols, dim = (int(n) for n in vectors["shape"])
            edge = int(vectors["chunk_grid"]["configuration"]["chunk_shape"][0])
            if dim >= 1 and edge >= 1 and CHUNK % edge == 0:
                layout.dim, layout.edge, layout.shape = dim, edge, (rows, cols)
                layout.whole = attributes is not None and done is not None and done["shape"] == [rows, cols]
    except (KeyError, TypeError, ValueError, IndexError):
        layout.whole = False
    return layout


def write_layout(files: Files, layout: Layout) -> None:
    """Write the zarr.json files; ``layout`` must have attributes and dim."""
    assert layout.attributes is not None
    assert layout.dim is not None
    layout.edge = layout.edge or edge_for(layout.dim)
    if read_layout(files).attributes != layout.attributes:
        files.put("zarr.json", group_json(layout.attributes))
    files.put("vectors/zarr.json", _vectors(layout.shape, layout.edge, layout.dim))
    files.put("done/zarr.json", _done(layout.shape))
    layout.whole = True


def room_for(shape: tuple[int, int], cells: np.ndarray[Any, Any]) -> tuple[int, int]:
    """The shape, grown in whole files to hold the cells."""
    rows, cols = (-(-(int(n) + 1) // CHUNK) * CHUNK for n in cells.max(axis=0))
    return max(shape[0], rows), max(shape[1], cols)


def _dump(what: dict[str, Any]) -> bytes:
    return json.dumps(what, indent=2).encode()


def _array(shape: list[int], dtype: str, chunk: list[int], separator: str, fill: Any, codecs: Any) -> bytes:
    return _dump(
        {
            "shape": shape,
            "data_type": dtype,
            "chunk_grid": {"name": "regular", "configuration": {"chunk_shape": chunk}},
            "chunk_key_encoding": {"name": "default", "configuration": {"separator": separator}},
            "fill_value": fill,
            "codecs": codecs,
            "attributes": {},
            "zarr_format": 3,
            "node_type": "array",
            "storage_transformers": [],
        }
    )


def _vectors(shape: tuple[int, int], edge: int, dim: int) -> bytes:
    shard = {
        "chunk_shape": [1, 1, dim],
        "codecs": [_BYTES, _CHECK],
        "index_codecs": [_BYTES, _CHECK],
        "index_location": "end",
    }
    codecs = [{"name": "sharding_indexed", "configuration": shard}]
    return _array([*shape, dim], "float32", [edge, edge, dim], "/", "NaN", codecs)


def _done(shape: tuple[int, int]) -> bytes:
    # one folder: its time says whether anything in it was replaced
    codecs = [{"name": "bytes"}, {"name": "gzip", "configuration": {"level": 1}}, _CHECK]
    return _array([*shape], "uint8", [CHUNK, CHUNK], ".", 0, codecs)
