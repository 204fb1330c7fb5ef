"""Robustness metrics of the features, each with what it rests on and the biology beside it."""

from __future__ import annotations

import html
from typing import TYPE_CHECKING

import numpy as np

from napari_batchfx.viewer.docks.common import RunRow, hint
from napari_batchfx.viewer.docks.probe_numbers import text_label
from napari_batchfx.viewer.docks.probe_pages import ProbePage
from napari_batchfx.viewer.texts import accuracy

if TYPE_CHECKING:
    from napari_batchfx.probe.metrics import MetricResult
    from napari_batchfx.study import ProbeOutcome
    from napari_batchfx.viewer.docks.common import Dock

__all__ = ["RobustnessPage", "robustness_text"]

# function: how a person calls it, what the ends of its scale mean, one sentence
SHOWN = {
    "robustness_index": ("Robustness index", "0 batch, 1 biology", "Of neighbours that share either class or batch, the share that shares the class."),
    "croma": ("Margin (CRoMa)", "-1 batch, 1 biology", "How much nearer tiles of the class elsewhere are than other tiles of the batch; median."),
    "mari": ("Weighted index (MaRI)", "0 batch, 1 biology", "The robustness index with near neighbours counting more."),
    "ilisi": ("Mixing (iLISI)", "0 apart, 1 mixed", "How many batches a neighbourhood holds."),
    "kbet": ("Mixing (kBET)", "0 apart, 1 mixed", "Share of neighbourhoods with the batches in the shares of the whole."),
    "batch_asw": ("Mixing (batch ASW)", "0 apart, 1 mixed", "How little batches form clouds of their own."),
    "pcr": ("Variance (PCR)", "0 none, 1 all of it", "Share of the variance that goes with the batch."),
    "clisi": ("Class apart (cLISI)", "0 mixed, 1 apart", "How few classes a neighbourhood holds."),
    "graph_connectivity": ("Class connected", "0 pieces, 1 whole", "Whether tiles of a class hang together over batches."),
    "class_retention": ("Class by vote", "biology", "Balanced accuracy of the class by a vote of nearest neighbours elsewhere."),
    "cramers_v": ("Class with batch (V)", "0 free, 1 tied", "How far class and batch go together in these tiles."),
}  # fmt: skip


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
        """Another probe: what was measured for the last one is gone."""
        if outcome is not self.outcome:
            self.outcome = outcome
            self.job.cancel()
            self.found = {}
            self.text.setText("")
            self.text.hide()

    def start(self) -> None:
        """Measure."""
        from napari_batchfx.study.robustness import robustness_job

        if self.outcome is not None:
            self.job.start(robustness_job(self.session.study, self.outcome), "Robustness")
            self.row.set_running(True)

    def _on_done(self, found: dict[str, MetricResult]) -> None:
        self.found = found
        self.text.setText(robustness_text(found))
        self.text.show()


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
    return "<br>".join(blocks) + (f"<br><b>Mind</b>{minds}" if minds else "")


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
