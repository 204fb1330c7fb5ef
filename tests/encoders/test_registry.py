"""The registry: rows that hold together, models that timm builds from them, the table and the card."""

import dataclasses
import json
from pathlib import Path

import pytest

from napari_batchfx.encoders import ENCODERS, EncoderSpec, available, describe, load
from napari_batchfx.encoders.registry import find_spec
from napari_batchfx.errors import EncoderError

# every encoder that a comparison of pathology encoders is expected to know
EXPECTED = [
    "uni",
    "uni2-h",
    "virchow",
    "virchow2",
    "h-optimus-0",
    "h-optimus-1",
    "h0-mini",
    "prov-gigapath",
    "phikon",
    "phikon-v2",
    "conch",
    "conch-v1.5",
    "hibou-b",
    "hibou-l",
    "kaiko-s16",
    "kaiko-s8",
    "kaiko-b16",
    "kaiko-b8",
    "kaiko-l14",
    "midnight",
    "lunit-s16",
    "lunit-s8",
    "gpfm",
    "musk",
    "genbio-pathfm",
    "phaet",
    "mascaret",
    "resnet50",
    "vit_small_patch14_dinov2",
]


def test_all_are_there_and_hold_together():
    assert [spec.name for spec in ENCODERS] == EXPECTED
    for spec in ENCODERS:
        assert (
            find_spec(spec.name) is find_spec(f"hf-hub:{spec.hub_id}@main") is find_spec(spec.title) is spec
        )
        assert spec.library in ("timm", "transformers", "none")
        assert bool(spec.refused) == bool(spec.instead) == (spec.library == "none")
        assert bool(spec.model_type) == (spec.library == "transformers")
        assert spec.licence
        assert spec.publisher
        assert spec.citation.startswith(("doi:10.", "arXiv:2", "https://"))
        assert spec.mpp > 0
        assert all(0 < v < 1 for three in spec.norm for v in three)
        assert spec.interpolation in ("", "bilinear", "bicubic")
        if spec.library != "none":
            assert spec.assembly in ("cls", "cls+mean", "pooled")
            assert set(spec.other_assemblies) <= {"cls", "cls+mean"} - {spec.assembly}
            for other, dim in spec.other_assemblies.items():
                assert dim == spec.dim * (2 if other == "cls+mean" else 0.5)
            assert spec.size_bytes > 1e6


def test_rows_are_data_that_json_gives_back():
    for spec in ENCODERS:
        values = json.loads(json.dumps(dataclasses.asdict(spec)))
        values["norm"] = tuple(tuple(three) for three in values["norm"])
        assert EncoderSpec(**values) == spec


# arguments that the repositories' own config.json hold, as far as the registry doesn't repeat them
PUBLISHED = {
    "virchow": {"img_size": 224, "init_values": 1e-5, "mlp_ratio": 5.3375, "global_pool": ""},
    "virchow2": {
        "img_size": 224,
        "init_values": 1e-5,
        "reg_tokens": 4,
        "mlp_ratio": 5.3375,
        "global_pool": "",
    },
    "h0-mini": {"img_size": 224, "init_values": 1e-5, "mlp_ratio": 5.33334},
    "prov-gigapath": {
        "img_size": 224,
        "patch_size": 16,
        "embed_dim": 1536,
        "depth": 40,
        "num_heads": 24,
        "init_values": 1e-5,
        "mlp_ratio": 5.33334,
    },
    "h-optimus-0": {"img_size": 224},
    "h-optimus-1": {"img_size": 224},
    "vit_small_patch14_dinov2": {"img_size": 518},
}


@pytest.mark.parametrize("spec", [s for s in ENCODERS if s.architecture], ids=lambda s: s.name)
def test_rows_build_with_timm(spec):
    """The published arguments make a model of the published size, on the meta device (no memory)."""
    import timm
    import torch

    from napari_batchfx.encoders.building import _classes

    kwargs = {**PUBLISHED.get(spec.name, {}), **_classes(spec.model_kwargs)}
    with torch.device("meta"):
        model = timm.create_model(spec.architecture, pretrained=False, num_classes=0, **kwargs)
    assert model.num_features * (2 if spec.assembly == "cls+mean" else 1) == spec.dim
    if spec.prefix_tokens:
        assert model.num_prefix_tokens == spec.prefix_tokens
        assert model.patch_embed.img_size[0] == spec.input_px or spec.model_kwargs["dynamic_img_size"]
    if spec.parameters:
        assert sum(p.numel() for p in model.parameters()) == pytest.approx(spec.parameters, rel=0.1)


