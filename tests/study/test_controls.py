"""The basket of control samples: suggested from pixels, put in and taken out, kept, exported, judged."""

from __future__ import annotations

import json

import numpy as np
import pytest
from tests.study.conftest import SHAPE, set_up, tissue

from napari_batchfx.errors import StudyError
from napari_batchfx.jobs import run
from napari_batchfx.slides import write_pyramid
from napari_batchfx.study import ControlTile, Study


@pytest.fixture
def study(slide_files, tmp_path):
    with set_up(tmp_path / "s", slide_files, labels=False) as made:
        made.settings.encode.size_px = 32
        yield made


def test_suggested_tiles_are_spread_and_come_with_reasons(study):
    found = study.suggest_controls(per_slide=12)
    counts = {name: sum(tile.slide == name for tile in found.tiles) for name in ("A-1", "A-2", "B-1", "B-2")}
    assert set(counts.values()) == {12}
    assert all("% tissue" in tile.reason and "built like" in tile.reason for tile in found.tiles)
    assert all(tile.source == "suggested" for tile in found.tiles)
    assert study.controls == []  # nothing is taken before it is asked for
    again = study.suggest_controls(per_slide=12)
    assert again == found
    study.put_controls(found.tiles)
    assert [len(study.control_cells(name)) for name in counts] == [12] * 4
    more = study.suggest_controls(per_slide=5)
    assert not {(t.slide, t.y_um, t.x_um) for t in more.tiles} & {
        (t.slide, t.y_um, t.x_um) for t in found.tiles
    }


def test_suggesting_is_a_step_that_fills_an_empty_basket_and_leaves_another(study):
    found = study.suggest_controls(per_slide=12)
    study.take_suggestion(found)
    assert list(study.controls) == list(found.tiles)
    step = study.steps[-1]
    assert (step.kind, step.options["per_slide"]) == ("suggest-controls", 12)
    study.controls = []
    run(study.run_job([step]))
    assert list(study.controls) == list(found.tiles)
    cell = study.control_cells("A-1")[:1]
    study.put_control_cells("A-1", cell, is_taken=False)  # what a person took out stays out
    changed = list(study.controls)
    outcome = run(study.run_job([step])).done[0][1]
    assert list(study.controls) == changed
    assert len(outcome.tiles) == len(found.tiles) - 1


def test_a_scanner_with_another_colour_gets_the_same_tiles(slide_files, tmp_path):
    """The same tissue with every grey value moved one to one, at another site: pixels count by rank only."""
    image = np.clip(tissue(1) * 200 + 10, 0, 255).astype(np.uint8)
    picked = []
    for name, curve in (("plain", np.arange(256)), ("bright", np.minimum(np.arange(256) + 15, 255))):
        path = write_pyramid(
            tmp_path / f"{name}.tif", curve.astype(np.uint8)[image], 0.5, compression="deflate"
        )
        with Study.create() as study:
            study.settings.encode.size_px, study.settings.encode.mpp = 32, 0.5
            study.add_slide(path, scanner="A")
            study.add_slide(slide_files["B-1"], scanner="B")
            picked.append(
                [(t.y_um, t.x_um) for t in study.suggest_controls(per_slide=10).tiles if t.slide == name]
            )
    assert picked[0] == picked[1]
    assert len(picked[0]) == 10


def test_in_and_out_by_click_above_the_regions(study):
    from tests.study.conftest import controls

    study.annotations.append(controls("A-1"))
    drawn = study.control_cells("A-1")
    assert len(drawn) == SHAPE[0] // 2 // 32 * (SHAPE[1] // 32)
    study.put_control_cells("A-1", drawn[:3], is_taken=False)
    assert len(study.control_cells("A-1")) == len(drawn) - 3
    study.put_control_cells("A-1", drawn[:1])
    study.put_control_cells("A-1", np.array([[15, 3]]))
    assert len(study.control_cells("A-1")) == len(drawn) - 1
    with pytest.raises(StudyError, match="no slide called C"):
        study.put_controls([ControlTile("C", 1.0, 1.0, 16.0)])
    study.settings.encode.size_px = 64  # other tiles: the basket keeps its places
    assert [7, 1] in study.control_cells("A-1").tolist()


