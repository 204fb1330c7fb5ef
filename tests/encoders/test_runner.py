"""The encode job: order, partial results, small batches, cancel, full memory."""

import threading

import numpy as np
import pytest

from napari_batchfx.encoders import ColourStatistics, EncodedBatch, Encoder, EncoderMemoryError, encode
from napari_batchfx.encoders.batching import BatchSize
from napari_batchfx.errors import EncoderError
from napari_batchfx.jobs import run
from napari_batchfx.tiles import read_tiles


class SmallMemory(Encoder):
    """Means of the channels; takes at most ``most`` tiles at once."""

    def __init__(self, most):
        super().__init__()
        self.name, self.key, self.dim, self.most, self.sizes = "means", "means", 3, most, []

    def _embed(self, tiles):
        self.sizes.append(len(tiles))
        if len(tiles) > self.most:
            raise EncoderMemoryError("means: not enough memory.")
        return tiles.mean((1, 2)).astype(np.float32)


class Darker:
    key = "darker"

    def transform(self, tiles):
        return tiles // 2


def test_all_cells_in_the_callers_order(grid):
    cells = np.random.default_rng(0).permutation(grid.all_cells())
    seen = []
    assert run(encode(grid, ColourStatistics(), cells), seen.append) == len(cells)
    batches = [p.partial for p in seen if p.partial is not None]
    assert all(isinstance(b, EncodedBatch) for b in batches)
    assert len(batches) > 2
    np.testing.assert_array_equal(np.concatenate([b.cells for b in batches]), cells)
    expected = ColourStatistics().embed(read_tiles(grid, cells))
    np.testing.assert_array_equal(np.concatenate([b.features for b in batches]), expected)
    assert seen[-1].done == seen[-1].total == len(cells)
    assert "encoding A-1042" in seen[-1].text()


def test_normalizer_comes_before_the_model(grid):
    cells = grid.all_cells()[:5]
    job = encode(grid, SmallMemory(99), cells, normalizer=Darker())
    got = np.concatenate([p.partial.features for p in job if p.partial])
    np.testing.assert_allclose(got, (read_tiles(grid, cells) // 2).mean((1, 2)), rtol=1e-6)


def test_full_memory_halves_the_batch_and_goes_on(grid):
    cells = grid.all_cells()[:40]
    encoder = SmallMemory(5)
    assert run(encode(grid, encoder, cells, batch_size=32)) == 40
    assert encoder.sizes[:4] == [32, 16, 8, 4]
    assert max(encoder.sizes[4:]) == 4


def test_one_tile_that_does_not_fit_is_an_error(grid):
    with pytest.raises(EncoderMemoryError, match="not enough memory"):
        run(encode(grid, SmallMemory(0), grid.all_cells()[:4]))


def test_nothing_to_do_and_wrong_batch_size(grid):
    assert run(encode(grid, ColourStatistics(), [])) == 0
    with pytest.raises(EncoderError, match="batch size"):
        run(encode(grid, ColourStatistics(), [[0, 0]], batch_size=0))


def test_closing_stops_the_readers(grid):
    def readers():
        return [t for t in threading.enumerate() if t.name.startswith("batchfx-tiles")]

    job = encode(grid, ColourStatistics(), grid.all_cells(), batch_size=2)
    for _ in range(3):
        next(job)
    assert readers()
    job.close()
    assert not readers()


def test_batches_follow_the_models_speed():
    batch = BatchSize(4, 32, adaptive=True)
    batch.fitted(4, 5.0)  # the first one compiles
    assert batch.size == 4
    for _ in range(9):
        batch.fitted(batch.size, batch.size * 0.03)
    assert batch.size == 4  # 0.12 s of 0.03 s tiles
    for _ in range(9):
        batch.fitted(batch.size, batch.size * 0.0005)
    assert batch.size == 32
    for _ in range(5):
        batch.fitted(batch.size, batch.size * 1.0)
    assert batch.size == 1
