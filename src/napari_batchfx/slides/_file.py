"""One file held open: read anywhere from many threads at once, told apart from what takes its place."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable
from pathlib import Path

from napari_batchfx.errors import SlideError
from napari_batchfx.slides.damage import DamagedTile

__all__ = ["SlideFile", "short"]

# not on Windows
_pread: Callable[[int, int, int], bytes] | None = getattr(os, "pread", None)


def short(error: BaseException) -> str:
    """Return the first line of an error's text, for the end of a sentence."""
    return (str(error).splitlines() or [type(error).__name__])[0][:120]


class SlideFile:
    """A file that stays open until it is closed and its last reader is done.

    Parameters
    ----------
    path : Path
        An existing file.

    Raises
    ------
    SlideError
        If it can't be opened.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._name = path.name
        try:
            self.handle = path.open("rb")
            self._seen = os.fstat(self.handle.fileno())
        except OSError as error:
            raise SlideError(
                f"{self._name}: the file can't be read ({error.strerror or error}); check that you may read "
                "it."
            ) from error
        self.size = self._seen.st_size
        self._fd = self.handle.fileno()
        self._lock = threading.Lock()
        self._readers = 0
        self._is_closed = False

    def read(self, offset: int, count: int) -> bytes:
        """Return ``count`` bytes from ``offset`` on; safe to call from many threads.

        Raises
        ------
        DamagedTile
            If the file ends before.
        SlideError
            If it is closed or can't be read any more.
        """
        if offset + count > self.size:
            raise DamagedTile("it lies beyond the end of the file, which is incomplete")
        with self._lock:
            if self._is_closed:
                raise SlideError(f"{self._name} is closed; open it again.")
            self._readers += 1
        # the number of an open file may be given to another as soon as this one is closed: so it is closed
        # by its last reader
        try:
            data = self._read(offset, count)
        except OSError as error:
            raise SlideError(f"{self._name}: the file can't be read any more ({short(error)}).") from error
        finally:
            self._leave()
        if len(data) != count:
            raise DamagedTile("the file ends before it, it was cut while it was open")
        return data

    def _leave(self) -> None:
        with self._lock:
            self._readers -= 1
            is_last = self._is_closed and not self._readers
        if is_last:
            self.handle.close()

    def _read(self, offset: int, count: int) -> bytes:
        if _pread is not None:
            return _pread(self._fd, count, offset)
        with self._lock:
            self.handle.seek(offset)
            return self.handle.read(count)

    def is_unchanged(self) -> bool:
        """Whether the path still leads to this file, and nobody wrote to it since it was opened."""
        try:
            now = self._path.stat()
        except (OSError, ValueError):
            return False
        seen = self._seen
        return (now.st_size, now.st_mtime_ns, now.st_ino, now.st_dev) == (
            seen.st_size, seen.st_mtime_ns, seen.st_ino, seen.st_dev,
        )  # fmt: skip

    def close(self) -> None:
        """Close the file, or let its last reader do so."""
        with self._lock:
            self._is_closed = True
            is_last = not self._readers
        if is_last:
            self.handle.close()
