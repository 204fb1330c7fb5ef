"""An encoder whose weights have to be downloaded first: progress, a way to stop, and nothing lost."""

from __future__ import annotations

import threading

import pytest
from tests.encoders.hub_server import HubServer, tiny_model, use_hub

from napari_batchfx.encoders import downloading, streaming
from napari_batchfx.errors import Cancelled, EncoderError
from napari_batchfx.jobs import run
from napari_batchfx.study import Study

from .conftest import set_up

MODEL = "hf-hub:org/tiny"
FILE = "model.safetensors"


@pytest.fixture(scope="module")
def files():
    return tiny_model()


@pytest.fixture
def hub(files, monkeypatch, tmp_path):
    server = HubServer({"org/tiny": files}, gated=())
    use_hub(monkeypatch, server.url, tmp_path / "hub-cache")
    monkeypatch.setattr(streaming, "CHUNK", 64 * 1024)
    monkeypatch.setattr(downloading, "WAIT_S", 0.02)
    yield server
    server.close()


@pytest.fixture
def study(slides, tmp_path, hub):
    with set_up(tmp_path / "s", {"A-1": slides["A-1"], "B-1": slides["B-1"]}) as study:
        run(study.encode_job())
        yield study


def test_bytes_then_tiles_in_one_job(study, files):
    study.settings.encode.encoder = MODEL
    assert study.loaded_encoder() is None
    steps = []
    outcome = run(study.encode_job(["A-1"]), steps.append)
    assert outcome.tiles == 80
    coming = [step for step in steps if step.unit == "bytes" and step.total == len(files[FILE])]
    assert coming[-1].done == len(files[FILE])
    assert len(coming) > 10
    assert " MB, " in coming[-1].text()
    assert steps[-1].unit == "tiles"
    assert study.loaded_encoder() is study.encoder()
    assert study.table().shape == (80, 64)
    again = []
    run(study.encode_job(["A-1"]), again.append)
    assert "bytes" not in {step.unit for step in again}


@pytest.mark.parametrize("work", ["encode_job", "probe_job", "adapt_job", "run_job", "encoder_job"])
def test_a_stopped_download_leaves_everything_as_it_was(study, hub, work):
    before, n_bytes = study.encoder(), study.store().nbytes
    study.settings.encode.encoder = MODEL
    go = threading.Event()
    hub.faults[FILE] = [("pause", 200_000, go)]
    seen = []
    with pytest.raises(Cancelled):
        run(getattr(study, work)(), seen.append, lambda: seen[-1].unit == "bytes" and seen[-1].done > 100_000)
    go.set()
    assert not study.is_working
    assert study.loaded_encoder() is None
    assert study.store().nbytes == n_bytes
    study.settings.encode.encoder = "colour-statistics"
    assert study.loaded_encoder() is before  # not even loaded anew
    assert study.table().n_obs == 160
    hub.ranges.clear()
    study.settings.encode.encoder = MODEL
    run(study.encoder_job())
    assert hub.ranges[0].startswith("bytes=")  # what had come isn't fetched again


def test_a_download_that_fails_is_one_sentence_and_can_be_tried_again(study, hub):
    before = study.encoder()
    study.settings.encode.encoder = MODEL
    hub.faults[FILE] = [100_000] + [0] * 10
    with pytest.raises(EncoderError, match="goes on from there"):
        run(study.encode_job())
    assert not study.is_working
    study.settings.encode.encoder = "colour-statistics"
    assert study.encoder() is before
    study.settings.encode.encoder = MODEL
    hub.faults.clear()
    assert run(study.encode_job(["A-1"])).tiles == 80


def test_two_jobs_that_want_it_load_it_once(study, hub):
    study.settings.encode.encoder = MODEL
    go = threading.Event()
    hub.faults[FILE] = [("pause", 100_000, go)]
    found, waited = [], []

    def load(steps):
        found.append(run(study.encoder_job(), steps.append))

    first = threading.Thread(target=load, args=([],))
    first.start()
    while not hub.ranges:
        pass
    second = threading.Thread(target=load, args=(waited,))
    second.start()
    while not waited:
        pass
    assert "waiting for hf-hub:org/tiny" in waited[0].what
    assert study.loaded_encoder() is None  # a window may ask meanwhile, at once
    grid = study.grid("A-1")  # and lay tiles
    assert grid.size_px == 64
    go.set()
    first.join()
    second.join()
    assert found[0] is found[1]
    assert len(hub.ranges) == 1


def test_a_job_that_was_begun_and_left_keeps_no_one_waiting(study, hub):
    study.settings.encode.encoder = MODEL
    left = study.encoder_job()
    next(left)
    assert study.encoder().dim == 64  # in the same thread: it would wait for itself
    left.close()


def test_gated_offline_and_unknown_encoders_are_one_sentence(study, hub):
    hub.gated.add("org/tiny")
    for name, says in (
        (MODEL, "accept their terms"),
        ("conch", "program code"),
        ("hf-hub:org/none", "org/none"),
        ("/no/such/folder", "no such file or folder"),
    ):
        study.settings.encode.encoder = name
        with pytest.raises(EncoderError, match=says) as error:
            run(study.encode_job())
        assert "\n" not in str(error.value)
    assert isinstance(study, Study)
