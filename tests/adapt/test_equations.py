"""Each correction against its equation, written a second time in numpy, and against goldens of other programs."""

import anndata
import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from napari_batchfx import adapt
from napari_batchfx.adapt import METHODS, TVN, ComBat, Coral, Harmony, Sphere, make_correction
from napari_batchfx.adapt.combat_model import batch_effect, combat
from napari_batchfx.adapt.harmony_model import fit_rounds
from napari_batchfx.errors import AdaptError

CONTROL_METHODS = [key for key in METHODS if adapt.REGISTRY[key].needs == "controls"]


def table_of(x, batch, control=None, **obs):
    frame = pd.DataFrame({"site": batch, **obs}, index=[f"t{i}" for i in range(len(x))])
    frame["control"] = True if control is None else control
    return anndata.AnnData(np.asarray(x, dtype=np.float64), obs=frame)


def two_sites(n=150, d=6, seed=0):
    rng = np.random.default_rng(seed)
    a = rng.normal(size=(n, d)) @ rng.normal(size=(d, d))
    b = rng.normal(size=(n, d)) @ rng.normal(size=(d, d)) + rng.normal(size=d) * 4
    return np.vstack([a, b]), np.repeat(["A", "B"], n)


def root(c, power):
    values, vectors = np.linalg.eigh(c)
    return vectors @ np.diag(values**power) @ vectors.T


# ---------------------------------------------------------------- whitening


@pytest.mark.parametrize("way", ["pca", "zca", "pca-cor", "zca-cor"])
def test_sphering_makes_the_covariance_of_controls_the_identity(way):
    x, site = two_sites()
    fitted = Sphere(way, shrinkage=0.0).fit(table_of(x, site))
    out = np.vstack([fitted._apply(x[site == s], fitted._by_batch[s]) for s in "AB"])
    np.testing.assert_allclose(out.T @ out / (len(x) - 2), np.eye(6), atol=1e-6)
    for s in "AB":
        np.testing.assert_allclose(out[site == s].mean(axis=0), 0, atol=1e-6)


def test_zca_is_the_inverse_square_root_and_pca_its_components():
    x, site = two_sites()
    centred = np.vstack([x[site == s] - x[site == s].mean(axis=0) for s in "AB"])
    covariance = centred.T @ centred / (len(x) - 2)
    zca = Sphere("zca", shrinkage=0.0).fit_transform(table_of(x, site)).X
    np.testing.assert_allclose(zca, centred @ root(covariance, -0.5), atol=1e-4)
    pca = Sphere("pca", shrinkage=0.0).fit_transform(table_of(x, site)).X
    values, vectors = np.linalg.eigh(covariance)
    expected = (centred @ vectors / np.sqrt(values))[:, ::-1]
    np.testing.assert_allclose(np.abs(pca), np.abs(expected), atol=1e-4)


def test_sphering_few_controls_shrinks_and_says_so():
    rng = np.random.default_rng(0)
    x, site = rng.normal(size=(60, 200)), np.repeat(["A", "B"], 30)
    fitted = Sphere().fit(table_of(x, site))
    assert fitted.diagnostics["shrinkage"] > 0.5
    assert fitted.diagnostics["rank"] == 58
    assert any("60 control samples are few for 200 features" in w for w in fitted.warnings)
    other = Sphere("pca-cor").fit_transform(table_of(x, site)).X
    # a rotation of the same whitening: distances agree
    zca = fitted.transform(table_of(x, site)).X
    np.testing.assert_allclose(
        np.linalg.norm(other[:5] - other[5:10], axis=1),
        np.linalg.norm(zca[:5] - zca[5:10], axis=1),
        rtol=1e-4,
    )
    with pytest.raises(AdaptError, match="needs more control samples than features"):
        Sphere(shrinkage=0.0).fit(table_of(x, site))
    with pytest.raises(AdaptError, match="the way is one of pca, zca"):
        Sphere("ica")


