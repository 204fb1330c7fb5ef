"""Part of the Slides dock: slides from a table (CSV), in the background; wrong rows are listed and stay so until seen."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

from qtpy.QtWidgets import QFileDialog, QPushButton

from napari_batchfx.errors import BatchfxError
from napari_batchfx.viewer.docks.common import Dock, tool_button

if TYPE_CHECKING:
    from napari_batchfx.jobs import Progress
    from napari_batchfx.study import SheetOutcome

__all__ = ["SEEN", "SheetAdding", "is_sheet"]

SEEN = "slides:seen"
_SHOWN_ROWS = 12
_FILTER = "Tables of slides (*.csv *.tsv);;All files (*)"


def is_sheet(path: Path) -> bool:
    """Whether a file is a list of slides and no slide."""
    return path.suffix.lower() in (".csv", ".tsv")


class SheetAdding:
    """Adds the slides of a CSV to the study, and says which rows it had to leave out.

    Parameters
    ----------
    dock : Dock
        The dock it is in: its card says what came of it.
    refresh : callable
        Called when it begins and ends.
    """

    def __init__(self, dock: Dock, refresh: Callable[[], None]) -> None:
        self._dock, self._refresh = dock, refresh
        self._path = Path()
        self._before: set[str] = set()
        #: What stays on the card until it is seen: headline, details, kind.
        self.said: tuple[str, str, str] | None = None
        self.stop_button: QPushButton = tool_button(
            "Stop adding", "Add no more slides of the table; those that were added stay.", self.stop
        )
        self.stop_button.hide()
        self.job = dock.session.new_job()
        self.job.progressed.connect(self._on_progress)
        self.job.succeeded.connect(self._on_added)
        self.job.failed.connect(self._on_failed)
        self.job.cancelled.connect(self._on_cancelled)

    def ask(self) -> None:
        """Choose a table and add its slides."""
        path, _ = QFileDialog.getOpenFileName(self._dock, "Add the slides of a table", "", _FILTER)
        if path:
            self.add(Path(path))

    def add(self, path: Path) -> None:
        """Add the slides of a table; a column ``path``, others as in the documentation."""
        from napari_batchfx.study import add_sheet_job

        study = self._dock.session.study
        self._path, self.said = path, None
        self._before = {entry.fingerprint for entry in study.slides}
        self.job.start(add_sheet_job(study, path), f"Adding the slides of {path.name}")
        self._dock.card.say(f"Reading {path.name} ...")
        self.stop_button.show()

    def stop(self) -> None:
        """Add no more."""
        self.job.cancel()

    def seen(self) -> None:
        """The rows that were left out have been read."""
        self.said = None
        self._refresh()

    def show(self) -> None:
        """Put what is to be seen onto the card."""
        if self.said is not None:
            headline, details, kind = self.said
            self._dock.card.say(headline, details, kind=kind, links={"Seen": SEEN})

    # ------------------------------------------------------------------ what the job says

    def _on_progress(self, progress: Progress) -> None:
        self._dock.card.say(progress.text())

    def _on_added(self, outcome: SheetOutcome) -> None:
        n, known, wrong = len(outcome.added), len(outcome.known), outcome.problems
        parts = [f"{_slides(n)} added"] if n or not known else []
        parts += [f"{_slides(known)} there already"] if known else []
        headline = f"{self._path.name}: {', '.join(parts)}."
        if wrong:
            rows = "1 row was left out" if len(wrong) == 1 else f"{len(wrong):,} rows were left out"
            lines = [str(problem) for problem in wrong[:_SHOWN_ROWS]]
            if len(wrong) > _SHOWN_ROWS:
                lines.append(
                    f"and {len(wrong) - _SHOWN_ROWS:,} more; correct these first, and add the table again."
                )
            self.said = (f"{headline} {rows}:", "\n".join(lines), "warn" if n or known else "error")
        else:
            self.said = (headline, "", "good")
        self._end()

    def _on_failed(self, error: BaseException) -> None:
        self._end()
        self._dock.card.fail(error)

    def _on_cancelled(self) -> None:
        n = sum(entry.fingerprint not in self._before for entry in self._dock.session.study.slides)
        self.said = (f"Stopped; {_slides(n)} of {self._path.name} added.", "", "info")
        self._end()

    def _end(self) -> None:
        from napari_batchfx.viewer.session import MANY, SHOWN_OF_MANY

        self.stop_button.hide()
        session = self._dock.session
        if session.is_closed:
            return
        new = [entry for entry in session.study.slides if entry.fingerprint not in self._before]
        room = MANY if len(session.study.slides) <= MANY else SHOWN_OF_MANY - len(session.shown_slides())
        blocked = session.blockSignals(True)  # the docks hear of all of them at once
        try:
            for entry in new[: max(0, room)]:
                try:
                    session.show_slide(entry)
                except (BatchfxError, OSError) as error:
                    session.study.report_problem(entry.name, error)
        finally:
            session.blockSignals(blocked)
        session.slides_changed.emit()


def _slides(n: int) -> str:
    return f"{n:,} slide" + ("" if n == 1 else "s")
