"""batchfx-mini: what is in the package, how it is loaded, how good it is, and the code that trained it."""

from __future__ import annotations

import hashlib
import json
import socket
import subprocess
import tomllib
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from napari_batchfx.encoders import available, describe, download, load
from napari_batchfx.encoders.built_in import MINI_WEIGHTS
from napari_batchfx.errors import EncoderError
from napari_batchfx.jobs import run

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture(scope="module")
def mini():
    with load("batchfx-mini", device="cpu") as encoder:
        yield encoder


def header():
    from safetensors import safe_open

    with safe_open(MINI_WEIGHTS, framework="numpy") as file:
        return file.metadata(), {key: file.get_tensor(key) for key in file.keys()}  # noqa: SIM118 - no mapping


def test_small_enough_for_a_wheel():
    _, tensors = header()
    assert MINI_WEIGHTS.stat().st_size <= 6_000_000
    learned = [v for k, v in tensors.items() if "running_" not in k and "num_batches" not in k]
    assert sum(v.size for v in learned) <= 3_000_000
    assert {v.dtype for v in learned if v.ndim > 1} == {np.dtype(np.float16)}
    assert all(np.isfinite(v).all() for v in tensors.values())
    assert any("running_var" in key for key in tensors)  # BatchNorm: what statistics can be adapted in


def test_the_header_says_what_it_is(mini):
    said, _ = header()
    own, config = json.loads(said["batchfx"]), json.loads(said["pretrained_cfg"])
    assert said["architecture"] == "mobilenetv4_conv_small"
    assert (own["mpp"], own["input_px"], own["licence"], own["version"]) == (0.5, 224, "BSD-3-Clause", 3)
    assert {"phantom", "CMU-1", "OS-1", "osteosarcoma"} <= set(own["trained_on"])
    assert not any(
        "camelyon" in name or "mitos" in name or "crc" in name for name in map(str.lower, own["trained_on"])
    )
    assert (mini.dim, mini.input_px, mini.mpp) == (own["dim"], 224, 0.5)
    assert mini.dim == own["projected"] < 1280  # the last layer is part of the encoder and no classifier
    assert mini.head is None
    assert mini.mean == tuple(config["mean"])
    assert mini.std == tuple(config["std"])
    assert mini.warnings == []
    assert not mini.is_random
    digest = hashlib.sha256(MINI_WEIGHTS.read_bytes()).hexdigest()
    assert mini.key.startswith(f"timm/batchfx-mini/v3/sha256:{digest[:32]}/fp32/pooled/")


def test_it_is_listed_as_built_in(mini):
    card = describe("batchfx-mini")
    assert (card.source, card.cached, card.loadable, card.gated) == ("built in", True, True, False)
    assert (card.dim, card.input_px, card.mpp, card.size_bytes) == (
        mini.dim,
        224,
        0.5,
        MINI_WEIGHTS.stat().st_size,
    )
    assert card.licence == mini.licence == "BSD-3-Clause"
    assert "batchfx-mini" in list(available()["name"][:2])
    with pytest.raises(EncoderError, match="batchfx-mini is built in; there is nothing to download"):
        run(download("batchfx-mini"))


def test_no_network_is_touched(monkeypatch):
    def refuse(*_, **__):
        raise AssertionError("the network was asked")

    monkeypatch.setattr(socket.socket, "connect", refuse)
    monkeypatch.setattr(socket, "getaddrinfo", refuse)
    monkeypatch.setenv("HF_ENDPOINT", "http://127.0.0.1:9")
    with load("batchfx-mini") as encoder:
        assert encoder.embed(np.full((1, 224, 224, 3), 200, np.uint8)).shape == (1, encoder.dim)


def test_missing_weights_are_said(monkeypatch, tmp_path):
    from napari_batchfx.encoders import built_in

    monkeypatch.setattr(built_in, "MINI_WEIGHTS", tmp_path / "gone.safetensors")
    assert not describe("batchfx-mini").loadable
    with pytest.raises(EncoderError, match="missing from this installation; install napari-batchfx again"):
        load("batchfx-mini")
    (tmp_path / "gone.safetensors").write_bytes(b"not a model")
    with pytest.raises(EncoderError):
        describe("batchfx-mini")


