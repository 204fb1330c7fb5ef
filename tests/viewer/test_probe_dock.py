"""The site probe dock in the real window: choices, verdict, overlay, pages, with real clicks."""

from __future__ import annotations

import html
import json

import numpy as np
import pytest
from qtpy.QtCore import QPoint, QPointF, Qt
from qtpy.QtTest import QTest
from tests.viewer.probe_study import make, opened

from napari_batchfx.study import Study
from napari_batchfx.viewer import seam


@pytest.fixture(scope="session")
def probed(tmp_path_factory):
    return make(tmp_path_factory.mktemp("probed"))


@pytest.fixture
def dock(bench, probed, tmp_path, qtbot):
    dock = bench.show_dock("probe")
    opened(probed, tmp_path / "copy", dock.session)
    qtbot.wait(50)
    return dock


def click(widget):
    assert widget.isEnabled()
    assert widget.isVisible()
    QTest.mouseClick(
        widget, Qt.MouseButton.LeftButton, Qt.KeyboardModifier.NoModifier, widget.rect().center()
    )


def done(dock):
    return not any(job.is_running for job in dock.session._jobs)


def test_choices_go_into_the_study_and_into_the_result(dock, wait):
    study = dock.session.study
    assert dock.batch.currentText() == "scanner (2)"
    dock.inputs.more.expand(animate=False)
    dock.inputs.classifier.setCurrentIndex(dock.inputs.classifier.findData("centroid"))
    dock.group.setCurrentIndex(dock.group.findData("slide"))
    dock.permutations.setValue(2)
    dock.seed.setValue(7)
    click(dock.row.button)
    wait(lambda: done(dock))
    result = study.results.probe.result
    assert (result.probe, result.grouped_by, result.settings["seed"]) == ("centroid", "slide", 7)
    assert study.is_current("probe")
    assert "nearest centroid" in dock.pages.page("Numbers").text.text()
    # kept beside the earlier answer of another classifier, and again after opening
    assert [one.result.probe for one in study.results.probes] == ["logistic", "centroid"]
    study.save()
    settings = json.loads((study.folder / "study.json").read_text("utf-8"))["settings"]["probe"]
    assert settings["probe"] == "centroid"
    with Study.open(study.folder) as again:
        assert again.settings.probe.probe == "centroid"
        assert again.is_current("probe")
        assert [one.result.probe for one in again.results.probes] == ["logistic", "centroid"]


def test_cancel_keeps_the_last_result(dock, wait):
    before = dock.session.study.results.probe
    dock.permutations.setValue(900)
    click(dock.row.button)
    assert dock.row.stop.isVisible()
    click(dock.row.stop)
    wait(lambda: done(dock))
    assert dock.session.study.results.probe is before
    assert "Stopped" in dock.card.text
    assert dock.row.button.isVisible()


def test_card_and_numbers_say_what_it_rests_on(dock):
    result = dock.session.study.results.probe.result
    assert f"{round(100 * result.balanced_accuracy)} of 100" in dock.card.text
    assert len(result.warnings) > 3
    assert result.warnings[0] in dock.card.text
    dock.pages.turn("Confusion")
    dock.card.link.emit("probe:numbers")  # "n more to mind"
    assert dock.pages.current == "Numbers"
    text = html.unescape(dock.pages.page("Numbers").text.text())
    for warning in result.warnings:
        assert warning in text
    for said in (
        "guessing: 0.5",
        "ECE",
        "inside dense",
        "inside pale",
        "Cramér's V",
        "held out together",
        "tiles",
    ):
        assert said in text


def test_quantity_is_painted_with_its_own_chance(dock, viewer, qtbot):
    session = dock.session
    outcome = session.study.results.probe
    layers = [session.layer(entry, "probe") for entry in session.study.slides]
    for what, unit, chance in (
        ("margin", "margin", 0.0),
        ("entropy", "entropy", 1.0),
        ("confidence", "probability", 0.5),
    ):
        index = dock.quantity.findData(what)
        dock.quantity.setCurrentIndex(index)
        dock.quantity.activated.emit(index)
        values = getattr(outcome.result, what)
        for entry, layer in zip(session.study.slides, layers, strict=True):
            assert session.layer(entry, "probe") is layer  # updated in place
            rows, cells = outcome.tiles.on(entry.fingerprint)
            np.testing.assert_allclose(layer.data[cells[:, 0], cells[:, 1]], values[rows], atol=1e-6)
            assert np.isfinite(layer.data).sum() == len(rows)
            assert layer.metadata["batchfx"]["unit"] == unit
            # grey, the colour without a hue, lies at what guessing gives
            low, high = layer.contrast_limits
            grey = layer.colormap.map(np.array([(chance - low) / (high - low)]))[0]
            assert np.ptp(grey[:3]) < 0.01
    assert viewer.canvas.overlays.text.text.endswith("grey is guessing")
    assert any(layer.colorbar.visible for layer in layers)


def test_pages_draw_in_the_theme(dock, viewer, qtbot):
    result = dock.session.study.results.probe.result
    click(dock.pages.buttons["Confusion"])
    confusion = dock.pages.page("Confusion").plot
    assert confusion.isVisible()
    assert not dock.pages.page("Numbers").isVisible()
    np.testing.assert_array_equal(confusion.counts, result.confusion)
    a, b = confusion.counts[0]
    assert f"{a:,} of {a + b:,} tiles recognised" in confusion.tip_at(QPointF(0.5, 0.5))
    assert "taken for B" in confusion.tip_at(QPointF(1.5, 0.5))
    click(dock.pages.buttons["Calibration"])
    calibration = dock.pages.page("Calibration").plot
    assert sum(one["tiles"] for one in calibration.bins) == len(result.confidence)
    for theme in ("light", "dark"):
        viewer.theme = theme
        assert calibration.ground.name() == seam.theme_colours(viewer)["background"]
        qtbot.wait(30)
        picture = calibration.grab().toImage()
        corner = picture.pixelColor(picture.width() - 2, picture.height() - 2)
        assert corner.name() == calibration.ground.name()


def test_everything_fits_into_300_px(dock, qtbot):
    for name in dock.pages.buttons:
        dock.pages.turn(name)
        qtbot.wait(10)
        widest = max(dock.pages.page(name).minimumSizeHint().width(), dock.inputs.minimumSizeHint().width())
        assert widest <= 300 - 12 - 16, name  # margins and the scroll bar
    body = dock.card.parentWidget()
    assert body.minimumSizeHint().width() <= 300 - 16


def test_what_is_missing_is_said(bench, make_slide, qtbot):
    from tests.viewer.conftest import tissue

    dock = bench.show_dock("probe")
    assert "not two yet" in dock.card.text
    bench.docks["slides"].add_paths([make_slide(f"s{i}.tif", tissue(200, 260, seed=i)) for i in range(2)])
    assert "Give at least two slides a different scanner" in dock.card.text
    dock.batch.setCurrentIndex(dock.batch.findData("slide"))
    assert dock.batch.currentText() == "slide (2)"
    assert "No tiles are encoded yet" in dock.card.text
    assert not dock.row.button.isEnabled()
    assert not dock.pages.isVisible()
    QTest.mouseClick(dock.row.button, Qt.MouseButton.LeftButton, Qt.KeyboardModifier.NoModifier, QPoint(5, 5))
    assert not dock.job.is_running
