"""The robustness index: on paper, against croma, against counting one by one, and where it has no value."""

from __future__ import annotations

import json
from itertools import combinations
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from napari_batchfx.errors import ProbeError
from napari_batchfx.probe.metrics import candidate_ks, cramers_v, croma, mari, robustness_index

from .made import codes, distances, lists, made_table, table_of

CROMA = json.loads((Path(__file__).parent / "golden" / "croma.json").read_text("utf-8"))


def design(n=80, slides=8):
    """Two classes in each of two sites, slides of one site."""
    slide = np.arange(n) * slides // n
    return np.arange(n) % 2, slide % 2, slide


# ---- on paper ------------------------------------------------------------------------------------


def along_axes(values, dim=4, noise=0.05, seed=0):
    """Each value its own axis: tiles of one value are all near each other and far from the rest."""
    return np.eye(dim)[values] + noise * np.random.default_rng(seed).normal(size=(len(values), dim))


def test_features_that_are_the_class_give_1():
    label, site, slide = design()
    found = robustness_index(table_of(along_axes(label), label, site, slide), k=5)
    assert found.value == 1.0
    assert found.support["OS"] == 0
    assert found.retention.value == 1.0


def test_features_that_are_the_site_give_0():
    label, site, slide = design()
    found = robustness_index(table_of(along_axes(site), label, site, slide), k=5)
    assert found.value == 0.0
    assert found.support["SO"] == 0
    assert found.retention.value < 0.7


def test_a_tile_halfway_between_class_and_site_gives_a_half():
    # class and site are coordinates of equal length: a square, whose neighbours along both sides are as far
    label, site, slide = design()
    x = np.column_stack([label * 2.0 - 1, site * 2.0 - 1, np.full(len(label), 2.0)])
    # k takes all of the own corner on other slides and then exactly all tiles of both next corners
    corner = 20
    per_slide = 5  # tiles of one corner on one slide
    k = (corner - per_slide) + 2 * corner - per_slide  # OS tiles of the own slide are passed over
    found = robustness_index(table_of(x, label, site, slide), k=k)
    assert found.support["SO"] == 80 * 20
    assert found.support["OS"] == 80 * 15
    # without slides both corners count alike
    alone = robustness_index(table_of(x, label, site, slide), group=None, k=(corner - 1) + 2 * corner)
    assert alone.value == 0.5
    assert set(alone.per_tile) == {0.5}


def test_the_own_slide_is_no_neighbour():
    label, site, slide = design()
    x = along_axes(slide, 8)  # slides look only like themselves: noise decides among the others
    found = robustness_index(table_of(x, label, site, slide), k=1)
    near = robustness_index(table_of(x, label, site, slide), group=None, k=1)
    assert near.support["SS"] + near.support["OS"] == 80  # every nearest is of the own slide
    assert found.support["SO"] + found.support["OO"] > 0


def test_candidates_of_k():
    assert candidate_ks(61) == [1, 3, 5, 7, 9, 11, 21, 31, 41, 51, 61]
    assert candidate_ks(8) == [1, 3, 5, 7]
    assert candidate_ks(11)[-1] == 11


# ---- against others ------------------------------------------------------------------------------


@pytest.mark.parametrize("case", CROMA["cases"], ids=lambda case: str(case["arguments"]))
def test_croma_gets_the_same(case):
    table = made_table(**case["arguments"])
    curve = {int(k): value for k, value in case["curve"].items()}
    found = robustness_index(table, k=list(curve))
    assert found.curve == pytest.approx(curve, abs=1e-12)
    if (
        case["arguments"].get("classes") == 2
    ):  # of three classes a vote can be a tie, which croma breaks by name
        assert found.support["k"] == case["k"]
    found = robustness_index(table, k=case["k"])
    assert found.value == pytest.approx(case["robustness_index"], abs=1e-12)
    assert found.support["telling"] == pytest.approx(case["support"])


