"""Adapt, step 4: predictions before and after on the slides, and the numbers beside."""

from __future__ import annotations

import html
from typing import TYPE_CHECKING, Any

from qtpy.QtWidgets import QButtonGroup, QGridLayout, QPushButton, QWidget

from napari_batchfx.report.figures import CLASS_COLOURS
from napari_batchfx.viewer import regions
from napari_batchfx.viewer.docks.adapt_steps import AdaptPart, wrapping
from napari_batchfx.viewer.texts import adapt_table, adaptations_table

if TYPE_CHECKING:
    from napari_batchfx.study import AdaptOutcome
    from napari_batchfx.viewer.docks.common import Dock

__all__ = ["ComparePart"]

_VIEWS = (
    ("before", "Before", "Class predicted without correction."),
    ("after", "After", "Class predicted after correction on the control samples."),
    ("changed", "Changed", "Tiles whose predicted class changed with the correction."),
)
_TITLES = {
    "before": "prediction before",
    "after": "prediction after",
    "changed": "prediction changed",
}


class ComparePart(AdaptPart):
    """One overlay at a time, its legend, and tables."""

    def __init__(self, dock: Dock) -> None:
        super().__init__(dock, "4  Compare")
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
        self.all_runs = wrapping()
        self.all_runs.setAccessibleName("All adaptations run so far")
        self.all_runs.setToolTip(
            "Balanced accuracy before and after, for every method and choice tried in this study."
        )
        self.add(row, self.legend, self.table, self.all_runs)
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

    def clear(self) -> None:
        """Another study."""
        for label in (self.legend, self.table, self.all_runs):
            label.setText("")

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
        outcomes = self.session.study.results.adaptations
        self.all_runs.setText("<b>All runs</b>" + adaptations_table(outcomes) if len(outcomes) > 1 else "")

    def paint(self) -> None:
        """Draw the predictions of the last adaptation over every slide."""
        from napari_batchfx.study.maps import adapt_maps

        maps = adapt_maps(self.session.study)
        for entry in self.session.study.slides:
            for kind, tile_map in maps.get(entry.fingerprint, {}).items():
                self.session.show_map(entry, kind, tile_map, _TITLES[kind])

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
        regions.set_visible(self.session, False)  # predictions are compared without what was drawn over them
        for entry in self.session.shown_slides():
            layer: Any = self.session.layer(entry, "controls")
            if layer is not None:
                layer.visible = False
        outcome = self.session.study.results.adapt
        learned = ", ".join(outcome.computed_from["settings"]["train_on"]) if outcome is not None else ""
        self.session.show_only(kind, f"learnt from {learned}" if learned else "")
