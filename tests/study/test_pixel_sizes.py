"""A pixel size is asked for once: what the user gave comes back for the same content, in any study."""

from __future__ import annotations

import json
import os
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from napari_batchfx import Study
from napari_batchfx.errors import SlideError, StudyError
from napari_batchfx.study.pixel_sizes import recall_pixel_size, remember_pixel_size


def _picture(path, seed=0):
    Image.fromarray(np.random.default_rng(seed).integers(0, 255, (200, 300, 3), np.uint8)).save(path)
    return path


def test_what_was_given_is_remembered_for_a_copy_in_another_study(tmp_path):
    with Study.create() as study:
        entry = study.add_slide(_picture(tmp_path / "a.png"))
        assert study.open_slide(entry).mpp is None
        study.update_slide(entry, mpp=0.4)
    (tmp_path / "elsewhere").mkdir()
    copy = tmp_path / "elsewhere" / "another name.png"
    copy.write_bytes((tmp_path / "a.png").read_bytes())
    with Study.create() as other:
        again = other.add_slide(copy)
        assert again.mpp_given == (0.4, 0.4)
        assert other.open_slide(again).mpp == (0.4, 0.4)
        assert other.open_slide(again).mpp_source == "given"
        assert other.add_slide(_picture(tmp_path / "b.png", seed=1)).mpp_given is None


def test_a_size_of_the_file_is_never_replaced_by_memory(tmp_path):
    from napari_batchfx.slides import open_slide, write_pyramid

    path = write_pyramid(tmp_path / "a.tif", np.full((300, 300, 3), 200, np.uint8), 0.5)
    with open_slide(path) as slide:
        remember_pixel_size(slide.fingerprint, (0.9, 0.9))
    with Study.create() as study:
        assert study.open_slide(study.add_slide(path)).mpp == (0.5, 0.5)


@pytest.mark.parametrize("text", ["", "[]", '{"x": "no"}', '{"x": [1]}', '{"x": [-3, 1e9]}', "\0"])
def test_a_damaged_memory_is_no_memory(text):
    path = Path(os.environ["BATCHFX_CONFIG"]) / "pixel-sizes.json"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
    assert recall_pixel_size("x") is None
    assert remember_pixel_size("x", (0.5, 0.25))
    assert recall_pixel_size("x") == (0.5, 0.25)
    assert json.loads(path.read_text()) == {"x": [0.5, 0.25]} or "x" in path.read_text()


def test_nothing_to_write_to_only_loses_the_memory(tmp_path, monkeypatch):
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("BATCHFX_CONFIG", str(tmp_path / "file"))
    assert not remember_pixel_size("x", (0.5, 0.5))
    assert recall_pixel_size("x") is None


def test_a_size_given_when_a_slide_is_added_is_remembered_too(tmp_path):
    with Study.create() as study:
        study.add_slide(_picture(tmp_path / "a.png"), mpp=0.3)
    with Study.create() as other:
        assert other.open_slide(other.add_slide(tmp_path / "a.png")).mpp == (0.3, 0.3)


def test_a_size_typed_over_that_of_the_file_is_this_study_s_alone(tmp_path):
    from napari_batchfx.slides import write_pyramid

    path = write_pyramid(tmp_path / "a.tif", np.full((300, 300, 3), 200, np.uint8), 0.5)
    with Study.create() as study:
        entry = study.add_slide(path, mpp=0.25)
        assert study.update_slide(entry, mpp=0.3).mpp_given == (0.3, 0.3)
    with Study.create() as other:
        entry = other.add_slide(path)
        assert entry.mpp_given is None
        assert other.open_slide(entry).mpp == (0.5, 0.5)


