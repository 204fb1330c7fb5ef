"""The Slides dock as a user meets it: colours, alignment by hand and from a file, overviews that fill in, private pictures."""

from __future__ import annotations

import json

import numpy as np
import pytest
from qtpy.QtWidgets import QDialog, QLabel
from tests.slides.profiles import matrix_profile
from tests.viewer.conftest import tissue

from napari_batchfx.slides.prepared import prepared_bytes
from napari_batchfx.viewer.docks.slide_menu import slide_menu


@pytest.fixture
def dock(bench):
    return bench.docks["slides"]


def _cell(dock, row, column):
    return dock.table.item(row, column).text()


def test_colours_follow_the_profile_and_what_was_computed_leaves(dock, make_slide, wait):
    dock.add_paths([make_slide("a.tif", tissue(400, 400), icc_profile=matrix_profile())])
    dock.add_paths([make_slide("b.tif", tissue(400, 400, seed=1))])
    assert [_cell(dock, row, 5) for row in (0, 1)] == ["stored", "none"]
    session = dock.session
    entry = session.study.slides[0]
    layer = session.layer(entry, "slide")
    before = np.asarray(layer.data[0][:50, :50])
    dock.table.selectRow(0)
    dock.set_colours("auto")
    assert _cell(dock, 0, 5) == "sRGB"
    assert session.study.slides[0].icc == "auto"
    after = np.asarray(layer.data[0][:50, :50])
    assert np.abs(after.astype(int) - before).mean() > 1
    # asked of a file without a profile: one sentence, nothing changes
    dock.table.selectRow(1)
    dock.set_colours("on")
    assert dock.card.kind == "error"
    assert "b.tif" in dock.card.text
    assert session.study.slides[1].icc == "off"


def test_by_hand_with_three_pairs_and_taken_back(dock, make_slide, qtbot, wait):
    image = tissue(600, 600)
    dock.add_paths([make_slide("a.tif", image), make_slide("b.tif", np.ascontiguousarray(np.rot90(image)))])
    dock.compare.start_points()
    qtbot.wait(50)
    marks = dock.compare.landmarks
    first, second = marks._layers
    assert "a" in marks.sentence().split()[-1]
    assert dock.session.viewer.layers.selection.active is first
    # rot90 (against the clock): b's (y, x) is a's (x, width - y)
    for y, x in ((50.0, 60.0), (250.0, 80.0), (150.0, 270.0)):
        assert not dock.compare.done_button.isEnabled()
        first.add([[y, x]])
        assert dock.session.viewer.layers.selection.active is second
        second.add([[300.0 - x, y]])
    assert marks.n_pairs == 3
    dock.compare.finish_points()
    wait(lambda: not dock.compare.is_checking)
    entry = dock.session.study.slides[1]
    assert entry.alignment.method == "points"
    moved = np.asarray(entry.affine_um) @ np.array([300.0 - 60.0, 50.0, 1.0])
    np.testing.assert_allclose(moved[:2], [50.0, 60.0], atol=1e-6)
    layer = dock.session.layer(entry, "slide")
    np.testing.assert_allclose(layer.affine.affine_matrix[-3:, -3:], np.asarray(entry.affine_um), atol=1e-9)
    assert not marks.is_active
    assert all("alignment points" not in layer.name for layer in dock.viewer.layers)
    dock.compare.take_back()
    assert not entry.is_aligned
    np.testing.assert_allclose(layer.affine.affine_matrix[-3:, -3:], np.eye(3), atol=1e-9)


def test_points_on_a_line_are_refused_and_kept(dock, make_slide, qtbot):
    dock.add_paths([make_slide("a.tif", tissue(400, 400)), make_slide("b.tif", tissue(400, 400, seed=1))])
    dock.compare.start_points()
    qtbot.wait(50)
    first, second = dock.compare.landmarks._layers
    for value in (10.0, 50.0, 100.0):
        first.add([[value, value]])
        second.add([[value, value]])
    dock.compare.finish_points()
    assert dock.card.kind == "error"
    assert "line" in dock.card.text
    assert dock.compare.landmarks.n_pairs == 3
    dock.compare.landmarks.cancel()
    assert not dock.session.study.slides[1].is_aligned


def test_deleting_a_point_layer_by_hand_gives_up(dock, make_slide, qtbot):
    dock.add_paths([make_slide("a.tif", tissue(400, 400)), make_slide("b.tif", tissue(400, 400, seed=1))])
    dock.compare.start_points()
    qtbot.wait(50)
    dock.viewer.layers.remove(dock.compare.landmarks._layers[0])
    assert not dock.compare.landmarks.is_active
    assert not dock.compare.done_button.isVisible()


