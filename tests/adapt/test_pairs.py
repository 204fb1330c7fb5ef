"""Maps learned from the same tissue on two scanners."""

import anndata
import numpy as np
import pandas as pd
import pytest

from napari_batchfx import adapt
from napari_batchfx.adapt import Procrustes, Ridge
from napari_batchfx.errors import AdaptError


def rescans(n=240, d=6, noise=0.02, seed=0, turn=None, gain=1.0):
    """Tiles of four slides on A, and the same places on B, turned, scaled and shifted."""
    rng = np.random.default_rng(seed)
    a = rng.normal(size=(n, d)) @ np.diag(np.linspace(1, 2, d))
    q = np.linalg.qr(rng.normal(size=(d, d)))[0] if turn is None else turn
    b = (a @ q) * gain + 3 + noise * rng.normal(size=(n, d))
    k = np.arange(n)
    obs = pd.DataFrame(
        {
            "scanner": np.repeat(["A", "B"], n),
            "slide": [f"{s}{i % 4}" for s in "AB" for i in range(n)],
            "pair": np.tile([f"p{i}" for i in range(n)], 2),
            "y_um": np.tile(k // 20 * 100.0, 2),
            "x_um": np.tile(k % 20 * 100.0, 2),
        },
        index=[f"t{i}" for i in range(2 * n)],
    )
    return anndata.AnnData(np.vstack([a, b]), obs=obs), a


def test_procrustes_finds_a_planted_turn():
    table, a = rescans()
    out = Procrustes("A", standardise=False).fit_transform(table, "scanner").X
    np.testing.assert_allclose(out[240:], a, atol=0.15)
    np.testing.assert_array_equal(out[:240], a.astype(np.float32))


@pytest.mark.parametrize("standardise", [True, False])
def test_procrustes_keeps_distances(standardise):
    table, _ = rescans(noise=0.5)
    fitted = Procrustes("A", standardise).fit(table, "scanner")
    turn = fitted._by_batch["B"]["turn"]
    np.testing.assert_allclose(turn @ turn.T, np.eye(6), atol=1e-10)
    if not standardise:
        out, x = fitted.transform(table).X[240:], table.X[240:]
        before = np.linalg.norm(x[:100] - x[100:200], axis=1)
        np.testing.assert_allclose(np.linalg.norm(out[:100] - out[100:200], axis=1), before, rtol=1e-4)


def test_ridge_finds_a_planted_map_and_shrinks_towards_a_shift():
    table, a = rescans(gain=0.5)
    out = Ridge("A").fit_transform(table, "scanner").X
    np.testing.assert_allclose(out[240:], a, atol=0.3)
    shift = Ridge("A", penalty=1e12).fit_transform(table, "scanner").X[240:]
    expected = table.X[240:] - table.X[240:].mean(axis=0) + table.X[:240].mean(axis=0)
    np.testing.assert_allclose(shift, expected, atol=1e-4)


def test_ridge_of_few_pairs_is_hardly_more_than_a_shift():
    table, _ = rescans(n=20, d=80, noise=1.0, turn=np.eye(80))
    fitted = Ridge("A").fit(table, "scanner")
    info = fitted.diagnostics["batches"]["B"]
    assert info["left_after"] < 1.1 * info["left_after_shift"]
    assert info["n_pairs"] == 20
    assert any("20 pairs: few" in w for w in fitted.warnings)
    out = fitted.transform(table).X[20:]
    assert np.trace(np.cov(out.T)) > 0.8 * np.trace(np.cov(table.X[20:].T))


@pytest.mark.parametrize("correction", [Procrustes, Ridge])
def test_held_out_pairs_judge_the_map(correction):
    table, _ = rescans(gain=1.0 if correction is Procrustes else 0.6)
    fitted = correction("A").fit(table, "scanner")
    info = fitted.diagnostics["batches"]["B"]
    assert info["left_after"] < 0.1 < info["left_after_shift"] < 1
    assert info["n_slides"] == 4
    assert any("all pairs were learned from" in w for w in fitted.warnings)


@pytest.mark.parametrize("correction", [Procrustes, Ridge])
def test_saved_loaded_and_joined_by_a_later_scanner(correction, tmp_path):
    table, _ = rescans()
    fitted = correction("A").fit(table, "scanner")
    again = adapt.load(fitted.save(tmp_path / "map"))
    before = fitted.transform(table).X
    np.testing.assert_array_equal(again.transform(table).X, before)
    late = table.copy()
    late.obs["scanner"] = late.obs["scanner"].replace("B", "C")
    with pytest.raises(AdaptError, match="scanner C was not there"):
        again.transform(late)
    np.testing.assert_array_equal(again.add_batches(late).transform(late).X, before)
    np.testing.assert_array_equal(again.transform(table).X, before)


def test_only_pairs_of_controls_are_learned_from_where_there_are_controls():
    table, _ = rescans()
    table.obs["control"] = table.obs["y_um"] < 500
    x = table.X.copy()
    spoilt = table.copy()
    x[~table.obs["control"].to_numpy()] = 99.0
    spoilt.X = x
    a, b = (Procrustes("A").fit(t, "scanner")._by_batch["B"]["turn"] for t in (table, spoilt))
    np.testing.assert_array_equal(a, b)


def test_refusals_say_what_is_missing():
    table, _ = rescans()
    alone = table.copy()
    alone.obs["pair"] = ""
    with pytest.raises(AdaptError, match="align rescans of the same section"):
        Ridge().fit(alone, "scanner")
    few = table.copy()
    few.obs["pair"] = np.where(np.arange(480) % 240 < 10, few.obs["pair"], "")
    with pytest.raises(AdaptError, match="scanner B has 10 tiles that show the same tissue as A"):
        Procrustes().fit(few, "scanner")
    with pytest.raises(AdaptError, match="no scanner Z in the table"):
        Procrustes("Z").fit(table, "scanner")
    with pytest.raises(AdaptError, match="penalty is a number above 0"):
        Ridge(penalty=0.0)