def test_back_to_what_the_file_states(tmp_path):
    from napari_batchfx.slides import write_pyramid
    from napari_batchfx.study import Annotation

    path = write_pyramid(tmp_path / "a.tif", np.full((300, 300, 3), 200, np.uint8), 0.5)
    with Study.create(tmp_path / "s") as study:
        entry = study.add_slide(path, mpp=1.0)
        study.annotations.append(Annotation("a", "x", False, [[0, 0], [0, 200], [200, 200]]))
        study.update_slide(entry, mpp=2.0)
        study.save()
    with Study.open(study.folder) as study:
        entry = study.update_slide("a", mpp="file")
        slide = study.open_slide(entry)
        assert (entry.mpp_given, slide.mpp, slide.mpp_source) == (None, (0.5, 0.5), "tiff resolution")
        assert study.annotations[0].polygon_um.max() == 100  # the same pixels
        assert recall_pixel_size(entry.fingerprint) is None
        study.save()
    with Study.open(study.folder) as study:
        assert study.open_slide("a").mpp == (0.5, 0.5)
        assert study.update_slide("a", mpp="file").mpp_given is None  # nothing to take back


def test_a_file_without_a_size_has_none_to_go_back_to(tmp_path):
    with Study.create() as study:
        study.add_slide(_picture(tmp_path / "a.png"), mpp=0.4)
        with pytest.raises(SlideError, match="its file states no pixel size; give micrometres a pixel"):
            study.update_slide("a", mpp="file", name="b", site="X")
        entry = study.slide("a")
        assert (entry.mpp_given, entry.site, study.open_slide(entry).mpp) == ((0.4, 0.4), "", (0.4, 0.4))


def test_the_command_goes_back_too(tmp_path):
    from typer.testing import CliRunner

    from napari_batchfx.cli import app
    from napari_batchfx.slides import write_pyramid

    path = write_pyramid(tmp_path / "a.tif", np.full((300, 300, 3), 200, np.uint8), 0.5)
    folder = tmp_path / "s.batchfx"
    for more, given in ((("--mpp", "0.3"), (0.3, 0.3)), (("--own-mpp",), None)):
        assert CliRunner().invoke(app, ["add", str(folder), str(path), *more]).exit_code == 0
        with Study.open(folder) as study:
            assert study.slide("a").mpp_given == given
    assert CliRunner().invoke(app, ["add", str(folder), str(path), "--own-mpp", "--mpp", "1"]).exit_code == 1


@pytest.mark.parametrize("is_open", [True, False])
@pytest.mark.parametrize("mpp", [1e9, -1, 0, float("nan"), (0.5,), "x", (0.5, float("inf"))])
def test_an_impossible_size_changes_nothing(tmp_path, mpp, is_open):
    with Study.create(tmp_path / "s") as study:
        study.add_slide(_picture(tmp_path / "a.png"), mpp=0.4)
        study.save()
        if is_open:
            _refused(study, mpp)
    with Study.open(study.folder) as study:
        _refused(study, mpp)
        assert study.open_slide("a").mpp == (0.4, 0.4)


def _refused(study, mpp):
    with pytest.raises(SlideError, match=r"plausible|no pixel size"):
        study.update_slide("a", name="b", site="X", mpp=mpp)
    entry = study.slide("a")
    assert (entry.name, entry.site, entry.mpp_given) == ("a", "", (0.4, 0.4))
    assert recall_pixel_size(entry.fingerprint) == (0.4, 0.4)


def test_whatever_isn_t_possible_leaves_the_rest_undone(tmp_path):
    with Study.create() as study:
        entry = study.add_slide(_picture(tmp_path / "a.png"), mpp=0.4)
        for wrong in ({"icc": "on"}, {"icc": "maybe"}, {"site": 3}, {"colour": "red"}):
            with pytest.raises((SlideError, StudyError)):
                study.update_slide(entry, **{"name": "b", "mpp": 0.9, "patient": "P", **wrong})
            assert (entry.name, entry.mpp_given, entry.patient, entry.icc) == ("a", (0.4, 0.4), "", "off")
            assert study.open_slide(entry).mpp == (0.4, 0.4)


def test_regions_follow_a_size_that_is_given_before_the_slide_was_opened(tmp_path):
    from napari_batchfx.slides import write_pyramid
    from napari_batchfx.study import Annotation

    path = write_pyramid(tmp_path / "a.tif", np.full((300, 300, 3), 200, np.uint8), 0.5)
    with Study.create(tmp_path / "s") as study:
        study.add_slide(path)
        study.annotations.append(Annotation("a", "x", False, [[0, 0], [0, 100], [100, 100]]))
        study.save()
    with Study.open(study.folder) as study:
        study.update_slide("a", mpp=1.0)
        assert study.annotations[0].polygon_um.max() == 200
