"""Suggested controls: by structure and place, never by colour, features or (unless asked) labels."""

import anndata
import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from napari_batchfx.adapt import controls
from napari_batchfx.adapt.morphology import describe_tiles, ranks_of
from napari_batchfx.adapt.spread import choose_sets
from napari_batchfx.errors import AdaptError


def tissue_table(slides=6, side=20, seed=0, shift=0.0):
    """Slides of two sites on a square grid, with two columns of structure; ``shift`` makes B's tissue denser."""
    rng = np.random.default_rng(seed)
    k = np.arange(slides * side * side)
    slide, place = k // (side * side), k % (side * side)
    obs = pd.DataFrame(
        {
            "site": np.where(slide % 2, "B", "A"),
            "slide": [f"S{s}" for s in slide],
            "row": place // side,
            "col": place % side,
            "y_um": place // side * 112.0,
            "x_um": place % side * 112.0,
            "tissue": rng.uniform(0.6, 1, len(k)),
            "blur": (rng.random(len(k)) < 0.1).astype(float),
            "label": rng.choice(["stroma", "tumour"], len(k)),
        },
        index=[f"t{i}" for i in k],
    )
    table = anndata.AnnData(np.zeros((len(k), 1), dtype=np.float32), obs=obs)
    table.obsm["morphology"] = rng.normal(size=(len(k), 2)) + shift * (slide % 2)[:, None]
    return table


def test_the_rules_of_a_good_choice():
    table = tissue_table()
    found = controls.suggest(table, per_slide=15)
    obs = table.obs.iloc[found.rows]
    assert (obs["tissue"] >= 0.8).all()
    assert (obs["blur"] == 0).all()
    assert found.n == dict.fromkeys(["S0", "S1", "S2", "S3", "S4", "S5"], 15)
    assert (found.distance <= 0.2).all()
    for _, one in obs.groupby("slide", observed=True):
        yx = one[["y_um", "x_um"]].to_numpy()
        gap = np.hypot(*(yx[:, None] - yx[None]).transpose(2, 0, 1)) + 1e9 * np.eye(len(yx))
        assert gap.min() >= 2 * 112
        assert np.ptp(yx, axis=0).min() > 0.7 * 20 * 112  # all over the slide
    assert len(found.reasons) == len(found.rows)
    assert all("% tissue; no blur; denser than" in why and "built like S" in why for why in found.reasons)
    assert "90 control tiles, 15 a slide on 6 slides" in found.sentence
    assert found.left_out["with little tissue"] > 500
    assert any("A has 3 slides; 5 or more" in w for w in found.warnings)


def test_what_is_matched_is_alike_though_the_sites_differ():
    table = tissue_table(shift=1.0)
    z, site = table.obsm["morphology"], table.obs["site"].to_numpy()
    found = controls.suggest(table, per_slide=30)
    gap = z[site == "B"].mean(axis=0) - z[site == "A"].mean(axis=0)
    a, b = (z[found.rows[site[found.rows] == s]].mean(axis=0) for s in "AB")
    assert gap.min() > 0.9
    assert np.abs(b - a).max() < 0.1


def test_features_and_labels_are_not_looked_at_and_the_same_seed_gives_the_same():
    table = tissue_table()
    first = controls.suggest(table, per_slide=10)
    other = table.copy()
    other.X = np.random.default_rng(1).normal(size=other.X.shape).astype(np.float32)
    other.obs["label"] = other.obs["site"].to_numpy()
    again = controls.suggest(other, per_slide=10)
    np.testing.assert_array_equal(again.rows, first.rows)
    assert again.reasons == first.reasons


def test_from_a_class_and_from_pairs():
    table = tissue_table()
    found = controls.suggest(table, per_slide=10, tissue_class="stroma")
    assert (table.obs["label"].iloc[found.rows] == "stroma").all()
    assert all("drawn as stroma" in why for why in found.reasons)
    with pytest.raises(AdaptError, match="No tile is of class bone; there are stroma, tumour"):
        controls.suggest(table, tissue_class="bone")
    place = table.obs["row"].astype(str) + "," + table.obs["col"].astype(str)
    table.obs["pair"] = np.where(table.obs["slide"].isin(["S0", "S1"]), place, "")
    paired = controls.suggest(table, per_slide=20, pairs=True)
    obs = table.obs.iloc[paired.rows]
    assert set(obs["slide"]) == {"S0", "S1"}
    assert set(obs["pair"][obs["site"] == "A"]) == set(obs["pair"][obs["site"] == "B"])
    assert all("the same tissue as S" in why for why in paired.reasons)
    table.obs["pair"] = ""
    with pytest.raises(AdaptError, match="No tile shows the same tissue on every site"):
        controls.suggest(table, pairs=True)


