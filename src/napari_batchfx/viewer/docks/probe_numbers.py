"""The numbers under a probe's verdict, which batch was taken for which, and whether its confidence holds."""

from __future__ import annotations

import html
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from qtpy.QtCore import Qt
from qtpy.QtWidgets import QLabel, QSizePolicy

from napari_batchfx.viewer.docks.common import hint
from napari_batchfx.viewer.docks.probe_inputs import CLASSIFIERS
from napari_batchfx.viewer.docks.probe_pages import ProbePage
from napari_batchfx.viewer.texts import accuracy

if TYPE_CHECKING:
    from napari_batchfx.probe import SiteProbeResult
    from napari_batchfx.study import ProbeOutcome
    from napari_batchfx.viewer.docks.common import Dock

__all__ = ["CalibrationPage", "ConfusionPage", "NumbersPage", "numbers_text", "paragraphs", "text_label"]

_TOGETHER = {"spatial block": "pieces of the slides"}


def text_label(name: str) -> QLabel:
    """A label of wrapped rich text that can be copied."""
    label = QLabel()
    label.setWordWrap(True)
    label.setTextFormat(Qt.TextFormat.RichText)
    label.setTextInteractionFlags(Qt.TextInteractionFlag.TextSelectableByMouse)
    label.setAccessibleName(name)
    label.setSizePolicy(QSizePolicy.Policy.Ignored, QSizePolicy.Policy.Minimum)
    return label


def paragraphs(blocks: Sequence[str]) -> str:
    """Blocks of rich text with a little air between them."""
    return "".join(f"<p style='margin-top:0px; margin-bottom:6px'>{block}</p>" for block in blocks)


class NumbersPage(ProbePage):
    """Every number of the verdict, with what it is compared to and rests on."""

    def __init__(self, dock: Dock) -> None:
        super().__init__(dock)
        self.text = text_label("Numbers of the probe")
        self.text.setToolTip(
            "Balanced accuracy: mean over the classes of the share of tiles recognised, out of fold. "
            "In brackets the 95 % bootstrap interval over groups."
        )
        self.column.addWidget(self.text)

    def show_outcome(self, outcome: ProbeOutcome) -> None:
        """Write the numbers."""
        self.text.setText(numbers_text(outcome.result))


class ConfusionPage(ProbePage):
    """The confusion matrix."""

    def __init__(self, dock: Dock) -> None:
        from napari_batchfx.viewer.plots.confusion import ConfusionPlot

        super().__init__(dock)
        self.plot = ConfusionPlot(dock.viewer)
        self.column.addWidget(self.plot)
        self.column.addWidget(
            hint("Per cent of each row and tiles, out of fold. The diagonal is recognised.")
        )

    def show_outcome(self, outcome: ProbeOutcome) -> None:
        """Draw it."""
        self.plot.show_result(outcome.result)


class CalibrationPage(ProbePage):
    """Confidence against truth."""

    def __init__(self, dock: Dock) -> None:
        from napari_batchfx.viewer.plots.calibration import CalibrationPlot

        super().__init__(dock)
        self.text = text_label("Calibration error")
        self.plot = CalibrationPlot(dock.viewer)
        self.column.addWidget(self.text)
        self.column.addWidget(self.plot)
        self.column.addWidget(
            hint("On the dashed line confidence means what it says; below it the probe is too sure.")
        )

    def show_outcome(self, outcome: ProbeOutcome) -> None:
        """Draw it."""
        result = outcome.result
        self.plot.setVisible(bool(result.calibration))
        self.plot.show_result(result)
        if np.isfinite(result.ece):
            self.text.setText(
                f"<b>Confidence is off by {100 * result.ece:.1f} points on average</b> (ECE {result.ece:.3f})."
            )
        else:
            self.text.setText(
                "This result is from a version that did not note its calibration; run the probe again."
            )


def numbers_text(result: SiteProbeResult) -> str:
    """The numbers as rich text, a line each."""
    p = result.permutation_p
    classifier = next((text for text, name in CLASSIFIERS if name == result.probe), result.probe)
    lines = [
        f"<b>Balanced accuracy {accuracy(result.balanced_accuracy, result.ci)}</b>; guessing: {result.chance:.3g}",
        _p_text(p, int(result.settings.get("permutations", 0))),
        f"held out together: {_TOGETHER.get(result.grouped_by, f'tiles of one {result.grouped_by}')}",
        f"classifier: {classifier[0].lower()}{classifier[1:]}",
    ]
    if np.isfinite(result.slide_balanced_accuracy):
        lines.append(f"with every slide counted the same: {result.slide_balanced_accuracy:.3f}")
    if np.isfinite(result.ece):
        lines.append(f"confidence off by {100 * result.ece:.1f} points on average (ECE {result.ece:.3f})")
    for name, one in result.by_class.items():
        n = int(one["n"])
        lines.append(
            f"inside {html.escape(str(name))}: {one['value']:.3f} (guessing {one['chance']:.3g}, {n:,} tiles)"
        )
    if result.association is not None:
        lines.append(f"class with {result.batch}: Cramér's V {result.association:.2f} (0 free, 1 tied)")
    blocks = ["<br>".join(lines), "<br>".join(_support(result))]
    if result.warnings:
        blocks.append("<b>Mind</b>" + "".join(f"<br>- {html.escape(text)}" for text in result.warnings))
    return paragraphs(blocks)


def _support(result: SiteProbeResult) -> list[str]:
    lines = []
    recall = dict(zip(result.batches, result.recall, strict=True))
    for batch, counts in result.support["batches"].items():
        name = result.grouped_by if counts["groups"] == 1 else f"{result.grouped_by}s"
        slides = "slide" if counts["slides"] == 1 else "slides"
        parts = [f"{counts['tiles']:,} tiles", f"{counts['slides']:,} {slides}"]
        if result.grouped_by != "slide":
            parts.append(f"{counts['groups']:,} {name}")
        text = f"{html.escape(str(batch))}: {', '.join(parts)}"
        if batch in recall and np.isfinite(recall[batch]):
            text += f"; {100 * recall[batch]:.0f} % recognised"
        lines.append(text)
    left: dict[str, Any] = result.support.get("left_out", {})
    gone = [f"{n:,} ({why})" for why, n in left.items() if n]
    if gone:
        lines.append("left out: " + ", ".join(gone))
    return lines


def _p_text(p: float, shuffles: int) -> str:
    """The permutation p in words."""
    if not np.isfinite(p):
        return "not compared with shuffled labels"
    least = shuffles > 0 and p <= 1.0001 / (shuffles + 1)
    return f"p = {p:.2g} against shuffled labels" + (
        f" (the least that {shuffles} shuffles can give)" if least else ""
    )