def test_croma_itself_gets_the_same_where_it_is_installed():
    """The golden numbers come from it; this runs it on a table they don't hold."""
    pytest.importorskip("croma")
    import pandas as pd
    from croma.metrics.croma import CrossConfounderRobustnessMargin
    from croma.metrics.ri import RobustnessIndex

    table = made_table(n=600, slides=40, sites=4, seed=11)
    rows = {"sample_id": table.obs_names, "image_path": "-", "dataset": "made"}
    rows |= {"label": table.obs["label"].to_numpy(), "site": table.obs["site"].to_numpy()}
    rows |= {name: table.obs["slide"].to_numpy() for name in ("group_id", "slide_id")}
    given = np.asarray(table.X), pd.DataFrame(rows)
    curve = RobustnessIndex.compute_curve(*given, confounder_column="site", k_values=[1, 5, 11])
    assert robustness_index(table, k=[1, 5, 11]).curve == pytest.approx(curve, abs=1e-12)
    theirs = CrossConfounderRobustnessMargin.compute(*given, confounder_column="site")
    assert croma(table).per_tile == pytest.approx(theirs.sample_values, abs=1e-6)


def by_hand(table, k, rows=None):
    """Counts of SO and OS, and of right votes, one tile at a time."""
    rows = np.arange(table.n_obs) if rows is None else rows
    label, site, slide = (codes(table, c)[rows] for c in ("label", "site", "slide"))
    near = [row[:k] for row in lists(distances(np.asarray(table.X)[rows]), slide)]
    so = sum(label[j] == label[i] and site[j] != site[i] for i in range(len(rows)) for j in near[i])
    os = sum(label[j] != label[i] and site[j] == site[i] for i in range(len(rows)) for j in near[i])
    return so, os


@pytest.mark.parametrize("k", [1, 6, 13])
def test_counting_one_by_one_gives_the_same(k):
    table = made_table(n=120, slides=12, dim=6, seed=4)
    so, os = by_hand(table, k)
    found = robustness_index(table, k=k)
    assert (found.support["SO"], found.support["OS"]) == (so, os)
    assert found.value == so / (so + os)
    assert found.support["SO"] + found.support["OS"] + found.support["SS"] + found.support["OO"] == 120 * k


def test_pairs_are_weighed_by_themselves_and_pooled():
    table = made_table(n=240, slides=24, dim=6, seed=5)
    label, site = codes(table, "label"), codes(table, "site")
    so = os = problems = 0
    for a in combinations(range(3), 2):
        for b in combinations(range(3), 2):
            one = by_hand(table, 5, np.flatnonzero(np.isin(label, a) & np.isin(site, b)))
            so, os, problems = so + one[0], os + one[1], problems + 1
    found = robustness_index(table, k=5, pairs=True)
    assert found.support["sub_problems"] == problems == 9
    assert (found.support["SO"], found.support["OS"]) == (so, os)


def test_local_values_pool_to_the_index():
    found = robustness_index(made_table(), k=11)
    local = found.per_tile
    assert np.nanmin(local) >= 0
    assert np.nanmax(local) <= 1
    assert np.isfinite(local).mean() == pytest.approx(found.support["telling"])
    low, high = found.interval
    assert low < found.value < high


# ---- properties ----------------------------------------------------------------------------------


@settings(max_examples=10, deadline=None)
@given(st.integers(0, 10**6), st.floats(0.01, 100))
def test_row_order_rotation_scale_and_names_do_not_matter(seed, scale):
    table = made_table(n=120, slides=12, dim=8, seed=seed)
    rng = np.random.default_rng(seed)
    order = rng.permutation(120)
    turn = np.linalg.qr(rng.normal(size=(8, 8)))[0]
    lengths = rng.uniform(0.5, 2, (120, 1))  # a cosine sees no lengths
    other = table[order].copy()
    other.X = (np.asarray(other.X) @ turn * scale * lengths).astype(np.float32)
    other.obs["site"] = "site " + other.obs["site"].astype(str)
    a, b = robustness_index(table, k=5, interval=False), robustness_index(other, k=5, interval=False)
    assert b.value == a.value
    np.testing.assert_array_equal(b.per_tile, a.per_tile[order])


def test_random_labels_and_sites_pool_to_their_share():
    # with nothing in the features SO and OS come as often as there are such tiles
    found = robustness_index(made_table(n=1800, slides=60, biology=0, batch=0, slide_sd=0), k=11)
    share = 2 / 4  # of 9 cells 2 are SO and 2 are OS
    assert found.value == pytest.approx(share, abs=0.02)


def test_uneven_cells_are_said_and_can_be_evened_out():
    table = made_table(n=1200, slides=24, biology=0, batch=0, slide_sd=0)
    keep = np.flatnonzero((codes(table, "label") == 0) | (np.arange(1200) % 4 == 0))
    uneven = table[keep].copy()
    found = robustness_index(uneven, k=7)
    assert any("not evenly filled" in text for text in found.warnings)
    evened = robustness_index(uneven, k=7, balance=True)
    assert not any("not evenly filled" in text for text in evened.warnings)
    assert any("were drawn" in text for text in evened.warnings)
    assert abs(evened.value - 0.5) < abs(found.value - 0.5)
    assert np.isfinite(evened.per_tile).sum() < np.isfinite(found.per_tile).sum()
    assert len(evened.per_tile) == uneven.n_obs


