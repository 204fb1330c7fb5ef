"""A study goes to its folder and comes back, wherever the folder is by then."""

from __future__ import annotations

import json
import shutil

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from napari_batchfx.errors import SlideError, StudyError
from napari_batchfx.study import EncodeSettings, Study

from .conftest import half

text = st.text(st.characters(exclude_categories=["Cs"]), max_size=30)


def test_what_is_saved_comes_back(slides, tmp_path):
    with Study.create(tmp_path / "lymph nodes") as study:
        entry = study.add_slide(slides["A-1"], site="AMC", patient="P 1", mpp=(0.5, 0.25))
        study.update_slide(entry, name="Scan A")
        entry.affine_um = ((1.0, 0.0, -3.5), (0.0, 1.0, 12.25), (0.0, 0.0, 1.0))
        study.annotations.append(half("Scan A", "tumour", "left", control=True))
        study.settings.encode = EncodeSettings(
            encoder="resnet18", normalizer="macenko", target="Scan A", mpp=0.5
        )
        study.settings.adapt.train_on = ["Scan A"]
        study.save()
        before = (study.slides, study.settings, study.annotations)
    assert study.folder.name == "lymph nodes.batchfx"
    with Study.open(study.folder) as again:
        assert (again.slides, again.settings, again.annotations) == before
        assert again.name == "lymph nodes"
        assert again.problems == []
        assert again.open_slide("Scan A").mpp == (0.5, 0.25)
    for path in (study.folder / "study.json", tmp_path / "lymph nodes"):
        with Study.open(path) as otherwise:
            assert otherwise.slides == before[0]


@settings(max_examples=30, deadline=None)
@given(name=text.filter(str.strip), site=text, scanner=text, patient=text, class_name=text)
def test_any_text_survives(slide_files, tmp_path_factory, name, site, scanner, patient, class_name):
    folder = tmp_path_factory.mktemp("texts") / "s.batchfx"
    with Study.create(folder, name=name) as study:
        entry = study.add_slide(slide_files["A-1"], name=name, site=site, scanner=scanner, patient=patient)
        study.annotations.append(half(entry.name, class_name or None, "left"))
        study.save()
        with Study.open(folder) as again:
            assert again.slides == study.slides
            assert again.annotations == study.annotations
            assert again.name == name


def test_saving_twice_writes_the_same_bytes(slides, tmp_path):
    with Study.create(tmp_path / "s") as study:
        study.add_slide(slides["A-1"])
        study.save()
        first = (study.folder / "study.json").read_bytes()
    with Study.open(study.folder) as again:
        again.save()
        assert (study.folder / "study.json").read_bytes() == first
        assert not list(study.folder.glob(".*.part"))


def test_a_folder_that_moves_with_its_slides_still_opens(slides, tmp_path):
    with Study.create(tmp_path / "s") as study:
        for path in slides.values():
            study.add_slide(path)
        study.save()
    assert str(tmp_path) not in (study.folder / "study.json").read_text()
    moved = tmp_path / "elsewhere"
    moved.mkdir()
    shutil.move(study.folder, moved / "s.batchfx")
    shutil.move(tmp_path / "slides", moved / "slides")
    with Study.open(moved / "s.batchfx") as again:
        assert again.problems == []
        assert again.open_slide("B-2").path == moved / "slides" / "B-2.tif"


def test_a_slide_that_is_gone_is_named_and_the_rest_opens(slides, tmp_path):
    with Study.create(tmp_path / "s") as study:
        study.add_slide(slides["A-1"])
        study.add_slide(slides["B-1"])
        study.save()
    away = tmp_path / "away.tif"
    shutil.move(slides["A-1"], away)
    with Study.open(study.folder) as again:
        assert [problem.subject for problem in again.problems] == ["A-1"]
        assert "A-1.tif is not where it was" in str(again.problems[0])
        assert again.open_slide("B-1").name == "B-1"
        with pytest.raises(SlideError, match="A-1"):
            again.open_slide("A-1")
        with pytest.raises(StudyError, match="another slide"):
            again.relocate("A-1", slides["B-1"])
        again.relocate("A-1", away)
        assert again.problems == []
        assert again.open_slide("A-1").path == away


