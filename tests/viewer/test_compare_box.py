"""Laying slides on each other in the window: all at once or not at all, with regions that stay on their tissue."""

from __future__ import annotations

import numpy as np
import pytest
from tests.viewer.conftest import tissue

from napari_batchfx.viewer import regions

SQUARE = np.array([[60.0, 70.0], [60.0, 120.0], [110.0, 120.0], [110.0, 70.0]])


@pytest.fixture
def dock(bench, make_slide):
    """a, b (a half turned) and c (a mirrored), 400 um wide; a region on b."""
    dock = bench.docks["slides"]
    image = tissue(800, 800)
    turns = {"a.tif": image, "b.tif": image[::-1, ::-1], "c.tif": image[::-1]}
    dock.add_paths([make_slide(name, np.ascontiguousarray(pixels)) for name, pixels in turns.items()])
    regions.add_region(dock.session, dock.session.study.slides[1], "tumour", SQUARE)
    return dock


def select(dock, row):
    """One row alone, whatever modifier keys an earlier test has left pressed."""
    from qtpy.QtCore import QItemSelectionModel

    flags = QItemSelectionModel.SelectionFlag.ClearAndSelect | QItemSelectionModel.SelectionFlag.Rows
    dock.table.selectionModel().select(dock.table.model().index(row, 0), flags)


def assert_agrees(dock):
    """Layers lie where the study has them, and the region is where it was drawn."""
    session = dock.session
    for entry in session.study.slides:
        for layer in session.layers_of(entry):
            np.testing.assert_allclose(layer.affine.affine_matrix[-3:, -3:], entry.affine_um, atol=1e-9)
    (region,) = regions.pull(session)
    assert region.slide == "b"
    np.testing.assert_allclose(region.polygon_um, SQUARE, atol=1e-6)


def test_all_are_laid_at_once_and_taken_back(dock, wait):
    a, b, c = dock.session.study.slides
    during = []

    def look(progress):
        during.append([entry.is_aligned for entry in (b, c)])
        assert_agrees(dock)

    dock.compare._job.progressed.connect(look)
    dock.compare.align()
    wait(lambda: not dock.compare.is_aligning)
    assert "Aligned." in dock.card.text
    assert during
    assert not np.any(during)
    np.testing.assert_allclose(b.affine_um, [[-1, 0, 400], [0, -1, 400], [0, 0, 1]], atol=0.2)
    np.testing.assert_allclose(c.affine_um, [[-1, 0, 400], [0, 1, 0], [0, 0, 1]], atol=0.2)
    assert_agrees(dock)
    dock.compare.take_back()
    assert "Taken back: b, c." in dock.card.text
    assert not any(entry.is_aligned for entry in (a, b, c))
    assert_agrees(dock)


def test_stopped_after_the_first_of_two_nothing_moved(dock, wait):
    stopped = []

    def stop(progress):
        if progress.text().startswith("aligning c") and not stopped:
            stopped.append(progress)
            dock.compare._job.cancel()

    dock.compare._job.progressed.connect(stop)
    dock.compare.align()
    wait(lambda: not dock.compare.is_aligning)
    assert stopped
    assert "every slide is where it was" in dock.card.text
    assert not any(entry.is_aligned or entry.alignment for entry in dock.session.study.slides)
    assert_agrees(dock)


def test_a_chain_moves_with_its_layers_and_regions(dock, tmp_path, wait):
    """b lies on c; c is laid by a file: b's layers and region follow."""
    from napari_batchfx.slides import Alignment, write_alignment
    from napari_batchfx.study.alignment import set_alignment

    _, b, c = dock.session.study.slides
    with dock.compare._moving():
        set_alignment(dock.session.study, c, b, Alignment(np.diag([1.0, 1, 1]), 1.0, 0.9, "good", 9))
    flip = np.array([[-1, 0, 400], [0, 1, 0], [0, 0, 1.0]])
    select(dock, 2)
    # the file claims more than is true of a shift of 12 um: what counts is what is seen
    off = flip.copy()
    off[0, 2] += 12
    dock.compare.use_transform(write_alignment(tmp_path / "c.json", Alignment(off, 0.1, 0.99, "good", 50)))
    wait(lambda: not dock.compare.is_checking)
    np.testing.assert_allclose(b.affine_um, off)
    assert c.alignment.verdict == "uncertain"
    assert c.alignment.residual_um == pytest.approx(12, abs=1)
    assert_agrees(dock)


def test_what_lay_on_a_removed_slide_stays_and_can_be_taken_back(dock):
    from napari_batchfx.slides import Alignment
    from napari_batchfx.study.alignment import set_alignment

    session = dock.session
    a, b, _ = session.study.slides
    turn = [[-1, 0, 400], [0, -1, 400], [0, 0, 1]]
    with dock.compare._moving():
        set_alignment(session.study, a, b, Alignment(turn, 0.1, 0.9, "good", 9))
    session.remove_slide(a)
    np.testing.assert_allclose(b.affine_um, turn)
    assert b.alignment is None
    assert_agrees(dock)
    dock.compare.refresh()
    assert dock.compare.undo.isEnabled()
    dock.compare.take_back()
    assert not b.is_aligned
    assert_agrees(dock)


def test_an_alignment_is_saved_and_read_again(dock, tmp_path, wait):
    """What the menu writes is the place on the reference, and From a file lays the slide there again."""
    from napari_batchfx.slides import Alignment
    from napari_batchfx.study.alignment import alignment_of, set_alignment

    session = dock.session
    a, b, c = session.study.slides
    turn, shift = [[-1, 0, 400], [0, -1, 400], [0, 0, 1]], [[1, 0, 7.0], [0, 1, 3.0], [0, 0, 1]]
    with dock.compare._moving():
        set_alignment(session.study, a, b, Alignment(turn, 0.1, 0.9, "good", 9))
        set_alignment(session.study, b, c, Alignment(shift, 0.1, 0.9, "good", 9))
    np.testing.assert_allclose(alignment_of(session.study, c).affine_um, shift)
    dock.compare.refresh()
    assert dock.compare.save.isEnabled()
    dock.compare.save_alignment(b, tmp_path / "b.json")
    assert "b.json" in dock.card.text
    dock.compare.take_back()
    select(dock, 1)
    dock.compare.use_transform(tmp_path / "b.json")
    assert dock.compare.stop_button.isVisibleTo(dock)
    wait(lambda: not dock.compare.is_checking)
    np.testing.assert_allclose(b.affine_um, turn)
    assert not dock.compare.stop_button.isVisibleTo(dock)


def test_aligning_can_be_cancelled_with_a_button(dock):
    dock.compare.align()
    assert dock.compare.stop_button.isVisibleTo(dock)
    dock.compare.stop_button.click()
    assert not dock.compare.is_aligning
    assert "where it was" in dock.card.text
    assert not any(entry.is_aligned for entry in dock.session.study.slides)
