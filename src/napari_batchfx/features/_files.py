"""Where the pieces of a feature store lie: in a folder, each replaced as a whole, or in memory."""

from __future__ import annotations

import contextlib
import io
import itertools
import os
import shutil
import time
import uuid
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple, Protocol

__all__ = ["DiskFiles", "Files", "MemoryFiles", "Signature", "replace_file", "settled"]

_SETTLED_NS = 2_000_000_000  # two writes may carry one time: NFS and FAT count in seconds
_AT_ONCE = 32


class Signature(NamedTuple):
    """What tells one version of a file from the next."""

    inode: int
    mtime_ns: int
    size: int


def settled(signature: Signature) -> bool:
    """Whether the next version of the file will have another signature: it is old enough."""
    return time.time_ns() - signature.mtime_ns > _SETTLED_NS


class Files(Protocol):
    """Named pieces of one entry."""

    def get(self, name: str) -> bytes | None:
        """The piece, or None where there is none."""

    def get_many(self, names: Sequence[str]) -> Iterator[bytes | None]:
        """The pieces, one after the other."""

    def exists(self) -> bool:
        """Whether there is anything."""

    def put(self, name: str, data: bytes) -> Signature:
        """Replace the piece; never half of it."""

    def signature(self, name: str) -> Signature | None:
        """Of a piece, or of a folder of them (another one when a piece in it was replaced)."""

    def listing(self, folder: str) -> dict[str, Signature]:
        """Signatures of the pieces in a folder."""

    def folders(self, folder: str) -> list[str]:
        """Names of the folders in a folder."""

    def remove(self) -> None:
        """Delete the entry, at once for everybody."""


class DiskFiles:
    """Pieces of an entry as files; see :class:`Files`.

    A new version is written beside, in ``.writing``, and renamed: a process killed at any moment leaves the
    version of before or the new one. Nothing is forced to the disk: what a power failure tears is found by
    its checksum.
    """

    def __init__(self, root: Path, entry: str) -> None:
        self._root, self._entry = root, entry
        self._folder = os.path.join(root, *entry.split("/"))
        self._slide = entry.split("/")[0]

    def _path(self, name: str) -> str:
        return os.path.join(self._folder, name)

    def get(self, name: str) -> bytes | None:
        """The bytes of a file."""
        file = self._opened(name)
        if file is None:
            return None
        with file:
            return file.read()

    def get_many(self, names: Sequence[str]) -> Iterator[bytes | None]:
        """The bytes of files; the disk is told of the next ones before the first is read."""
        for start in range(0, len(names), _AT_ONCE):
            with contextlib.ExitStack() as own:
                files = [self._opened(name) for name in names[start : start + _AT_ONCE]]
                for file in files:
                    if file is not None:
                        own.enter_context(file)
                        if hasattr(os, "posix_fadvise"):
                            os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_WILLNEED)
                for file in files:
                    yield file.read() if file is not None else None

    def _opened(self, name: str) -> io.FileIO | None:
        for attempt in itertools.count():
            try:
                return open(self._path(name), "rb", buffering=0)
            except (FileNotFoundError, NotADirectoryError, IsADirectoryError):
                return None
            except PermissionError:
                # Windows: being replaced just now
                if os.name != "nt" or attempt > 10:
                    raise
                time.sleep(0.01)
        return None

    def exists(self) -> bool:
        """Whether the folder is there."""
        return os.path.isdir(self._folder)

    def put(self, name: str, data: bytes) -> Signature:
        """Write beside, then rename."""
        return replace_file(self._path(name), data, os.path.join(self._root, ".writing"), self._slide)

    def signature(self, name: str) -> Signature | None:
        """Inode, time and size."""
        try:
            found = os.stat(self._path(name))
        except (FileNotFoundError, NotADirectoryError):
            return None
        return Signature(found.st_ino, found.st_mtime_ns, found.st_size)

    def listing(self, folder: str) -> dict[str, Signature]:
        """Files of a folder."""
        result = {}
        with (
            contextlib.suppress(FileNotFoundError, NotADirectoryError),
            os.scandir(self._path(folder)) as found,
        ):
            for item in found:
                # os.stat and not item.stat(): on Windows the latter has no inode
                signature = self.signature(os.path.join(folder, item.name))
                if signature is not None and item.is_file():
                    result[item.name] = signature
        return result

    def folders(self, folder: str) -> list[str]:
        """Folders of a folder."""
        try:
            with os.scandir(self._path(folder)) as found:
                return [item.name for item in found if item.is_dir()]
        except (FileNotFoundError, NotADirectoryError):
            return []

    def remove(self) -> None:
        """Rename the folder away, then delete it: a reader sees all of it or nothing."""
        trash = os.path.join(self._root, ".trash")
        os.makedirs(trash, exist_ok=True)
        with contextlib.suppress(OSError):  # Windows: a file in it is open; deleted piece by piece below
            os.replace(self._folder, os.path.join(trash, uuid.uuid4().hex))
        shutil.rmtree(self._folder, ignore_errors=True)
        # also what an earlier clearing that was cut off left
        shutil.rmtree(trash, ignore_errors=True)


