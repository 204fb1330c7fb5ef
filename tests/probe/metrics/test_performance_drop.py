"""Average performance drop: the published values from the published accuracies, and on paper."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from napari_batchfx.errors import ProbeError
from napari_batchfx.probe.metrics import average_performance_drop

PATHOROB = json.loads((Path(__file__).parent / "golden" / "pathorob_apd.json").read_text("utf-8"))


@pytest.mark.parametrize("model", PATHOROB["models"])
@pytest.mark.parametrize("where", ["id", "ood"])
def test_published_drops_and_intervals(model, where):
    published = PATHOROB["models"][model]
    for one in published["sets"].values():
        assert average_performance_drop(one[where]).value == pytest.approx(one[f"apd_{where}"], abs=1e-12)
    found = average_performance_drop([one[where] for one in published["sets"].values()])
    assert found.value == pytest.approx(published["aggregate"][f"apd_{where}"], abs=1e-12)
    low, high = found.interval
    assert (high - low) / 2 == pytest.approx(published["aggregate"][f"ci_{where}"], abs=1e-12)
    assert (low + high) / 2 == pytest.approx(found.value)
    assert found.support["splits"] == [8, 7, 4]


def test_values_that_algorithms_of_the_field_quote():
    # the digits printed in PathoROB's tables
    models = PATHOROB["models"]
    camelyon = models["uni2h"]["sets"]["camelyon"]
    assert round(average_performance_drop(camelyon["id"]).value, 5) == -0.04629
    assert np.mean(camelyon["id"], axis=0).round(5).tolist() == [
        0.98506, 0.9806, 0.98408, 0.98083, 0.97379, 0.94946, 0.90554, 0.80138,
    ]  # fmt: skip
    averaged_first = np.mean(camelyon["id"], axis=0)
    assert averaged_first[1:].mean() / averaged_first[0] - 1 == pytest.approx(-0.04637, abs=5e-6)


def test_on_paper():
    # 0.8 -> 0.6, 0.4 loses a quarter and a half; 0.5 -> 0.5, 0.5 nothing
    found = average_performance_drop([[0.8, 0.6, 0.4], [0.5, 0.5, 0.5]])
    assert found.value == pytest.approx((-0.375 + 0) / 2)
    assert average_performance_drop(np.full((3, 4), 0.7)).value == pytest.approx(0, abs=1e-15)
    assert average_performance_drop([[0.5, 0.6]]).value == pytest.approx(0.2)


def test_two_sets_with_a_constant_difference_have_the_interval_of_the_repeats():
    # the difference between sets is taken out: doubling it changes nothing
    rng = np.random.default_rng(0)
    a = np.column_stack([np.ones(20), 0.8 + 0.01 * rng.normal(size=20)])
    widths = []
    for shift in (0.1, 0.3):
        b = a.copy()
        b[:, 1] -= shift
        low, high = average_performance_drop([a, b]).interval
        widths.append(high - low)
    assert widths[0] == pytest.approx(widths[1])


def test_one_repeat_has_no_interval():
    found = average_performance_drop([[0.8, 0.7]])
    assert found.interval is None
    assert "no interval" in found.warnings[0]


@pytest.mark.parametrize(
    ("accuracies", "said"),
    [
        ([0.8, 0.7], "shape"),
        ([[0.8], [0.7]], "shape"),
        ([[0.0, 0.7]], "nothing to lose"),
        ([[0.8, np.nan]], "missing"),
        ([np.full((3, 2), 0.5), np.full((2, 2), 0.5)], "3, 2 repeats"),
    ],
)
def test_errors(accuracies, said):
    with pytest.raises(ProbeError, match=said):
        average_performance_drop(accuracies)
