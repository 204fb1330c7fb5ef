"""What every dock is made of: a status card, a folding "More" part, one primary button with progress and cancel."""

from __future__ import annotations

import html
import traceback
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from qtpy.QtCore import QSize, Qt, Signal
from qtpy.QtGui import QGuiApplication
from qtpy.QtWidgets import (
    QComboBox,
    QFormLayout,
    QFrame,
    QHBoxLayout,
    QLabel,
    QProgressBar,
    QPushButton,
    QScrollArea,
    QSizePolicy,
    QToolButton,
    QVBoxLayout,
    QWidget,
)
from superqt import QCollapsible

from napari_batchfx.errors import BatchfxError
from napari_batchfx.jobs import Progress
from napari_batchfx.viewer.session import Session, session_for

if TYPE_CHECKING:
    import napari

    from napari_batchfx.viewer.qtjobs import QtJob

__all__ = ["Dock", "More", "RunRow", "StatusCard", "choice", "fill", "form_row", "hint"]

_LINK = "#4a90d9"  # readable on napari's dark and light cards
_BAR = {"info": "#5b8dd6", "good": "#4f9d69", "warn": "#d99000", "error": "#c8442f"}


class StatusCard(QFrame):
    """What is true now: a sentence, then the numbers smaller, then what to do about it."""

    link = Signal(str)

    def __init__(self, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self.setObjectName("batchfxCard")
        self.setAccessibleName("Status")
        self._headline, self._detail = QLabel(), QLabel()
        for label in (self._headline, self._detail):
            label.setWordWrap(True)
            label.setTextFormat(Qt.TextFormat.RichText)
            label.setTextInteractionFlags(Qt.TextInteractionFlag.TextBrowserInteraction)
            label.setOpenExternalLinks(False)
            label.linkActivated.connect(self._on_link)
            label.setSizePolicy(QSizePolicy.Policy.Ignored, QSizePolicy.Policy.Minimum)
        font = self._headline.font()
        font.setBold(True)
        self._headline.setFont(font)
        layout = QVBoxLayout(self)
        layout.setContentsMargins(10, 8, 8, 8)
        layout.setSpacing(4)
        layout.addWidget(self._headline)
        layout.addWidget(self._detail)
        self._details = ""
        self.say("")

    def say(
        self, headline: str, detail: str = "", *, kind: str = "info", links: dict[str, str] | None = None
    ) -> None:
        """Show a message; ``kind`` is "info", "good", "warn" or "error"; ``links`` maps link texts to what ``link`` emits."""
        self._details = ""
        self._set(headline, detail, kind, links or {})

    def fail(self, error: BaseException) -> None:
        """Show an error in one sentence; anything that is no error of ours gets its traceback behind "Copy details"."""
        if isinstance(error, BatchfxError):
            self.say(str(error), kind="error")
            return
        text = "".join(traceback.format_exception(error))
        self._set(
            "Something went wrong that should not have.",
            f"{type(error).__name__}: {error}. What was finished before is kept.",
            "error",
            {"Copy details": "batchfx:copy-details"},
        )
        self._details = text

    @property
    def text(self) -> str:
        """Headline and detail as plain text (also for screen readers)."""
        return self.accessibleDescription()

    @property
    def kind(self) -> str:
        """The kind of the message shown now."""
        return self._kind

    def _set(self, headline: str, detail: str, kind: str, links: dict[str, str]) -> None:
        self._kind = kind
        lines = [html.escape(line) for line in detail.split("\n") if line]
        lines += [
            f'<a style="color:{_LINK}" href="{html.escape(target)}">{html.escape(text)}</a>'
            for text, target in links.items()
        ]
        self._headline.setText(html.escape(headline))
        self._detail.setText("<br>".join(lines))
        self._detail.setVisible(bool(lines))
        self.setVisible(bool(headline or lines))
        self.setAccessibleDescription(f"{headline} {detail}".strip())
        self.setStyleSheet(
            f"#batchfxCard {{ border: 1px solid palette(mid); border-left: 4px solid {_BAR[kind]}; border-radius: 3px; }}"
        )

    def _on_link(self, target: str) -> None:
        if target == "batchfx:copy-details":
            clipboard = QGuiApplication.clipboard()
            if clipboard is not None:
                clipboard.setText(self._details)
            return
        self.link.emit(target)


class RunRow(QWidget):
    """The primary button, a progress line under it, and Cancel."""

    run = Signal()
    cancel = Signal()

    def __init__(self, text: str, tooltip: str, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self.button = QPushButton(text)
        self.button.setToolTip(tooltip)
        self.button.setAccessibleName(text)
        self.button.clicked.connect(self.run)
        self.bar = QProgressBar()
        self.bar.setTextVisible(False)
        self.bar.setMaximumHeight(8)
        self.line = QLabel()
        self.line.setWordWrap(True)
        self.line.setSizePolicy(QSizePolicy.Policy.Ignored, QSizePolicy.Policy.Minimum)
        self.stop = QPushButton("Cancel")
        self.stop.setToolTip("Stop after the current step; what is done is kept.")
        self.stop.clicked.connect(self.cancel)
        below = QHBoxLayout()
        below.addWidget(self.line, 1)
        below.addWidget(self.stop)
        layout = QVBoxLayout(self)
        layout.setContentsMargins(0, 0, 0, 0)
        layout.addWidget(self.button)
        layout.addWidget(self.bar)
        layout.addLayout(below)
        self.set_running(False)

    def set_running(self, running: bool) -> None:
        """Show the progress line while something runs."""
        self.button.setVisible(not running)
        for part in (self.bar, self.line, self.stop):
            part.setVisible(running)
        if running:
            self.bar.setRange(0, 0)
            self.line.setText("Starting ...")

    def show_progress(self, progress: Progress) -> None:
        """Write how far the job is."""
        if progress.total:
            # In thousandths: the bytes of a large model are more than Qt can count.
            self.bar.setRange(0, 1000)
            self.bar.setValue(round(1000 * progress.fraction))
        else:
            self.bar.setRange(0, 0)
        self.line.setText(progress.text())

    def allow(self, possible: bool, why_not: str = "") -> None:
        """Enable the button, or disable it with the reason as its tooltip."""
        self.button.setEnabled(possible)
        if not possible and why_not:
            self.button.setToolTip(why_not)


class More(QCollapsible):
    """Choices that matter less, folded away."""

    def __init__(self, title: str = "More", parent: QWidget | None = None) -> None:
        super().__init__(title, parent)
        self._body = QWidget()
        self.form = QFormLayout(self._body)
        self.form.setContentsMargins(0, 0, 0, 0)
        self.form.setRowWrapPolicy(QFormLayout.RowWrapPolicy.WrapLongRows)
        self.setDuration(0)
        self.addWidget(self._body)


def form_row(form: QFormLayout, text: str, widget: QWidget, tooltip: str) -> QWidget:
    """Add a labelled row whose widget has the tooltip and the accessible name it needs."""
    label = QLabel(text)
    label.setBuddy(widget)
    label.setToolTip(tooltip)
    widget.setToolTip(tooltip)
    widget.setAccessibleName(text)
    form.addRow(label, widget)
    return widget


def choice(items: list[tuple[str, Any]] | None = None) -> QComboBox:
    """A combo box that never asks for more width than it has."""
    box = QComboBox()
    box.setSizeAdjustPolicy(QComboBox.SizeAdjustPolicy.AdjustToMinimumContentsLengthWithIcon)
    box.setMinimumContentsLength(8)
    for text, data in items or []:
        box.addItem(text, data)
    return box


def fill(box: QComboBox, items: list[tuple[str, Any]], keep: Any = None) -> None:
    """Replace the items of a combo box and keep what was chosen where it is still there."""
    chosen = keep if keep is not None else box.currentData()
    if [(box.itemText(i), box.itemData(i)) for i in range(box.count())] != items:
        blocked = box.blockSignals(True)
        box.clear()
        for text, data in items:
            box.addItem(text, data)
        box.blockSignals(blocked)
    index = box.findData(chosen)
    if index >= 0 and index != box.currentIndex():
        box.setCurrentIndex(index)


def hint(text: str) -> QLabel:
    """A small explaining line."""
    label = QLabel(text)
    label.setWordWrap(True)
    label.setSizePolicy(QSizePolicy.Policy.Ignored, QSizePolicy.Policy.Minimum)
    font = label.font()
    font.setPointSizeF(max(7.0, font.pointSizeF() * 0.9))
    font.setItalic(True)
    label.setFont(font)
    return label


class Dock(QWidget):
    """Base of the docks: a scrolling column with the status card on top; it shares the viewer's session."""

    title = ""

    def __init__(self, napari_viewer: napari.Viewer | None = None) -> None:
        super().__init__()
        from napari_batchfx.viewer import seam

        viewer = napari_viewer or seam.current_viewer()
        if viewer is None:
            raise RuntimeError("There is no napari viewer to work with.")
        self.session: Session = session_for(viewer)
        self.viewer = self.session.viewer
        self.card = StatusCard()
        self.card.link.connect(self._follow)
        self._column = QVBoxLayout()
        self._column.setContentsMargins(6, 6, 6, 6)
        self._column.setSpacing(8)
        self._column.addWidget(self.card)
        body = QWidget()
        body.setLayout(self._column)
        area = QScrollArea()
        area.setWidgetResizable(True)
        area.setFrameShape(QFrame.Shape.NoFrame)
        area.setHorizontalScrollBarPolicy(Qt.ScrollBarPolicy.ScrollBarAlwaysOff)
        area.setWidget(body)
        outer = QVBoxLayout(self)
        outer.setContentsMargins(0, 0, 0, 0)
        outer.addWidget(area)
        self.setMinimumWidth(300)
        self.setObjectName(f"batchfx-{self.title}")

    def sizeHint(self) -> QSize:
        """Wide enough for a slide's name; the dock can be made as narrow as 300 px."""
        return QSize(380, 700)

    def add(self, *widgets: QWidget) -> None:
        """Put widgets below what is there."""
        for widget in widgets:
            self._column.addWidget(widget)

    def add_form(self) -> QFormLayout:
        """Start a form of labelled rows."""
        form = QFormLayout()
        form.setContentsMargins(0, 0, 0, 0)
        form.setRowWrapPolicy(QFormLayout.RowWrapPolicy.DontWrapRows)
        form.setFieldGrowthPolicy(QFormLayout.FieldGrowthPolicy.AllNonFixedFieldsGrow)
        self._column.addLayout(form)
        return form

    def finish(self) -> None:
        """Offer the dock's last step as text, and fill the rest of the column with nothing."""
        from napari_batchfx.viewer.docks.copy_row import KINDS, CopyRow

        if self.title in KINDS:
            self.copy_row = CopyRow(self, KINDS[self.title])
            self.add(self.copy_row)
        self._column.addStretch(1)

    def make_job(
        self,
        row: RunRow,
        on_done: Callable[[Any], None],
        on_ended: Callable[[], None],
        stopped: str = "Stopped. The last result, if any, is still shown.",
    ) -> QtJob:
        """A job runner wired to a row (progress, Cancel) and to the card (errors, what stopping means)."""
        job = self.session.new_job()
        job.progressed.connect(row.show_progress)
        job.succeeded.connect(on_done)
        job.failed.connect(self.card.fail)
        job.cancelled.connect(lambda: self.card.say(stopped))
        job.ended.connect(on_ended)
        row.cancel.connect(job.cancel)
        return job

    def guarded(self, action: Callable[[], Any]) -> Any:
        """Do ``action``; an error becomes a sentence on the card instead of a pop-up."""
        try:
            return action()
        except BatchfxError as error:
            self.card.fail(error)
            return None

    def _follow(self, target: str) -> None:
        """A link on the card: ``dock:slides`` brings that dock forward."""
        if target.startswith("dock:"):
            from napari_batchfx.viewer.workbench import show_dock

            show_dock(self.viewer, target.removeprefix("dock:"))


def tool_button(
    text: str, tooltip: str, clicked: Callable[[], Any], *, checkable: bool = False
) -> QToolButton | QPushButton:
    """A small button with a tooltip."""
    button = QPushButton(text)
    button.setToolTip(tooltip)
    button.setAccessibleName(text)
    button.setCheckable(checkable)
    button.clicked.connect(lambda *_: clicked())
    return button
