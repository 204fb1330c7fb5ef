"""A classifier that adapts by itself, chosen in the settings of a study."""

from __future__ import annotations

import shutil

import pytest
from pydantic import ValidationError

from napari_batchfx.adapt import HeadResult, TrainingPoint, load_head
from napari_batchfx.errors import AdaptError, StudyError
from napari_batchfx.jobs import run
from napari_batchfx.study import Study
from napari_batchfx.study.settings import AdaptSettings


def test_a_head_is_a_question_of_its_own_and_older_results_stay_current():
    assert "head" not in AdaptSettings().said()
    assert AdaptSettings(head="csarmbn").said()["head"] == "csarmbn"
    assert AdaptSettings.model_validate({"method": "tvn"}).head == "linear"
    with pytest.raises(ValidationError, match="no classifier 'magic'; choose of linear, mlp"):
        AdaptSettings(head="magic")


def test_a_head_trains_in_a_study_ends_early_and_is_kept(done, tmp_path):
    small_study = shutil.copytree(done, tmp_path / "s.batchfx")
    with Study.open(small_study) as study:
        study.settings.adapt.train_on = ["A"]
        n_known = len(study.results.adaptations)
        linear = run(study.adapt_job())
        folder = study.folder / "results"
        assert (folder / "correction.safetensors").is_file()
        study.settings.adapt.head = "csarmbn"
        assert not study.is_current("adapt")
        points = []
        job = study.adapt_job(enough=lambda: len(points) >= 2)
        try:
            while True:
                point = next(job).partial
                if isinstance(point, TrainingPoint):
                    points.append(point)
        except StopIteration as end:
            found = end.value
        assert isinstance(found.result, HeadResult)
        assert [point.step for point in points] == [10, 20]
        assert any("ended early, after step 20" in text for text in found.warnings)
        assert found.numbers["comparison"]["n"] == linear.numbers["comparison"]["n"] > 0
        assert set(found.numbers["judgements"]) == {"B"}
        assert study.is_current("adapt")
        assert study.results.adapt is found
        assert linear in study.results.adaptations
        assert len(study.results.adaptations) <= n_known + 2
        assert not (folder / "correction.safetensors").exists()
        kept = load_head(folder / "head.safetensors")
        assert kept.method == "csarmbn"
        assert kept.reference is not None  # also of a training that was ended
        assert kept.provenance["domains"]["A"]["controls"] > 0
        # applied as it is to every slide; one of another encoder is refused
        applied = run(study.apply_head_job(folder / "head.safetensors"))
        assert study.results.adapt is applied
        assert set(applied.numbers["judgements"]) == {"A", "B"}
        assert applied.numbers["judgements"]["A"]["sentence"].startswith(("Like A", "Most like A"))
        assert applied.computed_from["settings"]["train_on"] == ["a saved classifier"]
        step = study.steps[-1]
        assert (step.kind, step.options["path"]) == ("apply-head", str(folder / "head.safetensors"))
        assert "apply-head" in step.as_command()
        repeated = run(study.run_job([step])).done[0][1]
        assert repeated.to_dict() == applied.to_dict()
        applied = study.results.adapt
        kept.encoder = "another"
        kept.save(tmp_path / "other.safetensors")
        with pytest.raises(AdaptError, match=r"other.safetensors was trained on features of another"):
            run(study.apply_head_job(tmp_path / "other.safetensors"))
        linear.result.head.save(tmp_path / "linear.safetensors")
        with pytest.raises(StudyError, match="doesn't adapt by itself"):
            run(study.apply_head_job(tmp_path / "linear.safetensors"))
        assert study.results.adapt is applied
        study.save()
    with Study.open(small_study) as again:
        assert again.settings.adapt.head == "csarmbn"
        assert again.results.adapt.to_dict() == applied.to_dict()


def test_a_classifier_that_can_not_be_applied_is_called_what_it_is():
    from napari_batchfx.adapt import AdaptiveNetwork, ScanGenMIL
    from napari_batchfx.study.head_steps import _why_not

    said = _why_not(AdaptiveNetwork("resnet10t", "armbn"))
    assert "a whole network takes pixels" in said
    assert "linear" not in said
    assert "one answer a slide" in _why_not(ScanGenMIL())
