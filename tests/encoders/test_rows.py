"""Every row that can be loaded, by its name, from a hub: real widths and one block, against the vector made by hand."""

import dataclasses
import json

import numpy as np
import pytest

from napari_batchfx.encoders import ENCODERS, load, loading
from napari_batchfx.errors import EncoderError

from .hub_server import HubServer, use_hub

IMAGENET = ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))
BIOPTIMUS = ((0.707223, 0.578729, 0.703617), (0.211883, 0.230117, 0.177517))
HALF = ((0.5, 0.5, 0.5), (0.5, 0.5, 0.5))
LUNIT = ((0.70322989, 0.53606487, 0.66096631), (0.21716536, 0.26081574, 0.20723464))
HIBOU = ((0.7068, 0.5755, 0.722), (0.195, 0.2316, 0.1816))

GIANT = {"img_size": 224, "init_values": 1e-5, "mlp_ratio": 5.33334}
# name: architecture, its arguments (of the repository's config.json and of the model card's code together), mean and sd,
# patches, tokens that are no patches, vector, numbers in it. Written down from the model cards and from the loaders of
# eva, slide2vec and TRIDENT, not from the registry.
TIMM = {
    "uni": ("vit_large_patch16_224", {"init_values": 1e-5, "dynamic_img_size": True}, IMAGENET, 196, 1, "cls", 1024),
    "uni2-h": (
        "vit_giant_patch14_224",
        {**GIANT, "patch_size": 14, "num_heads": 24, "embed_dim": 1536, "no_embed_class": True, "reg_tokens": 8,
         "dynamic_img_size": True, "gated": True},
        IMAGENET, 256, 9, "cls", 1536,
    ),
    "virchow": (
        "vit_huge_patch14_224",
        {"img_size": 224, "init_values": 1e-5, "mlp_ratio": 5.3375, "global_pool": "", "dynamic_img_size": True, "gated": True},
        IMAGENET, 256, 1, "cls+mean", 2560,
    ),
    "virchow2": (
        "vit_huge_patch14_224",
        {"img_size": 224, "init_values": 1e-5, "mlp_ratio": 5.3375, "global_pool": "", "dynamic_img_size": True,
         "reg_tokens": 4, "gated": True},
        IMAGENET, 256, 5, "cls+mean", 2560,
    ),
    "h-optimus-0": ("vit_giant_patch14_reg4_dinov2", {"img_size": 224, "init_values": 1e-5}, BIOPTIMUS, 256, 5, "cls", 1536),
    "h-optimus-1": ("vit_giant_patch14_reg4_dinov2", {"img_size": 224, "init_values": 1e-5}, BIOPTIMUS, 256, 5, "cls", 1536),
    "h0-mini": (
        "vit_base_patch14_reg4_dinov2",
        {"img_size": 224, "init_values": 1e-5, "mlp_ratio": 5.33334, "gated": True},
        BIOPTIMUS, 256, 5, "cls", 768,
    ),
    "prov-gigapath": (
        "vit_giant_patch14_dinov2",
        {**GIANT, "in_chans": 3, "patch_size": 16, "embed_dim": 1536, "num_heads": 24},
        IMAGENET, 196, 1, "cls", 1536,
    ),
    "kaiko-s16": ("vit_small_patch16_224", {"dynamic_img_size": True}, HALF, 196, 1, "cls", 384),
    "kaiko-s8": ("vit_small_patch8_224", {"dynamic_img_size": True}, HALF, 784, 1, "cls", 384),
    "kaiko-b16": ("vit_base_patch16_224", {"dynamic_img_size": True}, HALF, 196, 1, "cls", 768),
    "kaiko-b8": ("vit_base_patch8_224", {"dynamic_img_size": True}, HALF, 784, 1, "cls", 768),
    "kaiko-l14": ("vit_large_patch14_reg4_dinov2", {"img_size": 518, "dynamic_img_size": True}, HALF, 256, 5, "cls", 1024),
    "lunit-s16": ("vit_small_patch16_224", {}, LUNIT, 196, 1, "cls", 384),
    "lunit-s8": ("vit_small_patch8_224", {}, LUNIT, 784, 1, "cls", 384),
    "gpfm": (
        "vit_large_patch14_dinov2", {"img_size": 224, "init_values": 1e-5, "dynamic_img_size": True}, IMAGENET, 256, 1, "cls", 1024,
    ),
}  # fmt: skip
# name: model type in the repository, width, arguments, mean and sd, patches, other tokens, vector, numbers in it
TRANSFORMERS = {
    "phikon": ("vit", {"hidden_size": 768, "patch_size": 16}, IMAGENET, 196, 1, "cls", 768),
    "phikon-v2": ("dinov2", {"hidden_size": 1024, "patch_size": 16}, IMAGENET, 196, 1, "cls", 1024),
    "midnight": ("dinov2", {"hidden_size": 1536, "use_swiglu_ffn": True}, HALF, 256, 1, "cls+mean", 3072),
    "hibou-b": ("dinov2", {"hidden_size": 768, "use_swiglu_ffn": True}, HIBOU, 256, 5, "cls", 768),
    "hibou-l": ("dinov2", {"hidden_size": 1024, "use_swiglu_ffn": True}, HIBOU, 256, 5, "cls", 1024),
}
SPECS = {spec.name: spec for spec in ENCODERS}


