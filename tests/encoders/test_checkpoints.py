"""A user's own weights: torch checkpoints as training programs write them, and the classifier they carry."""

import argparse
import json

import numpy as np
import pytest

from napari_batchfx.encoders import ClassifierHead, load
from napari_batchfx.encoders.checkpoints import read_state
from napari_batchfx.errors import EncoderError

NAMES = ["tumour", "stroma", "fat", "mucosa"]


@pytest.fixture(scope="module")
def tiles():
    from skimage.data import immunohistochemistry

    image = immunohistochemistry()
    return np.stack([image[y : y + 160, x : x + 160] for y in (0, 200) for x in (0, 150, 300)])


def make(architecture="test_vit", classes=4):
    import timm
    import torch

    with torch.random.fork_rng():
        torch.manual_seed(7)
        model = timm.create_model(architecture, pretrained=False, num_classes=classes).eval()
        with torch.no_grad():
            model.get_classifier().bias.normal_()
    return model


def answers(model, tiles):
    """The classifier's own answers and the vector before its last layer, on timm's way."""
    import timm
    import torch
    from PIL import Image

    config = timm.data.resolve_model_data_config(model) | {"crop_pct": 1.0}
    transform = timm.data.create_transform(**config, is_training=False)
    batch = torch.stack([transform(Image.fromarray(t)) for t in tiles])
    with torch.inference_mode():
        features = model.forward_features(batch)
        return model(batch).numpy(), model.forward_head(features, pre_logits=True).numpy()


def check(encoder, model, tiles, names):
    logits, vectors = answers(model, tiles)
    np.testing.assert_allclose(encoder.embed(tiles), vectors, rtol=1e-4, atol=1e-4)
    assert encoder.head.class_names == tuple(names)
    np.testing.assert_allclose(encoder.head.logits(encoder.embed(tiles)), logits, rtol=1e-3, atol=1e-3)
    assert encoder.info()["classes"] == list(names)


@pytest.mark.parametrize("architecture", ["test_vit", "test_resnet", "test_convnext", "test_efficientnet"])
def test_a_state_dict_with_its_name_beside_it(tmp_path, tiles, architecture):
    import torch

    model = make(architecture)
    torch.save(model.state_dict(), tmp_path / "mine.pt")
    (tmp_path / "mine.json").write_text(
        json.dumps({"architecture": architecture, "class_names": NAMES, "batchfx": {"mpp": 0.25}})
    )
    encoder = load(tmp_path / "mine.pt")
    check(encoder, model, tiles, NAMES)
    assert encoder.mpp == 0.25


def test_a_checkpoint_of_timms_training(tmp_path, tiles):
    import torch

    model = make()
    content = {
        "epoch": 3,
        "arch": "test_vit",
        "state_dict": model.state_dict(),
        "optimizer": {"state": {0: {"step": torch.tensor(3.0)}}},
        "args": argparse.Namespace(model="test_vit", class_names=NAMES, lr=1e-3),
        "version": 2,
    }
    torch.save(content, tmp_path / "last.pth.tar")
    check(load(tmp_path / "last.pth.tar"), model, tiles, NAMES)


def test_a_checkpoint_of_lightning(tmp_path, tiles):
    import torch

    model = make()
    state = {f"model.{k}": v for k, v in model.state_dict().items()}
    content = {
        "state_dict": state | {"criterion.weight": torch.ones(4)},
        "hyper_parameters": {"model_name": "test_vit.r160_in1k", "lr": 1e-3},
        "callbacks": {},
    }
    torch.save(content, tmp_path / "best.ckpt")
    encoder = load(tmp_path / "best.ckpt")
    check(encoder, model, tiles, [f"class {i}" for i in range(4)])
    assert encoder.warnings == ["best: 1 tensors beside the model weren't used (criterion.weight)."]


def test_a_backbone_with_a_head_of_its_own_after_several_wrappers(tmp_path, tiles):
    import torch

    model = make()
    weight, bias = model.head.weight.detach().clone(), model.head.bias.detach().clone()
    state = {
        f"module._orig_mod.backbone.{k}": v
        for k, v in model.state_dict().items()
        if not k.startswith("head.")
    }
    torch.save(state | {"fc.weight": weight, "fc.bias": bias}, tmp_path / "mine.bin")
    (tmp_path / "mine.json").write_text(json.dumps({"architecture": "test_vit", "classes": NAMES}))
    encoder = load(tmp_path / "mine.bin")
    check(encoder, model, tiles, NAMES)
    assert not encoder.warnings
    # the classifier was trained on another vector than this one
    assert load(tmp_path / "mine.bin", assembly="cls+mean").head is None


