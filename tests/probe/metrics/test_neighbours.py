"""Exact neighbours: parity with all distances, one by one; own group, kinds, ties, merging, errors."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from napari_batchfx.errors import Cancelled, ProbeError
from napari_batchfx.jobs import run
from napari_batchfx.probe import neighbours
from napari_batchfx.probe.neighbours import Wanted, merge, nearest, nearest_job

from .made import distances, lists

BOTH = pytest.mark.parametrize("device", ["cpu", "torch:cpu"])


@pytest.fixture
def small_blocks(monkeypatch):
    """Blocks far smaller than the data, so that lists are merged over many of them."""
    monkeypatch.setattr(neighbours, "_QUERIES", 48)
    monkeypatch.setattr(neighbours, "_POINTS", 37)
    monkeypatch.setattr(neighbours, "_PAIRED", 41)


@BOTH
@pytest.mark.parametrize("metric", ["cosine", "euclidean"])
def test_equals_all_distances_one_by_one(metric, device, small_blocks):
    rng = np.random.default_rng(0)
    x = rng.normal(size=(230, 7)).astype(np.float32) + 1.5
    group = rng.integers(0, 9, 230)
    d = distances(x, metric)
    wanted = np.array([row[:11] for row in lists(d, group)])
    found = nearest(x, 11, group=group, metric=metric, device=device)
    np.testing.assert_array_equal(found.index, wanted)
    np.testing.assert_allclose(found.distance, np.take_along_axis(d, wanted, 1), atol=2e-6)
    some = np.array([200, 3, 3, 77])
    again = nearest(x, 11, group=group, metric=metric, device=device, queries=some)
    np.testing.assert_array_equal(again.index, wanted[some])


@BOTH
def test_several_lists_by_cell_in_one_pass(device, small_blocks):
    rng = np.random.default_rng(1)
    x = rng.normal(size=(180, 5)).astype(np.float32)
    cell, group = rng.integers(0, 4, 180), rng.integers(0, 6, 180)
    same = np.eye(4, dtype=bool)
    odd = np.zeros((4, 4), dtype=bool)
    odd[0, 3] = odd[1, 0] = odd[1, 2] = True
    found = run(nearest_job(x, [Wanted(3, same), Wanted(4, odd)], cell=cell, group=group, device=device))
    every = lists(distances(x), group)
    for allowed, k, got in ((same, 3, found[0]), (odd, 4, found[1])):
        for i in range(180):
            wanted = [j for j in every[i] if allowed[cell[i], cell[j]]][:k]
            assert got.index[i, : len(wanted)].tolist() == wanted
            assert (got.index[i, len(wanted) :] == -1).all()
            assert np.isinf(got.distance[i, len(wanted) :]).all()
    assert (found[1].filled[cell == 2] == 0).all()


@BOTH
def test_copies_stand_in_the_order_of_their_rows(device):
    x = np.repeat(np.random.default_rng(0).normal(size=(6, 33)).astype(np.float32), 3, axis=0)
    found = nearest(x, 4, device=device)
    for i in range(18):
        others = [j for j in range(i // 3 * 3, i // 3 * 3 + 3) if j != i]
        assert found.index[i, :2].tolist() == others
        assert found.distance[i, 0] == 0.0
        first = found.index[i, 2]
        assert first % 3 == 0  # of three equally far copies the first row
        assert found.index[i, 3] == first + 1


def test_many_groups_in_many_cells_take_the_other_way_and_find_the_same(monkeypatch, small_blocks):
    from napari_batchfx.probe import _neighbours_cpu

    rng = np.random.default_rng(5)
    x = rng.normal(size=(150, 4)).astype(np.float32)
    cell, group = rng.integers(0, 5, 150), rng.integers(0, 70, 150)
    wanted = [Wanted(6, rng.random((5, 5)) < 0.5)]
    (paired,) = run(nearest_job(x, wanted, cell=cell, group=group))
    monkeypatch.setattr(_neighbours_cpu, "_RANGES", 1)
    (plain,) = run(nearest_job(x, wanted, cell=cell, group=group))
    np.testing.assert_array_equal(plain.index, paired.index)
    np.testing.assert_array_equal(plain.distance, paired.distance)


def test_small_differences_survive_a_large_common_offset():
    rng = np.random.default_rng(3)
    x = rng.normal(size=(300, 40)).astype(np.float32) + 1000
    found = nearest(x, 5, metric="euclidean")
    d = distances(x, "euclidean")
    np.testing.assert_array_equal(found.index, [row[:5] for row in lists(d, np.arange(300))])


@settings(max_examples=25, deadline=None)
@given(st.integers(0, 10**6), st.floats(1e-3, 1e3), st.sampled_from(["cosine", "euclidean"]))
def test_row_order_rotation_and_scale_do_not_matter(seed, scale, metric):
    rng = np.random.default_rng(seed)
    x = rng.normal(size=(60, 6)).astype(np.float32)
    group = rng.integers(0, 5, 60)
    found = nearest(x, 4, group=group, metric=metric)
    order = rng.permutation(60)
    turn = np.linalg.qr(rng.normal(size=(6, 6)))[0]
    other = nearest((x[order] @ turn * scale).astype(np.float32), 4, group=group[order], metric=metric)
    np.testing.assert_array_equal(order[other.index], found.index[order])
    factor = 1 if metric == "cosine" else scale
    np.testing.assert_allclose(other.distance, found.distance[order] * factor, rtol=1e-3, atol=1e-5 * factor)


@settings(max_examples=25, deadline=None)
@given(st.integers(0, 10**6), st.integers(1, 8))
def test_merging_parts_gives_the_whole(seed, k):
    rng = np.random.default_rng(seed)
    distance = np.sort(rng.integers(0, 6, (10, 16)) / 4.0, axis=1)
    index = rng.permuted(np.tile(np.arange(16, dtype=np.int32), (10, 1)), axis=1)
    parts = [neighbours.Neighbours(index[:, half], distance[:, half]) for half in (slice(0, 8), slice(8, 16))]
    whole = merge(parts, k)
    for row in range(10):
        wanted = sorted(zip(distance[row], index[row], strict=True))[:k]
        assert list(zip(whole.distance[row], whole.index[row], strict=True)) == wanted


def test_the_job_reports_and_can_be_stopped():
    x = np.random.default_rng(0).normal(size=(3000, 8)).astype(np.float32)
    seen = []
    job = nearest_job(x, [Wanted(3, np.ones((1, 1), bool))])
    with pytest.raises(Cancelled):
        run(job, seen.append, lambda: len(seen) == 3)
    assert [p.total for p in seen] == [3000] * 3
    for queries in (None, np.arange(500)):
        seen = []
        run(nearest_job(x, [Wanted(3, np.ones((1, 1), bool))], queries=queries), seen.append)
        done = [p.done for p in seen]
        assert done == sorted(done)
        assert done[-1] == seen[-1].total == (3000 if queries is None else 500)


@pytest.mark.parametrize(
    ("x", "k", "said"),
    [
        (np.ones((4, 2)), 4, "k is 4, but 4 tiles have at most 3 neighbours"),
        (np.ones((4, 2)), 0, "k is 0"),
        (np.array([[1, np.nan], [1, 2], [2, 1]]), 1, "not finite"),
        (np.array([[0, 0], [1, 2], [2, 1]]), 1, "all zero has no direction"),
    ],
)
def test_errors_in_one_sentence(x, k, said):
    with pytest.raises(ProbeError, match=said):
        nearest(x, k)


def test_a_device_that_is_not_there():
    with pytest.raises(ProbeError, match=r"device nonsense can't be used"):
        nearest(np.eye(3), 1, device="nonsense")
