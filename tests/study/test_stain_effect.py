"""What normalisation does to the signature: the same tiles, encoded twice, probed alike."""

from __future__ import annotations

import json
import shutil

import numpy as np
import pytest

from napari_batchfx.errors import StudyError
from napari_batchfx.jobs import run
from napari_batchfx.probe import site_probe
from napari_batchfx.study import Study
from napari_batchfx.study.before_after import compare_job
from napari_batchfx.study.stain_effect import stain_effect_job


@pytest.fixture
def folder(done, tmp_path):
    """A copy of the study that was run: features are added to it."""
    return shutil.copytree(done, tmp_path / "s.batchfx")


def test_numbers_are_those_of_probe_and_table(folder):
    with Study.open(folder) as study:
        choice = study.settings.probe
        found = run(stain_effect_job(study))
        tables = [study.table("tissue")]
        study.settings.encode.normalizer = "macenko"
        tables.append(study.table("tissue"))  # they are in the store, under their own variant
        for table, value, interval in (
            (tables[0], found.comparison.probe.before, found.comparison.probe.interval_before),
            (tables[1], found.comparison.probe.after, found.comparison.probe.interval_after),
        ):
            own = site_probe(
                table, "scanner", "patient", permutations=0, n_bootstrap=choice.n_bootstrap,
                n_splits=choice.n_splits, seed=choice.seed,
            )  # fmt: skip
            assert value == own.balanced_accuracy
            assert interval == tuple(own.ci)
        assert found.encoded == sum(found.tiles.values()) == 320  # as scanned they were there
        assert found.comparison.probe.before > 0.9
        assert found.comparison.batch == "scanner"
        assert "320" not in found.sentence
        assert "guessing: 50" in found.sentence
        assert found.comparison.retention.is_known
        assert found.comparison.robustness.is_known
        low, high = found.comparison.probe.change_interval
        assert low <= found.comparison.probe.change <= high
        said = found.to_dict()
        assert "slides" not in said
        assert "Kömen" in said["literature"]
        study.settings.encode.normalizer = None
        assert run(stain_effect_job(study)).encoded == 0


def test_only_what_is_seen(folder):
    with Study.open(folder) as study:
        names = [entry.name for entry in study.slides]
        boxes = dict.fromkeys(names[:3], (0.0, 0.0, 128.0, 160.0))
        found = run(stain_effect_job(study, boxes_um=boxes))
        assert found.slides == tuple(names[:3])
        assert set(found.tiles.values()) == {20}
        with pytest.raises(StudyError, match="move the view over tissue"):
            run(
                stain_effect_job(
                    study, boxes_um=dict.fromkeys(names, (100000.0, 100000.0, 200000.0, 200000.0))
                )
            )


def test_stopped_it_goes_on_where_it_was(folder):
    with Study.open(folder) as study:
        study.settings.encode.batch_size = 16
        job = stain_effect_job(study)
        for step in job:
            if step.partial is not None and step.done >= 32 and "encoding" in step.what:
                break
        job.close()
        found = run(stain_effect_job(study))
        assert 0 < found.encoded < 320
        assert sum(found.tiles.values()) == 320


def test_what_is_missing_is_said(folder):
    with Study.open(folder) as study:
        with pytest.raises(StudyError, match="at least two"):
            run(stain_effect_job(study, study.slides[:1]))
        with pytest.raises(StudyError, match="a different site"):
            run(stain_effect_job(study, batch="site"))
        study.settings.probe.batch = "site"  # nobody said so: what the slides do differ in
        assert run(stain_effect_job(study)).comparison.batch == "scanner"


def test_the_change_is_that_of_the_same_draws(folder):
    """Twice the same features change nothing, in every draw; without classes only the probe speaks."""
    with Study.open(folder) as study:
        table = study.table("tissue")
    del table.obs["label"]
    same = run(compare_job(table, table))
    assert same.probe.change == 0
    assert same.probe.change_interval == (0.0, 0.0)
    assert not same.retention.is_known
    assert "draw regions" in same.retention.text()
    noise = table.copy()
    noise.X = np.random.default_rng(0).normal(size=table.shape).astype(np.float32)
    worse = run(compare_job(table, noise))
    # two slides a scanner: from 1.00 to guessing, and no more is known than that it fell
    assert worse.probe.change < -0.4
    assert worse.probe.change_interval[1] < 0
    assert worse.probe.change_interval[0] < -0.7
    assert not worse.still_there
    with pytest.raises(StudyError, match="the same tiles"):
        run(compare_job(table, table[::-1].copy()))


def test_command(folder):
    from typer.testing import CliRunner

    from napari_batchfx.cli import app

    def call(*arguments):
        return CliRunner().invoke(app, ["stain-effect", str(folder), *arguments])

    done = call("--method", "reinhard", "--json")
    assert done.exit_code == 0, done.output
    said = json.loads(done.stdout)
    assert said["method"] == "reinhard"
    assert said["probe"]["before"] > 0.9
    assert "Meier" not in done.stdout
    text = call("--method", "reinhard")
    assert "class retention" in text.stdout
    assert "Colour is reduced" in text.stdout
    assert call("--method", "gram").exit_code == 2
    assert call("--batch", "site").exit_code == 1
