"""The pages under the probe's card in the real window: components, scatter, gallery, robustness, before and after."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import pytest
from qtpy.QtCore import QPoint, QPointF, Qt
from qtpy.QtTest import QTest
from tests.viewer.probe_study import make, opened

from napari_batchfx.study import Study
from napari_batchfx.study.findings import RobustnessOutcome
from napari_batchfx.viewer import seam

LEFT, NONE = Qt.MouseButton.LeftButton, Qt.KeyboardModifier.NoModifier


@pytest.fixture(scope="session")
def probed(tmp_path_factory):
    return make(tmp_path_factory.mktemp("probed"))


@pytest.fixture
def dock(bench, probed, tmp_path, qtbot):
    dock = bench.show_dock("probe")
    opened(probed, tmp_path / "copy", dock.session)
    qtbot.wait(50)
    return dock


def click(widget, place=None):
    assert widget.isEnabled()
    assert widget.isVisible()
    QTest.mouseClick(widget, LEFT, NONE, place or widget.rect().center())


def turn(dock, name, wait):
    click(dock.pages.buttons[name])
    wait(lambda: not any(job.is_running for job in dock.session._jobs))
    return dock.pages.page(name)


def on_widget(plot, place):
    """A place of the plane on the plot's widget, as the mouse has it."""
    return plot.mapFromScene(plot.box.mapViewToScene(QPointF(*map(float, place))))


def drag(plot, path, qtbot):
    """Drag through places of the plane."""
    widget = plot.viewport()
    spots = [on_widget(plot, place) for place in path]
    QTest.mousePress(widget, LEFT, NONE, spots[0])
    for start, end in pairwise(spots):
        for part in (0.25, 0.5, 0.75, 1.0):  # a hand is slow, and the plot takes a hundred places a second
            QTest.mouseMove(widget, start + (end - start) * part)
            qtbot.wait(20)
    QTest.mouseRelease(widget, LEFT, NONE, spots[-1])
    qtbot.wait(15)


def click_on_slide(session, entry, place_um):
    """Click on a place (y, x) of a slide in the canvas."""
    viewer = session.viewer
    canvas = seam.canvas_widget(viewer)
    y0, x0, y1, x1 = seam.view_box_um(viewer)
    y, x = (np.asarray(entry.affine_um) @ [*place_um, 1.0])[:2]
    spot = QPoint(round((x - x0) / (x1 - x0) * canvas.width()), round((y - y0) / (y1 - y0) * canvas.height()))
    QTest.mouseMove(canvas, spot)
    QTest.mouseClick(canvas, LEFT, NONE, spot)


