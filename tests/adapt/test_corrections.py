import anndata
import numpy as np
import pytest

from napari_batchfx import adapt
from napari_batchfx.adapt import TVN, ComBat, Coral, Sphere, StandardizeOnControls
from napari_batchfx.errors import AdaptError
from napari_batchfx.probe import site_probe

CORRECTIONS = {
    "mean": StandardizeOnControls(),
    "robust": StandardizeOnControls(robust=True),
    "tvn": TVN(),
    "tvn-0": TVN(shrinkage=0.0),
    "tvn-recoloured": TVN(ridge=0.5, recolour=True),
    "zca-cor": Sphere(),
    "pca": Sphere("pca"),
    "coral": Coral(),
    "coral-reference": Coral("AMC", shrinkage=0.1),
    "combat": ComBat(),
    "combat-reference": ComBat(reference_batch="AMC"),
}


def fresh(c):
    return type(c)(**c._settings())


@pytest.mark.parametrize("correction", CORRECTIONS.values(), ids=CORRECTIONS)
class TestEveryCorrection:
    def test_removes_the_site_where_it_was_not_fitted(self, correction, make_batches):
        table = make_batches(slides=12, shift=2.0, mixing=0.3)
        controls = table.obs["control"].to_numpy()
        out = fresh(correction).fit_transform(table)
        before = site_probe(table[~controls].copy(), permutations=0, n_bootstrap=50)
        after = site_probe(out[~controls].copy(), permutations=0, n_bootstrap=50)
        assert before.balanced_accuracy > 0.95
        assert after.balanced_accuracy < 0.75

    def test_float32_out_and_the_table_left_alone(self, correction, make_batches):
        table = make_batches()
        kept = table.X.copy()
        out = fresh(correction).fit_transform(table)
        assert out.X.dtype == np.float32
        np.testing.assert_array_equal(table.X, kept)
        assert (out.obs_names == table.obs_names).all()

    def test_row_order_does_not_matter(self, correction, make_batches):
        table = make_batches()
        order = np.random.default_rng(1).permutation(table.n_obs)
        a = fresh(correction).fit_transform(table).X[order]
        b = fresh(correction).fit_transform(table[order].copy()).X
        np.testing.assert_allclose(a, b, atol=2e-4)

    def test_saved_and_loaded_it_does_the_same(self, correction, make_batches, tmp_path):
        table = make_batches()
        fitted = fresh(correction).fit(table)
        path = fitted.save(tmp_path / "fit")
        again = adapt.load(path)
        np.testing.assert_array_equal(again.transform(table).X, fitted.transform(table).X)
        assert again.batches == fitted.batches
        assert again.warnings == fitted.warnings

    def test_a_batch_that_comes_later_joins_through_its_controls(self, correction, make_batches):
        table = make_batches(sites=3, slides=9, tiles=60)
        early = table[table.obs["site"] != "VUMC"].copy()
        late = table[table.obs["site"] == "VUMC"].copy()
        fitted = fresh(correction).fit(early)
        before = fitted.transform(early).X
        with pytest.raises(AdaptError, match="VUMC was not there when the correction was fitted"):
            fitted.transform(late)
        out = fitted.add_batches(late).transform(late)
        controls = late.obs["control"].to_numpy()
        early_mean = before[early.obs["control"].to_numpy()].mean(axis=0)
        scale = before[early.obs["control"].to_numpy()].std(axis=0)
        assert (np.abs(out.X[controls].mean(axis=0) - early_mean) / scale).max() < 0.5
        np.testing.assert_array_equal(fitted.transform(early).X, before)


def test_controls_have_mean_0_and_sd_1(make_batches):
    table = make_batches(mixing=0.5)
    out = StandardizeOnControls().fit_transform(table)
    for site in ("AMC", "UMC"):
        x = out.X[(table.obs["site"] == site).to_numpy() & table.obs["control"].to_numpy()]
        np.testing.assert_allclose(x.mean(axis=0), 0, atol=1e-5)
        np.testing.assert_allclose(x.std(axis=0, ddof=1), 1, atol=1e-5)


@pytest.mark.parametrize("robust", [False, True])
def test_standardising_twice_is_standardising_once(robust, make_batches):
    once = StandardizeOnControls(robust).fit_transform(make_batches())
    twice = StandardizeOnControls(robust).fit_transform(once)
    np.testing.assert_allclose(twice.X, once.X, atol=1e-5)


def test_robust_is_not_moved_by_outliers(make_batches):
    table = make_batches(tiles=100)
    spoilt = table.copy()
    rows = np.flatnonzero(table.obs["control"].to_numpy())[:20]
    x = spoilt.X.copy()
    x[rows] = 1e6
    spoilt.X = x
    keep = np.setdiff1d(np.arange(table.n_obs), rows)
    shift = [
        np.abs(c.fit_transform(spoilt).X[keep] - fresh(c).fit_transform(table).X[keep]).mean()
        for c in (StandardizeOnControls(robust=True), StandardizeOnControls())
    ]
    assert shift[0] < 0.3 < shift[1]