@pytest.mark.parametrize(("ridge", "recolour"), [(0.0, False), (0.5, False), (0.5, True)])
def test_tvn_is_its_equations(ridge, recolour):
    """Standardise on controls, PCA of all controls, whiten, (C_b + r I)^-1/2, and (C_pool + r I)^1/2."""
    x, site = two_sites(300)
    control = np.random.default_rng(3).random(len(x)) < 0.5
    out = TVN(shrinkage=0.0, ridge=ridge, recolour=recolour).fit_transform(table_of(x, site, control)).X
    z, n_batches = np.empty_like(x), 2
    for s in "AB":
        mine = x[(site == s) & control]
        z[site == s] = (x[site == s] - mine.mean(axis=0)) / mine.std(axis=0, ddof=1)
    n = [int((control & (site == s)).sum()) for s in "AB"]
    # every batch counts the same
    pooled = (
        sum(np.cov(z[control & (site == s)].T) * (n[i] - 1) / n[i] for i, s in enumerate("AB")) / n_batches
    )
    weights = np.concatenate([np.full(k, 1 / k / n_batches) for k in n])
    pooled = pooled / (1 - n_batches * (weights**2).sum())
    values, vectors = np.linalg.eigh(pooled)
    white = z @ vectors / np.sqrt(values)
    expected = np.empty_like(white)
    for s in "AB":
        c = np.cov(white[control & (site == s)].T) + ridge * np.eye(6)
        expected[site == s] = white[site == s] @ root(c, -0.5)
    if recolour:
        expected = expected * np.sqrt(1 + ridge)
    np.testing.assert_allclose(out, expected @ vectors.T, atol=2e-4)


def test_tvn_on_the_phantom_of_the_equations_is_white():
    x, site = two_sites(300)
    out = TVN(shrinkage=0.0).fit_transform(table_of(x, site)).X.astype(float)
    for s in "AB":
        np.testing.assert_allclose(np.cov(out[site == s].T), np.eye(6), atol=1e-5)


# ---------------------------------------------------------------- CORAL


def test_coral_is_its_equation():
    x, site = two_sites()
    out = Coral("A", shrinkage=0.0, ridge=0.3).fit_transform(table_of(x, site)).X
    a, b = x[site == "A"], x[site == "B"]
    scale = np.sqrt((a.var(axis=0, ddof=1) + b.var(axis=0, ddof=1)) / 2)
    c_a, c_b = np.cov((a / scale).T), np.cov((b / scale).T)
    moved = (
        ((b - b.mean(axis=0)) / scale) @ root(c_b + 0.3 * np.eye(6), -0.5) @ root(c_a + 0.3 * np.eye(6), 0.5)
    )
    np.testing.assert_allclose(out[site == "B"], moved * scale + a.mean(axis=0), atol=1e-4)
    np.testing.assert_array_equal(out[site == "A"], a.astype(np.float32))


@pytest.mark.parametrize("reference", [None, "A"])
def test_coral_gives_controls_the_target_covariance(reference):
    x, site = two_sites()
    out = Coral(reference, shrinkage=0.0).fit_transform(table_of(x, site)).X.astype(float)
    a, b = (np.cov(out[site == s].T) for s in "AB")
    np.testing.assert_allclose(a, b, atol=1e-4 * np.abs(a).max())
    np.testing.assert_allclose(out[site == "A"].mean(axis=0), out[site == "B"].mean(axis=0), atol=1e-4)
    if reference is None:
        scale = np.sqrt(np.mean([x[site == s].var(axis=0, ddof=1) for s in "AB"], axis=0))
        target = np.mean([np.cov((x[site == s] / scale).T) for s in "AB"], axis=0)
        np.testing.assert_allclose(np.cov((out[site == "B"] / scale).T), target, atol=1e-4)


def test_coral_with_few_controls_leaves_the_rest_alone():
    rng = np.random.default_rng(0)
    x, site = rng.normal(size=(80, 100)), np.repeat(["A", "B"], 40)
    fitted = Coral("A").fit(table_of(x, site))
    assert fitted.diagnostics["rank"] == 20
    assert any("aligned there, only shifted elsewhere" in w for w in fitted.warnings)
    assert 0 < fitted.diagnostics["batches"]["B"]["shrinkage"] <= 1
    with pytest.raises(AdaptError, match="no site C to align the others with"):
        Coral("C").fit(table_of(x, site))