def test_the_same_numbers_again_and_in_any_batch(mini):
    tiles = np.random.default_rng(0).integers(0, 256, (5, 224, 224, 3), dtype=np.uint8)
    together = mini.embed(tiles)
    np.testing.assert_array_equal(together, mini.embed(tiles))
    alone = np.concatenate([mini.embed(tile[None]) for tile in tiles])
    np.testing.assert_allclose(alone, together, atol=1e-4 * np.abs(together).max())
    with load("batchfx-mini", device="cpu") as other:
        assert other.key == mini.key
        np.testing.assert_array_equal(other.embed(tiles), together)


def test_equal_to_timm_and_hooks(mini):
    """The vector put together from timm's own network, its levels watched from outside."""
    import timm
    import torch
    from safetensors.torch import load_file

    weights = {k: v.float() if v.is_floating_point() else v for k, v in load_file(MINI_WEIGHTS).items()}
    last = torch.nn.Linear(weights["classifier.weight"].shape[1], mini.dim)
    last.load_state_dict({k: weights.pop(f"classifier.{k}") for k in ("weight", "bias")})
    model = timm.create_model("mobilenetv4_conv_small", pretrained=False, num_classes=0)
    model.load_state_dict(weights)
    levels = []
    for part in (model.bn1, *model.blocks):
        part.register_forward_hook(lambda _, __, output: levels.append(output))
    tiles = np.random.default_rng(1).integers(0, 256, (3, 224, 224, 3), dtype=np.uint8)
    x = (
        torch.from_numpy(tiles).permute(0, 3, 1, 2).float() / 255 - torch.tensor(mini.mean).view(3, 1, 1)
    ) / torch.tensor(mini.std).view(3, 1, 1)
    with torch.inference_mode():
        parts = [model.eval()(x)]
        for level in levels:
            parts += [level.mean((2, 3)), level.std((2, 3), correction=0)]
        np.testing.assert_allclose(mini.embed(tiles), last(torch.cat(parts, 1)).numpy(), atol=1e-3)


@pytest.mark.parametrize("grey", [0, 128, 255])
def test_blank_tiles_give_numbers(mini, grey):
    for side in (64, 224, 512):
        assert np.isfinite(mini.embed(np.full((1, side, side, 3), grey, np.uint8))).all()


def test_wheel_and_sdist_hold_the_weights():
    """Hatch packs what lies in the package's folder, but for what is excluded or what git ignores."""
    build = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["tool"]["hatch"]["build"]
    assert build["targets"]["wheel"] == {"packages": ["src/napari_batchfx"]}
    assert not {"include", "only-include", "exclude", "artifacts"} & (
        set(build) | set(build["targets"]["wheel"])
    )
    own = MINI_WEIGHTS.resolve().relative_to(ROOT)
    assert own.parts[:2] == ("src", "napari_batchfx")
    assert not any(
        own.as_posix().startswith(path.strip("/")) for path in build["targets"]["sdist"]["exclude"]
    )
    if (ROOT / ".git").exists():
        ignored = subprocess.run(["git", "check-ignore", "-q", str(own)], cwd=ROOT, check=False)
        assert ignored.returncode == 1


# how good it is: on tiles that it was neither trained on nor chosen by


@pytest.fixture(scope="module")
def embedders(mini):
    from benchmarks.encoders.mini_quality import in_batches

    with load("colour-statistics") as colour, load("batchfx-mini", pretrained=False, device="cpu") as random:
        yield {"mini": in_batches(mini), "colour": in_batches(colour), "random": in_batches(random)}


def values(embedders, sets, repeats=3):
    from benchmarks.encoders.mini_quality import measure

    found = {name: measure(embed, sets, repeats) for name, embed in embedders.items()}
    return {row: {name: found[name][row]["value"] for name in found} for row in found["mini"]}


