"""The Stain dock in a real window: preview, strength, one stain alone, curtain, numbers, signature, export."""

from __future__ import annotations

import numpy as np
import pytest
from qtpy.QtCore import QPoint, Qt
from qtpy.QtTest import QTest
from qtpy.QtWidgets import QScrollArea
from tests.viewer.conftest import tissue

from napari_batchfx.slides import open_slide, tile_cache, write_pyramid
from napari_batchfx.stain import CONDITIONS, SimulatedStain, StainChannel, save_conditions
from napari_batchfx.viewer import compare, regions, seam
from napari_batchfx.viewer.docks.stain import StainDock
from napari_batchfx.viewer.session import session_for

LEFT = Qt.MouseButton.LeftButton
TINTS = {"A-1": (0, 0, 0), "A-2": (3, 2, 0), "B-1": (-18, 6, -22), "B-2": (-16, 8, -20)}


@pytest.fixture(scope="module")
def paths(tmp_path_factory):
    """Four slides of two scanners; read only."""
    folder = tmp_path_factory.mktemp("slides")
    return [
        write_pyramid(folder / f"{name}.tif", tissue(512, 640, k, tint), 0.5, tile=128, compression="deflate")
        for k, (name, tint) in enumerate(TINTS.items())
    ]


@pytest.fixture
def dock(viewer, paths, qtbot):
    """The dock alone, with the slides under it."""
    session = session_for(viewer)
    for path in paths:
        session.add_slide(path, scanner=path.name[0], patient=f"P{path.name[:3]}")
    session.study.settings.encode.encoder = "colour-statistics"
    session.study.settings.encode.size_px, session.study.settings.encode.mpp = 64, 0.5
    session.study.settings.probe.n_bootstrap = 50
    dock = StainDock(viewer)
    viewer.window.add_dock_widget(dock, name="Stain", area="right")
    seam.fit_to(viewer, (0, 0, 256, 320))
    qtbot.wait(20)
    yield dock
    session.close()


@pytest.fixture
def shown(dock, wait):
    """The same with the preview on, by a click."""
    click(dock.show_group.button(1))
    wait(lambda: not dock.job.is_running)
    return dock


def click(widget, at=None):
    QTest.mouseClick(
        widget, LEFT, Qt.KeyboardModifier.NoModifier, widget.rect().center() if at is None else at
    )


def preview(dock, k=0):
    return dock.session.layer(dock.session.study.slides[k], "preview")


def canvas(viewer):
    """What is on the canvas, uint8 (h, w, 3)."""
    return np.asarray(viewer.screenshot(canvas_only=True, flash=False))[..., :3]


def test_preview_by_a_click_and_the_strength_without_reading(shown, viewer, wait, qtbot):
    dock, study = shown, shown.session.study
    assert "4 slides estimated" in dock.card.text
    entry = study.slides[0]
    layer = preview(dock)
    assert layer.name == "A-1 · Macenko preview"
    original = np.asarray(dock.session.layer(entry, "slide").data)
    np.testing.assert_array_equal(np.asarray(layer.data), study.stain_transform(entry).transform(original))
    full = canvas(viewer)
    before = (tile_cache().hits, tile_cache().misses)
    for value in (10, 30, 50, 80, 0):
        dock.strength.setValue(value)
        assert [preview(dock, k).opacity for k in range(4)] == [value / 100] * 4  # at once: no timer, no job
        assert dock.percent.text() == f"{value} %"
        assert study.settings.stain.strength == value / 100
    qtbot.wait(100)
    assert (tile_cache().hits, tile_cache().misses) == before
    assert not dock.job.is_running
    scanned = canvas(viewer)
    dock.strength.setValue(50)
    half = canvas(viewer).astype(float)
    middle = (slice(300, 500), slice(200, 400))
    assert np.abs(full[middle].astype(float) - scanned[middle]).mean() > 3
    blend = (full[middle].astype(float) + scanned[middle]) / 2
    assert np.abs(half[middle] - blend).max() <= 2  # what the strength means, drawn by the card
    layer.opacity = 0.25  # by napari's own slider
    assert dock.strength.value() == 25
    assert preview(dock, 1).opacity == 0.25
    click(dock.show_group.button(0))
    assert not layer.visible
    np.testing.assert_array_equal(canvas(viewer)[middle], scanned[middle])
    # the same on one tile, as the model gets it
    dock.tile.more.expand(animate=False)
    assert dock.tile.after.pixels is None
    last = study.slides[3]
    dock.tile._view.look(last, (80.0, 110.0))
    wait(lambda: dock.tile.after.pixels is not None)
    transform = dock.overview.transforms[last.fingerprint]
    dock.strength.setValue(100)
    np.testing.assert_array_equal(dock.tile.after.pixels, transform.transform(dock.tile.before.pixels))
    dock.strength.setValue(0)
    np.testing.assert_array_equal(dock.tile.after.pixels, dock.tile.before.pixels)