def test_a_slide_that_changed_is_named(slides, tmp_path):
    with Study.create(tmp_path / "s") as study:
        entry = study.add_slide(slides["A-1"])
        study.save()
    shutil.copy(slides["B-1"], slides["A-1"])
    with Study.open(study.folder) as again:
        with pytest.raises(SlideError, match=r"A-1: its file A-1\.tif has changed"):
            again.open_slide("A-1")
        # a file of another size is seen without reading it
        if entry.path.stat().st_size != entry.size_bytes:
            assert "has changed" in str(again.problems[0])


def test_the_same_slide_is_one_entry(slides, tmp_path):
    with Study.create() as study:
        first = study.add_slide(slides["A-1"], site="AMC")
        copy = shutil.copy(slides["A-1"], tmp_path / "copy of A.tif")
        assert study.add_slide(copy) is first
        assert len(study.slides) == 1


def test_names_are_unique_and_regions_follow_them(slides, tmp_path):
    with Study.create() as study:
        first = study.add_slide(slides["A-1"], name="scan")
        second = study.add_slide(slides["B-1"], name="scan")
        assert [entry.name for entry in study.slides] == ["scan", "scan (2)"]
        study.annotations = [half("scan", "a", "left"), half("scan (2)", "b", "left")]
        study.settings.encode.target = "scan"
        with pytest.raises(StudyError, match="another slide is called scan"):
            study.update_slide(second, name="scan")
        study.update_slide(first, name="AMC 1")
        assert [a.slide for a in study.annotations] == ["AMC 1", "scan (2)"]
        assert study.settings.encode.target == "AMC 1"
        study.remove_slide("AMC 1")
        assert [a.class_name for a in study.annotations] == ["b"]
        assert study.slides == [second]


def test_a_plain_picture_needs_a_pixel_size_given(tmp_path, slide_files):
    from napari_batchfx.slides import open_slide

    with open_slide(slide_files["A-1"]) as slide:
        Image.fromarray(slide.read(0, 0, 0, 128, 128)).save(tmp_path / "plain.png")
    with Study.create() as study:
        entry = study.add_slide(tmp_path / "plain.png")
        assert study.open_slide(entry).mpp is None
        study.update_slide(entry, mpp=0.5)
        assert study.open_slide(entry).mpp == (0.5, 0.5)
        assert entry.mpp_given == (0.5, 0.5)
        with pytest.raises(SlideError, match="isn't plausible"):
            study.update_slide(entry, mpp=4000)
        assert study.open_slide(entry).mpp == entry.mpp_given == (0.5, 0.5)
        with pytest.raises(StudyError, match="no slide called nobody"):
            study.slide("nobody")


def test_save_as_takes_everything_along_and_a_temporary_folder_goes(slides, tmp_path):
    study = Study.create()
    temporary = study.folder
    study.add_slide(slides["A-1"])
    study.annotations.append(half("A-1", "tumour", "left"))
    (temporary / "features.zarr").mkdir()
    (temporary / "features.zarr" / "zarr.json").write_text("{}")
    folder = study.save_as(tmp_path / "kept")
    assert study.name == "kept"
    assert not temporary.exists()
    assert (folder / "features.zarr" / "zarr.json").exists()
    study.close()
    assert folder.exists()
    with Study.open(folder) as again:
        assert again.annotations == study.annotations
        with pytest.raises(StudyError, match="there is a study already"):
            Study.create(tmp_path / "kept")
        other = again.save_as(tmp_path / "second")
        with pytest.raises(StudyError, match="there is a study already"):
            again.save_as(folder)
        again.save_as(folder, overwrite=True)
    assert sorted(path.name for path in tmp_path.glob("*")) == ["kept.batchfx", "second.batchfx", "slides"]
    assert other.is_dir()
    unsaved = Study.create()
    unsaved.close()
    assert not unsaved.folder.exists()


