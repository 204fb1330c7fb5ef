"""Reports, exports and the control set are steps: a person reads them, `run` does them again, a stranger's does no harm."""

from __future__ import annotations

import os
import subprocess
import sys

import numpy as np
import pytest

from napari_batchfx.errors import StudyError
from napari_batchfx.jobs import run
from napari_batchfx.study import Step, Study

from .conftest import set_up


@pytest.fixture
def study(slides, tmp_path):
    with set_up(tmp_path / "s", {name: slides[name] for name in ("A-1", "B-1")}) as study:
        study.settings.probe.permutations, study.settings.probe.n_bootstrap = 1, 20
        study.settings.probe.group = "slide"
        run(study.encode_job())
        study.save()
        yield study


def kinds(study):
    return [step.kind for step in study.steps]


def test_a_report_is_a_step_that_run_does_again_at_the_end(study, tmp_path):
    study.report(tmp_path / "r.html")
    study.report(tmp_path / "r.html")
    run(study.probe_job())
    assert kinds(study) == ["encode", "report", "probe"]
    step = study.steps[1]
    assert step.options == {"path": "../r.html", "with_identifiers": False}
    assert step.sentence().endswith("r.html.")
    before = (tmp_path / "r.html").read_text()
    assert "Balanced accuracy" not in before
    done = run(study.run_job([one for one in study.plan() if one.kind != "adapt"]))
    assert done.problems == ()
    assert [one.kind for one, _ in done.done][-1] == "report"
    after = (tmp_path / "r.html").read_text()
    assert len(after) > len(before)
    assert study.results.probe.result.verdict[:20] in after
    study.save()
    with Study.open(study.folder) as again:
        assert again.steps[1].options == step.options


def test_the_settings_of_now_are_reported(study, tmp_path):
    study.report(tmp_path / "r.html")
    study.settings.encode.min_tissue = 0.123
    run(study.run_job([study.steps[-1]]))
    assert "0.123" in (tmp_path / "r.html").read_text()


def test_an_export_is_a_step_that_is_done_again(study, tmp_path):
    run(study.export_job(tmp_path / "out", ["csv"]))
    step = study.steps[-1]
    assert step.options == {"folder": "../out", "kinds": ["csv"], "with_identifiers": False}
    assert step.found.endswith("in out.")
    files = {path: path.read_bytes() for path in (tmp_path / "out").iterdir()}
    (tmp_path / "out" / "tiles.csv").write_text("") if (tmp_path / "out" / "tiles.csv").exists() else None
    done = run(study.run_job([step]))
    assert done.problems == ()
    assert {path: path.read_bytes() for path in (tmp_path / "out").iterdir()} == files


def test_texts_do_the_steps(study, tmp_path):
    study.report(tmp_path / "r.html")
    run(study.export_job(tmp_path / "out", ["csv"]))
    report, export = study.steps[-2:]
    study.save()
    study.close()
    (tmp_path / "r.html").unlink()
    (tmp_path / "out" / "export.json").unlink()
    for path in (tmp_path / "out").iterdir():
        path.unlink()
    assert report.as_command(study.folder).endswith(
        "--do report --set path=../r.html --set with_identifiers=false"
    )
    subprocess.run([sys.executable, "-c", report.as_python(study.folder)], check=True, timeout=120)
    assert (tmp_path / "r.html").is_file()
    subprocess.run([sys.executable, "-c", export.as_python(study.folder)], check=True, timeout=120)
    assert (tmp_path / "out" / "export.json").is_file()


@pytest.mark.parametrize(
    "path", ["../../thesis.html", "../notes.html", "../run.sh", "link.html", "../missing/r.html"]
)
def test_a_report_of_a_stranger_s_study_writes_over_nothing(study, tmp_path, path):
    (tmp_path.parent / "thesis.html").unlink(missing_ok=True)
    (tmp_path / "notes.html").write_text("<html>mine</html>")
    (tmp_path / "run.sh").write_text("mine")
    os.symlink(tmp_path / "notes.html", study.folder / "link.html")
    with pytest.raises(StudyError):
        run(study.run_job([Step(kind="report", options={"path": path})]))
    assert (tmp_path / "notes.html").read_text() == "<html>mine</html>"
    assert (tmp_path / "run.sh").read_text() == "mine"
    assert not (tmp_path.parent / "thesis.html").exists()


@pytest.mark.parametrize("folder", ["..", "../../elsewhere", "../full", "../full/new/deep"])
def test_an_export_of_a_stranger_s_study_writes_among_nothing(study, tmp_path, folder):
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "mine").write_text("mine")
    with pytest.raises(StudyError):
        run(study.run_job([Step(kind="export", options={"folder": folder, "kinds": ["csv"]})]))
    assert [path.name for path in (tmp_path / "full").iterdir()] == ["mine"]
    assert not (tmp_path.parent / "elsewhere").exists()
    assert not (tmp_path / "export.json").exists()


def test_the_control_set_is_a_step_before_what_used_it(study):
    study.put_control_cells("A-1", np.array([[5, 1], [5, 2]]))
    study.put_control_cells("B-1", np.array([[0, 0]]), is_taken=False)
    run(study.adapt_job())
    assert kinds(study) == ["encode", "controls", "adapt"]
    assert study.steps[1].found == "2 tiles (2 by hand) and 2 regions drawn on 2 slides; 1 tile taken out."
    basket = list(study.controls)
    done = run(study.run_job(study.steps))
    assert done.problems == ()
    assert study.controls == basket
    assert kinds(study) == ["encode", "controls", "adapt"]


def test_a_control_set_kept_in_the_study_can_be_taken_again(study, tmp_path):
    study.put_control_cells("A-1", np.array([[5, 1], [5, 2]]))
    study.export_controls(study.folder / "first.csv")
    basket = [(tile.slide, tile.y_um, tile.x_um) for tile in study.controls]
    study.controls = []
    run(study.run_job([Step(kind="controls", options={"file": "first.csv"})]))
    assert [(tile.slide, tile.y_um, tile.x_um) for tile in study.controls] == basket
    study.export_controls(tmp_path / "away.csv")
    os.symlink(tmp_path / "away.csv", study.folder / "link.csv")
    for file in ("../away.csv", str(tmp_path / "away.csv"), "link.csv", "none.csv"):
        with pytest.raises(StudyError):
            run(study.run_job([Step(kind="controls", options={"file": file})]))


def test_a_run_leaves_out_a_report_that_was_moved_away(study, tmp_path):
    (tmp_path / "far" / "away").mkdir(parents=True)
    study.report(tmp_path / "far" / "away" / "r.html")
    study.report(tmp_path / "r.html")
    (tmp_path / "far" / "away" / "r.html").unlink()
    before = (tmp_path / "r.html").stat().st_mtime_ns
    done = run(study.run_job(list(study.steps)))
    assert done.problems == ()
    (left,) = done.skipped
    assert left.startswith("report: r.html: the report of before is gone from away")
    assert not (tmp_path / "far" / "away" / "r.html").exists()
    assert (tmp_path / "r.html").stat().st_mtime_ns > before
