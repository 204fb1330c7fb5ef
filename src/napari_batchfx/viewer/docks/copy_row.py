"""Copy the last step of a dock as Python or as a command."""

from __future__ import annotations

from typing import TYPE_CHECKING

from qtpy.QtGui import QGuiApplication
from qtpy.QtWidgets import QHBoxLayout, QLabel, QPushButton, QWidget

if TYPE_CHECKING:
    from napari_batchfx.study import Step
    from napari_batchfx.viewer.docks.common import Dock

__all__ = ["CopyRow"]

#: Kinds of steps that a dock does, by its title.
KINDS = {
    "encode": ("encode",),
    "probe": ("probe", "components", "robustness", "probe-after"),
    "stain": ("stain-effect",),
    "adapt": ("adapt",),
    "report": ("report", "export"),
}


class CopyRow(QWidget):
    """``Copy as: [Python] [command]`` for what the dock did last.

    Parameters
    ----------
    dock : Dock
    kinds : tuple of str
        Kinds of steps that it does.
    """

    def __init__(self, dock: Dock, kinds: tuple[str, ...]) -> None:
        super().__init__()
        self._dock, self._kinds = dock, kinds
        self.python = QPushButton("Python")
        self.command = QPushButton("Command")
        line = QHBoxLayout(self)
        line.setContentsMargins(0, 0, 0, 0)
        line.addWidget(QLabel("Copy as"))
        for button, what in ((self.python, "Python"), (self.command, "a command line")):
            button.setAccessibleName(f"Copy as {what}")
            line.addWidget(button)
        line.addStretch(1)
        self.python.clicked.connect(lambda *_: self.copy("as_python"))
        self.command.clicked.connect(lambda *_: self.copy("as_command"))
        session = dock.session
        for signal in (
            session.study_changed,
            session.results_changed,
            session.features_changed,
            session.settings_changed,
        ):
            signal.connect(lambda *_: self.refresh())
        self.refresh()

    def step(self) -> Step | None:
        """The dock's step that was done last."""
        own = [step for step in self._dock.session.study.steps if step.kind in self._kinds]
        # of two in the same second the later one of the list
        return max(reversed(own), key=lambda step: step.when, default=None)

    def refresh(self) -> None:
        """Enable the buttons where there is a step."""
        step = self.step()
        for button in (self.python, self.command):
            button.setEnabled(step is not None)
            tip = "Nothing was done here yet." if step is None else f"Does this again: {step.sentence()}"
            button.setToolTip(tip)

    def copy(self, how: str) -> None:
        """Put the step onto the clipboard."""
        step, clipboard = self.step(), QGuiApplication.clipboard()
        if step is None or clipboard is None:
            return
        study = self._dock.session.study
        place = f"{study.name}.batchfx" if study.is_temporary else None
        clipboard.setText(getattr(step, how)(place))
        what = "Python" if how == "as_python" else "command"
        self._dock.card.say(
            f"Copied: {step.title} as {what}.",
            "The study isn't saved yet: save it first (Report), and put its place into the text."
            if study.is_temporary
            else "",
        )
