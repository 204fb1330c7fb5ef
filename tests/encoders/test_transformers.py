"""Transformers models made on the spot, in the layout their repositories have: the library's own numbers."""

import json

import numpy as np
import pytest
from safetensors.torch import load_file, save_file

from napari_batchfx.encoders import EncoderSpec, describe, load
from napari_batchfx.encoders.making import make_job
from napari_batchfx.encoders.weights import from_folder
from napari_batchfx.errors import EncoderError
from napari_batchfx.jobs import run

transformers = pytest.importorskip("transformers")

PX, PATCH, DIM = 56, 14, 32
SIZES = {
    "hidden_size": DIM,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "image_size": PX,
    "patch_size": PATCH,
    "num_channels": 3,
}
MORE = {"vit": {"intermediate_size": 64}, "dinov2": {"mlp_ratio": 2, "use_swiglu_ffn": True}}
MORE["dinov2_with_registers"] = MORE["dinov2"] | {"num_register_tokens": 4}
MORE["dinov3_vit"] = {"intermediate_size": 64, "num_register_tokens": 4}
MEAN, STD = [0.7, 0.57, 0.72], [0.195, 0.23, 0.18]
OPTIONS = {"device": "cpu", "precision": "auto", "assembly": None, "mpp": None, "threads": None}


@pytest.fixture(scope="module")
def tiles():
    from skimage.data import immunohistochemistry

    image = immunohistochemistry()
    return np.stack([image[y : y + PX, x : x + PX] for y in (0, 200) for x in (0, 150, 300)])


def make_encoder(*arguments):
    return run(make_job(*arguments))


def make(kind, folder, seed=0, classes=0):
    """A random model of ``kind`` in a folder as its authors publish it, and the model itself."""
    import torch

    config = transformers.CONFIG_MAPPING[kind](**SIZES, **MORE[kind])
    if classes:
        config.num_labels = classes
        config.id2label = dict(enumerate(["tumour", "stroma", "fat"]))
    mapping = transformers.MODEL_FOR_IMAGE_CLASSIFICATION_MAPPING if classes else transformers.MODEL_MAPPING
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        model = mapping[type(config)](config).eval()
        with torch.no_grad():
            for name, value in model.named_parameters():  # zeros at the start hide what is left out
                if "register" in name or "cls_token" in name or name.endswith("bias") or "position" in name:
                    value.normal_(0, 0.5)
    model.save_pretrained(folder)
    (folder / "preprocessor_config.json").write_text(
        json.dumps(
            {
                "do_normalize": True,
                "image_mean": MEAN,
                "image_std": STD,
                "resample": 3,
                "size": {"height": PX, "width": PX},
            }
        )
    )
    return model


def tokens(model, tiles):
    """By hand: scale, normalise, run; the last hidden state of the model itself."""
    import torch

    values = (tiles.astype(np.float32) / 255 - np.array(MEAN, np.float32)) / np.array(STD, np.float32)
    with torch.inference_mode():
        return model(pixel_values=torch.from_numpy(values).permute(0, 3, 1, 2)).last_hidden_state.numpy()


@pytest.mark.parametrize("kind", list(MORE))
def test_vectors_are_put_together_by_hand(tmp_path, tiles, kind):
    model = make(kind, tmp_path)
    hidden = tokens(model, tiles)
    prefix = 1 + MORE[kind].get("num_register_tokens", 0)
    assert hidden.shape == (6, prefix + 16, DIM)
    cls, mean = hidden[:, 0], hidden[:, prefix:].mean(1)
    close = {"rtol": 1e-4, "atol": 1e-5}
    np.testing.assert_allclose(load(tmp_path).embed(tiles), cls, **close)
    np.testing.assert_allclose(load(tmp_path, assembly="cls").embed(tiles), cls, **close)
    both = load(tmp_path, assembly="cls+mean")
    np.testing.assert_allclose(both.embed(tiles), np.concatenate([cls, mean], 1), **close)
    np.testing.assert_allclose(load(tmp_path, assembly="mean").embed(tiles), mean, **close)
    if prefix == 5:  # the average with the registers in it is another one
        assert np.abs(hidden[:, 1:].mean(1) - mean).max() > 0.05
    assert (both.kind, both.dim, both.input_px) == ("transformers", 2 * DIM, PX)
    np.testing.assert_allclose(both.mean, MEAN)
    assert both.key.startswith(f"transformers/{tmp_path.name}/sha256:")
    assert not both.warnings


def row(kind, **more):
    values = {
        "name": "tiny", "title": "Tiny", "hub_id": "org/tiny", "dim": 2 * DIM, "assembly": "cls+mean", "prefix_tokens": 5,
        "norm": (tuple(MEAN), tuple(STD)), "licence": "MIT", "gated": False, "input_px": PX, "library": "transformers", "model_type": kind,
    }  # fmt: skip
    return EncoderSpec(**{**values, **more})


