"""Whether a slide's file is still the one that was opened."""

from __future__ import annotations

import os
import time
from pathlib import Path

from napari_batchfx.errors import SlideError
from napari_batchfx.slides._sources import Source

__all__ = ["FileWatch"]

#: The file is looked at no more often than this, in seconds.
EVERY_S = 1.0


class FileWatch:
    """Says so when a slide's file vanishes or is replaced while it is open.

    The source is asked where it knows (several files, a folder); else size, time and inode of the file tell.
    """

    def __init__(self, path: Path, source: Source) -> None:
        self._path = path
        self._ask = getattr(source, "is_unchanged", None)
        self._seen = None if callable(self._ask) else _signature(path)
        self._next = time.monotonic() + EVERY_S

    def check(self, *, now: bool = False) -> None:
        """Raise :class:`SlideError` if the file isn't what it was; looks at most once a second, or now."""
        clock = time.monotonic()
        if clock < self._next and not now:
            return
        if not self._is_unchanged():
            # not remembered: a share that comes back, or a file put back, can be read again
            raise SlideError(
                f"{self._path.name}: the file was changed or replaced while it was open; close the "
                "slide and open it again."
                if self._path.exists()
                else f"{self._path.name}: the file is gone, it was deleted or moved or its drive is off; "
                "put it back, or remove the slide."
            )
        self._next = clock + EVERY_S

    def _is_unchanged(self) -> bool:
        if callable(self._ask):
            return bool(self._ask())
        return _signature(self._path) == self._seen


def _signature(path: Path) -> tuple[int, ...] | None:
    """Return size, time and inode of a file; of a folder nothing that changes when a file is added to it."""
    try:
        found = os.stat(path)
    except OSError:
        return None
    return (found.st_ino,) if path.is_dir() else (found.st_size, found.st_mtime_ns, found.st_ino)
