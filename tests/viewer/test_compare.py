"""Slides under a curtain, as a checkerboard and in the grid: what the canvas shows, pixel by pixel."""

from __future__ import annotations

import os

import numpy as np
import pytest

from napari_batchfx.viewer import compare, seam
from napari_batchfx.viewer.layers import tag
from napari_batchfx.viewer.session import session_for

COLOURS = [(200, 40, 40), (40, 160, 60), (50, 70, 200), (200, 180, 40), (160, 60, 180), (40, 180, 190)]
NAMES = ["red", "green", "blue", "yellow", "purple", "teal"]


@pytest.fixture
def session(viewer):
    session = session_for(viewer)
    yield session
    session.close()


@pytest.fixture
def add(session, make_slide):
    """``add(i)``: a slide of one flat colour, 500 um wide."""

    def make(i, shape=(1000, 1000), mpp=0.5):
        image = np.empty((*shape, 3), np.uint8)
        image[:] = COLOURS[i]
        return session.add_slide(make_slide(f"{NAMES[i]}.tif", image, mpp))

    return make


@pytest.fixture
def shot(viewer, qtbot, request):
    """``shot()``: the canvas as it is drawn now; uint8 (h, w, 3)."""
    count = iter(range(100))

    def take():
        viewer.canvas.overlays.scale_bar.visible = False  # adding a slide switches it on
        qtbot.wait(80)
        image = viewer.screenshot(canvas_only=True, flash=False)[..., :3]
        if folder := os.environ.get("BATCHFX_SHOTS"):
            from PIL import Image

            Image.fromarray(image).save(f"{folder}/{request.node.name}-{next(count)}.png")
        return image

    return take


def colour_at(image, x, y):
    """Which slide shows at fractions (x, y) of the canvas: its number, or ``None`` for none."""
    height, width = image.shape[:2]
    pixel = image[round(y * (height - 1)), round(x * (width - 1))].astype(int)
    distance = np.abs(np.array(COLOURS) - pixel).max(axis=1)
    return int(distance.argmin()) if distance.min() < 12 else None


def fill(viewer, session):
    """Zoom in until the slides fill the canvas."""
    seam.camera(viewer).center = (250, 250)
    seam.camera(viewer).zoom = 4.0


def drag(viewer, qtbot, start, to):
    """Drag with the real mouse between two places, fractions of the canvas."""
    from qtpy.QtCore import QPoint, Qt

    widget = seam.canvas_widget(viewer)

    def at(place):
        return QPoint(round(place[0] * widget.width()), round(place[1] * widget.height()))

    qtbot.mouseMove(widget, at(start))
    qtbot.mousePress(widget, Qt.MouseButton.LeftButton, pos=at(start))
    for step in np.linspace(0, 1, 6)[1:]:
        place = at(tuple(a + step * (b - a) for a, b in zip(start, to, strict=True)))
        _move(widget, place)
        qtbot.wait(15)
    qtbot.mouseRelease(widget, Qt.MouseButton.LeftButton, pos=at(to))
    qtbot.wait(30)


def _move(widget, place):
    """A mouse move with the left button down (QTest's has none)."""
    from qtpy.QtCore import QEvent, QPointF, Qt
    from qtpy.QtGui import QMouseEvent
    from qtpy.QtWidgets import QApplication

    event = QMouseEvent(
        QEvent.Type.MouseMove,
        QPointF(place),
        QPointF(widget.mapToGlobal(place)),
        Qt.MouseButton.NoButton,
        Qt.MouseButton.LeftButton,
        Qt.KeyboardModifier.NoModifier,
    )
    QApplication.sendEvent(widget, event)


