"""What a study's probe is looked into with: points, gallery, components, robustness, before and after; also as commands."""

from __future__ import annotations

import csv
import json
import shlex
import shutil
from dataclasses import replace

import numpy as np
import pytest
from PIL import Image
from tests.study.conftest import controls
from tests.study.test_history import afresh, results
from tests.viewer.probe_study import make
from typer.testing import CliRunner

from napari_batchfx.cli import app
from napari_batchfx.errors import AdaptError, ProbeError, StudyError
from napari_batchfx.jobs import run
from napari_batchfx.probe import projection
from napari_batchfx.probe.projection import has_umap
from napari_batchfx.study import Study
from napari_batchfx.study.carried import carried_job
from napari_batchfx.study.findings import AfterOutcome, ComponentsOutcome, RobustnessOutcome
from napari_batchfx.study.gallery import choose_tiles, gallery_job
from napari_batchfx.study.probe_after import after_maps, choices_after, probe_after_job
from napari_batchfx.study.probe_table import probe_table_job
from napari_batchfx.study.robustness import robustness_job
from napari_batchfx.study.scatter import scatter_job


@pytest.fixture(scope="module")
def probed(tmp_path_factory):
    return make(tmp_path_factory.mktemp("views"))


@pytest.fixture
def study(probed, tmp_path):
    shutil.copytree(probed, tmp_path / "copy")
    with Study.open(tmp_path / "copy" / "s.batchfx") as study:
        yield study


@pytest.fixture(scope="module")
def looked_into(tmp_path_factory):
    """A small study that was looked into in every way; its folder."""
    with Study.open(make(tmp_path_factory.mktemp("looked"), rows=3) / "s.batchfx") as study:
        run(study.components_job())
        run(study.robustness_job())
        run(study.probe_after_job("reinhard"))
        study.save()
        return study.folder


def test_the_table_behind_a_probe_is_the_one_it_was_computed_on(study):
    outcome = study.results.probe
    table, rows = run(probe_table_job(study, outcome))
    now = study.table("tissue")
    np.testing.assert_array_equal(rows, np.arange(len(outcome.result.confidence)))
    np.testing.assert_array_equal(table.X, now.X)
    assert table.obs["label"].astype(str).tolist() == now.obs["label"].astype(str).tolist()
    # a slide that left takes its rows along, and the others keep their numbers
    gone = study.slides[1]
    study.remove_slide(gone)
    table, rows = run(probe_table_job(study, outcome))
    kept = outcome.tiles.slide != outcome.tiles.fingerprints.index(gone.fingerprint)
    np.testing.assert_array_equal(rows, np.flatnonzero(kept))
    np.testing.assert_array_equal(table.X, now.X[kept])


def test_projection_is_that_of_scikit_learn():
    import anndata
    import pandas as pd
    from sklearn.decomposition import PCA

    rng = np.random.default_rng(3)
    x = (rng.normal(size=(400, 12)) @ rng.normal(size=(12, 12)) + 5).astype("float32")
    obs = pd.DataFrame({"slide": np.repeat(["a", "b"], 200)}, index=[str(i) for i in range(400)])
    found = projection(anndata.AnnData(x, obs=obs))
    model = PCA(2, svd_solver="full")
    wanted = model.fit_transform(x.astype(float))
    for axis in range(2):
        assert abs(np.corrcoef(found.xy[:, axis], wanted[:, axis])[0, 1]) > 0.99999
        assert np.std(found.xy[:, axis]) == pytest.approx(np.std(wanted[:, axis]), rel=1e-4)
    np.testing.assert_allclose(found.explained, model.explained_variance_ratio_, rtol=1e-4)
    # a slide with ten times the tiles doesn't turn the axes: every slide counts the same
    more = np.r_[x, np.repeat(x[:200], 9, axis=0)]
    names = np.r_[obs["slide"], np.repeat("a", 1800)]
    obs2 = pd.DataFrame({"slide": names}, index=[str(i) for i in range(len(more))])
    again = projection(anndata.AnnData(more, obs=obs2))
    np.testing.assert_allclose(again.xy[:400], found.xy, atol=1e-2)
    few = projection(anndata.AnnData(more, obs=obs2), max_tiles=100)
    assert len(few.xy) == 100
    assert "evenly over slides" in few.warnings[0]
    assert abs((few.rows < 200).sum() + (few.rows >= 400).sum() - 50) < 25
    with pytest.raises(ProbeError, match="same features"):
        projection(anndata.AnnData(np.ones((5, 3), np.float32)))
    x[7, 0] = np.nan
    assert 7 not in projection(anndata.AnnData(x, obs=obs)).rows


def test_umap_is_offered_only_where_it_is_installed(study):
    if has_umap():
        assert np.isfinite(run(scatter_job(study, kind="umap")).xy).all()
    else:
        with pytest.raises(ProbeError, match="umap-learn"):
            run(scatter_job(study, kind="umap"))