def test_a_transform_from_a_file(dock, make_slide, tmp_path, wait):
    dock.add_paths([make_slide("a.tif", tissue(400, 400)), make_slide("b.tif", tissue(400, 400, seed=1))])
    path = tmp_path / "shift.json"
    path.write_text(
        json.dumps({"matrix": [[1, 0, 12.5], [0, 1, -3.0], [0, 0, 1]], "units": "um", "axes": "yx"})
    )
    dock.compare.use_transform(path)
    wait(lambda: not dock.compare.is_checking)
    entry = dock.session.study.slides[1]
    assert entry.affine_um[0][2] == 12.5, dock.card.text
    assert entry.alignment.method == "file"
    (tmp_path / "broken.json").write_text("{")
    dock.compare.use_transform(tmp_path / "broken.json")
    assert dock.card.kind == "error"
    assert "broken.json" in dock.card.text
    assert entry.affine_um[0][2] == 12.5


def test_an_overview_fills_in_and_is_kept(dock, tmp_path, wait, qtbot):
    from napari_batchfx.slides import open_slide, write_pyramid

    image = np.tile(tissue(500, 500), (9, 9, 1))
    path = write_pyramid(tmp_path / "one level.tif", image, 0.5, levels=1)
    dock.add_paths([path])
    entry = dock.session.study.slides[0]
    slide = dock.session.study.open_slide(entry)
    assert slide.needs_pyramid
    wait(lambda: slide.is_prepared)
    wait(lambda: not dock.session.preparer.is_busy)
    assert prepared_bytes() > 0
    layer = dock.session.layer(entry, "slide")
    shown = np.asarray(layer.data[-1])
    with open_slide(path) as again:
        level = len(again.levels) - 1
        assert np.array_equal(shown, again.read(level, 0, 0, *again.levels[level].shape))
    assert shown.std() > 5
    assert dock.session.preparer.text(entry) == ""


def test_removing_another_slide_does_not_stop_the_overview(dock, tmp_path, wait):
    from napari_batchfx.slides import write_pyramid

    image = np.tile(tissue(500, 500), (9, 9, 1))
    paths = [
        write_pyramid(tmp_path / f"{name}.tif", image[:, : 4500 - k], 0.5, levels=1)
        for k, name in enumerate("ab")
    ]
    dock.add_paths(paths)
    first, second = dock.session.study.slides
    slide = dock.session.study.open_slide(second)
    dock.session.remove_slide(first)
    wait(lambda: slide.is_prepared)


def test_a_label_is_shown_on_request_only_in_its_own_window(dock, real_data, qtbot):
    dock.add_paths([real_data("slides/CMU-1-Small-Region.svs")])
    dock.table.selectRow(0)
    slide = dock.session.study.open_slide(dock.session.study.slides[0])
    assert "label" in slide.associated
    menu = slide_menu(dock)
    action = next(action for action in menu.actions() if "label" in action.text())
    assert "names" in action.text()
    n_layers = len(dock.viewer.layers)
    action.trigger()
    (window,) = [child for child in dock.findChildren(QDialog) if "label" in child.windowTitle()]
    assert any("patient" in label.text() for label in window.findChildren(QLabel))
    assert len(dock.viewer.layers) == n_layers
    window.close()


def test_an_estimated_pixel_size_is_marked_and_asked_for_once(dock, tmp_path):
    from PIL import Image

    from napari_batchfx.slides import write_pyramid

    dock.add_paths(
        [write_pyramid(tmp_path / "a.svs", tissue(300, 300), None, flavour="svs", objective_power=20)]
    )
    assert _cell(dock, 0, 4) == "≈0.5"
    assert "estimate" in dock.card.text
    dock.table.item(0, 4).setText("0.46")
    assert _cell(dock, 0, 4) == "0.46"
    assert "estimate" not in dock.card.text
    picture = tmp_path / "b.png"
    Image.fromarray(tissue(300, 300)).save(picture)
    dock.add_paths([picture])
    assert "no pixel size" in dock.card.text
    dock.table.item(1, 4).setText("0.3")
    dock.session.remove_slide(dock.session.study.slides[1])
    dock.add_paths([picture])
    assert _cell(dock, 1, 4) == "0.3"


def _found(dock, wait):
    box = dock.tissue
    wait(lambda: not box._settle.isActive() and not box._job.is_running)


