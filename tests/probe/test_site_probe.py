import itertools
import json

import numpy as np
import pandas as pd
import pytest
from sklearn.metrics import balanced_accuracy_score, confusion_matrix

from napari_batchfx import jobs
from napari_batchfx.errors import Cancelled, ProbeError
from napari_batchfx.probe import SiteProbeResult, site_probe, site_probe_job


def test_finds_a_site_and_its_numbers_agree_with_scikit_learn(make_batches):
    table = make_batches(shift=0.5, sites=3, slides=12)
    result = site_probe(table)
    truth = table.obs["site"].to_numpy()
    called = np.array(result.batches)[result.proba.argmax(axis=1)]
    assert result.balanced_accuracy == pytest.approx(balanced_accuracy_score(truth, called))
    assert (result.confusion == confusion_matrix(truth, called, labels=result.batches)).all()
    own = result.proba[np.arange(len(truth)), [result.batches.index(s) for s in truth]]
    np.testing.assert_allclose(result.confidence, own)
    np.testing.assert_allclose(result.proba.sum(axis=1), 1.0)
    assert result.ci[0] <= result.balanced_accuracy <= result.ci[1]
    assert result.chance == pytest.approx(1 / 3)
    assert result.recognised
    assert result.permutation_p == pytest.approx(0.05)
    assert result.grouped_by == "patient"


def test_no_patient_is_in_two_folds(make_batches):
    table = make_batches()
    folds = site_probe(table, permutations=0).folds
    assert pd.Series(folds).groupby(table.obs["patient"].to_numpy()).nunique().max() == 1


def test_slide_effects_alone_are_not_taken_for_a_site(make_batches):
    """Sites dealt out to slides at random: chance, held out by slide; held out by tile it would seem perfect."""
    by_slide, by_tile = [], []
    for seed in range(8):
        table = make_batches(shift=0.0, slide_sd=2.0, slides=12, tiles=25, class_signal=0, seed=seed)
        sites = np.random.default_rng(seed).permutation(["A", "B"] * 6)
        table.obs["site"] = sites[np.arange(table.n_obs) // 25]
        by_slide.append(site_probe(table, permutations=0, n_bootstrap=50).balanced_accuracy)
        if seed < 2:
            table.obs["tile"] = table.obs_names
            leaky = site_probe(table, group="tile", permutations=0, n_bootstrap=50)
            by_tile.append(leaky.balanced_accuracy)
    assert 0.35 < np.mean(by_slide) < 0.6
    assert min(by_tile) > 0.85  # the mistake that grouped folds are there for


def test_confidence_is_calibrated(make_batches):
    table = make_batches(shift=0.25, slides=20, tiles=100, class_signal=0)
    result = site_probe(table, permutations=0)
    top = result.proba.max(axis=1)
    right = result.confidence == top
    assert abs(top.mean() - right.mean()) < 0.05


def test_one_slide_a_site_says_what_it_cannot_tell(make_batches):
    table = make_batches(one_slide_a_site=True, tiles=144)
    result = site_probe(table)
    assert result.grouped_by == "spatial block"
    assert "can't tell what belongs to the site" in result.verdict
    assert any("pieces of slides" in w for w in result.warnings)
    assert result.support["batches"]["AMC"]["groups"] == 20


def test_one_site_with_a_single_patient(make_batches):
    table = make_batches(slides=8)
    lone = table[(table.obs["site"] == "AMC") | (table.obs["slide"] == "S1")].copy()
    result = site_probe(lone)
    assert "UMC: one patient only" in result.warnings[0]
    assert "spatial block" in result.grouped_by


def test_class_tied_to_the_site_is_shown(make_batches):
    table = make_batches(tie=0.95, controls=0.0, shift=0.0, slides=8)
    result = site_probe(table, permutations=0)
    assert result.association > 0.8
    assert any("Cramér's V" in w for w in result.warnings)
    assert result.balanced_accuracy > 0.8
    assert result.by_class["tumour"]["value"] < 0.65  # inside a class there is nothing to recognise


def test_patient_on_both_scanners_is_held_out_whole(make_batches):
    table = make_batches(slides=12)
    table.obs["scanner"] = table.obs["site"].to_numpy()
    table.obs["patient"] = [f"P{int(s[1:]) // 2}" for s in table.obs["slide"]]
    result = site_probe(table, "scanner")
    assert result.permutation_p <= 0.1
    assert pd.Series(result.folds).groupby(table.obs["patient"].to_numpy()).nunique().max() == 1


def test_missing_features_and_constant_features(make_batches):
    table = make_batches()
    x = table.X.copy()
    x[3, 2] = np.nan
    x[:, 5] = 7.0
    table.X = x
    result = site_probe(table, permutations=0)
    assert np.isnan(result.confidence[3])
    assert result.folds[3] == -1
    assert np.isfinite(np.delete(result.confidence, 3)).all()
    assert any("1 tiles have missing features" in w for w in result.warnings)
    assert any("1 of 12 features are the same" in w for w in result.warnings)


def test_all_features_constant_gives_chance(make_batches):
    table = make_batches()
    table.X = np.ones_like(table.X)
    result = site_probe(table, permutations=3)
    assert result.balanced_accuracy == pytest.approx(0.5)
    assert any("encoder sees nothing" in w for w in result.warnings)


def test_errors_are_one_sentence(make_batches):
    table = make_batches()
    with pytest.raises(ProbeError, match="give each slide a scanner in the Slides dock"):
        site_probe(table, "scanner")
    with pytest.raises(ProbeError, match="Every tile is of site AMC"):
        site_probe(table[table.obs["site"] == "AMC"].copy())
    few = table[np.r_[np.arange(5), np.arange(40, 200)]].copy()
    few.obs["site"] = ["AMC"] * 5 + ["UMC"] * 160
    with pytest.raises(ProbeError, match=r"Too few tiles.*AMC \(5\)"):
        site_probe(few)
    with pytest.raises(ProbeError, match="2 folds"):
        site_probe(table, n_splits=1)


def test_row_order_does_not_matter_for_scores_and_seed_repeats(make_batches):
    table = make_batches(shift=0.5)
    a, b = site_probe(table, permutations=2), site_probe(table, permutations=2)
    assert a.to_dict() == b.to_dict()


def test_json_there_and_back(make_batches):
    result = site_probe(make_batches(), permutations=0)
    assert result.p_floor == 1.0
    text = json.dumps(result.to_dict(), allow_nan=False)
    back = SiteProbeResult.from_dict(json.loads(text))
    assert back.to_dict() == result.to_dict()
    assert back.verdict == result.verdict
    assert np.isnan(back.permutation_p)
    np.testing.assert_array_equal(back.confidence, result.confidence)


def test_job_yields_after_every_fit_and_stops_when_asked(make_batches):
    table = make_batches()
    seen = []
    jobs.run(site_probe_job(table), seen.append)
    assert len(seen) > 50
    assert seen[-1].done == seen[-1].total
    assert {p.unit for p in seen} == {"fits"}
    assert all(b.done >= a.done for a, b in itertools.pairwise(seen))
    with pytest.raises(Cancelled):
        jobs.run(site_probe_job(table), is_cancelled=lambda: True)
