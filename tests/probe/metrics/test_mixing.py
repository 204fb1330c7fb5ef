"""kBET, batch silhouette, connectivity and component regression: against plain versions and on paper."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.stats import chisquare
from sklearn.decomposition import PCA
from sklearn.linear_model import LinearRegression
from sklearn.metrics import silhouette_samples

from napari_batchfx.errors import ProbeError
from napari_batchfx.probe.metrics import batch_asw, graph_connectivity, kbet, pcr, pcr_comparison

from .made import codes, distances, made_table, table_of


def test_kbet_one_tile_at_a_time():
    table = made_table(n=360, slides=24, dim=6)
    label, site = codes(table, "label"), codes(table, "site")
    scores = []
    for c in range(3):
        rows = np.flatnonzero(label == c)
        d, b = distances(np.asarray(table.X)[rows], "euclidean"), site[rows]
        k0 = int(min(70, max(10, np.bincount(b).mean() // 4)))
        p = []
        for i, row in enumerate(d):
            near = [i, *[j for j in np.argsort(row, kind="stable") if j != i][: k0 - 1]]
            p.append(chisquare(np.bincount(b[near], minlength=3), np.bincount(b) / len(b) * k0).pvalue)
        scores.append(np.mean(np.array(p) >= 0.05))
    found = kbet(table)
    assert list(found.support["classes_tested"].values()) == pytest.approx(scores)
    assert found.value == pytest.approx(np.mean(scores))


def test_batch_asw_is_scikit_learns_silhouette():
    table = made_table(n=360, slides=24, dim=6)
    label, site = codes(table, "label"), codes(table, "site")
    scores = [
        np.mean(1 - np.abs(silhouette_samples(np.asarray(table.X)[label == c], site[label == c])))
        for c in range(3)
    ]
    assert batch_asw(table).value == pytest.approx(np.mean(scores), abs=1e-6)
    assert batch_asw(table, max_tiles=50).support["scored"] == 150


def test_mixed_and_apart():
    site = np.arange(800) % 2
    x = np.random.default_rng(0).normal(size=(800, 4))
    mixed = table_of(x, np.zeros(800), site, np.arange(800))
    apart = table_of(x + 30 * site[:, None], np.zeros(800), site, np.arange(800))
    assert kbet(mixed, None).value > 0.93  # the tests reject about 1 of 20
    assert kbet(apart, None).value == 0
    assert batch_asw(mixed, None).value > 0.95
    assert batch_asw(apart, None).value < 0.15
    assert graph_connectivity(mixed).value == 1
    assert graph_connectivity(apart).value == 0.5
    assert pcr(mixed).value < 0.02
    assert pcr(apart, n_components=1).value > 0.98


def test_connectivity_counts_the_largest_piece_of_each_class():
    rng = np.random.default_rng(0)
    where = np.repeat([0, 100, 200, 300], [30, 10, 25, 25])
    x = rng.normal(size=(90, 3)) + where[:, None]
    label = np.repeat([0, 0, 1, 1], [30, 10, 25, 25])
    found = graph_connectivity(table_of(x, label, label, np.arange(90)), k=5)
    assert found.support["classes_tested"] == {"0": 0.75, "1": 0.5}
    assert found.value == 0.625


def test_pcr_is_the_regression_of_components_on_the_batch():
    table = made_table(n=600, dim=12)
    site = np.eye(3)[codes(table, "site")]
    pca = PCA(7, svd_solver="full").fit(np.asarray(table.X, dtype=float))
    scores = pca.transform(np.asarray(table.X, dtype=float))
    r2 = [LinearRegression().fit(site, s).score(site, s) for s in scores.T]
    found = pcr(table, n_components=7)
    assert found.support["r2"] == pytest.approx(r2, abs=1e-6)
    assert found.value == pytest.approx(np.average(r2, weights=pca.explained_variance_), abs=1e-6)


def test_with_all_components_pcr_is_the_share_between_sites():
    table = made_table(n=600, dim=12)
    x, site = np.asarray(table.X, dtype=float), codes(table, "site")
    x -= x.mean(axis=0)
    between = sum((site == s).sum() * (x[site == s].mean(axis=0) ** 2).sum() for s in range(3))
    assert pcr(table).value == pytest.approx(between / (x**2).sum(), abs=1e-9)


def test_pcr_before_and_after():
    before = made_table(batch=2)
    after = before.copy()
    site = codes(before, "site")
    x = np.asarray(after.X)
    after.X = np.vstack([x[i] - x[site == site[i]].mean(axis=0) for i in range(len(x))])
    found = pcr_comparison(before, after)
    assert found.value == pytest.approx(1, abs=1e-6)
    assert found.support["before"] > 0.3
    assert found.support["retention_after"] > found.support["retention_before"] - 0.05
    back = pcr_comparison(after, before)
    assert np.isnan(back.value) or back.value == 0
    flat = before.copy()
    flat.X = np.random.default_rng(0).normal(size=flat.X.shape).astype(np.float32)
    assert any("costs biology" in text for text in pcr_comparison(before, flat).warnings)
    with pytest.raises(ProbeError, match="the same tiles"):
        pcr_comparison(before, after[:10])


def test_classes_of_one_site_are_left_out_by_name():
    table = made_table(n=360, slides=24, dim=6)
    lone = (codes(table, "label") == 2) & (codes(table, "site") != 0)
    table = table[~lone].copy()
    for metric in (kbet, batch_asw):
        found = metric(table)
        assert set(found.support["classes_tested"]) == {"0", "1"}
        assert any("only one site: 2" in text for text in found.warnings)


@pytest.mark.parametrize("metric", [kbet, batch_asw, pcr])
def test_one_site_and_constant_features(metric):
    assert "two or more" in metric(made_table(sites=1)).reason
    table = made_table()
    table.X = np.ones_like(table.X)
    assert "the same features" in metric(table).reason


def test_retention_is_beside_and_says_when_mixing_is_worthless():
    table = made_table(biology=0)
    for found in (kbet(table), batch_asw(table), pcr(table), graph_connectivity(table)):
        assert found.retention.value < 0.45
        assert any("hardly told apart" in text for text in found.warnings)
