"""Intervals over few patients hold what they promise, and don't where nothing was seen."""

import numpy as np
import pytest

from napari_batchfx.adapt import Prediction, compare_predictions
from napari_batchfx.adapt.intervals import change_interval, draw_units


def _patients(rng, n, tiles=40):
    """Truth, patients, and two predictions; patients differ in how much the second is better."""
    truth, patient = rng.integers(0, 2, n * tiles), np.repeat(np.arange(n), tiles)
    before, gain = rng.normal(0.7, 0.08, n), rng.normal(0.06, 0.1, n)
    chance = rng.random(n * tiles)
    right = [chance < before[patient], chance < np.clip(before + gain, 0, 1)[patient]]
    named = np.array(["a", "b"], dtype=object)
    out = []
    for hit in right:
        proba = np.zeros((len(truth), 2))
        proba[np.arange(len(truth)), np.where(hit, truth, 1 - truth)] = 1.0
        out.append(Prediction.from_proba(("a", "b"), proba))
    return named[truth], patient, out


@pytest.mark.parametrize("n", [4, 8])
def test_the_interval_of_a_change_holds_it_with_few_patients(n):
    held = narrow = 0
    for seed in range(150):
        truth, patient, (before, after) = _patients(np.random.default_rng(seed), n)
        found = compare_predictions(before, after, truth, patient, n_bootstrap=200, seed=seed)
        low, high = found.balanced_accuracy_difference.ci
        held += low <= 0.06 <= high
        each = [
            np.mean((after.label == truth)[patient == p]) - np.mean((before.label == truth)[patient == p])
            for p in range(n)
        ]
        draws = np.random.default_rng(seed).choice(each, (200, n)).mean(axis=1)
        narrow += np.quantile(draws, 0.025) <= 0.06 <= np.quantile(draws, 0.975)
    assert held >= 0.91 * 150  # 95 % less two standard errors
    assert narrow < held  # percentiles of the draws, as it was before


def test_nothing_changed_and_nothing_known():
    truth, patient, (before, after) = _patients(np.random.default_rng(0), 3)
    same = compare_predictions(before, before, truth, patient, n_bootstrap=50)
    assert same.balanced_accuracy_difference.ci == same.macro_f1_difference.ci == (0.0, 0.0)
    alone = compare_predictions(before, after, truth, np.zeros(len(truth)), n_bootstrap=50)
    low, high = alone.balanced_accuracy_difference.ci
    assert high - low > 0.7  # one patient says next to nothing of others
    assert change_interval(0.2, np.full(9, 0.2), 3, 2)[0] < 0  # the same in three units: it may be chance


def test_a_kind_of_unit_that_is_alone_is_drawn_with_the_others():
    holds = np.array([[1, 0], [1, 0], [0, 1], [1, 1]], dtype=bool)
    times, free = draw_units(holds, 40)
    assert free == 3
    assert (times.sum(axis=1) == 4).all()
