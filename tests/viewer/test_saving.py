"""A window saves by itself, a second one is told, many slides open, and the last step is copied."""

from __future__ import annotations

import shlex

from qtpy.QtGui import QGuiApplication
from typer.testing import CliRunner

from napari_batchfx.cli import app
from napari_batchfx.study import Study
from napari_batchfx.viewer.docks.probe import ProbeDock
from napari_batchfx.viewer.docks.report import ReportDock
from napari_batchfx.viewer.session import MANY, session_for
from study.conftest import set_up, slide_files, slides  # noqa: F401


def test_the_window_saves_what_changes(make_napari_viewer, slides, tmp_path, qtbot):  # noqa: F811
    with set_up(tmp_path / "s", slides) as study:
        study.run()
        study.save()
    viewer = make_napari_viewer()
    dock, probe = ReportDock(viewer), ProbeDock(viewer)
    qtbot.addWidget(dock)
    qtbot.addWidget(probe)
    dock.open_from(study.folder)
    session = session_for(viewer)
    assert session.study.read_only_because == ""
    # another program, meanwhile
    said = CliRunner().invoke(app, ["run", str(study.folder)])
    assert said.exit_code == 4
    session.update_slide(session.study.slides[0], site="AMC")
    session.saver.save_soon()
    qtbot.waitUntil(lambda: '"site": "AMC"' in (study.folder / "study.json").read_text(), timeout=10_000)
    # the last step as a command
    assert probe.copy_row.command.isEnabled()
    probe.copy_row.command.click()
    words = shlex.split(QGuiApplication.clipboard().text())
    assert words[:3] == ["napari-batchfx", "run", str(study.folder)]
    assert "probe" in words
    assert "Copied: Site probe" in probe.card.text
    probe.copy_row.python.click()
    compile(QGuiApplication.clipboard().text(), "step", "exec")
    # closing keeps the last change, and gives the lock back
    session.update_slide(session.study.slides[0], site="UMC")
    session.close()
    with Study.open(study.folder) as again:
        assert again.slides[0].site == "UMC"
        again.save()


def test_a_second_window_is_told(make_napari_viewer, slides, tmp_path, qtbot):  # noqa: F811
    with set_up(tmp_path / "s", slides) as first:
        first.save()
        viewer = make_napari_viewer()
        dock = ReportDock(viewer)
        qtbot.addWidget(dock)
        dock.open_from(first.folder)
        assert dock.card.kind == "warn"
        assert "can be looked at, not changed" in dock.card.text
        assert "has it open" in dock.card.text
        assert dock.save_button.text() == "Save a copy ..."
        assert "Nothing is saved here" in dock.saving.text()
        before = (first.folder / "study.json").read_bytes()
        session = session_for(viewer)
        session.update_slide(session.study.slides[0], site="elsewhere")
        session.saver.save_soon()
        dock.save_to(tmp_path / "copy")
        assert dock.card.text.startswith("Saved as copy.batchfx.")
        assert dock.save_button.text() == "Save study"
        session.close()
        assert (first.folder / "study.json").read_bytes() == before


def test_of_many_slides_a_few_are_shown_and_no_others_opened(make_napari_viewer, slides, tmp_path, qtbot):  # noqa: F811
    with set_up(tmp_path / "s", {}, labels=False) as study:
        for number in range(MANY + 2):
            path = tmp_path / f"c{number}.tif"
            path.write_bytes(slides["A-1"].read_bytes() + bytes([number]))
            study.tidy(study.add_slide(path))
        study.save()
    viewer = make_napari_viewer()
    from napari_batchfx.viewer.docks.slides import SlidesDock

    dock = SlidesDock(viewer)
    qtbot.addWidget(dock)
    session = session_for(viewer)
    session.replace_study(Study.open(study.folder))
    assert dock.table.rowCount() == MANY + 2
    assert len(session.shown_slides()) == 4
    assert len(session.study._open_slides) == 4
    dock.table.selectRow(MANY)
    dock.show_selected()
    assert len(session.shown_slides()) == 5


def test_work_that_was_never_saved_is_offered_again(make_napari_viewer, slides, tmp_path, qtbot, monkeypatch):  # noqa: F811
    monkeypatch.setenv("BATCHFX_CACHE", str(tmp_path / "cache"))
    folder = tmp_path / "cache" / "unsaved" / "study-1.batchfx"
    with set_up(folder, slides) as study:  # as a window leaves it that was killed
        study.save()
    viewer = make_napari_viewer()
    dock = ReportDock(viewer)
    qtbot.addWidget(dock)
    assert "never saved: 4 slides" in dock.card.text
    dock.card._on_link(f"recover:{folder}")
    session = session_for(viewer)
    assert [entry.name for entry in session.study.slides] == [path.stem for path in slides.values()]
    assert session.study.is_temporary
    assert "not saved yet" in dock.card.text
    dock.save_to(tmp_path / "kept.batchfx")
    assert not folder.exists()
    assert len(session.study.slides) == 4
    session.close()
    assert (tmp_path / "kept.batchfx" / "study.json").is_file()
