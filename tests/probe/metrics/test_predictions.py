"""Predictions over scanners: on paper, and where a figure has no meaning."""

from __future__ import annotations

import numpy as np
import pytest

from napari_batchfx.errors import ProbeError
from napari_batchfx.probe.metrics import concordance, prediction_cov


def test_coefficient_of_variation_on_paper():
    # deviations of two values are |a - b| / sqrt 2; means 0.4 and 0.8
    found = prediction_cov([[0.3, 0.5], [0.8, 0.8]])
    assert found.value == pytest.approx((0.2 / 2**0.5 / 0.4 + 0) / 2)
    assert found.per_tile == pytest.approx([0.2 / 2**0.5 / 0.4, 0])
    assert prediction_cov([[0.3, 0.5], [0.8, 0.8]], ddof=0).value == pytest.approx(0.1 / 0.4 / 2)
    assert found.support["mean_difference"] == pytest.approx(0.1)
    assert found.support["agreement"] == 0.5
    overall = np.std([0.3, 0.5, 0.8, 0.8], ddof=1)
    assert found.support["sd_ratio"] == pytest.approx(0.2 / 2**0.5 / 2 / overall)


def test_small_means_are_raised_and_said():
    found = prediction_cov([[0.0, 0.02], [0.5, 0.5]])
    assert found.per_tile[0] == pytest.approx(0.02 / 2**0.5 / 0.05)
    assert "1 of 2 specimens have a mean below 0.05" in found.warnings[0]


def test_worst_pair_and_gap_between_scanners():
    rng = np.random.default_rng(0)
    truth = np.arange(40) % 2
    good = truth + 0.1 * rng.normal(size=40)
    predictions = np.column_stack([good, good, rng.random(40)])
    found = prediction_cov(predictions, ["GT450", "AT2", "S60"], truth=truth)
    assert "S60" in found.support["worst_pair"]
    assert found.support["auc"]["GT450"] == 1
    assert found.support["auc_gap"] == pytest.approx(1 - found.support["auc"]["S60"])


def test_concordance_on_paper_and_in_order():
    x = np.array([0.1, 0.4, 0.5, 0.9])
    assert concordance(np.column_stack([x, x])).value == pytest.approx(1)
    # a shift by c: 2 s2 / (2 s2 + c2)
    shifted = concordance(np.column_stack([x, x + 0.2])).value
    assert shifted == pytest.approx(2 * x.var() / (2 * x.var() + 0.04))
    assert concordance(np.column_stack([x, 1 - x])).value < 0
    three = concordance(np.column_stack([x, x, x + 0.2]), list("abc"))
    assert three.support["of_each"]["a and b"] == pytest.approx(1)
    assert three.value == pytest.approx((1 + 2 * shifted) / 3)
    assert three.support["worst_pair"] in ("a and c", "b and c")


def test_specimens_without_a_prediction_are_left_out():
    found = prediction_cov([[0.3, 0.5], [np.nan, 0.8], [0.8, 0.8]])
    assert found.support["specimens"] == 2
    assert np.isnan(found.per_tile[1])
    assert "1 of 3 specimens" in found.warnings[0]
    truth = prediction_cov([[0.3, 0.5], [np.nan, 0.8], [0.8, 0.8]], truth=[0, 1, 1])
    assert truth.support["auc_gap"] == 0


def test_no_value():
    assert "No specimen" in prediction_cov([[np.nan, 0.5]]).reason
    assert "Fewer than two" in concordance([[0.4, 0.5]]).reason
    assert "need" in concordance([[0.5, 0.5], [0.5, 0.5]]).reason
    assert prediction_cov([[0.5, 0.5], [0.5, 0.5]]).value == 0


@pytest.mark.parametrize("bad", [[0.1, 0.2], [[0.1], [0.2]]])
def test_errors(bad):
    for metric in (prediction_cov, concordance):
        with pytest.raises(ProbeError, match="a column a scanner"):
            metric(bad)
    with pytest.raises(ProbeError, match="2 scanners and 1 names"):
        prediction_cov([[0.1, 0.2]], ["a"])
