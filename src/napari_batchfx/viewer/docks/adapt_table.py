"""All adaptations side by side; a click on a row shows that one on the slides."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from qtpy.QtCore import Qt, Signal
from qtpy.QtWidgets import QAbstractItemView, QFrame, QHeaderView, QSizePolicy, QTableWidget, QTableWidgetItem

from napari_batchfx.viewer.texts import method_name

if TYPE_CHECKING:
    from collections.abc import Sequence

    from napari_batchfx.study import AdaptOutcome

__all__ = ["MethodsTable"]

_COLUMNS = (
    ("method", "The correction, or the classifier that adapts by itself."),
    ("in", "Balanced accuracy with it on the slides it learns from, on tiles held out by patient or place."),
    ("before", "Balanced accuracy on the other slides without it, where classes are known."),
    (
        "after",
        "Balanced accuracy on the other slides with it: every class counts the same, however frequent.",
    ),
    ("origin", "How well a classifier still recognises scanner or site on held-out controls."),
    ("tissue", "How well the neighbours of a tile tell its class afterwards: what it cost in biology."),
    ("moved", "Tiles whose class changed."),
)
_LESS, _NARROW = (4, 5), 330


class MethodsTable(QTableWidget):
    """One row an adaptation; ``chosen(AdaptOutcome)`` when a row is clicked."""

    chosen = Signal(object)

    def __init__(self) -> None:
        super().__init__(0, len(_COLUMNS))
        self.setAccessibleName("All adaptations run so far")
        self.setHorizontalHeaderLabels([name for name, _ in _COLUMNS])
        for i, (_, tip) in enumerate(_COLUMNS):
            self.horizontalHeaderItem(i).setToolTip(tip)
        self.verticalHeader().hide()
        header = self.horizontalHeader()
        header.setMinimumSectionSize(20)
        header.setSectionResizeMode(QHeaderView.ResizeMode.ResizeToContents)
        header.setSectionResizeMode(0, QHeaderView.ResizeMode.Stretch)
        self.setEditTriggers(QAbstractItemView.EditTrigger.NoEditTriggers)
        self.setSelectionBehavior(QAbstractItemView.SelectionBehavior.SelectRows)
        self.setSelectionMode(QAbstractItemView.SelectionMode.SingleSelection)
        self.setHorizontalScrollBarPolicy(Qt.ScrollBarPolicy.ScrollBarAlwaysOff)
        self.setVerticalScrollBarPolicy(Qt.ScrollBarPolicy.ScrollBarAlwaysOff)
        self.setFrameShape(QFrame.Shape.NoFrame)
        self.setShowGrid(False)
        self.setSizePolicy(QSizePolicy.Policy.Ignored, QSizePolicy.Policy.Fixed)
        font = self.font()
        font.setPointSizeF(max(6.5, font.pointSizeF() * 0.85))
        self.setFont(font)
        header.setFont(font)
        self.setStyleSheet(
            "QTableWidget::item { padding: 1px 2px; } QHeaderView::section { padding: 1px 2px; }"
        )
        self.outcomes: list[AdaptOutcome] = []
        self.cellClicked.connect(lambda row, _: self.chosen.emit(self.outcomes[row]))

    def resizeEvent(self, event: Any) -> None:
        """In a narrow dock the name of the method comes before what was left and what it cost."""
        super().resizeEvent(event)
        for column in _LESS:
            self.setColumnHidden(column, self.width() < _NARROW)

    def show_outcomes(self, outcomes: Sequence[AdaptOutcome], current: AdaptOutcome | None) -> None:
        """Fill the table, in an order that stays while another one is looked at."""
        self.outcomes = sorted(outcomes, key=lambda one: (_learned(one), method_name(_settings(one))))
        self.setRowCount(len(self.outcomes))
        for row, outcome in enumerate(self.outcomes):
            settings = _settings(outcome)
            tip = f"{method_name(settings)}, learned from {_learned(outcome) or 'the first with classes'}"
            more = _more(outcome)
            for column, text in enumerate(_cells(outcome)):
                item = QTableWidgetItem(text)
                item.setToolTip(f"{tip}\n{_COLUMNS[column][1]}{more}")
                self.setItem(row, column, item)
        self.resizeRowsToContents()
        self.clearSelection()
        if current in self.outcomes:
            self.selectRow(self.outcomes.index(current))
        height = sum(self.rowHeight(i) for i in range(self.rowCount()))
        self.setFixedHeight(self.horizontalHeader().sizeHint().height() + height + 4)
        self.setVisible(len(self.outcomes) > 1)


def _settings(outcome: AdaptOutcome) -> dict[str, Any]:
    return dict(outcome.computed_from["settings"])


def _learned(outcome: AdaptOutcome) -> str:
    return ", ".join(_settings(outcome)["train_on"])


def _cells(outcome: AdaptOutcome) -> list[str]:
    comparison, controls = outcome.numbers["comparison"], outcome.numbers["diagnostics"]

    def short(found: Any) -> str:
        value = found.get("value") if isinstance(found, dict) else found
        return "-" if value is None or value != value else f"{value:.2f}"

    kept = outcome.numbers["retention_after"]
    if kept["value"] is None:  # a head leaves the features as they are
        kept = outcome.numbers["retention_before"]
    return [
        method_name(_settings(outcome)),
        short(comparison.get("inside_after")),
        short(comparison.get("balanced_accuracy_before")),
        short(comparison.get("balanced_accuracy_after")),
        short(controls.get("probe_after")),
        short(kept),
        f"{comparison['n_changed']:,}",
    ]


def _more(outcome: AdaptOutcome) -> str:
    """AUC and calibration, which have no room in a narrow table."""
    comparison = outcome.numbers["comparison"]
    lines = []
    for key, name in (("auc", "AUC"), ("ece", "calibration error (ECE)")):
        before, after = comparison.get(f"{key}_before"), comparison.get(f"{key}_after")
        if before is not None and after is not None:
            lines.append(f"\n{name} {before:.2f} before, {after:.2f} after")
    return "".join(lines)
