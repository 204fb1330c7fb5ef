"""Robustness metrics of the features, each with what it rests on and the biology beside it."""

from __future__ import annotations

import html
from typing import TYPE_CHECKING

import numpy as np

from napari_batchfx.probe.metrics.shown import SHOWN
from napari_batchfx.viewer.docks.common import RunRow, hint
from napari_batchfx.viewer.docks.probe_numbers import paragraphs, text_label
from napari_batchfx.viewer.docks.probe_pages import ProbePage
from napari_batchfx.viewer.texts import accuracy

if TYPE_CHECKING:
    from napari_batchfx.probe.metrics import MetricResult
    from napari_batchfx.study import ProbeOutcome
    from napari_batchfx.study.findings import RobustnessOutcome
    from napari_batchfx.viewer.docks.common import Dock

__all__ = ["RobustnessPage", "robustness_text"]


class RobustnessPage(ProbePage):
    """Measured when it is asked for: it searches the neighbours of every tile."""

    def __init__(self, dock: Dock) -> None:
        super().__init__(dock)
        self.outcome: ProbeOutcome | None = None
        self.found: dict[str, MetricResult] = {}
        self.row = RunRow(
            "Measure", "Search the neighbours of every tile and measure how batch and class lie in them."
        )
        self.text = text_label("Robustness metrics")
        self.column.addWidget(self.row)
        self.column.addWidget(self.text)
        self.column.addWidget(
            hint("Features that are all alike mix perfectly: read every number beside the class by vote.")
        )
        self.job = dock.make_job(self.row, self._on_done, lambda: self.row.set_running(self.job.is_running))
        self.row.run.connect(self.start)

    def show_outcome(self, outcome: ProbeOutcome) -> None:
        """Another probe: what was measured for it before, if anything."""
        from napari_batchfx.study.findings import RobustnessOutcome

        if outcome is not self.outcome:
            self.outcome = outcome
            self.job.cancel()
            self._show(self.session.study.results.about(outcome, RobustnessOutcome))

    def start(self) -> None:
        """Measure."""
        if self.outcome is not None:
            self.job.start(self.session.study.robustness_job(self.outcome), "Robustness")
            self.row.set_running(True)

    def _on_done(self, outcome: RobustnessOutcome) -> None:
        self._show(outcome)
        self.session.results_changed.emit()

    def _show(self, outcome: RobustnessOutcome | None) -> None:
        self.found = {} if outcome is None else outcome.metrics
        self.text.setText("" if outcome is None else self.stale(outcome) + robustness_text(self.found))
        self.text.setVisible(outcome is not None)


def robustness_text(found: dict[str, MetricResult]) -> str:
    """Every metric with interval, scale and support, then what to mind."""
    kept = found.get("class_retention")
    blocks, warnings = [], []
    if kept is not None and np.isfinite(kept.value):
        chance = kept.support.get("chance")
        beside = "" if chance is None else f"; guessing {chance:.3g}"
        blocks.append(f"<b>Biology: class by vote {accuracy(kept.value, kept.interval)}</b>{beside}")
    else:
        blocks.append(
            "<b>Biology is not known</b>: no tile has a class. Draw regions of at least two classes."
        )
    for name, (title, scale, about) in SHOWN.items():
        one = found.get(name)
        if one is None or name == "class_retention":
            continue
        if np.isfinite(one.value):
            line = f"{title} <b>{accuracy(one.value, one.interval)}</b> <i>({scale})</i>"
            rests = _support(one)
            blocks.append(line + f"<br><span style='font-size:small'>{html.escape(about)}{rests}</span>")
        else:
            blocks.append(f"{title}: <i>{html.escape(one.reason or 'not defined here')}</i>")
        warnings += [text for text in one.warnings if text != one.reason]
    minds = "".join(f"<br>- {html.escape(text)}" for text in dict.fromkeys(warnings))
    return paragraphs([*blocks, f"<b>Mind</b>{minds}"] if minds else blocks)


def _support(one: MetricResult) -> str:
    """What a number rests on, where it says so."""
    said = []
    for key, text in (
        ("tiles", "{:,} tiles"),
        ("n", "{:,} tiles"),
        ("k", "k = {}"),
        ("groups", "{:,} slides"),
    ):
        value = one.support.get(key)
        if key == "groups" and value == one.support.get("tiles", one.support.get("n")):
            continue  # every tile by itself
        if isinstance(value, (int, np.integer)) and not (key == "n" and "tiles" in one.support):
            said.append(text.format(int(value)))
    share = one.support.get("support")
    if isinstance(share, float) and np.isfinite(share):
        said.append(f"{100 * share:.0f} % of tiles have such neighbours")
    return f" On {', '.join(said)}." if said else ""
