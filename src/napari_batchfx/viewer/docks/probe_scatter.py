"""The tiles of a probe as points: coloured, lassoed onto the slides, found from the slides."""

from __future__ import annotations

import html
from typing import TYPE_CHECKING, Any

import numpy as np
from qtpy.QtWidgets import QComboBox, QHBoxLayout, QSizePolicy, QWidget

from napari_batchfx.report.figures import CONFIDENCE
from napari_batchfx.viewer.docks.common import RunRow, choice, fill, hint, tool_button
from napari_batchfx.viewer.docks.probe_numbers import text_label
from napari_batchfx.viewer.docks.probe_pages import ProbePage
from napari_batchfx.viewer.plots.colours import SERIES
from napari_batchfx.viewer.tile_clicks import TileClicks
from napari_batchfx.viewer.tile_finder import TileFinder

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from napari_batchfx.study import ProbeOutcome, SlideEntry
    from napari_batchfx.study.scatter import Scatter
    from napari_batchfx.viewer.docks.common import Dock

__all__ = ["ScatterPage"]

_KINDS = [("PCA", "pca"), ("UMAP", "umap")]


class ScatterPage(ProbePage):
    """Points that are linked with the slides both ways."""

    def __init__(self, dock: Dock) -> None:
        from napari_batchfx.probe.projection import has_umap
        from napari_batchfx.viewer.plots.points import PointPlot

        super().__init__(dock)
        self.outcome: ProbeOutcome | None = None
        self.scatter: Scatter | None = None
        self.finder = TileFinder(self.session)
        self.clicks = TileClicks(self.session, self)
        self.kind = choice(_KINDS)
        self.kind.setToolTip("How the tiles are laid out in a plane.")
        self.kind.setAccessibleName("Layout")
        if not has_umap():
            self.kind.model().item(1).setEnabled(False)
            self.kind.setItemText(1, "UMAP (needs umap-learn)")
        self.by = choice()
        self.by.setToolTip("What the points are coloured by.")
        self.by.setAccessibleName("Colour by")
        self.row = RunRow("Lay out the tiles", "Lay out up to 100,000 tiles.")
        self.plot = PointPlot(dock.viewer)
        self.plot.words = self._words
        self.move = tool_button(
            "Move", "Drag moves the points, the wheel zooms.", lambda: self._lasso(False), checkable=True
        )
        self.lasso = tool_button(
            "Lasso",
            "Drag around points: their tiles light up on the slides.",
            lambda: self._lasso(True),
            checkable=True,
        )
        self.all = tool_button("All", "Bring all points into view.", self.plot.fit)
        self.clear = tool_button("Clear", "Light no tiles any more.", self.forget)
        self.legend = text_label("Legend")
        self.said = text_label("Selection")
        for widgets in ((self.by, self.kind), (self.move, self.lasso, self.all, self.clear)):
            self.column.addWidget(_line(*widgets))
        for widget in (self.row, self.plot, self.legend, self.said):
            self.column.addWidget(widget)
        self.column.addWidget(
            hint(
                "A click on a point goes to its tile; a click on a tile of a slide puts a ring around its point."
            )
        )
        self._lasso(False)
        self.row.hide()
        self.job = dock.make_job(self.row, self._show, self.row.hide)
        self.kind.activated.connect(lambda *_: self.start())
        self.by.currentIndexChanged.connect(lambda *_: self._colour())
        self.plot.lassoed.connect(self._on_lasso)
        self.plot.picked.connect(self._on_picked)
        self.clicks.clicked.connect(self._on_tile)
        self._show(None)

    # ------------------------------------------------------------------ what the user does

    def show_outcome(self, outcome: ProbeOutcome) -> None:
        """Lay out the tiles of another probe."""
        if outcome is not self.outcome:
            self.outcome = outcome
            self.finder.clear()
            self._show(None)
            self.start()

    def set_seen(self, on: bool) -> None:
        """Clicks on the slides count while the page is looked at."""
        self.clicks.set_on(on)
        if not on:
            self.finder.frame.hide()

    def start(self) -> None:
        """Lay them out."""
        from napari_batchfx.study.scatter import scatter_job

        if self.outcome is not None:
            job = scatter_job(self.session.study, self.outcome, self.kind.currentData())
            self.job.start(job, "Laying out tiles", bar=False)
            self.row.set_running(True)
            self.row.show()

    def forget(self) -> None:
        """Light nothing."""
        self.finder.clear()
        self.plot.find(None)
        self.plot.select(np.zeros(len(self.plot.xy), dtype=bool))
        self.said.setText("")

    # ------------------------------------------------------------------ what comes

    def _show(self, scatter: Scatter | None) -> None:
        self.scatter = scatter
        for part in (self.plot, self.legend, self.said, self.move, self.lasso, self.all, self.clear, self.by):
            part.setEnabled(scatter is not None)
        self.said.setText("")
        if scatter is None:
            self.plot.show_points(np.empty((0, 2), np.float32))
            self.legend.setText("")
            return
        names = [name for name, (_, values) in scatter.columns.items() if values]
        batch = "" if self.outcome is None else self.outcome.result.batch
        kept = self.by.currentData()
        fill(self.by, [(f"by {name}", name) for name in (*names, "confidence")], keep=kept or batch)
        self.plot.show_points(scatter.xy)
        x, y = "UMAP 1", "UMAP 2"
        if scatter.explained is not None:
            x, y = (f"component {i + 1} ({100 * share:.0f} %)" for i, share in enumerate(scatter.explained))
        self.plot.set_titles(x, y)
        self._colour()
        self.said.setText("<br>".join(html.escape(warning) for warning in scatter.warnings))

    def _colour(self) -> None:
        scatter, by = self.scatter, self.by.currentData()
        if scatter is None or by is None:
            return
        if by == "confidence":
            numbers, palette = _confidence(scatter)
            self.plot.colour(numbers, palette)
            parts = (
                (CONFIDENCE[0], "taken for another"),
                (CONFIDENCE[2], "guessing"),
                (CONFIDENCE[4], "recognised"),
            )
            self.legend.setText("  ".join(_patch(colour, text) for colour, text in parts))
            return
        codes, names = scatter.columns[by]
        counts = np.bincount(codes[codes >= 0], minlength=len(names))
        # The eight largest have a colour of their own: more can't be told apart.
        rank = np.full(len(names), -1)
        rank[np.argsort(-counts, kind="stable")[: len(SERIES)]] = np.arange(min(len(SERIES), len(names)))
        if len(names) <= len(SERIES):
            rank = np.arange(len(names))
        self.plot.colour(np.where(codes >= 0, rank[codes], -1), list(SERIES))
        patches = [
            _patch(SERIES[rank[i]], f"{names[i]} ({counts[i]:,})") for i in range(len(names)) if rank[i] >= 0
        ]
        rest = int(counts[rank < 0].sum()) + int((codes < 0).sum())
        if rest:
            patches.append(_patch(self.plot.faint.name(), f"others, or none ({rest:,})"))
        self.legend.setText("  ".join(patches))

    def _lasso(self, on: bool) -> None:
        self.lasso.setChecked(on)
        self.move.setChecked(not on)
        self.plot.set_lasso(on)

    def _on_lasso(self, points: NDArray[np.bool_]) -> None:
        if self.scatter is None or self.outcome is None:
            return
        if not points.any():
            self.forget()
            return
        cells = self.scatter.cells_of(points)
        lit = self.finder.light(self.outcome, cells)
        n = int(points.sum())
        text = f"<b>{n:,} of {len(points):,} tiles</b> on {len(cells)} {'slide' if len(cells) == 1 else 'slides'} are lit."
        if lit < n:
            text += f" {n - lit:,} are on slides that are not shown."
        parts = []
        for name in dict.fromkeys((self.outcome.result.batch, "class")):
            if name in self.scatter.columns:
                codes, names = self.scatter.columns[name]
                counts = np.bincount(codes[points & (codes >= 0)], minlength=len(names))
                parts.append(
                    ", ".join(f"{html.escape(names[i])} {counts[i]:,}" for i in np.flatnonzero(counts))
                )
        self.said.setText("<br>".join([text, *(part for part in parts if part)]))

    def _on_picked(self, point: int) -> None:
        scatter = self.scatter
        if scatter is None or self.outcome is None:
            return
        self.plot.find(point)
        fingerprint = scatter.fingerprints[int(scatter.slide[point])]
        row, col = (int(v) for v in scatter.cells[point])
        there = self.finder.go_to(self.outcome, fingerprint, (row, col))
        self.said.setText(
            html.escape(self._words(point)).replace("\n", "<br>")
            + ("" if there else "<br>Its slide is not shown.")
        )

    def _on_tile(self, entry: SlideEntry, place_um: tuple[float, float]) -> None:
        grid = None if self.outcome is None else self.finder.grid(self.outcome, entry)
        cell = None if grid is None else grid.cell_at(*place_um)
        point = (
            None if cell is None or self.scatter is None else self.scatter.point_of(entry.fingerprint, cell)
        )
        self.plot.find(point)
        if point is None or grid is None or cell is None:
            self.finder.frame.hide()
            self.said.setText("That tile is no point: it was not scored by the probe.")
            return
        y0, x0, y1, x1 = (float(v) for v in grid.bounds_um([cell])[0])
        self.finder.frame.show(entry, (y0, x0, y1, x1))
        self.said.setText(html.escape(self._words(point)).replace("\n", "<br>"))

    def _words(self, point: int) -> str:
        scatter = self.scatter
        if scatter is None:
            return ""
        row, col = scatter.cells[point]
        lines = [f"row {row}, column {col}"]
        for name, (codes, names) in scatter.columns.items():
            if codes[point] >= 0:
                lines.append(f"{name}: {names[codes[point]]}")
        if np.isfinite(scatter.confidence[point]):
            lines.append(f"confidence {scatter.confidence[point]:.3g} (guessing {scatter.chance:.3g})")
        return "\n".join(lines)