def test_tissue_shows_live_and_decides_what_is_encoded(dock, make_slide, wait):
    image = np.full((1200, 1200, 3), 240, np.uint8)
    image[200:800, 200:800] = tissue(600, 600)
    image[900:1100, 900:1100] = (236, 228, 234)  # pale
    dock.add_paths([make_slide("a.tif", image)])
    box, session = dock.tissue, dock.session
    (entry,) = session.study.slides
    box.expand(animate=False)
    assert session.layer(entry, "tissue") is None
    box.shown.setChecked(True)
    _found(dock, wait)
    layer = session.layer(entry, "tissue")
    share = layer.data.mean()
    assert 0.2 < share < 0.35
    # exactly over its pixels: the mask's top left corner is the slide's
    np.testing.assert_allclose(layer.translate, np.asarray(layer.scale) / 2)
    assert "of the slide is tissue" in box.numbers.text()
    # a higher threshold by hand: less tissue, in the same layer, and in the study that encodes
    box.automatic.setChecked(False)
    box.threshold.setValue(box.threshold.maximum())
    _found(dock, wait)
    assert session.layer(entry, "tissue") is layer
    assert layer.data.mean() < share
    assert session.study.settings.tissue.threshold == pytest.approx(0.3)
    # a polygon overrides everything and is no label
    from napari_batchfx.viewer import regions

    scale = float(layer.scale[0])
    assert layer.data[int(500 / scale), int(500 / scale)] == 0
    regions.add_region(session, entry, "tissue", [[450, 450], [450, 550], [550, 550], [550, 450]])
    _found(dock, wait)
    assert layer.data[int(500 / scale), int(500 / scale)] == 1
    box.shown.setChecked(False)
    assert session.layer(entry, "tissue") is None


def test_pen_is_flagged_in_its_own_colour(dock, make_slide, wait):
    image = np.full((1200, 1200, 3), 240, np.uint8)
    image[200:1000, 200:1000] = tissue(800, 800)
    image[500:580, 100:1100] = (200, 30, 40)
    dock.add_paths([make_slide("a.tif", image)])
    (entry,) = dock.session.study.slides
    dock.tissue.shown.setChecked(True)
    _found(dock, wait)
    flags = dock.session.layer(entry, "artefacts")
    scale = float(flags.scale[0])
    assert flags.data[int(270 / scale), int(300 / scale)] == 1
    assert flags.data[int(150 / scale), int(300 / scale)] == 0
    assert "under pen" in dock.tissue.numbers.text()


def test_a_new_pixel_size_keeps_regions_and_alignment_on_their_tissue(dock, make_slide):
    """The pixel that a corner lies on, and the pixel of the reference it lies over, stay the same."""
    from napari_batchfx.viewer import regions
    from napari_batchfx.viewer.sample_data import lay_on

    dock.add_paths([make_slide("a.tif", tissue(400, 400)), make_slide("b.tif", tissue(400, 400, seed=1))])
    session = dock.session
    a, b = session.study.slides
    lay_on(session.study, a, b, [[0, -1, 210.0], [1, 0, 4.0], [0, 0, 1]])
    session.place_slides()
    square = np.array([[20.0, 30.0], [20.0, 60.0], [50.0, 60.0], [50.0, 30.0]])
    regions.add_region(session, b, "tumour", square)
    before = np.asarray(b.affine_um) @ np.array([100 * 0.5, 60 * 0.5, 1.0])
    dock.table.item(1, 4).setText("0.25 x 0.4")
    (region,) = [r for r in session.study.annotations if r.slide == "b"]
    np.testing.assert_allclose(region.polygon_um, square * [0.5, 0.8])
    np.testing.assert_allclose(np.asarray(b.affine_um) @ np.array([100 * 0.25, 60 * 0.4, 1.0]), before)
    layer = session.layer(b, "slide")
    np.testing.assert_allclose(layer.affine.affine_matrix[-3:, -3:], np.asarray(b.affine_um))
    shapes = session.layer(b, "regions")
    np.testing.assert_allclose(shapes.data[0], region.polygon_um)
    # the reference's own pixel size: what lies on it follows its pixels
    dock.table.item(0, 4).setText("1")
    after = np.asarray(b.affine_um) @ np.array([100 * 0.25, 60 * 0.4, 1.0])
    np.testing.assert_allclose(after[:2] / 1.0, before[:2] / 0.5)
    assert not a.is_aligned


