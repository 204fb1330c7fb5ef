"""One writer at a time, saving now and then, and what a crash leaves."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from napari_batchfx.errors import StudyError
from napari_batchfx.jobs import Progress, run
from napari_batchfx.study import Study
from napari_batchfx.study.autosave import autosaving
from napari_batchfx.study.files import STUDY_FILE
from napari_batchfx.study.lock import StudyBusyError, held_by
from napari_batchfx.study.recovery import unsaved_studies

from .conftest import half, set_up

DATA = Path(__file__).parent / "data"


@pytest.fixture
def saved(slides, tmp_path):
    with set_up(tmp_path / "s", slides) as study:
        study.save()
    return study.folder


def test_the_second_window_is_read_only_and_says_so(saved, tmp_path):
    with Study.open(saved) as first, Study.open(saved) as second:
        assert first.read_only_because == ""
        said = second.read_only_because
        assert said.startswith("s.batchfx: read-only here, ")
        assert f"process {os.getpid()}, since 0 s" in said
        before = (saved / STUDY_FILE).read_bytes()
        second.settings.probe.batch = "site"
        for refused in (second.save, lambda: run(second.encode_job()), second.autosave):
            with pytest.raises(StudyBusyError, match="close it there"):
                refused()
        assert (saved / STUDY_FILE).read_bytes() == before
        assert not (saved / "features.zarr").exists()
        # it can be looked at, and kept under another name
        assert len(second.slides) == 4
        second.save_as(tmp_path / "other")
        assert second.read_only_because == ""
        with pytest.raises(StudyError, match="has that study open"):
            second.save_as(saved, overwrite=True)
    assert held_by(saved) is None


def test_when_the_first_window_is_gone_the_second_may_write(saved):
    with Study.open(saved) as second:
        with Study.open(saved) as first:
            first.claim()
            assert second.read_only_because
        assert second.read_only_because == ""
        second.save()


def test_what_another_window_saved_meanwhile_is_not_written_over(saved):
    with Study.open(saved) as second:
        with Study.open(saved) as first:
            first.settings.probe.batch = "site"
            first.save()
        with pytest.raises(StudyError, match="another program has saved the study since"):
            second.save()
    with Study.open(saved) as again:
        assert again.settings.probe.batch == "site"


def test_a_study_that_is_forgotten_does_not_stay_locked(saved):
    import gc

    study = Study.open(saved)
    study.claim()
    del study
    gc.collect()
    with Study.open(saved) as again:
        again.save()


WORK = """
import sys, time
from napari_batchfx.study import Annotation, Study
from napari_batchfx.study.autosave import autosaving
from napari_batchfx.jobs import Progress, run
study = Study.open(sys.argv[1])
def job():
    for number in range(100000):
        study.annotations.append(Annotation("A-1", f"c{number}", False, [[0, 0], [0, 9], [9, 9]]))
        yield Progress(number, 0, "drawing")
        time.sleep(0.01)
        print(number, time.time(), flush=True)
