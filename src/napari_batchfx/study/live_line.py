"""Batches of several slides on their way through the readers and the encoder's lanes, few at a time."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from napari_batchfx.errors import BatchfxError
from napari_batchfx.study.recipe import Recipe
from napari_batchfx.study.slide_work import EncodedTiles, SlideWork

__all__ = ["Batch", "LiveLine"]


@dataclass(eq=False)
class Batch:
    """Tiles of one slide: first they are read, then they run.

    Parameters
    ----------
    work : SlideWork
    cells : array (n, 2), int
    read : Future of the tiles
    run : Future of an ``Embedded``, optional
    seconds : float
        How long it ran.
    """

    work: SlideWork
    cells: NDArray[np.int64]
    read: Future[Any]
    run: Future[Any] | None = None
    seconds: float = 0.0


class LiveLine:
    """What a live job has under way: one batch a lane runs, and one a lane is read ahead.

    So few that a view that moved on is left within a batch. What runs then is finished and kept: closing
    waits for it.

    Parameters
    ----------
    recipe : Recipe
    """

    def __init__(self, recipe: Recipe) -> None:
        from napari_batchfx.tiles import default_workers

        on_cpu = recipe.encoder.device.startswith("cpu")
        self._lanes = recipe.encoder.lanes()
        #: Batches that run at a time.
        self.width = self._lanes.width
        self._threads = 1 if on_cpu else default_workers()
        self._readers = ThreadPoolExecutor(self.width, thread_name_prefix="batchfx-tiles")
        self._batches: list[Batch] = []

    @property
    def has_room(self) -> bool:
        """Whether another batch may be read."""
        return sum(batch.run is None for batch in self._batches) < self.width

    @property
    def is_empty(self) -> bool:
        """Whether nothing is under way."""
        return not self._batches

    def send(self, work: SlideWork, cells: NDArray[np.int64]) -> None:
        """Have cells that were taken from a slide's work read, and run when their turn comes."""
        self._batches.append(Batch(work, cells, self._readers.submit(self._read, work, cells)))

    def _read(self, work: SlideWork, cells: NDArray[np.int64]) -> Any:
        from napari_batchfx.tiles import read_tiles

        return read_tiles(work.place.grid, cells, workers=self._threads)

    def advance(self) -> Iterator[tuple[SlideWork, Exception]]:
        """Let batches that were read run, where a lane is free; gives those whose slide can't be read."""
        for batch in [batch for batch in self._batches if batch.run is None and batch.read.done()]:
            if sum(other.run is not None and not other.run.done() for other in self._batches) >= self.width:
                return
            error = batch.read.exception()
            if error is None:
                transform = batch.work.place.transform
                batch.run = self._lanes.submit(
                    batch.read.result(), None if transform is None else transform.transform
                )
            else:
                self._batches.remove(batch)
                batch.work.put_back(batch.cells)
                if not isinstance(error, (BatchfxError, OSError)):
                    raise error
                yield batch.work, error

    def wait(self, seconds: float) -> None:
        """Until a batch was read or is done, but not longer than that."""
        futures = [batch.run or batch.read for batch in self._batches]
        for batch in self._batches:
            batch.work.claim.touch()
        free = [batch.read for batch in self._batches if batch.run is None and batch.read.done()]
        if len(free) < len(futures):  # those that were read and wait for a lane would end the wait at once
            wait([future for future in futures if future not in free], seconds, return_when=FIRST_COMPLETED)

    def next_done(self) -> Batch | None:
        """A batch that ran, taken off the line."""
        for batch in self._batches:
            if batch.run is not None and batch.run.done():
                self._batches.remove(batch)
                return batch
        return None

    def keep(self, batch: Batch) -> EncodedTiles:
        """Store what a batch came to.

        Raises
        ------
        EncoderMemoryError
            If it was too large; its cells are put back.
        BatchfxError, OSError
            If the encoder failed, the slide was changed, or the store doesn't take it.
        """
        from napari_batchfx.encoders import EncodedBatch

        assert batch.run is not None
        try:
            found = batch.run.result()
        except BaseException:
            batch.work.put_back(batch.cells)
            raise
        batch.seconds = found.seconds
        return batch.work.keep(EncodedBatch(batch.cells, found.features))

    def recall(self) -> None:
        """Take back what does not run yet: it may not be wanted any more."""
        waiting = [batch for batch in self._batches if batch.run is None]
        for batch in reversed(waiting):
            batch.read.cancel()
            batch.work.put_back(batch.cells)
        self._batches = [batch for batch in self._batches if batch.run is not None]

    def close(self) -> None:
        """Finish and keep what runs, then end the threads."""
        self.recall()
        while self._batches:
            self.wait(1.0)
            while batch := self.next_done():
                try:
                    self.keep(batch)
                except (BatchfxError, OSError):
                    continue  # whoever stops doesn't ask any more; the tiles will be asked for again
        self._readers.shutdown(wait=True, cancel_futures=True)
        self._lanes.close()
