"""What the model saw: a click on a slide, the panel, the status bar."""

from __future__ import annotations

import json

import numpy as np
import pytest
from PIL import Image
from qtpy.QtCore import QPoint, Qt
from qtpy.QtGui import QGuiApplication
from qtpy.QtTest import QTest
from qtpy.QtWidgets import QAbstractButton, QScrollArea
from tests.viewer.conftest import tissue

from napari_batchfx.jobs import run
from napari_batchfx.study import saw
from napari_batchfx.study.seen_tile import PROVENANCE_CHUNK
from napari_batchfx.tiles import TileMap
from napari_batchfx.viewer import seam

TILE_UM = 32.0


@pytest.fixture
def session(bench, make_slide, wait):
    slides = bench.docks["slides"]
    slides.add_paths([make_slide("A-1042.tif", tissue(512, 640))])
    session = slides.session
    session.study.settings.encode.encoder = "colour-statistics"
    session.study.settings.encode.size_px, session.study.settings.encode.mpp = 64, 0.5
    return session


@pytest.fixture
def dock(session, viewer, qtbot):
    from napari_batchfx.viewer.docks.tile import TileDock

    dock = TileDock(viewer)
    viewer.window.add_dock_widget(dock, name="What the model saw", area="right")
    seam.fit_to(viewer, (0, 0, 256, 320))
    qtbot.wait(50)
    return dock


def canvas_point(viewer, y, x, cell=(0, 0)):
    """Where a place in micrometres is on the canvas (in a cell of the grid)."""
    canvas = seam.canvas_widget(viewer)
    y0, x0, y1, x1 = seam.view_box_um(viewer)
    settings = seam.grid(viewer)
    rows, cols = settings.actual_shape(viewer.layers) if settings.enabled else (1, 1)
    height, width = canvas.height() / rows, canvas.width() / cols
    return canvas, QPoint(
        round((cell[1] + (x - x0) / (x1 - x0)) * width), round((cell[0] + (y - y0) / (y1 - y0)) * height)
    )


def click(viewer, row, col, *, modifier=Qt.KeyboardModifier.NoModifier, cell=(0, 0)):
    """Click into a tile, beside its centre."""
    canvas, point = canvas_point(viewer, (row + 0.4) * TILE_UM, (col + 0.6) * TILE_UM, cell)
    QTest.mouseMove(canvas, point)
    QTest.mouseClick(canvas, Qt.MouseButton.LeftButton, modifier, point)


def settled(dock, cell):
    """Whether everything about a tile is there."""
    tile = dock.view.tile
    return (
        tile is not None and tile.cell == cell and tile.context is not None and not dock.view.job.is_running
    )


def test_a_click_shows_what_the_model_saw(session, dock, viewer, wait):
    entry = session.study.slides[0]
    assert "Click on a slide" in dock.card.text
    assert not dock.copy.isEnabled()
    click(viewer, 3, 5)
    wait(lambda: settled(dock, (3, 5)))
    expected = saw(session.study, entry, (3, 5))
    np.testing.assert_array_equal(dock.seen.pixels, expected.as_seen)
    np.testing.assert_array_equal(dock.read.pixels, expected.as_read)
    assert dock.stained.pixels is None
    assert dock.around.pixels is not None
    assert "Row 3, column 5 of A-1042" in dock.card.text
    assert "Not encoded yet" in dock.card.text
    assert "colour-statistics" in dock.facts.text()
    assert dock.view.frame.is_shown
    run(session.study.encode_job([entry], {entry.name: np.array([[3, 5], [3, 6], [0, 0]])}))
    session.features_changed.emit(entry.fingerprint)
    wait(lambda: "encoded tiles: " in dock.card.text)


def test_with_stain_and_after_a_change_of_settings(session, dock, viewer, wait):
    entry = session.study.slides[0]
    click(viewer, 2, 2)
    wait(lambda: settled(dock, (2, 2)))
    plain = dock.seen.pixels
    session.study.settings.encode.normalizer = "reinhard"
    session.settings_changed.emit()
    wait(lambda: dock.stained.pixels is not None)
    np.testing.assert_array_equal(dock.stained.pixels, dock.seen.pixels)
    assert (dock.seen.pixels != plain).any()
    np.testing.assert_array_equal(dock.seen.pixels, saw(session.study, entry, (2, 2)).as_seen)
    session.study.settings.encode.size_px = 128  # other tiles: the one at the same place
    session.settings_changed.emit()
    wait(lambda: settled(dock, (1, 1)))
    assert dock.seen.pixels.shape == (128, 128, 3)


