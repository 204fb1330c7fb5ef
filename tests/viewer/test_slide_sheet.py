"""Slides from a table, in the dock: what is wrong is listed with its line until it is seen, the rest is there."""

from __future__ import annotations

import numpy as np
import pytest
from qtpy.QtCore import QMimeData, QPoint, Qt, QUrl
from qtpy.QtGui import QDropEvent

from napari_batchfx.slides import write_pyramid


@pytest.fixture
def table(tmp_path):
    """Three slides; five rows, of which two are wrong."""
    rng = np.random.default_rng(0)
    for name in "ABC":
        write_pyramid(tmp_path / f"{name}.tif", rng.integers(90, 200, (96, 128, 3)).astype(np.uint8), 0.5)
    path = tmp_path / "cohort.csv"
    path.write_text(
        "path,patient,site,scanner,mpp\nA.tif,P1,AMC,S1,\nmissing.tif,P1,AMC,S2,\nB.tif,P2,UMC,S2,\nC.tif,P2,UMC,S1,none\n"
        "C.tif,P3,UMC,S1,0.25\n"
    )
    return path


def test_right_rows_are_added_and_wrong_ones_listed(bench, table, wait):
    dock = bench.docks["slides"]
    dock.sheet.add(table)
    wait(lambda: not dock.sheet.job.is_running)
    study = dock.session.study
    assert [entry.name for entry in study.slides] == ["A", "B", "C"]
    assert (study.slides[1].patient, study.slides[1].site, study.slides[1].scanner) == ("P2", "UMC", "S2")
    assert study.slides[2].mpp_given == (0.25, 0.25)
    assert dock.table.rowCount() == 3
    assert [dock.session.layer(entry, "slide") is not None for entry in study.slides] == [True] * 3
    text = dock.card.text
    assert "cohort.csv: 3 slides added. 2 rows were left out:" in text
    assert "line 3: missing.tif: there is no such file" in text
    assert "line 5: mpp is 'none'" in text
    # it stays until it is seen, whatever else is told meanwhile
    dock.session.slides_changed.emit()
    assert "2 rows were left out" in dock.card.text
    dock.card.link.emit("slides:seen")
    assert "left out" not in dock.card.text
    assert not dock.sheet.stop_button.isVisibleTo(dock)


def test_again_it_says_that_they_are_there(bench, table, wait):
    dock = bench.docks["slides"]
    for _ in range(2):
        dock.sheet.add(table)
        wait(lambda: not dock.sheet.job.is_running)
    assert "3 slides there already" in dock.card.text
    assert len(dock.session.study.slides) == 3


def test_a_table_can_be_dropped(bench, table, wait):
    dock = bench.docks["slides"]
    data = QMimeData()
    data.setUrls([QUrl.fromLocalFile(str(table))])
    dock.dropEvent(
        QDropEvent(
            QPoint(5, 5).toPointF(),
            Qt.DropAction.CopyAction,
            data,
            Qt.MouseButton.LeftButton,
            Qt.KeyboardModifier.NoModifier,
        )
    )
    wait(lambda: not dock.sheet.job.is_running)
    assert len(dock.session.study.slides) == 3


def test_what_is_no_table_is_one_sentence(bench, tmp_path, wait):
    dock = bench.docks["slides"]
    path = tmp_path / "wrong.csv"
    path.write_text("name,site\nA,AMC\n")
    dock.sheet.add(path)
    wait(lambda: not dock.sheet.job.is_running)
    assert dock.card.kind == "error"
    assert "wrong.csv" in dock.card.text
    assert "path" in dock.card.text
    assert not dock.session.study.slides


def test_it_can_be_stopped(bench, table, wait):
    dock = bench.docks["slides"]
    dock.sheet.add(table)
    dock.sheet.stop_button.click()
    wait(lambda: not dock.sheet.job.is_running)
    assert "Stopped; " in dock.card.text
    assert not dock.sheet.stop_button.isVisibleTo(dock)
