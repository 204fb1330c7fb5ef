"""Lanes, the model's input, folded normalisation: the same numbers as the plain way, and no thread left behind."""

import threading

import numpy as np
import pytest

from napari_batchfx.encoders import load
from napari_batchfx.encoders.folding import fold_batch_norm
from napari_batchfx.encoders.lanes import Lanes, own_torch_threads
from napari_batchfx.encoders.model_input import ModelInput
from napari_batchfx.errors import EncoderError

NETWORKS = ["test_vit", "test_efficientnet", "test_convnext"]


@pytest.fixture(scope="module")
def tiles():
    from skimage.data import immunohistochemistry

    image = immunohistochemistry()
    where = np.random.default_rng(0).integers(0, 350, (24, 2))
    return np.stack([image[y : y + 160, x : x + 160] for y, x in where])


def test_lanes_keep_the_batches_apart_and_end():
    with Lanes(lambda t: t.reshape(len(t), -1)[:, :1].astype(np.float32), 3) as lanes:
        futures = [lanes.submit(np.full((2, 4, 4, 3), i, np.uint8)) for i in range(30)]
        doubled = lanes.submit(np.full((1, 4, 4, 3), 4, np.uint8), lambda t: t * 2)
        assert [f.result().features.tolist() for f in futures] == [[[i], [i]] for i in range(30)]
        assert doubled.result().features.tolist() == [[8]]
        assert futures[0].result().seconds >= 0
    assert not [t for t in threading.enumerate() if t.name.startswith("batchfx-encode")]


def test_closing_lanes_drops_what_waits():
    """One batch runs and three wait: the running one ends, the others never begin."""
    began, running, go = [], threading.Event(), threading.Event()

    def embed(tiles):
        began.append(int(tiles[0, 0, 0, 0]))
        running.set()
        go.wait(10)
        return np.zeros((len(tiles), 1), np.float32)

    lanes = Lanes(embed)
    futures = [lanes.submit(np.full((1, 2, 2, 3), i, np.uint8)) for i in range(4)]
    closing = threading.Thread(target=lanes.close)
    assert running.wait(10)
    dropped = threading.Event()
    futures[3].add_done_callback(lambda _: dropped.set())
    closing.start()
    assert dropped.wait(10)
    assert futures[3].cancelled()
    go.set()
    closing.join(10)
    assert began == [0]
    assert futures[0].done()


def test_a_threads_torch_setting_stays_its_own():
    import torch

    before = torch.get_num_threads()
    seen = {}

    def work():
        own_torch_threads(before + 2)
        seen["here"] = torch.get_num_threads()
        other = threading.Thread(target=lambda: seen.update(new=torch.get_num_threads()))
        other.start()
        other.join()

    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    assert seen == {"here": before + 2, "new": before}
    assert torch.get_num_threads() == before


@pytest.mark.parametrize("name", NETWORKS)
def test_a_vector_is_the_same_to_the_bit_in_every_batch(tiles, name):
    one = load(name, pretrained=False, device="cpu", threads=1)
    two = load(name, pretrained=False, device="cpu", threads=2)
    expected = one.embed(tiles)
    order = np.random.default_rng(1).permutation(len(tiles))
    for encoder in (one, two):
        np.testing.assert_array_equal(encoder.embed(tiles[order]), expected[order])
        for size in (1, 3, 7, 9):
            parts = [encoder.embed(tiles[i : i + size]) for i in range(0, 12, size)]
            np.testing.assert_array_equal(np.concatenate(parts)[:12], expected[:12])


def test_bf16_too(tiles):
    encoder = load("test_vit", pretrained=False, device="cpu", precision="bf16", threads=2)
    assert encoder.least_at_once == 2
    expected = encoder.embed(tiles[:16])
    for size in (1, 3, 9):
        parts = [encoder.embed(tiles[i : i + size]) for i in range(0, 16, size)]
        np.testing.assert_array_equal(np.concatenate(parts)[:16], expected)


