"""Live mode in the real window: what a hand does with the camera, and what the encoder gets to do meanwhile."""

from __future__ import annotations

import threading

import numpy as np
import pytest
from qtpy.QtCore import QPoint, Qt
from qtpy.QtTest import QTest
from tests.counting import CountingEncoder, use
from tests.viewer.conftest import tissue

from napari_batchfx.study.tables import feature_array
from napari_batchfx.viewer import seam
from napari_batchfx.viewer.motion import REST_MS

BATCH = 4


@pytest.fixture
def live(bench, make_slide):
    """``live(n, width, seconds=...)``: n slides, the counting encoder, small batches."""

    def set_up(n=1, width=1500, seconds=0.0):
        slides, encode = bench.docks["slides"], bench.docks["encode"]
        slides.add_paths([make_slide(f"s{i}.tif", tissue(800, width, seed=i)) for i in range(n)])
        session = slides.session
        settings = session.study.settings.encode
        settings.size_px, settings.mpp, settings.batch_size, settings.min_tissue = 64, 0.5, BATCH, 0.0
        return session, encode, use(session.study, CountingEncoder(seconds))

    return set_up


def shown(session, entry):
    layer = session.layer(entry, "encoded")
    return set() if layer is None else set(map(tuple, np.argwhere(np.isfinite(layer.data))))


def stored(session, entry):
    return feature_array(session.study, entry, session.study.grid(entry), None)


def in_view(session, entry):
    box = seam.view_box_um(session.viewer)
    return set(map(tuple, session.study.grid(entry).cells_in_box(*box)))


def encoder_threads():
    """Threads of ours but those of the pixel kernels, which every view shares and which stay with the process, and
    the one that gives memory back after a movement: it ends by itself within milliseconds."""
    others = ("batchfx-stain", "batchfx-memory")
    names = [thread.name for thread in threading.enumerate()]
    return [name for name in names if name.startswith("batchfx") and not name.startswith(others)]


def test_moving_about_computes_nothing_twice_and_stores_it_right(live, viewer, wait, qtbot):
    session, encode, encoder = live(seconds=0.002)
    entry = session.study.slides[0]
    seam.fit_to(viewer, (0, 0, 300, 300))
    encode.live.setChecked(True)
    for x in (60, 120, 200, 120, 400):
        seam.fit_to(viewer, (0, x, 300, x + 300))
        qtbot.wait(REST_MS + 60)
    wait(lambda: in_view(session, entry) <= shown(session, entry) and not encode.encoding.job.is_running)
    array = stored(session, entry)
    assert max(encoder.seen.values()) == 1
    assert sum(encoder.seen.values()) == array.n == len(shown(session, entry))
    cells = array.done_cells()
    from napari_batchfx.tiles import read_tiles

    expected = CountingEncoder().embed(read_tiles(session.study.grid(entry), cells))
    np.testing.assert_array_equal(array.read(cells), expected)
    encode.live.setChecked(False)
    assert encode.encoding.job.wait()
    assert encoder_threads() == ["batchfx-lock"]  # the open study's own, which says that it is open


