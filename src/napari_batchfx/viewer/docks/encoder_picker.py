"""Which encoder: a list to choose from or to type into, and a card of what is known about the one chosen."""

from __future__ import annotations

import contextlib
import dataclasses
import html
from collections.abc import Generator, Iterable
from typing import TYPE_CHECKING

from qtpy.QtCore import QObject, Qt, Signal
from qtpy.QtGui import QStandardItemModel
from qtpy.QtWidgets import QCompleter, QFileDialog, QLabel, QSizePolicy, QWidget

from napari_batchfx.errors import EncoderError
from napari_batchfx.jobs import Progress
from napari_batchfx.viewer.docks.common import choice, fill

if TYPE_CHECKING:
    from napari_batchfx.encoders import EncoderCard
    from napari_batchfx.viewer.qtjobs import QtJob

__all__ = ["EncoderPicker", "breakable"]

_FILE, _FOLDER = "batchfx:from-file", "batchfx:from-folder"
_ACTIONS = {_FILE: "Choose a file ...", _FOLDER: "Choose a folder ..."}
_FILTER = "Weights (*.safetensors *.pt *.pth *.ckpt *.bin);;All files (*)"
_ZERO_WIDTH = "\u200b"
_LINK = "#4a90d9"  # readable on napari's dark and light cards