def test_training_helps_on_colorectal_tissue(embedders, real_data):
    from benchmarks.encoders.labelled import colorectal

    real_data("tiles/crc_val_he_7k/metadata.csv")
    data = real_data("tiles").parent
    for row, value in values(embedders, {"colorectal": colorectal(data)}).items():
        assert value["mini"] > value["random"] + 0.3, (row, value)
        assert value["mini"] > 0.75, (row, value)


@pytest.mark.parametrize("probe", ["nearest neighbours", "linear probe"])
def test_better_than_colour_on_colorectal_tissue(embedders, real_data, probe):
    from benchmarks.encoders.labelled import colorectal

    real_data("tiles/crc_val_he_7k/metadata.csv")
    data = real_data("tiles").parent
    few = {name: embed for name, embed in embedders.items() if name != "random"}
    found = values(few, {"colorectal": colorectal(data)}, repeats=10)
    ((row, value),) = [(row, value) for row, value in found.items() if row.endswith(probe)]
    assert value["mini"] > value["colour"], (row, value)


def test_better_across_two_hospitals(embedders, real_data):
    from benchmarks.encoders.labelled import lymph_nodes

    real_data("tiles/camelyon17/tiles.csv")
    data = real_data("tiles").parent
    found = values(embedders, {"lymph nodes": lymph_nodes(data)})
    means = {row: value for row, value in found.items() if "mean of both" in row}
    assert len(means) == 2
    for row, value in means.items():
        assert value["mini"] > max(value["colour"], value["random"]), (row, value)


def test_it_carries_the_scanner(embedders, real_data):
    from benchmarks.encoders.labelled import mitoses
    from benchmarks.encoders.mini_quality import scanner_probe

    real_data("tiles/mitoses-three-scanners/tiles.csv")
    tiles = mitoses(real_data("tiles").parent)
    result = scanner_probe(embedders["mini"](tiles.tiles), tiles, permutations=0)
    assert result.grouped_by == "patient"
    assert result.balanced_accuracy >= 0.9


# the code that trained it


