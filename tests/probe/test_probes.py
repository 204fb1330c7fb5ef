"""The four classifiers: the right answer, what leaves them unchanged, and against scikit-learn."""

import numpy as np
import pytest
from sklearn.linear_model import LogisticRegression
from sklearn.neighbors import KNeighborsClassifier, NearestCentroid

from napari_batchfx.errors import ProbeError
from napari_batchfx.probe import PROBES, site_probe
from napari_batchfx.probe.logistic import softmax
from napari_batchfx.probe.probes import LogisticFits, Scaler, fit_centroids, fit_neighbours


def blobs(n=300, d=6, b=3, seed=0):
    rng = np.random.default_rng(seed)
    y = rng.integers(0, b, n)
    x = rng.normal(size=(n, d)) + 1.2 * rng.normal(size=(b, d))[y] + 30.0
    return x.astype(np.float32), y


def a_probe(table, probe, **how):
    if probe == "linear":
        how = {"n_splits": 2, **how}  # a thousand steps a fold
    return site_probe(table, probe=probe, permutations=0, n_bootstrap=50, **how)


@pytest.mark.parametrize("probe", PROBES)
def test_finds_a_site_that_is_there_and_none_that_is_not(make_batches, probe):
    there = a_probe(make_batches(sites=3, slides=12, shift=1.0, tiles=25), probe)
    assert there.balanced_accuracy > 0.85
    assert there.probe == there.settings["probe"] == probe
    values = [
        a_probe(
            make_batches(shift=0.0, slide_sd=2.0, slides=12, tiles=15, class_signal=0, seed=s), probe
        ).balanced_accuracy
        for s in range(1 if probe == "linear" else 6)
    ]
    assert np.mean(values) < 0.65  # slides differ strongly: folds that split them would give 1


def test_an_unknown_probe_is_one_sentence(make_batches):
    with pytest.raises(ProbeError, match="no probe forest; choose of logistic, centroid, knn, linear"):
        site_probe(make_batches(), probe="forest")


@pytest.mark.parametrize("b", [2, 3])
@pytest.mark.parametrize("c", [0.01, 1.0])
def test_two_batches_are_penalised_as_three_are(b, c):
    """The penalty is the softmax's for any number: scikit-learn's own two-class fit has half of it."""
    x, y = blobs(b=b)
    z = Scaler.fit(x, np.ones(len(x))).apply_inplace(x.copy())
    coef, intercept = LogisticFits(b).fit(z, y, np.ones(len(y)), c)
    theirs = LogisticRegression(C=2 * c if b == 2 else c, tol=1e-8, max_iter=5000).fit(z, y)
    np.testing.assert_allclose(softmax(z @ coef + intercept), theirs.predict_proba(z), atol=1e-2)
    assert np.abs(coef.sum(axis=1)).max() < 1e-2


def test_centroids_are_scikit_learns():
    x, y = blobs()
    ours = fit_centroids(x, y, np.ones(len(y)), 3).logits(x).argmax(axis=1)
    np.testing.assert_array_equal(ours, NearestCentroid().fit(x, y).predict(x))


def test_neighbours_are_scikit_learns():
    x, y = blobs()
    new, _ = blobs(seed=1)
    slide = np.arange(len(y))  # every tile a slide: then all votes of a batch weigh the same
    even = np.bincount(y).min()
    rows = np.concatenate([np.flatnonzero(y == k)[:even] for k in range(3)])
    ours = fit_neighbours(x[rows], y[rows], slide[rows], 3, 0).logits(new)
    share = KNeighborsClassifier(5, algorithm="brute").fit(x[rows], y[rows]).predict_proba(new)
    np.testing.assert_allclose(np.exp(ours), (5 * share + 0.5 / 3) / 5.5, atol=1e-5)


def test_a_large_slide_does_not_move_a_centroid():
    x, y = blobs(n=40, b=2)
    slide = np.arange(40)
    many = np.r_[np.arange(40), np.zeros(500, dtype=int)]  # the first tile's slide has 500 more of it
    from napari_batchfx.probe.statistics import balance_weights

    plain = fit_centroids(x, y, balance_weights(y, slide), 2)
    large = fit_centroids(x[many], y[many], balance_weights(y[many], slide[many]), 2)
    np.testing.assert_allclose(plain.logits(x), large.logits(x), rtol=1e-3, atol=1e-3)


