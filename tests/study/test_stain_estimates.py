"""A study's stain is estimated once a slide, kept beside it, and follows regions and cohorts."""

import json

import numpy as np
import pytest
from pydantic import ValidationError

from napari_batchfx.errors import StainError
from napari_batchfx.stain import average, methods
from napari_batchfx.study import EncodeSettings, StainSettings, Study

from .conftest import set_up


@pytest.fixture
def study(slide_files, tmp_path):
    with set_up(tmp_path / "s.batchfx", slide_files, labels=False) as study:
        yield study


def test_estimates_are_kept_beside_the_study_and_read_again(study):
    entry = study.slides[0]
    found = study.stain_estimate(entry)
    path = study.folder / "stain.json"
    kept = json.loads(path.read_text())
    ((key, values),) = kept["estimates"].items()
    assert key.startswith(entry.fingerprint)
    assert values["n_pixels"] == found.n_pixels
    assert "A-1" not in path.read_text(), "no name of a slide"
    study.save()
    # Another number in the file shows that it is read, and not estimated anew.
    kept["estimates"][key]["n_pixels"] = 4242
    path.write_text(json.dumps(kept))
    with Study.open(study.folder) as again:
        assert again.stain_estimate(again.slides[0]).n_pixels == 4242
    path.write_text("{not json")
    with Study.open(study.folder) as again:
        assert again.stain_estimate(again.slides[0]).n_pixels == found.n_pixels


def test_a_drawn_region_is_estimated_by_itself_and_follows_the_name(study):
    entry = study.slides[0]
    whole = study.stain_estimate(entry)
    study.settings.stain.regions = {entry.name: [[(0, 0), (0, 200), (512, 200), (512, 0)]]}
    part = study.stain_estimate(entry)
    assert part.origin == "drawn region"
    assert not np.array_equal(part.matrix, whole.matrix)
    study.update_slide(entry, name="renamed")
    assert list(study.settings.stain.regions) == ["renamed"]
    assert study.stain_estimate("renamed").origin == "drawn region"
    study.settings.stain.regions = {}
    assert study.stain_estimate("renamed").origin == "slide"


def test_the_cohorts_average_is_the_target(study):
    study.settings.stain.cohort = True
    study.settings.encode.normalizer = "macenko"
    study.settings.encode.cohort = True
    for transform in (study.stain_transform("A-1"), study.encode_transform("A-1")):
        expected = average([study.stain_estimate(entry, "macenko") for entry in study.slides])
        np.testing.assert_array_equal(transform.target.matrix, expected.matrix)
        assert transform.target.origin == "average of 4 slides"
    study.settings.stain.cohort = False
    study.settings.stain.method = "macenko-cohort"  # its targets are several by nature
    assert study.stain_transform("A-1").target.origin == "average of 4 slides"
    study.settings.stain.target = "B-1"
    assert study.stain_transform("A-1").target.origin == "slide"


@pytest.mark.parametrize("name", [one.id for one in methods()])
def test_every_method_is_a_setting_and_gives_a_transform(study, name):
    study.settings.stain.method = name
    transform = study.stain_transform(study.slides[0])
    assert study.stain_transform(study.slides[0]) == transform
    out = transform.transform(np.full((8, 8, 3), 255, np.uint8))
    assert out.min() >= 250, "glass stays white"


def test_unknown_methods_are_refused_with_those_there_are():
    for model, field in ((EncodeSettings, "normalizer"), (StainSettings, "method")):
        with pytest.raises(ValidationError, match="choose one of macenko"):
            model(**{field: "magic"})
    again = StainSettings.model_validate_json(
        StainSettings(method="vahadane", regions={"a": [[(0, 1), (2, 3), (4, 5)]]}).model_dump_json()
    )
    assert again.regions == {"a": [[(0.0, 1.0), (2.0, 3.0), (4.0, 5.0)]]}


def test_a_target_that_can_not_be_estimated_is_said(study, tmp_path):
    from napari_batchfx.slides import write_pyramid

    blank = write_pyramid(tmp_path / "blank.tif", np.full((600, 600, 3), 245, np.uint8), 1.0)
    study.add_slide(blank, scanner="C", patient="P9")
    study.settings.stain.target = "blank"
    with pytest.raises(StainError, match=r"blank.*no tissue"):
        study.stain_transform("A-1")
