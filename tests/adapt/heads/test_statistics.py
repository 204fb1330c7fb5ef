"""Merging, blending and choosing the rows of a context."""

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from napari_batchfx.adapt.heads.episodes import EpisodeSampler
from napari_batchfx.adapt.heads.network import context_rows
from napari_batchfx.adapt.heads.statistics import Statistics, merge
from napari_batchfx.adapt.row_order import row_order


@given(st.lists(st.integers(1, 40), min_size=1, max_size=6), st.integers(0, 2**16), st.floats(0, 50))
@settings(max_examples=50, deadline=None)
def test_merged_statistics_are_those_of_all_rows(sizes, seed, apart):
    rng = np.random.default_rng(seed)
    chunks = [rng.normal(size=(n, 3)) + apart * rng.normal(size=3) for n in sizes]
    whole, merged = Statistics.of(np.concatenate(chunks)), merge([Statistics.of(c) for c in chunks])
    assert np.allclose(merged.mean, whole.mean, atol=1e-9)
    assert np.allclose(merged.var, whole.var, rtol=1e-9, atol=1e-9)
    assert merged.n == whole.n


def test_averaging_variances_would_lose_what_lies_between_chunks():
    chunks = [np.full((4, 1), -3.0), np.full((4, 1), 3.0)]
    assert merge([Statistics.of(c) for c in chunks]).var[0] == 9.0


def test_a_context_is_the_same_rows_in_any_order():
    rng = np.random.default_rng(0)
    x = rng.normal(size=(300, 5)).astype(np.float32)
    control = np.arange(300) < 90
    order = rng.permutation(300)
    rows, weight, note = context_rows(x, control, "mixed", 64, seed=4)
    turned, _, _ = context_rows(x[order], control[order], "mixed", 64, seed=4)
    assert np.array_equal(x[rows], x[order][turned])
    assert (weight, note) == (1.0, "")
    assert (control[rows].sum(), (~control[rows]).sum()) == (90, 45)  # two to one
    other, _, _ = context_rows(x, control, "mixed", 64, seed=5)
    assert set(rows[~control[rows]]) != set(other[~control[other]])


def test_the_order_of_rows_is_random_enough():
    # features that only differ in their size must not be taken in that order
    x = np.linspace(0, 1, 2000, dtype=np.float32)[:, None] * np.ones((1, 8), np.float32)
    place = np.argsort(row_order(x, 0))
    assert abs(np.corrcoef(place, np.arange(2000))[0, 1]) < 0.1
    assert abs(x[row_order(x, 1)[:200]].mean() - 0.5) < 0.08


def test_mixtures_of_classes_are_drawn_anew_and_no_row_is_target_and_control():
    y, domain = np.tile([0, 1, 2], 200), np.repeat([0, 1], 300)
    control = np.arange(600) % 5 == 0
    draw = EpisodeSampler(y, domain, control, np.arange(600), n_targets=32, n_controls=24, seed=0)
    shares, both = [], 0
    for _ in range(200):
        targets, controls = draw.episode(1)
        assert set(domain[targets]) == set(domain[controls]) == {1}
        both += len(set(targets) & set(controls))
        shares.append(np.bincount(y[targets], minlength=3) / 32)
    assert both == 0
    assert np.max(shares, axis=1).max() == 1.0  # a single class at times
    assert np.abs(np.mean(shares, axis=0) - 1 / 3).max() < 0.06  # and no class more often than another
    even = EpisodeSampler(y, domain, control, np.arange(600), n_targets=300, n_controls=0, label_shift=False)
    assert np.abs(np.bincount(y[even.episode(0)[0]]) / 300 - 1 / 3).max() < 0.1
