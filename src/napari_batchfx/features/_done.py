"""Which cells are done: a picture of zeros and ones, in pieces of 256 x 256 cells."""

from __future__ import annotations

import zlib
from collections.abc import Iterator
from typing import Any

import numpy as np
from google_crc32c import value as crc32c
from numpy.typing import NDArray

from napari_batchfx.features._layout import CHUNK

__all__ = ["DoneCells", "Piece", "by_piece", "decode_piece", "encode_piece"]

Piece = NDArray[np.bool_]
Cells = NDArray[np.int32]

_BITS = CHUNK.bit_length() - 1


def encode_piece(piece: Piece) -> bytes:
    """The file of a piece: uint8, gzip, checksum."""
    packed = zlib.compress(piece.astype(np.uint8).tobytes(), 1, wbits=31)
    check: bytes = crc32c(packed).to_bytes(4, "little")
    return packed + check


def decode_piece(data: bytes) -> Piece | None:
    """The piece of a file, or None where it is damaged."""
    if crc32c(data[:-4]) != int.from_bytes(data[-4:], "little"):
        return None
    try:
        plain = zlib.decompress(data[:-4], wbits=31)
    except zlib.error:
        return None
    if len(plain) != CHUNK * CHUNK:
        return None
    piece: Piece = np.frombuffer(plain, np.uint8).reshape(CHUNK, CHUNK) != 0
    return piece


def by_piece(cells: NDArray[Any], bits: int = _BITS) -> Iterator[tuple[tuple[int, int], NDArray[np.int64]]]:
    """Positions of cells, square by square of ``2 ** bits`` cells a side, with the square's (row, col)."""
    if not len(cells):
        return
    high = cells.astype(np.int64) >> bits
    key = (high[:, 0] << 32) + high[:, 1]
    order = np.argsort(key, kind="stable")
    ends = np.flatnonzero(np.diff(key[order])) + 1
    for at in np.split(order, ends):
        yield (int(high[at[0], 0]), int(high[at[0], 1])), at


class DoneCells:
    """A set of cells, quick to ask, 1 byte for each cell of the pieces that have any."""

    def __init__(self) -> None:
        self.pieces: dict[tuple[int, int], Piece] = {}
        self._counts: dict[tuple[int, int], int] = {}
        self._blocks: dict[tuple[int, int], int] = {}

    def __len__(self) -> int:
        return sum(self._counts.values())

    def where(self, cells: Cells) -> Piece:
        """Which cells are in the set."""
        found = np.zeros(len(cells), bool)
        for at, some in by_piece(cells):
            piece = self.pieces.get(at)
            if piece is not None:
                found[some] = piece[cells[some, 0] % CHUNK, cells[some, 1] % CHUNK]
        return found

    def set_piece(self, at: tuple[int, int], piece: Piece | None) -> None:
        """Replace a piece, or take it out."""
        self._blocks.pop(at, None)
        if piece is None:
            self.pieces.pop(at, None)
            self._counts.pop(at, None)
        else:
            self.pieces[at] = piece
            self._counts[at] = int(np.count_nonzero(piece))

    def mark(self, cells: Cells, value: bool) -> None:
        """Add cells, or take them out."""
        for at, some in by_piece(cells):
            before = self.pieces.get(at)
            piece = np.zeros((CHUNK, CHUNK), bool) if before is None else before.copy()
            piece[cells[some, 0] % CHUNK, cells[some, 1] % CHUNK] = value
            self.set_piece(at, piece)

    def n_blocks(self, edge: int) -> int:
        """How many squares of ``edge`` cells a side have any."""
        for at, piece in self.pieces.items():
            if at not in self._blocks:
                n = CHUNK // edge
                self._blocks[at] = int(piece.reshape(n, edge, n, edge).any(axis=(1, 3)).sum())
        return sum(self._blocks.values())

    def cells(self, also: DoneCells | None = None) -> Cells:
        """All cells of this set and of another one, (n, 2) int32, row-major."""
        sets = [self] if also is None else [self, also]
        keys = sorted({at for one in sets for at in one.pieces})
        bands = []
        for row in sorted({at[0] for at in keys}):
            cols = [at[1] for at in keys if at[0] == row]
            band = np.zeros((CHUNK, len(cols) * CHUNK), bool)
            for i, col in enumerate(cols):
                for one in sets:
                    piece = one.pieces.get((row, col))
                    if piece is not None:
                        band[:, i * CHUNK : (i + 1) * CHUNK] |= piece
            r, c = np.nonzero(band)
            first = np.asarray(cols, np.int64) * CHUNK
            bands.append(np.stack([r + row * CHUNK, first[c // CHUNK] + c % CHUNK], axis=1).astype(np.int32))
        return np.concatenate(bands) if bands else np.zeros((0, 2), np.int32)
