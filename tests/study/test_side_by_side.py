"""Answers to different questions stay beside each other; a newer answer to the same one takes its place."""

from __future__ import annotations

import json
import shutil

import numpy as np
import pytest

from napari_batchfx.errors import StudyError
from napari_batchfx.jobs import run
from napari_batchfx.report import render_report, tables_csv
from napari_batchfx.study import Study
from napari_batchfx.study.reporting import report_data


@pytest.fixture(scope="module")
def compared(done, tmp_path_factory):
    """A study with three corrections, and with probes as scanned and after Macenko; read only."""
    with Study.open(done) as study:
        folder = study.save_as(tmp_path_factory.mktemp("compared") / "s")
        study.settings.adapt.method = "standardize-robust"
        outcomes = run(study.adapt_all_job(["standardize", "standardize-robust", "tvn"]))
        assert [one.computed_from["settings"]["method"] for one in outcomes] == [
            "standardize",
            "tvn",
            "standardize-robust",
        ]
        assert outcomes[-1] is study.results.adapt
        assert study.settings.adapt.method == "standardize-robust"
        study.settings.encode.normalizer = "macenko"
        run(study.encode_job())
        run(study.probe_job())
        study.save()
    return folder


@pytest.fixture
def own(compared, tmp_path):
    """A copy that may be changed."""
    with Study.open(compared) as study:
        return study.save_as(tmp_path / "own")


def methods(study: Study) -> list[str]:
    return [one.computed_from["settings"]["method"] for one in study.results.adaptations]


def test_all_are_found_again(compared):
    with Study.open(compared) as study:
        assert methods(study) == ["standardize", "tvn", "standardize-robust"]
        assert study.results.adapt is study.results.adaptations[-1]
        variants = [one.computed_from["encode"]["normalizer"] for one in study.results.probes]
        assert variants == [None, "macenko"]
        assert study.problems == []
        names = sorted(path.name for path in (compared / "results").glob("*.json"))
        assert [name.split(".")[0].split("-")[0] for name in names] == ["adapt"] * 3 + ["probe"] * 2
        assert {"adapt.json", "probe.json"} <= set(names)


def test_each_is_what_it_would_be_alone(compared, done):
    with Study.open(compared) as study, Study.open(done) as alone:
        kept = next(one for one in study.results.adaptations if methods(alone) == ["standardize"])
        np.testing.assert_array_equal(kept.after.proba, alone.results.adapt.after.proba)
        proba = [one.after.proba for one in study.results.adaptations]
        assert not np.array_equal(proba[0], proba[1], equal_nan=True)
        for one in study.results.adaptations:
            np.testing.assert_array_equal(one.before.proba, kept.before.proba)


def test_rows_without_prediction_stay_without(compared):
    with Study.open(compared) as study:
        table = study.table("tissue")
        on_a = (table.obs.scanner == "A").to_numpy()  # what the model learns from
        assert on_a.any()
        for outcome in study.results.adaptations:
            for prediction in (outcome.before, outcome.after):
                assert np.isnan(prediction.proba[on_a]).all()
                assert set(prediction.label[on_a]) == {""}
                assert set(prediction.label[~on_a]) <= {"pale", "dense"}
                assert np.isnan(prediction.confidence[on_a]).all()
            assert not outcome.changed[on_a].any()


def test_a_rerun_replaces_its_row_and_is_the_last(own):
    with Study.open(own) as study:
        before = study.results.adaptations[1]
        study.settings.encode.normalizer = None
        study.settings.adapt.method = "tvn"
        study.settings.adapt.seed = 7  # not another question
        again = run(study.adapt_job())
        assert study.results.adapt is again
        assert sorted(methods(study)) == ["standardize", "standardize-robust", "tvn"]
        assert before not in study.results.adaptations
        study.update_slide("Meier A-1", name="new name")  # nor is a slide that is named anew
        study.settings.adapt.train_on = ["new name", "Schulze A-2"]
        run(study.adapt_job())
        assert len(study.results.adaptations) == 3
        study.settings.adapt.train_on = ["B"]
        run(study.adapt_job())
        assert len(study.results.adaptations) == 4
    with Study.open(own) as study:
        assert len(study.results.adaptations) == 4
        assert study.results.adapt.computed_from["settings"]["train_on"] == ["B"]
        assert len(list((own / "results").glob("adapt*.json"))) == 4


