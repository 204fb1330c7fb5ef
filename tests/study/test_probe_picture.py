"""Tiles encoded after a probe are scored by the classifier that never saw their slide."""

from __future__ import annotations

import shutil

import numpy as np
import pytest
from tests.study.conftest import tissue
from tests.viewer.probe_study import make

from napari_batchfx.jobs import run
from napari_batchfx.probe.logistic import softmax
from napari_batchfx.slides import write_pyramid
from napari_batchfx.study import Study
from napari_batchfx.study.probe_picture import ProbePicture, catch_up_job
from napari_batchfx.study.probe_table import stored_array

ROWS = 5


@pytest.fixture(scope="module", params=[2, 1], ids=["patients", "places"])
def part(request, tmp_path_factory):
    """A study of which the upper rows were probed, two slides a scanner or one."""
    return make(tmp_path_factory.mktemp("part"), request.param, labels=False, rows=ROWS)


@pytest.fixture
def study(part, tmp_path):
    shutil.copytree(part, tmp_path / "copy")
    with Study.open(tmp_path / "copy" / "s.batchfx") as study:
        yield study


def scored_by(study, outcome, entry, cells, fold):
    """Probabilities of tiles by the classifier of one fold, worked out by hand."""
    fitted = outcome.result.fitted
    _, array = stored_array(study, outcome, entry)
    return softmax(fitted.scorers[fold].logits(array.read(cells)) / fitted.temperatures[fold])


def test_new_tiles_get_the_fold_that_never_saw_their_slide(study):
    outcome = study.results.probe
    assert outcome.result.fitted is not None  # came back from the disk
    picture = ProbePicture(study, outcome)
    assert picture.fits
    before = picture.maps()
    run(study.encode_job())
    scored = run(catch_up_job(study, picture))
    assert scored == sum(np.isnan(one.values).sum() for one in before.values()) > 0
    after, whole = picture.maps(), outcome.tiles
    for entry in study.slides:
        rows, cells = whole.on(entry.fingerprint)
        values = after[entry.fingerprint].values
        # the probe's own tiles keep their out-of-fold value
        np.testing.assert_allclose(
            values[cells[:, 0], cells[:, 1]], outcome.result.confidence[rows], atol=1e-6
        )
        new = np.argwhere(np.isnan(before[entry.fingerprint].values))
        own = outcome.result.batches.index(entry.scanner)
        folds = outcome.result.folds[rows]
        if len(np.unique(folds)) == 1:
            expected = scored_by(study, outcome, entry, new, int(folds[0]))[:, own]
        else:  # split by place: the fold of the nearest tile that was probed
            gap = np.abs(new[:, None] - cells[None]).astype(float)
            nearest = folds[np.hypot(*gap.transpose(2, 0, 1)).argmin(axis=1)]
            by_fold = np.stack(
                [scored_by(study, outcome, entry, new, k)[:, own] for k in range(folds.max() + 1)]
            )
            expected = by_fold[nearest, np.arange(len(new))]
        np.testing.assert_allclose(values[new[:, 0], new[:, 1]], expected, atol=1e-5)


def test_other_names_and_patients_change_nothing(study):
    outcome = study.results.probe
    run(study.encode_job())
    plain = ProbePicture(study, outcome)
    run(catch_up_job(study, plain))
    for i, entry in enumerate(list(study.slides)):
        study.update_slide(entry, name=f"renamed {i}", patient=f"Q{i}")
    renamed = ProbePicture(study, outcome)
    run(catch_up_job(study, renamed))
    for what in ("confidence", "margin", "entropy"):
        one, two = plain.maps(what), renamed.maps(what)
        for fingerprint in one:
            np.testing.assert_array_equal(one[fingerprint].values, two[fingerprint].values)


def test_a_slide_that_came_later_is_scored_by_all(study, tmp_path):
    outcome = study.results.probe
    fitted = outcome.result.fitted
    pixels = (np.clip(tissue(9), 0, 1) * 255).astype(np.uint8)
    path = write_pyramid(tmp_path / "later.tif", pixels, 0.5, compression="deflate")
    known = study.add_slide(path, scanner="B", patient="P9")
    run(study.encode_job([known]))
    picture = ProbePicture(study, outcome)
    run(catch_up_job(study, picture))
    grid, array = stored_array(study, outcome, known)
    cells = grid.cells(0.25)
    by_fold = [scored_by(study, outcome, known, cells, k) for k in range(len(fitted.scorers))]
    values = picture.maps()[known.fingerprint].values
    own = outcome.result.batches.index("B")
    np.testing.assert_allclose(values[cells[:, 0], cells[:, 1]], np.mean(by_fold, axis=0)[:, own], atol=1e-5)
    assert array.n == len(cells)
    # of a scanner that the probe has never met there is no confidence, but an answer in words
    study.update_slide(known, scanner="C")
    picture = ProbePicture(study, outcome)
    run(catch_up_job(study, picture))
    assert np.isnan(picture.maps()[known.fingerprint].values).all()
    assert np.isfinite(picture.maps("entropy")[known.fingerprint].values).any()


def test_the_figure_of_a_view_counts_batches_the_same(study):
    from napari_batchfx.study.live_view import Look

    picture = ProbePicture(study, study.results.probe)
    picture.prepare()
    looks, shares, tiles = [], {}, 0
    for entry in study.slides:
        box = (0.0, 0.0, 100.0, 130.0) if entry.scanner == "A" else (0.0, 0.0, 60.0, 60.0)
        looks.append(Look(entry, box, (0.0, 0.0)))
        rows, cells = study.results.probe.tiles.on(entry.fingerprint)
        centre = study.grid(entry).center_um(cells)
        inside = rows[(centre < box[2:]).all(axis=1)]
        own = study.results.probe.result.batches.index(entry.scanner)
        right = study.results.probe.result.proba[inside].argmax(axis=1) == own
        shares.setdefault(entry.scanner, []).extend(right)
        tiles += len(inside)
    figure = picture.figure(looks)
    assert figure.tiles == tiles > 0
    assert figure.recognised == pytest.approx(np.mean([np.mean(one) for one in shares.values()]))
    assert "guessing 50" in figure.text
    assert ProbePicture(study, study.results.probe).figure([]).text == "no tile in view is scored yet"


def test_other_encoders_tiles_are_not_scored(study):
    picture = ProbePicture(study, study.results.probe)
    study.settings.encode.normalizer = "macenko"
    assert not picture.fits


def test_classifiers_of_another_result_are_not_taken(study):
    file = study.folder / "results" / "probe.safetensors"
    assert file.is_file()
    old = file.read_bytes()
    study.settings.probe.probe = "centroid"
    run(study.probe_job())
    assert file.read_bytes() != old
    file.write_bytes(old)  # as after a run that was killed between the two files
    with Study.open(study.folder) as again:
        assert again.results.probe.result.probe == "centroid"
        assert again.results.probe.result.fitted is None
