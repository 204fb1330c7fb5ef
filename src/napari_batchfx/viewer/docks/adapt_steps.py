"""What the four steps of the Adapt dock share: a numbered heading and a column under it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from qtpy.QtWidgets import QFormLayout, QLabel, QSizePolicy, QVBoxLayout, QWidget
from superqt import QFlowLayout

if TYPE_CHECKING:
    from napari_batchfx.viewer.docks.common import Dock

__all__ = ["AdaptPart", "button_line", "wrapping"]


class AdaptPart(QWidget):
    """One step.

    Parameters
    ----------
    dock : Dock
        Whose session and card it uses.
    title : str
        Such as "1  Labels".
    """

    def __init__(self, dock: Dock, title: str) -> None:
        super().__init__()
        self.dock = dock
        self.session = dock.session
        self.card = dock.card
        self.setAccessibleName(title)
        self.column = QVBoxLayout(self)
        self.column.setContentsMargins(0, 0, 0, 2)
        self.column.setSpacing(5)
        self.heading = QLabel(title)
        font = self.heading.font()
        font.setBold(True)
        self.heading.setFont(font)
        self.column.addWidget(self.heading)

    def add(self, *widgets: QWidget) -> None:
        """Put widgets below what is there."""
        for widget in widgets:
            self.column.addWidget(widget)

    def add_form(self) -> QFormLayout:
        """Start a form of labelled rows."""
        form = QFormLayout()
        form.setContentsMargins(0, 0, 0, 0)
        form.setRowWrapPolicy(QFormLayout.RowWrapPolicy.DontWrapRows)
        form.setFieldGrowthPolicy(QFormLayout.FieldGrowthPolicy.AllNonFixedFieldsGrow)
        self.column.addLayout(form)
        return form


def wrapping(text: str = "") -> QLabel:
    """A label of several lines that never asks for more width than it has."""
    label = QLabel(text)
    label.setWordWrap(True)
    label.setSizePolicy(QSizePolicy.Policy.Ignored, QSizePolicy.Policy.Minimum)
    return label


def button_line(*buttons: QWidget, gap: int = 4) -> QWidget:
    """Small buttons side by side that go on in the next line where there is no room."""
    line = QWidget()
    flow = QFlowLayout(line)
    flow.setContentsMargins(0, 0, 0, 0)
    flow.setHorizontalSpacing(gap)
    flow.setVerticalSpacing(gap)
    policy = QSizePolicy(QSizePolicy.Policy.Ignored, QSizePolicy.Policy.Preferred)
    policy.setHeightForWidth(True)
    line.setSizePolicy(policy)
    for button in buttons:
        flow.addWidget(button)
    return line
