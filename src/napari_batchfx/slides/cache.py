"""A cache of decoded tiles with a bound in bytes, shared by the view and the encoder."""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Callable, Hashable, Iterable
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

from napari_batchfx.slides.memory import give_back_memory

__all__ = ["TileCache", "set_cache_bytes", "tile_cache"]

Tile: TypeAlias = NDArray[np.uint8]
Key: TypeAlias = tuple[Hashable, ...]

#: With the views and buffers around it a viewer stays under 300 MB.
DEFAULT_BYTES = 192 * 2**20
#: Freed tiles stay with the process until the allocator is asked to give them back.
TRIM_BYTES = 16 * 2**20


class TileCache:
    """Least-recently-used tiles up to a number of bytes; safe to use from many threads.

    Parameters
    ----------
    max_bytes : int
        Bound on the pixels kept, in bytes. 0 keeps nothing.

    Notes
    -----
    A key is a tuple whose first item says which slide the tile belongs to (see :meth:`drop`). Tiles are kept
    read-only. Two threads that ask for the same missing tile decode it once: the second waits for the first.

    Examples
    --------
    >>> import numpy as np
    >>> cache = TileCache(max_bytes=1000)
    >>> tile = cache.get(("slide", 0, 0, 0), lambda: np.zeros((10, 10, 3), np.uint8))
    >>> cache.nbytes
    300
    """

    def __init__(self, max_bytes: int = DEFAULT_BYTES) -> None:
        self._max = int(max_bytes)
        self._tiles: OrderedDict[Key, Tile] = OrderedDict()
        self._nbytes = 0
        self._lock = threading.Lock()
        self._busy: dict[Key, threading.Event] = {}
        self.hits = 0
        self.misses = 0

    @property
    def max_bytes(self) -> int:
        """Bound in bytes."""
        return self._max

    @property
    def nbytes(self) -> int:
        """Bytes held now."""
        return self._nbytes

    def __len__(self) -> int:
        return len(self._tiles)

    def __contains__(self, key: Key) -> bool:
        return key in self._tiles

    def set_max_bytes(self, max_bytes: int) -> None:
        """Change the bound; what no longer fits is let go, oldest first."""
        with self._lock:
            before = self._nbytes
            self._max = max(0, int(max_bytes))
            self._shrink()
            freed = before - self._nbytes
        if freed >= TRIM_BYTES:
            give_back_memory()

    def get(self, key: Key, make: Callable[[], Tile]) -> Tile:
        """Return the tile of ``key``, made with ``make`` if it isn't here.

        Parameters
        ----------
        key : tuple
            The slide's token first.
        make : callable
            Decodes the tile; called without the cache's lock, by one thread at a time for a key.

        Returns
        -------
        ndarray of uint8
            Read-only.
        """
        return self.get_group(key, key, lambda: [(key, make())])

    def get_group(self, key: Key, group: Key, make: Callable[[], Iterable[tuple[Key, Tile]]]) -> Tile:
        """Like :meth:`get`, where one decoding gives several tiles (a band of strips).

        Parameters
        ----------
        key : tuple
            The wanted tile.
        group : tuple
            Names what is decoded together: threads that want the same group wait for one another.
        make : callable
            Gives (key, tile) pairs, the wanted one among them.
        """
        while True:
            with self._lock:
                tile = self._tiles.get(key)
                if tile is not None:
                    self._tiles.move_to_end(key)
                    self.hits += 1
                    return tile
                event = self._busy.get(group)
                if event is None:
                    event = self._busy[group] = threading.Event()
                    self.misses += 1
                    break
            # If the other thread failed, or the cache is too small to keep its tile, this one makes it
            # itself.
            event.wait()
        wanted: Tile | None = None
        try:
            for name, made in make():
                made.setflags(write=False)
                if name == key:
                    wanted = made
                self._put(name, made)
        finally:
            with self._lock:
                del self._busy[group]
            event.set()
        if wanted is None:
            raise KeyError(key)
        return wanted

    def _put(self, key: Key, tile: Tile) -> None:
        with self._lock:
            if tile.nbytes > self._max:
                return
            old = self._tiles.pop(key, None)
            if old is not None:
                self._nbytes -= old.nbytes
            self._tiles[key] = tile
            self._nbytes += tile.nbytes
            self._shrink()

    def _shrink(self) -> None:
        while self._nbytes > self._max:
            _, tile = self._tiles.popitem(last=False)
            self._nbytes -= tile.nbytes

    def drop(self, token: Hashable) -> None:
        """Let go of every tile of one slide, and give the memory back to the system."""
        with self._lock:
            before = self._nbytes
            for key in [k for k in self._tiles if k[0] == token]:
                self._nbytes -= self._tiles.pop(key).nbytes
            freed = before - self._nbytes
        if freed >= TRIM_BYTES:
            give_back_memory()

    def clear(self) -> None:
        """Let go of everything, and give the memory back to the system."""
        with self._lock:
            freed = self._nbytes
            self._tiles.clear()
            self._nbytes = 0
        if freed >= TRIM_BYTES:
            give_back_memory()


_shared = TileCache()


def tile_cache() -> TileCache:
    """Return the one cache that all slides of this process share."""
    return _shared


def set_cache_bytes(max_bytes: int) -> None:
    """Set how many bytes of decoded tiles this process keeps (192 MiB unless told)."""
    _shared.set_max_bytes(max_bytes)
