"""Adapt dock, in four steps: labels, control samples, method, and predictions before and after."""

from __future__ import annotations

from threading import Event
from typing import TYPE_CHECKING, Any

from qtpy.QtWidgets import QFileDialog

from napari_batchfx.adapt.heads.job import HeadResult
from napari_batchfx.adapt.heads.offered import OFFERED_HEADS
from napari_batchfx.adapt.heads.settings import TrainingPoint
from napari_batchfx.study.steps import has_controls
from napari_batchfx.viewer import regions
from napari_batchfx.viewer.docks.adapt_compare import ComparePart
from napari_batchfx.viewer.docks.adapt_controls import ControlsPart
from napari_batchfx.viewer.docks.adapt_labels import LabelsPart
from napari_batchfx.viewer.docks.adapt_method import MethodPart
from napari_batchfx.viewer.docks.common import Dock, hint

if TYPE_CHECKING:
    import napari

    from napari_batchfx.jobs import Progress

__all__ = ["AdaptDock"]


_HEADS = "Classifiers (*.safetensors)"


class AdaptDock(Dock):
    """Draw classes and controls, train, and compare predictions before and after the correction."""

    title = "adapt"

    def __init__(self, napari_viewer: napari.Viewer | None = None) -> None:
        super().__init__(napari_viewer)
        self.labels = LabelsPart(self)
        self.controls = ControlsPart(self)
        self.choices = MethodPart(self)
        self.compare = ComparePart(self)
        self.add(
            self.labels,
            self.controls,
            self.choices,
            self.compare,
            hint(
                "Predictions are research output, not a diagnosis. A change is no proof of improvement: look at the accuracy where you have labels, and at what it cost."
            ),
        )
        self.finish()
        # What scripts and the demo work with.
        self.slide, self.class_name = self.labels.slide, self.labels.class_name
        self.draw, self.copy, self.take_over = self.labels.draw, self.labels.copy, self.labels.take_over
        self.draw_button, self.copy_button = self.labels.draw_button, self.labels.copy_button
        self.table = self.compare.table
        self.batch, self.train_on = self.choices.batch, self.choices.train_on
        self.method, self.row = self.choices.method, self.choices.row
        self.views, self.show_view, self.paint = (
            self.compare.views,
            self.compare.show_view,
            self.compare.paint,
        )

        self.job = self.make_job(self.row, self._on_done, self._refresh_buttons)
        # while a head trains, Cancel ends the training and goes on with the best so far
        self.row.cancel.disconnect(self.job.cancel)
        self.row.cancel.connect(self.cancel)
        self.job.progressed.connect(self._on_progress)
        self.job.failed.connect(lambda *_: self.compare.forget_last())
        self.job.cancelled.connect(self.compare.forget_last)
        self._enough, self._is_training, self._is_every = Event(), False, False
        self.row.run.connect(self.start)
        self.choices.all_button.clicked.connect(lambda *_: self.start(every=True))
        self.choices.load_button.clicked.connect(lambda *_: self.ask_load())
        self.choices.save_button.clicked.connect(lambda *_: self.ask_save())
        self.choices.head.activated.connect(lambda *_: self.refresh())
        self.batch.activated.connect(lambda *_: self.refresh())
        self.method.activated.connect(lambda *_: self.refresh())
        for signal in (
            self.session.slides_changed,
            self.session.regions_changed,
            self.session.features_changed,
            self.session.layers_changed,
        ):
            signal.connect(lambda *_: self.refresh())
        self.session.study_changed.connect(self._on_study)
        self._on_study()

    def start(self, *, every: bool = False) -> None:
        """Train, correct and compare; with every method there is, if asked."""
        self.pull()
        self.choices.write()
        self._enough = Event()
        study = self.session.study
        job: Any = (
            study.adapt_all_job(heads=list(OFFERED_HEADS))
            if every
            else study.adapt_job(enough=self._enough.is_set)
        )
        self._run(job, every=every)

    def ask_load(self) -> None:
        """Ask for a classifier, and apply it."""
        path, _ = QFileDialog.getOpenFileName(self, "Load a classifier", "", _HEADS)
        if path:
            self.load(path)

    def load(self, path: str) -> None:
        """Apply a classifier that was trained before to the slides that are encoded."""
        self.pull()
        settings = self.session.study.settings.adapt
        settings.batch = self.batch.currentData()
        self._run(self.session.study.apply_head_job(path))

    def ask_save(self) -> None:
        """Ask where, and save the classifier of the last run."""
        path, _ = QFileDialog.getSaveFileName(self, "Save the classifier", "head.safetensors", _HEADS)
        if path:
            self.save(path)

    def save(self, path: str) -> None:
        """Save the classifier of the last run."""
        outcome = self.session.study.results.adapt
        if outcome is not None and isinstance(outcome.result, HeadResult):
            head = outcome.result.head
            saved = self.guarded(lambda: head.save(path))
            if saved is not None:
                self.card.say(f"The classifier is in {saved.name}.", "No pixels, no names of slides.")

    def _run(self, job: Any, *, every: bool = False) -> None:
        self.compare.allow()
        self.compare.remember()
        self.choices.losses.clear()
        self.choices.losses.hide()
        self.job.start(job, "Adapting")
        self._is_training, self._is_every = False, every
        self.row.set_running(True)
        self.choices.all_button.setEnabled(False)

    def cancel(self) -> None:
        """Stop; a head that is training keeps the best so far, and that is gone on with."""
        if self._is_training and not self._enough.is_set():
            self._enough.set()
            self.row.line.setText("Ending the training with the best so far ...")
        else:
            self.job.cancel()

    def _on_progress(self, progress: Progress) -> None:
        point, plot = progress.partial, self.choices.losses
        if isinstance(point, TrainingPoint):
            if plot.points and point.step <= plot.points[-1].step:
                plot.clear()  # the next one trains
            plot.add_point(point)
            plot.show()
        is_one = bool(plot.points) and not self._is_every
        self._is_training = is_one and progress.what == "training the classifier"

    def pull(self) -> None:
        """Take the regions drawn so far into the study."""
        regions.pull(self.session)

    def refresh(self) -> None:
        """Say what is missing and count what is drawn."""
        self.labels.refresh()
        self.choices.refresh()
        self._refresh_buttons()
        if self.job.is_running:
            return
        self.labels.count()
        self.controls.refresh()
        if self.controls.suggest_job.is_running or self.controls.judge_job.is_running:
            return
        missing = self._missing()
        outcome = self.session.study.results.adapt
        if outcome is not None:
            self._say_result(outcome)
        elif missing:
            self.card.say(*missing[:1], links=missing[1])
        else:
            self.card.say("Ready: train and adapt.")

    def _missing(self) -> tuple[str, dict[str, str]] | None:
        study = self.session.study
        if len(study.slides) < 2:
            return "Adapting needs at least two slides.", {"Open Slides": "dock:slides"}
        if len({self.choices.value(entry) for entry in study.slides} - {""}) < 2:
            return f"Give the slides different values of {self.batch.currentText()}.", {
                "Open Slides": "dock:slides"
            }
        store = self.guarded(study.store)
        if store is None or not store.holds_any():
            return "No tiles are encoded yet.", {"Open Encode": "dock:encode"}
        if len(regions.class_names(self.session)) < 2:
            return "Draw regions of at least two classes on the slide the model learns from.", {}
        if self.choices.needs_controls and not has_controls(study):
            return (
                "Suggest control samples, or draw control regions on every slide: ordinary tissue of the same kind on each.",
                {},
            )
        return None

    def _refresh_buttons(self) -> None:
        self.row.set_running(self.job.is_running)
        missing = self._missing()
        self.row.allow(missing is None, missing[0] if missing else "")
        self.choices.all_button.setEnabled(missing is None and not self.job.is_running)
        outcome = self.session.study.results.adapt
        can_save = outcome is not None and isinstance(outcome.result, HeadResult)
        self.choices.save_button.setEnabled(can_save and not self.job.is_running)
        self.choices.load_button.setEnabled(bool(self.session.study.slides) and not self.job.is_running)
        self.compare.refresh()

    def _on_done(self, outcome: Any) -> None:
        if isinstance(outcome, list):
            outcome = outcome[-1]
        self._say_result(outcome)
        self.paint()
        self.compare.turn("after")
        self.session.results_changed.emit()

    def _say_result(self, outcome: Any) -> None:
        headline, _, rest = outcome.sentence.partition(". ")
        judged = outcome.numbers.get("judgements") or {}
        if judged:  # whether the slide looks like the training comes before what is said of it
            rest = f"{headline.rstrip('.')}. {rest}".strip()
            headline = " ".join(f"{name}: {one['sentence']}" for name, one in judged.items())
        diagnostics = outcome.numbers["diagnostics"]
        verdict = str(diagnostics["verdict"])
        reasons = diagnostics.get("reasons") or []
        # Why the controls are judged so stands in the table below; once is enough.
        said = [*reasons, *(one["sentence"] for one in judged.values())]
        warnings = [text for text in outcome.warnings if not any(one in text for one in said)]
        if any(one["is_unlike"] for one in judged.values()):
            warnings.append("Unlike all that the classifier learned from: predictions may have shifted.")
        lines = [rest, f"The control samples are {verdict}; why is said below.", *warnings]
        good = verdict == "usable" and not warnings
        self.card.say(
            headline.rstrip(".") + ".",
            "\n".join(line for line in lines if line),
            kind="good" if good else "warn",
        )
        self.compare.show_outcome(outcome)

    def _on_study(self) -> None:
        self.choices.read()
        self.compare.clear()
        self.controls.reset()
        self.refresh()
        self.paint()
        self.controls.paint()
