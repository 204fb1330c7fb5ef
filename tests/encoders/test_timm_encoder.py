"""timm models: the same numbers as timm itself, from every source, and refusals in one sentence."""

import json

import numpy as np
import pytest

from napari_batchfx.encoders import load
from napari_batchfx.errors import EncoderError
from napari_batchfx.jobs import run

TINY = "test_vit"  # timm's own tiny model, 0.3 million parameters, 160 px


@pytest.fixture(scope="module")
def tiles():
    from skimage.data import immunohistochemistry

    image = immunohistochemistry()
    return np.stack([image[y : y + 160, x : x + 160] for y in (0, 200) for x in (0, 150, 300)])


@pytest.fixture
def model():
    import timm
    import torch

    with torch.random.fork_rng():
        torch.manual_seed(1)
        return timm.create_model(TINY, pretrained=False, num_classes=7).eval()


def config_of(model, **more):
    keys = (
        "input_size",
        "mean",
        "std",
        "interpolation",
        "crop_pct",
        "fixed_input_size",
        "first_conv",
        "classifier",
    )
    values = {k: model.pretrained_cfg[k] for k in keys}
    return {"architecture": TINY, "num_classes": 7, "pretrained_cfg": {**values, "license": "mit"}, **more}


def save(model, folder, weights="model.safetensors", config=True, **more):
    from safetensors.torch import save_file

    folder.mkdir(exist_ok=True)
    save_file(model.state_dict(), folder / weights)
    if config:
        (folder / "config.json").write_text(json.dumps(config_of(model, **more)))
    return folder


def by_timm(model, tiles):
    """timm's own way: its transform on PIL images; tiles are exact in size, so nothing is cropped."""
    import timm
    import torch
    from PIL import Image

    config = timm.data.resolve_model_data_config(model) | {"crop_pct": 1.0}
    transform = timm.data.create_transform(**config, is_training=False)
    with torch.inference_mode():
        model.reset_classifier(0)
        return model(torch.stack([transform(Image.fromarray(t)) for t in tiles])).numpy()


def cosine(a, b):
    return (a * b).sum(1) / np.linalg.norm(a, axis=1) / np.linalg.norm(b, axis=1)