run(autosaving(study, job(), every_s=0.3))
"""


def test_kill_9_loses_nothing_older_than_the_last_save(saved):
    """Saving every 0.3 s here, every 10 s in the window: what is lost is younger than twice that."""
    process = subprocess.Popen(
        [sys.executable, "-c", WORK, str(saved)], stdout=subprocess.PIPE, text=True, env=os.environ
    )
    drawn = {}
    for line in process.stdout:
        number, when = line.split()
        drawn[int(number)] = float(when)
        if (saved / "annotations.geojson").read_text().count("Feature") > 30:
            break
    os.kill(process.pid, signal.SIGKILL)
    rest = process.communicate()[0]
    for line in rest.splitlines():
        number, when = line.split()
        drawn[int(number)] = float(when)
    assert held_by(saved) is None  # its process has ended: nobody waits for it
    with Study.open(saved) as study:
        assert study.problems == []
        kept = {int(a.class_name[1:]) for a in study.annotations if (a.class_name or "").startswith("c")}
        study.save()
    assert kept == set(range(len(kept)))
    written = (saved / "annotations.geojson").stat()
    assert len(kept) > 8
    assert written.st_size
    # everything that was drawn before the last save began is there
    lost = sorted(set(drawn) - kept)
    if lost:
        assert max(drawn.values()) - drawn[lost[0]] < 100 * 0.3


def test_a_clock_that_jumps_changes_nothing(saved, monkeypatch):
    real = time.time
    for jump in (-86400.0 * 400, 86400.0 * 400):
        with Study.open(saved) as study:
            study.claim()
            with monkeypatch.context() as patch:
                patch.setattr("time.time", lambda jump=jump: real() + jump)
                study.settings.probe.seed += 1
                study.save()
                with Study.open(saved) as other:
                    assert "read-only here" in other.read_only_because
                outcome = run(study.encode_job())
                assert outcome.problems == ()
        with Study.open(saved) as again:
            assert again.problems == []
            again.save()


def test_saving_now_and_then_writes_only_what_changed(saved):
    with Study.open(saved) as study:
        study.autosave()()
        assert study.autosave() is None
        study.annotations.append(half("A-1", "other", "left"))
        write = study.autosave()
        study.annotations.append(half("A-1", "later", "left"))  # not part of this one any more
        write()
        assert (study.folder / "annotations.geojson").read_text().count('"other"') == 1
        assert '"later"' not in (study.folder / "annotations.geojson").read_text()
        assert study.autosave() is not None

        def job():
            yield Progress(0, 0, "")
            raise ValueError("an accident")

        with pytest.raises(ValueError, match="an accident"):
            run(autosaving(study, job()))
        assert '"later"' in (study.folder / "annotations.geojson").read_text()


def test_unsaved_work_is_found_after_a_crash(slides, tmp_path):
    code = (
        "import os, sys\n"
        "from pathlib import Path\n"
        "from napari_batchfx.study import Study\n"
        "study = Study.create(unsaved_in=Path(sys.argv[1]))\n"
        "study.add_slide(sys.argv[2], site='AMC')\n"
        "study.autosave()()\n"
        "os.kill(os.getpid(), 9)\n"
    )
    folder = tmp_path / "unsaved"
    subprocess.run([sys.executable, "-c", code, str(folder), str(slides["A-1"])], check=False)
    with Study.create(unsaved_in=folder) as living:
        living.add_slide(slides["B-1"])
        living.autosave()()
        (found,) = unsaved_studies(folder)
    assert found.sentence().startswith("1 slide, last changed")
    with Study.open(found.folder) as study:
        assert study.slides[0].site == "AMC"
        study.save_as(tmp_path / "kept")
        assert study.problems == []


def test_a_study_of_the_last_layout_opens_with_its_results(tmp_path):
    """Written by the program of before (version 1): slides, regions, features, results, fitted parts."""
    shutil.copytree(DATA / "version-1", tmp_path / "old")
    folder = (tmp_path / "old" / "study").rename(tmp_path / "old" / "study.batchfx")
    text = (folder / STUDY_FILE).read_text()
    with Study.open(folder) as study:
        assert study.problems == []
        assert study.is_current("probe")
        assert study.is_current("adapt")
        assert study.table("tissue").n_obs == 96
        assert study.steps == []
        before = study.results.probe.result.balanced_accuracy
        outcome = study.run()
        assert (outcome.encode.tiles, outcome.encode.kept) == (0, 96)
        assert outcome.probe.result.balanced_accuracy == before
        study.save()
    data = json.loads((folder / STUDY_FILE).read_text())
    assert data["version"] == 2
    assert [step["kind"] for step in data["steps"]] == ["encode", "probe", "adapt"]
    assert (folder / "study.version-1.json").read_text() == text  # as it was, for who goes back
    with Study.open(folder) as study:
        study.settings.probe.seed = 1
        study.save()
    assert (folder / "study.version-1.json").read_text() == text