@pytest.mark.parametrize("spec", [s for s in ENCODERS if s.model_type], ids=lambda s: s.name)
def test_rows_build_with_transformers(spec):
    """The published sizes of the four transformers architectures, on the meta device."""
    transformers = pytest.importorskip("transformers")
    import torch

    layers = {768: (12, 12), 1024: (24, 16), 1536: (40, 24)}
    width = spec.other_assemblies["cls"] if spec.assembly == "cls+mean" else spec.dim
    depth, heads = layers[width]
    config = transformers.CONFIG_MAPPING[spec.model_type](
        hidden_size=width,
        num_hidden_layers=depth,
        num_attention_heads=heads,
        image_size=224,
        patch_size=16 if spec.name.startswith("phikon") else 14,
        **({"intermediate_size": 4 * width} if spec.model_type == "vit" else {"mlp_ratio": 4}),
        **({"use_swiglu_ffn": True} if spec.name in ("midnight", "hibou-b", "hibou-l") else {}),
        **({"num_register_tokens": 4} if "registers" in spec.model_type else {}),
    )
    with torch.device("meta"):
        model = transformers.MODEL_MAPPING[type(config)](config)
    assert 1 + getattr(config, "num_register_tokens", 0) == spec.prefix_tokens
    n = sum(p.numel() for name, p in model.named_parameters() if not name.startswith("pooler"))
    assert n == pytest.approx(spec.parameters, rel=0.02)


def test_the_table():
    table = available()
    assert list(table.columns) == [
        "name", "title", "kind", "source", "dim", "input_px", "mpp", "licence", "gated", "size_mb", "cached", "needs",
        "loadable", "note",
    ]  # fmt: skip
    assert table["name"].is_unique
    assert len(table) == len(ENCODERS) + 2  # and the two that are built in
    first = table.iloc[0]
    assert first["name"] == "colour-statistics"
    assert bool(first["cached"])
    assert first["size_mb"] != first["size_mb"]  # nothing to download
    row = table.set_index("name").loc["phikon"]
    assert (row["kind"], row["size_mb"], bool(row["gated"]), row["dim"]) == ("transformers", 346, False, 768)
    assert set(table.loc[~table["loadable"].astype(bool), "name"]) == {
        "conch", "conch-v1.5", "musk", "genbio-pathfm", "phaet", "mascaret",
    }  # fmt: skip


def test_the_documentation_lists_them_all():
    text = (Path(__file__).parents[2] / "docs" / "methods" / "encoders.md").read_text("utf-8")
    for spec in ENCODERS:
        (line,) = [row for row in text.splitlines() if row.startswith(f"| `{spec.name}` |")]
        assert spec.hub_id in line
        assert (spec.instead if spec.refused else f"| {spec.dim:,}: ") in line
        assert spec.refused or f"| {spec.licence} | {'to accept' if spec.gated else '-'} |" in line


def test_cards(tmp_path):
    card = describe("Virchow2")
    assert (card.name, card.dim, card.gated, card.cached) == ("virchow2", 2560, True, False)
    assert card.size_is_estimate
    assert card.text() == (
        "2,560 numbers, 224 px at 0.5 µm/px, CC BY-NC-ND 4.0, terms to accept on the hub, about 2.5 GB, to download"
    )
    assert describe("uni?pretrained=false").title == "UNI"
    conch = describe("conch")
    assert not conch.loadable
    assert "TRIDENT" in conch.note
    assert conch.text().endswith("can't be loaded here")
    assert describe("colour-statistics").text().startswith("63 numbers, ")
    assert describe("resnet18").source == "https://huggingface.co/timm/resnet18.a1_in1k"
    assert describe("hf-hub:org/unseen").cached is False
    with pytest.raises(EncoderError, match="no such file"):
        describe(tmp_path / "none.safetensors")
    with pytest.raises(EncoderError, match="no timm model"):
        describe("no_such_net")


def test_the_card_of_a_file(tmp_path):
    import timm
    from safetensors.torch import save_file

    model = timm.create_model("test_vit", pretrained=False, num_classes=3)
    save_file(
        model.state_dict(),
        tmp_path / "mine.safetensors",
        metadata={"architecture": "test_vit", "batchfx": '{"mpp": 0.25, "licence": "ours"}'},
    )
    card = describe(tmp_path / "mine.safetensors")
    assert (card.title, card.licence, card.mpp, card.cached, card.kind) == (
        "mine",
        "ours",
        0.25,
        True,
        "timm",
    )
    assert card.size_bytes == (tmp_path / "mine.safetensors").stat().st_size
    assert load(tmp_path / "mine.safetensors").licence == "ours"


def test_what_is_refused_is_refused_with_the_way_out():
    with pytest.raises(
        EncoderError, match=r"MUSK can't be loaded here: .*musk package.*TRIDENT \(encoder musk\)"
    ):
        load("musk")
    with pytest.raises(EncoderError, match="plain timm names"):
        load("uni", pretrained=False)