def test_a_local_folder_gives_timms_own_numbers(tmp_path, model, tiles):
    encoder = load(save(model, tmp_path / "tiny"))
    assert (encoder.name, encoder.dim, encoder.input_px, encoder.precision) == ("tiny", 64, 160, "fp32")
    assert encoder.licence == "mit"
    assert encoder.mean == (0.5, 0.5, 0.5)
    assert not encoder.warnings
    np.testing.assert_allclose(encoder.embed(tiles), by_timm(model, tiles), rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("size", [224, 320, 100])
def test_other_sizes_are_resized_as_timm_does(tmp_path, model, size):
    from skimage.data import immunohistochemistry

    encoder = load(save(model, tmp_path / "tiny"))
    tiles = immunohistochemistry()[None, :size, :size]
    assert (cosine(encoder.embed(tiles), by_timm(model, tiles)) > 0.9999).all()


def test_a_vector_does_not_depend_on_its_batch(tmp_path, model, tiles):
    encoder = load(save(model, tmp_path / "tiny"))
    alone = np.concatenate([encoder.embed(t[None]) for t in tiles])
    np.testing.assert_allclose(alone, encoder.embed(tiles), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("where", ["header", "sidecar"])
def test_a_safetensors_file_that_names_its_model(tmp_path, model, tiles, where):
    from safetensors.torch import save_file

    path = tmp_path / "weights.safetensors"
    if where == "header":
        save_file(
            model.state_dict(),
            path,
            metadata={"architecture": TINY, "num_classes": "7", "batchfx": '{"mpp": 1.0}'},
        )
    else:
        save_file(model.state_dict(), path)
        (tmp_path / "weights.json").write_text(json.dumps(config_of(model, batchfx={"mpp": 1.0})))
    encoder = load(path)
    np.testing.assert_allclose(encoder.embed(tiles), by_timm(model, tiles), rtol=1e-4, atol=1e-4)
    assert encoder.mpp == 1.0
    assert encoder.name == "weights"


def test_assemblies(tmp_path, model, tiles):
    import torch

    folder = save(model, tmp_path / "tiny")
    with torch.inference_mode():
        batch = (torch.from_numpy(tiles).permute(0, 3, 1, 2).float() / 255 - 0.5) / 0.5
        tokens = model.forward_features(batch).numpy()
    assert tokens.shape[1] == 1 + 100  # a class token, 10 x 10 patches
    expected = {"cls": tokens[:, 0], "mean": tokens[:, 1:].mean(1)}
    expected["cls+mean"] = np.concatenate([expected["cls"], expected["mean"]], 1)
    keys = set()
    for assembly, values in expected.items():
        encoder = load(folder, assembly=assembly)
        keys.add(encoder.key)
        np.testing.assert_allclose(encoder.embed(tiles), values, rtol=1e-4, atol=1e-4)
    assert len(keys) == 3
    with pytest.raises(EncoderError, match="no assembly"):
        load(folder, assembly="sum")


def test_registers_are_left_out(tiles):
    """A model with a class token and four registers: the mean is over the patches alone."""
    import timm
    import torch

    from napari_batchfx.encoders.timm_encoder import TimmEncoder

    torch.manual_seed(0)
    model = timm.create_model("test_vit", pretrained=False, num_classes=0, reg_tokens=4).eval()
    config = timm.data.resolve_model_data_config(model)
    encoder = TimmEncoder(
        model,
        name="r",
        identity="r",
        weights_hash="0" * 64,
        data_config=config,
        assembly="cls+mean",
        device="cpu",
        precision="fp32",
        mpp=0.5,
        licence="",
    )
    with torch.inference_mode():
        tokens = model.forward_features(
            (torch.from_numpy(tiles).permute(0, 3, 1, 2).float() / 255 - 0.5) / 0.5
        ).numpy()
    assert tokens.shape[1] == 5 + 100
    np.testing.assert_allclose(encoder.embed(tiles)[:, 64:], tokens[:, 5:].mean(1), rtol=1e-4, atol=1e-4)


def test_a_network_without_tokens_is_pooled(tiles):
    encoder = load("test_resnet?pretrained=false", threads=1)
    assert encoder.embed(tiles).shape == (len(tiles), encoder.dim)
    with pytest.raises(EncoderError, match="pooled"):
        load("test_resnet?pretrained=false", assembly="cls")


def test_random_weights_say_so_and_repeat(tiles):
    one, same, other = (load(TINY, pretrained=False, seed=s) for s in (0, 0, 1))
    assert one.is_random
    assert "random weights" in one.name
    assert "random" in one.key
    assert one.warnings
    assert one.key == same.key != other.key
    np.testing.assert_array_equal(one.embed(tiles), same.embed(tiles))
    assert np.abs(one.embed(tiles) - other.embed(tiles)).max() > 0.01
    assert load(f"timm:{TINY}?pretrained=false").key == one.key
    with pytest.raises(EncoderError, match="option"):
        load(f"{TINY}?size=3")


def test_the_key_follows_the_weights(tmp_path, model):
    import torch

    one = load(save(model, tmp_path / "tiny"))
    with torch.no_grad():
        model.norm.weight[0] += 1
    two = load(save(model, tmp_path / "tiny"))
    assert one.key != two.key
    assert one.key.split("/")[1] == two.key.split("/")[1] == "tiny"
    assert str(tmp_path) not in json.dumps(one.info())


def test_bf16_is_close_to_fp32(tmp_path, model, tiles):
    folder = save(model, tmp_path / "tiny")
    exact, rounded = load(folder), load(folder, precision="bf16")
    assert exact.key != rounded.key
    assert (cosine(exact.embed(tiles), rounded.embed(tiles)) > 0.999).all()


def test_registry_rows_are_compared_with_the_model(tmp_path, model):
    from napari_batchfx.encoders import EncoderSpec
    from napari_batchfx.encoders.making import make_job
    from napari_batchfx.encoders.weights import from_folder

    said = config_of(model)["pretrained_cfg"] | {"mean": [0.6, 0.5, 0.5]}
    files = from_folder(save(model, tmp_path / "tiny", pretrained_cfg=said))
    options = {"device": "cpu", "precision": "auto", "assembly": None, "mpp": None, "threads": None}
    norm = ((0.7, 0.5, 0.5), (0.5, 0.5, 0.5))
    row = EncoderSpec("tiny", "Tiny", "org/tiny", 128, "cls+mean", 1, norm, "MIT", False, input_px=160)
    encoder = run(make_job(files, "Tiny", "org/tiny", row, options))
    assert encoder.dim == 128
    assert encoder.mean == (0.6, 0.5, 0.5)
    assert len(encoder.warnings) == 1
    assert "mean" in encoder.warnings[0]
    assert "0.7" in encoder.warnings[0]
    registers = EncoderSpec("tiny", "Tiny", "org/tiny", 128, "cls+mean", 5, norm, "MIT", False, input_px=160)
    with pytest.raises(EncoderError, match="register tokens"):
        run(make_job(files, "Tiny", "org/tiny", registers, options))
    shorter = EncoderSpec("tiny", "Tiny", "org/tiny", 99, "cls", 1, norm, "MIT", False, input_px=160)
    with pytest.raises(EncoderError, match="99"):
        run(make_job(files, "Tiny", "org/tiny", shorter, options))


class TestRefusals:
    def test_checkpoints_that_hold_more_than_weights(self, tmp_path, model):
        import torch

        torch.save(model, tmp_path / "whole.pt")
        (tmp_path / "whole.json").write_text(json.dumps(config_of(model)))
        with pytest.raises(EncoderError, match=r"whole\.pt.*pickle.*timm\.layers.*safetensors") as error:
            load(tmp_path / "whole.pt")
        assert "\n" not in str(error.value)
        folder = save(model, tmp_path / "tiny")
        (folder / "model.safetensors").rename(folder / "x")
        torch.save({"model": model}, folder / "pytorch_model.bin")
        with pytest.raises(EncoderError, match=r"pytorch_model\.bin.*more than weights"):
            load(folder)

    @pytest.mark.filterwarnings("ignore:Detected pickle protocol")
    def test_nothing_in_a_checkpoint_is_run(self, tmp_path):
        import os
        import pickle

        import torch

        class Bomb:
            def __reduce__(self):
                return os.mkdir, (str(tmp_path / "ran"),)

        torch.save({"state_dict": Bomb(), "arch": TINY}, tmp_path / "torch.pt")
        (tmp_path / "plain.ckpt").write_bytes(pickle.dumps({"arch": TINY, "state_dict": Bomb()}))
        for name in ("torch.pt", "plain.ckpt"):
            with pytest.raises(EncoderError, match="more than weights"):
                load(tmp_path / name)
        assert not (tmp_path / "ran").exists()
        (tmp_path / "torn.pt").write_bytes(b"PK\x03\x04 no more")
        with pytest.raises(EncoderError, match="damaged"):
            load(tmp_path / "torn.pt")

    @pytest.mark.filterwarnings(
        "ignore::DeprecationWarning", "ignore::FutureWarning", "ignore:'torch.load' received"
    )
    def test_a_torchscript_program(self, tmp_path):
        import torch

        torch.jit.save(torch.jit.trace(torch.nn.Linear(2, 2), torch.zeros(1, 2)), tmp_path / "net.pt")
        with pytest.raises(EncoderError, match=r"net\.pt: a TorchScript program.*state_dict"):
            load(tmp_path / "net.pt")

    def test_a_git_lfs_pointer(self, tmp_path, model):
        folder = save(model, tmp_path / "tiny")
        (folder / "model.safetensors").write_text(
            "version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 1\n"
        )
        with pytest.raises(EncoderError, match="git lfs pull"):
            load(folder)

    def test_weights_of_another_model(self, tmp_path, model):
        from safetensors.torch import save_file

        folder = save(model, tmp_path / "tiny")
        state = {k: v for k, v in model.state_dict().items() if k != "blocks.0.attn.qkv.weight"}
        save_file(state, folder / "model.safetensors")
        with pytest.raises(EncoderError, match=r"doesn't fit.*blocks\.0\.attn\.qkv\.weight"):
            load(folder)

    @pytest.mark.parametrize(
        ("content", "match"),
        [
            ("{", "JSON"),
            ("[]", "configuration"),
            ('{"num_classes": 3}', "neither a timm architecture nor"),
            ('{"architecture": "no_such_net"}', "no_such_net"),
            ('{"architecture": "test_vit", "model_args": {"no_such": 1}}', "can't build"),
        ],
    )
    def test_configurations(self, tmp_path, model, content, match):
        folder = save(model, tmp_path / "tiny")
        (folder / "config.json").write_text(content)
        with pytest.raises(EncoderError, match=match) as error:
            load(folder)
        assert "\n" not in str(error.value)

    def test_files(self, tmp_path, model):
        with pytest.raises(EncoderError, match=r"no config\.json"):
            load(tmp_path)
        with pytest.raises(EncoderError, match="no such file"):
            load(tmp_path / "none.safetensors")
        (tmp_path / "torn.safetensors").write_bytes(b"\x10\0\0\0\0\0\0\0{}")
        with pytest.raises(EncoderError, match="damaged"):
            load(tmp_path / "torn.safetensors")
        (tmp_path / "notes.txt").write_text("hello")
        with pytest.raises(EncoderError, match="no model"):
            load(tmp_path / "notes.txt")
        nameless = save(model, tmp_path / "nameless", config=False)
        with pytest.raises(EncoderError, match="which timm model"):
            load(nameless / "model.safetensors")

    def test_names(self):
        with pytest.raises(EncoderError, match="hf-hub:org/model"):
            load("org/model")
        with pytest.raises(EncoderError, match="no timm model of this name; did you mean"):
            load("est_vit")
        with pytest.raises(EncoderError, match="trained weights"):
            load("resnet18.no_such_tag")
        with pytest.raises(EncoderError, match="random weights"):
            load("uni", pretrained=False)

    def test_devices_and_precisions(self):
        import torch

        name = f"{TINY}?pretrained=false"
        for wrong in ("quantum", "meta"):
            with pytest.raises(EncoderError, match="device"):
                load(name, device=wrong)
        if not torch.cuda.is_available():
            with pytest.raises(EncoderError, match="CUDA"):
                load(name, device="cuda")
        with pytest.raises(EncoderError, match="precision"):
            load(name, precision="fp8")
        with pytest.raises(EncoderError, match="GPU"):
            load(name, device="cpu", precision="fp16")

    def test_numbers_that_are_not_finite(self, tmp_path, model, tiles):
        import torch

        with torch.no_grad():
            model.norm.weight.fill_(float("nan"))
        with pytest.raises(EncoderError, match="not finite"):
            load(save(model, tmp_path / "tiny"))
