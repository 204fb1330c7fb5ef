"""Under other stains: the same tiles, encoded once a condition, compared tile by tile."""

from __future__ import annotations

import json
import shutil

import numpy as np
import pytest
from typer.testing import CliRunner

from napari_batchfx.adapt import ERMHead
from napari_batchfx.cli import app
from napari_batchfx.errors import StudyError
from napari_batchfx.jobs import run
from napari_batchfx.stain import CONDITIONS, feature_spread, prediction_spread
from napari_batchfx.study import Study
from napari_batchfx.study.stain_conditions import stain_conditions_job

TWO = CONDITIONS[:2]


@pytest.fixture
def folder(done, tmp_path):
    """A copy of the study that was run: features are added to it."""
    return shutil.copytree(done, tmp_path / "s.batchfx")


def test_spread_maps_and_auc_are_those_of_the_vectors(folder):
    with Study.open(folder) as study:
        table = study.table("tissue")
        head = ERMHead().fit(table[table.obs["label"].astype(str) != ""].copy())
        names = [entry.name for entry in study.slides][:2]
        found = run(study.stain_conditions_job(names, conditions=TWO, head=head))
        assert found.conditions == ("as scanned", "low-intensity", "high-intensity")
        n = len(found.feature_spread)
        assert n == len(found.slide) == len(found.cells) > 0
        assert (found.feature_spread > 0).all()
        # a second way to the same numbers: the vectors in the store
        store = study.store()
        rows = [row for row in store.keys() if row["stain"].startswith("simulated-")]  # noqa: SIM118
        assert len(rows) == 2 * len(names)
        assert sum(row["n"] for row in rows) == 2 * n
        fingerprint = found.fingerprints[0]
        own = found.slide == 0
        stack = [study.store().array(r["fingerprint"], r["encoder"], r["grid"], r["stain"])
                 .read(found.cells[own]) for r in rows if r["fingerprint"] == fingerprint]  # fmt: skip
        scanned = table[(table.obs["slide"].astype(str) == study.slide(names[0]).name).to_numpy()]
        place = {
            (r, c): i for i, (r, c) in enumerate(zip(scanned.obs["row"], scanned.obs["col"], strict=True))
        }
        first = np.asarray(scanned.X)[[place[tuple(cell)] for cell in found.cells[own]]]
        np.testing.assert_allclose(
            feature_spread(np.stack([first, *stack])), found.feature_spread[own], atol=1e-5
        )
        shown = found.maps[fingerprint]["features"]
        cells = found.cells[own]
        np.testing.assert_allclose(
            shown.values[cells[:, 0], cells[:, 1]], found.feature_spread[own], atol=1e-5
        )
        assert np.isfinite(shown.values).sum() == own.sum()
        spread = prediction_spread(np.stack([head.predict(table).proba] * 2))
        assert np.nanmax(spread.spread) == 0
        assert found.prediction_spread is not None
        assert ((found.prediction_spread >= 0) & (found.prediction_spread <= 1)).all()
        assert "apart" in found.sentence
        said = json.dumps(found.to_dict())
        assert "Meier" not in said
        assert "HistoQC" in said
        # nothing is computed twice
        steps = list(stain_conditions_job(study, names, conditions=TWO, head=head))
        assert all(step.rate is None for step in steps if "encoding" in step.what)


def test_only_what_is_seen_and_a_sentence_where_nothing_is(folder):
    with Study.open(folder) as study:
        name = study.slides[0].name
        found = run(
            stain_conditions_job(study, conditions=TWO[:1], boxes_um={name: (0.0, 0.0, 128.0, 160.0)})
        )
        assert len(found.fingerprints) == 1
        with pytest.raises(StudyError, match="move the view over tissue"):
            run(stain_conditions_job(study, conditions=TWO[:1], boxes_um={name: (9e4, 9e4, 9.1e4, 9.1e4)}))
        with pytest.raises(StudyError, match="at least one"):
            run(stain_conditions_job(study, conditions=()))


def test_the_command_says_what_moved(folder):
    with Study.open(folder) as study:
        name = study.slides[0].name
    told = CliRunner().invoke(
        app,
        ["stain-conditions", str(folder), "--slide", name, "--condition", "low-intensity", "--json"],
        catch_exceptions=False,
    )
    assert told.exit_code == 0, told.output
    said = json.loads(told.stdout)
    assert [one["id"] for one in said["conditions"]] == ["as scanned", "low-intensity"]
    wrong = CliRunner().invoke(app, ["stain-conditions", str(folder), "--condition", "magic"])
    assert wrong.exit_code == 2
