"""Precision: half where it is fast and changes nothing that matters, checked once and remembered."""

import json

import numpy as np
import pytest

from napari_batchfx.encoders import load, precision
from napari_batchfx.encoders.precision import LEAST_COSINE, PrecisionCheck, check_precision, tissue_like

TINY = "test_vit?pretrained=false"


def rounded(digits):
    """A model whose reduced precision keeps so many binary digits, and what it was asked."""
    asked = []

    def run(tiles, kind):
        asked.append((len(tiles), kind))
        vectors = tiles.reshape(len(tiles), -1)[:, :200].astype(np.float32) - 128
        if kind == "fp32":
            return vectors
        step = np.exp2(np.floor(np.log2(np.abs(vectors) + 1e-9)) - digits[kind])
        return np.round(vectors / step) * step

    run.asked = asked
    return run


def check(run, tries=("fp16", "bf16"), device="cuda:7", identity="m", monkeypatch=None):
    return check_precision(run, 6, 32, "Model", identity, device, tries)


@pytest.fixture(autouse=True)
def _nothing_remembered(monkeypatch, tmp_path):
    monkeypatch.setenv("BATCHFX_CACHE", str(tmp_path / "cache"))
    # the name of a graphics card that this machine needn't have
    monkeypatch.setattr(precision, "_machine", lambda device: f"{device} here")


def test_the_finer_of_two_good_ones():
    found = check(rounded({"fp16": 10, "bf16": 7}))
    assert (found.chosen, found.tried, found.n, found.note) == ("fp16", "fp16", 6, "")
    assert LEAST_COSINE < found.worst <= found.median <= 1 + 1e-12
    assert found.is_close


def test_the_second_where_the_first_overflows():
    def run(tiles, kind):
        vectors = tiles.reshape(len(tiles), -1)[:, :50].astype(np.float32) + 1
        return vectors * np.inf if kind == "fp16" else vectors

    assert check(run).chosen == "bf16"


def test_full_precision_with_a_note_where_neither_is_good():
    found = check(rounded({"fp16": 1, "bf16": 0}))
    assert found.chosen == "fp32"
    assert not found.is_close
    assert "Model: runs in full precision" in found.note
    assert f"{found.worst:.4f}" in found.note


def test_a_layer_that_knows_no_half_precision():
    def run(tiles, kind):
        if kind != "fp32":
            raise RuntimeError("not implemented for 'Half'")
        return tiles.reshape(len(tiles), -1)[:, :5].astype(np.float32)

    assert check(run).chosen == "fp32"


def test_cosine_is_the_worst_of_all_tiles():
    """One tile of six turned by a known angle: cos 0.5 rad."""

    def run(tiles, kind):
        vectors = np.tile(np.float32([1, 0]), (len(tiles), 1))
        if kind == "bf16" and len(tiles) > 1:
            vectors[3] = np.cos(0.5), np.sin(0.5)
        return vectors

    found = check(run, ("bf16",))
    np.testing.assert_allclose(found.worst, np.cos(0.5), rtol=1e-6)
    assert found.median == pytest.approx(1)
    assert found.chosen == "fp32"


def test_a_cpu_must_gain(monkeypatch):
    """The same good rounding; what decides is the time, here told by a clock of our own."""
    now = [0.0]
    monkeypatch.setattr(precision.time, "perf_counter", lambda: now[0])
    cost = {"fp32": 4.0, "bf16": 3.5}

    def run(tiles, kind):
        now[0] += cost[kind] * len(tiles)
        return tiles.reshape(len(tiles), -1)[:, :5].astype(np.float32) + 1

    slow = check(run, ("bf16",), "cpu", "a")
    assert (slow.chosen, slow.note) == ("fp32", "")
    assert slow.gain == pytest.approx(4 / 3.5)
    cost["bf16"] = 1.0
    assert check(run, ("bf16",), "cpu", "b").chosen == "bf16"


def test_it_is_remembered_for_the_model_and_the_machine(tmp_path, monkeypatch):
    monkeypatch.setenv("BATCHFX_CACHE", str(tmp_path))
    run = rounded({"fp16": 10, "bf16": 7})
    first = check(run)
    n = len(run.asked)
    assert check(run) == first
    assert len(run.asked) == n
    check(run, identity="another")
    check(run, device="cuda:0")
    assert len(run.asked) == 3 * n
    rows = json.loads((tmp_path / "precision.json").read_text())
    assert set(rows) == {"m on cuda:7 here", "another on cuda:7 here", "m on cuda:0 here"}
    # a file that isn't ours, or none that can be written, costs a check and no more
    for text in ("{", "[1]", '{"m on cuda:7 here": {"no": 1}}'):
        (tmp_path / "precision.json").write_text(text)
        assert check(run) == first
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("BATCHFX_CACHE", str(tmp_path / "file"))
    assert check(run) == first


def test_tiles_look_like_tissue():
    """Coloured as H&E: red and blue above green where there is stain; they differ in how much of it."""
    tiles = tissue_like(12, 96)
    assert tiles.shape == (12, 96, 96, 3)
    np.testing.assert_array_equal(tiles, tissue_like(12, 96))
    stained = tiles[tiles.mean(-1) < 200].astype(float)
    assert len(stained) > 0.1 * tiles[..., 0].size
    assert stained[:, 0].mean() > stained[:, 1].mean() + 20
    assert stained[:, 2].mean() > stained[:, 1].mean() + 20
    assert tiles.mean((1, 2, 3)).std() > 5
    assert (tiles.std((1, 2)) > 5).all()


def test_the_key_names_the_precision_that_was_used():
    small = load(TINY, device="cpu")
    assert small.precision == "fp32"
    assert small.precision_check is None
    assert "/fp32/" in small.key
    asked = load(TINY, device="cpu", precision="bf16")
    assert "/bf16/" in asked.key
    assert isinstance(asked.precision_check, PrecisionCheck)
    assert asked.precision_check.worst > LEAST_COSINE
    assert asked.info()["precision_cosine"] == asked.precision_check.worst
    assert "precision_cosine" not in small.info()


def test_auto_takes_what_was_measured(monkeypatch):
    """A CPU with fast bf16 and a model that is worth it: the check decides, and the key says what it decided."""
    from napari_batchfx.encoders import timm_encoder

    keys = set()
    for good in (True, False):
        found = PrecisionCheck(
            "bf16", "bf16" if good else "fp32", 0.9999, 1.0, 12, 2.0, "" if good else "Slow: told."
        )
        monkeypatch.setattr(timm_encoder, "candidates", lambda device, *, is_large: ("bf16",))
        monkeypatch.setattr(timm_encoder, "check_precision", lambda *a, found=found: found)
        encoder = load(TINY, device="cpu")
        keys.add(encoder.key)
        assert encoder.precision == found.chosen
        assert f"/{found.chosen}/" in encoder.key
        assert ("Slow: told." in encoder.warnings) is not good
    assert len(keys) == 2


def test_a_precision_that_was_asked_for_is_kept_and_told_about(monkeypatch):
    from napari_batchfx.encoders import timm_encoder

    found = PrecisionCheck("bf16", "fp32", 0.98, 0.99, 12)
    monkeypatch.setattr(timm_encoder, "check_precision", lambda *a: found)
    encoder = load(TINY, device="cpu", precision="bf16")
    assert encoder.precision == "bf16"
    assert any("bf16 changes its vectors (cosine 0.9800" in note for note in encoder.warnings)
