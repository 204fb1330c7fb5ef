"""Bytes of one file of vectors: a zarr 3 shard of ``edge`` x ``edge`` cells, each with its own checksum."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

import numpy as np
from google_crc32c import value as crc32c
from numpy.typing import NDArray

__all__ = ["BrokenBlockError", "edge_for", "encode_block", "index_bytes", "places_in", "vectors_in"]

_EMPTY = np.uint64(2**64 - 1)
_MOST_BYTES = 2**19
_EDGES = (32, 16, 8, 4, 2)


class BrokenBlockError(ValueError):
    """The file isn't whole: none of its vectors can be found."""


def edge_for(dim: int) -> int:
    """Rows and columns of cells that share a file, so that a full one takes half a megabyte at most.

    >>> edge_for(63), edge_for(384), edge_for(1024), edge_for(2560)
    (32, 16, 8, 4)
    """
    return next((edge for edge in _EDGES if edge * edge * dim * 4 <= _MOST_BYTES), _EDGES[-1])


def index_bytes(edge: int) -> int:
    """Bytes of the index at the end: offset and length of each cell, and a checksum."""
    return edge * edge * 16 + 4


def encode_block(vectors: Mapping[int, bytes], edge: int) -> bytes:
    """The file that holds these vectors (float32, little-endian), by place ``row * edge + col`` in it."""
    index = np.full((edge * edge, 2), _EMPTY, "<u8")
    parts, offset = [], 0
    for place in sorted(vectors):
        vector = vectors[place]
        parts += [vector, crc32c(vector).to_bytes(4, "little")]
        index[place] = offset, len(vector) + 4
        offset += len(vector) + 4
    table = index.tobytes()
    return b"".join([*parts, table, crc32c(table).to_bytes(4, "little")])


def _index(data: bytes, edge: int) -> NDArray[np.int64]:
    """Offset of each place's vector, or -1; a place whose entry makes no sense has -2."""
    size = index_bytes(edge)
    table, check = data[-size:-4], data[-4:]
    if len(data) < size or crc32c(table) != int.from_bytes(check, "little"):
        raise BrokenBlockError
    entries = np.frombuffer(table, "<u8").reshape(-1, 2)
    offsets = np.where((entries == _EMPTY).all(axis=1), np.uint64(0), entries[:, 0]).astype(np.int64)
    offsets[(entries == _EMPTY).all(axis=1)] = -1
    return offsets


def places_in(data: bytes, edge: int) -> NDArray[np.int64]:
    """Places that have a vector.

    Raises
    ------
    BrokenBlockError
        If the file isn't whole.
    """
    return np.flatnonzero(_index(data, edge) != -1)


def vectors_in(
    data: bytes, edge: int, dim: int, places: Iterable[int] | None = None
) -> tuple[dict[int, bytes], list[int]]:
    """Vectors of places (all unless given), and the places that were asked for and have none that is whole.

    Raises
    ------
    BrokenBlockError
        If the file isn't whole.
    """
    offsets, length = _index(data, edge).tolist(), 4 * dim
    end = len(data) - index_bytes(edge)
    found: dict[int, bytes] = {}
    bad = []
    for place in range(len(offsets)) if places is None else places:
        offset = offsets[place]
        if offset == -1 and places is None:
            continue
        stop = offset + length
        vector = data[offset:stop]
        if 0 <= offset <= end - length - 4 and crc32c(vector) == int.from_bytes(
            data[stop : stop + 4], "little"
        ):
            found[place] = vector
        else:
            bad.append(place)
    return found, bad