@pytest.mark.parametrize(
    ("content", "says"),
    [
        ("{ not json", "damaged"),
        ("[]", "not a study"),
        ('{"format": "something else"}', "not a study"),
        ('{"format": "napari-batchfx study", "version": 99}', "newer"),
        (
            '{"format": "napari-batchfx study", "version": 1, "name": "x", "slides": [{}]}',
            r"damaged at slides\.0",
        ),
        (
            '{"format": "napari-batchfx study", "name": "x", "settings": {"probe": {"n_splits": 0}}}',
            "n_splits",
        ),
    ],
)
def test_a_damaged_study_is_one_sentence(tmp_path, content, says):
    folder = tmp_path / "bad.batchfx"
    folder.mkdir()
    (folder / "study.json").write_text(content)
    with pytest.raises(StudyError, match=says) as caught:
        Study.open(folder)
    assert str(caught.value).startswith("bad.batchfx: ")
    assert "\n" not in str(caught.value)


def test_no_study_is_one_sentence(tmp_path):
    with pytest.raises(StudyError, match="no such folder"):
        Study.open(tmp_path / "nothing.batchfx")
    with pytest.raises(StudyError, match=r"holds no study\.json"):
        Study.open(tmp_path)
    (tmp_path / "used").mkdir()
    (tmp_path / "used.batchfx").mkdir()
    (tmp_path / "used.batchfx" / "letter.txt").write_text("dear")
    with pytest.raises(StudyError, match="something else"):
        Study.create(tmp_path / "used")


def test_regions_and_results_that_are_damaged_leave_the_rest(slides, tmp_path):
    with Study.create(tmp_path / "s") as study:
        study.add_slide(slides["A-1"])
        study.save()
    (study.folder / "annotations.geojson").write_text("{ torn")
    (study.folder / "results" / "probe.json").write_text(json.dumps({"kind": "probe", "version": 1}))
    with Study.open(study.folder) as again:
        assert [problem.subject for problem in again.problems] == ["annotations.geojson", "probe.json"]
        assert len(again.slides) == 1
        again.save()
    assert (study.folder / "annotations-damaged.geojson").read_text() == "{ torn"
    assert (study.folder / "results" / "probe-damaged.json").exists()


def test_a_failed_write_leaves_the_old_file(slides, tmp_path, monkeypatch):
    with Study.create(tmp_path / "s") as study:
        study.save()
        old = (study.folder / "study.json").read_text()
        study.name = "new"
        with monkeypatch.context() as patch:
            patch.setattr("os.replace", _full_disk)
            with pytest.raises(StudyError, match="can't be saved"):
                study.save()
        assert (study.folder / "study.json").read_text() == old
        assert not list(study.folder.glob("**/*.part"))


def _full_disk(*_: object) -> None:
    raise OSError(28, "No space left on device")


def test_wrong_settings_are_refused():
    with Study.create() as study:
        with pytest.raises(ValueError, match="min_tissue"):
            study.settings.encode.min_tissue = 2
        with pytest.raises(StudyError, match="no colour"):
            study.add_slide("x.tif", colour="red")


def test_adding_a_moved_file_finds_its_slide_again(slides, tmp_path):
    with Study.create(tmp_path / "s") as study:
        entry = study.add_slide(slides["A-1"], site="AMC")
        study.update_slide(entry, name="Scan A")
        study.annotations.append(half("Scan A", "tumour", "left"))
        study.save()
    away = tmp_path / "another name.tif"
    shutil.move(slides["A-1"], away)
    with Study.open(study.folder) as again:
        assert "add the file from where it is now" in str(again.problems[0])
        found = again.add_slide(away)
        assert (found.name, found.site, found.path) == ("Scan A", "AMC", away)
        assert again.problems == []
        assert [a.slide for a in again.annotations] == ["Scan A"]
        assert again.open_slide("Scan A").path == away
        again.save()
    # another slide took the old place: the first one still is where it was found
    shutil.copy(slides["B-1"], slides["A-1"])
    with Study.open(study.folder) as again:
        assert again.problems == []
        assert again.slide("Scan A").path == away
        # a copy of a file that is still there changes nothing
        copy = shutil.copy(away, tmp_path / "copy.tif")
        assert again.add_slide(copy).path == away


def test_a_place_taken_by_another_slide_counts_as_moved(slides, tmp_path):
    with Study.create() as study:
        entry = study.add_slide(slides["A-1"])
        away = shutil.copy(slides["A-1"], tmp_path / "away.tif")
        shutil.copy(slides["B-1"], slides["A-1"])
        assert study.add_slide(away) is entry
        assert entry.path == tmp_path / "away.tif"
        assert study.add_slide(slides["A-1"]) is not entry