@pytest.mark.parametrize("probe", ["logistic", "centroid", "knn"])
def test_row_order_and_scale_change_nothing(make_batches, probe):
    table = make_batches(shift=0.4, slides=10, tiles=15)
    plain = a_probe(table, probe)
    order = np.random.default_rng(0).permutation(table.n_obs)
    turned = a_probe(table[order].copy(), probe)
    np.testing.assert_allclose(turned.confidence, plain.confidence[order], atol=2e-3)
    np.testing.assert_array_equal(turned.confusion, plain.confusion)
    np.testing.assert_allclose(turned.ci, plain.ci)
    table.X = table.X * 1000.0
    np.testing.assert_allclose(a_probe(table, probe).confidence, plain.confidence, atol=2e-3)


def test_a_feature_in_other_units_changes_nothing_for_the_regression(make_batches):
    table = make_batches(shift=0.4, slides=10, tiles=15)
    plain = a_probe(table, "logistic")
    table.X = table.X * np.geomspace(1e-3, 1e3, 12).astype(np.float32) + 5
    np.testing.assert_allclose(a_probe(table, "logistic").confidence, plain.confidence, atol=2e-3)


@pytest.mark.parametrize("probe", ["centroid", "knn"])
def test_a_rotation_changes_nothing_for_distances(make_batches, probe):
    table = make_batches(shift=0.4, slides=10, tiles=15)
    plain = a_probe(table, probe)
    turn = np.linalg.qr(np.random.default_rng(0).normal(size=(12, 12)))[0]
    table.X = (table.X @ turn).astype(np.float32)
    np.testing.assert_allclose(a_probe(table, probe).confidence, plain.confidence, atol=2e-3)


def test_a_rotation_hardly_changes_the_regression(make_batches):
    """Standardising each feature depends on the axes; what it recognises hardly does, with equal spreads."""
    table = make_batches(shift=0.4, slides=12, tiles=30, dim=12)
    plain = a_probe(table, "logistic")
    assert 0.6 < plain.balanced_accuracy < 0.95
    turn = np.linalg.qr(np.random.default_rng(0).normal(size=(12, 12)))[0]
    table.X = (table.X @ turn).astype(np.float32)
    turned = a_probe(table, "logistic")
    assert turned.balanced_accuracy == pytest.approx(plain.balanced_accuracy, abs=0.02)
    assert np.abs(turned.confidence - plain.confidence).mean() < 0.02


@pytest.mark.parametrize("probe", PROBES)
def test_what_a_fold_never_saw_does_not_enter_its_classifier(make_batches, probe):
    """Standardisation, penalty, temperature and weights: nothing of a test fold may move its own classifier."""
    table = make_batches(shift=0.5, slides=8, tiles=15)
    before = a_probe(table, probe)
    mine = before.folds == 0
    x = table.X.copy()
    x[mine] = 1e4 * np.random.default_rng(1).normal(size=x[mine].shape)
    table.X = x
    after = a_probe(table, probe)
    assert after.settings["temperature"][0] == before.settings["temperature"][0]
    one, other = before.fitted.scorers[0].arrays(), after.fitted.scorers[0].arrays()
    for name in one:
        np.testing.assert_array_equal(one[name], other[name])


@pytest.mark.parametrize("probe", PROBES)
def test_constant_and_single_features(make_batches, probe):
    table = make_batches(tiles=12)
    table.X = np.ones_like(table.X)
    assert a_probe(table, probe).balanced_accuracy == pytest.approx(0.5)
    narrow = make_batches(tiles=12, dim=3, shift=3.0)[:, :1].copy()
    assert np.isfinite(a_probe(narrow, probe).confidence).all()


@pytest.mark.parametrize("probe", ["centroid", "knn", "linear"])
def test_permutations_of_other_probes(make_batches, probe):
    strong = site_probe(make_batches(slides=10, tiles=10), probe=probe, n_bootstrap=50, n_splits=2)
    assert strong.permutation_p == pytest.approx(0.05)
    assert strong.finding == "recognised"