def test_a_row_that_reads_foreign_code_as_a_plain_model(tmp_path, tiles):
    """As Hibou is published: model_type dinov2, an auto_map to its own code, and register tokens."""
    model = make("dinov2_with_registers", tmp_path)
    config = json.loads((tmp_path / "config.json").read_text())
    config |= {"model_type": "dinov2", "auto_map": {"AutoModel": "modeling_dinov2.Dinov2ModelWithRegisters"}}
    config["architectures"] = ["Dinov2ModelWithRegisters"]
    (tmp_path / "config.json").write_text(json.dumps(config))
    (tmp_path / "modeling_dinov2.py").write_text("raise SystemExit('this must never run')")
    spec = row("dinov2_with_registers", published_model_type="dinov2")
    encoder = make_encoder(from_folder(tmp_path), "Tiny", "org/tiny", spec, OPTIONS)
    hidden = tokens(model, tiles)
    expected = np.concatenate([hidden[:, 0], hidden[:, 5:].mean(1)], 1)
    np.testing.assert_allclose(encoder.embed(tiles), expected, rtol=1e-4, atol=1e-5)
    assert not encoder.warnings
    with pytest.raises(EncoderError, match="program code from its repository"):
        load(tmp_path)  # without a row nothing says that a plain model would do


# names of a layer's tensors as histai/hibou-b publishes them (model.safetensors, commit 5cc6343)
LAYER = {
    *(f"{part}.{kind}" for kind in ("weight", "bias") for part in (
        "norm1", "norm2", "attention.attention.query", "attention.attention.key", "attention.attention.value",
        "attention.output.dense", "mlp.weights_in", "mlp.weights_out")),
    "layer_scale1.lambda1", "layer_scale2.lambda1",
}  # fmt: skip


def test_another_implementation_gives_the_same_numbers(tmp_path, tiles):
    """The same tensors in timm's own vision transformer, an independent implementation of the network."""
    import timm
    import torch
    from timm.models.vision_transformer import VisionTransformer

    make("dinov2_with_registers", tmp_path)
    published = load_file(tmp_path / "model.safetensors")
    own = {k.removeprefix("encoder.layer.0.") for k in published if k.startswith("encoder.layer.0.")}
    assert own == LAYER
    state = {
        # timm has no position for the class token here: it is added once and for all
        "cls_token": published["embeddings.cls_token"] + published["embeddings.position_embeddings"][:, :1],
        "pos_embed": published["embeddings.position_embeddings"][:, 1:],
        "reg_token": published["embeddings.register_tokens"],
    }
    for kind in ("weight", "bias"):
        state[f"patch_embed.proj.{kind}"] = published[f"embeddings.patch_embeddings.projection.{kind}"]
        state[f"norm.{kind}"] = published[f"layernorm.{kind}"]
        for i in range(2):
            here, there = f"encoder.layer.{i}.", f"blocks.{i}."
            qkv = [published[f"{here}attention.attention.{n}.{kind}"] for n in ("query", "key", "value")]
            state[f"{there}attn.qkv.{kind}"] = torch.cat(qkv)
            for a, b in (
                ("norm1", "norm1"), ("norm2", "norm2"), ("attention.output.dense", "attn.proj"),
                ("mlp.weights_in", "mlp.fc1"), ("mlp.weights_out", "mlp.fc2"),
            ):  # fmt: skip
                state[f"{there}{b}.{kind}"] = published[f"{here}{a}.{kind}"]
            state[f"{there}ls1.gamma"] = published[f"{here}layer_scale1.lambda1"]
            state[f"{there}ls2.gamma"] = published[f"{here}layer_scale2.lambda1"]
    twin = VisionTransformer(
        img_size=PX, patch_size=PATCH, embed_dim=DIM, depth=2, num_heads=2, init_values=1.0, num_classes=0,
        mlp_ratio=len(state["blocks.0.mlp.fc1.bias"]) / DIM, mlp_layer=timm.layers.SwiGLUPacked, act_layer=torch.nn.SiLU,
        reg_tokens=4, no_embed_class=True,
    ).eval()  # fmt: skip
    twin.load_state_dict(state, strict=True)
    values = (tiles / 255 - np.array(MEAN)) / np.array(STD)
    with torch.inference_mode():
        hidden = twin.forward_features(torch.from_numpy(values).float().permute(0, 3, 1, 2)).numpy()
    expected = np.concatenate([hidden[:, 0], hidden[:, 5:].mean(1)], 1)
    np.testing.assert_allclose(
        load(tmp_path, assembly="cls+mean").embed(tiles), expected, rtol=1e-3, atol=1e-4
    )


