"""Who is computing which tiles right now, so that two jobs of one program never compute the same one."""

from __future__ import annotations

import threading
import time
from typing import TYPE_CHECKING, Any
from weakref import WeakKeyDictionary

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    from napari_batchfx.features import FeatureArray

__all__ = ["Claim"]

#: A job that gave no sign for so long has been put aside by whoever drives it: others need not wait for it.
STALE_S = 2.0

_lock = threading.Lock()
_claims: WeakKeyDictionary[FeatureArray, list[Claim]] = WeakKeyDictionary()


class Claim:
    """The tiles of one slide that one job is at.

    Parameters
    ----------
    array : FeatureArray
        Where their features go.

    Examples
    --------
    >>> from napari_batchfx.features import FeatureStore
    >>> array = FeatureStore().array("fingerprint", "encoder", "grid", dim=2)
    >>> one, other = Claim(array), Claim(array)
    >>> one.take(np.array([[0, 0], [0, 1]])).tolist(), other.take(np.array([[0, 1], [0, 2]])).tolist()
    ([True, True], [False, True])
    >>> one.drop()
    >>> other.take(np.array([[0, 1]])).tolist()
    [True]
    """

    def __init__(self, array: FeatureArray) -> None:
        self._array = array
        self._keys = np.zeros(0, np.int64)
        self._touched = time.monotonic()
        #: Whether the job is in the middle of something that may take long.
        self.is_busy = False

    def take(self, cells: NDArray[np.integer[Any]]) -> NDArray[np.bool_]:
        """Claim more cells (n, 2); which of them are held now, and not another job's, bool (n,)."""
        keys = _pack(cells)
        self.touch()
        with _lock:
            claims = _claims.setdefault(self._array, [])
            mine = np.ones(len(keys), dtype=bool)
            for other in claims:
                if other is not self and other._is_active:
                    mine &= ~np.isin(keys, other._keys)
            self._keys = np.concatenate([self._keys, keys[mine]])
            if self not in claims:
                claims.append(self)
        return mine

    def give(self, cells: NDArray[np.integer[Any]]) -> None:
        """Let go of cells: they are stored, or left to others."""
        self.touch()
        with _lock:
            self._keys = self._keys[~np.isin(self._keys, _pack(cells))]
            if not len(self._keys):
                self._leave()

    def touch(self) -> None:
        """Say that the job goes on."""
        self._touched = time.monotonic()

    def drop(self) -> None:
        """Let go of everything."""
        with _lock:
            self._keys = self._keys[:0]
            self._leave()

    def _leave(self) -> None:
        claims = _claims.get(self._array, [])
        if self in claims:
            claims.remove(self)

    @property
    def _is_active(self) -> bool:
        return self.is_busy or time.monotonic() - self._touched < STALE_S


def _pack(cells: NDArray[np.integer[Any]]) -> NDArray[np.int64]:
    wide = np.asarray(cells, dtype=np.int64).reshape(-1, 2)
    packed: NDArray[np.int64] = (wide[:, 0] << 32) | wide[:, 1]
    return packed