def test_scatter_knows_its_tiles(study):
    found = run(scatter_job(study))
    assert set(found.columns) == {"scanner", "slide", "patient", "class"}
    entry = study.slides[2]
    point = found.point_of(entry.fingerprint, (3, 4))
    assert found.columns["slide"][1][found.columns["slide"][0][point]] == entry.name
    assert found.point_of(entry.fingerprint, (90, 4)) is None
    mask = np.zeros(len(found.xy), bool)
    mask[point] = True
    assert {name: cells.tolist() for name, cells in found.cells_of(mask).items()} == {
        entry.fingerprint: [[3, 4]]
    }


def test_gallery_takes_the_ends_and_not_all_of_one_slide(study):
    outcome = study.results.probe
    chosen = choose_tiles(outcome, 6)
    assert len(chosen) == 24
    for batch in ("A", "B"):
        for side, better in (("strongest", np.greater_equal), ("weakest", np.less_equal)):
            own = [tile for tile in chosen if (tile.batch, tile.side) == (batch, side)]
            slides = [tile.fingerprint for tile in own]
            assert max(map(slides.count, set(slides))) <= 3
            # nothing further out was left on the same slide
            for fingerprint in set(slides):
                rows, cells = outcome.tiles.on(fingerprint)
                taken = {tile.cell for tile in own if tile.fingerprint == fingerprint}
                inside = [tuple(cell) in taken for cell in cells.tolist()]
                values = outcome.result.confidence[rows]
                worst = values[inside].min() if side == "strongest" else values[inside].max()
                assert better(worst, values[~np.array(inside)]).all()
    assert len({(tile.fingerprint, tile.cell) for tile in chosen}) == 24
    # all of them sure to the last digit: what is left for the other scanner still tells them apart
    left = np.exp(-50 - np.arange(len(outcome.tiles.slide)) % 97)
    own = np.array([entry.scanner == "B" for entry in study.slides])
    own = own[
        [
            [s.fingerprint for s in study.slides].index(outcome.tiles.fingerprints[i])
            for i in outcome.tiles.slide
        ]
    ]
    proba = np.where(own[:, None], np.column_stack([left, 1 - left]), np.column_stack([1 - left, left]))
    sure = replace(outcome.result, proba=proba, confidence=np.ones(len(left)))
    for tile in choose_tiles(replace(outcome, result=sure), 3):
        rows, cells = outcome.tiles.on(tile.fingerprint)
        value = left[rows[(cells == tile.cell).all(axis=1)][0]]
        assert (value < np.median(left)) == (tile.side == "strongest")
    tiles = run(gallery_job(study, n=2))
    assert [tile.pixels.shape for tile in tiles] == [(96, 96, 3)] * 8


def test_components_with_colour_measured_beside(study):
    assert run(carried_job(study)).colour == {}  # the encoder is colour itself
    study.settings.encode.encoder = "batchfx-mini"
    run(study.encode_job())
    run(study.probe_job())
    found = run(carried_job(study))
    assert set(found.colour) >= {"features", "colour", "without_colour", "colour_share"}
    assert found.colour["colour"]["balanced_accuracy"] > 0.5
    # the encoder of the study is still the one that was loaded
    assert study.loaded_encoder() is not None


def test_robustness_has_the_classes_beside(study):
    found = run(robustness_job(study))
    assert np.isfinite(found["robustness_index"].value)
    assert found["class_retention"].value > 0.5


def test_before_and_after_are_the_same_probe(study):
    assert {"macenko", "reinhard", "standardize", "tvn"} <= set(choices_after())
    before = study.settings.encode.model_dump()
    found = run(probe_after_job(study, "macenko"))
    assert study.settings.encode.model_dump() == before
    first, second = found.comparison.probe_before, found.comparison.probe_after
    own = study.results.probe.result
    np.testing.assert_array_equal(first.folds, second.folds)
    np.testing.assert_allclose(first.confidence, own.confidence, atol=1e-9)
    assert found.comparison.retention.is_known
    assert found.comparison.probe.change_interval is not None
    # the features are those of the settings with that normaliser
    study.settings.encode.normalizer = "macenko"
    after = run(study.probe_job())
    np.testing.assert_allclose(after.result.confidence, second.confidence, atol=1e-9)
    with pytest.raises(StudyError, match="already"):
        run(probe_after_job(study, "macenko"))
    study.settings.encode.normalizer = None
    maps = after_maps(study, found)
    entry = study.slides[0]
    rows, cells = found.tiles.on(entry.fingerprint)
    shown = maps["difference"][entry.fingerprint].values[cells[:, 0], cells[:, 1]]
    np.testing.assert_allclose(shown, (second.confidence - first.confidence)[rows], atol=1e-6)


def test_before_and_after_a_correction_says_that_it_knows_the_batch(study):
    with pytest.raises(AdaptError, match="control"):
        run(probe_after_job(study, "standardize"))
    study.annotations += [controls(entry.name) for entry in study.slides]
    found = run(probe_after_job(study, "standardize"))
    assert found.kind == "correction"
    assert found.comparison.probe.after < found.comparison.probe.before
    assert "knows the scanner of every tile" in found.warnings[0]
    with pytest.raises(StudyError, match="nothing called"):
        run(probe_after_job(study, "magic"))


