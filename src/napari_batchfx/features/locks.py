"""One writer a slide: who it is, since when, and what is left by one that died."""

from __future__ import annotations

import contextlib
import json
import os
import threading
import time
import uuid
from collections.abc import Iterator
from pathlib import Path

from napari_batchfx.errors import FeatureError
from napari_batchfx.features import _process
from napari_batchfx.features._files import replace_file
from napari_batchfx.features._lock_files import (
    FOLDER,
    STALE_S,
    LockInfo,
    folder_clock,
    folder_mark,
    held_tokens,
    read_lock,
    read_locks,
)

__all__ = ["BEAT_S", "STALE_S", "LockInfo", "SlideLock", "read_locks", "slide_lock"]

BEAT_S = 15.0
"""How often the holder of a lock says that it is alive."""
PATIENCE_S = 5.0
_STEP_S = 0.05


class SlideLock:
    """The right to write the features of one slide; threads and jobs of a process share it.

    Parameters
    ----------
    root : Path or None
        Folder of the store; None for one in memory, which no other process sees.
    fingerprint : str
        Of the slide.
    """

    def __init__(self, root: Path | None, fingerprint: str) -> None:
        self.fingerprint = fingerprint
        self._root = root
        self._folder = root / FOLDER if root is not None else None
        self._reset()

    def _reset(self) -> None:
        self._pid = os.getpid()
        self._door = threading.RLock()
        self._count = 0
        self._token = ""
        self._stop: threading.Event | None = None
        self._beat: threading.Thread | None = None
        self.writing = threading.RLock()
        """Held for each single change."""
        self.turn = 0
        """Another number after every change, and whenever others may have changed something."""

    @property
    def held(self) -> bool:
        """Whether this process has the lock."""
        return self._count > 0 and self._pid == os.getpid()

    @property
    def _file(self) -> Path:
        assert self._folder is not None
        return self._folder / f"{self.fingerprint}.json"

    @contextlib.contextmanager
    def hold(self, slide: str = "", *, patience_s: float | None = None, job: bool = False) -> Iterator[None]:
        """Have the lock meanwhile.

        Parameters
        ----------
        slide : str
            Its name, for the sentence that others get.
        patience_s : float, optional
            How long to wait for another program; 5 s unless given.
        job : bool
            Held for long: gives signs of life.

        Raises
        ------
        FeatureError
            If another program writes; the sentence says which, since when, and what to do.
        """
        if self._pid != os.getpid():
            self._reset()  # a fork: the lock is the parent's
        with self._door:
            if self._folder is not None:
                if self._count == 0:
                    self._take(slide, PATIENCE_S if patience_s is None else patience_s)
                else:
                    self._check()
                if job and self._beat is None:
                    self._start_beat()
            self._count += 1
        try:
            yield
        finally:
            with self._door:
                self._count -= 1
                if self._count == 0 and self._folder is not None:
                    self._give_back()

    def _take(self, slide: str, patience_s: float) -> None:
        assert self._root is not None
        assert self._folder is not None
        self._folder.mkdir(parents=True, exist_ok=True)
        until = time.monotonic() + patience_s
        while True:
            with self._guard():
                other = read_lock(self._file, folder_clock(self._folder / ".clock"))
                if other is None or not other[0].alive:
                    self._write(slide)
                    break
            if time.monotonic() >= until:
                raise self._busy(other[0])
            time.sleep(_STEP_S)
        self.turn += 1
        # nobody else writes this slide now: what lies there was left by one that died
        for left in (self._root / ".writing").glob(f"{self.fingerprint}.*"):
            left.unlink(missing_ok=True)

    def _write(self, slide: str) -> None:
        self._token = uuid.uuid4().hex
        held_tokens.add(self._token)
        said = {
            "host": _process.host_name(),
            "pid": os.getpid(),
            "started": _process.started(os.getpid()) or "",
            "space": _process.space(),
            "program": _process.program_name(),
            "since": time.time(),
            "slide": slide,
            "folder": folder_mark(self._file),
            "token": self._token,
        }
        replace_file(str(self._file), json.dumps(said).encode(), str(self._folder), ".new")

    def _check(self) -> None:
        """Refuse to go on where another machine took the lock over, as after a long sleep of this one."""
        assert self._folder is not None
        other = read_lock(self._file, time.time())
        if other is not None and other[1] == self._token:
            return
        with self._guard():
            other = read_lock(self._file, folder_clock(self._folder / ".clock"))
            if other is not None and other[1] != self._token and other[0].alive:
                raise self._busy(other[0])
            self._write("")
            self.turn += 1

    def _give_back(self) -> None:
        if self._stop is not None and self._beat is not None:
            self._stop.set()
            self._beat.join(timeout=5)
            self._stop = self._beat = None
        held_tokens.discard(self._token)
        # not ours any more, or the folder is gone: nothing to give back
        with contextlib.suppress(OSError, FeatureError), self._guard():
            other = read_lock(self._file, time.time())
            if other is not None and other[1] == self._token:
                self._file.unlink(missing_ok=True)

    def _start_beat(self) -> None:
        self._stop = threading.Event()
        self._beat = threading.Thread(
            target=_beat, args=(self._file, self._stop), name="batchfx-lock", daemon=True
        )
        self._beat.start()

    @contextlib.contextmanager
    def _guard(self) -> Iterator[None]:
        """Looking and taking in one step; for an instant only."""
        from filelock import FileLock, Timeout

        assert self._folder is not None
        lock = FileLock(self._folder / f"{self.fingerprint}.guard", mode=0o666)
        try:
            lock.acquire(timeout=10)
        except Timeout:
            other = read_lock(self._file, time.time())
            raise self._busy(other[0] if other is not None else None) from None
        except NotImplementedError:  # a file server without locks: renaming alone has to do
            yield
            return
        try:
            yield
        finally:
            lock.release()

    def _busy(self, other: LockInfo | None) -> FeatureError:
        store = self._root.name if self._root is not None else "features"
        slide = (other.slide if other is not None else "") or f"slide {self.fingerprint[:12]}"
        who = other.who if other is not None else "another program"
        return FeatureError(
            f"{store}: the features of {slide} are being written by {who}; wait or close it. What it has "
            "stored can be read meanwhile."
        )


def _beat(path: Path, stop: threading.Event) -> None:
    while not stop.wait(BEAT_S):
        with contextlib.suppress(OSError):  # taken over or deleted: the next write finds out
            os.utime(path)


_locks: dict[tuple[str, str], SlideLock] = {}
_locks_lock = threading.Lock()


def slide_lock(root: Path | None, fingerprint: str) -> SlideLock:
    """The process's lock of a slide: the same for every store opened on the same folder."""
    if root is None:
        return SlideLock(None, fingerprint)
    key = (os.path.realpath(root), fingerprint)
    with _locks_lock:
        return _locks.setdefault(key, SlideLock(Path(key[0]), fingerprint))
