"""LISI: on paper, against one tile at a time, and what it does on a published correction."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.optimize import brentq

from napari_batchfx.errors import ProbeError
from napari_batchfx.probe.metrics import clisi, ilisi, lisi

from .made import codes, distances, made_table, table_of


def one_by_one(table, key, perplexity):
    """The index of every tile, each scale found by a root finder."""
    d, value = distances(table.X, "euclidean"), codes(table, key)
    out = []
    for i, row in enumerate(d):
        near = [j for j in np.argsort(row, kind="stable") if j != i][: int(3 * perplexity) - 1]
        r = row[near]

        def entropy(beta, r=r):
            p = np.exp(-beta * (r - r.min()))
            p /= p.sum()
            return -(p * np.log(np.where(p > 0, p, 1))).sum()

        beta = brentq(lambda b: entropy(b) - np.log(perplexity), 1e-9, 1e6, xtol=1e-12)
        p = np.exp(-beta * (r - r.min()))
        share = np.bincount(value[near], p / p.sum())
        out.append(1 / (share**2).sum())
    return np.array(out)


@pytest.mark.parametrize("perplexity", [5, 30])
def test_one_tile_at_a_time_gives_the_same(perplexity):
    table = made_table(n=240, slides=24, dim=6)
    found = lisi(table, "site", perplexity)
    wanted = one_by_one(table, "site", perplexity)
    np.testing.assert_allclose(found.per_tile, wanted, rtol=1e-4)
    assert found.value == pytest.approx(np.median(wanted), rel=1e-4)
    assert ilisi(table, "site", perplexity).value == pytest.approx((np.median(wanted) - 1) / 2, rel=1e-3)


def test_separated_clusters_have_1_and_no_mixing():
    site = np.arange(400) % 2
    x = np.random.default_rng(0).normal(size=(400, 3)) + 100 * site[:, None]
    table = table_of(x, site, site, np.arange(400) // 20)
    assert lisi(table, "site").per_tile == pytest.approx(1, abs=1e-12)
    assert ilisi(table).value == pytest.approx(0, abs=1e-12)
    assert clisi(table).value == pytest.approx(1, abs=1e-12)


def test_perfectly_mixed_sites_have_their_number():
    # two far simplices of 90 corners, 30 of each of three sites: of 89 equally far others 29 are of the own site
    x = np.hstack([np.tile(np.eye(90), (2, 1)), np.repeat([[-50.0], [50.0]], 90, axis=0)])
    table = table_of(x, np.zeros(180), np.arange(180) % 3, np.arange(180))
    found = lisi(table, "site", label=None)
    assert found.per_tile == pytest.approx(89**2 / (29**2 + 30**2 + 30**2), abs=1e-9)
    assert found.support["perfectly_mixed"] == pytest.approx(3)
    assert ilisi(table, label=None).value == pytest.approx(1, abs=1e-3)


def test_uneven_sites_cannot_reach_their_number():
    site = (np.arange(1000) % 10 == 0).astype(int)
    x = np.random.default_rng(0).normal(size=(1000, 3))
    found = lisi(table_of(x, site, site, np.arange(1000)), "site", label=None)
    assert found.support["perfectly_mixed"] == pytest.approx(1 / (0.9**2 + 0.1**2))
    assert found.value < 1.5
    assert any("uneven" in text for text in found.warnings)


@settings(max_examples=8, deadline=None)
@given(st.integers(0, 10**6), st.floats(0.01, 100))
def test_row_order_rotation_shift_and_scale_do_not_matter(seed, scale):
    table = made_table(n=120, slides=12, dim=5, seed=seed)
    rng = np.random.default_rng(seed)
    order = rng.permutation(120)
    turn = np.linalg.qr(rng.normal(size=(5, 5)))[0]
    other = table[order].copy()
    other.X = ((np.asarray(other.X) @ turn + rng.normal(size=5)) * scale).astype(np.float32)
    a, b = lisi(table, "site", 10), lisi(other, "site", 10)
    np.testing.assert_allclose(b.per_tile, a.per_tile[order], rtol=2e-3)


def test_without_classes_it_says_what_is_missing_and_with_them_gives_retention():
    table = made_table()
    assert any("No class is given" in text for text in lisi(table, "site", label=None).warnings)
    assert 0 < lisi(table, "site").retention.value <= 1
    alike = made_table(biology=0, batch=0, slide_sd=0)
    assert any("hardly told apart" in text for text in ilisi(alike).warnings)


def test_no_value_and_errors():
    assert "two or more" in lisi(made_table(sites=1), "site").reason
    with pytest.raises(ProbeError, match="needs 90 tiles, and there are 48"):
        lisi(made_table(n=48), "site")
    with pytest.raises(ProbeError, match="above 1"):
        lisi(made_table(), "site", 1)


def test_a_published_correction_mixes_donors(real_data):
    """Harmony's own example, before and after its published correction; one tile at a time agrees."""
    folder = "tables/harmonypy-pbmc"
    donor = pd.read_csv(real_data(f"{folder}/pbmc_3500_meta.tsv.gz"), sep="\t")["donor"]
    medians = []
    for name in ("pcs", "pcs_harmonized"):
        x = pd.read_csv(real_data(f"{folder}/pbmc_3500_{name}.tsv.gz"), sep="\t")
        x = x.select_dtypes("number").to_numpy()[:, -30:]
        table = table_of(x, np.zeros(len(x)), donor, np.arange(len(x)))
        found = lisi(table, "site", label=None)
        medians.append(found.value)
    assert found.support["values"] == 3
    assert medians[0] < 1.5 < 2.2 < medians[1] < 3
    assert found.support["perfectly_mixed"] == pytest.approx(7 / 3)  # donors of 500, 2,000 and 1,000 cells
    few = np.arange(0, 3500, 12)
    small = lisi(table[few].copy(), "site", 10, label=None)
    np.testing.assert_allclose(small.per_tile, one_by_one(table[few], "site", 10), rtol=1e-3)
