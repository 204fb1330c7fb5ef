"""The part of the Slides dock that compares: how slides share the canvas, and laying them on each other."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from qtpy.QtWidgets import (
    QComboBox,
    QFileDialog,
    QGridLayout,
    QLabel,
    QPushButton,
    QSizePolicy,
    QWidget,
)

from napari_batchfx.errors import BatchfxError
from napari_batchfx.jobs import Job, Progress
from napari_batchfx.viewer import compare, regions
from napari_batchfx.viewer.docks.align_menu import align_menu
from napari_batchfx.viewer.docks.common import choice, fill, hint, tool_button
from napari_batchfx.viewer.landmarks import LEAST_PAIRS, Landmarks

if TYPE_CHECKING:
    from napari_batchfx.slides import Alignment
    from napari_batchfx.slides.alignment.result import Model
    from napari_batchfx.study import SlideEntry
    from napari_batchfx.viewer.docks.slides import SlidesDock
    from napari_batchfx.viewer.session import Session

__all__ = ["CompareBox"]

_MODES = [
    ("Overlay", "overlay"),
    ("Side by side", "grid"),
    ("Curtain", "curtain"),
    ("Checkerboard", "checkerboard"),
]


class CompareBox(QWidget):
    """Compare mode, its two slides, and alignment: automatic, by hand, from a file, taken back."""

    def __init__(self, dock: SlidesDock) -> None:
        super().__init__()
        self._dock = dock
        self._session = dock.session
        self.landmarks = Landmarks(self._session)
        self.landmarks.changed.connect(self._on_landmarks)
        self.mode = choice(list(_MODES))
        self.mode.setAccessibleName("Compare")
        self.mode.setToolTip(
            "Overlay (over each other), side by side (they pan and zoom together), a curtain whose edge you drag, or alternating squares."
        )
        self.mode.activated.connect(lambda *_: self.choose(self.mode.currentData()))
        self.front, self.behind = choice(), choice()
        self.front.setToolTip(
            "All slides that are visible, or two of them: this one is left of the edge, or in the first squares."
        )
        self.behind.setToolTip("The slide right of the edge, or in the other squares.")
        for box, name in ((self.front, "First slide"), (self.behind, "Second slide")):
            box.setAccessibleName(name)
            box.activated.connect(lambda *_: self.choose(self.mode.currentData()))
        self.turn = choice([("Upright edge", True), ("Level edge", False)])
        self.turn.setAccessibleName("Curtain")
        self.turn.setToolTip("Slides left and right of the edge, or above and below it.")
        self.turn.activated.connect(
            lambda *_: compare.comparison_of(self._session).set_across(self.turn.currentData())
        )
        self.square = choice(
            [
                ("Squares fit the view", None),
                ("50 µm", 50.0),
                ("100 µm", 100.0),
                ("250 µm", 250.0),
                ("1 mm", 1000.0),
            ]
        )
        self.square.setAccessibleName("Squares")
        self.square.setToolTip("Width of the checkerboard's squares.")
        self.square.activated.connect(lambda *_: compare.set_square(self._session, self.square.currentData()))
        self.align_button = QPushButton("Align")
        self.align_button.setAccessibleName("Align")
        self.align_button.setToolTip(
            "Lay rescans of the same tissue, or neighbouring sections, on the first slide of the table."
        )
        menu, self.undo, self.save = align_menu(self)
        self.align_button.setMenu(menu)
        self.model: Model = "similarity"
        self.done_button = tool_button(
            "Use these pairs", "Lay the slide on the other one.", self.finish_points
        )
        self.stop_button = tool_button("Cancel", "Stop; every slide stays where it is.", self.stop)
        self._points_line = hint("")
        layout = QGridLayout(self)
        layout.setContentsMargins(0, 0, 0, 0)
        label = QLabel("Compare")
        label.setBuddy(self.mode)
        layout.addWidget(label, 0, 0)
        layout.addWidget(self.mode, 0, 1)
        layout.addWidget(self.align_button, 0, 2)
        layout.addWidget(self.front, 1, 0, 1, 2)
        layout.addWidget(self.behind, 1, 2)
        layout.addWidget(self.turn, 2, 0, 1, 3)
        layout.addWidget(self.square, 3, 0, 1, 3)
        layout.addWidget(self._points_line, 4, 0, 1, 3)
        layout.addWidget(self.done_button, 5, 0, 1, 2)
        layout.addWidget(self.stop_button, 5, 2)
        layout.setColumnStretch(1, 1)
        layout.setColumnStretch(2, 1)
        widgets = (
            self.mode,
            self.align_button,
            self.front,
            self.behind,
            self.turn,
            self.square,
            self.done_button,
            self.stop_button,
        )
        for widget in widgets:
            widget.setSizePolicy(QSizePolicy.Policy.Ignored, QSizePolicy.Policy.Fixed)
        self._reference: SlideEntry | None = None  # what slides are being laid on
        self._job = self._session.new_job()
        self._job.succeeded.connect(self._on_aligned)
        self._job.failed.connect(dock.card.fail)
        self._job.progressed.connect(lambda progress: dock.card.say(progress.text()))
        self._job.cancelled.connect(lambda: dock.card.say("Alignment stopped; every slide is where it was."))
        self._job.ended.connect(self.refresh)
        self._check = self._session.new_job()
        self._check.succeeded.connect(self._on_checked)
        self._check.failed.connect(dock.card.fail)
        self._check.cancelled.connect(lambda: dock.card.say("Stopped; every slide is where it was."))
        self._check.ended.connect(self.refresh)

    # ------------------------------------------------------------------ comparing

    def choose(self, mode: str) -> None:
        """Show the slides in a compare mode: "overlay", "grid", "curtain" or "checkerboard"."""
        shown = {entry.name: entry for entry in self._session.shown_slides()}
        front, behind = shown.get(self.front.currentData()), shown.get(self.behind.currentData())
        if front is None or mode in ("overlay", "grid"):
            front = behind = None
        elif front is behind:
            behind = next((entry for entry in shown.values() if entry is not front), None)
        self._dock.guarded(lambda: compare.set_mode(self._session, mode, front=front, behind=behind))
        self.refresh()

    def refresh(self) -> None:
        """Follow the study and the canvas."""
        shown = self._session.shown_slides()
        several = len(shown) > 1
        self.setEnabled(several)
        mode = compare.mode_of(self._session)
        self.mode.setCurrentIndex(max(0, self.mode.findData(mode)))
        names: list[tuple[str, str | None]] = [(entry.name, entry.name) for entry in shown]
        _fill(self.front, [("All slides", None), *names])
        _fill(self.behind, [item for item in names if item[1] != self.front.currentData()])
        pairs = len(shown) > 2 and mode in ("curtain", "checkerboard")
        self.front.setVisible(pairs)
        self.behind.setVisible(pairs and self.front.currentData() is not None)
        self.turn.setVisible(several and mode == "curtain")
        self.square.setVisible(several and mode == "checkerboard")
        self.align_button.setEnabled(several and not self._job.is_running)
        self.undo.setEnabled(bool(self._undoable()))
        self.save.setEnabled(any(entry.alignment is not None for entry in self._targets()))
        self._on_landmarks()

    # ------------------------------------------------------------------ aligning

    def _targets(self) -> list[SlideEntry]:
        """The slides that would move: the selected ones, else all but the first shown."""
        shown = self._session.shown_slides()
        chosen = [entry for entry in self._dock.selected() if entry in shown[1:]]
        return chosen or shown[1:]

    def _undoable(self) -> list[SlideEntry]:
        """The slides that would go back: of those that would move, else (their reference left) of all shown."""
        return [entry for entry in self._targets() if entry.earlier_affines] or [
            entry for entry in self._session.shown_slides() if entry.earlier_affines
        ]

    @contextmanager
    def _moving(self) -> Iterator[None]:
        """Within, slides are laid elsewhere in the study; layers follow, and regions stay on their tissue."""
        regions.pull(self._session)
        self._session.holds_regions = True  # a layer that has not followed yet must not be read back
        try:
            yield
        finally:
            try:
                self._session.place_slides()
            finally:
                self._session.holds_regions = False

    def align(self) -> None:
        """Register the slides onto the first one, off the GUI thread."""
        shown = [entry for entry in self._session.shown_slides() if self._dock._box(entry) is not None]
        others = [entry for entry in self._targets() if entry in shown]
        if len(shown) < 2 or not others:
            return
        from napari_batchfx.study.alignment import align_job

        self._dock.card.say(f"Aligning {len(others)} slide(s) onto {shown[0].name} ...")
        self.align_button.setEnabled(False)
        self._reference = shown[0]
        job = align_job(self._session.study, shown[0], others, model=self.model, apply=False)
        self._job.start(job, "Aligning slides")
        self._on_landmarks()

    def stop(self) -> None:
        """Give up the pairs, and stop what aligns or measures."""
        self.landmarks.cancel()
        self._job.cancel()
        self._check.cancel()

    @property
    def is_aligning(self) -> bool:
        """Whether slides are being registered."""
        return self._job.is_running

    def start_points(self) -> None:
        """Ask for pairs of points on the first slide and on the one that moves, side by side."""
        shown = self._session.shown_slides()
        targets = self._targets()
        if len(shown) < 2 or not targets:
            return
        self.choose("grid")
        self.landmarks.start(shown[0], targets[0])

    def finish_points(self) -> None:
        """Lay the slide by the pairs clicked, and look what is left apart, off the GUI thread."""
        model = "affine" if self.model == "affine" else "similarity"
        reference, moving = self.landmarks.slides
        found = self._dock.guarded(lambda: self.landmarks.fit(model))
        if found is None:
            return
        self.landmarks.cancel()
        self._check.start(_checked_job(self._session, reference, moving, found), "Checking the alignment")
        self._on_landmarks()

    def ask_for_transform(self) -> None:
        """Choose a transform file for the slide that moves."""
        path, _ = QFileDialog.getOpenFileName(
            self, "Alignment from a file", "", "Transforms (*.txt *.json *.csv);;All files (*)"
        )
        if path:
            self.use_transform(Path(path))

    def use_transform(self, path: Path) -> None:
        """Lay the slide by a transform of elastix, VALIS or our own."""
        from napari_batchfx.slides import read_alignment

        shown, targets = self._session.shown_slides(), self._targets()
        if len(shown) < 2 or not targets:
            return
        reference, moving = shown[0], targets[0]
        study = self._session.study
        try:
            found = read_alignment(path, study.open_slide(reference), study.open_slide(moving))
        except BatchfxError as error:
            self._dock.card.fail(error)
            return
        self._check.start(_checked_job(self._session, reference, moving, found), "Checking the alignment")
        self._on_landmarks()

    @property
    def is_checking(self) -> bool:
        """Whether an alignment by hand or from a file is being measured."""
        return self._check.is_running

    def _on_checked(self, result: Any) -> None:
        """Lay the slide as told, and say what was measured."""
        from napari_batchfx.study.alignment import set_alignment

        reference, moving, found = result
        try:
            with self._moving():
                set_alignment(self._session.study, reference, moving, found)
        except BatchfxError as error:
            self._dock.card.fail(error)
            return
        good = found.verdict == "good"
        how = "by hand" if found.method == "points" else "as the file says"
        self._dock.card.say(
            f"{moving.name}: laid on {reference.name} {how}.",
            found.sentence(),
            kind="good" if good else "warn",
        )

    def ask_where_to_save(self) -> None:
        """Choose a file for the alignment of the slide that would move."""
        entry = next((entry for entry in self._targets() if entry.alignment is not None), None)
        if entry is None:
            return
        path, _ = QFileDialog.getSaveFileName(
            self, f"Save the alignment of {entry.name}", f"{entry.name}-alignment.json", "JSON (*.json)"
        )
        if path:
            self.save_alignment(entry, Path(path))

    def save_alignment(self, entry: SlideEntry, path: Path) -> None:
        """Write how a slide lies on its reference, for *From a file* and other programs."""
        from napari_batchfx.slides import write_alignment
        from napari_batchfx.study.alignment import alignment_of

        if self._dock.guarded(lambda: write_alignment(path, alignment_of(self._session.study, entry))):
            self._dock.card.say(
                f"Written: {path.name}.", "It takes the slide's micrometres to the reference's."
            )

    def take_back(self) -> None:
        """Undo the last alignment of the slides that would move."""
        from napari_batchfx.study.alignment import undo_alignments

        with self._moving():
            undone, refused = undo_alignments(self._session.study, self._undoable())
        if undone:
            names = ", ".join(entry.name for entry in undone)
            kept = "\n".join(str(error) for error in refused)
            self._dock.card.say(f"Taken back: {names}.", kept, kind="warn" if kept else "info")
        elif refused:
            self._dock.card.fail(refused[0])

    def _on_aligned(self, alignments: dict[str, Alignment]) -> None:
        """Lay all slides that were found, at once, and say how well."""
        from napari_batchfx.study.alignment import set_alignment

        study, reference = self._session.study, self._reference
        if reference is None:
            return
        try:
            with self._moving():
                for name, alignment in alignments.items():
                    if alignment.verdict != "failed":
                        set_alignment(study, reference, name, alignment)
        except BatchfxError as error:
            self._dock.card.fail(error)
            return
        lines, verdicts = [], set()
        for name, alignment in alignments.items():
            verdicts.add(alignment.verdict)
            lines.append(f"{name}: {alignment.sentence()}")
        if verdicts == {"good"}:
            headline, kind = "Aligned.", "good"
        elif verdicts == {"failed"}:
            headline, kind = "Not aligned; no slide was moved.", "warn"
        else:
            headline, kind = (
                "Look at the alignment before you rely on it; Align > Take back undoes it.",
                "warn",
            )
        self._dock.card.say(headline, "\n".join(lines), kind=kind)

    def _on_landmarks(self) -> None:
        active = self.landmarks.is_active
        for widget in (self._points_line, self.done_button):
            widget.setVisible(active)
        self.stop_button.setVisible(active or self.is_aligning or self.is_checking)
        self._points_line.setText(self.landmarks.sentence())
        self.done_button.setEnabled(self.landmarks.n_pairs >= LEAST_PAIRS)


def _fill(box: QComboBox, items: list[tuple[str, str | None]]) -> None:
    """Replace the items; what was chosen stays where it is still there, else the first is."""
    fill(box, items)
    if box.currentIndex() < 0 and items:
        box.setCurrentIndex(0)


def _checked_job(session: Session, reference: SlideEntry, moving: SlideEntry, found: Alignment) -> Job[Any]:
    """Measure an alignment that was made by hand or comes from a file."""
    from napari_batchfx.slides import check_alignment

    yield Progress(0, 1, f"checking how {moving.name} lies on {reference.name}", "steps")
    study = session.study
    checked = check_alignment(study.open_slide(reference), study.open_slide(moving), found)
    return reference, moving, checked
