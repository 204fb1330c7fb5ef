"""The Adapt dock in the real window: control samples suggested, clicked, judged; predictions compared."""

from __future__ import annotations

import numpy as np
import pytest
from qtpy.QtCore import QPoint, Qt
from qtpy.QtTest import QTest
from tests.viewer.probe_study import make, opened

from napari_batchfx.study import Study
from napari_batchfx.viewer import seam

LEFT, NONE = Qt.MouseButton.LeftButton, Qt.KeyboardModifier.NoModifier


@pytest.fixture(scope="session")
def encoded(tmp_path_factory):
    return make(tmp_path_factory.mktemp("encoded"))


@pytest.fixture
def dock(bench, encoded, tmp_path, qtbot):
    dock = bench.show_dock("adapt")
    opened(encoded, tmp_path / "copy", dock.session)
    qtbot.wait(50)
    return dock


def click(widget, place=None):
    assert widget.isEnabled()
    assert widget.isVisible()
    QTest.mouseClick(widget, LEFT, NONE, place or widget.rect().center())


def click_on_slide(session, entry, place_um):
    """Click on a place (y, x) of a slide in the canvas."""
    viewer = session.viewer
    canvas = seam.canvas_widget(viewer)
    y0, x0, y1, x1 = seam.view_box_um(viewer)
    y, x = (np.asarray(entry.affine_um) @ [*place_um, 1.0])[:2]
    spot = QPoint(round((x - x0) / (x1 - x0) * canvas.width()), round((y - y0) / (y1 - y0) * canvas.height()))
    QTest.mouseMove(canvas, spot)
    QTest.mouseClick(canvas, LEFT, NONE, spot)


def rest(dock, wait):
    wait(lambda: not any(job.is_running for job in dock.session._jobs))


def on_canvas(session, entry):
    """Tiles that are shown as control samples."""
    layer = session.layer(entry, "controls")
    return set() if layer is None else set(map(tuple, np.argwhere(layer.data == 1).tolist()))


def test_controls_are_suggested_clicked_and_judged(dock, viewer, wait, qtbot, tmp_path):
    session, part = dock.session, dock.controls
    study = session.study
    part.per_slide.setValue(20)
    assert part.suggest_row.button.text() == "Suggest 20 a slide"
    click(part.suggest_row.button)
    rest(dock, wait)
    tiles = part.tiles
    assert 0 < len(tiles) <= 80, dock.card.text
    assert {tile.slide for tile in tiles} == {entry.name for entry in study.slides}
    assert all(tile.reason for tile in tiles)
    assert set(part.basket.buttons) == set(tiles)
    assert not any(button.icon().isNull() for button in part.basket.buttons.values())
    assert all(tile.reason in button.toolTip() for tile, button in part.basket.buttons.items())
    first = study.slides[0]
    assert on_canvas(session, first) == set(map(tuple, study.control_cells(first).tolist())) != set()

    # a click takes one out, on the slide too, and it can be put back
    gone = next(tile for tile in tiles if tile.slide == first.name)
    click(part.basket.buttons[gone])
    assert gone not in part.tiles
    assert gone not in part.basket.buttons
    cell = study.grid(first).cell_at(gone.y_um, gone.x_um)
    assert cell not in on_canvas(session, first)
    click(part.back_button)
    rest(dock, wait)
    assert part.tiles == tiles
    assert cell in on_canvas(session, first)

    # clicks on the slide put in and take out; slides lie over each other, the last one on top
    top = study.slides[-1]
    grid = study.grid(top)
    free = next(c for c in map(tuple, grid.cells(0.8).tolist()) if c not in on_canvas(session, top))
    click(part.click_button)
    y, x = grid.center_um([free])[0]
    click_on_slide(session, top, (y, x))
    wait(lambda: free in on_canvas(session, top), 5)
    assert "row" in dock.card.text
    assert any(tile.source == "clicked" for tile in part.tiles)
    click_on_slide(session, top, (y, x))
    wait(lambda: free not in on_canvas(session, top), 5)
    click(part.click_button)
    click_on_slide(session, top, (y, x))
    qtbot.wait(50)
    assert free not in on_canvas(session, top)
    rest(dock, wait)

    # judged before anything is corrected
    click(part.judge_row.button)
    rest(dock, wait)
    assert dock.card.text.startswith("The control samples are ")
    word = next(word for word in ("Not usable", "Usable", "Weak") if word in part.verdict.text())
    assert word.lower() in dock.card.text
    assert "effective rank" in part.numbers.text()
    assert part.verdict.isVisible()

    # out to a file and in again, and kept with the study
    for name in ("controls.csv", "controls.geojson"):
        part.export_to(str(tmp_path / name))
        assert first.name not in (tmp_path / name).read_text(encoding="utf-8")
    click(part.empty_button)
    assert part.tiles == []
    assert not part.basket.isVisible()
    assert not part.verdict.isVisible()  # it was about other tiles
    part.import_from(str(tmp_path / "controls.geojson"))
    places = {(tile.slide, round(tile.y_um), round(tile.x_um)) for tile in tiles}
    assert {(tile.slide, round(tile.y_um), round(tile.x_um)) for tile in part.tiles} == places
    (tmp_path / "other.csv").write_text("a,b\n1,2\n", encoding="utf-8")
    part.import_from(str(tmp_path / "other.csv"))
    assert dock.card.kind == "error"
    assert "not a list of control samples" in dock.card.text
    rest(dock, wait)
    study.save()
    with Study.open(study.folder) as again:
        assert sum(tile.is_taken for tile in again.controls) == len(places)