def test_every_row_is_tried():
    named = {spec.name for spec in ENCODERS if not spec.refused and not spec.timm_name}
    assert named == {*TIMM, *TRANSFORMERS}


@pytest.fixture(autouse=True)
def _quick_random_numbers(monkeypatch):
    """A truncated normal distribution is slow to draw, and what is drawn here is replaced by the weights."""
    import timm

    def normal(tensor, mean, std, *_):
        return tensor.normal_(mean, std)

    monkeypatch.setattr(timm.layers.weight_init, "_trunc_normal_", normal)


@pytest.fixture(scope="module")
def tile():
    from skimage.data import immunohistochemistry

    return immunohistochemistry()[None, 100:324, 60:284]


def by_hand(tokens, other, vector):
    if vector == "cls":
        return tokens[:, 0].numpy()
    return np.concatenate([tokens[:, 0].numpy(), tokens[:, other:].mean(1).numpy()], 1)


def prepared(tile, norm):
    import torch

    return torch.from_numpy(((tile / 255 - norm[0]) / norm[1]).astype(np.float32)).permute(0, 3, 1, 2)


def served(monkeypatch, tmp_path, spec, files):
    hub = HubServer({spec.hub_id: files}, gated={spec.hub_id} if spec.gated else ())
    use_hub(monkeypatch, hub.url, tmp_path / "cache")
    if spec.gated:
        with pytest.raises(EncoderError, match="accept their terms first"):
            load(spec.name)
        monkeypatch.setenv("HF_TOKEN", "let-me-in")
    return hub


