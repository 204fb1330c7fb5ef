"""Intervals of measures of neighbours: the formula by hand, and whether they hold what they say."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.stats import t

from napari_batchfx.probe.metrics import croma, mari, robustness_index
from napari_batchfx.probe.metrics.jackknife import Blocks, jackknife_interval, without_each

from .made import made_table, table_of


def test_a_mean_gets_its_standard_error():
    """Leaving one out, the jackknife variance of a mean is s^2 / n; the interval is Wilson's of as many tiles."""
    x = np.random.default_rng(0).uniform(0.3, 0.7, 40)
    left_out = (x.sum() - x) / 39
    low, high = jackknife_interval(x.mean(), left_out, Blocks(np.arange(40), np.zeros(40, dtype=int)))
    p, z2 = x.mean(), t.ppf(0.975, 39) ** 2
    n = p * (1 - p) / (x.var(ddof=1) / 40)
    assert (low + high) / 2 == pytest.approx((p + z2 / (2 * n)) / (1 + z2 / n))
    assert high - low == pytest.approx(2 * np.sqrt(z2 * x.var(ddof=1) / 40), rel=0.01)


def test_what_is_left_is_what_is_counted_without_a_block():
    rng = np.random.default_rng(0)
    pairs = rng.integers(0, 9, (2, 5, 5)).astype(float)
    for b in range(5):
        rest = np.delete(np.delete(pairs, b, 1), b, 2)
        np.testing.assert_allclose(without_each(pairs)[:, b], rest.sum(axis=(1, 2)))


def test_blocks_keep_groups_whole_and_kinds_apart():
    rng = np.random.default_rng(0)
    group = rng.integers(0, 900, 5000)
    batch = group % 3
    blocks = Blocks.deal(group, batch)
    assert len(blocks) == pytest.approx(200, abs=3)
    for b in range(len(blocks)):
        assert len(np.unique(batch[blocks.of == b])) == 1
    assert all(len(np.unique(blocks.of[group == g])) == 1 for g in np.unique(group))
    few = Blocks.deal(group % 7, batch)
    np.testing.assert_array_equal(few.of, group % 7)


def test_without_a_second_block_there_is_no_interval():
    assert jackknife_interval(0.5, np.array([0.4, 0.6]), Blocks(np.arange(2), np.arange(2))) is None
    low, high = jackknife_interval(1.0, np.ones(10), Blocks(np.arange(10), np.zeros(10, dtype=int)))
    assert (round(low, 2), high) == (0.72, 1.0)  # Wilson's of ten


def test_intervals_hold_nine_of_ten():
    """60 draws of six slides a site from two fixed sites; drawing slides with the lists kept held 7 of 10."""
    classes, sites = np.random.default_rng(1).normal(size=(2, 2, 12)) * 0.6
    found = {metric: [] for metric in (robustness_index, mari, croma)}
    for seed in range(60):
        rng = np.random.default_rng([seed, 12])
        slide = np.repeat(np.arange(12), 15)
        site, label = slide % 2, rng.integers(0, 2, len(slide))
        x = rng.normal(size=(len(slide), 12)) + classes[label] + sites[site]
        x += 0.4 * rng.normal(size=(12, 12))[slide]
        table = table_of(x, label, site, slide)
        for metric, results in found.items():
            one = metric(table, **({} if metric is croma else {"k": 9}), device="cpu")
            results.append((one.value, *one.interval))
    for results in found.values():
        values, low, high = np.array(results).T
        truth = values.mean()
        assert np.mean((low <= truth) & (truth <= high)) >= 0.9
        assert np.mean(high - low) < 6 * values.std()  # and not by being as wide as can be
        assert (low <= values).all()
        assert (values <= high).all()


def test_without_an_interval_the_value_is_the_same():
    table = made_table(n=240, slides=12)
    for metric in (robustness_index, croma, mari):
        how = {} if metric is croma else {"k": 5}
        without = metric(table, interval=False, **how)
        assert without.interval is None
        assert without.value == metric(table, **how).value