def test_rows_are_compared_with_the_processor(tmp_path):
    make("dinov2_with_registers", tmp_path)
    files = from_folder(tmp_path)
    other = row("dinov2_with_registers", norm=((0.5, 0.5, 0.5), tuple(STD)), interpolation="bilinear")
    encoder = make_encoder(files, "Tiny", "org/tiny", other, OPTIONS)
    assert len(encoder.warnings) == 2
    assert "the mean that came with the weights" in encoder.warnings[0]
    assert "bicubic resizing where bilinear is published" in encoder.warnings[1]
    np.testing.assert_allclose(encoder.mean, MEAN)
    with pytest.raises(EncoderError, match="5 class and register tokens where 1 are expected"):
        make_encoder(files, "Tiny", "org/tiny", row("dinov2_with_registers", prefix_tokens=1), OPTIONS)
    with pytest.raises(EncoderError, match="64 numbers a tile where its authors give 99"):
        make_encoder(files, "Tiny", "org/tiny", row("dinov2_with_registers", dim=99), OPTIONS)
    with pytest.raises(EncoderError, match="says dinov2_with_registers where vit is expected"):
        make_encoder(files, "Tiny", "org/tiny", row("vit"), OPTIONS)


def test_without_a_processor_the_row_fills_in(tmp_path, tiles):
    model = make("dinov2_with_registers", tmp_path)
    (tmp_path / "preprocessor_config.json").unlink()
    encoder = make_encoder(
        from_folder(tmp_path),
        "Tiny",
        "org/tiny",
        row("dinov2_with_registers", assembly="cls", dim=DIM),
        OPTIONS,
    )
    np.testing.assert_allclose(encoder.embed(tiles), tokens(model, tiles)[:, 0], rtol=1e-4, atol=1e-5)


def test_weights_in_several_pieces(tmp_path, tiles):
    whole, split = tmp_path / "whole", tmp_path / "split"
    whole.mkdir()
    model = make("dinov2", whole)
    model.save_pretrained(split, max_shard_size="40KB")
    assert len(list(split.glob("model-0*.safetensors"))) > 1
    (split / "preprocessor_config.json").write_bytes((whole / "preprocessor_config.json").read_bytes())
    one, several = load(whole), load(split)
    np.testing.assert_array_equal(one.embed(tiles), several.embed(tiles))
    assert describe(split).size_bytes == sum(p.stat().st_size for p in split.glob("*.safetensors"))
    key = several.key
    piece = sorted(split.glob("model-0*.safetensors"))[-1]
    state = load_file(piece)
    save_file({k: v + 1 for k, v in state.items()}, piece)
    assert load(split).key != key
    index = split / "model.safetensors.index.json"
    index.write_text("{}")
    with pytest.raises(EncoderError, match="no index of weights"):
        load(split)


def test_a_classifier_keeps_its_head(tmp_path, tiles):
    import torch

    model = make("vit", tmp_path, classes=3)
    encoder = load(tmp_path)
    values = (tiles.astype(np.float32) / 255 - np.array(MEAN, np.float32)) / np.array(STD, np.float32)
    with torch.inference_mode():
        logits = model(pixel_values=torch.from_numpy(values).permute(0, 3, 1, 2)).logits.numpy()
    assert encoder.head.class_names == ("tumour", "stroma", "fat")
    np.testing.assert_allclose(encoder.head.logits(encoder.embed(tiles)), logits, rtol=1e-3, atol=1e-4)


def test_refusals(tmp_path):
    make("dinov2", tmp_path)
    state = load_file(tmp_path / "model.safetensors")
    name = "encoder.layer.1.norm1.weight"
    save_file({k: v for k, v in state.items() if k != name}, tmp_path / "model.safetensors")
    with pytest.raises(
        EncoderError, match=r"doesn't fit the architecture: 1 tensor is missing.*layer\.1\.norm1\.weight"
    ):
        load(tmp_path)
    save_file(state | {"stranger.weight": state[name].clone()}, tmp_path / "model.safetensors")
    with pytest.raises(EncoderError, match=r"doesn't fit the architecture.*stranger"):
        load(tmp_path)
    save_file(state, tmp_path / "model.safetensors")
    config = json.loads((tmp_path / "config.json").read_text())
    for kind, match in (
        ("no_such_kind", "doesn't know no_such_kind"),
        ("bert", "takes no images|doesn't fit|can't build"),
    ):
        (tmp_path / "config.json").write_text(json.dumps(config | {"model_type": kind}))
        with pytest.raises(EncoderError, match=match) as error:
            load(tmp_path)
        assert "\n" not in str(error.value)


def test_without_transformers(tmp_path, monkeypatch):
    import importlib.util
    import sys

    make("vit", tmp_path)
    found = importlib.util.find_spec
    monkeypatch.setattr(
        importlib.util, "find_spec", lambda n, *a: None if n == "transformers" else found(n, *a)
    )
    monkeypatch.setitem(sys.modules, "transformers", None)
    with pytest.raises(EncoderError, match=r'with pip install "napari-batchfx\[transformers\]"'):
        load(tmp_path)
    assert describe("phikon").needs == 'pip install "napari-batchfx[transformers]"'
    assert describe(tmp_path).needs
    assert describe("uni").needs == ""
