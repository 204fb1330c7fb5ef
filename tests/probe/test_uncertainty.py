"""Interval, p and calibration against runs whose truth is known."""

import numpy as np
import pytest
from scipy.stats import kstest

from napari_batchfx.jobs import Ticker, run
from napari_batchfx.probe import site_probe
from napari_batchfx.probe.calibration import calibration
from napari_batchfx.probe.crossfit import DEFAULT_C
from napari_batchfx.probe.design import read_design
from napari_batchfx.probe.folds import grouped_folds
from napari_batchfx.probe.permuting import permutation_scores
from napari_batchfx.probe.probes import fit_centroids
from napari_batchfx.probe.statistics import balanced_accuracy, bootstrap_interval, paired_interval


def test_p_is_uniform_where_there_is_no_effect(make_batches):
    """200 tables whose slides differ and whose sites don't: the rank of the true labels, ties at random."""
    rng = np.random.default_rng(0)
    ranks, reported = [], []
    for seed in range(200):
        table = make_batches(shift=0.0, slide_sd=1.0, slides=10, tiles=6, dim=3, class_signal=0, seed=seed)
        design = read_design(table, "site", "patient", 5, seed, 6)
        scores, _ = run(permutation_scores(design, 0.01, 19, seed, Ticker(20, "", unit="fits"), "centroid"))
        higher, same = (scores[1:] > scores[0] + 1e-12).sum(), (abs(scores - scores[0]) <= 1e-12).sum()
        ranks.append((higher + rng.uniform(0, same)) / 20)
        reported.append((1 + (scores[1:] >= scores[0] - 1e-12).sum()) / 20)
        if seed < 3:  # which is what the probe reports
            found = site_probe(table, probe="centroid", n_bootstrap=1, seed=seed)
            assert found.permutation_p == pytest.approx(reported[-1])
    assert kstest(ranks, "uniform").pvalue > 0.01
    assert np.mean(np.array(reported) <= 0.05) <= 0.09  # 0.05, and three standard errors less a little
    assert np.mean(np.array(reported) <= 0.2) <= 0.29


def test_the_penalty_of_the_permutations_is_not_the_true_labels_own(make_batches):
    """Chosen with the true labels it suits them better than the others: p was at most 0.05 in 35 of 200 then."""
    chosen = []
    for seed in range(3):
        table = make_batches(
            shift=0.0, slide_sd=0.0, dim=4, class_signal=0, seed=seed, one_slide_a_site=True, tiles=100
        )
        found = site_probe(table, n_bootstrap=1)
        design = read_design(table, "site", "patient", 5, 0, 10)
        scores, _ = run(permutation_scores(design, DEFAULT_C, 19, 0, Ticker(20, "", unit="fits"), "logistic"))
        assert found.permutation_p == pytest.approx((1 + (scores[1:] >= scores[0] - 1e-12).sum()) / 20)
        chosen.append(float(np.median(found.settings["C"])))
    assert set(chosen) != {DEFAULT_C}


def predicted_out_of_fold(patients, effects, seed):
    """Patients of a pair of sites, told apart out of fold by the nearest centroid, with each of the effects.

    Further effects are seen with further noise, as other features of the same tiles would.
    """
    rng = np.random.default_rng([seed, patients])
    unit = np.repeat(np.arange(2 * patients), 10)
    y = unit % 2
    x = rng.normal(size=(len(y), 4)) + 0.5 * rng.normal(size=(2 * patients, 4))[unit]
    k = min(5, patients)
    fold = grouped_folds(unit, y, k, seed)
    found = []
    for effect in effects:
        seen = (x + effect * np.outer(y, [1, 0, 0, 0])).astype(np.float32)
        predicted = np.empty_like(y)
        for f in range(k):
            train = fold != f
            scorer = fit_centroids(seen[train], y[train], np.ones(train.sum()), 2)
            predicted[~train] = scorer.logits(seen[~train]).argmax(axis=1)
        found.append(predicted)
        x = x + 0.5 * rng.normal(size=x.shape)
    return y, found, unit, k


def one_site_or_two(patients, effect, seed):
    """Value and interval."""
    y, (predicted,), unit, k = predicted_out_of_fold(patients, [effect], seed)
    return balanced_accuracy(y, predicted, 2), *bootstrap_interval(y, predicted, unit, 2, 200, seed, k)


def changed(patients, effects, seed):
    """Change and its interval."""
    y, (before, after), unit, k = predicted_out_of_fold(patients, effects, seed)
    value = balanced_accuracy(y, after, 2) - balanced_accuracy(y, before, 2)
    return value, *paired_interval(y, before, after, unit, 2, 200, seed, k)


@pytest.mark.parametrize("effects", [(3.0, 1.2), (1.2, 1.2)])
def test_the_interval_of_a_change_covers_nine_of_ten(effects):
    """100 draws each of 2 to 5 patients a site: the interval holds the mean of all draws.

    The percentiles of the draws that were here before held 55 to 86 of 100.
    """
    covered = []
    for patients, widest in ((2, 1.0), (3, 0.55), (4, 0.4), (5, 0.32)):
        values, low, high = np.array([changed(patients, effects, seed) for seed in range(100)]).T
        assert ((low <= values) & (values <= high)).all()
        covered.append(np.mean((low <= values.mean()) & (values.mean() <= high)))
        assert covered[-1] >= 0.86
        assert np.mean(high - low) < widest
    assert np.mean(covered) >= 0.9


