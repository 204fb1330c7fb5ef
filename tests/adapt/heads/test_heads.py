"""Heads that adapt: what they reach on a new domain, what they must not depend on, files, cancelling."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.adapt.heads.worlds import accuracy, make_world

from napari_batchfx.adapt import (
    HEADS,
    AdaBNHead,
    ARMBNHead,
    CSARMBNHead,
    DANNHead,
    MLPHead,
    TrainingSettings,
    adapt_head_job,
    load_head,
)
from napari_batchfx.adapt.heads import layers
from napari_batchfx.errors import AdaptError
from napari_batchfx.jobs import run

SMALL = TrainingSettings(steps=80, hidden=(32, 16), targets=32, controls=48, domains=4)


@pytest.fixture(scope="module")
def world():
    return make_world([f"site {i}" for i in range(8)], seed=1), make_world(["new a", "new b"], seed=2)


@pytest.fixture(scope="module")
def heads(world):
    return {name: kind(SMALL).fit(world[0]) for name, kind in HEADS.items()}


def test_adapting_heads_carry_over_to_new_domains_and_the_others_do_not(world, heads):
    reached = {name: accuracy(head.predict(world[1]), world[1]) for name, head in heads.items()}
    # the classes are apart by construction: a classifier that knows the domain's map is nearly always right
    assert min(reached[name] for name in ("adabn", "armbn", "csarmbn")) > 0.9, reached
    assert max(reached["mlp"], reached["dann"]) < 0.85, reached


def test_controls_hold_the_predictions_where_the_classes_are_mixed_otherwise(world, heads):
    shifted = make_world(["uneven"], seed=5, mix=[0.94, 0.03, 0.03])
    with_controls = accuracy(heads["csarmbn"].predict(shifted), shifted)
    without = accuracy(heads["armbn"].predict(shifted), shifted)
    assert with_controls > 0.85
    assert without < with_controls - 0.2


@pytest.mark.parametrize("name", sorted(HEADS))
def test_same_seed_same_numbers(world, heads, name):
    again = HEADS[name](SMALL).fit(world[0])
    assert np.array_equal(again.predict(world[1]).proba, heads[name].predict(world[1]).proba)


@pytest.mark.parametrize("name", sorted(HEADS))
def test_labels_of_the_new_domain_move_nothing(world, heads, name):
    planted = world[1].copy()
    planted.obs["label"] = "class 2"
    assert np.array_equal(heads[name].predict(planted).proba, heads[name].predict(world[1]).proba)


@given(
    seed=st.integers(0, 2**16),
    chunk=st.integers(1, 300),
    way=st.sampled_from(["controls", "mixed", "targets"]),
)
@settings(max_examples=15, deadline=None)
def test_a_tile_is_predicted_the_same_in_any_order_and_chunk(world, heads, seed, chunk, way):
    table, head = world[1], heads["csarmbn"]
    whole = head._predict(table, None, None, way, None, 3)[0].proba
    order = np.random.default_rng(seed).permutation(table.n_obs)
    usual = layers.CHUNK
    layers.forward.__defaults__ = (chunk,)
    try:
        turned = head._predict(table[order].copy(), None, None, way, None, 3)[0].proba
    finally:
        layers.forward.__defaults__ = (usual,)
    assert np.abs(turned - whole[order]).max() < 1e-12


def test_context_of_the_training_tiles_is_plain_evaluation(world, heads):
    """The statistics of the training, found again as those of a context, give what evaluation mode gives."""
    import torch

    head = heads["csarmbn"]
    x = world[0].X[:500].astype(np.float64)
    w = {k: torch.from_numpy(v) for k, v in head._weights.items()}

    def block(i, norm, linear):
        norm.weight.data, norm.bias.data = w[f"g{i}"], w[f"c{i}"]
        linear.weight.data, linear.bias.data = w[f"w{i}"].T.contiguous(), w[f"b{i}"]

    first = torch.nn.BatchNorm1d(16, affine=False, momentum=None)
    linears = [torch.nn.Linear(16, 32), torch.nn.Linear(32, 16), torch.nn.Linear(16, 3)]
    norms = [torch.nn.BatchNorm1d(32, momentum=None), torch.nn.BatchNorm1d(16, momentum=None)]
    net = torch.nn.Sequential(
        first, linears[0], norms[0], torch.nn.ReLU(), linears[1], norms[1], torch.nn.ReLU(), linears[2]
    ).double()
    block(0, norms[0], linears[0])
    block(1, norms[1], linears[1])
    linears[2].weight.data, linears[2].bias.data = w["w2"].T.contiguous(), w["b2"]
    scaled = (torch.from_numpy(x) - w["centre"]) / w["scale"]
    net.train()
    net(scaled)  # collects running statistics of the context
    n = len(x)
    for norm in (first, *norms):
        norm.running_var *= (n - 1) / n  # torch keeps the unbiased variance, normalises with the other
    net.eval()
    with torch.no_grad():
        wanted = net(scaled).numpy()
    given_ = layers.forward(head._weights, x, layers.context_statistics(head._weights, x))
    assert np.abs(given_ - wanted).max() < 1e-9


def test_few_controls_are_blended_and_fewer_are_not_used(world, heads):
    head, table = heads["csarmbn"], world[1][world[1].obs["site"] == "new a"].copy()
    ways = {}
    for n in (80, 40, 10):
        mask = np.zeros(table.n_obs, bool)
        mask[:n] = True
        ways[n] = head.predict_ways(table, controls=mask)
    assert [ways[n].contexts[0].weight for n in (80, 40, 10)] == [1.0, 40 / 72, 0.0]
    assert ways[80].warnings == []
    assert "40 control samples are few" in ways[40].warnings[0]
    assert "too few to adapt" in ways[10].warnings[0]
    assert np.array_equal(ways[10].mixed.proba, ways[10].source.proba)
    assert ways[80].flipped().sum() > 0
    assert f"{int(ways[80].flipped('controls').sum())} change class" in ways[80].sentence


def test_tiles_without_a_domain_or_features_are_said(world, heads):
    table = world[1].copy()
    site = table.obs["site"].astype(object).to_numpy()
    site[:5] = ""
    table.obs["site"] = site
    table.X[7] = np.nan
    head = heads["csarmbn"]
    found = head.predict(table)
    assert not found.predicted[7]
    assert found.predicted[:5].all()
    assert any("no site" in w for w in head.warnings)
    assert any("missing features" in w for w in head.warnings)


def test_cancelled_training_keeps_the_best_so_far(world):
    head = CSARMBNHead(SMALL)
    job = head.fit_job(world[0])
    points = []
    for progress in job:
        if progress.partial is not None:
            points.append(progress.partial)
        if len(points) == 3:
            break
    job.close()
    assert [p.step for p in points] == [10, 20, 30]
    assert accuracy(head.predict(world[1]), world[1]) > 0.5
    assert head.curve[-1].best == min(p.validation for p in points)


@pytest.mark.parametrize("name", sorted(HEADS))
def test_a_head_comes_back_from_its_file(world, heads, name, tmp_path):
    path = heads[name].save(tmp_path / name)
    again = load_head(path)
    assert type(again) is HEADS[name]
    assert np.array_equal(again.predict(world[1]).proba, heads[name].predict(world[1]).proba)
    assert again.provenance == heads[name].provenance
    assert again.provenance["domains"]["site 0"]["controls"] == 80
    assert again.reference.names == heads[name].reference.names
    assert b"site 0-3" not in path.read_bytes()  # no patient


def test_a_head_of_another_encoder_is_refused_with_the_reason(world, heads, tmp_path):
    table = world[0].copy()
    table.uns["batchfx"] = {}
    head = heads["mlp"]
    path = tmp_path / "mlp.safetensors"
    head.encoder = "uni/1"
    try:
        head.save(path)
    finally:
        head.encoder = ""
    with pytest.raises(AdaptError, match=r"trained on features of uni/1, these are of virchow/2"):
        load_head(path, encoder="virchow/2")
    assert load_head(path, encoder="uni/1").encoder == "uni/1"
    with pytest.raises(AdaptError, match="vectors of 16 numbers"):
        heads["mlp"].predict(table[:, :4].copy())


def test_a_damaged_file_is_one_sentence(heads, tmp_path):
    path = heads["armbn"].save(tmp_path / "head")
    path.write_bytes(path.read_bytes()[:200])
    with pytest.raises(AdaptError, match="damaged"):
        load_head(path)


def test_training_says_what_is_missing(world):
    one = world[0][world[0].obs["label"] == "class 1"].copy()
    with pytest.raises(AdaptError, match="only class 1"):
        ARMBNHead(SMALL).fit(one)
    few = world[0].copy()
    few.obs["control"] = (few.obs["site"] != "site 3") & few.obs["control"]
    with pytest.raises(AdaptError, match="site 3 has 0 control samples"):
        CSARMBNHead(SMALL).fit(few)
    AdaBNHead(TrainingSettings(steps=2, hidden=(8, 8))).fit(few)
    for kind in (MLPHead, DANNHead):
        with pytest.raises(AdaptError, match="not been trained"):
            kind().predict(world[0])


def test_names_of_slides_stay_out_of_the_file(world, tmp_path):
    table = world[0].copy()
    table.obs["slide"] = ["secret-" + s for s in table.obs["site"]]
    head = MLPHead(TrainingSettings(steps=2, hidden=(8, 8))).fit(table, batch="slide")
    assert b"secret" not in head.save(tmp_path / "head").read_bytes()
    assert head.reference.names[0] == "slide 1"


def test_the_job_trains_adapts_judges_and_compares(world):
    import anndata

    table = anndata.concat(world)
    table.obs_names_make_unique()
    table.obs["slide"] = table.obs["site"]
    seen = sorted(set(world[0].obs["site"]))
    points = []
    result = run(
        adapt_head_job(table, train_slides=seen, method="csarmbn", settings=SMALL, n_bootstrap=100),
        lambda p: points.append(p.partial) if p.partial else None,
    )
    assert len(points) == 8
    assert result.target.sum() == world[1].n_obs
    assert result.comparison.balanced_accuracy_after.value > 0.9
    assert result.comparison.balanced_accuracy_before.value < 0.85
    assert result.changed.sum() == result.ways.flipped().sum() > 0
    assert set(result.judgements) == {"new a", "new b"}
    assert all(j.is_unlike for j in result.judgements.values())
    assert any("tells them apart" in w for w in result.warnings)
    uncertain = result.after.entropy[result.target]
    assert ((uncertain >= 0) & (uncertain <= 1)).all()
    again = run(adapt_head_job(table, train_slides=seen, method=result.head, n_bootstrap=100))
    assert np.array_equal(again.after.proba, result.after.proba, equal_nan=True)
    with pytest.raises(AdaptError, match="no classifier called 'forest'"):
        run(adapt_head_job(table, train_slides=seen, method="forest"))