class EncoderPicker(QObject):
    """A combo box of the encoders known by name, into which any other can be typed, and a card below it.

    Parameters
    ----------
    job : QtJob
        Looks up what isn't in the registry (a timm model, a file), off the GUI thread: torch and timm take seconds to
        import.
    parent : QWidget
        The dock.
    """

    chosen = Signal(str)

    def __init__(self, job: QtJob, parent: QWidget) -> None:
        super().__init__(parent)
        self._parent = parent
        self._job = job
        self._name = ""
        self._shown: EncoderCard | None = None
        self._warnings: tuple[str, tuple[str, ...]] = ("", ())
        self.box = choice()
        self.box.setEditable(True)
        self.box.setInsertPolicy(self.box.InsertPolicy.NoInsert)
        # Suggests in a list instead of in the text: what is typed stays what was typed (resnet5 is no resnet50).
        completer = QCompleter(self.box.model(), self.box)
        completer.setCompletionMode(QCompleter.CompletionMode.PopupCompletion)
        completer.setFilterMode(Qt.MatchFlag.MatchContains)
        completer.setCaseSensitivity(Qt.CaseSensitivity.CaseInsensitive)
        self.box.setCompleter(completer)
        self.card = QLabel()
        self.card.setAccessibleName("About the encoder")
        self.card.setWordWrap(True)
        self.card.setTextFormat(Qt.TextFormat.RichText)
        self.card.setTextInteractionFlags(Qt.TextInteractionFlag.TextBrowserInteraction)
        self.card.setOpenExternalLinks(True)
        self.card.setSizePolicy(QSizePolicy.Policy.Ignored, QSizePolicy.Policy.Minimum)
        self._fill()
        self.box.activated.connect(self._on_activated)
        self.box.lineEdit().editingFinished.connect(self._on_edited)
        job.succeeded.connect(self._on_card)
        job.failed.connect(self._on_no_card)

    # ------------------------------------------------------------------ what is chosen

    @property
    def name(self) -> str:
        """What is chosen or typed now, as :func:`napari_batchfx.encoders.load` takes it."""
        text = self.box.currentText().strip()
        return text if text and text not in _ACTIONS.values() else self._name

    def show_name(self, name: str) -> None:
        """Show an encoder as the one chosen."""
        index = self.box.findData(name)
        if index >= 0:
            self.box.setCurrentIndex(index)
        self.box.setEditText(name)
        self.box.lineEdit().setCursorPosition(0)  # of a long name its beginning is seen
        if name != self._name:
            self._name = name
            self._look_up()

    def refresh(self) -> None:
        """Look again whether weights are on this machine, after a download."""
        self._fill()
        if self._shown is not None and not self._job.is_running:
            self._look_up()

    def warn(self, warnings: Iterable[str]) -> None:
        """Say in the card what the loaded encoder warns of, such as a mean that isn't the published one."""
        said = (self._name, tuple(str(warning) for warning in warnings))
        if said != self._warnings:
            self._warnings = said
            if self._shown is not None:
                self._on_card(self._shown)

    def _on_activated(self, index: int) -> None:
        action = self.box.itemData(index)
        if action in _ACTIONS:
            self.box.setEditText(self._name)
            path = self._ask_file() if action == _FILE else self._ask_folder()
            if path:
                self._choose(path)
            return
        self._choose(self.name)

    def _on_edited(self) -> None:
        from napari_batchfx.encoders.naming import plain_name

        name = self.name
        with contextlib.suppress(EncoderError):  # said in the card, where it is looked up
            name = plain_name(name)  # the address of a model's page becomes the model's name
        self._choose(name)

    def _choose(self, name: str) -> None:
        changed = name != self._name
        self.show_name(name)
        if changed:
            self.chosen.emit(name)

    def _ask_file(self) -> str:
        path, _ = QFileDialog.getOpenFileName(self._parent, "Open an encoder's weights", "", _FILTER)
        return str(path)

    def _ask_folder(self) -> str:
        title = "Open an encoder's folder (config.json and weights)"
        return str(QFileDialog.getExistingDirectory(self._parent, title))

    # ------------------------------------------------------------------ the list

    def _fill(self) -> None:
        """The registry's rows, those that can't be loaded greyed with the reason as tooltip, and files."""
        from napari_batchfx.encoders import available, describe

        names = [str(name) for name in available()["name"]]
        typed = self.box.currentText()
        fill(self.box, [(name, name) for name in names] + [(text, key) for key, text in _ACTIONS.items()])
        if typed:
            self.box.setEditText(typed)
        model = self.box.model()
        assert isinstance(model, QStandardItemModel)
        for row, name in enumerate(names):
            card = describe(name)
            item = model.item(row)
            why_not = card.note if not card.loadable else f"needs {card.needs}" if card.needs else ""
            item.setEnabled(not why_not)
            item.setToolTip(f"{card.title}: {why_not}" if why_not else f"{card.title}: {card.text()}")

    # ------------------------------------------------------------------ the card

    def _look_up(self) -> None:
        """Show the card: at once for what is in the registry, else when it was looked up, here or on the hub."""
        from napari_batchfx.encoders import describe
        from napari_batchfx.encoders.hub import is_offline

        name = self._name
        self._job.cancel()
        if self.box.findData(name) >= 0:
            self._on_card(describe(name))
            return
        self._shown = None
        if name.startswith(("hf-hub:", "hf_hub:")):
            try:
                card = describe(name)
            except EncoderError as error:
                self._on_no_card(error)
                return
            self._on_card(card)
            if is_offline() or (card.cached and card.licence != "unknown"):
                return
        else:
            self._write([f"<b>{_plain(breakable(name))}</b>", "looking it up ..."])
        self._job.start(_describe_job(name), "Looking up an encoder")

    def _on_card(self, card: EncoderCard) -> None:
        self._shown = card
        facts = [
            f"{card.dim:,} numbers" if card.dim else "",
            f"{card.input_px} px" + (f" at {card.mpp:g} µm/px" if card.mpp else "") if card.input_px else "",
        ]
        licence = "licence unknown: see its page" if card.licence == "unknown" else card.licence
        terms = "accept its terms first" if card.gated else ""
        if card.loadable:
            place = "on this machine" if card.cached else "to download"
        else:
            place = "can't be loaded here"
        lines = [
            f"<b>{_plain(breakable(card.title or card.name))}</b>"
            + (f" · {_plain(breakable(card.publisher))}" if card.publisher else ""),
            _plain(_joined(facts)),
            _plain(_joined([licence, terms or ("open" if card.licence != "unknown" else "")])),
            _plain(_joined([card.size_text, place])),
        ]
        if card.needs:
            lines.append(f"needs <tt>{_plain(card.needs)}</tt>")
        if card.note:
            lines.append(f"<i>{_plain(card.note)}</i>")
        if self._warnings[0] == self._name:
            lines += [f"<b>Mind:</b> {_plain(warning)}" for warning in self._warnings[1]]
        if card.source.startswith("https://"):
            address = html.escape(card.source, quote=True)
            text = "Accept its terms, read its licence" if card.gated and card.loadable else "Its page"
            lines.append(f'<a style="color:{_LINK}" href="{address}">{text}</a>')
        self._write(lines)

    def _on_no_card(self, error: BaseException) -> None:
        # An error that isn't ours is shown here too: when tiles are encoded it comes again, with its details.
        text = str(error) if isinstance(error, EncoderError) else f"{type(error).__name__}: {error}"
        self._write([_plain(" ".join(word if len(word) <= 24 else breakable(word) for word in text.split()))])

    def _write(self, lines: list[str]) -> None:
        self.card.setText("<br>".join(line for line in lines if line))
        self.card.setAccessibleDescription(" ".join(lines))


def _describe_job(name: str) -> Generator[Progress, None, EncoderCard]:
    from napari_batchfx.encoders import describe
    from napari_batchfx.encoders.llvm import keep_triton_out
    from napari_batchfx.encoders.streaming import answered

    step = Progress(0, 0, "looking up an encoder", "encoders")
    yield step
    keep_triton_out()  # as before every first import of timm in a process with a window
    card = describe(name)
    if not name.startswith(("hf-hub:", "hf_hub:")):
        return card
    try:
        return (yield from answered(lambda: describe(name, ask_hub=True), step))
    except EncoderError as error:  # what is known without the hub is still worth showing
        return dataclasses.replace(card, note=str(error))


def _joined(parts: list[str]) -> str:
    return " · ".join(part for part in parts if part)


def breakable(name: str) -> str:
    """A name that a label can break anywhere, so that a long one doesn't widen the dock; a path keeps its end."""
    text = name if len(name) <= 80 else f"…{name[-79:]}"
    return text if len(text) <= 24 else _ZERO_WIDTH.join(text)


def _plain(text: str) -> str:
    return html.escape(text, quote=False)