@pytest.mark.parametrize("name", ["test_resnet", "test_efficientnet", "test_convnext"])
def test_folded_networks_give_timms_own_numbers(tiles, name):
    import timm
    import torch

    with torch.random.fork_rng():
        torch.manual_seed(3)
        model = timm.create_model(name, pretrained=False, num_classes=0).eval()
        # as after a training: nothing at 0 and 1
        norms = [m for m in model.modules() if isinstance(m, torch.nn.BatchNorm2d)]
        for norm in norms:
            norm.running_mean.normal_(0, 0.3)
            norm.running_var.uniform_(0.3, 3)
            norm.weight.data.uniform_(0.5, 2)
            norm.bias.data.normal_(0, 0.3)
        batch = torch.rand(3, 3, 160, 160) * 4 - 2
    with torch.inference_mode():
        before = model(batch)
        folded = fold_batch_norm(model, batch[:1])
        np.testing.assert_allclose(folded(batch), before, atol=1e-5 * float(before.abs().max()))
        np.testing.assert_array_equal(model(batch), before)  # the model itself stays as it is
    left = [m for m in folded.modules() if isinstance(m, torch.nn.BatchNorm2d)]
    assert (folded is model) == (not norms)
    assert not left


def test_what_cannot_be_folded_stays():
    """The convolution's output goes two ways: folding would change the other one, and is taken back."""
    import torch
    from torch import nn

    class TwoWays(nn.Module):
        def __init__(self):
            super().__init__()
            self.conv, self.norm = nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4)
            self.norm.running_mean.fill_(0.7)

        def forward(self, x):
            y = self.conv(x)
            return (self.norm(y) + y).mean((2, 3))

    torch.manual_seed(0)
    model, batch = TwoWays().eval(), torch.rand(2, 3, 16, 16)
    assert fold_batch_norm(model, batch) is model
    assert isinstance(model.norm, nn.BatchNorm2d)


class TestInput:
    MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)

    def input(self, size=64, how="bicubic"):
        return ModelInput(size, self.MEAN, self.STD, how, "cpu")

    def test_normalised_as_torchvision_does(self):
        import torch
        from torchvision.transforms.functional import normalize, to_tensor

        levels = np.random.default_rng(0).integers(0, 256, (5, 64, 64, 3), dtype=np.uint8)
        expected = torch.stack([normalize(to_tensor(t), self.MEAN, self.STD) for t in levels])
        got = self.input().batch(levels)
        np.testing.assert_array_equal(got, expected)
        assert got.is_contiguous(memory_format=torch.channels_last)
        # a view into a larger array
        np.testing.assert_array_equal(self.input().batch(levels[1:4]), expected[1:4])

    @pytest.mark.parametrize("how", ["bicubic", "bilinear"])
    @pytest.mark.parametrize("shape", [(100, 100), (41, 41), (90, 130)])
    def test_resized_as_pillow_does(self, tiles, how, shape):
        from PIL import Image

        h, w = shape
        some = tiles[:3, :h, :w]
        method = {"bicubic": Image.Resampling.BICUBIC, "bilinear": Image.Resampling.BILINEAR}[how]
        expected = [
            np.asarray(Image.fromarray(np.ascontiguousarray(t)).resize((64, 64), method)) for t in some
        ]
        np.testing.assert_array_equal(self.input(how=how).resized(some), expected)

    def test_seen_is_what_the_model_gets(self, tiles):
        encoder = load("test_vit", pretrained=False, device="cpu")
        large = np.repeat(np.repeat(tiles[:2], 2, 1), 2, 2)
        seen = encoder.seen(large)
        assert seen.dtype == np.uint8
        assert seen.shape == (2, 160, 160, 3)
        np.testing.assert_array_equal(encoder.embed(large), encoder.embed(seen))
        np.testing.assert_array_equal(encoder.seen(tiles[:2]), tiles[:2])
        with pytest.raises(EncoderError, match="8-bit RGB"):
            encoder.seen(tiles[:2].astype(float))
        encoder.close()
        with pytest.raises(EncoderError, match="closed"):
            encoder.seen(tiles[:2])

    def test_encoders_without_a_resize_see_the_tiles_themselves(self, tiles):
        encoder = load("colour-statistics")
        np.testing.assert_array_equal(encoder.seen(tiles[:2]), tiles[:2])


def test_a_compiler_that_fails_costs_a_note(tiles, monkeypatch):
    """Asked for torch.compile on a machine where it can't: the plain model runs, and says so."""
    import torch

    def broken(model):
        def compiled(*_):
            raise RuntimeError("inductor: no C++ compiler found\nset CXX")

        return compiled

    monkeypatch.setattr(torch, "compile", broken)
    encoder = load("test_vit", pretrained=False, device="cpu", compile=True)
    assert any(
        "without torch.compile" in note and "no C++ compiler found)" in note for note in encoder.warnings
    )
    plain = load("test_vit", pretrained=False, device="cpu")
    np.testing.assert_array_equal(encoder.embed(tiles[:2]), plain.embed(tiles[:2]))
    assert encoder.key == plain.key