def test_the_commands_give_the_same(study, tmp_path):
    study.save()
    folder = str(study.folder)
    study.close()
    sheet, points = tmp_path / "sheet.png", tmp_path / "points.csv"
    runner = CliRunner()
    done = runner.invoke(
        app, ["probe-tiles", folder, "--sheet", str(sheet), "--points", str(points), "--n", "2"]
    )
    assert done.exit_code == 0, done.output
    assert Image.open(sheet).size[1] > 4 * 96
    rows = list(csv.DictReader(points.open(encoding="utf-8")))
    assert len(rows) == 320
    assert set(rows[0]) == {"x", "y", "slide_number", "row", "col", "confidence", "scanner", "class"}
    assert "P1A" not in points.read_text("utf-8")
    done = runner.invoke(app, ["probe-tiles", folder, "--points", str(points), "--names"])
    assert done.exit_code == 0, done.output
    assert "P1A" in points.read_text("utf-8")
    assert runner.invoke(app, ["probe-tiles", folder]).exit_code == 2
    done = runner.invoke(app, ["probe-after", folder, "reinhard", "--json"])
    assert done.exit_code == 0, done.output
    found = json.loads(done.stdout)
    assert found["after"] == "reinhard"
    assert found["class_retention"]["before"] is not None


def test_what_is_found_is_kept_repeated_and_reported(study, tmp_path):
    """Components, metrics, before and after: steps with numbers that come again, in results and in the report."""
    study.annotations += [controls(entry.name) for entry in study.slides]
    run(study.components_job())
    run(study.robustness_job(study.results.probe))
    run(study.probe_after_job("reinhard"))
    run(study.probe_after_job("standardize"))
    study.save()
    kinds = ["encode", "probe", "components", "robustness", "probe-after", "probe-after"]
    assert [step.kind for step in study.steps] == kinds
    assert study.steps[4].options == {"after": "reinhard"}
    assert study.steps[4].found.startswith("reinhard: The scanner is recognised in")
    assert "tells A / B apart best" in study.steps[2].found
    names = set(results(study.folder))
    assert {"components.json", "robustness.json", "probe-after.json"} < names
    assert len(names) == 5  # the probe, and Reinhard beside the one compared last

    # shown again when it is opened: equal to what was found, JSON and all
    with Study.open(study.folder) as again:
        assert again.problems == []
        probe, own = again.results.probe, study.results.probe
        for kind in (ComponentsOutcome, RobustnessOutcome, AfterOutcome):
            there, here = again.results.about(probe, kind), study.results.about(own, kind)
            assert there.to_dict() == here.to_dict()
            assert there.sentence == here.sentence
            assert again.still_holds(there)
        old = again.results.about(probe, AfterOutcome, after="reinhard")
        now = study.results.about(own, AfterOutcome, after="reinhard")
        np.testing.assert_array_equal(old.found.difference, now.found.difference)
        assert again.results.about(probe, AfterOutcome, after="macenko") is None
        again.annotations = again.annotations[1:]  # classes are others now
        assert not again.still_holds(there)

    # the report holds what was found, and computes nothing anew
    page = study.report(tmp_path / "report.html").read_text("utf-8")
    found = study.results.about(own, ComponentsOutcome).result
    assert f"{found.tiles:,} tiles" in page
    assert f">{found.first[-1]['components']}</th>" in page
    index = study.results.about(own, RobustnessOutcome).metrics["robustness_index"]
    assert 'id="robustness"' in page
    assert f"{index.value:.2f}" in page
    assert 'id="before-after"' in page
    assert "Reinhard" in page

    # a colleague with the slides alone repeats it to the bit
    copy = afresh(study.folder, tmp_path / "again.batchfx")
    done = CliRunner().invoke(app, ["run", str(copy)])
    assert done.exit_code == 0, done.output
    assert "What carries it: Component" in done.stdout
    repeated = results(copy)
    repeated.pop("adapt.json")  # what the settings ask for beyond it
    assert repeated == results(study.folder)

    # a probe of other tiles takes what was found about the first run with it
    study.remove_slide(study.slides[-1])
    study.remove_slide(study.slides[-1])
    study.settings.probe.batch = "slide"
    run(study.probe_job())
    assert len(study.results.findings) == 4  # another question
    study.settings.probe.batch = "scanner"
    study.update_slide(study.slides[0].name, scanner="C")
    run(study.probe_job())
    assert study.results.findings == []


@pytest.mark.parametrize("number", [3, 4, 5])
def test_a_finding_s_step_runs_by_itself(looked_into, tmp_path, number):
    """As Python and as a command, where nothing is encoded or probed yet: the same numbers."""
    whole = results(looked_into)
    by_python, by_command = (
        afresh(looked_into, tmp_path / f"{how}.batchfx") for how in ("python", "command")
    )
    with Study.open(looked_into) as study:
        step = study.steps[number - 1]
        python, command = step.as_python(by_python), step.as_command(by_command)
    exec(compile(python, "step", "exec"), {})
    words = shlex.split(command)
    assert CliRunner().invoke(app, words[1:]).exit_code == 0
    assert results(by_python) == results(by_command)
    assert results(by_python).items() <= whole.items()
    assert f"{step.kind}.json" in results(by_python)