def test_an_older_study_with_one_result_opens(done, tmp_path):
    folder = tmp_path / "old.batchfx"
    shutil.copytree(done, folder)
    for path in (folder / "results").glob("*.json"):
        data = json.loads(path.read_text())
        for new in ("material", "learned_from", "applied_to"):
            data["computed_from"].pop(new, None)
        path.write_text(json.dumps(data))
    with Study.open(folder) as study:
        for entry, path in zip(study.slides, (entry.path for entry in Study.open(done).slides), strict=True):
            study.relocate(entry, path)
        assert len(study.results.adaptations) == 1
        assert study.still_holds(study.results.adapt)
        assert report_data(study).adaptations[0].trained_on == "A"
        run(study.adapt_job())
        study.settings.adapt.method = "tvn"
        run(study.adapt_job())
        assert methods(study)[-1] == "tvn"


def test_one_damaged_file_costs_one_row(own):
    victim = next((own / "results").glob("adapt-*.json"))
    victim.write_text("{")
    with Study.open(own) as study:
        assert len(study.results.adaptations) == 2
        assert [problem.subject for problem in study.problems] == [victim.name]
        study.save()
    assert not victim.exists()
    assert victim.with_name(f"{victim.stem}-damaged.json").exists()


def test_the_report_shows_all_in_one_table(compared):
    with Study.open(compared) as study:
        data = report_data(study)
    assert [row.correction.split(",")[0] for row in data.adaptations] == [
        "standardise on controls",
        "standardise on controls (median and MAD)",
        "TVN on controls",
    ]
    assert [row.is_chosen for row in data.adaptations] == [False, True, False]
    assert all(row.is_current for row in data.adaptations)
    for row in data.adaptations:
        assert (row.trained_on, row.applied_to, row.stain) == ("A", "B", "as scanned")
        assert row.tiles == "64 px at 0.5 µm"
        assert row.difference.value == pytest.approx(row.after.value - row.before.value)
        assert row.difference.ci[0] <= row.difference.value <= row.difference.ci[1]
        assert 0 <= row.f1_before.value <= 1
        assert row.f1_after.n == row.after.n == 80
    assert [(probe.batch, probe.stain) for probe in data.probes] == [
        ("scanner", "as scanned"),
        ("scanner", "Macenko, target built-in"),
    ]
    assert [step.split()[1] for step in data.steps] == ["run", "adapt"]
    page = render_report(data)
    assert page.count('class="adapt"') == page.count('class="probes"') == 1
    assert "Linear classifier, on colour-statistics, tiles of 64 px at 0.5 µm, as scanned, learned" in page
    assert page.count('class="lead"') == 2 + 1  # two probes, and of the adaptations the chosen one
    assert "2 other ways of adapting stand beside it" in page
    tables = tables_csv(data)
    assert len(tables["adaptation"].splitlines()) == 4
    assert len(tables["probes"].splitlines()) == 3


def test_rows_that_no_longer_hold_are_marked(own):
    with Study.open(own) as study:
        study.settings.adapt.method = "tvn"  # a row carries its own settings
        assert all(row.is_current for row in report_data(study).adaptations)
        study.annotations.pop()
        data = report_data(study)
        assert not any(row.is_current for row in data.adaptations)
        assert all(row.is_current for row in data.probes)  # what is drawn changes nothing that a probe says
        assert not study.still_holds(study.results.adapt)
        study.settings.encode.normalizer = None
        run(study.adapt_job())
        data = report_data(study)
        assert [row.is_current for row in data.adaptations] == [False, False, True]
        assert render_report(data).count("no longer current</small>") == 2  # adaptations
        study.update_slide(study.slides[0], patient="somebody else")
        data = report_data(study)
        assert not any(row.is_current for row in (*data.adaptations, *data.probes))
        page = render_report(data)
        assert page.count("no longer current</small>") == 3 + 2  # adaptations, probes
        assert "No longer current: slides or regions changed" in page
        assert "Slides or regions changed after this was computed" in page


def test_former_names_are_left_out_too(own):
    with Study.open(own) as study:
        study.settings.encode.normalizer = None
        study.settings.adapt.batch = study.settings.probe.batch = "slide"
        study.settings.adapt.train_on = ["Meier A-1", "Schulze A-2"]
        run(study.probe_job())
        run(study.adapt_job())
        study.update_slide("Meier A-1", name="one", patient="P1")
        study.update_slide("Meier B-1", name="two", patient="P1")
        study.remove_slide("Schulze A-2")
        page = render_report(report_data(study))
        assert "Meier" not in page
        assert "Schulze" not in page


def test_a_wrong_method_is_a_sentence(own):
    with Study.open(own) as study:
        study.settings.encode.normalizer = None
        with pytest.raises(StudyError, match="magic: there is no such correction"):
            run(study.adapt_all_job(["magic"]))
