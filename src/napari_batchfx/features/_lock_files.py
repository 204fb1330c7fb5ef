"""What a slide's lock says: who holds it, since when, and whether that one still lives."""

from __future__ import annotations

import contextlib
import json
import os
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from napari_batchfx.features import _process

__all__ = [
    "FOLDER",
    "STALE_S",
    "LockInfo",
    "folder_clock",
    "folder_mark",
    "held_tokens",
    "read_lock",
    "read_locks",
]

STALE_S = 180.0
"""A lock of another machine that has been silent for this long is taken over."""
FOLDER = ".locks"
held_tokens: set[str] = set()
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
    folder = root / FOLDER
    found = []
    with contextlib.suppress(OSError):
        for path in sorted(folder.glob("*.json")):
            about = read_lock(path, folder_clock(folder / ".clock"))
            if about is not None:
                found.append(about[0])
    return found


def read_lock(path: Path, now: float) -> tuple[LockInfo, str] | None:
    """The lock and its token; None where there is none."""
    try:
        beat = path.stat().st_mtime
        data = path.read_bytes()
    except FileNotFoundError:
        return None
    except PermissionError:
        if os.name == "nt":  # just being replaced or removed
            return None
        beat, data = now, b""  # another user's
    silent = max(0.0, now - beat)
    try:
        said: dict[str, Any] = dict(json.loads(data))
        pid, since = int(said["pid"]), float(said["since"])
    except (ValueError, KeyError, TypeError):
        # torn by a power failure, or something else put there
        return LockInfo(path.stem, "unknown pid 0", silent, silent < STALE_S, silent_s=silent), ""
    here = said.get("host") == _process.host_name() and said.get("space") == _process.space()
    alive = silent < STALE_S
    if here and said.get("folder") != folder_mark(path):
        alive = False  # copied together with its study
    elif here and pid == os.getpid():
        alive = said.get("token") in held_tokens
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


def folder_mark(path: Path) -> int:
    return path.parent.stat().st_ino


def folder_clock(path: Path) -> float:
    """The time as the folder's machine has it: a file server's clock may differ from ours."""
    try:
        path.touch()
        return path.stat().st_mtime
    except OSError:  # may only be read: our own clock has to do
        return time.time()
