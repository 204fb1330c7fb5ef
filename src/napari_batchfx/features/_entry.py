"""An entry's files: vectors in blocks of neighbours, and an index of the cells that are done."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Callable, Mapping

import numpy as np
from numpy.typing import NDArray

from napari_batchfx.features._blocks import (
    BrokenBlockError,
    edge_for,
    encode_block,
    index_bytes,
    vectors_in,
)
from napari_batchfx.features._done import DoneCells, Piece, by_piece, decode_piece, encode_piece
from napari_batchfx.features._files import Files, Signature, settled
from napari_batchfx.features._layout import CHUNK, read_layout, room_for, write_layout
from napari_batchfx.features._rebuild import block_name, rebuilt, show, unlisted
from napari_batchfx.features._version1 import Version1
from napari_batchfx.features.locks import SlideLock

__all__ = ["Entry"]

Cells = NDArray[np.int32]
At = tuple[int, int]


class Entry:
    """The files of one entry, whatever happened to them.

    A batch's blocks are replaced first and the index after them. So the index never names a vector that
    isn't there, whenever the process is killed; and what a block has beyond the index is found again when
    the block is next written. What an earlier version wrote is read where it lies.

    Parameters
    ----------
    files : Files
    lock : SlideLock
        Held by who calls :meth:`write`.
    attributes, dim
        What the entry is of and the length of its vectors, if known: used where the files don't say.
    prepare : callable
        Called before the entry's first file is written.
    """

    def __init__(
        self,
        files: Files,
        lock: SlideLock,
        attributes: Mapping[str, str] | None,
        dim: int | None,
        prepare: Callable[[], None],
    ) -> None:
        self._files, self._lock, self._prepare = files, lock, prepare
        self._existed = files.exists()
        self._layout = read_layout(files)
        self._old = Version1(files, dim)
        if self._layout.attributes is None and attributes is not None:
            self._layout.attributes = dict(attributes)
        self._layout.dim = self._layout.dim or self._old.dim or dim
        self._layout.edge = self._layout.edge or edge_for(self._layout.dim or 1)
        self.attributes, self.dim = self._layout.attributes, self._layout.dim
        self._new = DoneCells()
        self._plain_bytes = 0
        self._turn = -1
        self._start_anew()

    def _start_anew(self) -> None:
        self.known_identity = self._identity()
        self._known: dict[At, Signature] = {}
        self._data: dict[At, bytes] = {}
        self._lost: dict[At, set[tuple[int, int]]] = {}
        self._verified: dict[At, tuple[Signature, Piece]] = {}
        self._stamp: Signature | None = None
        self._looked = False

    def _identity(self) -> Signature | None:
        """Another one when the entry was deleted and made anew."""
        return self._files.signature("zarr.json")

    def is_still(self, known: object) -> bool:
        """Whether the entry is the one that had this ``known_identity``."""
        return self._files.exists() and self._identity() == known

    @property
    def _edge(self) -> int:
        return self._layout.edge

    @property
    def _bits(self) -> int:
        return self._edge.bit_length() - 1

    # ------------------------------------------------------------------ the index

    def refresh(self) -> bool:
        """See what was added since; False if the entry was deleted."""
        if self._lock.held and self._turn == self._lock.turn:
            return True
        turn = self._lock.turn
        existed = self._existed  # first: another thread may be making the entry just now
        if not self._files.exists():
            return not existed
        if not self._existed:  # made by another program meanwhile
            self._existed = True
            found = read_layout(self._files)
            self._layout.edge, self._layout.shape = found.edge or self._edge, found.shape
            self._layout.whole = found.whole
        if self.known_identity != self._identity():
            self._start_anew()
            self._new, self._old = DoneCells(), Version1(self._files, self.dim)
        stamp = self._files.signature("done")
        if not self._looked or stamp is None or stamp != self._stamp or not settled(stamp):
            self._reload()
            self._stamp = stamp
        self._turn = turn
        return True

    def _reload(self) -> None:
        there: dict[At, Signature] = {}
        for name, signature in self._files.listing("done").items():
            parts = name.split(".")
            if len(parts) == 3 and parts[0] == "c" and parts[1].isdigit() and parts[2].isdigit():
                there[int(parts[1]), int(parts[2])] = signature
        for at, signature in there.items():
            # another version of a young file may look the same
            if self._known.get(at) != signature or not settled(signature):
                data = self._files.get(f"done/c.{at[0]}.{at[1]}")
                # what was lost may be whole again, though the same tiles are done
                if data is not None and (data != self._data.get(at) or at in self._lost):
                    self._take(at, decode_piece(data))
                    self._data[at] = data
        for at in self._known.keys() - there.keys():
            self._data.pop(at, None)
            self._take(at, None)
        if not self._looked:
            self._looked = True
            for at in unlisted(self._files, self._edge, {row for row, _ in there}):
                self._take(at, None)
        self._known = there
        names = ("zarr.json", "vectors/zarr.json", "done/zarr.json")
        sizes = [self._files.signature(name) for name in names]
        self._plain_bytes = sum(found.size for found in sizes if found is not None)

    def _take(self, at: At, piece: Piece | None) -> None:
        """Use a piece of the index; a damaged one (None) is made anew from the vectors' files."""
        if piece is None:
            piece = rebuilt(self._files, self._edge, at)
        self._new.set_piece(at, piece if piece.any() else None)
        self._prefer_new(at, piece)
        lost = self._lost.pop(at, None)
        if lost:
            again = np.array(sorted(lost), np.int32)
            again = again[self._new.where(again)]
            self.lose(again[~self.gather(again, None)])

    def _prefer_new(self, at: At, piece: Piece) -> None:
        """A cell of version 1 that was encoded again counts once."""
        if at in self._old.done.pieces:
            self._old.done.set_piece(at, self._old.done.pieces[at] & ~piece)

    def lose(self, cells: Cells) -> None:
        """These cells aren't done any more, until somebody writes them again."""
        self._new.mark(cells, False)
        self._old.done.mark(cells, False)
        for row, col in cells.tolist():
            self._lost.setdefault((row // CHUNK, col // CHUNK), set()).add((row, col))

    @property
    def n(self) -> int:
        """Number of cells that are done."""
        return len(self._new) + len(self._old.done)

    @property
    def nbytes(self) -> int:
        """Bytes of the files, from the index: a block's file has a vector and a checksum for each cell."""
        if self.dim is None:
            return self._old.nbytes
        vectors = (len(self._new) + sum(map(len, self._lost.values()))) * (4 * self.dim + 4)
        blocks = self._new.n_blocks(self._edge) * index_bytes(self._edge)
        index = sum(signature.size for signature in self._known.values())
        return vectors + blocks + index + self._plain_bytes + self._old.nbytes

    def done_cells(self) -> Cells:
        """All of them, row-major."""
        return self._new.cells(self._old.done)

    def has(self, cells: Cells) -> Piece:
        """Which cells are done."""
        return self._new.where(cells) | self._old.done.where(cells)

    # ------------------------------------------------------------------ vectors

    def gather(self, cells: Cells, out: NDArray[np.float32] | None) -> Piece:
        """Put vectors into ``out``; which of the cells are there and whole."""
        assert self.dim is not None
        whole = np.zeros(len(cells), bool)
        new = self._new.where(cells)
        at_new = np.flatnonzero(new)
        blocks = list(by_piece(cells[at_new], self._bits))
        files = self._files.get_many([block_name(block) for block, _ in blocks])
        for (_, at), data in zip(blocks, files, strict=True):
            some = at_new[at]
            places = self._places(cells[some])
            try:
                found, _ = vectors_in(data or b"", self._edge, self.dim, set(places))
            except BrokenBlockError:
                continue
            there = np.array([place in found for place in places])
            whole[some] = there
            if out is not None and there.any():
                joined = b"".join([found[place] for place in places if place in found])
                out[some[there]] = np.frombuffer(joined, "<f4").reshape(-1, self.dim)
        if not new.all():
            rest = np.flatnonzero(~new)
            part = None if out is None else np.empty((len(rest), self.dim), np.float32)
            whole[rest] = self._old.gather(cells[rest], part)
            if out is not None:
                out[rest] = part
        return whole

    def _places(self, cells: Cells) -> list[int]:
        result: list[int] = (cells[:, 0] % self._edge * self._edge + cells[:, 1] % self._edge).tolist()
        return result

    def verify(self, cells: Cells) -> Piece:
        """Which cells are whole on the disk; a file is read once, until it changes."""
        assert self.dim is not None
        whole = np.zeros(len(cells), bool)
        new = self._new.where(cells)
        at_new = np.flatnonzero(new)
        unread: list[tuple[At, NDArray[np.int64], Signature]] = []
        for block, at in by_piece(cells[at_new], self._bits):
            signature = self._files.signature(block_name(block))
            known = self._verified.get(block)
            if known is not None and known[0] == signature:
                whole[at_new[at]] = known[1][self._places(cells[at_new[at]])]
            elif signature is not None:
                unread.append((block, at_new[at], signature))
        files = self._files.get_many([block_name(block) for block, _, _ in unread])
        for (block, some, signature), data in zip(unread, files, strict=True):
            square = np.zeros(self._edge**2, bool)
            with contextlib.suppress(BrokenBlockError):
                square[list(vectors_in(data or b"", self._edge, self.dim)[0])] = True
            if settled(signature):
                self._verified[block] = (signature, square)
            whole[some] = square[self._places(cells[some])]
        if not new.all():
            whole[~new] = self._old.verify(cells[~new])
        return whole

    def write(self, cells: Cells, values: NDArray[np.float32], state: threading.RLock) -> None:
        """Add cells that aren't done; ``state`` is held while the index in memory changes."""
        assert self.dim is not None
        room = room_for(self._layout.shape, cells)
        if not self._layout.whole or room != self._layout.shape:
            if not self._layout.whole:
                self._prepare()
            self._layout.shape = room
            self._layout.whole = False
            write_layout(self._files, self._layout)
            self._existed, self.known_identity = True, self._identity()
        side = CHUNK // self._edge
        written: dict[At, dict[At, list[int]]] = {}
        unknown: set[At] = set()
        for block, at in by_piece(cells, self._bits):
            name, piece = block_name(block), (block[0] // side, block[1] // side)
            kept: dict[int, bytes] = {}
            data = self._files.get(name)
            if data is not None:
                try:
                    kept, _ = vectors_in(data, self._edge, self.dim)
                except BrokenBlockError:
                    kept = {}
                if kept and not self._any(block):
                    unknown.add(piece)  # more than the index knows: it was lost, or a process was killed
            fresh = {
                place: vector.astype("<f4").tobytes()
                for place, vector in zip(self._places(cells[at]), values[at], strict=True)
            }
            self._files.put(name, encode_block(fresh | kept, self._edge))
            written.setdefault(piece, {})[block] = sorted(fresh | kept)
        try:
            for piece, blocks in written.items():
                self._list(piece, blocks, piece in unknown, state)
        finally:
            self._lock.turn += 1
        self._turn, self._stamp, self._looked = self._lock.turn, self._files.signature("done"), True

    def _any(self, block: At) -> bool:
        piece = self._new.pieces.get((block[0] * self._edge // CHUNK, block[1] * self._edge // CHUNK))
        r, c = (i * self._edge % CHUNK for i in block)
        return piece is not None and bool(piece[r : r + self._edge, c : c + self._edge].any())

    def _list(self, at: At, blocks: dict[At, list[int]], unknown: bool, state: threading.RLock) -> None:
        """Write a piece of the index: what its blocks really have."""
        before = self._new.pieces.get(at)
        if unknown:
            piece = rebuilt(self._files, self._edge, at)
        else:
            piece = np.zeros((CHUNK, CHUNK), bool) if before is None else before.copy()
        for block, places in blocks.items():
            show(piece, block, places, self._edge)
        data = encode_piece(piece)
        signature = self._files.put(f"done/c.{at[0]}.{at[1]}", data)
        with state:
            self._data[at] = data
            self._new.set_piece(at, piece)
            self._prefer_new(at, piece)
            self._known[at] = signature
            # the file no longer says that they are done
            self._lost.pop(at, None)