@pytest.mark.parametrize("name", TIMM)
def test_rows_of_timm(name, tile, monkeypatch, tmp_path):
    import timm
    import torch
    from safetensors.torch import save

    architecture, arguments, norm, patches, other, vector, dim = TIMM[name]
    arguments = arguments | {"depth": 1}
    gated = (
        {"mlp_layer": timm.layers.SwiGLUPacked, "act_layer": torch.nn.SiLU}
        if arguments.pop("gated", False)
        else {}
    )
    torch.manual_seed(1)
    model = timm.create_model(architecture, pretrained=False, num_classes=0, **arguments, **gated).eval()
    with torch.no_grad():
        for parameter in model.parameters():  # registers and position embeddings begin near zero
            parameter.add_(0.02 * torch.randn(()))
    spec = SPECS[name]
    if "depth" in spec.model_kwargs:  # 24 blocks of 1,536 don't fit into a test
        short = dataclasses.replace(spec, model_kwargs={**spec.model_kwargs, "depth": 1})
        monkeypatch.setattr(loading, "find_spec", lambda _: short)
    weights = save(model.state_dict())
    config = {
        "architecture": architecture,
        "num_classes": 0,
        "model_args": arguments,
        "pretrained_cfg": {
            "input_size": [3, 224, 224],
            "mean": norm[0],
            "std": norm[1],
            "interpolation": "bicubic",
        },
    }
    if name == "gpfm":
        import io

        file = io.BytesIO()
        torch.save(model.state_dict(), file)
        files = {spec.weights_file: file.getvalue()}
        short = dataclasses.replace(spec, model_kwargs={**spec.model_kwargs, "depth": 1})
        monkeypatch.setattr(loading, "find_spec", lambda _: short)
    else:
        config["pretrained_cfg"]["interpolation"] = spec.interpolation or "bicubic"
        files = {"config.json": json.dumps(config).encode(), "model.safetensors": weights}
    hub = served(monkeypatch, tmp_path, spec, files)
    try:
        encoder = load(name, precision="fp32")
    finally:
        hub.close()
    assert encoder.warnings == []
    assert (encoder.dim, encoder.input_px, encoder.mpp, encoder.licence) == (dim, 224, 0.5, spec.licence)
    np.testing.assert_allclose((encoder.mean, encoder.std), norm)
    with torch.inference_mode():
        tokens = model.forward_features(prepared(tile, norm))
        assert tokens.shape[1] == patches + other
    np.testing.assert_allclose(encoder.embed(tile), by_hand(tokens, other, vector), rtol=1e-3, atol=1e-4)
    with_registers = by_hand(tokens, 1, "cls+mean")
    if vector == "cls+mean" or (spec.other_assemblies and dim < 1536):  # the large ones take seconds
        both = encoder if vector == "cls+mean" else load(name, precision="fp32", assembly="cls+mean")
        expected = by_hand(tokens, other, "cls+mean")
        np.testing.assert_allclose(both.embed(tile), expected, rtol=1e-3, atol=1e-4)
        if other > 1:
            assert np.abs(with_registers - expected).max() > 1e-3  # it would have been seen


@pytest.mark.parametrize("name", TRANSFORMERS)
def test_rows_of_transformers(name, tile, monkeypatch, tmp_path):
    transformers = pytest.importorskip("transformers")
    import torch
    from safetensors.torch import save

    kind, arguments, norm, patches, other, vector, dim = TRANSFORMERS[name]
    foreign = name.startswith("hibou")  # published with program code of its own
    own = "dinov2_with_registers" if foreign else kind
    config = transformers.CONFIG_MAPPING[own](
        **{
            "patch_size": 14,
            "num_hidden_layers": 1,
            "num_attention_heads": 12,
            "image_size": 224,
            **arguments,
        }
        | ({"num_register_tokens": 4} if foreign else {})
        | ({"num_attention_heads": 16} if arguments["hidden_size"] == 1024 else {})
    )
    torch.manual_seed(1)
    model = transformers.MODEL_MAPPING[type(config)](config).eval()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(0.02 * torch.randn(()))
    said = json.loads(config.to_json_string()) | {"model_type": kind}
    if foreign:
        said["auto_map"] = {"AutoModel": "modeling_hibou.HibouModel"}
    processor = {
        "image_mean": norm[0],
        "image_std": norm[1],
        "size": {"height": 224, "width": 224},
        "resample": 3,
    }
    files = {
        "config.json": json.dumps(said).encode(),
        "preprocessor_config.json": json.dumps(processor).encode(),
        "model.safetensors": save({k: v.contiguous() for k, v in model.state_dict().items()}),
    }
    spec = SPECS[name]
    hub = served(monkeypatch, tmp_path, spec, files)
    try:
        encoder = load(name, precision="fp32")
        assert not any(path.endswith(".py") for _, path in hub.requests)
    finally:
        hub.close()
    assert encoder.warnings == []
    assert (encoder.dim, encoder.input_px, encoder.mpp, encoder.licence) == (dim, 224, 0.5, spec.licence)
    with torch.inference_mode():
        tokens = model(pixel_values=prepared(tile, norm)).last_hidden_state
        assert tokens.shape[1] == patches + other
    np.testing.assert_allclose(encoder.embed(tile), by_hand(tokens, other, vector), rtol=1e-3, atol=1e-4)


