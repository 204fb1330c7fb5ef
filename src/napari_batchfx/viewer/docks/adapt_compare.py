"""Adapt, step 4: predictions before and after on the slides, and the numbers beside."""

from __future__ import annotations

import html
from typing import TYPE_CHECKING, Any

from qtpy.QtWidgets import QButtonGroup, QGridLayout, QPushButton, QWidget

from napari_batchfx.report.figures import CLASS_COLOURS
from napari_batchfx.viewer import regions, seam
from napari_batchfx.viewer.docks.adapt_steps import AdaptPart, button_line, wrapping
from napari_batchfx.viewer.docks.adapt_table import MethodsTable
from napari_batchfx.viewer.docks.common import choice, fill, tool_button
from napari_batchfx.viewer.texts import adapt_table

if TYPE_CHECKING:
    from napari_batchfx.study import AdaptOutcome
    from napari_batchfx.viewer.docks.adapt import AdaptDock

__all__ = ["ComparePart"]

_VIEWS = (
    ("before", "Before", "Class predicted without correction."),
    ("after", "After", "Class predicted after correction on the control samples."),
    ("changed", "Changed", "Tiles whose predicted class changed with the correction."),
    ("uncertainty", "Uncertain", "How undecided the classifier is after the correction."),
    ("class", "One class", "Probability of one class after the correction."),
)
_TITLES = {
    "before": "prediction before",
    "after": "prediction after",
    "changed": "prediction changed",
}


