"""Small parts of the Stain dock: what is shown, the strength, and shapes as polygons of a slide."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
from qtpy.QtCore import Qt
from qtpy.QtWidgets import QButtonGroup, QGridLayout, QLabel, QPushButton, QSizePolicy, QSlider, QWidget

from napari_batchfx.viewer import regions

if TYPE_CHECKING:
    from napari_batchfx.study import SlideEntry
    from napari_batchfx.viewer.session import Session

__all__ = ["SHOW", "ShowRow", "StrengthRow", "drawn_polygons"]

SHOW = (
    ("off", "Off", "The slides as they were scanned."),
    ("preview", "Preview", "The slides with their stain normalised, computed for what you see."),
    ("first", "H", "Haematoxylin alone."),
    ("second", "E", "Eosin alone (DAB on immunohistochemistry)."),
)


class ShowRow(QWidget):
    """One of the buttons is down, or none."""

    def __init__(self) -> None:
        super().__init__()
        self.group = QButtonGroup(self)
        line = QGridLayout(self)
        line.setContentsMargins(0, 0, 0, 0)
        line.setSpacing(2)
        for k, (_, text, tooltip) in enumerate(SHOW):
            button = QPushButton(text)
            button.setCheckable(True)
            button.setToolTip(tooltip)
            button.setAccessibleName(f"Show {text}")
            button.setSizePolicy(QSizePolicy.Policy.Ignored, QSizePolicy.Policy.Fixed)
            self.group.addButton(button, k)
            line.addWidget(button, 0, k)
            line.setColumnStretch(k, len(text) + 3)
        self.group.button(0).setChecked(True)

    def allow(self, has_slides: bool, has_stains: bool) -> None:
        """Whether there are slides, and whether the method separates stains."""
        for k, (_, _, tooltip) in enumerate(SHOW):
            button = self.group.button(k)
            possible = has_slides and (k < 2 or has_stains)
            button.setEnabled(possible)
            why = "This method matches colour as a whole and separates no stains."
            button.setToolTip(tooltip if possible or not has_slides else why)

    def check(self, what: str | None) -> None:
        """Put the button of what is shown down; ``None``: none of them says it."""
        if what is None:
            self.group.setExclusive(False)
            for button in self.group.buttons():
                button.setChecked(False)
            self.group.setExclusive(True)
        else:
            self.group.button(next(k for k, (key, *_) in enumerate(SHOW) if key == what)).setChecked(True)


class StrengthRow(QWidget):
    """A slider from 0 to 100 with its value beside it."""

    def __init__(self, tooltip: str) -> None:
        super().__init__()
        self.slider = QSlider(Qt.Orientation.Horizontal)
        self.slider.setRange(0, 100)
        self.slider.setValue(100)
        self.slider.setAccessibleName("Strength")
        self.slider.setToolTip(tooltip)
        self.percent = QLabel("100 %")
        self.slider.valueChanged.connect(lambda value: self.percent.setText(f"{value} %"))
        line = QGridLayout(self)
        line.setContentsMargins(0, 0, 0, 0)
        line.addWidget(self.slider, 0, 0)
        line.addWidget(self.percent, 0, 1)

    def put(self, value: int) -> None:
        """Show a value without telling anybody."""
        blocked = self.slider.blockSignals(True)
        self.slider.setValue(value)
        self.slider.blockSignals(blocked)
        self.percent.setText(f"{self.slider.value()} %")


def drawn_polygons(session: Session, entry: SlideEntry) -> list[Any]:
    """The selected shapes that touch a slide, as polygons of (y, x) in its own pixels."""
    slide = session.study.open_slide(entry)
    mpp = np.asarray(slide.mpp or (1.0, 1.0))
    found = []
    for polygon in regions.selected_polygons(session):
        own = session.to_slide_um(entry, polygon) / mpp
        inside = ((own >= 0) & (own <= slide.shape)).all(axis=1)
        if len(own) > 2 and inside.any():
            found.append([(float(y), float(x)) for y, x in own])
    return found
