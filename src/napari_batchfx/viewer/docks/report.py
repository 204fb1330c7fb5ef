"""Report dock: save and open the study, write the report."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from qtpy.QtWidgets import QCheckBox, QFileDialog, QGridLayout, QLabel, QWidget

from napari_batchfx.jobs import Job, Progress
from napari_batchfx.study.recovery import unsaved_studies
from napari_batchfx.viewer import regions
from napari_batchfx.viewer.docks.common import Dock, More, RunRow, hint, tool_button
from napari_batchfx.viewer.docks.export_box import ExportBox, open_place

if TYPE_CHECKING:
    import napari

__all__ = ["ReportDock"]

_SAVED = "Saved every few seconds. The same study runs without a window: napari-batchfx run NAME.batchfx"
_NOT_SAVED = "Nothing is saved here while another program has the study open: save a copy to go on with that."


class ReportDock(Dock):
    """Keep the work as a study that reopens with the same numbers, and as one HTML file."""

    title = "report"

    def __init__(self, napari_viewer: napari.Viewer | None = None) -> None:
        super().__init__(napari_viewer)
        buttons = QWidget()
        grid = QGridLayout(buttons)
        grid.setContentsMargins(0, 0, 0, 0)
        self.save_button = tool_button(
            "Save study", "Keep slides, regions, features and results in one folder.", self.ask_save
        )
        self.open_button = tool_button("Open study ...", "Go on with a study saved before.", self.ask_open)
        grid.addWidget(self.save_button, 0, 0)
        grid.addWidget(self.open_button, 0, 1)
        self.contents = QLabel()
        self.contents.setWordWrap(True)
        self.identifiers = QCheckBox("Include names of slides and patients")
        self.identifiers.setToolTip("Without it slides are numbered, in the report and in exported files.")
        self.row = RunRow(
            "Write report ...", "One HTML file that opens in any browser, with numbers, pictures and methods."
        )
        self.export = More("Export for other programs")
        self.saving = hint(_SAVED)
        self.export_box = ExportBox(self, self.identifiers.isChecked)
        self.export.form.addRow(self.export_box)
        self.add(
            buttons,
            self.contents,
            self.identifiers,
            self.row,
            self.export,
            self.saving,
        )
        self.finish()
        self.job = self.make_job(
            self.row, self._on_written, self.refresh, stopped="Stopped; no report was written."
        )
        self.row.run.connect(self.ask_report)
        for signal in (
            self.session.slides_changed,
            self.session.results_changed,
            self.session.features_changed,
        ):
            signal.connect(lambda *_: self.refresh())
        self.refresh()
        self._say_study()
        self.session.study_changed.connect(self._say_study)

    def ask_save(self) -> None:
        """Save where the study lives; ask for a place the first time, and where another program has it open."""
        study = self.session.study
        is_busy = not study.is_temporary and bool(study.read_only_because)
        if not study.is_temporary and not is_busy:
            self.save_to(study.folder)
            return
        name = f"{study.name} (copy)" if is_busy else study.name
        path, _ = QFileDialog.getSaveFileName(
            self, "Save study", f"{name}.batchfx", "Batchfx study (*.batchfx)"
        )
        if path:
            self.save_to(Path(path))

    def save_to(self, path: Path) -> None:
        """Save the study, with the regions as drawn now."""

        def save() -> Path:
            regions.pull(self.session)
            return self.session.study.save_as(path)

        folder = self.guarded(save)
        if folder is not None:
            self._show_rights("")
            self.card.say(f"Saved as {folder.name}.", kind="good")
            self.refresh()

    def ask_open(self) -> None:
        """Choose a study's folder and open it."""
        path = QFileDialog.getExistingDirectory(self, "Open study (a folder ending in .batchfx)")
        if path:
            self.open_from(Path(path))

    def open_from(self, path: Path) -> None:
        """Open a study; what can't be found is named, the rest opens."""
        from napari_batchfx.study import Study

        study = self.guarded(lambda: Study.open(path))
        if study is not None:
            self.session.replace_study(study)
            problems = study.problems
            if study.read_only_because:
                return  # said already
            self.card.say(
                f"{study.name} opened, {len(study.slides)} slides.",
                "\n".join(str(problem) for problem in problems),
                kind="warn" if problems else "good",
            )

    def ask_report(self) -> None:
        """Ask where the report goes and write it."""
        path, _ = QFileDialog.getSaveFileName(
            self, "Write report", f"{self.session.study.name}.html", "HTML (*.html)"
        )
        if path:
            self.write_to(Path(path))

    def write_to(self, path: Path) -> None:
        """Write the report off the GUI thread."""
        regions.pull(self.session)
        study, named = self.session.study, self.identifiers.isChecked()

        def job() -> Job[Path]:
            yield Progress(0, 0, "writing the report", "steps")
            return study.report(path, with_identifiers=named)

        self.job.start(job(), "Writing the report")
        self.row.set_running(True)

    def refresh(self) -> None:
        """Say what the report would hold."""
        study = self.session.study
        self.row.set_running(self.job.is_running)
        self.row.allow(bool(study.slides), "Open a slide first.")
        self.export_box.refresh()
        parts = [f"{len(study.slides)} {'slide' if len(study.slides) == 1 else 'slides'}"]
        parts.append("site probe" if study.results.probe else "no site probe yet")
        parts.append("adaptation" if study.results.adapt else "no adaptation yet")
        self.contents.setText("In the report: " + ", ".join(parts) + ".")

    def _say_study(self) -> None:
        study = self.session.study
        why = "" if study.is_temporary else study.read_only_because
        self._show_rights(why)
        if why:
            self.card.say(f"{study.name} can be looked at, not changed.", why, kind="warn")
        elif study.is_temporary and not study.slides and (left := unsaved_studies()):
            self.card.say(
                f"There is work that was never saved: {left[0].sentence()}.",
                "It is thrown away two weeks after its last change.",
                links={"Take it back": f"recover:{left[0].folder}"},
                kind="warn",
            )
        elif study.is_temporary:
            self.card.say(
                "The study is not saved yet.",
                "Features and results are lost when napari closes; after a crash they are offered again.",
                kind="warn" if study.slides else "info",
            )
        else:
            self.card.say(f"{study.name}", f"in {study.folder.name}", kind="good")

    def _show_rights(self, read_only_because: str) -> None:
        """A study that another program has open is saved under another name, or not at all."""
        self.save_button.setText("Save a copy ..." if read_only_because else "Save study")
        self.saving.setText(_NOT_SAVED if read_only_because else _SAVED)

    def _on_written(self, path: Path) -> None:
        self.copy_row.refresh()
        self.card.say(f"Report written: {path.name}.", links={"Open it": f"file:{path}"}, kind="good")

    def take_back(self, folder: Path) -> None:
        """Go on with work that was never saved; it is still without a name."""
        self.open_from(folder)
        study = self.session.study
        if study.folder == folder:
            study.is_temporary = True
            self._say_study()

    def _follow(self, target: str) -> None:
        if target.startswith("recover:"):
            self.take_back(Path(target.removeprefix("recover:")))
        elif not open_place(target):
            super()._follow(target)