def test_the_curtain_shows_one_slide_on_either_side_of_its_edge(viewer, session, add, shot, qtbot):
    add(0), add(1)
    fill(viewer, session)
    assert colour_at(shot(), 0.3, 0.3) == 1  # over each other: the one on top
    compare.set_mode(session, "curtain")
    before = shot()
    for y in (0.2, 0.8):
        assert [colour_at(before, x, y) for x in (0.1, 0.48, 0.52, 0.9)] == [0, 0, 1, 1]
    centre = tuple(seam.camera(viewer).center)
    drag(viewer, qtbot, (0.5, 0.8), (0.2, 0.75))
    after = shot()
    assert [colour_at(after, x, 0.8) for x in (0.1, 0.18, 0.22, 0.48)] == [0, 0, 1, 1]
    assert tuple(seam.camera(viewer).center) == centre  # dragging the edge does not pan
    assert compare.comparison_of(session).edges == pytest.approx([0.2], abs=0.003)
    drag(viewer, qtbot, (0.6, 0.8), (0.5, 0.7))
    assert tuple(seam.camera(viewer).center) != centre  # elsewhere it does
    assert compare.comparison_of(session).edges == pytest.approx([0.2], abs=0.003)
    compare.move_edge(session, 0.5)
    assert [colour_at(shot(), x, 0.8) for x in (0.1, 0.68, 0.72)] == [0, 0, 1]
    compare.set_mode(session, "overlay")
    assert {colour_at(shot(), x, y) for x in (0.1, 0.3, 0.7, 0.9) for y in (0.2, 0.5, 0.8)} == {1}


def world(viewer, x, y):
    """The common frame's (y, x) at fractions (x, y) of the canvas."""
    y0, x0, y1, x1 = seam.view_box_um(viewer)
    return y0 + y * (y1 - y0), x0 + x * (x1 - x0)


