"""Adaptation through a whole network with batch normalisation."""

import json

import numpy as np
import pytest
import torch
from safetensors import safe_open

from napari_batchfx.adapt import AdaptiveNetwork, TrainingSettings, load_head
from napari_batchfx.adapt.heads._norms import adapted, chunked, norm_statistics, set_norms
from napari_batchfx.encoders.built_in import MINI_WEIGHTS
from napari_batchfx.errors import AdaptError

TINY = TrainingSettings(targets=16, controls=16, domains=2, steps=40, patience=40, every=20, rate=1e-2)


def small():
    """A few layers with batch normalisation, made anew with the same weights."""
    torch.manual_seed(0)
    layers = []
    for a, b in ((3, 8), (8, 16)):
        layers += [torch.nn.Conv2d(a, b, 3, 2, 1), torch.nn.BatchNorm2d(b), torch.nn.ReLU()]
    return torch.nn.Sequential(
        *layers, torch.nn.AdaptiveAvgPool2d(1), torch.nn.Flatten(), torch.nn.Linear(16, 2)
    )


def tiles(domains, n=60, seed=0, share=0.5):
    """Class: a bright square or a bright frame; domain: an offset and gain of each channel."""
    rng = np.random.default_rng(seed)
    images, y, where = [], [], []
    for name, (gain, offset) in domains.items():
        for _ in range(n):
            label = int(rng.random() < share)
            shape = np.zeros((16, 16, 1))
            if label:
                shape[5:11, 5:11] = 1
            else:
                shape[[0, 15]], shape[:, [0, 15]] = 1, 1
            image = 60 + 60 * shape + rng.normal(0, 12, (16, 16, 3))
            images.append(np.clip(image * np.array(gain) + np.array(offset), 0, 255))
            y.append("square" if label else "frame")
            where.append(name)
    return np.array(images).astype(np.uint8), np.array(y, dtype=object), np.array(where, dtype=object)


SEEN = {"A": ((1, 1, 1), (0, 0, 0)), "B": ((0.8, 1.1, 0.9), (20, -20, 10))}
NEW = {"C": ((0.5, 0.6, 0.4), (100, 70, 120))}


@pytest.fixture(scope="module")
def networks():
    x, y, where = tiles(SEEN)
    control = np.arange(len(y)) % 3 == 0
    return {
        m: AdaptiveNetwork(small(), m, TINY).fit(x, y, where, control) for m in ("erm", "armbn", "csarmbn")
    }


def test_a_network_that_adapts_is_right_on_a_new_domain(networks):
    x, y, _ = tiles(NEW, n=90, seed=3)
    control = np.arange(len(y)) < 64
    right = {m: (net.predict(x, control).label == y).mean() for m, net in networks.items()}
    right["adabn"] = (networks["erm"].predict(x, way="targets").label == y).mean()
    assert min(right["armbn"], right["csarmbn"]) > 0.85, right
    assert right["erm"] < min(right["armbn"], right["csarmbn"]) - 0.1, right


def test_statistics_over_chunks_are_those_of_one_batch(networks):
    x, _, _ = tiles(NEW)
    net = networks["csarmbn"]
    mean, std = net.mean, net.std
    whole = norm_statistics(net.module, chunked(x, len(x), mean, std))
    for chunk in (7, 20):
        parts = norm_statistics(net.module, chunked(x, chunk, mean, std))
        for a, b in zip(whole, parts, strict=True):
            assert np.allclose(a.mean, b.mean, atol=1e-5)
            assert np.allclose(a.var, b.var, rtol=1e-4)
            assert a.n == b.n


def test_context_of_the_training_statistics_is_plain_evaluation_mode(networks):
    x, _, _ = tiles(SEEN, n=20)
    net = networks["csarmbn"]
    (batch,) = chunked(x, len(x), net.mean, net.std)
    plain = small()
    plain.load_state_dict(net.module.state_dict())
    for m in plain.modules():
        if isinstance(m, torch.nn.BatchNorm2d):
            m.momentum = 1.0
    plain.train()
    with torch.no_grad():
        trained = plain(batch)  # normalises with the batch
        found = norm_statistics(net.module, [batch])
        with adapted(net.module, found):
            ours = net.module(batch)
        again = net.module(batch)
    assert torch.allclose(ours, trained, atol=1e-5)
    assert not torch.allclose(again, ours, atol=1e-3)  # its own statistics are back
    set_norms(plain, found)
    plain.eval()
    with torch.no_grad():
        assert torch.allclose(plain(batch), ours, atol=1e-6)


