"""Section by section: each number of the judgement sees what it is for."""

import anndata
import numpy as np
import pandas as pd
import pytest

from napari_batchfx.adapt import TVN, ComBat, Coral, Sphere, controls
from napari_batchfx.adapt.measures import leverage, principal_angles, reach


@pytest.mark.parametrize(
    "method", [None, TVN(), Coral(), ComBat(), Sphere()], ids=lambda m: getattr(m, "kind", "none")
)
def test_good_controls_are_usable_by_every_method(method, make_batches):
    found = controls.diagnose(make_batches(slides=12, tiles=60, class_signal=5.0), method=method)
    assert found.verdict == "usable", found.reasons
    assert found.probe_before > 0.9
    assert found.probe_after < found.chance + 0.2
    assert found.class_after > found.class_before - 0.02 > 0.7
    assert found.placebo < 0.3
    assert found.leverage < 0.3
    assert len(found.angles) == 1
    assert found.angles[0] < 20
    assert 0.8 < found.variance_ratio < 1.25
    names = [name for name, _ in found.rows()]
    assert len(set(names)) == len(names) == 13
    assert found.reach < 2


def test_a_slide_that_decides_is_seen(make_batches):
    table = make_batches(slides=8, tiles=60, shift=0.5)
    x = table.X.copy()
    odd = (table.obs["slide"] == "S1").to_numpy()
    x[odd] += 6
    table.X = x
    found = controls.diagnose(table)
    assert found.leverage > 0.5
    assert found.verdict != "usable"
    assert any("One slide decides" in reason for reason in found.reasons)


def test_leverage_of_a_slide_by_hand():
    x = np.array([[0.0], [2], [0], [2], [10], [12], [10], [12]])
    y, slide = np.repeat([0, 1], 4), np.repeat([0, 1, 2, 3], 2)
    assert leverage(x, y, slide) == pytest.approx(0.0)
    x[2:4] += 4  # slide 1 of batch 0: its mean is 5 instead of 1, the batch's 3; without it 1
    assert leverage(x, y, slide) == pytest.approx(2 * 0.5 / 4.0)
    assert np.isnan(leverage(x, y, np.repeat([0, 1], 4)))


def test_principal_angles_of_three_batches():
    rng = np.random.default_rng(0)
    y = np.tile([0, 1, 2], 400)
    control = np.arange(1200) < 600
    x = rng.normal(size=(1200, 6)) * 0.01
    x[:, 0] += 3.0 * (y == 1)
    x[control, 1] += 3.0 * (y[control] == 2)
    x[~control, 2] += 3.0 * (
        y[~control] == 2
    )  # the third batch shifts the controls and the others differently
    angles = principal_angles(x, y, control, np.full(1200, -1))
    assert len(angles) == 2
    assert angles[0] < 2
    assert angles[1] > 60


def test_a_classifier_that_gets_worse_is_seen(make_batches):
    """Controls that vary as the classes do: whitening on them takes the classes' direction away."""
    table = make_batches(slides=8, tiles=80, shift=0.3, class_signal=3.0)
    x, control = table.X.copy(), table.obs["control"].to_numpy()
    rng = np.random.default_rng(0)
    mixed = control & (table.obs["site"] == "UMC").to_numpy()
    x[mixed, :4] += 1.5 * rng.integers(0, 2, (mixed.sum(), 1))
    x[(table.obs["site"] == "UMC").to_numpy() & ~control] *= 0.2
    table.X = x
    found = controls.diagnose(table)
    assert found.verdict != "usable", found.sentence


def test_halves_by_slide_are_told_from_halves_by_place(make_batches):
    by_slide = controls.diagnose(make_batches(slides=12, tiles=60))
    assert by_slide.split_by == "patient"
    by_place = controls.diagnose(make_batches(tiles=144, one_slide_a_site=True))
    assert by_place.split_by == "spatial block"
    assert any("holds all its controls" in note for note in by_place.notes)


def test_the_placebo_is_small_where_the_shift_is_and_large_where_there_is_none(make_batches):
    real = controls.diagnose(make_batches(slides=12, tiles=60), method=TVN(shrinkage=0.1))
    none = controls.diagnose(make_batches(slides=12, tiles=60, shift=0.0), method=TVN(shrinkage=0.1))
    assert real.placebo < 0.3 < 0.6 < none.placebo


@pytest.mark.parametrize("method", [None, ComBat()], ids=["standardize", "combat"])
@pytest.mark.parametrize("seed", range(3))
def test_controls_of_one_tissue_only_are_weak_and_of_all_are_usable(method, seed):
    """What a scanner does to tissue that no control shows is a guess, and no label is needed to see it."""
    rng = np.random.default_rng(seed)
    kind, slide = rng.integers(0, 5, 1200), np.arange(1200) // 100
    centres = 5 * rng.normal(size=(5, 12))
    x = centres[kind] + rng.normal(size=(1200, 12))
    x[slide % 2 == 1] = 1.3 * x[slide % 2 == 1] + 2.0
    obs = pd.DataFrame({"site": np.where(slide % 2, "A", "B"), "slide": slide.astype(str)})
    obs.index = obs.index.astype(str)
    table = anndata.AnnData(x.astype(np.float32), obs=obs)
    one = controls.diagnose(table, controls=kind == 0, method=method)
    assert one.verdict == "weak"
    assert one.reach > 2
    assert any("far outside" in reason for reason in one.reasons)
    mixed = controls.diagnose(table, controls=rng.random(1200) < 0.3, method=method)
    assert mixed.verdict == "usable", mixed.reasons
    assert 0.7 < mixed.reach < 1.3
    table.obs["label"] = kind.astype(str)  # the number is about tissue, not about what it is called
    assert controls.diagnose(table, controls=kind == 0, method=method).reach == one.reach


def test_reach_by_hand():
    x = np.array([[0.0, 5], [2, 5], [4, 5], [-3, 5], [0, 5], [4, 5], [8, 5], [10, 5]])
    batch, control = np.repeat([0, 1], 4), np.tile([True, True, False, False], 2)
    # batch 0: mean 1, sd 1, others 3 and 4 away; batch 1: mean 2, sd 2, others 3 and 4 sd away; column 2 is flat
    assert reach(x, batch, control) == pytest.approx(3.5)
    assert np.isnan(reach(x, batch, np.ones(8, bool)))


@pytest.mark.real_data
def test_normal_mitoses_stand_for_atypical_ones(real_data):
    """Real tissue, 129 patients, three scanners: the controls of the benchmark are not called far off."""
    from napari_batchfx.benchmark.mitoses_data import load_mitoses

    data = load_mitoses(real_data("tiles/mitoses-three-scanners").parent.parent)
    pixels = data.tiles.reshape(len(data), -1, 3).astype(float)
    x = np.hstack([pixels.mean(axis=1), pixels.std(axis=1)])
    scanner = np.unique(data.scanner, return_inverse=True)[1]
    assert reach(x, scanner, data.label == "normal") < 1.2