def test_a_drag_pans_and_tools_keep_their_clicks(session, dock, viewer, wait, qtbot):
    seen = []
    dock.view.shown.connect(seen.append)
    canvas, start = canvas_point(viewer, 100, 100)
    before = seam.camera(viewer).center
    QTest.mousePress(canvas, Qt.MouseButton.LeftButton, Qt.KeyboardModifier.NoModifier, start)
    for step in range(1, 6):
        QTest.mouseMove(canvas, start + QPoint(12 * step, 8 * step))
        qtbot.wait(10)
    QTest.mouseRelease(
        canvas, Qt.MouseButton.LeftButton, Qt.KeyboardModifier.NoModifier, start + QPoint(60, 40)
    )
    qtbot.wait(200)
    assert seam.camera(viewer).center != before
    assert seen == []
    seam.fit_to(viewer, (0, 0, 256, 320))
    click(viewer, 3, 3, modifier=Qt.KeyboardModifier.ShiftModifier)
    shapes = viewer.add_shapes(name="mine")
    shapes.mode = "add_polygon"
    click(viewer, 3, 3)
    qtbot.wait(200)
    assert seen == []
    shapes.mode = "pan_zoom"
    QTest.keyClick(canvas, Qt.Key.Key_Escape)
    click(viewer, 3, 3)
    wait(lambda: settled(dock, (3, 3)))


def test_only_while_the_panel_is_open(session, dock, viewer, wait, qtbot):
    click(viewer, 1, 1)
    wait(lambda: settled(dock, (1, 1)))
    dock.parentWidget().hide()
    assert not dock.view.frame.is_shown
    click(viewer, 2, 2)
    qtbot.wait(150)
    assert dock.view.tile.cell == (1, 1)
    dock.parentWidget().show()
    assert dock.view.frame.is_shown
    dock.pick.setChecked(False)
    click(viewer, 2, 2)
    qtbot.wait(150)
    assert dock.view.tile.cell == (1, 1)


def test_closed_for_good_and_opened_again(session, viewer, wait, qtbot):
    from napari_batchfx.viewer.workbench import show_dock

    show_dock(viewer, "tile")
    _, first = viewer.window.add_plugin_dock_widget("napari-batchfx", "What the model saw")
    seam.fit_to(viewer, (0, 0, 256, 320))
    qtbot.wait(50)
    click(viewer, 1, 1)  # it is read while the panel goes
    viewer.window.remove_dock_widget(first)
    first.deleteLater()
    del first
    qtbot.wait(300)
    click(viewer, 2, 2)
    qtbot.wait(100)
    show_dock(viewer, "tile")
    _, second = viewer.window.add_plugin_dock_widget("napari-batchfx", "What the model saw")
    click(viewer, 2, 3)
    wait(lambda: settled(second, (2, 3)))
    assert "Row 2, column 3" in second.card.text


def test_arrow_keys_step_and_the_last_one_wins(session, dock, viewer, wait, qtbot):
    click(viewer, 3, 4)
    wait(lambda: settled(dock, (3, 4)))
    button = dock.steps[0]
    button.setFocus()
    for key in (Qt.Key.Key_Right, Qt.Key.Key_Right, Qt.Key.Key_Right, Qt.Key.Key_Down):
        QTest.keyClick(button, key)
    wait(lambda: settled(dock, (4, 7)))
    np.testing.assert_array_equal(
        dock.seen.pixels, saw(session.study, session.study.slides[0], (4, 7)).as_seen
    )
    QTest.mouseClick(button, Qt.MouseButton.LeftButton)
    wait(lambda: settled(dock, (4, 6)))
    for _ in range(12):
        dock.step(-1, 0)
    wait(lambda: settled(dock, (0, 6)))  # no tile beyond the edge
    seam.fit_to(viewer, (0, 0, 64, 64))
    qtbot.wait(20)
    dock.step(1, 0)
    box = seam.view_box_um(viewer)
    assert box[1] <= 6.5 * TILE_UM <= box[3]  # a step out of the view takes it along


def test_follow_the_pointer(session, dock, viewer, wait, qtbot):
    dock.view._rest.setInterval(3000)  # longer than the moves take on a busy machine
    dock.follow.setChecked(True)
    seen = []
    dock.view.shown.connect(lambda tile: seen.append(tile.cell))
    canvas = seam.canvas_widget(viewer)
    for col in (1, 3, 5, 7):
        QTest.mouseMove(canvas, canvas_point(viewer, 2.5 * TILE_UM, (col + 0.5) * TILE_UM)[1])
        qtbot.wait(10)
    wait(lambda: settled(dock, (2, 7)))
    assert set(seen) == {(2, 7)}  # those that were passed quickly were not read
    dock.follow.setChecked(False)
    QTest.mouseMove(canvas, canvas_point(viewer, 10, 10)[1])
    qtbot.wait(200)
    assert dock.view.tile.cell == (2, 7)


