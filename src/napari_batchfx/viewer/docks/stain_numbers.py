"""Estimates of the Stain dock: a plot and a table of every slide, and the same as CSV."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from qtpy.QtCore import Qt, Signal
from qtpy.QtWidgets import (
    QAbstractItemView,
    QCheckBox,
    QFileDialog,
    QGridLayout,
    QHeaderView,
    QTableWidget,
    QTableWidgetItem,
    QTabWidget,
    QVBoxLayout,
    QWidget,
)

from napari_batchfx.viewer.docks.common import tool_button
from napari_batchfx.viewer.plots.stains import StainPlot
from napari_batchfx.viewer.texts import number

if TYPE_CHECKING:
    from napari_batchfx.study.stain_overview import StainOverview, StainRow
    from napari_batchfx.viewer.docks.stain import StainDock

__all__ = ["NumbersBox"]


class NumbersBox(QWidget):
    """What was estimated; a click on a dot or a row selects the slide.

    ``picked`` is emitted with the fingerprint of the slide.
    """

    picked = Signal(str)

    def __init__(self, dock: StainDock) -> None:
        super().__init__()
        self._dock = dock
        self.overview: StainOverview | None = None
        self.plot = StainPlot(dock.viewer)
        self.plot.picked.connect(self.picked)
        self.table = QTableWidget()
        self.table.setAccessibleName("Stain estimates")
        self.table.setEditTriggers(QTableWidget.EditTrigger.NoEditTriggers)
        self.table.setSelectionBehavior(QAbstractItemView.SelectionBehavior.SelectRows)
        self.table.setSelectionMode(QAbstractItemView.SelectionMode.SingleSelection)
        self.table.setMinimumHeight(120)
        header = self.table.verticalHeader()
        if header is not None:
            header.hide()
        self.table.cellClicked.connect(self._on_row)
        self.tabs = QTabWidget()
        self.tabs.addTab(self.plot, "Plot")
        self.tabs.addTab(self.table, "Numbers")
        self.csv = tool_button("Estimates as CSV...", "Write the numbers of every slide.", self.ask_and_write)
        self.named = QCheckBox("with names")
        self.named.setToolTip("Also names of slides: they can name a patient.")
        line = QGridLayout()
        line.setContentsMargins(0, 0, 0, 0)
        line.addWidget(self.csv, 0, 0)
        line.addWidget(self.named, 0, 1)
        line.setColumnStretch(0, 1)
        layout = QVBoxLayout(self)
        layout.setContentsMargins(0, 0, 0, 0)
        layout.addWidget(self.tabs)
        layout.addLayout(line)
        self.hide()

    def show_overview(self, overview: StainOverview | None) -> None:
        """Show other estimates; ``None`` shows nothing."""
        self.overview = overview
        self.setVisible(overview is not None)
        self.plot.show_overview(overview)
        rows = () if overview is None else overview.rows
        vectors = overview is None or overview.has_vectors
        header = (
            ["slide", "quality", "H", "E/DAB", "angle"] if vectors else ["slide", "quality", "L", "a", "b"]
        )
        self.table.setColumnCount(len(header))
        self.table.setHorizontalHeaderLabels(header)
        self.table.setRowCount(len(rows))
        for i, row in enumerate(rows):
            for j, text in enumerate(_cells(row)):
                item = QTableWidgetItem(text)
                item.setData(Qt.ItemDataRole.UserRole, row.fingerprint)
                item.setToolTip(_note(row))
                self.table.setItem(i, j, item)
        self.table.resizeColumnsToContents()
        columns = self.table.horizontalHeader()
        if columns is not None:
            columns.setSectionResizeMode(0, QHeaderView.ResizeMode.Stretch)

    def choose(self, fingerprint: str) -> None:
        """Mark a slide in plot and table."""
        self.plot.choose(fingerprint)
        for i, row in enumerate(() if self.overview is None else self.overview.rows):
            if row.fingerprint == fingerprint:
                self.table.selectRow(i)

    def ask_and_write(self) -> None:
        """Ask where, and write the CSV."""
        path, _ = QFileDialog.getSaveFileName(self, "Stain estimates", "stain-estimates.csv", "CSV (*.csv)")
        if path:
            self.write_to(Path(path))

    def write_to(self, path: Path) -> None:
        """Write the CSV."""
        overview = self.overview
        if overview is not None and self._dock.guarded(
            lambda: overview.write_csv(path, with_names=self.named.isChecked())
        ):
            self._dock.card.say(f"Written: {path.name}.")

    def _on_row(self, row: int, _column: int) -> None:
        item = self.table.item(row, 0)
        if item is not None:
            self.picked.emit(item.data(Qt.ItemDataRole.UserRole))


def _cells(row: StainRow) -> list[str]:
    found: Any = row.estimate
    if found is None:
        return [row.slide, "declined", "-", "-", "-"]
    quality = "apart" if row.apart else found.quality
    if hasattr(found, "matrix"):
        values = [number(float(v)) for v in found.max_concentration]
        return [row.slide, quality, *values, f"{found.angle_deg:.0f}°"]
    return [row.slide, quality, *(f"{v:.0f}" for v in found.mean)]


def _note(row: StainRow) -> str:
    note = str(row.numbers()["notes"]) or "Nothing speaks against these numbers."
    return note if row.estimate is None else f"{row.estimate.n_pixels:,} tissue pixels. {note}"