def test_other_colours_end_what_reads_the_old_ones(bench, dock, make_slide, wait):
    """Encoding stops, overlays of the old colours leave, tissue is found anew, live goes on with the new ones."""
    image = np.tile(tissue(640, 640), (3, 3, 1))
    dock.add_paths([make_slide("a.tif", image, icc_profile=matrix_profile())])
    session, encode = dock.session, bench.docks["encode"]
    (entry,) = session.study.slides
    dock.tissue.shown.setChecked(True)
    _found(dock, wait)
    before = dock.tissue._previews[entry.fingerprint][0]
    encode.encoding.encode_slides([entry])
    wait(lambda: session.layer(entry, "encoded") is not None)
    dock.set_colours("auto")
    assert not encode.encoding.job.is_running
    assert session.layer(entry, "encoded") is None
    wait(lambda: session.layer(entry, "tissue") is not None)
    _found(dock, wait)
    assert dock.tissue._previews[entry.fingerprint][0] != before
    # every tile that is stored belongs to the colours that its key names
    from napari_batchfx.tiles import read_tiles

    encoder = session.study.encoder()
    for icc in ("off", "auto"):
        session.study.update_slide(entry, icc=icc)
        grid = session.study.grid(entry)
        table = session.study.store().array(entry.fingerprint, encoder.key, grid.key, dim=encoder.dim)
        cells = table.done_cells()
        if len(cells):
            np.testing.assert_allclose(
                table.read(cells[:20]), encoder.embed(read_tiles(grid, cells[:20])), rtol=1e-4, atol=1e-4
            )


def test_tissue_settings_do_not_stop_the_encoding(bench, dock, make_slide, wait):
    image = np.tile(tissue(640, 640), (3, 3, 1))
    dock.add_paths([make_slide("a.tif", image)])
    session, encode = dock.session, bench.docks["encode"]
    (entry,) = session.study.slides
    encode.encoding.encode_slides([entry])
    wait(lambda: session.layer(entry, "encoded") is not None)
    running = encode.encoding.job.is_running
    dock.tissue.shown.setChecked(True)
    _found(dock, wait)
    assert session.layer(entry, "encoded") is not None
    wait(lambda: not encode.encoding.job.is_running)
    assert running or "encoded" in encode.card.text


def test_an_aligned_slide_opened_again_lies_where_it_lay(dock, make_slide):
    from napari_batchfx.viewer.sample_data import lay_on

    paths = [make_slide("a.tif", tissue(400, 400)), make_slide("b.tif", tissue(400, 400, seed=1))]
    dock.add_paths(paths)
    session = dock.session
    a, b = session.study.slides
    lay_on(session.study, a, b, [[1, 0, 40.0], [0, 1, -7.0], [0, 0, 1]])
    session.place_slides()
    viewer = dock.viewer
    viewer.open(paths[1], plugin="napari-batchfx")  # shown already: nothing is added
    assert len(viewer.layers) == 2
    viewer.layers.remove(session.layer(b, "slide"))
    viewer.open(paths[1], plugin="napari-batchfx")
    np.testing.assert_allclose(session.layer(b, "slide").affine.affine_matrix[-3:, -3:], b.affine_um)


def test_a_file_that_vanishes_while_it_is_shown_turns_grey(dock, make_slide, qtbot):
    path = make_slide("a.tif", tissue(1200, 1200))
    dock.add_paths([path])
    session = dock.session
    (entry,) = session.study.slides
    layer = session.layer(entry, "slide")
    path.unlink()
    qtbot.wait(1100)  # it is looked for once a second
    from napari_batchfx.slides import tile_cache

    tile_cache().clear()
    layer.refresh()
    qtbot.wait(50)
    assert (np.asarray(layer.data[0][-100:, -100:]) == 191).all()


def test_preparing_can_be_stopped_and_goes_on(dock, tmp_path, wait):
    from napari_batchfx.slides import write_pyramid

    image = np.tile(tissue(500, 500), (16, 16, 1))
    dock.add_paths([write_pyramid(tmp_path / "one level.tif", image, 0.5, levels=1)])
    (entry,) = dock.session.study.slides
    slide = dock.session.study.open_slide(entry)
    assert dock.stop_preparing.isVisibleTo(dock)
    dock.stop_preparing.click()
    assert not dock.session.preparer.is_busy
    assert not dock.stop_preparing.isVisibleTo(dock)
    assert "stopped" in dock.session.preparer.text(entry)
    dock.show_selected()
    wait(lambda: slide.is_prepared)