def test_nothing_there(session, dock, viewer, wait):
    seam.fit_to(viewer, (-200, -200, 300, 400))
    click(viewer, -3, -3)
    wait(lambda: "no slide" in dock.card.text)
    assert dock.view.tile is None
    session.study.settings.encode.size_px = 200  # 2 x 3 tiles, and the rest of the slide has none
    click(viewer, 7, 9)
    wait(lambda: "no tile there" in dock.card.text)


def test_the_slide_goes_while_it_is_read(session, dock, viewer, wait, qtbot, make_slide):
    entry = session.study.slides[0]
    for take_away in (
        lambda: viewer.layers.remove(session.layer(entry, "slide")),
        lambda: session.remove_slide(entry),
    ):
        session.show_slide(entry)
        click(viewer, 3, 3)
        take_away()
        qtbot.wait(300)
        assert dock.view.tile is None
        assert not dock.view.frame.is_shown
        assert dock.card.kind != "error"
    assert "No slide to look at yet" in dock.card.text
    session.add_slide(make_slide("B.tif", tissue(512, 640, 1)))
    click(viewer, 1, 1)
    wait(lambda: settled(dock, (1, 1)))
    dock.step(1, 0)
    session.close()  # as the window does
    qtbot.wait(100)


def test_a_file_that_went_is_one_sentence(session, dock, viewer, wait, qtbot, tmp_path):
    click(viewer, 1, 1)
    wait(lambda: settled(dock, (1, 1)))
    (tmp_path / "A-1042.tif").unlink()
    qtbot.wait(1100)  # it is looked for once a second
    dock.step(1, 0)
    wait(lambda: dock.card.kind == "error")
    assert "A-1042" in dock.card.text
    assert not dock.save.isEnabled()


def test_in_the_grid_it_is_the_slide_of_the_cell(session, bench, dock, viewer, wait, make_slide, qtbot):
    slides = bench.docks["slides"]
    slides.add_paths([make_slide("B.tif", tissue(512, 640, 1))])
    slides.compare.choose("grid")
    qtbot.wait(150)
    seam.fit_to(viewer, (0, 0, 256, 320))
    qtbot.wait(50)
    for cell, name in (((0, 0), "A-1042"), ((0, 1), "B")):
        row_col = cell
        click(viewer, 4, 5, cell=row_col)
        wait(lambda name=name: settled(dock, (4, 5)) and dock.view.tile.slide == name)
        assert dock.view.frame.is_shown
    first, second = session.study.slides
    cursor = viewer.cursor.position
    assert tuple(viewer.cursor.viewbox) == (0, 1)
    for entry, said in ((first, "B"), (second, "[")):
        layer = session.layer(entry, "slide")
        viewer.layers.selection.active = layer  # the pointer stays over B
        assert said in layer.get_status(cursor, dims_displayed=[0, 1], world=True)["value"]


def test_where_slides_lie_over_each_other_it_is_the_selected_one(
    session, bench, dock, viewer, wait, make_slide
):
    bench.docks["slides"].add_paths([make_slide("B.tif", tissue(512, 640, 1))])
    first, second = session.study.slides
    for entry in (first, second):
        viewer.layers.selection.active = session.layer(entry, "slide")
        click(viewer, 2, 6)
        wait(lambda entry=entry: settled(dock, (2, 6)) and dock.view.tile.slide == entry.name)
    session.layer(second, "slide").visible = False
    click(viewer, 2, 7)
    wait(lambda: settled(dock, (2, 7)) and dock.view.tile.slide == first.name)


def test_copy_and_save_hold_no_name_unless_asked(session, dock, viewer, wait, tmp_path):
    click(viewer, 3, 5)
    wait(lambda: settled(dock, (3, 5)))
    QTest.mouseClick(dock.copy, Qt.MouseButton.LeftButton)
    text = QGuiApplication.clipboard().text()
    assert "row 3, column 5" in text
    assert "A-1042" not in text
    path = dock.save_to(tmp_path / "tile.png")
    assert "A-1042" not in Image.open(path).text[PROVENANCE_CHUNK]
    dock.named.setChecked(True)
    said = json.loads(Image.open(dock.save_to(tmp_path / "named.png")).text[PROVENANCE_CHUNK])
    assert said["provenance"]["slide"] == "A-1042"
    assert dock.save_to(tmp_path / "no" / "where.png") is None
    assert "can't be written" in dock.card.text


