"""A study on a disk that is really full: one sentence, nothing half written, and it goes on when there is room."""

from __future__ import annotations

import pytest
from tests.features.test_full_disk import fill_up, small_disk

from napari_batchfx.errors import FeatureError, StudyError
from napari_batchfx.jobs import run
from napari_batchfx.study import Study

from .conftest import set_up
from .test_history import features, results

__all__ = ["small_disk"]


@pytest.fixture
def saved(small_disk, slides):
    with set_up(small_disk / "s", slides) as study:
        study.settings.probe.permutations, study.settings.probe.n_bootstrap = 1, 20
        study.save()
    return study.folder


def files(folder):
    """All that a study holds; who has it open is none of it."""
    return {
        path: path.read_bytes()
        for path in folder.rglob("*")
        if path.is_file() and ".locks" not in path.parts and path.name != "film.mov"
    }


def test_a_run_ends_at_once_and_goes_on(saved, slides, small_disk, tmp_path):
    with set_up(tmp_path / "clean", slides) as clean:
        clean.settings.probe.permutations, clean.settings.probe.n_bootstrap = 1, 20
        clean.run()
    with Study.open(saved) as study:
        run(study.encode_job(["A-1"]))
        study.save()
        film = fill_up(small_disk)
        with pytest.raises(FeatureError, match="the disk is full; free some room"):
            run(study.encode_job())
        film.unlink()
    with Study.open(saved) as study:
        outcome = study.run()
        assert outcome.problems == ()
        assert outcome.encode.kept >= 80
    assert features(saved) == features(clean.folder)
    assert results(saved) == results(clean.folder)


def test_nothing_is_half_saved(saved, small_disk):
    before = files(saved)
    with Study.open(saved) as study:
        study.name = "n" * 20_000
        film = fill_up(small_disk)
        with pytest.raises(StudyError, match=r"s\.batchfx: .*No space left on device"):
            study.save()
        assert files(saved) == before
        with Study.open(saved) as other:
            assert (other.name, other.problems) == ("s", [])
        film.unlink()
        study.save()
    with Study.open(saved) as study:
        assert study.name == "n" * 20_000


def test_no_half_of_a_report_or_an_export_stays(saved, small_disk):
    with Study.open(saved) as study:
        run(study.encode_job())
        study.report(small_disk / "r.html")
        before = (small_disk / "r.html").read_bytes()
        film = fill_up(small_disk)
        with pytest.raises(
            StudyError, match=r"r\.html: the report can't be written.*\(No space left on device\)"
        ):
            study.report(small_disk / "r.html")
        assert (small_disk / "r.html").read_bytes() == before
        with pytest.raises(StudyError, match="new\\.html"):
            study.report(small_disk / "new.html")
        assert not (small_disk / "new.html").exists()
        said = ""
        try:
            said = " ".join(map(str, run(study.export_job(small_disk / "out", ["csv", "h5ad"])).problems))
        except StudyError as error:
            said = str(error)
        assert "No space left" in said or "disk is full" in said
        left = [path.name for path in small_disk.glob("out/*")]
        assert not [name for name in left if name.endswith((".csv", ".h5ad"))]
        film.unlink()
        assert run(study.export_job(small_disk / "out", ["csv"])).problems == ()
        assert study.report(small_disk / "r.html").stat().st_size > 5_000
