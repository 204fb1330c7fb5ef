"""Which process this is, and whether another one still runs: also where its number was given to a new one."""

from __future__ import annotations

import functools
import importlib
import os
import socket
import sys
from pathlib import Path

__all__ = ["host_name", "program_name", "runs", "space", "started"]


def host_name() -> str:
    """Name of this machine."""
    return socket.gethostname() or "this machine"


_HAS_PROC = Path("/proc/self/stat").exists()


@functools.cache
def space() -> str:
    """Where process numbers mean the same: two containers may share a host name, but not this."""
    try:
        boot = Path("/proc/sys/kernel/random/boot_id").read_text().strip()
        return f"{boot}/{os.stat('/proc/self/ns/pid').st_ino}"
    except OSError:
        return sys.platform


def started(pid: int) -> str | None:
    """When a process was started, in whatever unit doesn't change while it runs; None if there is none."""
    if _HAS_PROC:
        try:
            # the name, in brackets, may have spaces and brackets itself
            fields = Path(f"/proc/{pid}/stat").read_bytes().rpartition(b")")[2].split()
            return None if fields[0] in (b"Z", b"X") else fields[19].decode()
        except (OSError, IndexError):
            return None
    psutil = importlib.import_module("psutil")  # comes with napari
    try:
        process = psutil.Process(pid)
        return None if process.status() == psutil.STATUS_ZOMBIE else str(round(process.create_time()))
    except psutil.AccessDenied:
        return ""
    except psutil.Error:
        return None


def runs(pid: int, since: str) -> bool:
    """Whether the process with this number is still the one that was started then.

    >>> runs(os.getpid(), started(os.getpid())), runs(os.getpid(), "1")
    (True, False)
    """
    now = started(pid)
    return now is not None and (not now or not since or abs(int(now) - int(since)) <= _slack())


def _slack() -> int:
    # ticks since the start of the machine, or rounded seconds
    return 0 if _HAS_PROC else 1


def program_name() -> str:
    """What a person knows this program as: napari, napari-batchfx, the name of a script."""
    name = Path(sys.argv[0] or "python")
    if name.name == "__main__.py":
        name = name.parent
    return "python" if name.name in ("-c", "-m") else name.stem or "python"