# ---------------------------------------------------------------- ComBat

# First four values of feature 0 and the sum of all, from neuroCombat 0.2.12 (MIT) on its own test data: batch = 5 + 5
# samples, gender as a covariate. Its np.int was replaced by int, nothing else.
NEUROCOMBAT = {
    "parametric": ({}, True, [8.048493, 6.237535, 7.950612, 4.126998], 11124.331869453514),
    "reference": ({"reference": 0}, True, [3.018746, 1.215514, 2.920543, -0.901970], 2855.574876161151),
    "mean only": ({"mean_only": True}, True, [8.095641, 6.292409, 7.997438, 4.174925], 11134.820218495346),
    "no EB": ({"prior": "none"}, True, [8.045188, 5.791255, 7.965781, 4.079048], 11134.820218495344),
    "no covariate": ({}, False, [7.809688, 5.591836, 7.688905, 2.987476], 11138.675594898901),
    "nonparametric": (
        {"prior": "nonparametric"},
        True,
        [7.908413, 5.929019, 7.817557, 3.969942],
        11151.281479243175,
    ),
    "reference, mean only": (
        {"reference": 1, "mean_only": True},
        True,
        [12.945422, 11.142190, 12.847219, 9.024706],
        19499.090652795447,
    ),
}


@pytest.fixture
def neurocombat(real_data):
    x = pd.read_csv(real_data("tables/neurocombat/testdata.csv")).to_numpy().T
    gender = (np.tile([1, 2], 5) == 2).astype(float)[:, None]
    return x, np.repeat([0, 1], 5), gender


@pytest.mark.real_data
@pytest.mark.parametrize("variant", NEUROCOMBAT)
def test_combat_is_neurocombat(variant, neurocombat):
    x, batch, gender = neurocombat
    how, with_gender, first, total = NEUROCOMBAT[variant]
    out = combat(x, batch, gender if with_gender else None, **how)
    np.testing.assert_allclose(out[:4, 0], first, atol=6e-7)
    assert out.sum() == pytest.approx(total, abs=1e-10 * abs(total))
    if variant == "reference":
        np.testing.assert_array_equal(out[:5], x[:5])


@pytest.mark.real_data
def test_combat_is_sva(real_data):
    oracle = np.load(real_data("tables/dascombat/sva_oracle.npz"))
    out = combat(oracle["X_features_by_samples"].T, oracle["batch"] - 1)
    np.testing.assert_allclose(out.T, oracle["sva_combat_parametric"], rtol=0, atol=1e-10)


HOW = {
    "parametric": ({}, {}),
    "nonparametric": ({"parametric": False}, {"prior": "nonparametric"}),
    "mean only": ({"mean_only": True}, {"mean_only": True}),
    "no EB": ({"empirical_bayes": False}, {"prior": "none"}),
    "reference": ({"reference_batch": "B"}, {"reference": 1}),
}


@pytest.mark.parametrize("variant", HOW)
def test_the_class_on_a_table_is_the_function(variant):
    x, site = two_sites(40, 12)
    settings_of_class, how = HOW[variant]
    out = ComBat(**settings_of_class).fit_transform(table_of(x, site)).X
    np.testing.assert_allclose(out, combat(x, (site == "B").astype(int), **how), atol=1e-5)


