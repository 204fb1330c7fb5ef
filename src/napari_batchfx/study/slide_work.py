"""One slide's share of an encode job: which tiles are stored, wanted, under way, left to another job."""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from napari_batchfx.study.claims import Claim
from napari_batchfx.study.entries import SlideEntry
from napari_batchfx.study.recipe import Place

if TYPE_CHECKING:
    from napari_batchfx.encoders import EncodedBatch

__all__ = ["HOLD_S", "HOLD_TILES", "EncodedTiles", "SlideWork"]

#: Computed tiles wait at most so long, in seconds, or until there are so many, to be stored together.
HOLD_S, HOLD_TILES = 0.25, 1024

Cells = NDArray[np.int64]


@dataclass(frozen=True)
class EncodedTiles:
    """Tiles of one slide that were just encoded.

    Parameters
    ----------
    slide : str
        Name in the study.
    fingerprint : str
        The slide's content.
    cells : array (k, 2), int
    features : array (k, dim), float32
    """

    slide: str
    fingerprint: str
    cells: NDArray[np.int64]
    features: NDArray[np.float32]


class SlideWork:
    """The cells of a slide that are wanted, in their order: each is handed out once, stored, and counted.

    A cell that another job of this program is computing is left to it, and taken from the store when it is
    there.

    Parameters
    ----------
    entry : SlideEntry
    place : Place
        Its tiles, and where their features are kept.
    cells : array (n, 2), int
        In the order wanted.

    Attributes
    ----------
    stored : array (k, 2), int
        Cells that the store had at the beginning.
    total : int
        Cells in all.
    n_encoded, n_found : int
        Cells that were computed, and that another job had stored by the time.
    n_damaged : int
        Cells left out because pixels of theirs are damaged, as was known before or turned out now.
    """

    def __init__(self, entry: SlideEntry, place: Place, cells: NDArray[np.integer[Any]]) -> None:
        from napari_batchfx.tiles import damaged_tiles

        self.entry, self.place = entry, place
        cells = np.asarray(cells, dtype=np.int64).reshape(-1, 2)
        there = np.asarray(place.array.has(cells), dtype=bool)
        left = cells[~there]
        damaged = damaged_tiles(place.grid, left)
        self.stored: Cells = cells[there]
        self.total = len(cells)
        self.n_encoded = self.n_found = 0
        self.n_damaged = int(damaged.sum())
        self.claim = Claim(place.array)
        self._left: Cells = left[~damaged]
        self._others: Cells = left[:0]
        self._found: Cells = left[:0]
        self._under_way = 0
        self._held: list[EncodedBatch] = []
        self._n_held = 0
        self._to_give: list[Cells] = []
        self._stored_at = time.monotonic()

    @property
    def is_done(self) -> bool:
        """Whether nothing is left, under way or waited for."""
        return not (len(self._left) or len(self._others) or len(self._found) or self._under_way)

    @property
    def done(self) -> int:
        """Cells that need nothing more, the stored and the damaged ones among them."""
        return len(self.stored) + self.n_computed + self.n_found + self.n_damaged

    @property
    def n_computed(self) -> int:
        """Cells that were computed, stored or held."""
        return self.n_encoded + self._n_held

    def take(self, n: int | None = None) -> Cells:
        """The next cells to compute, at most ``n``: none where all that are left are another job's.

        Raises
        ------
        TileError
            If the slide was changed since its place was made.
        """
        # What is there was read in the colours, and at the pixel size, that the place names.
        self.place.grid.check_slide()
        if not len(self._left):
            self._left, self._others = self._others, self._left  # done by now, or let go of
        while len(self._left):
            some = self._left if n is None else self._left[:n]
            self._left = self._left[len(some) :]
            mine = self.claim.take(some)
            there = np.asarray(self.place.array.has(some), dtype=bool)  # after the claim: none slips through
            self.claim.give(some[mine & there])
            self._found = np.concatenate([self._found, some[there]])
            self._others = np.concatenate([self._others, some[~mine & ~there]])
            todo: Cells = some[mine & ~there]
            if len(todo):
                self._under_way += len(todo)
                return todo
        return self._left

    def found(self) -> EncodedTiles | None:
        """Cells that another job stored meanwhile, once."""
        if not len(self._found):
            return None
        found, self._found = self._found, self._found[:0]
        self.n_found += len(found)
        return self.read(found)

    def read(self, cells: Cells) -> EncodedTiles:
        """Cells that the store has."""
        return EncodedTiles(self.entry.name, self.entry.fingerprint, cells, self.place.array.read(cells))

    def keep(self, batch: EncodedBatch) -> EncodedTiles:
        """Store what was computed of cells that were taken; damaged ones are left out.

        Raises
        ------
        TileError
            If the slide was changed meanwhile.
        FeatureError
            If the store doesn't take them.
        """
        tiles = self.hold(batch)
        self.store()
        return tiles

    def hold(self, batch: EncodedBatch) -> EncodedTiles:
        """:meth:`keep`, but stored with what comes soon after: each call writes the files of its blocks anew.

        What is held is stored by the time that :data:`HOLD_S` seconds or :data:`HOLD_TILES` tiles have come
        together; :meth:`store` has to be called at the end, however the work ends.
        """
        from napari_batchfx.features import whole_tiles

        self._to_give.append(batch.cells)
        try:
            self.place.grid.check_slide()
            whole = whole_tiles(self.place.grid, batch)
        except BaseException:
            self.store()  # what came before was computed of the slide as it was
            raise
        self._held.append(whole)
        self._n_held += len(whole.cells)
        self.n_damaged += len(batch.cells) - len(whole.cells)
        if self._n_held >= HOLD_TILES or time.monotonic() - self._stored_at >= HOLD_S:
            self.store()
        return EncodedTiles(self.entry.name, self.entry.fingerprint, whole.cells, whole.features)

    def store(self) -> None:
        """Store what is held.

        Raises
        ------
        FeatureError
            If the store doesn't take it.
        """
        held = self._held
        try:
            if not held:
                return
            cells = np.concatenate([batch.cells for batch in held])
            features = np.concatenate([batch.features for batch in held])
            if np.isfinite(features).all():
                self.place.array.append(cells, features)
                self.n_encoded += len(cells)
            else:  # one batch that the encoder failed on must not cost those before it
                for batch in held:
                    self.place.array.append(batch.cells, batch.features)
                    self.n_encoded += len(batch.cells)
        finally:
            self._let_go()

    def _let_go(self) -> None:
        if self._to_give:
            cells = np.concatenate(self._to_give)
            self.claim.give(cells)
            self._under_way -= len(cells)
        self._held, self._n_held, self._to_give = [], 0, []
        self._stored_at = time.monotonic()

    def put_back(self, cells: Cells) -> None:
        """Cells that were taken and aren't computed after all; they come next again."""
        self._under_way -= len(cells)
        self.claim.give(cells)
        self._left = np.concatenate([cells, self._left])
