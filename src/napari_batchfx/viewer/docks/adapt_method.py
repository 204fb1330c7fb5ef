"""Adapt, step 3: what to correct for, what to learn from, and how."""

from __future__ import annotations

from typing import TYPE_CHECKING

from napari_batchfx.adapt.heads.offered import OFFERED_HEADS
from napari_batchfx.adapt.methods import REGISTRY
from napari_batchfx.viewer.docks.adapt_steps import AdaptPart, button_line
from napari_batchfx.viewer.docks.common import RunRow, choice, fill, form_row, hint, tool_button
from napari_batchfx.viewer.plots.losses import LossPlot
from napari_batchfx.viewer.texts import METHODS

if TYPE_CHECKING:
    from napari_batchfx.study import SlideEntry
    from napari_batchfx.viewer.docks.common import Dock

__all__ = ["MethodPart"]


_LINEAR = "Trained on features corrected as chosen below."


class MethodPart(AdaptPart):
    """The choices of an adaptation; they go into the study's settings."""

    def __init__(self, dock: Dock) -> None:
        super().__init__(dock, "3  Method")
        form = self.add_form()
        self.batch = choice(
            [("scanner", "scanner"), ("site", "site"), ("stain", "stain"), ("slide", "slide")]
        )
        form_row(form, "Correct for", self.batch, "What differs between the slides and should not matter.")
        self.train_on = choice()
        form_row(
            form,
            "Learn from",
            self.train_on,
            "The classifier is trained on this scanner's (or site's) labelled tiles and applied to the others.",
        )
        self.head = choice([("Linear", "linear"), *((one.label, one.id) for one in OFFERED_HEADS.values())])
        form_row(
            form,
            "Classifier",
            self.head,
            "\n".join(
                [f"Linear: {_LINEAR}", *(f"{one.label}: {one.sentence}" for one in OFFERED_HEADS.values())]
            ),
        )
        self.method = choice([(text, key) for key, text in METHODS.items()])
        form_row(
            form,
            "Correction",
            self.method,
            "\n".join(f"{one.label}: {one.sentence}" for one in REGISTRY.values()),
        )
        self.explained = hint("")
        self.row = RunRow(
            "Train and adapt",
            "Train the classifier, correct the features on the controls, and compare the predictions.",
        )
        self.all_button = tool_button(
            "All methods", "Run every correction and classifier in turn, for the table below.", lambda: None
        )
        self.load_button = tool_button(
            "Load model ...",
            "Apply a classifier that was trained before, if it adapts by itself.",
            lambda: None,
        )
        self.save_button = tool_button(
            "Save model ...", "Save the classifier of the last run, if it adapts by itself.", lambda: None
        )
        self.losses = LossPlot(dock.viewer)
        self.losses.hide()
        self.add(
            self.explained,
            self.row,
            self.losses,
            button_line(self.all_button, self.load_button, self.save_button),
        )
        self._form = form
        self.method.currentIndexChanged.connect(lambda *_: self._explain())
        self.head.currentIndexChanged.connect(lambda *_: self._explain())
        self._explain()

    def refresh(self) -> None:
        """Offer the values there are."""
        values = list(dict.fromkeys(self.value(entry) for entry in self.session.study.slides))
        fill(self.train_on, [("first with labels", None)] + [(value, value) for value in values if value])

    def read(self) -> None:
        """Take over what the study says."""
        settings = self.session.study.settings.adapt
        self.batch.setCurrentIndex(max(0, self.batch.findData(settings.batch)))
        self.method.setCurrentIndex(max(0, self.method.findData(settings.method)))
        self.head.setCurrentIndex(max(0, self.head.findData(settings.head)))

    def write(self) -> None:
        """Tell the study what was chosen."""
        settings = self.session.study.settings.adapt
        settings.batch, settings.method = self.batch.currentData(), self.method.currentData()
        settings.head = self.head.currentData()
        settings.train_on = [self.train_on.currentData()] if self.train_on.currentData() else []

    @property
    def needs_controls(self) -> bool:
        """Whether what is chosen can't do without controls."""
        head = self.head.currentData()
        if head != "linear":
            return OFFERED_HEADS[head].needs_controls
        return REGISTRY[self.method.currentData()].needs == "controls"

    def value(self, entry: SlideEntry) -> str:
        """What a slide has of what is corrected for."""
        key = self.batch.currentData()
        return str(entry.name if key == "slide" else getattr(entry, key))

    def _explain(self) -> None:
        head = self.head.currentData()
        is_linear = head == "linear"
        self._form.setRowVisible(self.method, is_linear)
        sentence = (REGISTRY[self.method.currentData()] if is_linear else OFFERED_HEADS[head]).sentence
        self.explained.setText(sentence)