@pytest.fixture(scope="module")
def patches():
    from tools.mini.patches import Patches

    blocks = np.random.default_rng(0).integers(0, 256, (12, 28, 28, 3), dtype=np.uint8)
    pixels = blocks.repeat(8, axis=1).repeat(8, axis=2)
    index = np.arange(12)
    return Patches(pixels, np.full(12, 0.5, np.float32), index, index, index // 6, ("phantom", "real"))


@pytest.fixture
def recipe():
    from tools.mini.training import Recipe
    from tools.mini.views import ViewSettings

    return Recipe(
        architecture="mobilenetv4_conv_small_035", steps=4, places=4, warmup=1, views=ViewSettings(px=64)
    )


@pytest.mark.parametrize("told", ["colour", "all"])
def test_a_resumed_training_ends_in_the_same_bits(patches, recipe, tmp_path, told):
    import torch
    from tools.mini.training import Training

    recipe = replace(recipe, told=told, views=replace(recipe.views, look=0.3 * (told == "all")))
    whole = Training(recipe, patches, threads=1)
    whole.run()
    begun = Training(recipe, patches, threads=1)
    begun.run(2)
    begun.save(tmp_path)
    assert not list(tmp_path.glob("*.part"))
    resumed = Training(recipe, patches, threads=1)
    resumed.load(tmp_path)
    assert resumed.step == 2
    resumed.run()
    for ours, theirs in (
        (resumed.average, whole.average),
        (resumed.learner.state_dict(), whole.learner.state_dict()),
    ):
        for key, value in theirs.items():
            assert torch.equal(ours[key], value), key
    with pytest.raises(ValueError, match="another recipe"):
        Training(replace(recipe, steps=9), patches, threads=1).load(tmp_path)


def test_a_stage_starts_from_the_weights_of_the_one_before(patches, recipe, tmp_path):
    import torch
    from tools.mini import shipping
    from tools.mini.training import Training

    first = Training(replace(recipe, steps=1), patches, threads=1)
    first.run()
    begin = shipping.weights(shipping.save(first, tmp_path / "first.safetensors"))
    second = Training(replace(recipe, begun="abc"), patches, threads=1, begin=begin)
    for key, value in second.learner.network.state_dict().items():
        assert torch.allclose(value.float(), first.average[key].float(), rtol=2e-3, atol=1e-4), key


def said_of(path):
    from safetensors import safe_open

    with safe_open(path, framework="numpy") as file:
        return file.metadata()


def test_what_is_shipped_loads_as_it_was_trained(patches, recipe, tmp_path):
    import torch
    from tools.mini import readout, shipping
    from tools.mini.training import Training

    training = Training(recipe, patches, threads=1)
    training.run()
    own = readout.Recipe(tiles=64, told=8, left=4)
    tiles = readout.make_tiles(patches, recipe.views, own.tiles, own.seed, tmp_path / "tiles", threads=1)
    again = readout.make_tiles(patches, recipe.views, own.tiles, own.seed, tmp_path / "tiles", threads=1)
    np.testing.assert_array_equal(tiles.pixels, again.pixels)
    readout_tiles, network = tiles, shipping.finish(training, tiles, own)
    path = shipping.write(network, recipe, patches, tmp_path / "own.safetensors")
    tiles = patches.pixels[:2]
    x = (tiles.astype(np.float32) / 255 - np.float32(shipping.MEAN)) / np.float32(shipping.STD)
    with torch.inference_mode():
        expected = network(torch.from_numpy(x).permute(0, 3, 1, 2)).numpy()
    with load(path, device="cpu") as encoder:
        found = encoder.embed(tiles)
    assert found.shape == (2, 12)
    similar = (found * expected).sum(1) / np.linalg.norm(found, axis=1) / np.linalg.norm(expected, axis=1)
    assert similar.min() > 0.999  # half precision
    # the last layer alone, fitted anew: the same network, and what is said of its training
    again, trained = shipping.with_last_layer(path, readout_tiles, own)
    with torch.inference_mode():
        found = again(torch.from_numpy(x).permute(0, 3, 1, 2)).numpy()
    np.testing.assert_allclose(found, expected, rtol=0.05, atol=0.05)
    other = shipping.write(again, trained, patches, tmp_path / "again.safetensors")
    assert said_of(other) == said_of(path)


def test_views_follow_from_seed_and_step(patches):
    from tools.mini.views import ViewMaker, ViewSettings

    settings = ViewSettings(px=64)
    one, _ = ViewMaker(patches, settings, seed=3).batch(7, 4)
    assert one.shape == (8, 64, 64, 3)
    np.testing.assert_array_equal(one, ViewMaker(patches, settings, seed=3, threads=1).batch(7, 4)[0])
    assert not np.array_equal(one, ViewMaker(patches, settings, seed=3).batch(8, 4)[0])
    # without any change of colour a view holds the patch's own pixels
    plain = ViewSettings(px=64, stain=0.0, light=0.0, blur=0.0)
    view, _ = ViewMaker(patches, plain, seed=0).batch(0, 2)
    from tools.mini.views import MEAN, STD

    grey = (view * np.array(STD) + np.array(MEAN)) * 255
    assert -1 <= grey.min() < grey.max() <= 256


def test_losses_against_their_definitions():
    import torch
    from tools.mini.objective import contrast

    z = torch.nn.functional.normalize(torch.randn(6, 5, generator=torch.Generator().manual_seed(0)), dim=1)
    expected = 0.0
    for i in range(6):
        others = [j for j in range(6) if j != i]
        top = torch.exp(z[i] @ z[(i + 3) % 6] / 0.2)
        expected -= float(torch.log(top / sum(torch.exp(z[i] @ z[j] / 0.2) for j in others))) / 6
    assert float(contrast(z, 0.2)) == pytest.approx(expected, rel=1e-5)


def test_shares_of_a_view_against_counting():
    """A view of three flat colours: how much of it has which strength is known."""
    import torch
    from tools.mini.appearance import _composition, _shares, stains

    image = torch.zeros(1, 3, 4, 4)
    image[0, 2, :2] = 0.3  # on a bin's centre
    image[0, 2, 2:] = 0.4  # half way between two
    m = _composition(image)[0].square()
    assert m[0].tolist() == pytest.approx([0, 0, 0.75, 0.25, 0, 0], abs=1e-6)
    values = torch.rand(2, 5, 5) * 3 - 1
    assert torch.allclose(_shares(values, (0.0, 0.5, 1.0)).sum(0), torch.ones(2, 5, 5), atol=1e-6)
    # light that went through haematoxylin alone has no eosin
    from napari_batchfx.encoders.colour_statistics import RUIFROK

    h = np.array(RUIFROK[0]) / np.linalg.norm(RUIFROK[0])
    light = torch.tensor((256 * np.exp(-0.7 * h) - 1) / 255).float().view(1, 3, 1, 1)
    assert stains(light)[0, :2, 0, 0].tolist() == pytest.approx([0.7, 0.0], abs=1e-4)


@pytest.mark.parametrize("px", [64, 224])
def test_what_is_told_is_finite_and_knows_no_up_and_down(px):
    from tools.mini.appearance import appearance_of

    rng = np.random.default_rng(0)
    block = rng.integers(0, 240, (2, px // 8, px // 8, 3), dtype=np.uint8).repeat(8, 1).repeat(8, 2)
    block += rng.integers(
        0, 16, block.shape, dtype=np.uint8
    )  # no two pixels alike: which is the largest is clear
    plain = np.full((2, px, px, 3), 255, np.uint8)
    plain[1] = 0
    both = appearance_of(np.concatenate([block, plain]))
    assert np.isfinite(both).all()
    np.testing.assert_allclose(appearance_of(block[:, ::-1, ::-1]), both[:2], atol=2e-3)
    np.testing.assert_allclose(appearance_of(block.transpose(0, 2, 1, 3)), both[:2], atol=2e-3)
    assert both.shape[1] == appearance_of(plain).shape[1]


def test_the_readout_finds_what_is_linear():
    from tools.mini.readout import components, ridge, standardised

    rng = np.random.default_rng(0)
    x = rng.normal(size=(400, 6))
    w = rng.normal(size=(6, 3))
    np.testing.assert_allclose(ridge(x, x @ w, 1e-9), w, atol=1e-6)
    z = standardised(x @ w + 3)
    np.testing.assert_allclose([z.mean(), z.std()], [0, 1], atol=0.02)
    directions, spread = components(z - z.mean(0), 3)
    np.testing.assert_allclose(directions.T @ directions, np.eye(3), atol=1e-9)
    scores = (z - z.mean(0)) @ directions
    np.testing.assert_allclose(scores.std(0), spread, rtol=1e-6)
    assert spread[0] >= spread[1] >= spread[2]


def test_a_shared_look_keeps_the_stains_apart(patches):
    """Both views of a place are changed alike: light stays light, and nothing is dark that was white."""
    from tools.mini.views import ViewMaker, ViewSettings, both

    maker = ViewMaker(patches, ViewSettings(px=64, look=0.3), seed=0)
    for seed in range(50):
        mix, shift, white = maker._shared_look(np.random.default_rng(seed))
        assert white.min() > 0.7
        assert np.isfinite(mix).all()
        assert not shift.any()  # glass stays glass
    own = (np.eye(3) * 2, np.ones(3), np.full(3, 0.5))
    mix, shift, white = both(own, (np.eye(3) * 3, np.ones(3), np.full(3, 0.5)))
    assert (mix[0, 0], shift[0], white[0]) == (6, 3, 0.25)  # 2 (3 od + 1) + 1
