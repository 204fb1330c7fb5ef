"""Makes the tiles of prepared levels row by row in bounded memory, decoding each stored tile about once."""

from __future__ import annotations

import time
from collections.abc import Callable, Generator, Iterator
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from napari_batchfx.slides._bands import PART_NAME, BandStore
from napari_batchfx.slides.cache import Key, TileCache
from napari_batchfx.slides.damage import Damage
from napari_batchfx.slides.halving import box_half
from napari_batchfx.slides.levels import levels_to_prepare, made_from

if TYPE_CHECKING:
    from napari_batchfx.jobs import Progress, Ticker
    from napari_batchfx.slides._pixels import Pixels
    from napari_batchfx.slides._watch import FileWatch

__all__ = ["Maker", "rows_in_order"]

Rgb = NDArray[np.uint8]
# Decoded tiles, and those of the level between the file's and the first prepared one, wait here meanwhile:
# the shared cache belongs to the view.
WORK_BYTES = 64 * 2**20
# Between the parts of a tile the job lets others have a turn when this much time has passed.
PAUSE_S = 0.05


def rows_in_order(store: BandStore, runs: tuple[range, ...]) -> Iterator[tuple[int, int]]:
    """Yield (level, row), each as soon as the rows below are there: far-out views fill in as the job goes."""
    for run in runs:
        for first in range(store.n_rows(run.start)):
            level, row = run.start, first
            yield level, row
            while level + 1 in run and (row % 2 or row == store.n_rows(level) - 1):
                level, row = level + 1, row // 2
                yield level, row


class Maker:
    """The rows of one slide that aren't prepared yet."""

    def __init__(self, pixels: Pixels, store: BandStore, watch: FileWatch) -> None:
        self._pixels = pixels
        self._levels = pixels.levels
        self._store = store
        self._watch = watch
        self._work = TileCache(WORK_BYTES)
        self._paused = time.monotonic()
        self._rows = list(rows_in_order(store, levels_to_prepare(pixels.levels)))

    @property
    def n_tiles(self) -> int:
        """Number of tiles still to make."""
        return sum(self._store.n_cols(level) for level, row in self._rows if not self._store.has(level, row))

    def make(self, ticker: Ticker, room_for: Callable[[int], None]) -> Generator[Progress, None, None]:
        """Make them; ``room_for(bytes)`` is told of every row written, and may raise."""
        for part in self._store.folder.glob(PART_NAME):
            part.unlink(missing_ok=True)
        for level, row in self._rows:
            if self._store.has(level, row):
                continue
            with self._store.writer(level, row) as writer:
                for tile in self._tiles(level, row):
                    if tile is not None:
                        writer.add(tile)
                    yield ticker.tick(int(tile is not None))
                # the pixels of another file must not stay under this one's name
                self._watch.check(now=True)
                size = writer.finish(self._damage(level, row))
            room_for(size)
            yield ticker.tick(0, partial=(level, row))

    def _damage(self, level: int, row: int) -> list[Damage]:
        """What the row was made from that is damaged."""
        base = made_from(self._levels, level)
        height = self._levels[level].tile[0] << (level - base)
        th = self._levels[base].tile[0]
        rows = range(row * height // th, ((row + 1) * height - 1) // th + 1)
        return [d for d in self._pixels.damage.found if d.level == base and d.row in rows]

    def _tiles(self, level: int, row: int) -> Iterator[Rgb | None]:
        """Yield the tiles of a row, left to right, and None where the job may pause."""
        below = self._levels[level - 1]
        if below.banded and below.stored and below.tile[1] % 2 == 0:
            yield from self._from_bands(level, row)
            return
        for col in range(self._store.n_cols(level)):
            y, x, h, w = self._pixels.below(level, row, col)
            th, tw = below.tile
            for r in range(y // th, (y + h - 1) // th + 1):
                for c in range(x // tw, (x + w - 1) // tw + 1):
                    self._tile(level - 1, r, c)
                    if self._is_time():
                        yield None
            yield self._pixels.halved(self._tile, level, row, col)
            self._paused = time.monotonic()

    def _tile(self, level: int, row: int, col: int) -> Rgb:
        key: Key = (level, row, col)
        if self._levels[level].stored:
            group: Key = (level, row, -1) if self._levels[level].banded else key
            return self._work.get_group(
                key,
                group,
                lambda: (((level, *at), tile) for at, tile in self._pixels.stored_tiles(level, row, col)),
            )

        def make() -> Rgb:
            kept = self._store.tile(level, row, col)
            return self._pixels.halved(self._tile, level, row, col) if kept is None else kept

        return self._work.get(key, make)

    def _is_time(self) -> bool:
        now = time.monotonic()
        if now - self._paused < PAUSE_S:
            return False
        self._paused = now
        return True

    def _from_bands(self, level: int, row: int) -> Iterator[Rgb | None]:
        """Halve whole rows of the file as they are decoded: no more than one is in memory."""
        base, size = self._levels[level - 1], self._levels[level].tile[0]
        (height, width), (th, tw) = base.shape, base.tile
        top, bottom = 2 * row * size, min(2 * (row + 1) * size, height)
        out = np.empty(((bottom - top + 1) // 2, self._levels[level].shape[1], 3), np.uint8)
        carried: dict[int, Rgb] = {}
        for r in range(top // th, (bottom - 1) // th + 1):
            first, last = max(top, r * th), min(bottom, (r + 1) * th)
            missing = set(range(-(-width // tw)))
            while missing:
                for (_, c), tile in self._pixels.stored_tiles(level - 1, r, min(missing)):
                    missing.discard(c)
                    part = tile[first - r * th : last - r * th]
                    if c in carried:
                        part = np.concatenate([carried.pop(c), part])
                    start = (last - len(part) - top) // 2
                    if len(part) % 2 and last < bottom:
                        # its other half is in the file's next row of tiles
                        carried[c], part = part[-1:].copy(), part[:-1]
                    if len(part):
                        half = box_half(part)
                        x = c * tw // 2
                        out[start : start + half.shape[0], x : x + half.shape[1]] = half
                    if self._is_time():
                        yield None
        for col in range(self._store.n_cols(level)):
            yield np.ascontiguousarray(out[:, col * size : (col + 1) * size])