def test_tissue_that_is_too_different_is_refused_and_half_different_is_said():
    with pytest.raises(AdaptError, match="their tissue is too different"):
        controls.suggest(tissue_table(shift=30.0))
    found = controls.suggest(tissue_table(shift=3.0), per_slide=30)
    assert any("have no counterpart on another site" in w for w in found.warnings)
    bare = tissue_table()
    bare.obs["tissue"] = 0.1
    with pytest.raises(AdaptError, match="site A has no tile that could be a control"):
        controls.suggest(bare)


def test_tiles_taken_out_are_not_suggested_again():
    table = tissue_table()
    first = controls.suggest(table, per_slide=10)
    out = np.zeros(table.n_obs, dtype=bool)
    out[first.rows] = True
    second = controls.suggest(table, per_slide=10, exclude=out)
    assert not set(second.rows) & set(first.rows)
    assert second.left_out["chosen or taken out before"] == len(first.rows)


def test_one_site_and_no_structure_are_said():
    table = tissue_table()
    table.obs["site"] = "A"
    assert any("only one site" in w for w in controls.suggest(table, per_slide=5).warnings)
    plain = tissue_table()
    del plain.obsm["morphology"]
    assert any("structure of tiles is not known" in w for w in controls.suggest(plain, per_slide=5).warnings)


def paint(seed, dense, size=128):
    """A tile's red channel: nuclei of 7 um on a pale ground, at 0.5 um a pixel."""
    rng = np.random.default_rng(seed)
    image = rng.normal(190, 8, (size, size))
    yy, xx = np.mgrid[:size, :size]
    for y, x in rng.uniform(0, size, (dense, 2)):
        image[(yy - y) ** 2 + (xx - x) ** 2 < 49] = rng.normal(90, 10)
    return np.clip(image, 0, 255).astype(np.uint8)


@settings(max_examples=20, deadline=None)
@given(gamma=st.floats(0.5, 1.0), low=st.integers(0, 1000), seed=st.integers(0, 1000))
def test_morphology_does_not_see_the_scanners_curve(gamma, low, seed):
    """Grey values mapped one to one onto others, as contrast, gain and gamma do: not a bit changes."""
    red = np.stack([paint(seed + i, 10 * i + 5, 64) for i in range(3)])
    # a random increasing map of the grey values that occur, gamma-like on average
    there = np.unique(red)
    rng = np.random.default_rng(low)
    image = np.sort(rng.choice(256, len(there), replace=False))
    curve = np.zeros(256, dtype=np.uint8)
    curve[there] = image
    seen = curve[red]
    ranks = [ranks_of(np.bincount(one.ravel(), minlength=256)) for one in (red, seen)]
    np.testing.assert_array_equal(describe_tiles(seen, ranks[1], 0.5), describe_tiles(red, ranks[0], 0.5))


def test_morphology_sees_nuclei():
    red = np.stack([paint(i, n) for i, n in enumerate((2, 10, 40))])
    look = describe_tiles(red, ranks_of(np.bincount(red.ravel(), minlength=256)), 0.5)
    assert (np.diff(look[:, 0]) > 0).all()
    assert (np.diff(look[:, 1]) > 0).all()
    assert (np.diff(look[:, 2]) > 0).all()


@settings(max_examples=25, deadline=None)
@given(seed=st.integers(0, 10_000), wanted=st.integers(1, 30), least=st.floats(0, 3))
def test_no_slide_gets_more_than_its_share_and_tiles_keep_their_distance(seed, wanted, least):
    rng = np.random.default_rng(seed)
    yx, slide = rng.uniform(0, 10, (80, 2)), rng.integers(0, 2, 80)
    slide[40:] += 2  # the second batch's slides
    sets = np.column_stack([rng.permutation(40), 40 + rng.permutation(40)])
    quota = np.full(4, 6)
    chosen = choose_sets(sets, rng.random(40), slide, yx, quota, least, wanted)
    assert len(set(chosen)) == len(chosen) <= wanted
    rows = sets[chosen].ravel()
    assert (np.bincount(slide[rows], minlength=4) <= 6).all()
    for i, row in enumerate(rows):
        same = [r for r in rows[:i] if slide[r] == slide[row] and i // 2 != list(rows).index(r) // 2]
        if same:
            assert np.hypot(*(yx[same] - yx[row]).T).min() >= least
