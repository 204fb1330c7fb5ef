"""What carries the batch: components beside the variance they hold, how many are needed, how much is colour."""

from __future__ import annotations

import html
from typing import TYPE_CHECKING

import numpy as np

from napari_batchfx.viewer.docks.common import RunRow, hint
from napari_batchfx.viewer.docks.probe_numbers import text_label
from napari_batchfx.viewer.docks.probe_pages import ProbePage
from napari_batchfx.viewer.plots.colours import SERIES

if TYPE_CHECKING:
    from napari_batchfx.probe import SignatureResult
    from napari_batchfx.study import ProbeOutcome
    from napari_batchfx.study.findings import ComponentsOutcome
    from napari_batchfx.viewer.docks.common import Dock

__all__ = ["ComponentsPage", "colour_text"]


_DASHED = (
    "Dashed: what slides alone reach when the batch is moved between them. Only above it a component speaks."
)
_NO_LEVEL = (
    "Too few slides or patients to say what they alone reach when the batch is moved between them: a high "
    "AUROC may be theirs."
)


class ComponentsPage(ProbePage):
    """Runs when it is first asked to: it takes several probes."""

    def __init__(self, dock: Dock) -> None:
        from napari_batchfx.viewer.plots.components import AccuracyPlot, ComponentPlot, VariancePlot

        super().__init__(dock)
        self.outcome: ProbeOutcome | None = None
        self.found: SignatureResult | None = None
        self.row = RunRow(
            "Find what carries it",
            "Probes on the first components, on colour alone and without colour; at most 5,000 tiles.",
        )
        self.text = text_label("What carries the batch")
        self.single, self.variance = ComponentPlot(dock.viewer), VariancePlot(dock.viewer)
        self.legend = text_label("Pairs")
        self.first = AccuracyPlot(dock.viewer)
        self.colour = text_label("How much is colour")
        self.parts = (self.text, self.single, self.variance, self.legend, self.first, self.colour)
        self.column.addWidget(self.row)
        for part in self.parts:
            self.column.addWidget(part)
        self.about = hint("")
        self.column.addWidget(self.about)
        self.single.box.setXLink(self.variance.box)
        self.job = dock.make_job(self.row, self._on_done, lambda: self.row.set_running(self.job.is_running))
        self.row.run.connect(self.start)
        self._show(None)

    def show_outcome(self, outcome: ProbeOutcome) -> None:
        """Another probe: what was found about it before, if anything."""
        from napari_batchfx.study.findings import ComponentsOutcome

        if outcome is not self.outcome:
            self.outcome = outcome
            self.job.cancel()
            self._show(self.session.study.results.about(outcome, ComponentsOutcome))

    def start(self) -> None:
        """Find it."""
        if self.outcome is not None:
            self.job.start(self.session.study.components_job(self.outcome), "What carries it")
            self.row.set_running(True)

    def _on_done(self, outcome: ComponentsOutcome) -> None:
        self._show(outcome)
        self.session.results_changed.emit()

    def _show(self, outcome: ComponentsOutcome | None) -> None:
        self.found = found = None if outcome is None else outcome.result
        for part in (*self.parts, self.about):
            part.setVisible(found is not None)
        for plot in (self.single, self.variance, self.first):
            plot.show_result(found)
        if outcome is None or found is None:
            return
        width = self.single.axes["left"], self.variance.axes["left"], self.first.axes["left"]
        for axis in width:
            axis.setWidth(self.single.fontMetrics().horizontalAdvance("00.00") + 22)
        self.text.setText(self.stale(outcome) + _best(found))
        self.legend.setText(
            "  ".join(
                f"<span style='color:{SERIES[k % len(SERIES)]}'>&#9632;</span> {html.escape(pair)}"
                for k, pair in enumerate(list(found.auroc)[:12])
            )
        )
        self.colour.setText(colour_text(found))
        self.about.setText(_DASHED if np.isfinite(found.auroc_level).any() else _NO_LEVEL)


def _best(found: SignatureResult) -> str:
    ranked = [
        (area, i, pair)
        for pair, areas in found.auroc.items()
        for i, area in enumerate(areas)
        if np.isfinite(area)
    ]
    if not ranked:
        return ""
    area, i, pair = max(ranked)
    share = 100 * found.explained_variance[i]
    text = f"<b>Component {i + 1}</b> ({share:.1f} % of the variance) tells {html.escape(pair)} apart best: AUROC {area:.2f}"
    level = found.auroc_level[i]
    return text + (f"; slides alone reach {level:.2f}." if np.isfinite(level) else ".")


def colour_text(found: SignatureResult) -> str:
    """How much of it colour alone explains, in words."""
    if not found.colour:
        return "Colour is not compared with: the encoder is colour itself, or it could not be measured."

    def said(key: str) -> str:
        one = found.colour[key]
        return f"{one['balanced_accuracy']:.3f} ({one['low']:.2f}-{one['high']:.2f})"

    lines = [
        f"<b>Features {said('features')}</b>; guessing {found.chance:.3g}",
        f"colour alone {said('colour')}",
        f"features with colour taken out {said('without_colour')}",
    ]
    share, left = found.colour["colour_share"], found.colour["left_share"]
    if np.isfinite(share):
        lines.append(
            f"colour alone reaches {100 * share:.0f} % of what lies above guessing; without it {100 * left:.0f} % are left"
        )
    return "<br>".join(lines)
