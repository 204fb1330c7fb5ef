"""A slide whose features another program is writing: said before anything is computed; the other slides go on."""

import subprocess
import sys

import numpy as np
import pytest
from tests.counting import CountingEncoder, use

from napari_batchfx.features import locks
from napari_batchfx.jobs import run
from napari_batchfx.study.live import live_job
from napari_batchfx.study.live_view import LiveView, Look
from napari_batchfx.study.mapping import component_maps
from napari_batchfx.study.overview import Overview
from napari_batchfx.study.tables import feature_array

from .conftest import MPP, SHAPE, set_up

HOLDER = """
import sys
from napari_batchfx.features import FeatureStore
with FeatureStore(sys.argv[1]).array(sys.argv[2], "another", "64px-0.5um-step64", dim=4).writing("first"):
    print("holding", flush=True)
    sys.stdin.readline()
"""


@pytest.fixture
def study(slides, tmp_path):
    with set_up(tmp_path / "s", slides, labels=False) as study:
        study.settings.encode.min_tissue = 0.0
        yield study


@pytest.fixture
def held(study, monkeypatch):
    """The first slide, which another program is writing."""
    monkeypatch.setattr(locks, "PATIENCE_S", 0.1)
    path = study.store().path
    entry = study.slides[0]
    child = subprocess.Popen(
        [sys.executable, "-c", HOLDER, str(path), entry.fingerprint],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    assert child.stdout.readline() == "holding\n"
    yield entry
    child.kill()
    child.communicate()


def test_encoding_whole_slides_leaves_it_out_and_says_who(study, held):
    encoder = use(study, CountingEncoder())
    outcome = run(study.encode_job())
    (problem,) = outcome.problems
    assert problem.subject == held.name
    assert "being written by" in str(problem)
    others = sum(study.grid(entry).tissue.size for entry in study.slides[1:])
    assert outcome.tiles == others == sum(encoder.seen.values())


def test_live_leaves_it_out_and_says_who(study, held):
    encoder = use(study, CountingEncoder())
    view = LiveView()
    box = (0.0, 0.0, SHAPE[0] * MPP, SHAPE[1] * MPP)
    view.aim([Look(entry, box, (box[2] / 2, box[3] / 2)) for entry in study.slides])
    outcome = run(live_job(study, view, Overview())).outcome
    (problem,) = outcome.problems
    assert problem.subject == held.name
    assert "being written by" in str(problem)
    others = sum(study.grid(entry).tissue.size for entry in study.slides[1:])
    assert outcome.tiles == others == sum(encoder.seen.values())


def damage(study, entry):
    """Zeros over some of a slide's vectors."""
    blocks = sorted((study.store().path / entry.fingerprint).rglob("vectors/c/**/*"))
    blocks = [path for path in blocks if path.is_file()]
    data = bytearray(blocks[0].read_bytes())
    data[:40] = bytes(40)
    blocks[0].write_bytes(bytes(data))


def test_what_was_damaged_on_the_disk_is_encoded_again_and_said_once(study):
    encoder = use(study, CountingEncoder())
    run(study.encode_job())
    before = study.table("all").X
    entry = study.slides[0]
    damage(study, entry)
    encoder.seen.clear()
    outcome = run(study.encode_job())
    assert 0 < outcome.tiles == sum(encoder.seen.values())
    (said,) = outcome.damage_said()
    assert said.startswith(f"{entry.name}: the features of {outcome.tiles} tile")
    assert "encoded again" in said
    assert study.store().damage_said() == []
    assert run(study.encode_job()).damage_said() == []
    np.testing.assert_array_equal(study.table("all").X, before)
    assert not study.problems


def test_the_map_leaves_out_tiles_that_were_damaged_on_the_disk(study):
    use(study, CountingEncoder())
    run(study.encode_job())
    entry = study.slides[0]
    n = feature_array(study, entry, study.grid(entry), None).n
    damage(study, entry)
    values = component_maps(study)[entry.fingerprint].values
    assert 0 < np.isfinite(values).sum() < n
    (said,) = study.store().damage_said()
    assert "damaged" in said