def test_one_stain_alone_and_a_method_that_separates_none(shown, wait):
    dock = shown
    entry = dock.session.study.slides[2]
    source = dock.overview.transforms[entry.fingerprint].source
    original = np.asarray(dock.session.layer(entry, "slide").data)
    for k, stain in ((2, "haematoxylin"), (3, source.stains[1])):
        click(dock.show_group.button(k))
        np.testing.assert_array_equal(
            np.asarray(preview(dock, 2).data), StainChannel(source, stain).transform(original)
        )
        assert preview(dock, 2).name.endswith(f"{stain} alone")
        assert dock.show_group.checkedId() == k
        dock.strength.setValue(30)
        assert preview(dock, 2).opacity == 1.0
    dock.method.setCurrentIndex(dock.method.findData("reinhard"))
    dock.method.activated.emit(dock.method.currentIndex())
    wait(lambda: not dock.job.is_running)
    assert not dock.show_group.button(2).isEnabled()
    assert "separates no stains" in dock.show_group.button(2).toolTip()
    assert dock.show_group.checkedId() == 1
    assert "Reinhard" in preview(dock, 2).name
    assert preview(dock, 2).opacity == pytest.approx(0.3)


def test_other_colours_are_estimated_off_the_gui_thread(shown, viewer, wait, monkeypatch):
    """The slider after a slide's colours changed: it must not estimate again in the window's thread."""
    import threading

    from napari_batchfx.study.stain_estimates import StainEstimates

    dock = shown
    threads = []
    of = StainEstimates.of

    def watched(self, *arguments):
        threads.append(threading.current_thread())
        return of(self, *arguments)

    monkeypatch.setattr(StainEstimates, "of", watched)
    entry = dock.session.study.slides[1]
    dock.session.study.instruments.forget_slide(entry.fingerprint)
    dock.session._recolour(entry)
    dock.session.slide_altered.emit(entry.fingerprint)
    for value in (20, 70, 40):
        dock.strength.setValue(value)
    wait(lambda: not dock.job.is_running and dock.overview is not None)
    assert threads
    assert threading.main_thread() not in threads
    assert preview(dock, 1) is not None
    assert preview(dock, 1).opacity == pytest.approx(0.4)