def test_covariates_are_fitted_on_controls_and_not_asked_for_later():
    rng = np.random.default_rng(0)
    kind = np.r_[np.repeat([0, 1], [90, 30]), np.repeat([0, 1], [30, 90])]
    site = np.repeat(["A", "B"], 120)
    x = rng.normal(size=(240, 4)) * 0.3
    x[:, 0] += 4 * kind  # tissue differs, sites don't
    table = table_of(x, site, kind=np.where(kind, "stroma", "epithelium"))
    fitted = ComBat().fit(table, covariates=("kind",))
    late = table.copy()
    late.obs["kind"] = None
    out = fitted.transform(late).X
    np.testing.assert_array_equal(out, fitted.transform(table).X)

    def gap(z):
        return abs(z[(site == "A") & (kind == 0), 0].mean() - z[(site == "B") & (kind == 0), 0].mean())

    assert gap(out) < 0.3 < 1 < gap(ComBat().fit_transform(table).X)
    tied = table.copy()
    tied.obs["kind"] = tied.obs["site"].to_numpy()
    with pytest.raises(AdaptError, match="kind and site are tied"):
        ComBat().fit(tied, covariates=("kind",))
    unknown = table_of(x[:40] + 1, np.repeat("C", 40), kind=np.repeat("fat", 40))
    with pytest.raises(AdaptError, match=r"a kind \(fat\) that the correction was not fitted with"):
        fitted.add_batches(unknown)
    joined = fitted.add_batches(table_of(x[:40] + 1, np.repeat("C", 40), kind=np.repeat("stroma", 40)))
    assert joined.batches == ["A", "B", "C"]


def test_flat_features_stay_as_they_are():
    x, site = two_sites(40, 5)
    x[:, 2] = 7.0
    out = ComBat().fit_transform(table_of(x, site)).X
    np.testing.assert_array_equal(out[:, 2], 7.0)
    assert np.isfinite(out).all()


# ---------------------------------------------------------------- Harmony


@pytest.fixture(scope="module")
def pbmc():
    from tests.conftest import real_path

    folder = "tables/harmonypy-pbmc/pbmc_3500"
    read = [
        pd.read_csv(real_path(f"{folder}_{name}.tsv.gz"), sep="\t")
        for name in ("pcs", "pcs_harmonized", "meta")
    ]
    return read[0].to_numpy(), read[1].to_numpy(), read[2]["donor"].to_numpy().astype(str)


def per_component(a, b):
    return np.array([np.corrcoef(a[:, i], b[:, i])[0, 1] for i in range(a.shape[1])])


@pytest.mark.real_data
def test_harmony_agrees_with_the_published_result_in_every_component(pbmc, tmp_path):
    pcs, published, donor = pbmc
    assert per_component(pcs, published).min() < 0.8
    table = anndata.AnnData(pcs, obs=pd.DataFrame({"site": donor}, index=[f"c{i}" for i in range(len(pcs))]))
    fitted = Harmony(n_components=None).fit(table)
    out = fitted.transform(table).X
    assert per_component(out, published).min() >= 0.99
    # row by row, in any order, and from the file: the same
    some = np.random.default_rng(0).permutation(len(pcs))[:200]
    again = adapt.load(fitted.save(tmp_path / "harmony")).transform(table[some].copy()).X
    np.testing.assert_allclose(again, out[some], rtol=1e-5, atol=1e-4)


def test_harmony_says_what_it_cannot_do():
    x, site = two_sites(60)
    with pytest.raises(AdaptError, match="fit it anew on all of them"):
        Harmony().fit(table_of(x, site)).add_batches(table_of(x, site))
    with pytest.raises(AdaptError, match="at least two different sites"):
        Harmony().fit(table_of(x, np.repeat("A", 120)))
    with pytest.raises(AdaptError, match="Class and site are fully tied"):
        Harmony().fit(table_of(x, site, label=site))
    broken = x.copy()
    broken[3, 2] = np.nan
    with pytest.raises(AdaptError, match="1 tiles have missing features"):
        Harmony().fit(table_of(broken, site))
    assert any("baseline" in w for w in Harmony().fit(table_of(x, site)).warnings)