class ComparePart(AdaptPart):
    """One overlay at a time, its legend, and tables."""

    def __init__(self, dock: AdaptDock) -> None:
        super().__init__(dock, "4  Compare")
        self.dock: AdaptDock = dock
        self.views = QButtonGroup(self)
        self.views.setExclusive(True)
        row = QWidget()
        grid = QGridLayout(row)
        grid.setContentsMargins(0, 0, 0, 0)
        for index, (key, text, tooltip) in enumerate(_VIEWS):
            button = QPushButton(text)
            button.setCheckable(True)
            button.setToolTip(tooltip)
            button.setAccessibleName(text)
            button.setProperty("key", key)
            self.views.addButton(button, index)
            grid.addWidget(button, index // 3, index % 3)
        self.legend = wrapping()
        self.table = wrapping()
        self.table.setAccessibleName("Numbers before and after adaptation")
        self.class_name = choice()
        self.class_name.setAccessibleName("Class")
        self.class_name.setToolTip("Whose probability is shown.")
        self.class_name.setEnabled(False)
        self.class_name.setMinimumWidth(60)  # the row has to fit into 300 px, scroll bar and all
        grid.addWidget(self.class_name, 1, 2)
        self.all_runs = MethodsTable()
        self.undo_button = tool_button(
            "Undo", "Go back to what was shown before the last adaptation; its result leaves.", self.undo
        )
        self.add(row, self.legend, self.table, self.all_runs, button_line(self.undo_button))
        self.all_runs.hide()
        self._before: list[tuple[list[AdaptOutcome], str]] = []
        self.class_name.activated.connect(lambda *_: self.show_view())
        self.all_runs.chosen.connect(self.choose)
        self.views.idClicked.connect(lambda *_: self.show_view())

    def allow(self) -> None:
        """Overlays that were deleted by hand may come back."""
        for kind, *_ in _VIEWS:
            self.session.allow_overlays(kind)

    def refresh(self) -> None:
        """There is something to look at, or not."""
        has_result = self.session.study.results.adapt is not None
        for button in self.views.buttons():
            button.setEnabled(has_result)
        self.class_name.setEnabled(has_result)
        self.undo_button.setEnabled(bool(self._before))

    def clear(self) -> None:
        """Another study."""
        for label in (self.legend, self.table):
            label.setText("")
        self.all_runs.hide()
        self._before.clear()

    @property
    def kind(self) -> str:
        """Which view is shown; "" for none."""
        button = self.views.checkedButton()
        return "" if button is None else str(button.property("key"))

    def remember(self) -> None:
        """Keep what there is, for :meth:`undo`."""
        self._before.append((list(self.session.study.results.adaptations), self.kind))

    def forget_last(self) -> None:
        """Nothing came of what was begun."""
        if self._before:
            self._before.pop()

    def undo(self) -> None:
        """Go back to the results and the view before the last adaptation."""
        if not self._before:
            return
        outcomes, kind = self._before.pop()
        self.session.study.results.adaptations = outcomes
        if outcomes:
            self.show_outcome(outcomes[-1])
            self.paint()
            self.turn(kind or "after")
        else:
            self.legend.setText("")
            self.table.setText("")
            self.all_runs.hide()
            self.session.drop_all(*(key for key, *_ in _VIEWS))
            self.views.setExclusive(False)
            for button in self.views.buttons():
                button.setChecked(False)
            self.views.setExclusive(True)
            self.session.show_only(None)
        self.session.results_changed.emit()
        self.dock.refresh()

    def choose(self, outcome: AdaptOutcome) -> None:
        """Show one of the adaptations on the slides; it becomes the one that was run last."""
        self.session.study.results.keep(outcome)
        self.allow()
        self.paint()
        self.turn(self.kind or "after")
        self.session.results_changed.emit()
        self.dock.refresh()

    def show_outcome(self, outcome: AdaptOutcome) -> None:
        """The numbers of a result, and of all others beside it."""
        names = [str(name) for name in outcome.before.classes]
        self.legend.setText(
            "  ".join(
                f'<span style="color:{CLASS_COLOURS[i % len(CLASS_COLOURS)]}">■</span> {html.escape(name)}'
                for i, name in enumerate(names)
            )
        )
        self.table.setText(adapt_table(outcome))
        fill(self.class_name, [(name, name) for name in names])
        self.all_runs.show_outcomes(self.session.study.results.adaptations, outcome)

    def paint(self) -> None:
        """Draw the predictions of the last adaptation over every slide."""
        from napari_batchfx.study.maps import adapt_maps

        maps = adapt_maps(self.session.study)
        for entry in self.session.study.slides:
            for kind, tile_map in maps.get(entry.fingerprint, {}).items():
                self.session.show_map(entry, kind, tile_map, _TITLES[kind])
        if self.kind in ("uncertainty", "class"):
            self._paint_values()

    def _paint_values(self) -> None:
        from napari_batchfx.study.prediction_maps import class_map, uncertainty_map

        name = str(self.class_name.currentData() or "")
        is_class = self.kind == "class"
        maps = class_map(self.session.study, name) if is_class else uncertainty_map(self.session.study)
        title = f"probability of {name}" if is_class else "uncertainty"
        for entry in self.session.study.slides:
            if entry.fingerprint in maps:
                self.session.show_map(entry, self.kind, maps[entry.fingerprint], title)

    def turn(self, kind: str) -> None:
        """Show a view, as by a click on its button."""
        for button in self.views.buttons():
            if button.property("key") == kind:
                button.setChecked(True)
        self.show_view()

    def show_view(self) -> None:
        """Show the view whose button is down."""
        button = self.views.checkedButton()
        if button is None:
            return
        kind = button.property("key")
        if any(self.session.layer(entry, kind) is None for entry in self.session.shown_slides()):
            self.session.allow_overlays(kind)
            self.paint()
        elif kind in ("uncertainty", "class"):
            self._paint_values()
        regions.set_visible(self.session, False)  # predictions are compared without what was drawn over them
        for entry in self.session.shown_slides():
            layer: Any = self.session.layer(entry, "controls")
            if layer is not None:
                seam.set_visible(layer, False)
        outcome = self.session.study.results.adapt
        learned = ", ".join(outcome.computed_from["settings"]["train_on"]) if outcome is not None else ""
        self.session.show_only(kind, f"learnt from {learned}" if learned else "")
