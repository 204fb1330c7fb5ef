"""Tables that can't answer the question say so, in words."""

import anndata
import numpy as np
import pandas as pd
import pytest

from napari_batchfx.errors import ProbeError
from napari_batchfx.probe import site_probe


def warned(result, *parts):
    return any(all(part in text for part in parts) for text in result.warnings)


def quick(table, **how):
    return site_probe(table, probe="centroid", permutations=0, n_bootstrap=50, **how)


def test_one_site_and_sites_of_one_tile(make_batches):
    table = make_batches(tiles=12)
    with pytest.raises(ProbeError, match="Every tile is of site AMC: a probe needs two or more"):
        quick(table[table.obs["site"] == "AMC"].copy())
    lone = table.copy()
    lone.obs["site"] = [f"X{i}" for i in range(lone.n_obs)]
    with pytest.raises(ProbeError, match="Too few tiles to tell the site apart"):
        quick(lone)
    lone.obs["site"] = np.where(np.arange(lone.n_obs) == 3, "lone", table.obs["site"].to_numpy())
    result = quick(lone)
    assert result.batches == ["AMC", "UMC"]
    assert warned(result, "left out: lone (1)")
    assert result.folds[3] == -1
    assert np.isnan([result.confidence[3], result.margin[3], result.entropy[3]]).all()


def test_class_tied_to_the_site(make_batches):
    table = make_batches(tiles=12, tie=1.0, controls=0.0)
    result = quick(table)
    assert result.association == pytest.approx(1.0, abs=0.05)
    assert result.by_class == {}
    assert warned(result, "Cramér's V 1.00", "No class occurs in two of them")
    assert "may recognise the tissue instead of the site" in result.verdict


def test_unknown_class_is_said_last(make_batches):
    table = make_batches(tiles=12, slides=12)
    del table.obs["label"]
    assert quick(table).warnings[-1].startswith("No tile has a class")
    assert not warned(quick(make_batches(tiles=12, slides=12)), "No tile has a class")


def test_nothing_but_missing_features(make_batches):
    table = make_batches(tiles=12)
    table.X = np.full_like(table.X, np.nan)
    with pytest.raises(ProbeError, match=r"AMC \(0\), UMC \(0\) \(96 have missing features\)"):
        quick(table)
    with pytest.raises(ProbeError, match="There are no tiles"):
        quick(table[:0].copy())
    table = make_batches(tiles=12)
    x = table.X.copy()
    x[:7, 0] = np.nan
    table.X = x
    result = quick(table)
    assert warned(result, "7 tiles have missing features and were not scored")
    assert result.support["left_out"]["missing features"] == 7


@pytest.mark.parametrize(("slides", "said"), [(8, True), (10, False)])
def test_fewer_than_five_groups(make_batches, slides, said):
    result = quick(make_batches(tiles=12, slides=slides))
    assert warned(result, f"Only {slides // 2} patients in a site", "the interval is a rough one") == said


def test_few_patients_are_said_also_where_another_site_has_one(make_batches):
    table = make_batches(tiles=40, slides=8)
    lone = table[(table.obs["site"] == "AMC") | (table.obs["slide"] == "S1")].copy()
    result = quick(lone)
    assert warned(result, "UMC: one patient only")
    assert warned(result, "Only 4 patients in a site")


def test_slides_held_out_for_want_of_patients_are_said(make_batches):
    """Two slides of a patient may lie in training and test, and nobody can see it in the number."""
    table = make_batches(tiles=12, slides=12)
    assert not warned(quick(table), "slides were held out")
    assert not warned(quick(table, group="slide"), "slides were held out")
    assert not warned(quick(table, group=None), "slides were held out")
    assert warned(quick(table, group="site"), "can't be held out and recognised at once")
    table.obs["patient"] = ""
    result = quick(table)
    assert result.grouped_by == "slide"
    assert warned(result, "No tile has a patient", "slides of one patient may be in training and in test")


def test_an_encoder_that_sees_nothing_is_said_first(make_batches):
    table = make_batches(tiles=12)
    table.X = np.ones_like(table.X)
    result = quick(table)
    assert result.warnings[0] == "Every tile has the same features: the encoder sees nothing here."
    assert result.verdict.endswith(result.warnings[0])
    assert not warned(result, "12 of 12 features")


def test_one_slide_a_site_cannot_tell_slide_from_site(make_batches):
    result = quick(make_batches(one_slide_a_site=True, tiles=100))
    assert result.grouped_by == "spatial block"
    assert "can't tell what belongs to the site from what belongs to that one slide" in result.warnings[0]
    table = make_batches(one_slide_a_site=True, tiles=100)
    nowhere = table.copy()
    nowhere.obs = nowhere.obs.drop(columns=["row", "col", "y_um", "x_um"])
    with pytest.raises(ProbeError, match="one slide only and no tile positions"):
        quick(nowhere)


def test_a_slide_with_most_tiles_is_told(make_batches):
    """One slide of a site is recognised and holds nine tenths of its tiles; the other five are not."""
    table = make_batches(shift=0.0, slides=12, tiles=20, class_signal=0)
    x = table.X.copy()
    x[:, 0] += 6 * (table.obs["site"] == "UMC").to_numpy()
    x[(table.obs["slide"] == "S1").to_numpy(), 0] -= 6  # S1 of UMC looks like AMC
    table.X = x
    s1 = np.flatnonzero((table.obs["slide"] == "S1").to_numpy())
    rows = np.r_[np.arange(table.n_obs), np.repeat(s1, 40)]
    obs = table.obs.iloc[rows].copy()
    obs.index = [f"t{i}" for i in range(len(rows))]
    large = anndata.AnnData(x[rows], obs=obs)
    result = quick(large)
    assert result.slide_balanced_accuracy > 0.85
    assert result.balanced_accuracy < 0.7
    assert warned(result, "with every slide counted the same it is 0.")
    even = quick(table)
    assert even.slide_balanced_accuracy == pytest.approx(even.balanced_accuracy)


def test_the_scanner_of_mitoses_by_colour_statistics(real_data):
    """Issue 5: balanced accuracy 0.97 or more, patients held out; and colour's share of colour is all of it."""
    from PIL import Image

    from napari_batchfx import encoders
    from napari_batchfx.probe import signature

    folder = real_data("tiles/mitoses-three-scanners/tiles.csv").parent
    rows = pd.read_csv(folder / "tiles.csv")
    tiles = np.stack([np.asarray(Image.open(folder / name).convert("RGB")) for name in rows["file"]])
    x = encoders.load("colour-statistics").embed(tiles)
    obs = rows[["slide", "patient", "scanner", "label"]].astype(str)
    obs.index = obs.index.astype(str)
    table = anndata.AnnData(np.asarray(x, dtype=np.float32), obs=obs)
    result = site_probe(table, "scanner", permutations=0)
    assert result.grouped_by == "patient"
    assert result.balanced_accuracy >= 0.97
    assert result.slide_balanced_accuracy >= 0.97
    assert all(one["value"] >= 0.95 for one in result.by_class.values())
    assert result.ece < 0.05
    found = signature(
        table, "scanner", colour=table, first=(10,), n_bootstrap=50, relabellings=0, probe="knn"
    )
    assert found.colour["colour_share"] == pytest.approx(1.0)
    assert found.colour["left_share"] < 0.5