def test_the_status_bar_says_tile_and_value(session, dock, viewer, wait):
    entry = session.study.slides[0]
    encode = [[3, 5], [3, 6], [0, 0], [1, 1]]
    run(session.study.encode_job([entry], {entry.name: np.array(encode)}))
    from napari_batchfx.study.mapping import component_maps

    tile_map = component_maps(session.study)[entry.fingerprint]
    layer = session.show_map(entry, "encoded", tile_map, "encoded tiles")
    affine = np.array([[1, 0, 40], [0, 1, -20], [0, 0, 1.0]])
    session.set_affine(entry, affine)

    def status(of, row, col):
        place = ((row + 0.5) * TILE_UM + 40, (col + 0.2) * TILE_UM - 20)
        return of.get_status(place, view_direction=None, dims_displayed=[0, 1], world=True)

    value = float(tile_map.values[3, 5])
    assert status(layer, 3, 5)["value"] == f"r3 c5: {value:.3g} sd"
    assert status(layer, 3, 5)["coordinates"].endswith(f"r3 c5: {value:.3g} sd")
    assert status(layer, 5, 5)["value"] == "r5 c5: no value"
    slide = session.layer(entry, "slide")
    viewer.layers.selection.active = slide
    assert status(slide, 3, 5)["value"].endswith(f" · r3 c5 · encoded tiles: {value:.3g} sd")
    layer.visible = False
    assert "r3 c5" not in status(slide, 3, 5)["value"]
    assert "r" not in layer.get_status((-500, -500), dims_displayed=[0, 1], world=True)["value"]
    session.set_affine(entry, np.eye(3))
    grid = session.study.grid(entry)
    tile_map = TileMap.from_cells(
        grid,
        [[0, 0], [0, 1]],
        [0, 1],
        name="after",
        unit="class",
        colormap="classes",
        labels=("tumour", "gland"),
    )
    layer = session.show_map(entry, "after", tile_map, "prediction after")
    assert layer.get_status((16, 48), dims_displayed=[0, 1], world=True)["value"] == "r0 c1: gland"
    tile_map.labels = ("gland", "tumour")
    session.show_map(entry, "after", tile_map, "prediction after")
    assert layer.get_status((16, 48), dims_displayed=[0, 1], world=True)["value"] == "r0 c1: tumour"


def test_it_opens_from_the_encode_dock_and_fits_300_px(session, bench, viewer, wait, qtbot):
    from napari_batchfx.viewer.workbench import show_dock

    bench.show_dock("encode")
    QTest.mouseClick(bench.docks["encode"].inspect, Qt.MouseButton.LeftButton)
    show_dock(viewer, "tile")  # there already
    dock, widget = viewer.window.add_plugin_dock_widget("napari-batchfx", "What the model saw")
    assert dock.isVisible()
    assert widget.session is session
    click(viewer, 1, 2)
    wait(lambda: settled(widget, (1, 2)))
    for button in widget.findChildren(QAbstractButton):
        assert button.accessibleName() or button.text()
        if button is not widget.more.toggleButton():
            assert button.toolTip()
            assert button.focusPolicy() & Qt.FocusPolicy.TabFocus
    widget.more.expand(animate=False)
    widget.setParent(None)
    try:
        widget.resize(300, 500)
        widget.show()
        qtbot.wait(100)
        area = widget.findChild(QScrollArea).viewport()
        assert area.width() < 300  # there is a scroll bar
        for child in (widget.seen, widget.save, widget.facts, widget.card):
            assert child.mapTo(area, QPoint(child.width(), 0)).x() <= area.width(), child
        assert widget.around.y() == widget.seen.y()  # little height: one row
        widget.resize(300, 900)
        qtbot.wait(50)
        assert widget.around.y() < widget.seen.y()
        assert widget.read.width() >= 100
    finally:
        widget.close()


def test_a_key_opens_it_for_the_tile_under_the_pointer(session, viewer, wait, qtbot):
    seam.fit_to(viewer, (0, 0, 256, 320))
    qtbot.wait(50)
    canvas, point = canvas_point(viewer, 2.5 * TILE_UM, 4.5 * TILE_UM)
    QTest.mouseMove(canvas, point)
    qtbot.wait(50)
    canvas.setFocus()
    QTest.keyClick(canvas, Qt.Key.Key_W)
    _, widget = viewer.window.add_plugin_dock_widget("napari-batchfx", "What the model saw")
    wait(lambda: settled(widget, (2, 4)))
    assert widget.isVisible()


def test_a_key_that_is_taken_is_left_alone(make_napari_viewer):
    from napari_batchfx.viewer.session import session_for

    viewer = make_napari_viewer()
    pressed = []
    viewer.bind_key("W", lambda *_: pressed.append(1))
    session_for(viewer).close()
    viewer.keymap[next(iter(viewer.keymap))](viewer)
    assert pressed == [1]


def test_the_size_under_a_picture_fits_in_a_narrow_dock(qtbot):
    from napari_batchfx.viewer.docks.tile_pictures import TilePicture

    picture = TilePicture("what the model got", "model got", "")
    qtbot.addWidget(picture)
    picture.show_pixels(np.zeros((112, 112, 3), np.uint8))
    text = picture._size_text
    assert text == "112 px"
    assert picture.fontMetrics().horizontalAdvance(text) <= picture.minimumWidth()
    assert picture.accessibleDescription() == "112 x 112 px"
