"""Folders and files whose maker erred or meant harm: one sentence each, nothing run, nothing fetched, no traceback."""

import io
import json
import os
import struct
import zipfile

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from napari_batchfx.encoders import describe, load
from napari_batchfx.errors import EncoderError

from .hub_server import tiny_model

FILES = tiny_model()
WEIGHTS = FILES["model.safetensors"]
CONFIG = json.loads(FILES["config.json"])


@pytest.fixture(autouse=True)
def _no_network(monkeypatch):
    from huggingface_hub import constants

    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)


def folder(path, config=CONFIG, weights=WEIGHTS, **more):
    path.mkdir(parents=True, exist_ok=True)
    text = config if isinstance(config, str) else json.dumps(config)
    (path / "config.json").write_text(text)
    if weights is not None:
        (path / "model.safetensors").write_bytes(weights)
    for name, content in more.items():
        (path / name.replace("__", ".")).write_bytes(content)
    return path


def refused(path, match=None, of=(load, describe)):
    for function in of:
        with pytest.raises(EncoderError, match=match) as error:
            function(path)
        assert "\n" not in str(error.value)
        assert str(error.value).endswith((".", "?"))


class Harm:
    """A pickle that makes a file when it is opened without care."""

    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return os.mkdir, (str(self.path),)


class TestArgumentsThatAreNotTheNetwork:
    def test_a_second_checkpoint_is_neither_run_nor_read(self, tmp_path):
        import torch

        torch.save(Harm(tmp_path / "harm"), tmp_path / "evil.pth")
        path = folder(
            tmp_path / "model", CONFIG | {"model_args": {"checkpoint_path": str(tmp_path / "evil.pth")}}
        )
        refused(path, "checkpoint_path, which isn't part of the network")
        assert not (tmp_path / "harm").exists()
        # proof that it would have been harmful
        torch.load(tmp_path / "evil.pth", weights_only=False)
        assert (tmp_path / "harm").exists()

    @pytest.mark.parametrize(
        "key", ["pretrained", "pretrained_cfg", "pretrained_cfg_overlay", "features_only"]
    )
    def test_other_weights(self, tmp_path, key):
        refused(folder(tmp_path, CONFIG | {"model_args": {key: {"file": "x"}}}), key)

    def test_how_it_was_run_when_it_was_saved_is_left_out(self, tmp_path):
        arguments = {"device": "meta", "dtype": "float16", "scriptable": True, "cache_dir": "/x"}
        assert load(folder(tmp_path, CONFIG | {"model_args": arguments})).dim == 64


NO_CONFIGURATION = [
    "",
    "null",
    "[1]",
    "[" * 100_000,
    '{"a":' * 100_000,
    '{"architecture": "test_vit"',
    "\x00",
]
WRONG = {
    "architecture": ["hf-hub:evil/x", "local-dir:/tmp", "../x", "", "no_such_net"],
    "num_classes": ["x", -1],
    "model_args": [
        [1],
        "x",
        {"img_size": "x"},
        {"depth": -1},
        {"embed_dim": 0},
        {"patch_size": 100},
        {"in_chans": 1},
    ],
    "batchfx": [[1], {"mpp": "abc"}, {"mpp": 0}, {"mpp": -1}, {"mpp": float("inf")}, {"assembly": "sum"}],
    "pretrained_cfg": [
        [1],
        *(
            {"input_size": [3, 64, 64]} | wrong
            for wrong in (
                {"mean": "abc"},
                {"mean": [0.5]},
                {"mean": [0.5, 0.5, None]},
                {"std": [0, 0, 0]},
                {"std": [float("nan")] * 3},
                {"input_size": "x"},
                {"input_size": [1, 64, 64]},
                {"input_size": [3, 0, 0]},
                {"input_size": [3, 64.5, 64.5]},
                {"input_size": [3, 10**5, 10**5]},
                {"classifier": 5},
                {"interpolation": 5},
            )
        ),
    ],
}


