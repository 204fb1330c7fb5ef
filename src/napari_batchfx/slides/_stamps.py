"""Whether the files of an open slide are still those that were opened."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

__all__ = ["Stamps"]


class Stamps:
    """Size, time and identity of files as they were when the slide was opened.

    Parameters
    ----------
    files : iterable of Path
        Files, or folders whose time counts.
    """

    def __init__(self, files: Iterable[Path]) -> None:
        self.files: tuple[Path, ...] = tuple(files)
        self._seen = [_stamp(path) for path in self.files]

    def is_unchanged(self) -> bool:
        """Whether all files are there and none was replaced or written to."""
        return all(
            seen is not None and _stamp(path) == seen
            for path, seen in zip(self.files, self._seen, strict=True)
        )


def _stamp(path: Path) -> tuple[int, int, int] | None:
    try:
        found = path.stat()
    except (OSError, ValueError):
        return None
    return found.st_size, found.st_mtime_ns, found.st_ino
