"""Drawn shapes become annotations in the slide's own micrometres, and come back."""

from __future__ import annotations

import numpy as np
import pytest
from napari.layers import Layer
from tests.viewer.conftest import tissue

from napari_batchfx.report.figures import CLASS_COLOURS
from napari_batchfx.viewer import regions

SQUARE = np.array([[10.0, 20.0], [10.0, 80.0], [60.0, 80.0], [60.0, 20.0]])


@pytest.fixture
def pair(bench, make_slide):
    session = bench.docks["slides"].session
    a = session.add_slide(make_slide("a.tif", tissue(400, 400), 0.5))
    b = session.add_slide(make_slide("b.tif", tissue(500, 500, seed=2), 0.4))
    session.set_affine(b, [[1, 0, 30.0], [0, 1, -12.0], [0, 0, 1]])
    return session, a, b


def of(session, entry):
    return [annotation for annotation in session.study.annotations if annotation.slide == entry.name]


def test_a_shape_is_in_its_slides_own_micrometres(pair):
    session, _a, b = pair
    regions.add_region(session, b, "tumour", SQUARE)
    regions.pull(session)
    (annotation,) = of(session, b)
    assert (annotation.class_name, annotation.is_control) == ("tumour", False)
    np.testing.assert_allclose(annotation.polygon_um, SQUARE)
    # on the canvas it lies where the alignment puts it
    world = regions._polygons(session.layer(b, "regions"))[0][0]
    np.testing.assert_allclose(world, np.add(SQUARE, [30, -12]))


def test_control_marks_controls_and_classes_keep_their_colours(pair):
    session, a, _b = pair
    for name in ("tumour", "control", "gland"):
        regions.add_region(session, a, name, SQUARE)
    regions.pull(session)
    assert [(x.class_name, x.is_control) for x in of(session, a)] == [
        ("tumour", False),
        (None, True),
        ("gland", False),
    ]
    assert regions.class_names(session) == ["gland", "tumour"]
    assert regions.colour(session, "gland") == CLASS_COLOURS[0]
    assert regions.colour(session, "tumour") == CLASS_COLOURS[1]


def test_drawing_goes_to_the_chosen_slide_and_class(bench, pair):
    session, a, b = pair
    adapt = bench.docks["adapt"]
    adapt.slide.setCurrentIndex(adapt.slide.findData(b.name))
    adapt.class_name.setEditText("stroma")
    adapt.draw()
    layer = session.viewer.layers.selection.active
    assert layer is session.layer(b, "regions")
    assert layer.mode == "add_polygon"
    layer.add(SQUARE, shape_type="polygon")  # what a click-drawn polygon ends in
    adapt.pull()
    assert [x.class_name for x in of(session, b)] == ["stroma"]
    assert not of(session, a)


def test_copies_follow_the_alignment(bench, pair):
    session, a, b = pair
    regions.add_region(session, a, "tumour", SQUARE)
    assert regions.copy_regions(session, a) == 1
    regions.pull(session)
    (copied,) = of(session, b)
    np.testing.assert_allclose(copied.polygon_um, SQUARE - [30, -12])


def test_somebody_elses_shapes_count_only_when_taken_over(bench, pair, viewer):
    """A layer drawn for something else must never become a training class by itself."""
    session, _a, b = pair
    adapt = bench.docks["adapt"]
    mine = viewer.add_shapes([SQUARE], shape_type="polygon", name="necrosis", units=("um", "um"))
    for _ in range(3):
        adapt.refresh()
    assert session.study.annotations == []
    adapt.slide.setCurrentIndex(adapt.slide.findData(b.name))
    adapt.class_name.setEditText("necrosis")
    viewer.layers.selection.active = mine
    adapt.take_over()
    ellipse = viewer.add_shapes(
        [[[0, 0], [0, 10], [10, 10], [10, 0]]],
        shape_type="ellipse",
        features={"class": ["control"]},
        units=("um", "um"),
    )
    viewer.layers.selection.active = ellipse
    adapt.take_over()
    assert [(x.class_name, x.is_control) for x in of(session, b)] == [("necrosis", False), (None, True)]
    outline = of(session, b)[1].polygon_um
    area = 0.5 * abs(
        np.dot(outline[:, 0], np.roll(outline[:, 1], 1)) - np.dot(outline[:, 1], np.roll(outline[:, 0], 1))
    )
    assert area == pytest.approx(np.pi * 25, rel=0.01)
    viewer.layers.remove(mine)
    for _ in range(3):
        adapt.refresh()
    assert len(of(session, b)) == 2


def test_a_duplicated_regions_layer_counts_once(pair, viewer):
    session, a, _b = pair
    regions.add_region(session, a, "tumour", SQUARE)
    layer = session.layer(a, "regions")
    viewer.layers.append(Layer.create(*layer.as_layer_data_tuple()))
    assert len(regions.pull(session)) == 1


def test_lines_and_empty_names_are_no_regions(pair, viewer):
    session, a, _ = pair
    viewer.add_shapes([[[0, 0], [5, 5]]], shape_type="line", name="a line")
    regions.add_region(session, a, " ", SQUARE)
    regions.pull(session)
    assert of(session, a) == []


def test_push_shows_what_was_saved_and_only_once(pair):
    session, a, b = pair
    for index, name in enumerate(("tumour", "gland", "control")):
        regions.add_region(session, a, name, SQUARE + 20 * index)
    regions.add_region(session, b, "tumour", SQUARE)
    before = list(regions.pull(session))
    regions.push(session)
    regions.push(session)
    assert len(session.layer(a, "regions").data) == 3
    assert regions.pull(session) == before


def test_regions_of_a_hidden_slide_are_kept(pair, viewer):
    session, a, b = pair
    regions.add_region(session, a, "tumour", SQUARE)
    regions.add_region(session, b, "gland", SQUARE)
    regions.pull(session)
    viewer.layers.remove(session.layer(b, "slide"))
    regions.pull(session)
    assert [x.class_name for x in of(session, b)] == ["gland"]


def test_many_regions_hide_their_names(pair):
    session, a, _ = pair
    regions.add_region(session, a, "tumour", SQUARE)
    assert session.layer(a, "regions").text.visible
    for index in range(15):
        regions.add_region(session, a, "tumour", SQUARE + index)
    assert not session.layer(a, "regions").text.visible


def test_tissue_regions_are_no_classes(bench, make_slide):
    """What says where tissue is never becomes a label, a class to predict or a place to encode."""
    session = bench.docks["slides"].session
    entry = session.add_slide(make_slide("a.tif", tissue(400, 400)))
    square = np.array([[10, 10], [10, 100], [100, 100], [100, 10]], dtype=float)
    for name in ("tumour", "tissue", "No tissue"):
        regions.add_region(session, entry, name, square)
    assert regions.class_names(session) == ["tumour"]
    session.viewer.layers.selection.clear()
    assert len(regions.selected_polygons(session)) == 1
    assert len({regions.colour(session, name) for name in ("tumour", "tissue", "No tissue")}) == 3
    assert len(regions.pull(session)) == 3
