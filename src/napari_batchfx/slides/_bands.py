"""Files of prepared tiles: one row of tiles of one level each, lossless, checked, complete or not there."""

from __future__ import annotations

import contextlib
import json
import os
import tempfile
import threading
import zlib
from collections.abc import Iterable
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
from numpy.typing import NDArray

from napari_batchfx.slides.damage import Damage, DamageLog

__all__ = ["BAND_NAME", "PART_NAME", "BandStore", "BandWriter"]

Rgb = NDArray[np.uint8]
MAGIC = b"batchfx-band-1\r\n"
TAIL = 8 + len(MAGIC)
BAND_NAME = r"level-\d+-row-\d+\.(band|part-\w+)"
PART_NAME = "level-*-row-*.part-*"
# Fast and half the size; stronger codecs gain a few percent and cost 5 to 40 times the time.
ZSTD_LEVEL = 1


class BandStore:
    """Prepared rows of tiles of one slide in one folder; whatever is missing or wrong there doesn't exist.

    A file says itself whose pixels it holds: ``identity`` must be equal, or it isn't used.

    Parameters
    ----------
    folder : Path
        Of this slide alone.
    identity : dict
        Plain values; fingerprint, colours, reader, shapes.
    shapes, tile
        (h, w) of each level that may be prepared, and of its tiles.
    damage : DamageLog
        Gets the damage that the rows were made from.
    """

    def __init__(
        self,
        folder: Path,
        identity: dict[str, Any],
        shapes: dict[int, tuple[int, int]],
        tile: tuple[int, int],
        damage: DamageLog,
    ) -> None:
        self.folder = folder
        self.levels = frozenset(shapes)
        self._identity = identity
        self._shapes = shapes
        self._tile = tile
        self._damage = damage
        self._index: dict[tuple[int, int], list[tuple[int, int, int]]] = {}
        self._lock = threading.Lock()
        self._is_marked = False

    def n_rows(self, level: int) -> int:
        """Number of rows of tiles of a level."""
        return -(-self._shapes[level][0] // self._tile[0])

    def n_cols(self, level: int) -> int:
        """Number of tiles in a row of a level."""
        return -(-self._shapes[level][1] // self._tile[1])

    def path(self, level: int, row: int) -> Path:
        """Where a row lies."""
        return self.folder / f"level-{level}-row-{row}.band"

    def has(self, level: int, row: int) -> bool:
        """Whether a row is there and whole."""
        return self._find(level, row) is not None

    @property
    def is_complete(self) -> bool:
        """Whether every row of every level is there."""
        return all(self.has(level, row) for level in self.levels for row in range(self.n_rows(level)))

    def _find(self, level: int, row: int) -> list[tuple[int, int, int]] | None:
        if level not in self.levels:
            return None
        found = self._index.get((level, row))
        if found is None:
            # not remembered: it may be prepared a moment later, perhaps by another program
            found = self._load(level, row)
            if found is not None:
                with self._lock:
                    self._index[level, row] = found
        return found

    def _load(self, level: int, row: int) -> list[tuple[int, int, int]] | None:
        try:
            with self.path(level, row).open("rb") as file:
                size = file.seek(0, os.SEEK_END)
                file.seek(max(0, size - TAIL))
                tail = file.read(TAIL)
                length, crc = (int.from_bytes(tail[i : i + 4], "little") for i in (0, 4))
                if len(tail) != TAIL or tail[8:] != MAGIC or length > size - TAIL:
                    return None
                file.seek(size - TAIL - length)
                text = file.read(length)
        except OSError:
            return None
        if zlib.crc32(text) != crc:
            return None
        try:
            facts = json.loads(text)
            if facts["identity"] != self._identity or facts["place"] != [level, row]:
                return None
            damage = [Damage(*place) for place in facts["damage"]]
            tiles = [(int(offset), int(count), int(check)) for offset, count, check in facts["tiles"]]
        except (ValueError, TypeError, KeyError):
            return None
        if len(tiles) != self.n_cols(level):
            return None
        for one in damage:
            self._damage.add(one)
        return tiles

    def tile(self, level: int, row: int, col: int) -> Rgb | None:
        """Return a prepared tile, uint8 (h, w, 3), or None."""
        found = self._find(level, row)
        if found is None:
            return None
        offset, count, crc = found[col]
        path = self.path(level, row)
        try:
            with path.open("rb") as file:
                file.seek(offset)
                data = file.read(count)
        except OSError:
            data = b""
        if len(data) != count or zlib.crc32(data) != crc:
            with self._lock:
                self._index.pop((level, row), None)
            # gone, or damaged on disk: out of the way, so that it is made again
            with contextlib.suppress(OSError):
                path.unlink()
            return None
        self._mark()
        return _decode(data, self._size(level, row, col))

    def _size(self, level: int, row: int, col: int) -> tuple[int, int]:
        (height, width), (th, tw) = self._shapes[level], self._tile
        return (min(th, height - row * th), min(tw, width - col * tw))

    def _mark(self) -> None:
        """Note that the folder is in use: the limit on the disk drops the longest unused one first."""
        if not self._is_marked:
            self._is_marked = True
            with contextlib.suppress(OSError):
                os.utime(self.folder)

    def writer(self, level: int, row: int) -> BandWriter:
        """Return a context manager that takes the tiles of a row, left to right."""
        return BandWriter(self.path(level, row), {"identity": self._identity, "place": [level, row]})


class BandWriter:
    """Writes one row: into a file of another name, which takes its place when it is whole."""

    def __init__(self, path: Path, facts: dict[str, Any]) -> None:
        self._path = path
        self._facts = facts
        self._tiles: list[tuple[int, int, int]] = []
        self._at = 0
        self._file: BinaryIO | None = None
        self._part = path

    def __enter__(self) -> BandWriter:
        handle, name = tempfile.mkstemp(prefix=f"{self._path.stem}.part-", dir=self._path.parent)
        self._part = Path(name)
        self._file = os.fdopen(handle, "wb")
        return self

    def add(self, tile: Rgb) -> None:
        """Append the next tile."""
        import imagecodecs

        assert self._file is not None
        data = bytes(imagecodecs.zstd_encode(tile.tobytes(), ZSTD_LEVEL))
        self._file.write(data)
        self._tiles.append((self._at, len(data), zlib.crc32(data)))
        self._at += len(data)

    def finish(self, damage: Iterable[Damage]) -> int:
        """Put the row in its place; returns its size in bytes."""
        assert self._file is not None
        lines = [[d.level, d.row, d.col, d.reason] for d in damage]
        text = json.dumps({**self._facts, "tiles": self._tiles, "damage": lines}).encode()
        self._file.write(text)
        self._file.write(len(text).to_bytes(4, "little") + zlib.crc32(text).to_bytes(4, "little") + MAGIC)
        self._file.close()
        self._file = None
        self._part.replace(self._path)
        return self._at + len(text) + TAIL

    def __exit__(self, *_: object) -> None:
        if self._file is not None:
            with contextlib.suppress(OSError):  # a full disk may fail once more here
                self._file.close()
            with contextlib.suppress(OSError):
                self._part.unlink()


def _decode(data: bytes, size: tuple[int, int]) -> Rgb:
    import imagecodecs

    pixels = np.frombuffer(imagecodecs.zstd_decode(data), np.uint8)
    return pixels.reshape(*size, 3)