def test_replayed_rounds_are_what_the_fit_found():
    rng = np.random.default_rng(0)
    z = rng.normal(size=(600, 8)) + 6 * np.eye(8)[rng.integers(0, 4, 600)]
    batch = np.tile([0, 1], 300)
    z[batch == 1, 5] += 3
    from napari_batchfx.adapt.harmony_model import replay

    rounds, corrected = fit_rounds(z, batch)
    assert per_component(replay(z, batch, rounds, 0.1), corrected).min() > 0.999
    gap = abs(corrected[batch == 0, 5].mean() - corrected[batch == 1, 5].mean())
    assert gap < 0.3


# ---------------------------------------------------------------- what holds for all


@pytest.mark.parametrize("method", METHODS)
def test_labels_are_never_looked_at_and_the_same_seed_gives_the_same(method, make_batches):
    """Labels planted on the slides to be predicted, right, wrong or none: the numbers don't move by a bit."""
    table = make_batches(slides=8, tiles=40, mixing=0.4)
    place = table.obs["row"].astype(str) + "," + table.obs["col"].astype(str)
    table.obs["pair"] = place + "/" + (table.obs["slide"].str[1:].astype(int) // 2).astype(str)
    first = make_correction(method).fit_transform(table).X
    planted = table.copy()
    others = (table.obs["site"] == "UMC").to_numpy()
    rng = np.random.default_rng(5)
    label = planted.obs["label"].to_numpy(dtype=object).copy()
    label[others] = rng.choice(["tumour", "normal", "necrosis"], others.sum())
    planted.obs["label"] = label
    np.testing.assert_array_equal(make_correction(method).fit_transform(planted).X, first)
    del planted.obs["label"]
    np.testing.assert_array_equal(make_correction(method).fit_transform(planted).X, first)


@settings(max_examples=15, deadline=None)
@given(
    method=st.sampled_from(CONTROL_METHODS),
    seed=st.integers(0, 10_000),
    shift=st.floats(-50, 50),
    scale=st.floats(0.1, 10),
)
def test_a_batch_that_is_shifted_and_scaled_comes_out_the_same(method, seed, shift, scale):
    """Controls see a whole batch's shift (and, without shrinkage across features, its scale): it is taken away."""
    x, site = two_sites(60, 4, seed)
    plain = make_correction(method).fit_transform(table_of(x, site)).X
    moved = x.copy()
    factor = scale if method.startswith("standardize") else 1.0
    moved[site == "B"] = moved[site == "B"] * factor + shift
    out = make_correction(method).fit_transform(table_of(moved, site)).X

    # a mean over batches moves with the batch: what is compared is how batches lie to each other
    def lie(z):
        return z[site == "B"] - z[site == "A"].mean(axis=0)

    size = np.abs(lie(plain)).max()
    tolerance = 0.6 if method == "combat" else 2e-3  # empirical Bayes leaves part of an odd shift
    assert np.abs(lie(out) - lie(plain)).max() < tolerance * max(size, 1.0)


@settings(max_examples=10, deadline=None)
@given(method=st.sampled_from(CONTROL_METHODS), seed=st.integers(0, 10_000))
def test_rows_are_corrected_one_by_one(method, seed):
    x, site = two_sites(40, 5, seed)
    table = table_of(x, site, np.arange(len(x)) % 40 < 30)
    fitted = make_correction(method).fit(table)
    whole = fitted.transform(table).X
    some = np.random.default_rng(seed).choice(len(x), 11, replace=False)
    np.testing.assert_allclose(fitted.transform(table[some].copy()).X, whole[some], rtol=1e-5, atol=1e-4)


def test_combat_takes_a_shift_of_nothing(recwarn):
    """The relative change of a shift that is exactly 0 was 0 / 0, and the rounds went on to the last."""
    rng = np.random.default_rng(0)
    z = rng.normal(size=(40, 6))
    whole = rng.integers(-3, 4, size=(20, 3)).astype(float)
    z[:, :3] = np.concatenate([whole, -whole])  # mean exactly 0
    shift, variance = batch_effect(z[:, :3])
    assert (shift == 0).all()
    assert np.isfinite(variance).all()
    shift, variance = batch_effect(z)
    assert np.isfinite(shift).all()
    assert not [w for w in recwarn if issubclass(w.category, RuntimeWarning)]
