"""What a person does in the middle of things: cancel, delete the layer, close the window; nothing finished is lost."""

from __future__ import annotations

import numpy as np
import pytest
from tests.viewer.conftest import tissue

from napari_batchfx.slides import tile_cache
from napari_batchfx.viewer.layers import tag


@pytest.fixture
def busy(bench, wait, make_slide):
    """A whole-slide job that has some tiles done and many to go."""
    slides, encode = bench.docks["slides"], bench.docks["encode"]
    image = np.tile(tissue(640, 640), (4, 4, 1))
    slides.add_paths([make_slide("large.tif", image)])
    session = slides.session
    entry = session.study.slides[0]
    session.study.settings.encode.size_px, session.study.settings.encode.mpp = 32, 0.5
    session.study.settings.encode.batch_size = 16
    seen = []
    encode.encoding.job.progressed.connect(lambda p: seen.append(p.done) if p.partial is not None else None)
    encode.encoding.encode_slides([entry])
    wait(lambda: len(seen) >= 3)
    assert encode.encoding.job.is_running
    return session, entry, encode, seen


def kept(session, entry):
    from napari_batchfx.study.tables import feature_array

    return feature_array(session.study, entry, session.study.grid(entry), None).n


def test_cancel_keeps_what_is_done_and_goes_on_later(busy, wait):
    session, entry, encode, _seen = busy
    encode.stop()
    assert not encode.encoding.job.is_running
    encode.encoding.job.wait()
    done = kept(session, entry)
    total = len(session.study.grid(entry).cells(0.25))
    assert 0 < done < total
    assert "kept" in encode.card.text
    encode.encoding.encode_slides([entry])
    wait(lambda: not encode.encoding.job.is_running)
    assert kept(session, entry) == total
    assert f"{total - done:,} tiles encoded; {done:,} were there already" in encode.card.text


def test_deleting_the_slides_layer_stops_its_job(busy, viewer, wait, qtbot):
    session, entry, encode, _seen = busy
    viewer.layers.remove(session.layer(entry, "slide"))
    assert not encode.encoding.job.is_running
    encode.encoding.job.wait()
    qtbot.wait(200)
    assert kept(session, entry) > 0
    assert entry in session.study.slides  # the study still has it; Show brings it back
    slides = session.viewer.window and next(d for d in [session] if d)
    assert slides.layer(entry, "slide") is None
    session.show_slide(entry)
    assert session.layer(entry, "slide") is not None


def test_deleting_an_overlay_is_respected(busy, viewer, wait, qtbot):
    session, entry, encode, seen = busy
    wait(lambda: session.layer(entry, "encoded") is not None)
    viewer.layers.remove(session.layer(entry, "encoded"))
    n = len(seen)
    wait(lambda: len(seen) > n + 4 or not encode.encoding.job.is_running)
    qtbot.wait(250)
    assert session.layer(entry, "encoded") is None
    encode.stop()
    encode.encoding.encode_slides([entry])  # asked for again
    wait(lambda: session.layer(entry, "encoded") is not None)


def test_closing_napari_while_encoding(busy, viewer, qtbot):
    session, _entry, encode, _seen = busy
    folder = session.study.folder
    assert folder.exists()
    viewer.close()
    qtbot.waitUntil(lambda: session.is_closed, timeout=10_000)
    assert not encode.encoding.job.is_running
    assert session.study.is_closed
    assert not folder.exists()  # never saved: its temporary folder goes with it
    assert tile_cache().nbytes == 0


def test_removing_a_slide_gives_its_memory_back(bench, viewer, make_slide, qtbot):
    session = bench.docks["slides"].session
    entry = session.add_slide(make_slide("a.tif", tissue(1500, 1500)))
    viewer.screenshot(flash=False)
    assert tile_cache().nbytes > 0
    session.remove_slide(entry)
    assert tile_cache().nbytes == 0
    assert not [layer for layer in viewer.layers if tag(layer)]


def test_the_same_slide_twice_is_one_slide(bench, viewer, make_slide):
    session = bench.docks["slides"].session
    path = make_slide("a.tif", tissue(300, 300))
    assert session.add_slide(path) is session.add_slide(path)
    assert len(viewer.layers) == 1


def test_two_viewers_have_two_studies(bench, make_napari_viewer, make_slide):
    from napari_batchfx.viewer.session import session_for

    other = session_for(make_napari_viewer())
    mine = bench.docks["slides"].session
    mine.add_slide(make_slide("a.tif", tissue(300, 300)))
    assert other is not mine
    assert not other.study.slides
    other.close()


def test_closing_one_viewer_leaves_the_others_work_alone(busy, make_napari_viewer, wait, qtbot):
    session, entry, encode, seen = busy
    other = make_napari_viewer(show=True)
    qtbot.wait(50)
    encode.stop()
    encode.encoding.job.wait()
    session.study.store().clear()  # opening a window takes longer than these tiles: all of them are to do again
    encode.encoding.encode_slides([entry])  # started while the other viewer is the one in front
    n = len(seen)
    wait(lambda: len(seen) > n)
    other.close()
    wait(lambda: not encode.encoding.job.is_running)
    assert kept(session, entry) == len(session.study.grid(entry).cells(0.25))


def test_removing_a_slide_stops_its_jobs_with_a_sentence(busy, bench, wait):
    session, entry, encode, _seen = busy
    session.remove_slide(entry)
    assert not encode.encoding.job.is_running
    encode.encoding.job.wait()
    assert "went wrong" not in encode.card.text
    assert not session.study.slides


def test_cards_forget_the_study_before(busy, bench, tmp_path, wait):
    from napari_batchfx import Study

    _session, _entry, encode, _seen = busy
    encode.stop()
    bench.docks["stain"].start()
    wait(lambda: not bench.docks["stain"].job.is_running)
    with Study.create(tmp_path / "empty.batchfx"):
        pass
    bench.docks["report"].open_from(tmp_path / "empty.batchfx")
    assert encode.card.text == "No slide to encode yet."
    assert bench.docks["stain"].card.text == "No slide to normalise yet."
    assert bench.docks["stain"].overview is None


def test_deleting_a_copy_of_a_slides_layer_does_not_hide_the_slide(bench, make_slide):
    session = bench.docks["slides"].session
    entry = session.add_slide(make_slide("copied.tif", tissue(300, 300)))
    viewer = session.viewer
    original = session.layer(entry, "slide")
    viewer.layers.selection.active = original
    from napari.layers import Layer

    viewer.layers.append(Layer.create(*original.as_layer_data_tuple()))
    assert len([layer for layer in viewer.layers if layer is not original]) == 1
    viewer.layers.remove(viewer.layers[1])
    assert not session.is_dismissed(entry, "slide")
    assert session.shown_slides() == [entry]
