"""Tiles are painted by the probe the moment they are encoded, and a meter follows the view: the real window."""

from __future__ import annotations

import numpy as np
import pytest
from qtpy.QtCore import QPoint, Qt
from qtpy.QtTest import QTest
from tests.viewer.probe_study import make, opened

from napari_batchfx.viewer import seam

ROWS = 5


@pytest.fixture(scope="module")
def part(tmp_path_factory):
    return make(tmp_path_factory.mktemp("part"), rows=ROWS)


@pytest.fixture
def dock(bench, part, tmp_path, qtbot):
    dock = bench.show_dock("probe")
    opened(part, tmp_path / "copy", dock.session)
    qtbot.wait(50)
    return dock


def tick(box):
    QTest.mouseClick(
        box, Qt.MouseButton.LeftButton, Qt.KeyboardModifier.NoModifier, QPoint(10, box.height() // 2)
    )


def n_values(session, kind="probe"):
    return [int(np.isfinite(session.layer(entry, kind).data).sum()) for entry in session.study.slides]


def test_new_tiles_are_painted_as_they_are_encoded(dock, bench, viewer, wait, qtbot):
    session = dock.session
    before = n_values(session)
    layers = [session.layer(entry, "probe") for entry in session.study.slides]
    encode = bench.show_dock("encode")
    encode.live.setChecked(True)
    grid = session.study.grid(session.study.slides[-1])
    seam.fit_to(viewer, session.box_um(session.study.slides[-1]))
    everything = grid.shape[0] * grid.shape[1]
    wait(lambda: n_values(session) == [everything] * 4, 60)
    encode.live.setChecked(False)
    wait(lambda: not encode.encoding.job.is_running)
    assert before == [ROWS * grid.shape[1]] * 4
    assert [session.layer(entry, "probe") for entry in session.study.slides] == layers  # in place
    # what is on the screen is what the fold that never saw the slide says
    picture, outcome = dock.overlay.picture, session.study.results.probe
    maps = picture.maps()
    for entry in session.study.slides:
        np.testing.assert_array_equal(session.layer(entry, "probe").data, maps[entry.fingerprint].values)
        rows, cells = outcome.tiles.on(entry.fingerprint)
        np.testing.assert_allclose(
            maps[entry.fingerprint].values[cells[:, 0], cells[:, 1]],
            outcome.result.confidence[rows],
            atol=1e-6,
        )


def test_switched_off_nothing_is_painted_and_switched_on_it_catches_up(dock, bench, wait, qtbot):
    session = dock.session
    assert dock.live.isChecked()
    tick(dock.live)
    assert not dock.live.isChecked()
    before = n_values(session)
    encode = bench.show_dock("encode")
    encode.where.button(2).setChecked(True)
    encode.start()
    wait(lambda: not any(job.is_running for job in session._jobs))
    qtbot.wait(200)
    assert n_values(session) == before
    bench.show_dock("probe")
    tick(dock.live)
    wait(lambda: min(n_values(session)) > max(before))
    # another stain is no longer what the probe was fitted on, and that is said
    session.study.settings.encode.normalizer = "reinhard"
    session.settings_changed.emit()
    assert "not scored" in dock.live_note.text()
    assert dock.live_note.isVisible()


def test_the_meter_follows_the_view(dock, viewer, wait, qtbot):
    session = dock.session
    assert not dock.meter.is_on
    tick(dock.show_meter)
    meter = dock.meter.widget
    assert meter.isVisible()
    seam.fit_to(viewer, session.box_um(session.study.slides[0]))
    wait(lambda: meter.figure is not None and meter.figure.tiles > 0)
    everywhere = meter.figure.tiles
    assert f"{100 * meter.figure.recognised:.0f} of 100" in meter.text
    assert "guessing 50" in meter.text
    seam.fit_to(viewer, (0, 0, 70, 70))
    wait(lambda: 0 < meter.figure.tiles < everywhere)
    seam.fit_to(viewer, (5000, 5000, 5100, 5100))
    wait(lambda: meter.text == "no tile in view is scored yet")
    # it is drawn over the slides, and lets the mouse through
    canvas = seam.canvas_widget(viewer)
    assert meter.parentWidget() is canvas
    assert canvas.rect().contains(meter.geometry())
    assert meter.testAttribute(Qt.WidgetAttribute.WA_TransparentForMouseEvents)
    tick(dock.show_meter)
    assert dock.meter.widget is None