def test_predictions_do_not_depend_on_chunk_and_order(networks):
    x, y, _ = tiles(NEW, n=90, seed=3)
    control = np.arange(len(y)) < 64
    net = networks["csarmbn"]
    whole = net.predict(x, control).proba
    assert np.abs(net.predict(x, control, chunk=7).proba - whole).max() < 1e-5
    order = np.random.default_rng(0).permutation(len(y))
    assert np.abs(net.predict(x[order], control[order]).proba - whole[order]).max() < 1e-5


def test_few_controls_fall_back_and_say_so(networks):
    x, y, _ = tiles(NEW, n=60, seed=3)
    net = networks["csarmbn"]
    found = net.predict(x, np.arange(len(y)) < 10)
    assert "too few to adapt" in net.warnings[0]
    assert np.array_equal(found.proba, net.predict(x, way="source").proba)


def test_a_network_comes_back_from_its_file_and_names_a_network_of_your_own(networks, tmp_path):
    x, y, _ = tiles(NEW, n=70)
    path = networks["csarmbn"].save(tmp_path / "net")
    with pytest.raises(AdaptError, match="a network of your own: give it as model"):
        load_head(path)
    again = load_head(path, model=small())
    control = np.arange(len(y)) < 64
    assert np.allclose(
        again.predict(x, control).proba, networks["csarmbn"].predict(x, control).proba, atol=1e-7
    )
    assert again.curve == networks["csarmbn"].curve


def test_batchfx_mini_and_timm_networks_by_name(tmp_path):
    x, y, where = tiles(SEEN, n=10)
    big = np.repeat(np.repeat(x, 2, axis=1), 2, axis=2)
    settings = TrainingSettings(targets=4, controls=4, domains=1, steps=1, every=1)
    net = AdaptiveNetwork("batchfx-mini", "armbn", settings).fit(big, y, where)
    # pixels are scaled as they were when its weights were trained, not as for ImageNet
    with safe_open(str(MINI_WEIGHTS), framework="numpy") as file:
        trained = json.loads(file.metadata()["pretrained_cfg"])
    assert (list(net.mean), list(net.std)) == (trained["mean"], trained["std"])
    assert AdaptiveNetwork("resnet10t").mean == (0.485, 0.456, 0.406)
    again = load_head(net.save(tmp_path / "mini"))
    assert np.allclose(again.predict(big).proba, net.predict(big).proba, atol=1e-7)
    with pytest.raises(AdaptError, match="timm knows no network"):
        AdaptiveNetwork("../../weights", "armbn", settings).fit(big, y, where)


def test_networks_without_batch_normalisation_are_declined():
    plain = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(16 * 16 * 3, 2))
    x, y, where = tiles(SEEN, n=10)
    with pytest.raises(AdaptError, match="no batch normalisation"):
        AdaptiveNetwork(plain, "armbn", TINY).fit(x, y, where)


def test_same_seed_same_numbers_and_a_cancelled_training_keeps_the_best(networks):
    x, y, where = tiles(SEEN)
    control = np.arange(len(y)) % 3 == 0
    again = AdaptiveNetwork(small(), "csarmbn", TINY).fit(x, y, where, control)
    assert np.array_equal(again.predict(x).proba, networks["csarmbn"].predict(x).proba)
    stopped = AdaptiveNetwork(small(), "csarmbn", TINY)
    job = stopped.fit_job(x, y, where, control)
    for step, _ in enumerate(job):
        if step == 25:
            break
    job.close()
    assert [p.step for p in stopped.curve] == [20]
    assert stopped.predict(x, control).predicted.all()