def test_scatter_lights_lassoed_tiles_and_finds_clicked_ones(dock, viewer, wait, qtbot):
    session = dock.session
    page = turn(dock, "Scatter", wait)
    scatter, plot, outcome = page.scatter, page.plot, session.study.results.probe
    assert len(scatter.xy) == len(outcome.result.confidence)
    assert [page.by.itemData(i) for i in range(page.by.count())] == [
        "scanner",
        "slide",
        "patient",
        "class",
        "confidence",
    ]
    assert page.by.currentData() == "scanner"
    assert "A (160)" in page.legend.text().replace("&nbsp;", " ")

    # a lasso around the right half
    click(page.lasso)
    (x0, y0), (x1, y1) = plot.xy.min(axis=0), plot.xy.max(axis=0)
    middle, right, top = float(np.median(plot.xy[:, 0])), 0.02 * (x1 - x0), 0.02 * (y1 - y0)
    x1, y0, y1 = x1 + right, y0 - top, y1 + top
    drag(plot, [(middle, y0), (x1, y0), (x1, y1), (middle, y1)], qtbot)
    inside = plot.selected
    assert abs(inside.sum() - (plot.xy[:, 0] > middle).sum()) <= 6  # a pixel of the edge
    lit = 0
    for entry in session.study.slides:
        rows, cells = outcome.tiles.on(entry.fingerprint)
        wanted = {tuple(cell) for cell, row in zip(cells.tolist(), rows, strict=True) if inside[row]}
        layer = session.layer(entry, "picked")
        shown = set() if layer is None else set(map(tuple, np.argwhere(layer.data == 1).tolist()))
        assert shown == wanted
        assert layer is None or layer.visible
        lit += len(shown)
    assert lit == inside.sum() > 50
    assert f"{lit:,} of {len(inside):,} tiles" in page.said.text()
    session.show_only("probe")  # another overlay leaves them lit
    picked = [session.layer(entry, "picked") for entry in session.study.slides]
    assert all(layer.visible for layer in picked if layer is not None)
    click(page.clear)
    assert all(session.layer(entry, "picked") is None for entry in session.study.slides)

    # a click on a point goes to its tile
    click(page.move)
    point = int(np.argmax(plot.xy[:, 0]))
    click(plot.viewport(), on_widget(plot, plot.xy[point]))
    wait(lambda: plot.found is not None, 5)
    fingerprint = scatter.fingerprints[scatter.slide[plot.found]]
    entry = next(one for one in session.study.slides if one.fingerprint == fingerprint)
    grid = session.study.grid(entry)
    box = seam.view_box_um(viewer)
    y, x = grid.center_um(scatter.cells[[plot.found]])[0]
    np.testing.assert_allclose(((box[0] + box[2]) / 2, (box[1] + box[3]) / 2), (y, x), atol=1)
    assert page.finder.frame.is_shown

    # a click on a tile of a slide finds its point
    viewer.reset_view()
    top = session.study.slides[-1]
    session.viewer.layers.selection.active = session.layer(top, "slide")
    click_on_slide(session, top, session.study.grid(top).center_um([(3, 4)])[0])
    wait(lambda: plot.found == scatter.point_of(top.fingerprint, (3, 4)), 5)
    # and no longer when another page is looked at
    dock.pages.turn("Numbers")
    assert not page.finder.frame.is_shown
    found = plot.found
    click_on_slide(session, top, session.study.grid(top).center_um([(5, 6)])[0])
    qtbot.wait(50)
    assert plot.found == found


def test_points_are_drawn_where_they_are(dock, viewer, wait):
    from qtpy.QtCore import QRectF

    page = turn(dock, "Scatter", wait)
    plot = page.plot
    plot.show_points(np.array([[0.0, 0.0], [1.0, 1.0], [0.25, 0.75]], np.float32))
    plot.colour(np.array([0, 1, 2]), ["#ff0000", "#00ff00", "#0000ff"])
    image = plot.picture(QRectF(-0.5, -0.5, 2, 2), 200, 200)
    for (x, y), colour in zip(plot.xy, (0xFFFF0000, 0xFF00FF00, 0xFF0000FF), strict=True):
        rows, cols = np.nonzero(image == colour)
        np.testing.assert_allclose((cols.mean() / 100 - 0.5, rows.mean() / 100 - 0.5), (x, y), atol=0.011)
    # on the screen: the green point lies to the right of the red one, and above
    plot.box.setRange(xRange=(-0.5, 1.5), yRange=(-0.5, 1.5), padding=0)
    shot = plot.grab().toImage()
    ratio = shot.devicePixelRatio()
    for place, name in (((0, 0), "#ff0000"), ((1, 1), "#00ff00"), ((0.25, 0.75), "#0000ff")):
        spot = on_widget(plot, place)
        near = [
            shot.pixelColor(round(spot.x() * ratio) + dx, round(spot.y() * ratio) + dy).name()
            for dx in (-1, 0, 1)
            for dy in (-1, 0, 1)
        ]
        assert name in near


