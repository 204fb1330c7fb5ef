"""The strongest and weakest tiles of each batch as pictures; a click goes to the tile."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from qtpy.QtCore import QSize, Qt, Signal
from qtpy.QtGui import QIcon, QImage, QPixmap
from qtpy.QtWidgets import QFileDialog, QLabel, QSizePolicy, QToolButton, QVBoxLayout, QWidget
from superqt import QFlowLayout

from napari_batchfx.viewer.docks.common import RunRow, hint, tool_button
from napari_batchfx.viewer.docks.probe_pages import ProbePage
from napari_batchfx.viewer.tile_finder import TileFinder

if TYPE_CHECKING:
    from pathlib import Path

    from napari_batchfx.jobs import Progress
    from napari_batchfx.study import ProbeOutcome
    from napari_batchfx.study.gallery import GalleryTile
    from napari_batchfx.viewer.docks.common import Dock

__all__ = ["GalleryPage"]

_SIDE = 72
_HEADS = {"strongest": "surest", "weakest": "least sure, or taken for another"}


class GalleryPage(ProbePage):
    """A row of pictures a batch and side."""

    def __init__(self, dock: Dock) -> None:
        super().__init__(dock)
        self.outcome: ProbeOutcome | None = None
        self.tiles: list[GalleryTile] = []
        self.buttons: list[_Thumbnail] = []
        self.finder = TileFinder(self.session)
        self.row = RunRow("Read the tiles", "Read the strongest and weakest tiles again.")
        self.row.hide()
        self._rows: dict[tuple[str, str], QWidget] = {}
        self.body = QWidget()
        self._column = QVBoxLayout(self.body)
        self._column.setContentsMargins(0, 0, 0, 0)
        self._column.setSpacing(2)
        self.said = QLabel()
        self.said.setWordWrap(True)
        self.said.setSizePolicy(QSizePolicy.Policy.Ignored, QSizePolicy.Policy.Minimum)
        self.save = tool_button(
            "Save ...", "Save the pictures as PNG, without names of slides.", self.ask_and_save
        )
        self.column.addWidget(hint("What gives it away: compare the rows. A click goes to the tile."))
        for widget in (self.row, self.said, self.body, self.save):
            self.column.addWidget(widget)
        self.said.hide()
        self.job = dock.make_job(self.row, self._on_done, self.row.hide)
        self.job.progressed.connect(self._on_progress)

    def show_outcome(self, outcome: ProbeOutcome) -> None:
        """Read the tiles of another probe."""
        from napari_batchfx.study.gallery import gallery_job

        if outcome is self.outcome:
            return
        self.outcome = outcome
        self._empty()
        self.job.start(gallery_job(self.session.study, outcome), "Reading tiles", bar=False)
        self.row.set_running(True)
        self.row.show()

    def set_seen(self, on: bool) -> None:
        """The frame leaves with the page."""
        if not on:
            self.finder.frame.hide()

    def go_to(self, tile: GalleryTile) -> None:
        """Show a tile on its slide."""
        if self.outcome is None:
            return
        there = self.finder.go_to(self.outcome, tile.fingerprint, tile.cell)
        entry = self.finder.entry(tile.fingerprint)
        name = "" if entry is None else f"{entry.name} · "
        self._say(f"{name}{tile.words}" if there else f"{tile.words}. Its slide is not shown.")

    def ask_and_save(self) -> None:
        """Ask where, and save the pictures."""
        path, _ = QFileDialog.getSaveFileName(self, "Save the tiles", "tiles.png", "PNG (*.png)")
        if path:
            self.save_to(path)

    def save_to(self, path: Path | str) -> None:
        """Save the pictures."""
        from napari_batchfx.study.gallery import save_sheet

        saved = self.dock.guarded(lambda: save_sheet(self.tiles, path))
        if saved is not None:
            self._say(f"Saved as {saved.name}.")

    def _on_progress(self, progress: Progress) -> None:
        if progress.partial is not None:
            self._add(progress.partial)

    def _on_done(self, tiles: list[GalleryTile]) -> None:
        self.save.setEnabled(bool(tiles))
        if not tiles:
            self._say("No tile could be read: the slides are not there.")

    def _say(self, text: str) -> None:
        self.said.setText(text)
        self.said.setVisible(bool(text))

    def _empty(self) -> None:
        self.tiles, self.buttons = [], []
        for row in self._rows.values():
            self._column.removeWidget(row)
            row.setParent(None)
            row.deleteLater()
        self._rows = {}
        self._say("")
        self.save.setEnabled(False)
        self.finder.frame.hide()

    def _add(self, tile: GalleryTile) -> None:
        if tile.pixels is None:
            return
        self.tiles.append(tile)
        key = (tile.batch, tile.side)
        if key not in self._rows:
            label = QLabel(f"{tile.batch}: {_HEADS[tile.side]}")
            label.setWordWrap(True)
            box = QWidget()
            column = QVBoxLayout(box)
            column.setContentsMargins(0, 2, 0, 2)
            column.setSpacing(1)
            column.addWidget(label)
            line = QWidget()
            flow = QFlowLayout(line)
            flow.setContentsMargins(0, 0, 0, 0)
            flow.setHorizontalSpacing(2)
            flow.setVerticalSpacing(2)
            policy = QSizePolicy(QSizePolicy.Policy.Ignored, QSizePolicy.Policy.Preferred)
            policy.setHeightForWidth(True)
            line.setSizePolicy(policy)
            column.addWidget(line)
            self._rows[key] = box
            self._column.addWidget(box)
        holder = self._rows[key].layout()
        button = _Thumbnail(tile)
        button.chosen.connect(self.go_to)
        holder.itemAt(1).widget().layout().addWidget(button)
        self.buttons.append(button)


class _Thumbnail(QToolButton):
    """A tile's picture with its confidence under it."""

    chosen = Signal(object)

    def __init__(self, tile: GalleryTile) -> None:
        super().__init__()
        self.tile = tile
        pixels = np.ascontiguousarray(tile.pixels)
        height, width = pixels.shape[:2]
        image = QImage(pixels.data, width, height, 3 * width, QImage.Format.Format_RGB888).copy()
        self.setIcon(QIcon(QPixmap.fromImage(image)))
        self.setIconSize(QSize(_SIDE, _SIDE))
        self.setToolButtonStyle(Qt.ToolButtonStyle.ToolButtonTextUnderIcon)
        self.setText(f"{tile.confidence:.2f}")
        self.setToolTip(tile.words)
        self.setAccessibleName(tile.words)
        self.setStyleSheet("QToolButton { padding: 1px; }")
        self.clicked.connect(lambda *_: self.chosen.emit(self.tile))