def mark_controls(study):
    """Every other tile of each slide is a control sample."""
    for entry in study.slides:
        cells = study.grid(entry).cells(0.8)
        study.put_control_cells(entry, cells[cells.sum(axis=1) % 2 == 0])


def pick(box, value):
    """Choose an item by its value, as a person does."""
    index = box.findData(value)
    assert index >= 0
    box.setCurrentIndex(index)
    box.activated.emit(index)


def shown(session, kind):
    """Values of an overlay on the slides that have it, by slide; all other overlays are hidden."""
    kinds = ("before", "after", "changed", "uncertainty", "class")
    found = {}
    for entry in session.study.slides:
        for other in kinds:
            layer = session.layer(entry, other)
            assert layer is None or layer.visible == (other == kind)
            if layer is not None and other == kind:
                found[entry.name] = np.asarray(layer.data)
    return found


def test_a_head_trains_with_its_curve_and_what_it_says_is_compared(dock, wait, tmp_path):
    session, compare = dock.session, dock.compare
    study = session.study
    mark_controls(study)
    dock.refresh()
    pick(dock.train_on, "A")
    click(dock.row.button)
    rest(dock, wait)
    linear = study.results.adapt
    assert linear is not None, dock.card.text
    assert not dock.choices.losses.isVisible()
    assert not compare.all_runs.isVisible()

    # a head: its curve grows; Cancel ends the training and keeps the best so far
    pick(dock.choices.head, "csarmbn")
    assert not dock.method.isVisible()
    assert "control samples" in dock.choices.explained.text()
    click(dock.row.button)
    wait(lambda: len(dock.choices.losses.points) >= 1)
    assert dock.choices.losses.isVisible()
    if dock.job.is_running:
        dock.row.stop.click()
    rest(dock, wait)
    found = study.results.adapt
    assert found.computed_from["settings"]["head"] == "csarmbn"
    assert found.result.head.curve == dock.choices.losses.points
    assert "accuracy where it learned" in compare.table.text()
    assert "Most like A" in compare.table.text() or "Like A" in compare.table.text()

    # one overlay at a time: classes, doubt, one class
    for button, kind in zip(compare.views.buttons(), ("before", "after", "changed"), strict=False):
        click(button)
        assert set(shown(session, kind)) >= {"B-1", "B-2"}
    click(compare.views.button(3))
    values = shown(session, "uncertainty")["B-1"]
    rows, cells = found.tiles.on(study.slide("B-1").fingerprint)
    p = found.after.proba[rows]
    want = -(p * np.log(np.maximum(p, 1e-300))).sum(axis=1) / np.log(2)
    np.testing.assert_allclose(values[cells[:, 0], cells[:, 1]], want, atol=1e-6)
    click(compare.views.button(4))
    for name in found.after.classes:
        pick(compare.class_name, name)
        values = shown(session, "class")["B-1"]
        want = p[:, list(found.after.classes).index(name)]
        np.testing.assert_allclose(values[cells[:, 0], cells[:, 1]], want, atol=1e-6)

    # both in the table; a click on a row shows that one
    assert compare.all_runs.isVisible()
    assert [compare.all_runs.item(i, 0).text() for i in range(2)] == ["CS-ARM-BN", "Standardise"]
    cell = compare.all_runs.visualItemRect(compare.all_runs.item(1, 0)).center()
    click(compare.views.button(1))
    QTest.mouseClick(compare.all_runs.viewport(), LEFT, NONE, cell)
    assert study.results.adapt is linear
    values = shown(session, "after")["B-1"]
    rows, cells = linear.tiles.on(study.slide("B-1").fingerprint)
    np.testing.assert_array_equal(values[cells[:, 0], cells[:, 1]], linear.after.proba[rows].argmax(axis=1))
    QTest.mouseClick(
        compare.all_runs.viewport(),
        LEFT,
        NONE,
        compare.all_runs.visualItemRect(compare.all_runs.item(0, 0)).center(),
    )
    assert study.results.adapt is found

    # saved, and applied to the slides as one that comes from elsewhere
    dock.save(str(tmp_path / "head.safetensors"))
    assert "head.safetensors" in dock.card.text
    dock.load(str(tmp_path / "head.safetensors"))
    rest(dock, wait)
    assert study.results.adapt.computed_from["settings"]["train_on"] == ["a saved classifier"]
    assert dock.card.text.startswith(("A: Like A", "A: Most like A"))  # before any prediction
    click(compare.undo_button)
    assert study.results.adapt is found

    # undone, twice
    click(compare.undo_button)
    assert study.results.adaptations == [linear]
    assert not compare.all_runs.isVisible()
    click(compare.undo_button)
    assert study.results.adapt is None
    assert shown(session, "after") == {}
    assert not compare.undo_button.isEnabled()


