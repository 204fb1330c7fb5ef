"""Cosine and retrieval over aligned rescans: against plain versions, on paper, copies and errors."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from napari_batchfx.errors import ProbeError
from napari_batchfx.probe.metrics import paired_cosine, paired_top_k

from .made import distances, table_of


def rescans(n=80, dim=6, noise=0.6, seed=0):
    rng = np.random.default_rng(seed)
    a = rng.normal(size=(n, dim))
    return a, a + noise * rng.normal(size=(n, dim)) + 0.3


def test_cosine_pair_by_pair():
    a, b = rescans()
    wanted = [x @ y / np.sqrt((x @ x) * (y @ y)) for x, y in zip(a, b, strict=True)]
    found = paired_cosine(a, b)
    assert found.per_tile == pytest.approx(wanted, abs=1e-6)
    assert found.value == pytest.approx(np.mean(wanted), abs=1e-6)
    u, v = (m / np.linalg.norm(m, axis=1, keepdims=True) for m in (a, b))
    every = u @ v.T
    assert found.support["unpaired"] == pytest.approx(every[~np.eye(80, dtype=bool)].mean(), abs=1e-6)


@pytest.mark.parametrize("k", [1, 3, 10])
def test_retrieval_by_sorting_all_distances(k):
    a, b = rescans()
    d = distances(np.vstack([a, b]))
    hits = []
    for i in range(160):
        near = sorted((j for j in range(160) if j != i), key=lambda j: d[i, j])[:k]
        hits.append((i + 80) % 160 in near)
    found = paired_top_k(a, b, k)
    assert found.value == pytest.approx(np.mean(hits))
    assert found.per_tile == pytest.approx(np.mean([hits[:80], hits[80:]], axis=0))
    assert found.support["chance"] == k / 159


def test_all_k_at_once():
    a, b = rescans()
    found = paired_top_k(a, b, (1, 3, 5, 10))
    assert found.curve == {k: paired_top_k(a, b, k).value for k in (1, 3, 5, 10)}
    assert found.value == found.curve[10]
    assert sorted(found.curve.values()) == list(found.curve.values())


def test_the_same_scan_twice_is_perfect():
    a, _ = rescans()
    assert paired_cosine(a, a).value == pytest.approx(1)
    assert paired_top_k(a, a, 1).value == 1


def test_constant_features_are_worth_chance():
    # upstream drops the first of the list as the tile itself, which copies break; here ties are chance
    found = paired_top_k(np.ones((40, 3)), np.ones((40, 3)), 10)
    assert found.value == pytest.approx(10 / 79)
    assert "as near as the twin" in found.warnings[0]
    assert paired_cosine(np.ones((40, 3)), np.ones((40, 3))).value == pytest.approx(1)


def test_a_narrow_cone_is_said():
    rng = np.random.default_rng(0)
    a, b = (10 + rng.normal(size=(50, 8)) for _ in range(2))
    found = paired_cosine(a, b)
    assert found.value > 0.98
    assert "narrow cone" in found.warnings[0]
    assert paired_top_k(a, b, 1).value < 0.2


@settings(max_examples=20, deadline=None)
@given(st.integers(0, 10**6), st.floats(0.01, 100))
def test_order_rotation_scale_and_direction_do_not_matter(seed, scale):
    a, b = rescans(n=30, dim=5, seed=seed)
    rng = np.random.default_rng(seed)
    order, turn = rng.permutation(30), np.linalg.qr(rng.normal(size=(5, 5)))[0]
    c, d = a[order] @ turn * scale, b[order] @ turn
    assert paired_top_k(d, c, 3).value == pytest.approx(paired_top_k(a, b, 3).value)
    assert paired_cosine(d, c).value == pytest.approx(paired_cosine(a, b).value, abs=1e-6)


def test_tables_are_taken_too():
    a, b = rescans()
    ta, tb = (table_of(x, np.zeros(80), np.zeros(80), np.zeros(80)) for x in (a, b))
    assert paired_cosine(ta, tb).value == pytest.approx(paired_cosine(a, b).value, abs=1e-6)


@pytest.mark.parametrize(
    ("a", "b", "said"),
    [
        (np.ones((3, 2)), np.ones((4, 2)), r"3 x 2 and 4 x 2"),
        (np.ones((3, 2)), np.array([[1, np.nan]] * 3), "not finite"),
        (np.ones((3, 2)), np.zeros((3, 2)), "all zero"),
        (np.ones(3), np.ones(3), "shape"),
    ],
)
def test_errors(a, b, said):
    with pytest.raises(ProbeError, match=said):
        paired_cosine(a, b)


@pytest.mark.parametrize("k", [0, 6, ()])
def test_k_must_fit(k):
    with pytest.raises(ProbeError, match="between 1 and 5"):
        paired_top_k(np.eye(3), np.eye(3), k)
