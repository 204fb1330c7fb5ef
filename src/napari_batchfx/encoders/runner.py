"""Encode the tiles of a grid as a job: tiles are read ahead while the model runs."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator
from concurrent.futures import Future, wait
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from napari_batchfx.encoders.base import Encoder, EncoderMemoryError
from napari_batchfx.encoders.batching import BatchSize
from napari_batchfx.encoders.lanes import Embedded, Lanes
from napari_batchfx.errors import EncoderError
from napari_batchfx.jobs import Job, Ticker

if TYPE_CHECKING:
    from napari_batchfx.tiles import TileGrid

__all__ = ["EncodedBatch", "encode"]

CPU_FIRST, GPU_FIRST = 4, 16
CPU_MOST, GPU_MOST = 32, 256
#: Tiles that are read as one: the first of them wait for the last.
READ_AT_ONCE = 64

Cells = npt.NDArray[np.int64]
Tiles = npt.NDArray[np.uint8]


@dataclass(frozen=True)
class EncodedBatch:
    """Some cells and their vectors.

    Parameters
    ----------
    cells : int array (n, 2)
        (row, col) in the grid.
    features : float32 array (n, dim)
    """

    cells: npt.NDArray[np.int_]
    features: npt.NDArray[np.float32]

    def __len__(self) -> int:
        return len(self.cells)


def encode(
    grid: TileGrid,
    encoder: Encoder,
    cells: npt.ArrayLike,
    *,
    normalizer: Any = None,
    batch_size: int | None = None,
    workers: int | None = None,
) -> Job[int]:
    """Encode cells of a grid, in the order given.

    Threads read tiles ahead, the encoder's lanes run the model (see
    :class:`~napari_batchfx.encoders.lanes.Lanes`), and the caller gets batches in order; a few batches are
    under way at most, however many cells there are.

    Parameters
    ----------
    grid : TileGrid
        Grid of one slide.
    encoder : Encoder
        Model that turns tiles into vectors.
    cells : int array (n, 2)
        (row, col) of the tiles, in the order they are wanted; see
        :func:`~napari_batchfx.tiles.view_order` and :func:`~napari_batchfx.tiles.block_order`.
    normalizer : object, optional
        Applied to every batch of tiles first: has ``transform(tiles uint8 (n, h, w, 3)) -> uint8`` and
        ``key``. Called by several threads.
    batch_size : int, optional
        Most tiles the model gets at once; by default about as many as take a tenth of a second. Halved where
        memory runs out, and tried again later; no vector depends on it.
    workers : int, optional
        Threads that read tiles; by default as many as the encoder has lanes on a CPU, else the cores but one.

    Yields
    ------
    Progress
        After every batch, with ``partial=EncodedBatch(cells, features)``.

    Returns
    -------
    int
        Number of tiles encoded.

    Raises
    ------
    EncoderError
        If the model fails, or one tile alone doesn't fit into memory. What came before has been yielded.
    TileError, SlideError
        If tiles can't be read; likewise.

    Examples
    --------
    >>> from napari_batchfx.encoders import load
    >>> from napari_batchfx.jobs import run
    >>> from napari_batchfx.slides import open_slide, write_pyramid
    >>> from napari_batchfx.tiles import TileGrid
    >>> _ = write_pyramid("a.tif", np.full((300, 400, 3), 200, np.uint8), mpp=0.5, compression="deflate")
    >>> with open_slide("a.tif") as slide:
    ...     run(encode(TileGrid(slide, size_px=64, mpp=0.5), load("colour-statistics"), [(0, 0), (1, 2)]))
    2
    """
    from napari_batchfx.tiles import default_workers, iter_tiles

    wanted = np.asarray(cells, dtype=np.int64).reshape(-1, 2)
    if batch_size is not None and batch_size < 1:
        raise EncoderError(f"The batch size must be 1 or more, not {batch_size}.")
    on_gpu = not encoder.device.startswith("cpu")
    ticker = Ticker(len(wanted), f"encoding {grid.slide.name}")
    yield ticker.tick(0)
    if not len(wanted):
        return 0
    most = batch_size or min(GPU_MOST if on_gpu else CPU_MOST, encoder.most_at_once)
    first = batch_size or (GPU_FIRST if on_gpu else CPU_FIRST)
    batch = BatchSize(first, most, least=encoder.least_at_once, adaptive=batch_size is None)
    with encoder.lanes() as lanes:
        threads = workers or (default_workers() if on_gpu else max(lanes.width, default_workers()))
        read = min(most, READ_AT_ONCE)
        source: Iterator[Any] = iter(iter_tiles(grid, wanted, batch_size=read, workers=threads))
        line = _Line(lanes, batch, source, None if normalizer is None else normalizer.transform)
        # on a GPU, and where one batch runs at a time, a size is tried alone: a full memory fails one batch
        line.tries_alone = on_gpu or lanes.width == 1
        try:
            for done in line.batches():
                yield ticker.tick(len(done), partial=done)
        finally:
            # closing stops the readers even where the job is dropped in the middle
            line.close()
    return ticker.done


@dataclass
class _Chunk:
    """Tiles that the model gets at once."""

    cells: Cells
    tiles: Tiles
    future: Future[Embedded]
    is_last_try: bool = False


class _Line:
    """Chunks under way, first in first out."""

    tries_alone = False

    def __init__(
        self, lanes: Lanes, batch: BatchSize, source: Iterator[Any], before: Callable[[Tiles], Tiles] | None
    ) -> None:
        self.lanes, self.batch, self.source, self.before = lanes, batch, source, before
        self._under_way: deque[_Chunk] = deque()
        self._cells: Cells = np.empty((0, 2), np.int64)
        self._tiles: Tiles = np.empty((0, 1, 1, 3), np.uint8)
        self._is_dry = False
        self._error: Exception | None = None

    def batches(self) -> Iterator[EncodedBatch]:
        """What was encoded, in order; at most two chunks a lane are under way."""
        while True:
            while len(self._under_way) < 2 * self.lanes.width and self._may_send() and self._fill():
                n = self.batch.size
                self._send(self._cells[:n], self._tiles[:n])
                self._cells, self._tiles = self._cells[n:], self._tiles[n:]
            if not self._under_way:
                break
            chunk = self._under_way.popleft()
            try:
                found = chunk.future.result()
            except EncoderMemoryError as error:
                self._split(chunk, error)
                continue
            self.batch.fitted(len(chunk.cells), found.seconds)
            yield EncodedBatch(chunk.cells, found.features)
        if self._error is not None:
            raise self._error

    def _may_send(self) -> bool:
        return not (self.tries_alone and self._under_way and self.batch.size > self.batch.proven)

    def _fill(self) -> bool:
        """Whether there are tiles at hand; reads on until they make a batch."""
        blocks = [(self._cells, self._tiles)] if len(self._tiles) else []
        n = len(self._tiles)
        while n < self.batch.size and not self._is_dry:
            try:
                cells, tiles = next(self.source)
            except StopIteration:
                self._is_dry = True
            except Exception as error:  # noqa: BLE001 - raised again, after what was read before is encoded
                self._is_dry, self._error = True, error
            else:
                blocks.append((np.asarray(cells, dtype=np.int64), tiles))
                n += len(tiles)
        if len(blocks) == 1:
            self._cells, self._tiles = blocks[0]
        elif blocks:
            self._cells = np.concatenate([cells for cells, _ in blocks])
            self._tiles = np.concatenate([tiles for _, tiles in blocks])
        return n > 0

    def _send(self, cells: Cells, tiles: Tiles, *, front: bool = False, is_last_try: bool = False) -> None:
        chunk = _Chunk(cells, tiles, self.lanes.submit(tiles, self.before), is_last_try)
        if front:
            self._under_way.appendleft(chunk)
        else:
            self._under_way.append(chunk)

    def _split(self, chunk: _Chunk, error: EncoderMemoryError) -> None:
        """Send a chunk that didn't fit into memory again, in pieces that may."""
        n = len(chunk.cells)
        if chunk.is_last_try or (n == 1 and not self._under_way):
            raise error
        self.batch.failed(n)
        if not self._under_way:
            # nothing overtakes them: they are cut anew, and tried one piece at a time
            self._cells = np.concatenate([chunk.cells, self._cells])
            self._tiles = np.concatenate([chunk.tiles, self._tiles])
            return
        # the others fill the memory, too
        wait([other.future for other in self._under_way])
        size = max(1, min(self.batch.size, n // 2))
        for start in reversed(range(0, n, size)):
            some = slice(start, start + size)
            self._send(chunk.cells[some], chunk.tiles[some], front=True, is_last_try=n == 1)

    def close(self) -> None:
        """Stop reading and drop what waits."""
        for chunk in self._under_way:
            chunk.future.cancel()
        self._under_way.clear()
        close = getattr(self.source, "close", None)
        if close is not None:
            close()
