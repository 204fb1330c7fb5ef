"""Adapt, step 1: regions of classes, drawn on the slides."""

from __future__ import annotations

import html
from typing import TYPE_CHECKING

from napari_batchfx.errors import BatchfxError
from napari_batchfx.study.tissue_regions import is_tissue_class
from napari_batchfx.viewer import regions
from napari_batchfx.viewer.docks.adapt_steps import AdaptPart, button_line, wrapping
from napari_batchfx.viewer.docks.common import choice, fill, form_row, tool_button

if TYPE_CHECKING:
    from napari_batchfx.study import SlideEntry
    from napari_batchfx.viewer.docks.common import Dock

__all__ = ["LabelsPart"]


class LabelsPart(AdaptPart):
    """Draw classes, and controls as regions."""

    def __init__(self, dock: Dock) -> None:
        super().__init__(dock, "1  Labels")
        form = self.add_form()
        self.slide = choice()
        form_row(form, "Draw on", self.slide, "Slide that the next regions belong to.")
        self.class_name = choice([("control", "control")])
        self.class_name.setEditable(True)
        self.class_name.setInsertPolicy(self.class_name.InsertPolicy.NoInsert)
        form_row(
            form,
            "Class",
            self.class_name,
            "Type a class, for example tumour; 'control' marks control samples.",
        )
        self.draw_button = tool_button(
            "Draw a region", "Click corners on the slide, Esc or double-click to finish.", self.draw
        )
        self.copy_button = tool_button(
            "Copy to the others",
            "Copy this slide's regions to the other slides; only for aligned scans of the same tissue.",
            self.copy,
        )
        self.take_button = tool_button(
            "Use selected shapes",
            "Turn the shapes of the selected Shapes layer, drawn with napari's own tools, into regions of this class and slide.",
            self.take_over,
        )
        self.counts = wrapping()
        self.add(button_line(self.draw_button, self.copy_button, self.take_button), self.counts)

    def draw(self) -> None:
        """Make the slide's regions layer ready for the next polygon of the chosen class."""
        entry = self._slide()
        name = self.class_name.currentText().strip()
        if entry is None or not name:
            self.card.say("Open a slide and type a class first.", kind="warn")
            return
        regions.start_drawing(self.session, entry, name)
        self.refresh()
        self.card.say(
            f"Click the corners of a {name} region on {entry.name}.",
            "Esc or a double-click finishes it. Shapes can be moved and deleted with napari's own tools.",
        )

    def take_over(self) -> None:
        """Turn the shapes of the selected layer into regions of the chosen class and slide."""
        entry, layer = self._slide(), self.session.viewer.layers.selection.active
        name = self.class_name.currentText().strip()
        if entry is None or not name:
            self.card.say("Open a slide and type a class first.", kind="warn")
        elif (
            layer is None
            or layer.__class__.__name__ != "Shapes"
            or regions.is_regions(layer)
            or not len(layer.data)
        ):
            self.card.say(
                "Select a Shapes layer of your own, with shapes on it, in the layer list first.", kind="warn"
            )
        else:
            n = regions.take_over(self.session, layer, entry, name)
            self.refresh()
            self.card.say(
                f"{n} shapes of {layer.name} are now regions on {entry.name}.",
                "The layer itself is left as it is.",
            )

    def copy(self) -> None:
        """Copy the regions of the chosen slide to the other slides."""
        entry = self._slide()
        if entry is not None:
            n = regions.copy_regions(self.session, entry)
            self.refresh()
            self.card.say(
                f"{n} regions copied.",
                "This is right only where the slides show the same tissue and are aligned.",
            )

    def refresh(self) -> None:
        """Offer the slides and classes there are, and count what is drawn."""
        slides = self.session.shown_slides()
        fill(self.slide, [(entry.name, entry.name) for entry in slides])
        names = list(regions.class_names(self.session))
        typed = self.class_name.currentText()
        fill(self.class_name, [(name, name) for name in [*names, regions.CONTROL]])
        self.class_name.setEditText(typed)
        self.draw_button.setEnabled(bool(slides))
        self.copy_button.setEnabled(len(slides) > 1)

    def count(self) -> None:
        """Say how many regions of each class are on how many slides."""
        regions.pull(self.session)
        counts: dict[str, dict[str, int]] = {}
        for annotation in self.session.study.annotations:
            if is_tissue_class(annotation.class_name):
                continue
            name = regions.CONTROL if annotation.is_control else str(annotation.class_name)
            row = counts.setdefault(name, {})
            row[annotation.slide] = row.get(annotation.slide, 0) + 1
        lines, tips = [], []
        for name, row in counts.items():
            total, slides = sum(row.values()), len(row)
            lines.append(
                f'<span style="color:{regions.colour(self.session, name)}">■</span> <b>{html.escape(name)}</b>: '
                f"{total} on {slides} {'slide' if slides == 1 else 'slides'}"
            )
            tips.append(f"{name}: " + ", ".join(f"{n} on {slide}" for slide, n in row.items()))
        self.counts.setText("<br>".join(lines) if lines else "No regions yet.")
        self.counts.setToolTip("\n".join(tips))

    def _slide(self) -> SlideEntry | None:
        name = self.slide.currentData()
        try:
            return self.session.study.slide(name) if name else None
        except BatchfxError:
            return None