def replace_file(path: str, data: bytes, beside: str, mark: str) -> Signature:
    """Write a file beside and rename it; ``mark`` says whose it is, should it stay behind."""
    temporary = os.path.join(beside, f"{mark}.{uuid.uuid4().hex}")
    if not os.path.isdir(beside):
        os.makedirs(beside, exist_ok=True)
    try:
        with open(temporary, "xb", buffering=0) as file:
            view = memoryview(data)
            while len(view):
                view = view[file.write(view) :]  # a disk that fills up may take a part
            found = os.fstat(file.fileno())
        _rename(temporary, path)
    except BaseException:
        with contextlib.suppress(OSError):
            os.unlink(temporary)
        raise
    return Signature(found.st_ino, found.st_mtime_ns, found.st_size)


def _rename(temporary: str, path: str) -> None:
    for attempt in itertools.count():
        try:
            os.replace(temporary, path)
            return
        except FileNotFoundError:
            if attempt:
                raise
            os.makedirs(os.path.dirname(path), exist_ok=True)
        except PermissionError:
            # Windows refuses while a reader has the file open, which takes it a moment
            if os.name != "nt" or attempt > 40:
                raise
            time.sleep(0.025)


class MemoryFiles:
    """Pieces of an entry in memory; see :class:`Files`."""

    def __init__(self) -> None:
        self._pieces: dict[str, tuple[Signature, bytes]] = {}
        self._version = 0

    def get(self, name: str) -> bytes | None:
        """The bytes of a piece."""
        piece = self._pieces.get(name)
        return piece[1] if piece is not None else None

    def get_many(self, names: Sequence[str]) -> Iterator[bytes | None]:
        """The bytes of pieces."""
        return map(self.get, names)

    def exists(self) -> bool:
        """Whether there is a piece."""
        return bool(self._pieces)

    def put(self, name: str, data: bytes) -> Signature:
        """Replace it in one step."""
        self._version += 1
        signature = Signature(self._version, 0, len(data))
        self._pieces[name] = (signature, data)
        return signature

    def signature(self, name: str) -> Signature | None:
        """Counts the versions."""
        if name in self._pieces:
            return self._pieces[name][0]
        inside = [piece[0].inode for key, piece in list(self._pieces.items()) if key.startswith(f"{name}/")]
        return Signature(max(inside), 0, 0) if inside else None

    def listing(self, folder: str) -> dict[str, Signature]:
        """Pieces of a folder."""
        start = f"{folder}/"
        pieces = list(self._pieces.items())
        return {
            name.removeprefix(start): piece[0]
            for name, piece in pieces
            if name.startswith(start) and "/" not in name.removeprefix(start)
        }

    def folders(self, folder: str) -> list[str]:
        """Folders of a folder."""
        start = f"{folder}/"
        rest = (name.removeprefix(start) for name in list(self._pieces) if name.startswith(start))
        return sorted({name.split("/")[0] for name in rest if "/" in name})

    def remove(self) -> None:
        """Forget everything."""
        self._pieces = {}
