"""The tiles of one open slide in one set of colours: decoded, converted, halved, kept in the shared cache."""

from __future__ import annotations

import contextlib
import itertools
from collections.abc import Callable, Iterator
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

from napari_batchfx.slides._bands import BandStore
from napari_batchfx.slides._sources import Source
from napari_batchfx.slides.cache import Key, tile_cache
from napari_batchfx.slides.colour import ToSrgb
from napari_batchfx.slides.damage import Damage, DamagedTile, DamageLog, missing_tile
from napari_batchfx.slides.halving import box_half
from napari_batchfx.slides.levels import Level

__all__ = ["PENDING_RGB", "Pixels", "TileGetter"]

Rgb = NDArray[np.uint8]
TileGetter: TypeAlias = Callable[[int, int, int], Rgb]

#: The pale grey of what isn't prepared yet.
PENDING_RGB = (235, 235, 235)
# What a view may decode for one chunk before it shows "not yet" instead.
SLOW_PIXELS = 16 * 2**20 + 2**20
_tokens = itertools.count()


class Pixels:
    """Tiles by level, row and column; safe to use from many threads.

    Other colours are another object with another token, so nothing in the cache ever mixes.
    """

    def __init__(
        self,
        source: Source,
        levels: tuple[Level, ...],
        colour: ToSrgb | None,
        damage: DamageLog,
        store: BandStore | None,
    ) -> None:
        self.token = next(_tokens)
        self.levels = levels
        self.colour = colour
        self.damage = damage
        self.store = store
        self._source = source
        self._is_retired = False

    def read(self, level: int, y: int, x: int, h: int, w: int, *, quickly: bool = False) -> Rgb:
        """Return a region that lies inside of a level; ``quickly``: PENDING_RGB for what would take long."""
        getter = self.tile
        if (
            quickly
            and self.store is not None
            and level in self.store.levels
            and self._cost(level, y, x, h, w, SLOW_PIXELS) > SLOW_PIXELS
        ):
            getter = self._tile_or_pending
        try:
            return self.region(getter, level, y, x, h, w)
        finally:
            if self._is_retired:
                # closed by another thread meanwhile: leave nothing of this slide in the cache
                tile_cache().drop(self.token)

    def retire(self) -> None:
        """Let go of the cached tiles, now and after reads that are still going on."""
        self._is_retired = True
        tile_cache().drop(self.token)

    def region(self, tile_of: TileGetter, level: int, y: int, x: int, h: int, w: int) -> Rgb:
        """Put a region together from tiles."""
        th, tw = self.levels[level].tile
        out = np.empty((h, w, 3), np.uint8)
        for row in range(y // th, (y + h - 1) // th + 1):
            for col in range(x // tw, (x + w - 1) // tw + 1):
                tile = tile_of(level, row, col)
                top, left = row * th, col * tw
                y0, y1 = max(y, top), min(y + h, top + tile.shape[0])
                x0, x1 = max(x, left), min(x + w, left + tile.shape[1])
                out[y0 - y : y1 - y, x0 - x : x1 - x] = tile[y0 - top : y1 - top, x0 - left : x1 - left]
        return out

    def tile(self, level: int, row: int, col: int) -> Rgb:
        """Return a tile, from the cache if it is there."""
        info = self.levels[level]
        key: Key = (self.token, level, row, col)
        if not info.stored:
            return tile_cache().get(key, lambda: self._kept_tile(level, row, col))
        if self._source.in_memory and self.colour is None:
            return next(self.stored_tiles(level, row, col))[1]
        group: Key = (self.token, level, row, -1) if info.banded else key
        return tile_cache().get_group(key, group, lambda: self._keyed_tiles(level, row, col))

    def once(self, level: int, y: int, x: int, h: int, w: int, out: Rgb | None = None) -> Rgb | None:
        """Decode a region that is exactly one stored tile, without keeping it; else None.

        An encoder needs such a tile once: memory to keep it costs a third of its decoding. Where the source
        can, it decodes straight into ``out``, which is returned then.
        """
        info = self.levels[level]
        row, col = y // info.tile[0], x // info.tile[1]
        if not info.stored or info.banded or (h, w) != info.tile or y % h or x % w:
            return None
        if (h, w) != self.size(level, row, col) or (self.token, level, row, col) in tile_cache():
            return None
        into = getattr(self._source, "tile_into", None)
        if out is not None and into is not None and self.colour is None:
            # damage is met again, and counted, by the way that fills in the grey
            with contextlib.suppress(DamagedTile):
                if into(info.source, row, col, out):
                    return out
        return next(tile for place, tile in self.stored_tiles(level, row, col) if place == (row, col))

    def _keyed_tiles(self, level: int, row: int, col: int) -> Iterator[tuple[Key, Rgb]]:
        for (r, c), tile in self.stored_tiles(level, row, col):
            yield (self.token, level, r, c), tile

    def stored_tiles(self, level: int, row: int, col: int) -> Iterator[tuple[tuple[int, int], Rgb]]:
        """Decode what one read of the file gives, in this slide's colours; damaged tiles are MISSING_RGB."""
        info = self.levels[level]
        came = set()
        try:
            for place, tile in self._source.tiles(info.source, row, col):
                came.add(place)
                yield place, tile if self.colour is None else self.colour(tile)
        except DamagedTile as error:
            cols = range(-(-info.shape[1] // info.tile[1])) if info.banded else (col,)
            for c in cols:
                self.damage.add(Damage(level, row, c, error.reason))
                if (row, c) not in came:
                    yield (row, c), missing_tile(self.size(level, row, c))

    def size(self, level: int, row: int, col: int) -> tuple[int, int]:
        """Return height and width of a tile; those at the right and lower edge are smaller."""
        (height, width), (th, tw) = self.levels[level].shape, self.levels[level].tile
        return (min(th, height - row * th), min(tw, width - col * tw))

    def _kept_tile(self, level: int, row: int, col: int) -> Rgb:
        kept = None if self.store is None else self.store.tile(level, row, col)
        return self.halved(self.tile, level, row, col) if kept is None else kept

    def halved(self, tile_of: TileGetter, level: int, row: int, col: int) -> Rgb:
        """Make a tile by 2x2 box means of the level before, which may itself be made."""
        return box_half(self.region(tile_of, level - 1, *self.below(level, row, col)))

    def below(self, level: int, row: int, col: int) -> tuple[int, int, int, int]:
        """Return y, x, h, w of what a made tile covers in the level before."""
        height, width = self.levels[level - 1].shape
        th, tw = self.levels[level].tile
        y, x = row * th * 2, col * tw * 2
        return (y, x, min(2 * th, height - y), min(2 * tw, width - x))

    def is_damaged(self, level: int, y: int, x: int, h: int, w: int) -> bool:
        """Whether a region inside of a level is made of a tile known to be damaged."""
        if not len(self.damage) or h < 1 or w < 1:
            return False
        while not self.levels[level].stored:
            level -= 1
            y, x, h, w = 2 * y, 2 * x, 2 * h, 2 * w
        th, tw = self.levels[level].tile
        return self.damage.touches(
            level, range(y // th, (y + h - 1) // th + 1), range(x // tw, (x + w - 1) // tw + 1)
        )

    def _is_at_hand(self, level: int, row: int, col: int) -> bool:
        if (self.token, level, row, col) in tile_cache():
            return True
        return self.store is not None and self.store.has(level, row)

    def _tile_or_pending(self, level: int, row: int, col: int) -> Rgb:
        """Return a tile made of what is prepared, PENDING_RGB in the gaps; not for the cache."""
        if self._is_at_hand(level, row, col):
            return self.tile(level, row, col)
        assert self.store is not None
        if level - 1 not in self.store.levels:
            return np.full((*self.size(level, row, col), 3), PENDING_RGB, np.uint8)
        return self.halved(self._tile_or_pending, level, row, col)

    def _cost(self, level: int, y: int, x: int, h: int, w: int, limit: int) -> int:
        """Return how many pixels a read would decode, counting no further than the limit."""
        info = self.levels[level]
        th, tw = info.tile
        rows = range(y // th, (y + h - 1) // th + 1)
        cols = range(x // tw, (x + w - 1) // tw + 1)
        if info.stored:
            if self._source.in_memory:
                return 0
            return len(rows) * th * (info.shape[1] if info.banded else len(cols) * tw)
        total = 0
        for row, col in itertools.product(rows, cols):
            if self._is_at_hand(level, row, col):
                total += th * tw
            else:
                total += self._cost(level - 1, *self.below(level, row, col), limit - total)
            if total > limit:
                break
        return total