def test_all_methods_side_by_side(dock, wait, monkeypatch):
    """One press runs them all; the table tells accuracy in and out, and a click on a row shows that one."""
    # two corrections are enough to see the table work; a classifier that adapts has its own test above
    monkeypatch.setattr("napari_batchfx.adapt.METHODS", ("standardize", "combat"))
    monkeypatch.setattr("napari_batchfx.viewer.docks.adapt.OFFERED_HEADS", ())
    session, table = dock.session, dock.compare.all_runs
    study = session.study
    mark_controls(study)
    dock.refresh()
    pick(dock.train_on, "A")
    click(dock.choices.all_button)
    wait(lambda: not dock.job.is_running, 180)
    rest(dock, wait)
    assert [str(one) for one in study.problems] == []
    found = {
        one.computed_from["settings"].get("head", one.computed_from["settings"]["method"]): one
        for one in table.outcomes
    }
    assert set(found) == {"standardize", "combat"}
    assert table.isVisible()
    # nothing that no correction changes is computed twice
    assert found["combat"].result.head_before is found["standardize"].result.head_before
    names = [table.horizontalHeaderItem(i).text() for i in range(table.columnCount())]
    assert names == ["method", "in", "before", "after", "origin", "tissue", "moved"]
    for row, outcome in enumerate(table.outcomes):
        comparison = outcome.numbers["comparison"]
        for column, key in ((1, "inside_after"), (3, "balanced_accuracy_after")):
            assert table.item(row, column).text() == f"{comparison[key]['value']:.2f}"
        assert "AUC" in table.item(row, 3).toolTip()
        assert "ECE" in table.item(row, 3).toolTip()
        assert comparison["inside_after"]["ci"][0] < comparison["inside_after"]["ci"][1]
    other = next(i for i, one in enumerate(table.outcomes) if one is not study.results.adapt)
    table.cellClicked.emit(other, 0)
    assert study.results.adapt is table.outcomes[other]
    assert "every class counts the same" in dock.compare.table.text()
    assert set(shown(session, "after")) >= {"B-1", "B-2"}
