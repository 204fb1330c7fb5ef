"""CRoMa and MaRI: against croma, on paper, and where they have no value."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from napari_batchfx.errors import ProbeError
from napari_batchfx.probe.metrics import croma, mari, robustness_index

from .made import codes, distances, lists, made_table, table_of

CROMA = json.loads((Path(__file__).parent / "golden" / "croma.json").read_text("utf-8"))


@pytest.mark.parametrize("case", CROMA["cases"], ids=lambda case: str(case["arguments"]))
def test_croma_gets_the_same(case):
    table = made_table(**case["arguments"])
    found = croma(table)
    assert found.value == pytest.approx(case["croma"], abs=1e-6)
    assert found.support["fragile"] == pytest.approx(case["fragile"])
    assert found.support["tail_mean"] == pytest.approx(case["tail_mean"], abs=1e-6)
    assert found.per_tile[:8] == pytest.approx(case["first_margins"], abs=1e-6)
    assert croma(table, m=1).value == pytest.approx(case["croma_m1"], abs=1e-6)
    weighted = mari(table, k=11)
    assert weighted.value == pytest.approx(case["mari_k11"], abs=1e-6)
    assert weighted.support["tau"] == pytest.approx(case["tau_k11"], abs=1e-6)
    assert mari(table, k=11, tau=0.2).value == pytest.approx(case["mari_k11_tau02"], abs=1e-6)


def test_one_by_one_gives_the_same():
    table = made_table(n=120, slides=12, dim=6, seed=8)
    label, site, slide = (codes(table, c) for c in ("label", "site", "slide"))
    d = distances(table.X)
    margins = []
    for i, row in enumerate(lists(d, slide)):
        so = [d[i, j] for j in row if label[j] == label[i] and site[j] != site[i]][:5]
        os = [d[i, j] for j in row if label[j] != label[i] and site[j] == site[i]][:5]
        margins.append((sum(os) - sum(so)) / (sum(os) + sum(so)))
    found = croma(table)
    assert found.per_tile == pytest.approx(margins, abs=1e-6)
    assert found.value == pytest.approx(np.median(margins), abs=1e-6)
    worst = np.sort(margins)[:12]
    assert found.support["tail_mean"] == pytest.approx(worst.mean(), abs=1e-6)


def test_equal_distances_to_class_and_site_give_0():
    # a square: class along one side, site along the other
    label, site = np.arange(64) % 2, np.arange(64) // 2 % 2
    x = np.column_stack([label * 2.0 - 1, site * 2.0 - 1, np.full(64, 3.0)])
    found = croma(table_of(x, label, site, np.arange(64)), group=None)
    assert found.value == pytest.approx(0, abs=1e-6)
    longer = croma(table_of(x * [2, 1, 1], label, site, np.arange(64)), group=None)
    assert longer.value > 0.2  # classes lie further apart than sites
    assert croma(table_of(x * [1, 2, 1], label, site, np.arange(64)), group=None).value < -0.2


def test_the_margin_is_there_where_the_index_has_none():
    label, site = np.arange(160) % 2, np.arange(160) // 2 % 2
    x = np.eye(4)[label * 2 + site] * [3, 2, 2, 3] + np.random.default_rng(0).normal(size=(160, 4)) * 1e-2
    table = table_of(x, label, site, np.arange(160))
    assert np.isnan(robustness_index(table, k=3).value)
    assert np.isfinite(croma(table).value)


def test_equal_weights_are_the_robustness_index():
    table = made_table()
    assert mari(table, k=9, tau=1e9).value == pytest.approx(robustness_index(table, k=9).value, abs=1e-6)


def test_tiles_with_too_few_of_a_kind_are_left_out_and_counted():
    table = made_table(n=240, slides=24, classes=2, sites=2)
    label, site = codes(table, "label"), codes(table, "site")
    few = np.flatnonzero((label == 1) & (site == 1))[3:]
    table = table[np.setdiff1d(np.arange(240), few)].copy()
    found = croma(table, m=5)
    # class 0 of site 1 has 3 of another class there; class 1 of site 0 has 3 of its class elsewhere
    short = ((codes(table, "label") == 0) & (codes(table, "site") == 1)) | (
        (codes(table, "label") == 1) & (codes(table, "site") == 0)
    )
    np.testing.assert_array_equal(np.isnan(found.per_tile), short)
    assert f"{short.sum()} tiles have no margin" in " ".join(found.warnings)
    assert found.support["scored"] == pytest.approx(1 - short.mean())


def test_no_tile_with_enough_of_both():
    assert "No tile has 60 tiles" in croma(made_table(n=240, slides=24), m=60).reason


def test_copies_have_no_margin():
    # every tile has exact copies of its own in the other site and in the other class
    x = np.tile(np.random.default_rng(0).normal(size=(10, 4)), (40, 1))
    label, site = np.arange(400) // 10 % 2, np.arange(400) // 20 % 2
    found = croma(table_of(x, label, site, np.arange(400)), m=5)
    assert "only copies of itself" in found.reason
    x[200:] += 0.01 * np.random.default_rng(1).normal(size=(200, 4))
    some = croma(table_of(x, label, site, np.arange(400)), m=5)
    alike = np.isnan(some.per_tile)
    assert alike[:200].all()
    assert not alike[200:].any()
    assert "200 have only copies of themselves around" in some.warnings[0]


def test_errors():
    table = made_table(n=240)
    with pytest.raises(ProbeError, match="m is 0"):
        croma(table, m=0)
    with pytest.raises(ProbeError, match="tau"):
        mari(table, tau=0)
    with pytest.raises(ProbeError, match="k must be"):
        mari(table, k=0)
    assert "two or more" in croma(made_table(sites=1)).reason
    assert "two or more" in mari(made_table(sites=1)).reason


def test_interval_holds_the_value_and_narrows_with_slides():
    widths = []
    for slides in (12, 96):
        found = croma(made_table(n=1152, slides=slides, seed=1))
        low, high = found.interval
        assert low < found.value < high
        widths.append(high - low)
    assert widths[1] < widths[0]