def small_row(monkeypatch, tmp_path, pretrained, arguments=None, **row):
    """``load("lunit-s16")`` of a repository with these facts; a quarter of the width."""
    import timm
    from safetensors.torch import save

    arguments = {"depth": 1, "embed_dim": 96, "num_heads": 3} | (arguments or {})
    model = timm.create_model("vit_small_patch16_224", pretrained=False, num_classes=0, **arguments)
    config = {
        "architecture": "vit_small_patch16_224",
        "num_classes": 0,
        "model_args": arguments,
        "pretrained_cfg": pretrained,
    }
    spec = dataclasses.replace(SPECS["lunit-s16"], dim=96, **row)
    monkeypatch.setattr(loading, "find_spec", lambda _: spec)
    files = {"config.json": json.dumps(config).encode(), "model.safetensors": save(model.state_dict())}
    hub = served(monkeypatch, tmp_path, spec, files)
    try:
        return load("lunit-s16")
    finally:
        hub.close()


class TestDifferences:
    def test_what_came_with_the_weights_counts_and_is_told(self, monkeypatch, tmp_path):
        said = {"input_size": [3, 224, 224], "mean": [0.6, 0.5, 0.6], "std": [0.2, 0.2, 0.2]}
        encoder = small_row(monkeypatch, tmp_path, said)
        assert encoder.mean == (0.6, 0.5, 0.6)
        assert [w.split(" that came")[0] for w in encoder.warnings] == [
            "Lunit DINO ViT-S/16: the mean",
            "Lunit DINO ViT-S/16: the std",
        ]

    def test_an_architectures_default_is_not_what_the_authors_say(self, monkeypatch, tmp_path):
        """timm writes the architecture's own mean and sd beside weights whose maker set none."""
        encoder = small_row(
            monkeypatch, tmp_path, {"input_size": [3, 224, 224], "mean": [0.5] * 3, "std": [0.5] * 3}
        )
        np.testing.assert_allclose((encoder.mean, encoder.std), LUNIT)
        assert len(encoder.warnings) == 2
        assert "the one that its authors publish (0.7032, 0.5361, 0.661) is used" in encoder.warnings[0]

    def test_nothing_said_is_filled_in_without_a_word(self, monkeypatch, tmp_path):
        encoder = small_row(monkeypatch, tmp_path, {})
        np.testing.assert_allclose((encoder.mean, encoder.std), LUNIT)
        assert encoder.warnings == []

    def test_the_size_of_the_network_counts_more_than_one_beside_it(self, monkeypatch, tmp_path):
        said = {"input_size": [3, 518, 518], "mean": LUNIT[0], "std": LUNIT[1]}
        encoder = small_row(monkeypatch, tmp_path, said, {"img_size": 224})
        assert encoder.input_px == 224
        assert encoder.warnings == []

    def test_another_resizing(self, monkeypatch, tmp_path):
        said = {"input_size": [3, 224, 224], "mean": LUNIT[0], "std": LUNIT[1], "interpolation": "bilinear"}
        encoder = small_row(monkeypatch, tmp_path, said, interpolation="bicubic")
        assert encoder.interpolation == "bilinear"
        assert "bilinear resizing where bicubic is published" in encoder.warnings[0]

    def test_other_registers_are_refused(self, monkeypatch, tmp_path):
        with pytest.raises(EncoderError, match="5 class and register tokens where 1 are expected"):
            small_row(monkeypatch, tmp_path, {}, {"reg_tokens": 4})
