"""What does it do to the signature? The part of the Stain dock that encodes the view again and compares the probes."""

from __future__ import annotations

import html
from typing import TYPE_CHECKING, Any

from qtpy.QtWidgets import QLabel, QSizePolicy, QVBoxLayout, QWidget

from napari_batchfx.viewer.docks.common import RunRow, hint
from napari_batchfx.viewer.seen import looks

if TYPE_CHECKING:
    from napari_batchfx.study.before_after import Measure
    from napari_batchfx.study.stain_effect import StainEffect
    from napari_batchfx.viewer.docks.stain import StainDock

__all__ = ["SignatureBox"]

_MOST_WARNINGS = 2


class SignatureBox(QWidget):
    """One button, and the numbers before and after."""

    def __init__(self, dock: StainDock) -> None:
        super().__init__()
        self._dock = dock
        self.found: StainEffect | None = None
        self.row = RunRow(
            "What does it do to the signature?",
            "Encode the visible tiles as scanned and normalised, probe both, and compare. Both stay in the study's store.",
        )
        self.meaning, self.numbers = QLabel(), QLabel()
        for label in (self.meaning, self.numbers):
            label.setWordWrap(True)
            label.setSizePolicy(QSizePolicy.Policy.Ignored, QSizePolicy.Policy.Minimum)
        self.literature = hint("")
        layout = QVBoxLayout(self)
        layout.setContentsMargins(0, 0, 0, 0)
        for widget in (self.row, self.meaning, self.numbers, self.literature):
            layout.addWidget(widget)
        self.job = dock.make_job(
            self.row, self._on_done, self.refresh, stopped="Stopped. Tiles that are encoded are kept."
        )
        self.row.run.connect(self.start)
        self.clear()

    def start(self) -> None:
        """Encode what is seen, both ways, and compare."""
        self._dock.write_settings()
        boxes = {look.entry.name: look.box_um for look in looks(self._dock.session)}
        self.job.start(
            self._dock.session.study.stain_effect_job(boxes_um=boxes), "What stain does to the signature"
        )
        self.row.set_running(True)

    def refresh(self) -> None:
        """Say what is missing."""
        self.row.set_running(self.job.is_running)
        n = len(self._dock.session.ready_slides())
        self.row.allow(n > 1, "The signature shows between slides: open at least two that have a pixel size.")

    def clear(self) -> None:
        """Show no result: method, target or slides are others now."""
        self.found = None
        for label in (self.meaning, self.numbers, self.literature):
            label.hide()

    def _on_done(self, found: StainEffect) -> None:
        self.found = found
        weaker = (found.comparison.probe.change_interval or (0.0, 0.0))[1] < 0
        gone = found.comparison.probe.is_known and not found.comparison.still_there
        kind = "good" if gone else "info" if weaker else "warn"
        self._dock.card.say(found.sentence, found.meaning, kind=kind)
        self.meaning.setText(f"<b>{html.escape(found.sentence)}</b> {html.escape(found.meaning)}")
        self.numbers.setText(_table(found))
        self.numbers.setToolTip(
            "In brackets 95 % intervals over what was held out together. Probe: lower is less signature. "
            "Robustness index and class retention: higher is more biology."
        )
        mind = [f"Mind: {warning}" for warning in found.warnings[:_MOST_WARNINGS]]
        self.literature.setText("\n".join([found.literature, *mind]))
        self.literature.setToolTip("\n".join(found.warnings))
        for label in (self.meaning, self.numbers, self.literature):
            label.show()
        for entry in self._dock.session.study.slides:
            self._dock.session.features_changed.emit(entry.fingerprint)
        self.refresh()


def _table(found: StainEffect) -> str:
    names = {
        "probe accuracy": "Probe",
        "robustness index": "Robustness index",
        "class retention": "Classes kept",
    }
    rows = "".join(
        _row(names[measure.name], measure) for measure in found.comparison.measures if measure.is_known
    )
    open_ones = [measure for measure in found.comparison.measures if not measure.is_known]
    for why in dict.fromkeys(measure.reason for measure in open_ones):
        of = ", ".join(names[measure.name] for measure in open_ones if measure.reason == why)
        said = html.escape(f"{of}: {why or 'not known'}.")
        rows += f"<tr><td colspan='3'>{said}</td></tr>"
    tiles, slides = found.comparison.tiles, len(found.slides)
    under = f"{tiles:,} tiles of {slides} slides, {found.encoder}; target: {found.target}"
    return (
        "<table cellspacing='0' cellpadding='2'><tr><th></th><th align='left'>as scanned&nbsp;&nbsp;</th>"
        f"<th align='left'>normalised</th></tr>{rows}</table>{html.escape(under)}"
    )


def _row(name: str, measure: Measure) -> str:
    cells: list[Any] = [
        (measure.before, measure.interval_before),
        (measure.after, measure.interval_after),
    ]
    said = "".join(
        f"<td>{value:.2f}"
        + ("" if ci is None else f"<br><small>{ci[0]:.2f}-{ci[1]:.2f}</small>")
        + "&nbsp;&nbsp;</td>"
        for value, ci in cells
    )
    chance = "" if measure.chance is None else f"<br><small>guessing {measure.chance:.2f}</small>"
    return f"<tr><td>{name}{chance}&nbsp;&nbsp;</td>{said}</tr>"
