"""What carries a batch, on tables where that is known."""

import numpy as np
import pytest
from sklearn.decomposition import PCA
from sklearn.metrics import roc_auc_score

from napari_batchfx.errors import ProbeError
from napari_batchfx.probe import signature
from napari_batchfx.probe.carriers import components, oriented_auroc
from napari_batchfx.probe.nuisance import take_out

QUICK = {"first": (1, 2), "n_bootstrap": 50, "relabellings": 0}


def test_auroc_is_scikit_learns():
    rng = np.random.default_rng(0)
    score, y, w = rng.integers(0, 9, 200).astype(float), rng.random(200) < 0.4, rng.uniform(0.5, 2, 200)
    score[y] -= 1
    theirs = roc_auc_score(y, score, sample_weight=w)
    assert theirs < 0.5
    assert oriented_auroc(score, y, w) == pytest.approx(1 - theirs)


@pytest.mark.parametrize("shape", [(200, 6), (30, 80)])
def test_components_are_scikit_learns(shape):
    x = (np.random.default_rng(0).normal(size=shape) * np.geomspace(1, 5, shape[1]) + 9).astype(np.float32)
    scores, variance = components(x, np.ones(len(x)), 5)
    theirs = PCA(5, svd_solver="full").fit(x.astype(float))
    np.testing.assert_allclose(variance, theirs.explained_variance_ratio_, rtol=1e-3)
    np.testing.assert_allclose(abs(scores), abs(theirs.transform(x.astype(float))), atol=2e-2)


def test_the_component_that_carries_the_site_is_found(make_batches):
    table = make_batches(shift=0.0, slides=12, tiles=20, class_signal=0)
    x = 0.5 * table.X
    x[:, 4] *= 10  # most of the variance, and no site in it
    x[:, 7] += 4.0 * (table.obs["site"] == "UMC").to_numpy()
    table.X = x
    found = signature(table, first=(1, 2), n_bootstrap=50)
    areas = np.array(found.auroc["AMC / UMC"])
    assert areas.argmax() == 1
    assert areas[1] > 0.99
    assert found.explained_variance[0] > found.explained_variance[1]
    assert found.auroc_level[1] < areas[1]
    assert found.first[0]["balanced_accuracy"] < 0.65
    assert found.first[1]["balanced_accuracy"] > 0.95
    assert found.first[1]["variance"] == pytest.approx(sum(found.explained_variance[:2]))


def test_colour_that_explains_all_and_colour_that_explains_nothing(make_batches):
    table = make_batches(shift=0.0, slides=12, tiles=15, class_signal=0)
    rng = np.random.default_rng(1)
    colour = rng.normal(size=(table.n_obs, 3)).astype(np.float32)
    colour[:, 0] += 3 * (table.obs["site"] == "UMC").to_numpy()
    noise = rng.normal(size=colour.shape).astype(np.float32)
    table.X = table.X + colour @ rng.normal(size=(3, 12)).astype(np.float32)
    found = signature(table, colour=colour, **QUICK)
    assert found.colour["features"]["balanced_accuracy"] > 0.8
    assert found.colour["colour_share"] > 0.9
    assert found.colour["left_share"] < 0.25
    found = signature(table, colour=noise, **QUICK)
    assert abs(found.colour["colour_share"]) < 0.3
    assert found.colour["left_share"] > 0.8


def test_taking_out_learns_from_training_rows_only():
    rng = np.random.default_rng(0)
    q = rng.normal(size=(200, 2)).astype(np.float32)
    x = (q @ rng.normal(size=(2, 5)) + 7).astype(np.float32)
    w = np.ones(100)
    left, new = take_out(x[:100], q[:100], w, x[100:], q[100:])
    assert np.ptp(np.concatenate([left, new]), axis=0).max() < 0.05
    assert np.ptp(x, axis=0).min() > 1
    _, moved = take_out(x[:100], q[:100], w, x[100:] + 3, q[100:])
    np.testing.assert_allclose(moved, new + 3, atol=1e-4)


def test_colour_as_a_table_in_another_order(make_batches):
    table = make_batches(slides=8, tiles=12)
    colour = table[::-1, :3].copy()
    found = signature(table, colour=colour, **QUICK)
    assert found.colour == signature(table, colour=table.X[:, :3], **QUICK).colour
    colour.obs_names = [f"other{i}" for i in range(colour.n_obs)]
    with pytest.raises(ProbeError, match="of other tiles"):
        signature(table, colour=colour, **QUICK)
    with pytest.raises(ProbeError, match="one row for each"):
        signature(table, colour=table.X[:5], **QUICK)


def test_distances_tell_site_from_class(make_batches):
    far = signature(make_batches(shift=3.0, class_signal=1.0, slides=8), **QUICK).distances
    by = {(one["relation"], one["classes"]): one for one in far}
    assert by["other site", "same"]["median"] > by["same site, other slide", "other"]["median"]
    near = signature(make_batches(shift=0.0, class_signal=8.0, slides=8), **QUICK).distances
    by = {(one["relation"], one["classes"]): one for one in near}
    assert by["other site", "same"]["median"] < by["same site, other slide", "other"]["median"]
    assert {one["relation"] for one in near} == {"same slide", "same site, other slide", "other site"}
    assert all(one["pairs"] >= 20 and one["low"] <= one["median"] <= one["high"] for one in near)


def test_without_classes_and_without_features(make_batches):
    table = make_batches(slides=8, tiles=12)
    del table.obs["label"]
    assert {one["classes"] for one in signature(table, **QUICK).distances} == {"any"}
    table.X = np.ones_like(table.X)
    with pytest.raises(ProbeError, match="Every tile has the same features"):
        signature(table, **QUICK)