def test_gallery_shows_the_ends_and_goes_to_the_tile(dock, viewer, wait, tmp_path):
    from napari_batchfx.tiles import read_tiles

    session = dock.session
    page = turn(dock, "Tiles", wait)
    outcome = session.study.results.probe
    assert {(tile.batch, tile.side) for tile in page.tiles} == {
        (batch, side) for batch in ("A", "B") for side in ("strongest", "weakest")
    }
    confidence = outcome.result.confidence
    for batch in ("A", "B"):
        own = np.concatenate(
            [
                confidence[outcome.tiles.on(e.fingerprint)[0]]
                for e in session.study.slides
                if e.scanner == batch
            ]
        )
        shown = {
            side: [t.confidence for t in page.tiles if (t.batch, t.side) == (batch, side)]
            for side in ("strongest", "weakest")
        }
        assert shown["strongest"][0] == own.max()
        assert shown["weakest"][0] == own.min()
        assert len(shown["strongest"]) == 6
    button = page.buttons[0]
    wait(button.isVisible)  # laid out when Qt next comes to it
    entry = next(one for one in session.study.slides if one.fingerprint == button.tile.fingerprint)
    grid = session.study.grid(entry)
    tile = read_tiles(grid, [button.tile.cell])[0]
    assert abs(button.tile.pixels.mean(axis=(0, 1)) - tile.mean(axis=(0, 1))).max() < 2
    click(button)
    box = seam.view_box_um(viewer)
    y, x = grid.center_um([button.tile.cell])[0]
    np.testing.assert_allclose(((box[0] + box[2]) / 2, (box[1] + box[3]) / 2), (y, x), atol=1)
    assert page.finder.frame.is_shown
    assert entry.name in page.said.text()
    page.save_to(tmp_path / "sheet.png")
    data = (tmp_path / "sheet.png").read_bytes()
    assert data[:4] == b"\x89PNG"


def test_components_robustness_and_before_after(dock, viewer, wait, qtbot):
    session = dock.session
    page = turn(dock, "Components", wait)
    assert not page.single.isVisible()
    click(page.row.button)
    wait(lambda: page.found is not None, 120)
    assert page.single.isVisible()
    areas = page.found.auroc["A / B"]
    assert page.single.tip_at(QPointF(1.1, 0.7)).startswith("component 1:")
    assert f"AUROC {max(areas):.2f}" in page.text.text()
    assert "encoder is colour itself" in page.colour.text()

    page = turn(dock, "Robustness", wait)
    click(page.row.button)
    wait(lambda: page.found, 120)
    text = page.text.text()
    assert text.index("Biology: class by vote") < text.index("Robustness index")
    assert f"{page.found['robustness_index'].value:.3f}" in text

    page = turn(dock, "Before/after", wait)
    assert not page.views.isVisible()
    page.after.setCurrentIndex(page.after.findData("reinhard"))
    click(page.row.button)
    wait(lambda: page.found is not None, 120)
    found = page.found
    before, after = found.comparison.probe_before, found.comparison.probe_after
    np.testing.assert_array_equal(before.folds, after.folds)
    np.testing.assert_array_equal(before.folds, session.study.results.probe.result.folds)
    np.testing.assert_allclose(before.confidence, session.study.results.probe.result.confidence, atol=1e-6)
    assert "class retention" in page.text.text()
    entry = session.study.slides[0]
    layer = session.layer(entry, "probe")
    rows, cells = found.tiles.on(entry.fingerprint)
    for what, values in (
        ("difference", found.difference),
        ("after", after.confidence),
        ("confidence", before.confidence),
    ):
        click(page.buttons[what])
        assert session.layer(entry, "probe") is layer
        np.testing.assert_allclose(layer.data[cells[:, 0], cells[:, 1]], values[rows], atol=1e-6)
        assert dock.quantity.currentData() == what
    # a correction needs control samples: said in one sentence, and what was found stays
    page.after.setCurrentIndex(page.after.findData("standardize"))
    click(page.row.button)
    wait(lambda: not page.job.is_running)
    assert dock.card.kind == "error"
    assert "control" in dock.card.text

    # steps, the last of which is copied; opened again everything is there without computing
    kinds = [step.kind for step in session.study.steps]
    assert kinds == ["encode", "probe", "components", "robustness", "probe-after"]
    assert dock.copy_row.step().kind == "probe-after"
    session.study.save()
    again = Study.open(session.study.folder)
    kept = again.results.probe
    page._on_choice(0)  # not compared with this method yet
    assert page.found is None
    session.replace_study(again)
    for name in ("Components", "Robustness", "Before/after"):
        page = turn(dock, name, wait)
        assert page.found
        assert page.text.isVisible()
        assert "changed since" not in page.text.text()
    assert page.after.currentData() == "reinhard"
    click(page.buttons["difference"])
    layer = session.layer(again.slides[0], "probe")
    np.testing.assert_allclose(layer.data[cells[:, 0], cells[:, 1]], found.difference[rows], atol=1e-6)
    again.annotations = again.annotations[1:]
    page = dock.pages.page("Robustness")
    page._show(again.results.about(kept, RobustnessOutcome))
    assert "changed since" in page.text.text()