def test_the_interval_of_a_change_where_nothing_changed():
    """As wide as a share that was never seen in so many units allows, not empty."""
    y, unit = np.repeat([0, 1], 20), np.arange(40) // 5
    low, high = paired_interval(y, y, y, unit, 2)
    assert (low, high) == pytest.approx((-0.324, 0.324), abs=1e-3)  # Wilson, 0 of 8
    # tiles of their own: the variance is that of a difference of paired shares, to the bootstrap's error
    y = np.repeat([0, 1], 200)
    after = np.where(np.arange(400) % 5 == 0, 1 - y, y)
    low, high = paired_interval(y, y, after, np.arange(400), 2, 4000)
    assert high - low == pytest.approx(2 * 1.966 * np.sqrt(0.2 * 0.8 / 400), rel=0.05)


@pytest.mark.parametrize("effect", [0.0, 1.2])
def test_the_interval_covers_nine_of_ten(effect):
    """150 draws each of 2, 3, 5 and 10 patients a site: the interval holds the mean of all draws.

    The percentiles of the draws that were here before held 51 to 61 of 100 with two patients a site.
    """
    covered = []
    for patients, widest in ((2, 0.8), (3, 0.6), (5, 0.4), (10, 0.26)):
        values, low, high = np.array([one_site_or_two(patients, effect, seed) for seed in range(150)]).T
        covered.append(np.mean((low <= values.mean()) & (values.mean() <= high)))
        assert covered[-1] >= 0.86  # 0.90, less a little more than a standard error
        assert np.mean(high - low) < widest  # and not by being as wide as can be
    assert np.mean(covered) >= 0.9


def test_the_interval_of_one_observation_a_unit_is_wilsons():
    y = np.repeat([0, 1], 50)
    predicted = np.where(np.arange(100) % 5 == 0, 1 - y, y)
    low, high = bootstrap_interval(y, predicted, np.arange(100), 2, 20_000)
    assert (low, high) == pytest.approx((0.71, 0.867), abs=0.006)  # Wilson, 80 of 100: 0.711 to 0.867


def test_calibration_of_honest_and_of_boastful_probabilities():
    rng = np.random.default_rng(0)
    p = rng.uniform(0.5, 1.0, 50_000)
    y = (rng.random(len(p)) > p).astype(int)
    honest = calibration(np.column_stack([p, 1 - p]), y, np.ones(len(p)))
    assert honest["ece"] < 0.01
    assert sum(one["tiles"] for one in honest["reliability"]) == len(p)
    boast = np.where(p > 0.5, 0.99, 0.01)
    found = calibration(np.column_stack([boast, 1 - boast]), y, np.ones(len(p)))
    assert found["ece"] == pytest.approx(0.99 - 0.75, abs=0.01)  # right in three of four, by design


def test_calibration_by_hand():
    proba = np.array([[0.95, 0.05], [0.95, 0.05], [0.65, 0.35], [0.35, 0.65]])
    found = calibration(proba, np.array([0, 1, 0, 1]), np.array([1.0, 1.0, 2.0, 2.0]))
    # bin 0.9-1: weight 1/3, right half of the time; bin 0.6-0.7: weight 2/3, always right
    assert found["ece"] == pytest.approx(0.45 / 3 + 0.35 * 2 / 3)
    assert found["reliability"][9]["accuracy"] == pytest.approx(0.5)
    assert np.isnan(found["reliability"][0]["accuracy"])


@pytest.mark.parametrize("probe", ["logistic", "centroid"])
def test_the_probe_is_calibrated_within_groups_that_differ(make_batches, probe):
    table = make_batches(shift=0.25, slide_sd=0.2, slides=24, tiles=40, class_signal=0)
    found = site_probe(table, probe=probe, permutations=0, n_bootstrap=50)
    assert 0.55 < found.balanced_accuracy < 0.95
    assert found.ece < 0.08
    assert found.calibration["log_loss"] < np.log(2)


def test_margin_and_entropy(make_batches):
    found = site_probe(make_batches(sites=3, slides=12, shift=0.5), permutations=0, n_bootstrap=50)
    own = found.confidence
    others = np.array(
        [np.delete(p, np.argmin(abs(p - c))).max() for p, c in zip(found.proba, own, strict=True)]
    )
    np.testing.assert_allclose(found.margin, own - others)
    p = found.proba
    np.testing.assert_allclose(found.entropy, -(p * np.log(p)).sum(axis=1) / np.log(3))
    assert ((found.entropy >= 0) & (found.entropy <= 1)).all()
    np.testing.assert_array_equal(found.margin > 0, own == p.max(axis=1))


@pytest.mark.parametrize("probe", ["logistic", "centroid"])
def test_calibrated_also_where_the_penalty_is_chosen_on_a_part(make_batches, monkeypatch, probe):
    """A classifier of few tiles is surer than one of many: its temperature is not that of the many."""
    from napari_batchfx.probe import crossfit

    monkeypatch.setattr(crossfit, "MAX_INNER_ROWS", 150)
    table = make_batches(shift=0.15, slides=24, tiles=60, dim=120, class_signal=0)
    found = site_probe(table, probe=probe, permutations=0, n_bootstrap=50)
    assert 0.55 < found.balanced_accuracy < 0.95
    assert found.ece < 0.03  # 0.04 and 0.13 with the temperature of the few
