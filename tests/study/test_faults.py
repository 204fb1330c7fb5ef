"""What goes wrong in the middle costs nothing that was done: the next run ends with the clean run's bytes."""

from __future__ import annotations

import errno
import os
import shutil
import signal
import subprocess
import sys

import pytest
from typer.testing import CliRunner

from napari_batchfx.cli import app
from napari_batchfx.errors import FeatureError, StudyError
from napari_batchfx.jobs import run
from napari_batchfx.study import Study

from .conftest import set_up
from .test_history import features, results


@pytest.fixture(scope="module")
def clean(slide_files, tmp_path_factory):
    """An undisturbed run: its features and results."""
    with set_up(tmp_path_factory.mktemp("clean") / "s", slide_files) as study:
        assert study.run().problems == ()
        study.save()
    return features(study.folder), results(study.folder)


@pytest.fixture
def saved(slides, tmp_path):
    with set_up(tmp_path / "s", slides) as study:
        study.settings.encode.batch_size = 4
        study.save()
    return study.folder


def finish(folder, clean):
    """Run again; everything is as if nothing had happened (how many tiles a batch has is no result)."""
    with Study.open(folder) as study:
        study.settings.encode.batch_size = None
        outcome = study.run()
        assert outcome.problems == ()
        study.save()
    assert features(folder) == clean[0]
    assert results(folder) == clean[1]
    return outcome


def start(folder, *more):
    """``run`` in a process of its own, slowed down so that it can be met in the middle."""
    code = (
        "import sys, time\n"
        "from napari_batchfx.features.array import FeatureArray\n"
        "kept = FeatureArray.append\n"
        "def slow(*given):\n    found = kept(*given)\n    print('stored', flush=True)\n    time.sleep(0.05)\n    return found\n"
        "FeatureArray.append = slow\n"
        # batch by batch, so that there are many moments between two writes
        "from napari_batchfx.study import slide_work\n"
        "slide_work.HOLD_S = 0.0\n"
        "from napari_batchfx.cli import main\n"
        "main()\n"
    )
    process = subprocess.Popen(
        [sys.executable, "-c", code, "run", str(folder), *more],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    for _ in range(6):
        assert process.stdout.readline() == "stored\n"
    return process


def test_kill_9(saved, clean):
    process = start(saved)
    process.send_signal(signal.SIGKILL)
    process.communicate()
    outcome = finish(saved, clean)
    assert outcome.encode.kept >= 20
    assert outcome.encode.tiles < 320


def test_ctrl_c_stops_cleanly_and_the_next_run_goes_on(saved, clean):
    process = start(saved)
    process.send_signal(signal.SIGINT)
    _, said = process.communicate(timeout=60)
    assert process.returncode == 130
    assert said.strip().endswith("Stopped; tiles that a study has stored are kept.")
    assert "Traceback" not in said
    assert not list((saved / "features.zarr" / ".locks").glob("*.json"))
    outcome = finish(saved, clean)
    assert outcome.encode.kept >= 20


def test_two_runs_on_one_study(saved, clean):
    process = start(saved)
    second = CliRunner().invoke(app, ["run", str(saved)])
    assert second.exit_code == 4
    assert "read-only here" in second.stderr
    assert f"process {process.pid}" in second.stderr
    assert process.communicate(timeout=120) is not None
    assert process.returncode == 0
    assert features(saved) == clean[0]
    finish(saved, clean)


def test_a_full_disk_ends_the_run_at_once(saved, clean, monkeypatch):
    with monkeypatch.context() as patch:
        patch.setattr("napari_batchfx.features._files.DiskFiles.put", _full_put([12]))
        with (
            Study.open(saved) as study,
            pytest.raises(FeatureError, match="the disk is full; free some room"),
        ):
            study.run()
    finish(saved, clean)


def _full_put(left):
    from napari_batchfx.features._files import DiskFiles

    real = DiskFiles.put

    def put(self, *given):
        left[0] -= 1
        if left[0] < 0:
            raise OSError(errno.ENOSPC, "No space left on device")
        return real(self, *given)

    return put


def test_the_store_s_folder_is_removed_in_the_middle(saved, clean):
    with Study.open(saved) as study:
        job = study.encode_job()
        for progress in job:
            if progress.done >= 100:
                shutil.rmtree(saved / "features.zarr")
                break
        outcome = run(job)  # goes on with what it can, and says what it can't
        assert all("deleted" in str(problem) or "can't be" in str(problem) for problem in outcome.problems)
    finish(saved, clean)


def test_a_slide_that_is_cut_while_it_is_read(saved, clean, slides):
    whole = slides["B-1"].read_bytes()
    with Study.open(saved) as study:
        job = study.encode_job()
        for progress in job:
            if "B-1" in progress.what and progress.what.startswith("encoding"):
                os.truncate(slides["B-1"], len(whole) // 3)
                break
        outcome = run(job)
        assert {"A-1", "A-2", "B-2"} <= set(outcome.slides)
        for problem in outcome.problems:
            assert problem.subject == "B-1"
            assert "\n" not in str(problem)
    slides["B-1"].write_bytes(whole)
    finish(saved, clean)


def test_an_interrupted_report_leaves_the_last_one(saved, clean, tmp_path, monkeypatch):
    path = tmp_path / "r.html"
    with Study.open(saved) as study:
        study.run()
        study.report(path)
        before = path.read_bytes()
        with monkeypatch.context() as patch:

            def killed(*_: object) -> None:
                raise KeyboardInterrupt

            patch.setattr("os.replace", killed)
            with pytest.raises((KeyboardInterrupt, StudyError)):
                study.report(path)
        assert path.read_bytes() == before
        study.report(path)
        assert path.stat().st_size > 1000
    assert [one.name for one in tmp_path.glob("*.part*")] == []
    finish(saved, clean)


def test_one_bad_slide_of_many_is_reported_and_skipped(slides, tmp_path):
    """More slides than are looked at first: they stream."""
    from napari_batchfx.study.encoding import LOOK_FIRST

    with set_up(tmp_path / "s", {}, labels=False) as study:
        for number in range(LOOK_FIRST + 4):
            path = tmp_path / f"c{number}.tif"
            path.write_bytes(slides["A-1"].read_bytes() + bytes([number]))
            study.tidy(study.add_slide(path))
        study.settings.encode.size_px = 256
        (tmp_path / "c3.tif").write_bytes(b"no slide any more")
        seen = []
        outcome = run(study.encode_job(), seen.append)
        assert [problem.subject for problem in outcome.problems] == ["c3"]
        assert len(outcome.slides) == LOOK_FIRST + 3
        assert outcome.tiles == 4 * (LOOK_FIRST + 3)
        totals = [step.total for step in seen if step.unit == "tiles" and step.total]
        assert totals[0] == 4 * (LOOK_FIRST + 4)  # estimated from the first slide
        assert len(study._open_slides) <= LOOK_FIRST + 1
        study.save()
    done = CliRunner().invoke(app, ["embed", str(study.folder), "--tile-px", "256", "--tile-mpp", "0.5"])
    assert done.exit_code == 3, done.stderr
    assert f"1 of {LOOK_FIRST + 4} slides failed; the others are done" in done.stderr


def test_errors_have_their_own_codes(saved):
    def code(*words):
        return CliRunner().invoke(app, [str(word) for word in words]).exit_code

    assert code("run", saved.with_name("nothing.batchfx")) == 1
    assert code("run", saved, "--nonsense") == 2
    with Study.open(saved) as study:
        study.claim()
        assert code("run", saved) == 4
        assert code("add", saved, saved.with_name("x.tif")) == 4
        assert code("embed", saved) == 4
