"""Which cells are done, found out from the files of vectors where the index is lost."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np

from napari_batchfx.features._blocks import BrokenBlockError, places_in
from napari_batchfx.features._done import Piece
from napari_batchfx.features._files import Files
from napari_batchfx.features._layout import CHUNK

__all__ = ["block_name", "rebuilt", "show", "unlisted"]

At = tuple[int, int]


def block_name(at: At) -> str:
    """File of a block of vectors."""
    return f"vectors/c/{at[0]}/{at[1]}/0"


def unlisted(files: Files, edge: int, rows: set[int]) -> set[At]:
    """Pieces of the index whose files are gone, while there are vectors; ``rows`` have files."""
    side = CHUNK // edge
    missing = set()
    for name in files.folders("vectors/c"):
        if name.isdigit() and int(name) // side not in rows:
            cols = (col for col in files.folders(f"vectors/c/{name}") if col.isdigit())
            missing |= {(int(name) // side, int(col) // side) for col in cols}
    return missing


def rebuilt(files: Files, edge: int, at: At) -> Piece:
    """A piece of the index, made from what its blocks have."""
    piece = np.zeros((CHUNK, CHUNK), bool)
    side = CHUNK // edge
    for i in range(at[0] * side, (at[0] + 1) * side):
        for name in files.folders(f"vectors/c/{i}"):
            if name.isdigit() and int(name) // side == at[1]:
                data = files.get(block_name((i, int(name))))
                try:
                    places = places_in(data or b"", edge)
                except BrokenBlockError:
                    continue
                show(piece, (i, int(name)), places, edge)
    return piece


def show(piece: Piece, block: At, places: Iterable[int], edge: int) -> None:
    """Mark exactly these places of a block in its piece."""
    square = np.zeros(edge**2, bool)
    square[np.fromiter(places, np.int64)] = True
    r, c = (i * edge % CHUNK for i in block)
    piece[r : r + edge, c : c + edge] = square.reshape(edge, edge)