def wrong_squares(viewer, session, image, numbers, seed=0):
    """How many of 300 places of a checkerboard do not show the slide they should, away from names and square edges."""
    size = compare.comparison_of(session).square_um
    wrong, asked = [], 0
    for x, y in np.random.default_rng(seed).uniform(0.02, 0.98, (300, 2)):
        if x > 0.6 and y > 0.92:
            continue  # napari's text lies there
        wy, wx = (value / size for value in world(viewer, x, y))
        if not (0.3 < wy % 1 < 0.95 and 0.05 < wx % 1 < 0.95) or wy * size > 495 or wx * size > 495:
            continue
        n = len(numbers)
        wanted = numbers[(int(wx // 1) + (1 if n < 4 else 2) * int(wy // 1)) % n]
        asked += 1
        if colour_at(image, x, y) != wanted:
            wrong.append((x, y, wanted, colour_at(image, x, y)))
    assert asked > 100
    return wrong


def test_every_square_of_the_checkerboard_shows_its_slide(viewer, session, add, shot):
    add(0), add(1)
    fill(viewer, session)
    compare.set_mode(session, "checkerboard")
    comparison = compare.comparison_of(session)
    height = viewer.canvas.size[0] / 4.0
    assert height / 10 <= comparison.square_um <= height / 4
    assert wrong_squares(viewer, session, shot(), [0, 1]) == []
    # Squares belong to the tissue: they move with it.
    seam.camera(viewer).center = (243.3, 261.9)
    assert wrong_squares(viewer, session, shot(), [0, 1]) == []
    compare.set_square(session, 37.0)
    assert wrong_squares(viewer, session, shot(), [0, 1]) == []
    assert "37 µm" in comparison.sentence()
    seam.camera(viewer).zoom = 40
    assert comparison.square_um == 37.0  # as asked, whatever the zoom
    compare.set_square(session, None)
    assert comparison.square_um == 5  # as the view of 20 um has it
    assert wrong_squares(viewer, session, shot(), [0, 1]) == []
    # More slides join by themselves.
    seam.camera(viewer).zoom = 4
    add(2)
    assert wrong_squares(viewer, session, shot(), [0, 1, 2]) == []
    add(3), add(4)
    assert wrong_squares(viewer, session, shot(), [0, 1, 2, 3, 4]) == []
    viewer.dims.order = (1, 0)
    shot()
    viewer.dims.order = (0, 1)
    fill(viewer, session)
    compare.set_mode(session, "overlay")
    assert {colour_at(shot(), x, 0.5) for x in (0.1, 0.3, 0.7)} == {4}


def test_turned_and_mirrored_slides_are_cut_where_the_canvas_says(viewer, session, add, shot):
    red, green = add(0), add(1)
    turn = np.deg2rad(25)
    middle = np.array([[1, 0, 250], [0, 1, 250], [0, 0, 1.0]])
    rotate = np.array([[np.cos(turn), -np.sin(turn), 0], [np.sin(turn), np.cos(turn), 0], [0, 0, 1]])
    mirror = np.diag([1.0, -1.0, 1.0])
    session.set_affine(green, middle @ rotate @ mirror @ np.linalg.inv(middle))
    fill(viewer, session)
    compare.set_mode(session, "curtain")
    image = shot()
    assert [colour_at(image, x, y) for y in (0.1, 0.9) for x in (0.05, 0.49, 0.51, 0.95)] == [0, 0, 1, 1] * 2
    # Zoomed out, the turned square's corner is empty and not filled from the other slide.
    seam.camera(viewer).zoom = 1.4
    seam.camera(viewer).center = (250, 450)
    image = shot()
    inside = session.to_slide_um(green, [world(viewer, 0.55, 0.5), world(viewer, 0.55, 0.15)])
    assert ((inside[0] > 0) & (inside[0] < 500)).all()
    assert not ((inside[1] > 0) & (inside[1] < 500)).all()
    assert [colour_at(image, 0.55, y) for y in (0.5, 0.15)] == [1, None]
    compare.set_mode(session, "checkerboard", front=green, behind=red)
    fill(viewer, session)
    assert wrong_squares(viewer, session, shot(), [1, 0]) == []


def test_all_layers_of_a_slide_stay_on_its_side(viewer, session, add, shot, qtbot):
    """Overlay, preview, half opacity, layers that come later, copies and a new order: each slide shows on its side alone."""
    from napari.layers import Image
    from napari.layers._layer_actions import _duplicate_layer

    from napari_batchfx.tiles import TileGrid, TileMap

    red, green = add(0), add(1)
    fill(viewer, session)

    def overlay(entry, kind, opacity=1.0):
        grid = TileGrid(session.study.open_slide(entry), size_px=100, mpp=0.5)
        layer = session.show_map(entry, kind, TileMap.from_cells(
            grid, np.argwhere(np.ones(grid.shape)), np.ones(grid.shape).ravel(), name="one", vmin=0, vmax=1
        ), "one")  # fmt: skip
        layer.colormap, layer.opacity = "blue", opacity
        return layer

    compare.set_mode(session, "curtain")
    shown = overlay(red, "encoded")  # later-added
    image = shot()
    assert tuple(image[200, 100]) == (0, 0, 255)
    assert colour_at(image, 0.9, 0.3) == 1
    shown.opacity = 0.5
    blended = shot()[200, 100]
    np.testing.assert_allclose(blended, np.add(COLOURS[0], (0, 0, 255)) / 2, atol=3)
    shown.visible = False
    # A preview of the other slide: covers that slide alone.
    yellow = np.empty((1000, 1000, 3), np.uint8)
    yellow[:] = COLOURS[3]
    session.add_layer(
        green, "preview", Image(yellow, scale=(0.5, 0.5), translate=(0.25, 0.25), units=("um", "um"))
    )
    image = shot()
    assert [colour_at(image, x, 0.3) for x in (0.1, 0.9)] == [0, 3]
    # napari's own Duplicate, and a new order by hand.
    viewer.layers.selection = {session.layer(red, "slide")}
    _duplicate_layer(viewer.layers)
    viewer.layers.reverse() if hasattr(viewer.layers, "reverse") else None
    qtbot.wait(30)
    session.layer(green, "preview").visible = False
    image = shot()
    assert [colour_at(image, x, 0.3) for x in (0.1, 0.9)] == [0, 1]
    # The layer's own opacity is as it was asked for: nothing of the other slide shines through.
    for layer in session.layers_of(green):
        layer.opacity = 0.5
    np.testing.assert_allclose(shot()[200, 900], np.array(COLOURS[1]) / 2, atol=3)
    # 3-D and back builds what draws the layers anew.
    viewer.dims.ndisplay = 3
    shot()
    viewer.dims.ndisplay = 2
    fill(viewer, session)
    assert colour_at(shot(), 0.1, 0.3) == 0
    np.testing.assert_allclose(shot()[200, 900], np.array(COLOURS[1]) / 2, atol=3)


def test_an_image_larger_than_a_texture_is_cut_too(viewer, session, add, shot):
    from napari.layers import Image

    red, _green = add(0), add(1)
    fill(viewer, session)
    compare.set_mode(session, "curtain")
    long = np.empty((40, 20_000, 3), np.uint8)
    long[:] = COLOURS[4]
    layer = session.add_layer(red, "preview", Image(long, scale=(12.5, 0.025), units=("um", "um")))
    image = shot()
    assert len(seam.drawn_nodes(viewer, layer)) > 1
    assert [colour_at(image, x, 0.3) for x in (0.1, 0.45, 0.55, 0.9)] == [4, 4, 1, 1]
    layer.data = long[:, :500]  # one texture again
    layer.scale = (12.5, 1.0)
    image = shot()
    assert len(seam.drawn_nodes(viewer, layer)) == 1
    assert [colour_at(image, x, 0.3) for x in (0.1, 0.45, 0.55, 0.9)] == [4, 4, 1, 1]


def test_two_of_four_slides_and_what_happens_to_the_rest(viewer, session, add, shot, qtbot):
    entries = [add(i) for i in range(4)]
    fill(viewer, session)
    viewer.layers[2].visible = False  # blue: by the user, before
    images = [session.layer(entry, "slide") for entry in entries]
    visible = [layer.visible for layer in images]
    told = []
    comparison = compare.comparison_of(session)
    comparison.changed.connect(lambda: told.append(comparison.sentence()))
    compare.set_mode(session, "curtain", front=entries[3], behind=entries[0])
    image = shot()
    assert [colour_at(image, x, 0.3) for x in (0.2, 0.8)] == [3, 0]
    assert told[-1] == "left yellow | right red"
    assert [layer.visible for layer in images] == [
        True,
        False,
        False,
        True,
    ]  # the rest is not read while panning
    # The eye of a slide that takes no part: what the user shows stays shown, and does not cover the pair.
    images[1].visible = True
    image = shot()
    assert images[1].visible
    assert [colour_at(image, x, 0.3) for x in (0.2, 0.8)] == [3, 0]
    # Hiding one of the pair gives its side to the other.
    images[0].visible = False
    image = shot()
    assert [colour_at(image, x, 0.3) for x in (0.2, 0.8)] == [3, 3]
    images[0].visible = True
    image = shot()
    assert [colour_at(image, x, 0.3) for x in (0.2, 0.8)] == [3, 0]
    # Deleting a layer by hand, taking a slide out of the study: the next one takes its place.
    viewer.layers.remove(images[3])
    image = shot()
    assert [colour_at(image, x, 0.3) for x in (0.2, 0.8)] == [1, 0]
    session.remove_slide(entries[0])
    image = shot()
    assert colour_at(image, 0.2, 0.3) == 1
    session.show_slide(entries[3])
    image = shot()
    assert {colour_at(image, x, 0.3) for x in (0.2, 0.8)} == {1, 3}
    compare.set_mode(session, "overlay")
    qtbot.wait(30)
    assert visible == [True, True, False, True]
    assert [session.layer(entry, "slide").visible for entry in entries[1:]] == visible[1:]


def test_leaving_takes_everything_along(viewer, session, add, shot, qtbot):
    add(0), add(1)
    fill(viewer, session)
    canvas = viewer.window._qt_viewer.canvas
    before = shot()
    children, widget = len(canvas.view.children), seam.canvas_widget(viewer)
    filters = [
        list(node._vshare.filters) for layer in viewer.layers for node in seam.drawn_nodes(viewer, layer)
    ]
    for mode in ("curtain", "checkerboard", "grid", "curtain", "grid", "checkerboard", "overlay"):
        compare.set_mode(session, mode)
        assert compare.mode_of(session) == mode
        assert compare.is_side_by_side(session) == (mode == "grid")
        qtbot.wait(30)
    fill(viewer, session)
    np.testing.assert_array_equal(shot(), before)
    assert len(canvas.view.children) == children
    assert [
        list(node._vshare.filters) for layer in viewer.layers for node in seam.drawn_nodes(viewer, layer)
    ] == filters
    assert not any(layer.name_overlay.visible for layer in viewer.layers)
    drag(viewer, qtbot, (0.5, 0.5), (0.4, 0.5))  # no edge is left to be dragged
    assert seam.camera(viewer).center[-1] > 250
    assert widget is seam.canvas_widget(viewer)


def test_edges_by_mouse_and_keys(viewer, session, add, shot, qtbot):
    from qtpy.QtCore import QPoint, Qt

    for i in range(3):
        add(i)
    fill(viewer, session)
    viewer.add_shapes(name="regions").mode = "add_rectangle"  # a drawing tool must not draw on the edge
    compare.set_mode(session, "curtain")
    comparison = compare.comparison_of(session)
    image = shot()
    assert [colour_at(image, x, 0.3) for x in (0.1, 0.5, 0.9)] == [0, 1, 2]
    drag(viewer, qtbot, (1 / 3, 0.5), (0.9, 0.5))  # beyond its neighbour: it stops before
    assert comparison.edges == pytest.approx([2 / 3 - 0.02, 2 / 3], abs=0.003)
    assert len(viewer.layers["regions"].data) == 0
    widget = seam.canvas_widget(viewer)
    middle = widget.height() // 2

    def cursor_at(x):
        qtbot.mouseMove(widget, QPoint(round(x * widget.width()), middle + 60))
        qtbot.wait(10)
        return widget.cursor().shape()

    away = cursor_at(0.2)
    assert cursor_at(2 / 3) == Qt.CursorShape.SplitHCursor
    assert cursor_at(0.2) == away != Qt.CursorShape.SplitHCursor
    qtbot.mouseDClick(
        widget, Qt.MouseButton.LeftButton, pos=QPoint(round(comparison.edges[0] * widget.width()), middle)
    )
    assert comparison.edges == pytest.approx([1 / 3, 2 / 3])
    qtbot.keyClick(widget, Qt.Key.Key_Right, Qt.KeyboardModifier.ShiftModifier)
    assert comparison.edges == pytest.approx([1 / 3 + 0.01, 2 / 3])
    compare.move_edge(session, 0.1, 1)
    assert comparison.edges == pytest.approx([1 / 3 + 0.01, 2 / 3 + 0.1])
    comparison.set_across(False)
    image = shot()
    assert [colour_at(image, 0.3, y) for y in (0.1, 0.32, 0.36, 0.5, 0.74, 0.79, 0.95)] == [
        0,
        0,
        1,
        1,
        1,
        2,
        2,
    ]
    assert comparison.sentence() == "top to bottom: red | green | blue"
    viewer.window.resize(1000, 700)  # edges are fractions: they stay where they are
    image = shot()
    assert [colour_at(image, 0.3, y) for y in (0.1, 0.32, 0.36, 0.5, 0.74, 0.79, 0.95)] == [
        0,
        0,
        1,
        1,
        1,
        2,
        2,
    ]


def cells(viewer):
    """The grid's cell of every visible layer, by slide."""
    grid, found = seam.grid(viewer), {}
    for index, layer in enumerate(viewer.layers):
        if layer.visible and tag(layer):
            found.setdefault(tag(layer)["slide"], set()).add(grid.position(index, viewer.layers))
    return found


def test_six_slides_in_the_grid_keep_their_cells(viewer, session, add, shot, qtbot):
    """Whatever comes, goes, is moved or copied by hand; and all cells show the same spot."""
    from napari.layers import Image
    from napari.layers._layer_actions import _duplicate_layer

    entries = [add(i) for i in range(6)]
    compare.set_mode(session, "grid")
    image = shot()
    places = [(x, y) for y in (0.25, 0.75) for x in (1 / 6, 0.5, 5 / 6)]
    assert [colour_at(image, *place) for place in places] == list(range(6))

    def all_apart():
        qtbot.wait(30)
        found = cells(viewer)
        assert all(len(own) == 1 for own in found.values()), found
        assert len(set.union(*found.values())) == len(found)
        return found

    black = np.zeros((40, 40, 3), np.uint8)
    for entry in (entries[1], entries[4]):  # an overlay on some of them only
        session.add_layer(
            entry, "preview", Image(black, scale=(2, 2), translate=(100, 300), units=("um", "um"))
        )
    all_apart()
    viewer.layers.selection = {session.layer(entries[2], "slide")}
    _duplicate_layer(viewer.layers)
    all_apart()
    viewer.layers.move(0, len(viewer.layers))  # one layer somewhere else by hand
    all_apart()
    viewer.add_points([[250, 250]], name="mine")
    all_apart()
    viewer.layers.remove(session.layer(entries[5], "slide"))
    assert len(all_apart()) == 5
    session.remove_slide(entries[0])
    assert len(all_apart()) == 4
    session.show_slide(entries[5])
    assert len(all_apart()) == 5
    session.layer(entries[3], "slide").visible = False
    assert len(all_apart()) == 4
    session.layer(entries[3], "slide").visible = True
    # In step: the black square at (100..180, 300..380) um lies at the same place of both cells that have one.
    seam.camera(viewer).center = (250, 250)
    image = shot().astype(int)
    rows, columns = seam.grid(viewer).actual_shape(viewer.layers)
    height, width, zoom = image.shape[0] / rows, image.shape[1] / columns, seam.camera(viewer).zoom

    def is_black(row, column, y, x):
        at = (row + 0.5) * height + (y - 250) * zoom, (column + 0.5) * width + (x - 250) * zoom
        return image[round(at[0]), round(at[1])].sum() < 10

    found = cells(viewer)
    for i, entry in enumerate(entries[1:], start=1):
        ((row, column),) = found[entry.fingerprint]
        for y, x in ((110, 310), (170, 370)):
            assert is_black(row, column, y, x) == (i in (1, 4)), (NAMES[i], y, x)
        assert not is_black(row, column, 80, 280)
    compare.set_mode(session, "overlay")
    assert not any(tag(layer).get("placeholder") for layer in viewer.layers)


def test_naparis_own_grid_button(viewer, session, add, qtbot):
    red, green = add(0), add(1)
    compare.set_mode(session, "curtain", front=red, behind=green)
    viewer.canvas.grid.enabled = True
    assert compare.mode_of(session) == "grid"
    qtbot.wait(30)
    assert len(set.union(*cells(viewer).values())) == 2
    viewer.canvas.grid.enabled = False
    assert compare.mode_of(session) == "overlay"
    assert len(viewer.layers) == 2


def test_without_a_way_to_what_draws_the_layers(viewer, session, add, shot, qtbot, monkeypatch):
    """A napari whose private names are gone: transparent copies show the same, and leave nothing behind."""
    monkeypatch.setattr(seam, "_vispy_canvas", lambda viewer: None)
    red, green = add(0), add(1)
    session.set_affine(green, [[0.8, -0.6, 200], [0.6, 0.8, -100], [0, 0, 1]])
    fill(viewer, session)
    before = shot()
    assert colour_at(before, 0.5, 0.5) == 1
    compare.set_mode(session, "curtain", front=green, behind=red)
    qtbot.wait(300)
    image = shot()
    for y in (0.2, 0.8):
        assert [colour_at(image, x, y) for x in (0.1, 0.48, 0.52, 0.9)] == [1, 1, 0, 0]
    assert viewer.canvas.overlays.text.text == "left green | right red"
    compare.move_edge(session, -0.3)
    qtbot.wait(300)
    image = shot()
    assert [colour_at(image, x, 0.5) for x in (0.1, 0.17, 0.23, 0.9)] == [1, 1, 0, 0]
    compare.set_mode(session, "checkerboard")
    qtbot.wait(300)
    assert wrong_squares(viewer, session, shot(), [0, 1]) == []
    compare.set_mode(session, "overlay")
    assert [(layer.name, layer.opacity) for layer in viewer.layers] == [("red", 1), ("green", 1)]
    assert viewer.canvas.overlays.text.text == ""
    np.testing.assert_array_equal(shot(), before)


def test_what_can_not_be_compared_is_said(session, add):
    from napari_batchfx.errors import BatchfxError

    red = add(0)
    with pytest.raises(BatchfxError, match="red can't be compared with itself"):
        compare.set_mode(session, "curtain", front=red, behind=red)
    with pytest.raises(ValueError, match="choose one of overlay"):
        compare.set_mode(session, "swipe")
    compare.set_mode(session, "curtain")  # one slide: all of the canvas is its own
    assert compare.comparison_of(session).edges == ()
    add(1)
    compare.keep_cells(session)
    assert len(compare.comparison_of(session).edges) == 1