def _line(*widgets: QWidget) -> QWidget:
    line = QWidget()
    layout = QHBoxLayout(line)
    layout.setContentsMargins(0, 0, 0, 0)
    layout.setSpacing(4)
    for widget in widgets:
        if isinstance(widget, QComboBox):
            widget.setMinimumContentsLength(5)
            widget.setSizePolicy(QSizePolicy.Policy.Ignored, QSizePolicy.Policy.Fixed)
        else:
            widget.setStyleSheet("QPushButton { padding: 3px 6px; min-width: 0px; }")
        layout.addWidget(widget, 1)
    return line


def _patch(colour: str, text: str) -> str:
    return f"<span style='color:{colour}'>&#9632;</span>&nbsp;{html.escape(text)}"


def _confidence(scatter: Scatter, steps: int = 64) -> tuple[NDArray[np.intp], list[str]]:
    """Numbers of colours of the confidence, its grey at what guessing gives."""
    ramp = np.array([[int(colour[i : i + 2], 16) for i in (1, 3, 5)] for colour in CONFIDENCE], dtype=float)
    middle = float(np.clip(scatter.chance, 0.02, 0.98))
    at = np.linspace(0, 1, steps)
    stops = [0.0, middle / 2, middle, (1 + middle) / 2, 1.0]
    mixed = np.stack([np.interp(at, stops, ramp[:, k]) for k in range(3)], axis=1).round().astype(int)
    palette = [f"#{r:02x}{g:02x}{b:02x}" for r, g, b in mixed]
    values: Any = np.nan_to_num(scatter.confidence, nan=-1.0)
    return np.where(values < 0, -1, np.clip((values * steps).astype(int), 0, steps - 1)), palette
