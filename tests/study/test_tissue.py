"""Tissue settings and regions of tissue: which tiles a study takes, and that they are never labels."""

from __future__ import annotations

import doctest
import importlib
import json

import numpy as np
import pytest
from pydantic import ValidationError

from napari_batchfx.study import Annotation, Study, TissueChoice
from napari_batchfx.study.tissue_maps import study_tissue, tissue_preview
from napari_batchfx.study.tissue_regions import is_tissue_class, tissue_regions
from napari_batchfx.tiles import TissueSettings

from .conftest import MPP, SHAPE, half, set_up

# Between the mean densities of the two halves of the slides (conftest.py).
DENSE = 0.15


def _set_up(tmp_path, slides, **more):
    return set_up(tmp_path / "s", {name: slides[name] for name in ("A-1", "B-1")}, **more)


def test_the_defaults_are_those_of_tiles():
    assert TissueChoice().settings() == TissueSettings()


def test_settings_are_saved_and_older_studies_open(tmp_path, slides):
    with _set_up(tmp_path, slides) as study:
        study.settings.tissue.threshold = 0.1
        study.settings.tissue.exclude = ["fold", "pen"]
        study.save()
        folder = study.folder
    with Study.open(folder) as study:
        assert study.settings.tissue == TissueChoice(threshold=0.1, exclude=["fold", "pen"])
    path = folder / "study.json"
    data = json.loads(path.read_text())
    del data["settings"]["tissue"]
    path.write_text(json.dumps(data))
    with Study.open(folder) as study:
        assert study.settings.tissue == TissueChoice()


@pytest.mark.parametrize("wrong", [{"threshold": 0}, {"smooth_um": 500}, {"exclude": ["dust"]}, {"size": 1}])
def test_wrong_settings_are_refused(wrong):
    with pytest.raises(ValidationError):
        TissueChoice(**wrong)


def test_settings_select_tiles_but_keep_features(tmp_path, slides):
    with _set_up(tmp_path, slides, labels=False) as study:
        plain = study.grid("A-1")
        everything = len(plain.cells(0.25))
        study.settings.tissue.threshold = DENSE
        chosen = study.grid("A-1")
        assert 0 < len(chosen.cells(0.25)) < everything
        assert chosen.key == plain.key
        assert study.grid("A-1") is chosen


def test_regions_of_tissue_override_the_mask_and_are_no_labels(tmp_path, slides):
    with _set_up(tmp_path, slides) as study:
        before = study.grid("A-1").tissue.copy()
        left = half("A-1", "No Tissue", "left").polygon_um
        study.annotations.append(Annotation("A-1", "No  tissue", False, left))
        study.annotations.append(Annotation("B-1", "TISSUE", False, left))
        after = study.grid("A-1").tissue
        assert before[:, :5].min() > 0.9
        assert after[:, :4].max() == 0
        assert (after[:, 6:] == before[:, 6:]).all()
        study.run()
        table = study.table("tissue")
    assert set(table.obs["label"].dropna()) == {"pale", "dense"}
    on_a = table.obs[table.obs["slide"] == "A-1"]
    assert on_a["col"].min() >= 4
    # on the other slide the region of tissue lies over the labels and doesn't take them away
    on_b = table.obs[(table.obs["slide"] == "B-1") & (table.obs["col"] < 5)]
    assert (on_b["label"] == "pale").all()


def test_regions_of_tissue_alone_are_no_classes(tmp_path, slides):
    with _set_up(tmp_path, slides, labels=False) as study:
        for side, name in (("left", "tissue"), ("right", "no tissue")):
            study.annotations.append(half("A-1", name, side))
        outcome = study.run()
    assert outcome.adapt is None
    assert any("two classes" in text for text in outcome.skipped)


def test_a_result_is_outdated_when_the_tissue_changes(tmp_path, slides):
    with _set_up(tmp_path, slides) as study:
        study.run()
        assert study.is_current("probe")
        study.settings.tissue.threshold = 0.2
        assert not study.is_current("probe")
        study.settings.tissue.threshold = None
        assert study.is_current("probe")
        study.annotations.append(half("A-1", "no tissue", "left"))
        assert not study.is_current("probe")


def test_classes_in_any_case():
    assert [is_tissue_class(name) for name in ("Tissue", " no   TISSUE ", "tissue edge", "", None)] == [
        True,
        True,
        False,
        False,
        False,
    ]
    regions = [half("a", "TISSUE", "left"), half("a", "No tissue", "right"), half("b", "tissue", "left")]
    include, exclude = tissue_regions(regions, "a")
    assert np.array_equal(include[0], regions[0].polygon_um)
    assert np.array_equal(exclude[0], regions[1].polygon_um)
    assert (len(include), len(exclude)) == (1, 1)


def test_maps_follow_settings_and_say_it(tmp_path, slides):
    with _set_up(tmp_path, slides, labels=False) as study:
        preview = tissue_preview(study, "A-1")
        full = preview.show(TissueChoice())
        dense = preview.show(TissueChoice(threshold=DENSE))
        grid = study.grid("A-1")
        study.settings.tissue.threshold = DENSE
        assert (study_tissue(study, "A-1").tissue == dense.tissue).all()
        with_kinds = preview.show(TissueChoice(), kinds=("pen", "blur", "damaged"))
    assert (full.tissue.shape[0] * full.mpp[0], full.tissue.shape[1] * full.mpp[1]) == pytest.approx(
        (SHAPE[0] * MPP, SHAPE[1] * MPP)
    )
    assert full.share == pytest.approx(float(grid.tissue.mean()), abs=0.05)
    assert dense.share < full.share
    assert full.is_automatic
    assert not dense.is_automatic
    assert full.sentence() == "100 % of the slide is tissue."
    assert with_kinds.artefacts is not None
    assert set(with_kinds.artefact_shares) == {"pen", "blur", "damaged"}
    assert len(with_kinds.colours) == 3


@pytest.mark.parametrize("name", ["tissue_maps", "tissue_regions"])
def test_examples(name, monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    found = doctest.testmod(importlib.import_module(f"napari_batchfx.study.{name}"))
    assert found.attempted > 0
    assert found.failed == 0
