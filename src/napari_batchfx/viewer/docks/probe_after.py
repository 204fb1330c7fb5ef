"""Before and after: the same probe on normalised or corrected features, what it cost, and where it changed."""

from __future__ import annotations

import html
from functools import partial
from typing import TYPE_CHECKING

from qtpy.QtWidgets import QButtonGroup, QHBoxLayout, QSizePolicy, QWidget

from napari_batchfx.viewer.docks.common import RunRow, choice, fill, hint, tool_button
from napari_batchfx.viewer.docks.probe_numbers import paragraphs, text_label
from napari_batchfx.viewer.docks.probe_pages import ProbePage
from napari_batchfx.viewer.probe_overlay import probe_overlay_for

if TYPE_CHECKING:
    from napari_batchfx.study import ProbeOutcome
    from napari_batchfx.study.findings import AfterOutcome, ProbeAfter
    from napari_batchfx.viewer.docks.common import Dock

__all__ = ["AfterPage", "after_text"]

_VIEWS = (
    ("Before", "confidence", "The probe as it was run."),
    ("After", "after", "The same tiles and folds, other features."),
    ("Difference", "difference", "Confidence after less before: blue is less recognised."),
)


class AfterPage(ProbePage):
    """Compare with a stain method or a correction."""

    def __init__(self, dock: Dock) -> None:
        super().__init__(dock)
        self.outcome: ProbeOutcome | None = None
        self.found: ProbeAfter | None = None
        self.overlay = probe_overlay_for(self.session)
        self.after = choice()
        self.after.setMinimumContentsLength(5)
        self.after.setSizePolicy(QSizePolicy.Policy.Ignored, QSizePolicy.Policy.Fixed)
        self.after.setAccessibleName("Compare with")
        self.after.setToolTip(
            "Stain methods encode the same tiles again; corrections are fitted on the control samples of the Adapt dock."
        )
        self.row = RunRow(
            "Compare", "Run the same probe, with the same folds on the same tiles, on the other features."
        )
        self.buttons = {}
        self._group = QButtonGroup(self)
        self.views = QWidget()
        line = QHBoxLayout(self.views)
        line.setContentsMargins(0, 0, 0, 0)
        line.setSpacing(4)
        for name, what, tip in _VIEWS:
            button = tool_button(name, tip, partial(self._look, what), checkable=True)
            button.setStyleSheet("QPushButton { padding: 3px 6px; min-width: 0px; }")
            self._group.addButton(button)
            line.addWidget(button, 1)
            self.buttons[what] = button
        self.text = text_label("Before and after")
        for widget in (self.after, self.row, self.views, self.text):
            self.column.addWidget(widget)
        self.column.addWidget(
            hint("Less signature is only good where the classes are still told apart: read both lines.")
        )
        self.job = dock.make_job(self.row, self._on_done, lambda: self.row.set_running(self.job.is_running))
        self.row.run.connect(self.start)
        self.after.activated.connect(self._on_choice)
        self._show(None)

    def show_outcome(self, outcome: ProbeOutcome) -> None:
        """Another probe: what it was compared with last, if anything."""
        from napari_batchfx.study.findings import AfterOutcome
        from napari_batchfx.study.probe_after import choices_after

        fill(self.after, [(f"with {label}", name) for name, label in choices_after().items()])
        if outcome is not self.outcome:
            self.outcome = outcome
            self.job.cancel()
            kept = self.session.study.results.about(outcome, AfterOutcome)
            if kept is not None:
                self.after.setCurrentIndex(max(0, self.after.findData(kept.found.after)))
            self._take(kept)

    def start(self) -> None:
        """Compare."""
        if self.outcome is not None:
            job = self.session.study.probe_after_job(self.after.currentData(), self.outcome)
            self.job.start(job, "Before and after")
            self.row.set_running(True)

    def _on_choice(self, _index: int) -> None:
        """Another method: what was found with it before, if anything."""
        from napari_batchfx.study.findings import AfterOutcome

        if self.outcome is not None and not self.job.is_running:
            results = self.session.study.results
            self._take(results.about(self.outcome, AfterOutcome, after=self.after.currentData()))

    def _on_done(self, outcome: AfterOutcome) -> None:
        self._take(outcome)
        self._look("difference")
        self.session.results_changed.emit()

    def _take(self, outcome: AfterOutcome | None) -> None:
        """Show a finding, and have its maps ready; what is on the slides stays until another view is chosen."""
        from napari_batchfx.study.probe_after import after_maps

        self._show(None if outcome is None else outcome.found)
        if outcome is None:
            self.overlay.others = {}
            if self.overlay.what in ("after", "difference"):  # of another comparison
                self._look("confidence")
            return
        self.text.setText(self.stale(outcome) + self.text.text())
        self.overlay.others = after_maps(self.session.study, outcome.found)

    def _look(self, what: str) -> None:
        self.buttons[what].setChecked(True)
        self.overlay.what = what
        self.overlay.show()
        self.overlay.looked.emit(what)

    def _show(self, found: ProbeAfter | None) -> None:
        self.found = found
        self.views.setVisible(found is not None)
        self.text.setVisible(found is not None)
        self.text.setText("" if found is None else after_text(found))


def after_text(found: ProbeAfter) -> str:
    """Both numbers, the change with its interval, and what it cost in biology."""
    comparison = found.comparison
    blocks = [f"<b>{html.escape(comparison.sentence)}</b>"]
    for measure in comparison.measures:
        name = f"<b>{html.escape(measure.name)}</b>"
        if not measure.is_known:
            if measure is comparison.probe or comparison.retention.is_known:
                blocks.append(f"{name}: <i>{html.escape(measure.text())}</i>")
            continue
        text = f"{name}<br>{html.escape(measure.text())}<br>change {measure.change:+.2f}"
        if measure.change_interval is not None:
            low, high = measure.change_interval
            text += f" ({low:+.2f} to {high:+.2f})"
        blocks.append(text)
    if not comparison.retention.is_known:
        blocks.append("<b>What it cost in biology is not known</b>: draw regions of at least two classes.")
    if found.warnings:
        blocks.append("<b>Mind</b>" + "".join(f"<br>- {html.escape(text)}" for text in found.warnings))
    return paragraphs(blocks)
