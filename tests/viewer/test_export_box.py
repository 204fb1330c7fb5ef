"""The Report dock writes files for other programs, from a click to the card."""

from __future__ import annotations

import json

from qtpy.QtCore import QPoint, Qt

from .conftest import tissue


def test_encode_tick_export(bench, make_slide, wait, qtbot, tmp_path, monkeypatch):
    slides, report = (bench.docks[key] for key in ("slides", "report"))
    box = report.export_box
    assert not box.row.button.isEnabled()
    assert "Encode tiles first" in box.row.button.toolTip()

    study = report.session.study
    slides.add_paths([make_slide("Meier.tif", tissue(512, 768))])
    wait(lambda: len(study.slides) == 1)
    study.settings.encode.size_px, study.settings.encode.mpp = 128, 0.5
    study.run()
    report.session.features_changed.emit(study.slides[0].fingerprint)
    assert box.row.button.isEnabled()

    report.export.expand()
    for kind in ("csv", "h5ad"):
        qtbot.mouseClick(
            box.boxes[kind], Qt.MouseButton.LeftButton, pos=QPoint(8, box.boxes[kind].height() // 2)
        )
    assert box.kinds == ["geojson"]
    folder = tmp_path / "for-qupath"
    monkeypatch.setattr(
        "napari_batchfx.viewer.docks.export_box.QFileDialog.getExistingDirectory", lambda *_: str(folder)
    )
    qtbot.mouseClick(box.row.button, Qt.MouseButton.LeftButton)
    wait(lambda: "Exported 2 files" in report.card.text)
    assert {path.name for path in folder.iterdir()} == {"slide-1.geojson", "export.json"}
    assert len(json.loads((folder / "slide-1.geojson").read_text())["features"]) == 24
    assert "slide-1 is Meier" in report.card.text

    for kind in box.boxes:
        box.boxes[kind].setChecked(False)
    assert not box.row.button.isEnabled()
