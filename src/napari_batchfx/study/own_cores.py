"""Local workers that keep to cores of their own."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import Any

__all__ = ["cores_of", "keep_to"]


def cores_of(worker: int, workers: int, cores: list[int]) -> set[int]:
    """The cores of one of several workers: equal shares, none shared while there are enough.

    Examples
    --------
    >>> [sorted(cores_of(k, 2, [0, 1, 2, 3])) for k in range(2)], cores_of(5, 8, [0, 1])
    ([[0, 1], [2, 3]], {1})
    """
    if workers >= len(cores):
        return {cores[worker % len(cores)]}
    first, last = (round(k * len(cores) / workers) for k in (worker, worker + 1))
    return set(cores[first:last])


def keep_to(cores: set[int]) -> bool:
    """Hold every thread of this process to some cores; False where the system can't.

    Threads that are started later inherit it, and what counts cores (ours, numpy's, torch's) counts these.
    """
    if sys.platform != "linux":
        return False
    try:
        for thread in Path("/proc/self/task").iterdir():
            os.sched_setaffinity(int(thread.name), cores)
    except OSError:  # a thread that ended meanwhile, or a container that forbids it
        return False
    return True


def own_cores(workers: int) -> Any:
    """A plugin for the workers of a cluster on this machine, numbered by their names."""
    from distributed import WorkerPlugin

    class OwnCores(WorkerPlugin):  # type: ignore[misc]
        name = "batchfx-own-cores"
        idempotent = True

        def __init__(self, workers: int, cores: list[int]) -> None:
            self.workers, self.cores = workers, cores

        def setup(self, worker: Any) -> None:
            if str(worker.name).isdigit():
                keep_to(cores_of(int(worker.name), self.workers, self.cores))

    there = sorted(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else []
    return OwnCores(workers, there) if there else None