def test_tvn_makes_the_controls_white(make_batches):
    table = make_batches(tiles=100, mixing=0.6)
    out = TVN(shrinkage=0.0).fit_transform(table)
    for site in ("AMC", "UMC"):
        x = out.X[(table.obs["site"] == site).to_numpy() & table.obs["control"].to_numpy()].astype(float)
        np.testing.assert_allclose(np.cov(x.T), np.eye(12), atol=1e-5)
        np.testing.assert_allclose(x.mean(axis=0), 0, atol=1e-5)


def test_tvn_with_few_controls_says_what_it_left_alone(make_batches):
    table = make_batches(dim=120, tiles=20)
    fitted = TVN().fit(table)
    assert fitted.diagnostics["rank"] == table.obs["control"].sum() // 4
    assert 0 < fitted.diagnostics["shrinkage"] <= 1
    assert any("of 120 directions" in w for w in fitted.warnings)
    assert np.isfinite(fitted.transform(table).X).all()


def test_covariates_even_out_the_mixture_of_tissue():
    rng = np.random.default_rng(0)
    kind = np.r_[np.repeat([0, 1], [90, 30]), np.repeat([0, 1], [30, 90])]
    site = np.repeat(["A", "B"], 120)
    x = rng.normal(size=(240, 2)) * 0.1
    x[:, 0] += 4 * kind  # tissue differs, sites don't
    table = anndata.AnnData(x.astype(np.float32))
    table.obs["site"], table.obs["kind"], table.obs["control"] = site, kind.astype(str), True
    plain = StandardizeOnControls().fit_transform(table).X
    even = StandardizeOnControls().fit_transform(table, covariates=("kind",)).X

    def gap(z):
        return abs(z[(site == "A") & (kind == 0), 0].mean() - z[(site == "B") & (kind == 0), 0].mean())

    assert gap(even) < 0.1 < 0.5 < gap(plain)


def test_refusals_say_why(make_batches):
    table = make_batches()
    none = table.copy()
    none.obs["control"] = False
    with pytest.raises(AdaptError, match="There are no control samples"):
        TVN().fit(none)
    tied = none.copy()
    tied.obs["label"] = tied.obs["site"].to_numpy()
    with pytest.raises(AdaptError, match="fully tied and there are no control samples"):
        TVN().fit(tied)
    with pytest.raises(AdaptError, match="Among the control samples class and site are fully tied"):
        TVN().fit(tied, controls=np.ones(table.n_obs, dtype=bool))
    few = table.copy()
    few.obs["control"] = (few.obs["site"] == "AMC") | (np.arange(few.n_obs) < 55)
    with pytest.raises(AdaptError, match="site UMC has 15 control samples; at least 16"):
        TVN().fit(few)
    x = table.X.copy()
    x[np.flatnonzero(table.obs["control"])[0], 0] = np.nan
    table.X = x
    with pytest.raises(AdaptError, match="1 control samples have missing features"):
        TVN().fit(table)
    with pytest.raises(AdaptError, match="has not been fitted"):
        TVN().transform(table)
    with pytest.raises(AdaptError, match="3 values for 320 tiles"):
        TVN().fit(table, controls=[True, False, True])
    with pytest.raises(AdaptError, match="shrinkage"):
        TVN(shrinkage=2.0)


def test_few_controls_warn(make_batches):
    fitted = StandardizeOnControls().fit(make_batches(tiles=20))
    assert any("few, 64 or more" in w for w in fitted.warnings)


def test_another_encoder_is_refused(make_batches):
    table = make_batches()
    table.uns["batchfx"] = {"encoder": {"key": "one"}}
    fitted = StandardizeOnControls().fit(table)
    other = table.copy()
    other.uns["batchfx"] = {"encoder": {"key": "two"}}
    with pytest.raises(AdaptError, match="fitted with the encoder one"):
        fitted.transform(other)


def test_files_that_are_something_else(tmp_path):
    with pytest.raises(AdaptError, match=r"none\.safetensors: no such file"):
        adapt.load(tmp_path / "none.safetensors")
    (tmp_path / "text.safetensors").write_text("hello, this is no safetensors file")
    with pytest.raises(AdaptError, match="damaged or not a safetensors"):
        adapt.load(tmp_path / "text.safetensors")
    from safetensors.numpy import save_file

    save_file({"a": np.zeros(3)}, tmp_path / "other.safetensors")
    with pytest.raises(AdaptError, match="is not a correction or head"):
        adapt.load(tmp_path / "other.safetensors")