class TestConfigurations:
    @pytest.mark.parametrize("text", NO_CONFIGURATION, ids=range(len(NO_CONFIGURATION)))
    def test_no_configuration(self, tmp_path, text):
        refused(folder(tmp_path, text), "config.json")

    def test_one_of_megabytes(self, tmp_path):
        refused(folder(tmp_path, "[" + "1," * 5_000_000 + "1]"), "no configuration")

    @pytest.mark.parametrize("key", WRONG)
    def test_wrong_values(self, tmp_path, key):
        for i, value in enumerate(WRONG[key]):
            refused(folder(tmp_path / str(i), CONFIG | {key: value}), of=(load,))

    @given(
        st.dictionaries(
            st.sampled_from(
                ["architecture", "num_classes", "num_features", "pretrained_cfg", "model_args", "batchfx", "id2label",
                 "label_names", "model_type", "mean", "input_size", "classifier"]
            ),
            st.recursive(
                st.none() | st.booleans() | st.integers(-9, 9) | st.floats() | st.text(max_size=5),
                lambda inner: st.lists(inner, max_size=4)
                | st.dictionaries(
                    st.sampled_from(["mean", "std", "input_size", "mpp", "0", "1", "img_size", "x"]), inner, max_size=3
                ),
                max_leaves=6,
            ),
            max_size=4,
        )
    )  # fmt: skip
    @settings(max_examples=120, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
    def test_anything_else_is_a_sentence_too(self, tmp_path, said):
        path = folder(tmp_path / "any", CONFIG | said, weights=None, model__safetensors=WEIGHTS)
        try:
            describe(path)
        except EncoderError as error:
            assert "\n" not in str(error)  # noqa: PT017 - whether it is refused is not the question here

    def test_names_of_classes_however_they_are_written(self, tmp_path):
        import timm
        from safetensors.torch import save

        weights = save(timm.create_model("test_vit", pretrained=False, num_classes=2).state_dict())
        for i, said in enumerate(
            (
                {"label_names": ["stroma", "tumour"]},
                {"class_names": ("stroma", "tumour")},
                {"id2label": {"0": "stroma", "1": "tumour"}},
                {"class_to_idx": {"tumour": 1, "stroma": 0}},
                {"idx_to_class": {"1": "tumour", "0": "stroma"}},
            )
        ):
            head = load(folder(tmp_path / str(i), CONFIG | {"num_classes": 2} | said, weights)).head
            assert head.class_names == ("stroma", "tumour")
        for i, said in enumerate(
            (
                {"id2label": {"a": "b"}},
                {"label_names": ["one"]},
                {"id2label": {"3": "a", "4": "b"}},
                {"id2label": 5},
            )
        ):
            head = load(folder(tmp_path / f"no{i}", CONFIG | {"num_classes": 2} | said, weights)).head
            assert head.class_names == ("class 0", "class 1")

    def test_names_in_the_checkpoint_and_the_architecture_beside_it(self, tmp_path):
        import timm
        import torch

        state = timm.create_model("test_vit", pretrained=False, num_classes=2).state_dict()
        torch.save({"model": state, "class_to_idx": {"b": 1, "a": 0}}, tmp_path / "mine.pt")
        (tmp_path / "mine.json").write_text('{"architecture": "test_vit"}')
        assert load(tmp_path / "mine.pt").head.class_names == ("a", "b")


def header(text, length=None):
    return struct.pack("<Q", len(text) if length is None else length) + text


def archive():
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w") as z:
        z.writestr("a", "b")
    return file.getvalue()


CLAIMS = {
    "a header of 4 EB": header(b"{}", 2**62),
    "a header of 90 MB": header(b"{}", 90_000_000),
    "10 GB of numbers": header(b'{"a":{"dtype":"F32","shape":[50000,50000],"data_offsets":[0,10000000000]}}'),
    "more than memory has": header(
        b'{"a":{"dtype":"F32","shape":[1099511627776,1099511627776],"data_offsets":[0,4]}}'
    ),
    "nothing": b"",
    "no tensors": header(b"{}"),
    "an archive": archive(),
    "a tensor too many": None,
    "whole numbers": None,
}


class TestWeights:
    @pytest.mark.parametrize("what", CLAIMS)
    def test_files_that_claim_what_they_do_not_hold(self, tmp_path, what):
        import torch
        from safetensors.torch import load as read
        from safetensors.torch import save

        content = CLAIMS[what]
        if what == "a tensor too many":
            content = save(read(WEIGHTS) | {"stranger": torch.zeros(3)})
        elif what == "whole numbers":
            content = save({k: (v * 9).to(torch.int8) for k, v in read(WEIGHTS).items()})
        refused(folder(tmp_path, CONFIG, content), "damaged or no safetensors|doesn't fit", of=(load,))

    @pytest.mark.parametrize("kind", ["float16", "bfloat16", "float64"])
    def test_other_precisions_on_the_disk(self, tmp_path, kind):
        import torch
        from safetensors.torch import load as read
        from safetensors.torch import save

        tiles = np.random.default_rng(3).integers(0, 256, (3, 64, 64, 3), dtype=np.uint8)
        expected = load(folder(tmp_path / "full")).embed(tiles)
        stored = save({k: v.to(getattr(torch, kind)) for k, v in read(WEIGHTS).items()})
        got = load(folder(tmp_path / kind, CONFIG, stored)).embed(tiles)
        cosine = (got * expected).sum(1) / np.linalg.norm(got, axis=1) / np.linalg.norm(expected, axis=1)
        assert cosine.min() > (0.9999 if kind == "bfloat16" else 0.999999)

    @pytest.mark.parametrize(
        "pieces",
        [{"a": "model.safetensors.index.json"}, {"a": "../../passwd"}, {"a": "evil.bin"}, {"a": None}, {}, 5],
    )
    def test_an_index_that_leads_elsewhere(self, tmp_path, pieces):
        index = json.dumps({"weight_map": pieces}).encode()
        refused(folder(tmp_path, CONFIG, None, model__safetensors__index__json=index), "index")

    def test_an_index_into_another_folder_stays_in_its_own(self, tmp_path):
        (tmp_path / "secret.safetensors").write_bytes(WEIGHTS)
        index = b'{"weight_map": {"a": "../secret.safetensors"}}'
        refused(
            folder(tmp_path / "m", CONFIG, None, model__safetensors__index__json=index),
            "lacks secret.safetensors",
        )

    def test_a_piece_that_is_missing(self, tmp_path):
        index = b'{"weight_map": {"a": "model-1.safetensors", "b": "model-2.safetensors"}}'
        path = folder(
            tmp_path, CONFIG, None, model__safetensors__index__json=index, **{"model-1__safetensors": WEIGHTS}
        )
        refused(path, "lacks model-2.safetensors")

    def test_a_folder_or_a_dead_link_in_the_place_of_the_weights(self, tmp_path):
        folder(tmp_path / "a", weights=None)
        (tmp_path / "a" / "model.safetensors").mkdir()
        refused(tmp_path / "a", "no model.safetensors")
        folder(tmp_path / "b", weights=None)
        (tmp_path / "b" / "model.safetensors").symlink_to(tmp_path / "nowhere")
        refused(tmp_path / "b", "no model.safetensors")

    def test_a_checkpoint_that_unpacks_to_a_hundredfold(self, tmp_path):
        import torch

        torch.save({"arch": "test_vit", "state_dict": {"x": torch.zeros(10_000_000)}}, tmp_path / "plain.pt")
        with (
            zipfile.ZipFile(tmp_path / "plain.pt") as plain,
            zipfile.ZipFile(tmp_path / "bomb.pt", "w", zipfile.ZIP_DEFLATED) as bomb,
        ):
            for item in plain.infolist():
                bomb.writestr(item.filename, plain.read(item))
        assert (tmp_path / "bomb.pt").stat().st_size < 100_000
        refused(tmp_path / "bomb.pt", "would unpack to 40 MB")

    def test_a_suffix_in_capitals(self, tmp_path):
        from safetensors.torch import load as read
        from safetensors.torch import save_file

        save_file(read(WEIGHTS), tmp_path / "MINE.SAFETENSORS", metadata={"architecture": "test_vit"})
        assert load(tmp_path / "MINE.SAFETENSORS").dim == 64


class TestNames:
    @pytest.mark.parametrize(
        ("name", "meant"),
        [
            (" uni2-h\n", "uni2-h"),
            ('"virchow2"', "virchow2"),
            ("https://huggingface.co/owkin/phikon-v2", "phikon-v2"),
            ("https://huggingface.co/owkin/phikon-v2/tree/main", "phikon-v2"),
            ("hf-hub:https://huggingface.co/histai/hibou-L", "hibou-l"),
            ("https://huggingface.co/org/name/tree/v1.2", "hf-hub:org/name@v1.2"),
        ],
    )
    def test_copied_with_what_is_around_it(self, name, meant):
        assert describe(name).name == meant

    @pytest.mark.parametrize(
        "name",
        ["", " ", "hf-hub:", "hf-hub:one", "hf-hub:a/b/c", "hf-hub:../../x", "a\0b", "/tmp/a\0b", "a\nb", "x" * 300,
         "/" + "x" * 300, "/x" * 4000, "*", "vit_[", "🔬", "timm:", "resnet50.nope", "https://example.org/",
         "https://huggingface.co/datasets/a/b"],
    )  # fmt: skip
    def test_nonsense(self, name):
        refused(name)

    @pytest.mark.parametrize(
        ("typed", "meant"),
        [("uni2", "uni2-h"), ("resnet5", "resnet50"), ("virchow3", "virchow2"), ("hibou", "hibou-b")],
    )
    def test_a_slip_of_the_finger(self, typed, meant):
        refused(typed, f"did you mean .*{meant}")

    @pytest.mark.parametrize("mpp", [0, -1.0, float("nan"), float("inf"), 1e6, "fine"])
    def test_a_pixel_size_that_is_none(self, tmp_path, mpp):
        for name in ("colour-statistics", folder(tmp_path)):
            with pytest.raises(EncoderError, match="pixel size in micrometres"):
                load(name, mpp=mpp)

    def test_models_of_timm_by_their_titles(self):
        with pytest.raises(EncoderError, match="HF_HUB_OFFLINE"):
            load("DINOv2 ViT-S/14")


class TestTransformers:
    """Configurations of transformers that ask for more than a network."""

    @pytest.fixture
    def dinov2(self, tmp_path):
        transformers = pytest.importorskip("transformers")
        from safetensors.torch import save

        config = transformers.Dinov2Config(
            hidden_size=32, num_hidden_layers=2, num_attention_heads=2, image_size=56, patch_size=14
        )
        state = transformers.Dinov2Model(config).state_dict()
        weights = save({k: v.contiguous() for k, v in state.items()})
        base = json.loads(config.to_json_string()) | {"model_type": "dinov2"}

        def make(said, processor=None):
            more = (
                {"preprocessor_config__json": json.dumps(processor).encode()} if processor is not None else {}
            )
            return folder(tmp_path / str(len(list(tmp_path.iterdir()))), base | said, weights, **more)

        return make

    @pytest.mark.parametrize("key", ["attn_implementation", "_attn_implementation", "experts_implementation"])
    def test_program_code_of_the_hub_is_not_fetched(self, dinov2, key):
        assert load(dinov2({key: "evil/kernel"})).dim == 32
        assert load(dinov2({key: "flash_attention_2"})).dim == 32

    @pytest.mark.parametrize(
        "said",
        [{"backbone": "hf-hub:evil/x"}, {"use_timm_backbone": True}, {"quantization_config": {"quant_method": "awq"}},
         {"hidden_size": 0}, {"patch_size": 0}, {"num_channels": 1}, {"num_hidden_layers": -1}, {"hidden_act": "evil"}],
        ids=str,
    )  # fmt: skip
    def test_what_is_no_network(self, dinov2, said):
        refused(dinov2(said), of=(load,))

    def test_how_it_answers_is_ours(self, dinov2):
        assert load(dinov2({"return_dict": False, "forward": "x", "to_dict": 3, "dtype": "evil"})).dim == 32

    @pytest.mark.parametrize(
        "said",
        [{"image_mean": "abc"}, {"image_mean": [0.5]}, {"image_std": [0, 0, 0]}, {"size": "x"}, {"size": -5},
         {"size": {"height": 56, "width": 28}}, {"size": {"height": 10**9}}, {"rescale_factor": 0}],
        ids=str,
    )  # fmt: skip
    def test_processors(self, dinov2, said):
        refused(dinov2({}, said))

    @pytest.mark.parametrize(
        "said",
        [
            {"do_rescale": False, "image_mean": [100, 110, 120], "image_std": [50, 51, 52]},
            {"rescale_factor": 1 / 127.5, "image_mean": [1, 1.1, 1.2], "image_std": [0.5, 0.6, 0.7]},
            {
                "rescale_factor": 1 / 127.5,
                "rescale_offset": True,
                "image_mean": [0, 0, 0],
                "image_std": [1, 1, 1],
            },
            {"do_normalize": False},
            {"do_normalize": False, "do_rescale": False},
            {"image_mean": [0.7, 0.6, 0.5], "image_std": [0.2, 0.3, 0.4]},
        ],
        ids=str,
    )
    def test_pixels_become_the_numbers_that_the_processor_makes(self, dinov2, said):
        """By hand: value x factor - offset, minus mean, over sd, as transformers documents it."""
        encoder = load(dinov2({}, {"size": {"height": 56, "width": 56}} | said))
        tiles = np.random.default_rng(1).integers(0, 256, (1, 56, 56, 3), dtype=np.uint8)
        expected = tiles.astype(np.float64)
        if said.get("do_rescale", True):
            expected = expected * said.get("rescale_factor", 1 / 255) - said.get("rescale_offset", False)
        if said.get("do_normalize", True):
            expected = (expected - said["image_mean"]) / said["image_std"]
        got = (tiles / 255 - np.array(encoder.mean)) / np.array(encoder.std)
        np.testing.assert_allclose(got, expected, rtol=1e-5, atol=1e-5)
