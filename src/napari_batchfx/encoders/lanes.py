"""Lanes: threads that run a model side by side, each on a batch of its own."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

__all__ = ["Embedded", "Lanes", "own_torch_threads"]

Tiles = npt.NDArray[np.uint8]
Features = npt.NDArray[np.float32]

_THREADS = threading.Lock()


@dataclass(frozen=True)
class Embedded:
    """Vectors of a batch and how long it took.

    Parameters
    ----------
    features : float32 array (n, dim)
    seconds : float
        From the lane's taking the batch to its vectors in main memory.
    """

    features: Features
    seconds: float


class Lanes:
    """Threads that run an encoder, each on a batch of its own; close them when done.

    Two batches on two cores are quicker than one batch on both: no layer waits for the slower core, and a
    core that decodes tiles meanwhile holds up nobody. On a GPU two lanes keep it busy while one of them
    copies.

    Parameters
    ----------
    embed : callable
        uint8 (n, h, w, 3) -> float32 (n, dim); called by several threads at once where ``width`` is above 1.
    width : int
        Batches that can run at once.
    start : callable, optional
        Called once in every thread before its first batch.

    Examples
    --------
    >>> with Lanes(lambda tiles: tiles.mean((1, 2), dtype=np.float32), width=2) as lanes:
    ...     lanes.submit(np.full((3, 8, 8, 3), 7, np.uint8)).result().features.tolist()
    [[7.0, 7.0, 7.0], [7.0, 7.0, 7.0], [7.0, 7.0, 7.0]]
    """

    def __init__(
        self, embed: Callable[[Tiles], Features], width: int = 1, start: Callable[[], None] | None = None
    ) -> None:
        self.width = max(1, width)
        self._embed = embed
        self._pool = ThreadPoolExecutor(
            self.width, thread_name_prefix="batchfx-encode", initializer=start or (lambda: None)
        )

    def submit(self, tiles: Tiles, before: Callable[[Tiles], Tiles] | None = None) -> Future[Embedded]:
        """Have a batch encoded; ``before`` (a stain normaliser) is applied to it in the lane."""
        return self._pool.submit(self._work, tiles, before)

    def _work(self, tiles: Tiles, before: Callable[[Tiles], Tiles] | None) -> Embedded:
        began = time.perf_counter()
        if before is not None:
            tiles = np.asarray(before(tiles), dtype=np.uint8)
        features = self._embed(tiles)
        return Embedded(features, time.perf_counter() - began)

    def close(self) -> None:
        """Drop what waits, wait for what runs, end the threads."""
        self._pool.shutdown(wait=True, cancel_futures=True)

    def __enter__(self) -> Lanes:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def own_torch_threads(n: int) -> None:
    """Give this thread ``n`` torch threads and leave those of every other thread, also of new ones, alone."""
    import torch

    with _THREADS:
        others = torch.get_num_threads()
        if others == n:
            return
        torch.set_num_threads(n)
        # the setting of this thread is its own, but new threads start with the last one set: set it back from
        # a thread that ends at once
        restore = threading.Thread(
            target=torch.set_num_threads, args=(others,), name="batchfx-encode-setting"
        )
        restore.start()
        restore.join()