def test_the_basket_is_kept_follows_its_slide_and_counts_in_results(study):
    found = study.suggest_controls(per_slide=20)
    run(study.encode_job())
    table = study.table()
    assert not table.obs["control"].any()
    study.put_controls(found.tiles)
    table = study.table()
    assert table.obs["control"].sum() == len(found.tiles)
    run(study.probe_job())
    assert study.is_current("probe")  # a probe doesn't depend on controls
    study.update_slide("A-1", name="new name")
    study.save()
    with Study.open(study.folder) as again:
        assert again.controls == study.controls
        assert sum(tile.slide == "new name" for tile in again.controls) == 20
        place = next(tile for tile in again.controls if tile.slide == "new name")
        again.update_slide("new name", mpp=1.0)  # twice the size: the tile stays on its tissue
        moved = next(tile for tile in again.controls if tile.slide == "new name")
        assert (moved.y_um, moved.x_um) == (2 * place.y_um, 2 * place.x_um)
        again.remove_slide("new name")
        assert len(again.controls) == 60
    (study.folder / "controls.csv").write_text("nonsense")
    with Study.open(study.folder) as broken:
        assert broken.controls == []
        assert "the control samples can't be read" in str(broken.problems[0])
        assert (study.folder / "controls-damaged.csv").exists()


@pytest.mark.parametrize("suffix", [".csv", ".geojson"])
@pytest.mark.parametrize("with_identifiers", [False, True])
def test_out_and_in_again(study, tmp_path, suffix, with_identifiers):
    study.put_controls(study.suggest_controls(per_slide=6).tiles)
    study.put_control_cells("B-2", np.array([[1, 2]]), is_taken=False)
    path = study.export_controls(tmp_path / f"controls{suffix}", with_identifiers=with_identifiers)
    assert ("A-1" in path.read_text()) == with_identifiers
    kept = study.controls
    study.controls = []
    assert study.import_controls(path) == []
    key = [(t.slide, t.y_um, t.x_um, t.size_um, t.source, t.is_taken) for t in kept]
    assert [(t.slide, t.y_um, t.x_um, t.size_um, t.source, t.is_taken) for t in study.controls] == key
    study.remove_slide("A-1")
    study.controls = []
    assert "6 tiles are of slides that the study doesn't have" in study.import_controls(path)[0]


def test_files_that_are_something_else(study, tmp_path):
    with pytest.raises(StudyError, match="basket of control samples is empty"):
        study.export_controls(tmp_path / "c.csv")
    study.put_control_cells("A-1", np.array([[1, 1]]))
    with pytest.raises(StudyError, match=r"written as \.csv or \.geojson"):
        study.export_controls(tmp_path / "c.txt")
    for text in ("a,b\n1,2\n", '{"type": "FeatureCollection"}', "{", "slide,y_um,x_um,size_um\nA-1,x,1,1\n"):
        (tmp_path / "c.csv").write_text(text)
        with pytest.raises(StudyError, match=r"c\.csv: not a list of control samples"):
            study.import_controls(tmp_path / "c.csv")
    with pytest.raises(StudyError, match=r"none\.csv: it can't be read"):
        study.import_controls(tmp_path / "none.csv")


def test_suggest_judge_export_import_on_the_command_line(study, tmp_path):
    from typer.testing import CliRunner

    from napari_batchfx.cli import app

    run(study.encode_job())
    study.save()
    study.close()  # another program may not write it meanwhile

    def command(*words):
        result = CliRunner().invoke(app, [str(word) for word in words])
        assert result.exit_code == 0, result.output
        return result.stdout

    folder = study.folder
    dry = json.loads(command("controls", "suggest", folder, "--n", 20, "--dry", "--json"))
    assert len(dry["tiles"]) == 80
    with Study.open(folder) as unchanged:
        assert unchanged.controls == []
    said = command("controls", "suggest", folder, "--n", 20)
    assert "80 control tiles, 20 a slide on 4 slides" in said
    assert "the first: " in said
    judged = json.loads(command("controls", "judge", folder, "--json"))
    assert judged["n"] == {"A": 40, "B": 40}
    assert judged["verdict"] in ("usable", "weak", "not usable")
    shown = command("controls", "judge", folder)
    assert "placebo" in shown
    assert "principal angles" in shown
    command("controls", "export", folder, tmp_path / "c.geojson")
    assert "80 control tiles, 0 of them new" in command("controls", "import", folder, tmp_path / "c.geojson")
    assert CliRunner().invoke(app, ["controls", "judge", str(folder), "--batch", "moon"]).exit_code == 2