def test_a_classifier_in_safetensors_and_one_of_timms_folders(tmp_path, tiles):
    from safetensors.torch import save_file

    model = make()
    header = {"architecture": "test_vit", "label_names": json.dumps(NAMES)}
    save_file(model.state_dict(), tmp_path / "mine.safetensors", metadata=header)
    check(load(tmp_path / "mine.safetensors"), model, tiles, NAMES)
    folder = tmp_path / "folder"
    folder.mkdir()
    save_file(model.state_dict(), folder / "model.safetensors")
    config = {"architecture": "test_vit", "num_classes": 4, "label_names": NAMES, "pretrained_cfg": {}}
    (folder / "config.json").write_text(json.dumps(config))
    check(load(folder), model, tiles, NAMES)


def test_without_a_head_and_without_a_name(tmp_path):
    import torch

    model = make()
    bare = {k: v for k, v in model.state_dict().items() if not k.startswith("head.")}
    torch.save({"model": bare, "arch": "test_vit"}, tmp_path / "bare.pt")
    assert load(tmp_path / "bare.pt").head is None
    torch.save(bare, tmp_path / "nameless.pt")
    with pytest.raises(EncoderError, match=r"nameless\.pt: doesn't say which timm model.*nameless\.json"):
        load(tmp_path / "nameless.pt")
    assert set(read_state(tmp_path / "nameless.pt")) == set(bare)
    torch.save([1, 2], tmp_path / "list.pt")
    with pytest.raises(EncoderError, match="no weights by name"):
        read_state(tmp_path / "list.pt")


def test_the_head_alone():
    head = ClassifierHead(np.array([[1, 0], [0, 2]], np.float32), np.array([0, -1], np.float32), ("a", "b"))
    np.testing.assert_allclose(head.logits([[1, 1], [0, 3]]), [[1, 1], [0, 5]])
    chances = head.probabilities([[1, 1], [0, 3], [900, 0]])
    np.testing.assert_allclose(chances.sum(1), 1)
    np.testing.assert_allclose(chances[1, 1], 1 / (1 + np.exp(-5)), rtol=1e-6)
    with pytest.raises(EncoderError, match="vectors of 2 numbers"):
        head.logits(np.zeros((3, 5)))


def test_a_checkpoint_of_dinov2s_training(tmp_path, tiles):
    """Teacher and head, blocks numbered within chunks, a token for masks: as GPFM was released on GitHub."""
    import re

    import timm
    import torch

    arguments = {"img_size": 224, "depth": 4, "embed_dim": 48, "num_heads": 3, "init_values": 1e-5}
    model = timm.create_model("vit_small_patch14_dinov2", pretrained=False, num_classes=0, **arguments).eval()
    state = model.state_dict()

    def chunked(name):
        return re.sub(r"^blocks\.(\d+)\.", lambda found: f"blocks.{int(found[1]) // 2}.{found[1]}.", name)

    teacher = {f"backbone.{chunked(k)}": v for k, v in state.items()}
    assert "backbone.blocks.1.3.norm1.weight" in teacher
    teacher |= {"backbone.mask_token": torch.zeros(1, 48), "dino_head.mlp.0.weight": torch.zeros(4, 48)}
    torch.save({"teacher": teacher}, tmp_path / "teacher.pth")
    said = {"architecture": "vit_small_patch14_dinov2", "model_args": arguments}
    said["pretrained_cfg"] = {"input_size": [3, 224, 224], "mean": [0.5] * 3, "std": [0.5] * 3}
    (tmp_path / "teacher.json").write_text(json.dumps(said))
    tile = np.repeat(np.repeat(tiles[:1], 4, 1), 4, 2)[:, :224, :224]
    encoder = load(tmp_path / "teacher.pth")
    with torch.inference_mode():
        expected = model((torch.from_numpy(tile).permute(0, 3, 1, 2).float() / 255 - 0.5) / 0.5).numpy()
    np.testing.assert_allclose(encoder.embed(tile), expected, rtol=1e-4, atol=1e-4)


