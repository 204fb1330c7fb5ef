"""Files that move, are replaced and come back, or get company, while their study knows them."""

from __future__ import annotations

import shutil

import numpy as np
import pytest
from tests.slides.dicom_writer import write_dicom
from tests.slides.ngff_writer import write_ngff

from napari_batchfx.errors import SlideError
from napari_batchfx.jobs import run
from napari_batchfx.slides import _watch
from napari_batchfx.study import Study, shelf

from .conftest import set_up


@pytest.fixture(autouse=True)
def _looked_at_every_time(monkeypatch):
    monkeypatch.setattr(_watch, "EVERY_S", 0.0)
    monkeypatch.setattr(shelf, "_AGAIN_S", 0.0)


@pytest.mark.parametrize("how", ["add", "relocate"])
def test_an_open_slide_whose_file_moved_reads_on(slides, tmp_path, how):
    with set_up(tmp_path / "s", {"A-1": slides["A-1"]}, labels=False) as study:
        entry = study.slides[0]
        slide = study.open_slide(entry)
        levels = slide.pyramid()  # what the layers of a window hold
        expected = slide.read(0, 0, 0, 100, 100)
        away = tmp_path / "away" / "renamed.tif"
        away.parent.mkdir()
        shutil.move(slides["A-1"], away)
        with pytest.raises(SlideError, match="the file is gone"):
            slide.read(0, 300, 300, 10, 10)
        assert study.open_slide(entry) is slide  # not there: still the one that says so
        if how == "add":
            assert study.add_slide(away) is entry
        else:
            study.relocate(entry, away)
        assert entry.path == slide.path == away
        assert study.open_slide(entry) is slide
        assert np.array_equal(slide.read(0, 0, 0, 100, 100), expected)
        assert np.array_equal(levels[0][:100, :100].compute(), expected)
        assert study.reopened == set()
        outcome = run(study.encode_job())
        assert (outcome.tiles, outcome.problems) == (80, ())


def test_it_keeps_its_pixel_size_and_colours(slides, tmp_path):
    with Study.create() as study:
        entry = study.add_slide(slides["A-1"], mpp=0.7, icc="auto")
        slide = study.open_slide(entry)
        study.add_slide(shutil.move(slides["A-1"], tmp_path / "b.tif"))
        assert study.open_slide(entry) is slide
        assert (slide.mpp, slide.mpp_source, slide.icc) == ((0.7, 0.7), "given", "auto")


def test_a_file_that_was_replaced_and_put_back_is_read_again(slides, tmp_path):
    with Study.create() as study:
        entry = study.add_slide(slides["A-1"])
        slide = study.open_slide(entry)
        expected = slide.read(0, 0, 0, 60, 60)
        kept = shutil.copy(slides["A-1"], tmp_path / "kept.tif")
        shutil.copy(slides["B-1"], slides["A-1"])
        assert study.open_slide(entry) is slide
        with pytest.raises(SlideError, match="changed or replaced"):
            slide.read(0, 0, 0, 60, 60)
        shutil.copy(kept, slides["A-1"])
        assert np.array_equal(study.open_slide(entry).read(0, 0, 0, 60, 60), expected)
        assert study.open_slide(entry) is slide


def test_another_reader_is_another_slide_and_said(slides, tmp_path):
    """A file under a suffix that another reader takes: what was made of the old one can't go on."""
    with Study.create() as study:
        entry = study.add_slide(slides["A-1"])
        slide = study.open_slide(entry)
        slide.levels = slide.levels[:-1]  # as another reader would have it
        study.add_slide(shutil.move(slides["A-1"], tmp_path / "b.tif"))
        assert study.reopened == {entry.fingerprint}
        assert slide.is_closed
        assert study.open_slide(entry).read(0, 0, 0, 5, 5).shape == (5, 5, 3)


def test_what_else_lies_in_a_folder_is_no_change(tmp_path):
    image = np.random.default_rng(0).integers(100, 255, (200, 300, 3), np.uint8)
    dicom, ngff = tmp_path / "dicom", tmp_path / "b.ome.zarr"
    dicom.mkdir()
    write_dicom(dicom / "a.dcm", image)
    write_ngff(ngff, [image])
    with Study.create(tmp_path / "s") as study:
        for path in (dicom, ngff):
            assert study.add_slide(path).size_bytes > 0
        study.save()
    for path in (dicom, ngff):
        (path / ".DS_Store").write_bytes(b"x" * 6148)
        (path / "Thumbs.db").write_bytes(b"y" * 999)
    with Study.open(study.folder) as again:
        assert again.problems == []
        again.slides[1].size_bytes += 1  # as counted before, with whatever lay there
        again.save()
    with Study.open(study.folder) as again:
        assert again.problems == []
    shutil.copy(dicom / "a.dcm", tmp_path / "kept.dcm")
    (dicom / "a.dcm").unlink()
    write_dicom(dicom / "a.dcm", image[:150])
    with Study.open(study.folder) as again:
        assert [problem.subject for problem in again.problems] == [again.slides[0].name]
        assert "has changed" in str(again.problems[0])
    (dicom / "a.dcm").unlink()
    with Study.open(study.folder) as again:  # a folder without a slide
        assert [problem.subject for problem in again.problems] == [again.slides[0].name]
