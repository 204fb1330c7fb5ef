"""What a probe found, page by page: a row of buttons that wraps, and the page that is chosen, no higher than it needs."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from qtpy.QtCore import Signal
from qtpy.QtWidgets import QButtonGroup, QPushButton, QSizePolicy, QVBoxLayout, QWidget
from superqt import QFlowLayout

if TYPE_CHECKING:
    from napari_batchfx.study import ProbeOutcome
    from napari_batchfx.study.findings import Finding
    from napari_batchfx.viewer.docks.common import Dock

__all__ = ["Pages", "ProbePage"]


class ProbePage(QWidget):
    """One page. It is made when it is first looked at, and told of a result while it is looked at.

    Parameters
    ----------
    dock : Dock
        Whose session and card it uses.
    """

    def __init__(self, dock: Dock) -> None:
        super().__init__()
        self.dock = dock
        self.session = dock.session
        self.column = QVBoxLayout(self)
        self.column.setContentsMargins(0, 4, 0, 0)
        self.column.setSpacing(6)

    def show_outcome(self, outcome: ProbeOutcome) -> None:
        """Show a result."""

    def stale(self, found: Finding) -> str:
        """What to say before a finding whose slides, classes or control samples are others now; else empty."""
        if self.session.study.still_holds(found):
            return ""
        return "<b>Slides, regions or control samples have changed since; run it again.</b><br>"

    def set_seen(self, on: bool) -> None:
        """It is looked at from now on, or no longer."""


class Pages(QWidget):
    """Pages under buttons.

    Tabs would need arrows to reach the last ones in 300 px; buttons wrap.
    """

    turned = Signal(str)

    def __init__(self, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self._makers: dict[str, Callable[[], ProbePage]] = {}
        self._pages: dict[str, ProbePage] = {}
        self.buttons: dict[str, QPushButton] = {}
        self._group = QButtonGroup(self)
        self._group.setExclusive(True)
        self._current = ""
        self._outcome: ProbeOutcome | None = None
        self._shown: dict[str, ProbeOutcome] = {}
        self._bar = QWidget()
        flow = QFlowLayout(self._bar)
        flow.setContentsMargins(0, 0, 0, 0)
        flow.setHorizontalSpacing(3)
        flow.setVerticalSpacing(3)
        self._flow = flow
        policy = QSizePolicy(QSizePolicy.Policy.Ignored, QSizePolicy.Policy.Preferred)
        policy.setHeightForWidth(True)
        self._bar.setSizePolicy(policy)
        self._column = QVBoxLayout(self)
        self._column.setContentsMargins(0, 0, 0, 0)
        self._column.setSpacing(4)
        self._column.addWidget(self._bar)

    def add(self, name: str, tooltip: str, maker: Callable[[], ProbePage]) -> None:
        """Another page; it is made when it is first turned to."""
        button = QPushButton(name)
        button.setToolTip(tooltip)
        button.setAccessibleName(name)
        button.setCheckable(True)
        button.setStyleSheet("QPushButton { padding: 3px 6px; min-width: 0px; }")
        button.clicked.connect(lambda *_: self.turn(name))
        self._group.addButton(button)
        self._flow.addWidget(button)
        self.buttons[name] = button
        self._makers[name] = maker

    @property
    def current(self) -> str:
        """Name of the page that is shown."""
        return self._current

    def page(self, name: str) -> ProbePage:
        """A page, made where it isn't yet."""
        if name not in self._pages:
            page = self._pages[name] = self._makers[name]()
            page.hide()
            self._column.addWidget(page)
        return self._pages[name]

    def turn(self, name: str) -> ProbePage:
        """Look at a page."""
        if self._current and self._current != name:
            old = self._pages[self._current]
            old.hide()
            old.set_seen(False)
        page = self.page(name)
        self._current = name
        self.buttons[name].setChecked(True)
        page.show()
        self._fill()
        page.set_seen(self.isVisible())
        self.turned.emit(name)
        return page

    def show_outcome(self, outcome: ProbeOutcome | None) -> None:
        """Show a result on the page that is looked at; the others get it when they are turned to."""
        self._outcome = outcome
        self.setVisible(outcome is not None)
        if not self._current:
            self.turn(next(iter(self._makers)))
        self._fill()

    def showEvent(self, event: object) -> None:
        super().showEvent(event)
        if self._current:
            self._pages[self._current].set_seen(True)

    def hideEvent(self, event: object) -> None:
        super().hideEvent(event)
        if self._current:
            self._pages[self._current].set_seen(False)

    def _fill(self) -> None:
        name, outcome = self._current, self._outcome
        if outcome is not None and self._shown.get(name) is not outcome:
            self._shown[name] = outcome
            self._pages[name].show_outcome(outcome)