# ---- where there is no value ---------------------------------------------------------------------


def test_one_site():
    table = made_table(sites=1)
    assert "Every tile is of site 0" in robustness_index(table, k=3).reason


def test_one_class():
    assert "Every tile is of label 0" in robustness_index(made_table(classes=1), k=3).reason


def test_class_tied_to_site():
    table = made_table(classes=2, sites=2)
    table.obs["label"] = table.obs["site"]
    found = robustness_index(table, k=3)
    assert np.isnan(found.value)
    assert "tied" in found.reason
    assert cramers_v(table, "label", "site").value == pytest.approx(1)


def test_constant_features():
    table = made_table()
    table.X = np.ones_like(table.X)
    assert "the same features" in robustness_index(table, k=3).reason


def test_no_telling_neighbour_within_k():
    # all tiles of a class and site are one point, and slides are many: k stays inside the own corner
    label, site, slide = design(n=160, slides=16)
    x = np.eye(4)[label * 2 + site] + 1e-3 * np.random.default_rng(0).normal(size=(160, 4))
    found = robustness_index(table_of(x, label, site, slide), k=3)
    assert np.isnan(found.value)
    assert "none tells class from site" in found.reason
    assert found.support["SS"] == 160 * 3
    assert found.retention.value == 1.0  # the biology is there all the same


def test_tiles_without_features_or_site_are_left_out_and_counted():
    table = made_table(n=240)
    whole = robustness_index(table[10:].copy(), k=5)
    table.X[:4, 2] = np.nan
    table.X[4:6] = 0
    table.obs.iloc[6:10, table.obs.columns.get_loc("site")] = ""
    found = robustness_index(table, k=5)
    assert found.value == whole.value
    assert np.isnan(found.per_tile[:10]).all()
    np.testing.assert_array_equal(found.per_tile[10:], whole.per_tile)
    said = " ".join(found.warnings)
    assert "4 tiles have missing features" in said
    assert "2 tiles have features that are all zero" in said
    assert "4 tiles have no site" in said


def test_k_too_large_and_columns_that_are_not_there():
    table = made_table(n=240, slides=24)
    with pytest.raises(ProbeError, match="leaves its tiles only 230 tiles of other slides"):
        robustness_index(table, k=231)
    with pytest.raises(ProbeError, match="k must be 1 or more"):
        robustness_index(table, k=0)
    with pytest.raises(ProbeError, match=r"no column scanner; it has label, site, slide"):
        robustness_index(table, batch="scanner")
    table.X[:] = np.nan
    with pytest.raises(ProbeError, match="No tile has finite features"):
        robustness_index(table)


def test_a_group_that_is_all_of_a_batch_leaves_no_neighbour_of_it():
    """One slide a site: OS can't occur, and an index of 1 would be made by the design alone."""
    table = made_table(n=240, slides=3, biology=0)
    for found in (robustness_index(table, k=3), mari(table, k=3), croma(table)):
        assert np.isnan(found.value)
    assert "Every site has one slide only" in robustness_index(table, k=3).reason
    twice = robustness_index(made_table(n=240), batch="slide", k=3)
    assert "The slide is batch and group at once" in twice.reason
    some = made_table(n=240, slides=12)
    some = some[(codes(some, "site") != 0) | (some.obs["slide"] == "0").to_numpy()].copy()
    said = " ".join(robustness_index(some, k=3).warnings)
    assert "Only 1 slide of site 0" in said
    assert "no neighbour of their own site, which raises the index" in said


def test_k_beyond_the_smallest_cell_is_said():
    found = robustness_index(made_table(n=240, slides=24), k=60)
    assert any("k is 60" in text for text in found.warnings)


def test_no_class_occurs_with_another_in_two_sites():
    label = np.array([0, 0, 1, 1] * 10)
    site = np.array([0, 1, 1, 2] * 10)
    x = np.random.default_rng(0).normal(size=(40, 3))
    found = robustness_index(table_of(x, label, site, np.arange(40)), k=2, pairs=True)
    assert "no pairs" in found.reason