def test_reading_large_weights_is_shown_and_can_be_stopped(tmp_path, monkeypatch):
    import hashlib

    import torch

    from napari_batchfx.encoders import checkpoints
    from napari_batchfx.encoders.loading import load_job

    torch.save(make().state_dict(), tmp_path / "mine.pt")
    (tmp_path / "mine.json").write_text(json.dumps({"architecture": "test_vit"}))
    monkeypatch.setattr(checkpoints, "_AT_ONCE", 200_000)
    steps, job = [], load_job(tmp_path / "mine.pt")
    try:
        while True:
            steps.append(next(job))
    except StopIteration as end:
        encoder = end.value
    read = [step for step in steps if step.unit == "MB"]
    size = (tmp_path / "mine.pt").stat().st_size
    assert len(read) == -(-size // 200_000) > 2
    assert read[-1].done == read[-1].total == round(size / 1e6)
    assert read[0].what == "checking the weights of mine"
    assert steps[-1].what == "loading mine"
    assert hashlib.sha256((tmp_path / "mine.pt").read_bytes()).hexdigest()[:32] in encoder.key
    stopped = load_job(tmp_path / "mine.pt")
    assert next(stopped).unit == "MB"
    stopped.close()


def test_a_projection_is_part_of_the_network(tmp_path, tiles):
    """A last layer that belongs to the encoder, as batchfx-mini's: no classifier, and its answers are the vector."""
    import torch
    from safetensors.torch import save_file

    model = make("test_resnet", classes=24)
    said = {"architecture": "test_resnet", "batchfx": json.dumps({"projected": 24})}
    save_file(model.state_dict(), tmp_path / "own.safetensors", metadata=said)
    encoder = load(tmp_path / "own.safetensors")
    assert (encoder.dim, encoder.head) == (24, None)
    np.testing.assert_allclose(encoder.embed(tiles), answers(model, tiles)[0], rtol=1e-4, atol=1e-4)
    for wrong in (-1, 2.5, "24", 10**9):
        said["batchfx"] = json.dumps({"projected": wrong})
        save_file(model.state_dict(), tmp_path / "wrong.safetensors", metadata=said)
        with pytest.raises(EncoderError, match="projected in its configuration is"):
            load(tmp_path / "wrong.safetensors")
    torch.save(model.state_dict(), tmp_path / "short.pt")
    (tmp_path / "short.json").write_text(
        json.dumps({"architecture": "test_resnet", "batchfx": {"projected": 7}})
    )
    with pytest.raises(EncoderError, match="doesn't fit the architecture"):
        load(tmp_path / "short.pt")


def test_a_projection_may_read_every_level(tmp_path, tiles):
    from safetensors.torch import save_file

    from napari_batchfx.encoders.levels import read_levels

    name = "mobilenetv4_conv_small_035"
    model = read_levels(make(name), 12)
    said = {"architecture": name, "batchfx": json.dumps({"projected": 12, "levels": True})}
    save_file(model.state_dict(), tmp_path / "own.safetensors", metadata=said)
    with load(tmp_path / "own.safetensors") as encoder:
        assert (encoder.dim, encoder.head, encoder.warnings) == (12, None, [])
        np.testing.assert_allclose(encoder.embed(tiles), answers(model, tiles)[0], rtol=1e-3, atol=1e-3)
    for wrong in (1, "yes", {"bn1": 3}):
        said["batchfx"] = json.dumps({"projected": 12, "levels": wrong})
        save_file(model.state_dict(), tmp_path / "wrong.safetensors", metadata=said)
        with pytest.raises(EncoderError, match=r"levels in its configuration is .*; it must be true, with"):
            load(tmp_path / "wrong.safetensors")
    said["batchfx"] = json.dumps({"levels": True})  # of what length?
    save_file(model.state_dict(), tmp_path / "wrong.safetensors", metadata=said)
    with pytest.raises(EncoderError, match="levels in its configuration is True"):
        load(tmp_path / "wrong.safetensors")
    said = {"architecture": "test_vit", "batchfx": json.dumps({"projected": 12, "levels": True})}
    save_file(make("test_vit", classes=12).state_dict(), tmp_path / "vit.safetensors", metadata=said)
    with pytest.raises(EncoderError, match="asks for all levels of the network, which a VisionTransformer"):
        load(tmp_path / "vit.safetensors")
    said = {
        "architecture": name,
        "model_args": json.dumps({"in_chans": 1}),
        "batchfx": json.dumps({"projected": 12, "levels": True}),
    }
    save_file(model.state_dict(), tmp_path / "grey.safetensors", metadata=said)
    with pytest.raises(EncoderError, match="grey: the levels of its network can't be read"):
        load(tmp_path / "grey.safetensors")
