"""How many tiles at once: follows the time a batch takes, halved by a full memory, grown again."""

import pytest

from napari_batchfx.encoders.batching import PATIENCE, BatchSize


def drive(batch, seconds_a_tile, n=30):
    for _ in range(n):
        batch.fitted(batch.size, batch.size * seconds_a_tile)
    return batch.size


def test_grows_to_a_tenth_of_a_second_and_no_further():
    assert drive(BatchSize(4, 256, adaptive=True), 0.005) == 16  # 80 ms
    assert drive(BatchSize(4, 256, adaptive=True), 0.0001) == 256
    assert drive(BatchSize(4, 256, adaptive=True), 1.0) == 1


def test_does_not_grow_where_a_tile_gets_no_cheaper():
    """At 8 tiles and more the cache is full and a tile takes longer: back to 8 after one look."""
    batch = BatchSize(4, 64, adaptive=True)
    for _ in range(30):
        batch.fitted(batch.size, batch.size * (0.002 if batch.size <= 8 else 0.008))
    assert batch.size == 8


def test_one_slow_batch_changes_little_for_long():
    batch = BatchSize(8, 8, adaptive=True)
    drive(batch, 0.005)
    batch.fitted(8, 3.0)
    assert drive(batch, 0.005) == 8


def test_fixed_sizes_ignore_the_time():
    assert drive(BatchSize(32, 32), 5.0) == 32


def test_least():
    assert drive(BatchSize(4, 8, least=2, adaptive=True), 9.0) == 2
    batch = BatchSize(4, 8, least=2, adaptive=True)
    batch.failed(2)
    assert batch.size == 1  # where memory runs out nothing else counts


def test_a_full_memory_halves_and_is_tried_again():
    batch = BatchSize(32, 32)
    batch.failed(32)
    assert batch.size == 16
    for _ in range(PATIENCE - 1):
        batch.fitted(16, 0.1)
    assert batch.size == 16
    batch.fitted(16, 0.1)
    assert batch.size == 32  # it was for a moment
    batch.fitted(32, 0.1)
    assert drive(batch, 0.1, 50) == 32


@pytest.mark.parametrize("adaptive", [True, False])
def test_a_memory_that_stays_full_is_tried_less_and_less(adaptive):
    """4,000 batches on a device that takes 8 tiles: few failures, and never more than 16 asked for."""
    batch = BatchSize(32, 32, adaptive=adaptive)
    asked, failures = [], 0
    for _ in range(4000):
        asked.append(batch.size)
        if batch.size > 8:
            failures += 1
            batch.failed(batch.size)
        else:
            batch.fitted(batch.size, batch.size * 0.0001)
    assert failures <= 11
    assert max(asked[10:]) == 16
    assert sum(n == 8 for n in asked) > 3900


def test_a_failure_of_an_older_larger_batch_changes_nothing_more():
    batch = BatchSize(32, 32)
    batch.failed(32)
    batch.failed(32)  # was under way when the first one failed
    assert batch.size == 16
    batch.failed(16)
    assert batch.size == 8


def test_what_is_proven():
    batch = BatchSize(32, 32)
    assert batch.proven == 0
    batch.fitted(16, 0.1)
    assert batch.proven == 16
    batch.failed(16)
    assert batch.proven == 8
