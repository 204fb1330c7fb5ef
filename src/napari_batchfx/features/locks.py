"""One writer a slide: who it is, since when, and what is left by one that died."""

from __future__ import annotations

import contextlib
import json
import os
import threading
import time
import uuid
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from napari_batchfx.errors import FeatureError
from napari_batchfx.features import _process
from napari_batchfx.features._files import replace_file

__all__ = ["BEAT_S", "STALE_S", "LockInfo", "SlideLock", "read_locks", "slide_lock"]

BEAT_S = 15.0
"""How often the holder of a lock says that it is alive."""
STALE_S = 180.0
"""A lock of another machine that has been silent for this long is taken over."""
PATIENCE_S = 5.0
_STEP_S = 0.05
_FOLDER = ".locks"
_tokens: set[str] = set()
"""Of the locks that this process holds."""


@dataclass(frozen=True)
class LockInfo:
    """Who writes the features of a slide.

    Parameters
    ----------
    fingerprint : str
        Of the slide.
    owner : str
        ``"HOST pid 1234"``.
    age_s : float
        Seconds since it was taken.
    alive : bool
        Whether its owner still runs: on this machine, whether the process is there; on another one, whether
        it gave a sign in the last 180 s. The lock of a dead owner is taken over by the next writer.
    program, slide : str
        Such as ``napari``; name of the slide, where it was said.
    silent_s : float
        Seconds since its owner's last sign of life.
    """

    fingerprint: str
    owner: str
    age_s: float
    alive: bool
    program: str = ""
    slide: str = ""
    silent_s: float = 0.0

    @property
    def who(self) -> str:
        """``napari on HOST (process 1234, since 3 min)``."""
        host, _, pid = self.owner.rpartition(" pid ")
        return f"{self.program or 'a program'} on {host} (process {pid}, since {_duration(self.age_s)})"


def _duration(seconds: float) -> str:
    for unit, size in (("days", 86400.0), ("h", 3600.0), ("min", 60.0)):
        if seconds >= 2 * size or (unit == "min" and seconds >= size):
            return f"{seconds / size:.0f} {unit}"
    return f"{seconds:.0f} s"


def read_locks(root: Path) -> list[LockInfo]:
    """Locks of the store in this folder."""
    folder = root / _FOLDER
    found = []
    with contextlib.suppress(OSError):
        for path in sorted(folder.glob("*.json")):
            about = _read(path, _clock(folder / ".clock"))
            if about is not None:
                found.append(about[0])
    return found


def _read(path: Path, now: float) -> tuple[LockInfo, str] | None:
    """The lock and its token; None where there is none."""
    try:
        beat = path.stat().st_mtime
        data = path.read_bytes()
    except (FileNotFoundError, PermissionError):  # Windows: just being replaced or removed
        return None
    silent = max(0.0, now - beat)
    try:
        said: dict[str, Any] = dict(json.loads(data))
        pid, since = int(said["pid"]), float(said["since"])
    except (ValueError, KeyError, TypeError):
        # torn by a power failure, or something else put there
        return LockInfo(path.stem, "unknown pid 0", silent, silent < STALE_S, silent_s=silent), ""
    here = said.get("host") == _process.host_name() and said.get("space") == _process.space()
    alive = silent < STALE_S
    if here and said.get("folder") != _folder_mark(path):
        alive = False  # copied together with its study
    elif here and pid == os.getpid():
        alive = said.get("token") in _tokens
    elif here:
        alive = _process.runs(pid, str(said.get("started", "")))
    info = LockInfo(
        path.stem,
        f"{said.get('host', '')} pid {pid}",
        max(0.0, time.time() - since),
        alive,
        str(said.get("program", "")),
        str(said.get("slide", "")),
        silent,
    )
    return info, str(said.get("token", ""))


def _folder_mark(path: Path) -> int:
    return path.parent.stat().st_ino


def _clock(path: Path) -> float:
    """The time as the folder's machine has it: a file server's clock may differ from ours."""
    try:
        path.touch()
        return path.stat().st_mtime
    except OSError:  # may only be read: our own clock has to do
        return time.time()


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
        self._folder = root / _FOLDER if root is not None else None
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
                other = _read(self._file, _clock(self._folder / ".clock"))
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
        _tokens.add(self._token)
        said = {
            "host": _process.host_name(),
            "pid": os.getpid(),
            "started": _process.started(os.getpid()) or "",
            "space": _process.space(),
            "program": _process.program_name(),
            "since": time.time(),
            "slide": slide,
            "folder": _folder_mark(self._file),
            "token": self._token,
        }
        replace_file(str(self._file), json.dumps(said).encode(), str(self._folder), ".new")

    def _check(self) -> None:
        """Refuse to go on where another machine took the lock over, as after a long sleep of this one."""
        assert self._folder is not None
        other = _read(self._file, time.time())
        if other is not None and other[1] == self._token:
            return
        with self._guard():
            other = _read(self._file, _clock(self._folder / ".clock"))
            if other is not None and other[1] != self._token and other[0].alive:
                raise self._busy(other[0])
            self._write("")
            self.turn += 1

    def _give_back(self) -> None:
        if self._stop is not None and self._beat is not None:
            self._stop.set()
            self._beat.join(timeout=5)
            self._stop = self._beat = None
        _tokens.discard(self._token)
        # not ours any more, or the folder is gone: nothing to give back
        with contextlib.suppress(OSError, FeatureError), self._guard():
            other = _read(self._file, time.time())
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
        lock = FileLock(self._folder / f"{self.fingerprint}.guard")
        try:
            lock.acquire(timeout=10)
        except Timeout:
            other = _read(self._file, time.time())
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