def test_curtain_cuts_the_preview_only(shown, viewer, wait, qtbot):
    dock = shown
    full = canvas(viewer)
    click(dock.split, QPoint(10, dock.split.height() // 2))
    assert dock.curtain.is_on
    qtbot.wait(50)
    click(dock.show_group.button(1))
    widget = seam.canvas_widget(viewer)
    y, width = widget.height() // 3, widget.width()
    QTest.mousePress(widget, LEFT, Qt.KeyboardModifier.NoModifier, QPoint(width // 2, y))
    for x in np.linspace(0.5, 0.7, 6):
        QTest.mouseMove(widget, QPoint(round(x * width), y))
    QTest.mouseRelease(widget, LEFT, Qt.KeyboardModifier.NoModifier, QPoint(round(0.7 * width), y))
    assert dock.curtain.edges[0] == pytest.approx(0.7, abs=0.02)
    cut = canvas(viewer)
    at = round(0.7 * cut.shape[1])
    rows = slice(cut.shape[0] // 3, cut.shape[0] // 2)
    np.testing.assert_array_equal(cut[rows, at + 40 :], full[rows, at + 40 :])
    left = slice(cut.shape[1] // 4, cut.shape[1] // 3)
    assert np.abs(cut[rows, left].astype(float) - full[rows, left]).mean() > 3
    compare.set_mode(dock.session, "grid")  # another way to compare: one curtain at a time
    assert not dock.curtain.is_on
    assert not dock.split.isChecked()
    compare.set_mode(dock.session, "overlay")
    click(dock.split, QPoint(10, dock.split.height() // 2))
    click(dock.show_group.button(0))
    assert not dock.curtain.is_on


def test_plot_and_table_select_the_slide(shown, viewer, qtbot, tmp_path):
    dock = shown
    third = dock.session.study.slides[2]
    plot = dock.numbers.plot
    qtbot.wait(50)
    click(plot.viewport(), plot.place_of(third.fingerprint).toPoint())
    assert viewer.layers.selection.active is dock.session.layer(third, "slide")
    assert plot.chosen == third.fingerprint
    dock.numbers.tabs.setCurrentIndex(1)
    qtbot.wait(20)
    table = dock.numbers.table
    click(table.viewport(), table.visualItemRect(table.item(1, 0)).center())
    second = dock.session.study.slides[1]
    assert viewer.layers.selection.active is dock.session.layer(second, "slide")
    assert table.item(1, 1).text() in ("good", "uncertain", "apart")
    for theme in ("light", "dark"):
        viewer.theme = theme
        qtbot.wait(20)
    dock.numbers.write_to(tmp_path / "stain.csv")
    text = (tmp_path / "stain.csv").read_text("utf-8")
    assert len(text.splitlines()) == 5
    assert "A-1" not in text
    assert second.fingerprint in text
    dock.numbers.named.setChecked(True)
    dock.numbers.write_to(tmp_path / "named.csv")
    assert "B-1" in (tmp_path / "named.csv").read_text("utf-8")


def test_target_is_a_slide_the_average_or_a_drawn_region(shown, wait):
    dock, study = shown, shown.session.study
    for data, kind in (("slide:B-1", "B-1"), ("cohort:", "the average of all slides")):
        dock.target.setCurrentIndex(dock.target.findData(data))
        dock.target.activated.emit(dock.target.currentIndex())
        wait(lambda: not dock.job.is_running)
        assert f"towards {kind}" in dock.card.text
    click(dock.region)
    assert "Draw a region" in dock.card.text
    assert not dock.region.isChecked()
    entry = study.slides[0]
    dock.viewer.layers.selection.active = dock.session.layer(entry, "slide")
    regions.add_region(dock.session, entry, "typical", [[20, 20], [20, 200], [200, 200], [200, 20]])
    dock.viewer.layers.selection.active = dock.session.layer(entry, "regions")
    click(dock.region)
    wait(lambda: not dock.job.is_running)
    assert study.settings.stain.target == "A-1"
    assert study.settings.stain.regions["A-1"][0][0] == (40.0, 40.0)
    assert dock.region.isChecked()
    assert study.stain_estimate(entry).origin == "drawn region"
    assert "drawn region" in dock.target.currentText()
    click(dock.region)
    wait(lambda: not dock.job.is_running)
    assert study.settings.stain.regions == {}


def test_what_it_does_to_the_signature_stopped_and_whole(shown, wait, qtbot):
    dock = shown
    dock.findChild(QScrollArea).ensureWidgetVisible(dock.signature.row.button)
    qtbot.wait(20)
    dock.session.study.settings.encode.batch_size = 1
    click(dock.signature.row.button)
    wait(lambda: "encoding" in dock.signature.row.line.text())
    click(dock.signature.row.stop)
    assert "Stopped" in dock.card.text
    assert not dock.signature.job.is_running
    assert dock.signature.found is None
    dock.session.study.settings.encode.batch_size = None
    click(dock.signature.row.button)
    wait(lambda: not dock.signature.job.is_running, 120)
    found = dock.signature.found
    assert found is not None, dock.card.text
    assert found.comparison.probe.before > 0.9
    assert "The scanner is recognised in" in dock.card.text
    text = dock.signature.numbers.text()
    assert f"{found.comparison.probe.after:.2f}" in text
    assert "draw regions of at least two classes" in text
    assert "Colour is reduced" in dock.signature.literature.text()
    assert sum(found.tiles.values()) > 100
    dock.target.setCurrentIndex(dock.target.findData("slide:B-1"))
    dock.target.activated.emit(dock.target.currentIndex())
    assert dock.signature.numbers.isHidden()  # of another target


def test_export(shown, wait, tmp_path):
    dock = shown
    export = dock.export
    entry = dock.session.study.slides[1]
    dock.strength.setValue(60)
    export.slide.setCurrentIndex(export.slide.findData(entry.fingerprint))
    export.write_to(tmp_path / "whole")
    wait(lambda: not export.job.is_running)
    assert "Written: whole.ome.tif" in dock.card.text
    slide = dock.session.study.open_slide(entry)
    transform = dock.session.study.stain_transform(entry)
    assert transform.strength == 0.6
    with open_slide(tmp_path / "whole.ome.tif") as again:
        expected = transform.transform(slide.read(0, 0, 0, *slide.shape))
        np.testing.assert_array_equal(again.read(0, 0, 0, *slide.shape), expected)
    export.part.setCurrentIndex(export.part.findData("region"))
    export.write_to(tmp_path / "region.ome.tif")
    assert "No region is drawn" in dock.card.text
    regions.add_region(dock.session, entry, "typical", [[20, 30], [20, 100], [60, 100], [60, 30]])
    export.write_to(tmp_path / "region.ome.tif")
    wait(lambda: not export.job.is_running)
    with open_slide(tmp_path / "region.ome.tif") as again:
        assert again.shape == (80, 140)
    opened = dock.viewer.open(tmp_path / "region.ome.tif", plugin="napari-batchfx")  # as one would look at it
    assert opened[0].data.shape == (80, 140, 3)


def test_another_laboratorys_stain(dock, wait, qtbot, tmp_path):
    study, box = dock.session.study, dock.conditions
    box.more.expand(animate=False)
    pale = CONDITIONS[0]
    box.condition.setCurrentIndex(box.condition.findData(pale.id))
    box.condition.activated.emit(box.condition.currentIndex())
    wait(lambda: "Shown as" in dock.card.text)
    entry = study.slides[0]
    original = np.asarray(dock.session.layer(entry, "slide").data)
    expected = SimulatedStain(pale, study.stain_estimate(entry, "density")).transform(original)
    np.testing.assert_array_equal(np.asarray(preview(dock).data), expected)
    assert preview(dock).name == "A-1 · pale stain (simulated)"
    assert dock.show_group.checkedId() == -1
    click(dock.show_group.button(0))
    assert not preview(dock).visible
    assert box.condition.currentIndex() == 0
    save_conditions(CONDITIONS[:2], tmp_path / "own.json")
    box.use_file(tmp_path / "own.json")
    assert box.condition.count() == 3
    click(box.row.button)
    wait(lambda: not box.job.is_running, 120)
    assert box.found is not None, dock.card.text
    assert "Under 2 simulated stains" in dock.card.text
    assert "Train a head" in dock.card.text
    layer = dock.session.layer(entry, "stability")
    assert layer.visible
    rows = box.found.slide == box.found.fingerprints.index(entry.fingerprint)
    row, col = box.found.cells[rows][0]
    assert layer.data[row, col] == np.float32(box.found.feature_spread[rows][0])