def test_nothing_is_begun_while_a_button_is_down(live, viewer, wait, qtbot):
    session, encode, encoder = live(seconds=0.004)
    entry = session.study.slides[0]
    seam.fit_to(viewer, session.box_um(entry))
    encode.live.setChecked(True)
    wait(lambda: len(encoder.begun) >= 3)
    canvas = seam.canvas_widget(viewer)
    middle = QPoint(canvas.width() // 2, canvas.height() // 2)
    QTest.mousePress(canvas, Qt.MouseButton.LeftButton, Qt.KeyboardModifier.NoModifier, middle)
    begun = len(encoder.begun)
    for step in range(6):
        QTest.mouseMove(canvas, middle + QPoint(3 * step, 0))
        qtbot.wait(60)
    qtbot.wait(2 * REST_MS)  # held still with the button down
    assert encode.encoding.motion.is_moving
    assert len(encoder.begun) <= begun + 2  # what was being handed over; half a second has room for thirty
    assert encode.encoding.job.is_running
    QTest.mouseRelease(canvas, Qt.MouseButton.LeftButton, Qt.KeyboardModifier.NoModifier, middle)
    n = len(encoder.begun)
    wait(lambda: len(encoder.begun) > n)
    assert not encode.encoding.motion.is_moving
    wait(lambda: in_view(session, entry) <= shown(session, entry))
    assert max(encoder.seen.values()) == 1
    encode.live.setChecked(False)


def test_hovering_stops_nothing(live, viewer, wait, qtbot):
    session, encode, encoder = live(seconds=0.004)
    seam.fit_to(viewer, session.box_um(session.study.slides[0]))
    encode.live.setChecked(True)
    wait(lambda: len(encoder.begun) >= 2)
    canvas = seam.canvas_widget(viewer)
    n = len(encoder.begun)
    for step in range(10):
        QTest.mouseMove(canvas, QPoint(100 + 5 * step, 100))
        qtbot.wait(20)
    assert not encode.encoding.motion.is_moving
    wait(lambda: len(encoder.begun) > n)
    encode.live.setChecked(False)


def test_a_view_that_is_left_is_left_within_a_batch(live, viewer, wait, qtbot):
    session, encode, encoder = live(width=3000, seconds=0.005)
    entry = session.study.slides[0]
    seam.fit_to(viewer, (0, 0, 400, 700))
    encode.live.setChecked(True)
    wait(lambda: len(encoder.begun) >= 3)
    old = in_view(session, entry)
    before = len(encoder.begun)
    seam.camera(viewer).center = (200, -5000)  # beyond the slide
    qtbot.wait(500)
    assert len(encoder.begun) - before <= 1
    wait(lambda: not encode.encoding.job.is_running)
    assert shown(session, entry) < old
    assert stored(session, entry).n == sum(encoder.seen.values()) == len(shown(session, entry))
    encode.live.setChecked(False)


def test_slides_in_a_grid_share_the_encoder(live, bench, viewer, wait, monkeypatch):
    """Whatever the threads do: what is given to the encoder is shared out, batch by batch, and all of it arrives."""
    from napari_batchfx.study.live_line import LiveLine

    session, encode, _ = live(n=3, width=1000, seconds=0.002)
    bench.docks["slides"].compare.choose("grid")
    seam.fit_to(viewer, (0, 0, 400, 500))
    given, came, worst = {}, {}, []
    send = LiveLine.send

    def counted(line, work, cells):
        name = work.entry.fingerprint
        given[name] = given.get(name, 0) + len(cells)
        of_all = [given.get(entry.fingerprint, 0) for entry in session.study.slides]
        if max(of_all) < 60:  # towards the end one runs out before the others
            worst.append(max(of_all) - min(of_all))
        send(line, work, cells)

    def count(progress):
        if progress.partial is not None:
            name = progress.partial.fingerprint
            came[name] = came.get(name, 0) + len(progress.partial.cells)

    monkeypatch.setattr(LiveLine, "send", counted)
    encode.encoding.job.progressed.connect(count)
    encode.live.setChecked(True)
    wait(lambda: len(came) == 3 and min(came.values()) >= 40)
    assert len(worst) > 10
    assert max(worst) <= 2 * BATCH
    encode.live.setChecked(False)


def test_a_whole_slide_is_coloured_all_over_early(live, viewer, wait):
    from napari_batchfx.study.live import Pace

    session, encode, encoder = live(width=3000, seconds=0.01)
    entry = session.study.slides[0]
    encode.encoding._pace = Pace(each=0.01, _skipped=True)
    seam.fit_to(viewer, session.box_um(entry))
    encode.live.setChecked(True)
    budget = encode.encoding._pace.budget(1)
    wait(lambda: len(shown(session, entry)) >= budget // 2)
    wait(lambda: sum(encoder.seen.values()) >= budget)
    wait(lambda: len(shown(session, entry)) >= budget)
    cells = np.array(sorted(shown(session, entry)))
    rows, cols = session.study.grid(entry).shape
    assert len(cells) < rows * cols * 0.8
    quarter = {(4 * row // rows, 4 * col // cols) for row, col in cells}
    assert len(quarter) == 16
    encode.live.setChecked(False)


def test_what_is_stored_shows_while_the_view_still_moves(live, viewer, wait, qtbot):
    session, encode, encoder = live()
    entry = session.study.slides[0]
    encode.encoding.encode_slides([entry])
    wait(lambda: not encode.encoding.job.is_running)
    encode.encoding.painter.forget()
    n = len(encoder.begun)
    seam.fit_to(viewer, (0, 0, 300, 300))
    encode.live.setChecked(True)
    canvas = seam.canvas_widget(viewer)
    QTest.mousePress(canvas, Qt.MouseButton.LeftButton, Qt.KeyboardModifier.NoModifier, QPoint(50, 50))
    seam.fit_to(viewer, (0, 400, 300, 700))
    wait(lambda: in_view(session, entry) <= shown(session, entry))
    assert encode.encoding.motion.is_moving
    assert len(encoder.begun) == n
    QTest.mouseRelease(canvas, Qt.MouseButton.LeftButton, Qt.KeyboardModifier.NoModifier, QPoint(50, 50))
    # and with nothing else to do the rest of the slide joins the picture
    wait(lambda: len(shown(session, entry)) == stored(session, entry).n)
    encode.live.setChecked(False)


def test_stored_values_come_with_the_first_drawing_of_a_view(live, viewer, wait, qtbot, monkeypatch):
    from napari_batchfx.viewer import encoding

    monkeypatch.setattr(encoding, "_PATIENCE_S", 10.0)  # however busy the machine is
    session, encode, _ = live()
    entry = session.study.slides[0]
    encode.encoding.encode_slides([entry])
    wait(lambda: not encode.encoding.job.is_running)
    seam.fit_to(viewer, (0, 0, 300, 300))
    encode.live.setChecked(True)
    wait(lambda: not encode.encoding.job.is_running and not encode.encoding.motion.is_moving)
    qtbot.wait(2 * REST_MS)  # longer than between two glances of one movement
    encode.encoding.painter.overview.forget(entry.fingerprint)
    session.layer(entry, "encoded").data[...] = np.nan
    drawn = []

    def note(_event=None):
        drawn.append(in_view(session, entry) <= shown(session, entry))

    viewer.window._qt_viewer.canvas.events.draw.connect(note, position="last")
    seam.fit_to(viewer, (0, 400, 300, 700))
    wait(lambda: drawn)
    assert drawn[0]
    encode.live.setChecked(False)


def test_memory_is_given_back_also_where_nothing_is_to_be_computed(live, viewer, wait, monkeypatch):
    session, encode, encoder = live()
    encode.encoding.encode_slides(session.study.slides)
    wait(lambda: not encode.encoding.job.is_running)
    given = []
    monkeypatch.setattr(
        "napari_batchfx.viewer.encoding.give_back_memory",
        lambda: given.append(threading.current_thread() is threading.main_thread()),
    )
    n = len(encoder.begun)
    seam.fit_to(viewer, (0, 0, 300, 300))
    wait(lambda: not encode.encoding.motion.is_moving)
    assert not given  # not in live mode
    encode.live.setChecked(True)
    wait(lambda: not encode.encoding.job.is_running)
    seam.fit_to(viewer, (0, 400, 300, 700))
    wait(lambda: given)
    assert not any(given)  # beside the window's thread
    assert len(encoder.begun) == n
    encode.live.setChecked(False)


def test_a_hidden_slide_is_not_encoded_until_it_is_shown(live, viewer, wait, qtbot):
    session, encode, encoder = live()
    entry = session.study.slides[0]
    seam.fit_to(viewer, (0, 0, 300, 300))
    session.layer(entry, "slide").visible = False
    encode.live.setChecked(True)
    qtbot.wait(3 * REST_MS)
    assert not encoder.begun
    session.layer(entry, "slide").visible = True
    wait(lambda: in_view(session, entry) <= shown(session, entry))
    encode.live.setChecked(False)


def test_other_settings_in_the_middle_begin_anew(live, viewer, wait):
    session, encode, _ = live(seconds=0.004)
    entry = session.study.slides[0]
    seam.fit_to(viewer, (0, 0, 300, 300))
    encode.live.setChecked(True)
    wait(lambda: len(shown(session, entry)) > 4)
    encode.size_px.setValue(100)
    encode.size_px.editingFinished.emit()
    wait(
        lambda: session.study.grid(entry).size_px == 100 and in_view(session, entry) <= shown(session, entry)
    )
    assert session.layer(entry, "encoded").data.shape == session.study.grid(entry).shape
    assert encode.card.kind != "error", encode.card.text
    encode.live.setChecked(False)


def test_deleting_removing_and_closing_while_live(live, bench, viewer, wait, qtbot, caplog):
    session, encode, encoder = live(n=2, seconds=0.004)
    first, second = session.study.slides
    encode.live.setChecked(True)
    wait(lambda: len(encoder.begun) > 2)
    viewer.layers.remove(session.layer(first, "slide"))
    wait(lambda: session.layer(second, "encoded") is not None)
    n = len(encoder.begun)
    wait(lambda: len(encoder.begun) > n)  # the other one goes on
    session.remove_slide(second)
    qtbot.wait(2 * REST_MS)
    assert "went wrong" not in encode.card.text
    session.show_slide(first)
    encode.live.setChecked(True)
    n = len(encoder.begun)
    wait(lambda: len(encoder.begun) > n)
    viewer.close()
    qtbot.waitUntil(lambda: session.is_closed, timeout=10_000)
    assert session.study.is_closed
    assert encoder_threads() == []


def test_clearing_while_live_begins_anew(live, viewer, wait):
    session, encode, encoder = live()
    entry = session.study.slides[0]
    seam.fit_to(viewer, (0, 0, 300, 300))
    encode.live.setChecked(True)
    wait(lambda: not encode.encoding.job.is_running and in_view(session, entry) <= shown(session, entry))
    wait(encode.clear.isEnabled)
    first = sum(encoder.seen.values())
    encode.clear.click()
    wait(lambda: sum(encoder.seen.values()) >= 2 * first)
    wait(lambda: in_view(session, entry) <= shown(session, entry))
    assert encode.card.kind != "error", encode.card.text
    wait(lambda: "Live: all" in encode.row.line.text())
    encode.live.setChecked(False)
