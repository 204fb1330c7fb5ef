"""Entries of version 1, read and never changed: rows in the order they came in, found by their cells."""

from __future__ import annotations

import numpy as np
from google_crc32c import value as crc32c
from numpy.typing import NDArray

from napari_batchfx.features._done import DoneCells
from napari_batchfx.features._files import Files
from napari_batchfx.features._layout import read_json

__all__ = ["Version1"]

Cells = NDArray[np.int32]


class Version1:
    """The rows of an entry that an earlier version wrote.

    Two zarr arrays without shards: ``features`` (n, dim) float32 in chunks of rows and ``cells`` (n, 2)
    int32, -1 where a row isn't filled. Each chunk is raw numbers and a CRC32C.
    """

    def __init__(self, files: Files, dim: int | None = None) -> None:
        self._files = files
        self.dim = 0
        self.done = DoneCells()
        self.nbytes = 0
        self._keys = np.zeros(0, np.int64)
        self._rows = np.zeros(0, np.int64)
        self._checked = DoneCells()
        about, cells = (read_json(files.get(f"{name}/zarr.json")) for name in ("features", "cells"))
        if about is None and (dim is None or not files.folders("features/c")):
            return
        # all entries of version 1 had these chunks, so a torn zarr.json loses nothing
        self._chunk, self.dim, length = 256, dim or 0, 1024
        try:
            if about is not None:
                self._chunk = int(about["chunk_grid"]["configuration"]["chunk_shape"][0])
                self.dim = int(about["shape"][1])
            if cells is not None:
                length = int(cells["chunk_grid"]["configuration"]["chunk_shape"][0])
            self._read_cells(length)
        except (KeyError, TypeError, ValueError, IndexError):
            # not what version 1 wrote: there is nothing in it that could be told apart
            self.dim = 0
        self._weigh()

    def _read_cells(self, length: int) -> None:
        parts, rows = [], []
        for name in self._files.folders("cells/c"):
            found = self._raw(f"cells/c/{name}/0", length * 8)
            if found is None:  # damaged: its cells are encoded again
                continue
            part = np.frombuffer(found, "<i4").reshape(-1, 2)
            filled = np.flatnonzero((part >= 0).all(axis=1))
            parts.append(part[filled])
            rows.append(filled + int(name) * length)
        if not parts:
            return
        cells, at = np.concatenate(parts), np.concatenate(rows)
        keys, first = np.unique(_pack(cells), return_index=True)
        self._keys, self._rows = keys, at[first]
        self.done.mark(cells[first].astype(np.int32), True)

    def _weigh(self) -> None:
        for folder in ("features", "cells"):
            names = [folder, *(f"{folder}/c/{name}" for name in self._files.folders(f"{folder}/c"))]
            for name in names:
                self.nbytes += sum(found.size for found in self._files.listing(name).values())

    def _raw(self, name: str, length: int) -> bytes | None:
        data = self._files.get(name)
        if data is None or len(data) != length + 4:
            return None
        raw = data[:-4]
        return raw if crc32c(raw) == int.from_bytes(data[-4:], "little") else None

    def verify(self, cells: Cells) -> NDArray[np.bool_]:
        """Which cells' vectors are whole; each is read once."""
        whole = self._checked.where(cells)
        if not whole.all():
            rest = np.flatnonzero(~whole)
            whole[rest] = self.gather(cells[rest], None)
            self._checked.mark(cells[rest[whole[rest]]], True)
        return whole

    def gather(self, cells: Cells, out: NDArray[np.float32] | None) -> NDArray[np.bool_]:
        """Put the cells' vectors into ``out``; which of them are whole."""
        whole = np.zeros(len(cells), bool)
        if not len(self._keys) or not len(cells):
            return whole
        keys = _pack(cells)
        at = np.minimum(np.searchsorted(self._keys, keys), len(self._keys) - 1)
        rows = np.where(self._keys[at] == keys, self._rows[at], -1)
        chunks = rows // self._chunk
        for chunk in np.unique(chunks[rows >= 0]).tolist():
            raw = self._raw(f"features/c/{chunk}/0", self._chunk * self.dim * 4)
            if raw is None:
                continue
            block = np.frombuffer(raw, "<f4").reshape(self._chunk, self.dim)
            some = np.flatnonzero(chunks == chunk)
            vectors = block[rows[some] - chunk * self._chunk]
            whole[some] = np.isfinite(vectors).all(axis=1)
            if out is not None:
                out[some] = vectors
        return whole


def _pack(cells: NDArray[np.int32]) -> NDArray[np.int64]:
    wide = cells.astype(np.int64)
    return (wide[:, 0] << 32) | wide[:, 1]
