"""What the model saw: the tile that was clicked, stage by stage, its values and where it comes from."""

from __future__ import annotations

import html
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from qtpy.QtCore import QEvent, QObject, QSize, Qt, QTimer
from qtpy.QtGui import QGuiApplication
from qtpy.QtWidgets import (
    QCheckBox,
    QDockWidget,
    QFileDialog,
    QGridLayout,
    QLabel,
    QMainWindow,
    QSizePolicy,
    QWidget,
)

from napari_batchfx.errors import BatchfxError
from napari_batchfx.viewer.docks.common import Dock, More, hint, tool_button
from napari_batchfx.viewer.docks.tile_pictures import PictureRow, TilePicture
from napari_batchfx.viewer.tile_view import tile_view_for

if TYPE_CHECKING:
    import napari

    from napari_batchfx.study import SeenTile

__all__ = ["TileDock"]

_ARROWS = {
    Qt.Key.Key_Up: (-1, 0),
    Qt.Key.Key_Down: (1, 0),
    Qt.Key.Key_Left: (0, -1),
    Qt.Key.Key_Right: (0, 1),
}
_STEPS = (
    ("←", "the tile to the left", (0, -1)),
    ("↑", "the tile above", (-1, 0)),
    ("↓", "the tile below", (1, 0)),
    ("→", "the tile to the right", (0, 1)),
)
_PATIENCE_MS = 400
_TALL = 560


class TileDock(Dock):
    """Click a tile on a slide: as scanned, after stain normalisation, and what the model got."""

    title = "tile"

    def __init__(self, napari_viewer: napari.Viewer | None = None) -> None:
        super().__init__(napari_viewer)
        self.view = tile_view_for(self.session)
        self.around = TilePicture("around it", "around", "The tile and its surroundings, as scanned.")
        self.read = TilePicture(
            "as scanned", "scanned", "The tile in its physical size, in the colours of the slide."
        )
        self.stained = TilePicture(
            "after stain", "stained", "After stain normalisation, where one is set under Encode."
        )
        self.seen = TilePicture(
            "what the model got",
            "model got",
            "After the encoder's own resize: the pixels the model works on.",
        )
        self.pictures = PictureRow((self.around, self.read, self.stained, self.seen))
        self.steps = []
        buttons = QWidget()
        line = QGridLayout(buttons)
        line.setContentsMargins(0, 0, 0, 0)
        line.setHorizontalSpacing(2)
        for column, (arrow, what, by) in enumerate(_STEPS):
            tip = f"Look at {what} (arrow keys do it while this panel has the focus)."
            button = tool_button(arrow, tip, partial(self.step, *by))
            button.setAccessibleName(what.capitalize())
            button.setFixedWidth(button.fontMetrics().horizontalAdvance("→") + 16)
            line.addWidget(button, 0, column)
            self.steps.append(button)
        self.copy = tool_button("Copy text", "Copy values and provenance as text.", self.copy_text)
        self.save = tool_button(
            "Save ...", "Save the pictures as PNG, with values and provenance inside.", self.ask_and_save
        )
        line.setColumnStretch(4, 1)
        for column, button in ((5, self.copy), (6, self.save)):
            line.addWidget(button, 0, column)

        self.pick = QCheckBox("Look on click")
        self.pick.setToolTip(
            "A click on a slide shows its tile while this panel is open; dragging still moves the view, and drawing tools keep their clicks."
        )
        self.pick.setChecked(True)
        self.follow = QCheckBox("Follow the pointer")
        self.follow.setToolTip("Show the tile under the pointer wherever it rests.")
        self.more = More("Where it comes from")
        self.named = QCheckBox("Copy and save with the slide's name")
        self.named.setToolTip(
            "Names of slides can name a patient: they are left out of text and files unless this is ticked."
        )
        self.facts = QLabel()
        self.facts.setWordWrap(True)
        self.facts.setTextFormat(Qt.TextFormat.RichText)
        self.facts.setTextInteractionFlags(
            Qt.TextInteractionFlag.TextSelectableByMouse | Qt.TextInteractionFlag.TextSelectableByKeyboard
        )
        self.facts.setAccessibleName("Where it comes from")
        self.facts.setSizePolicy(QSizePolicy.Policy.Ignored, QSizePolicy.Policy.Minimum)
        self.more.form.addRow(self.facts)
        self.more.form.addRow(self.named)
        self.more.form.addRow(
            hint(
                "The pictures are the pixels themselves: read, normalised and resized by the same code that encodes."
            )
        )
        checks = QWidget()
        line = QGridLayout(checks)
        line.setContentsMargins(0, 0, 0, 0)
        line.addWidget(self.pick, 0, 0)
        line.addWidget(self.follow, 0, 1)
        self.add(self.pictures, buttons, checks, self.more)
        self.finish()
        self._open: SeenTile | None = None
        # Only a wait that is felt is said: a card that flickers with every step can't be read.
        self._patience = QTimer(self)
        self._patience.setSingleShot(True)
        self._patience.setInterval(_PATIENCE_MS)
        self._patience.timeout.connect(self._say_wait)
        self._waits_for = ""
        self._has_place = False
        self._place = QTimer(self)
        self._place.setSingleShot(True)
        self._place.timeout.connect(self._share_height)
        self.view.shown.connect(self.show_tile)
        self.view.missed.connect(self._on_missed)
        self.view.cleared.connect(self._on_cleared)
        self.view.job.progressed.connect(self._on_progress)
        self.view.job.failed.connect(self._on_failed)
        self.view.job.ended.connect(self._patience.stop)
        self.pick.toggled.connect(self._switch)
        self.follow.toggled.connect(self._switch)
        self.session.slides_changed.connect(self._refresh)
        for child in self.findChildren(QWidget):
            child.installEventFilter(self)
        self._on_cleared()
        if self.view.tile is not None:
            self.show_tile(self.view.tile)

    # ------------------------------------------------------------------ what the user does

    def step(self, down: int, right: int) -> bool:
        """Look at a neighbour."""
        return self.view.step(down, right)

    def copy_text(self) -> None:
        """Put values and provenance on the clipboard."""
        clipboard = QGuiApplication.clipboard()
        if clipboard is not None and self._open is not None:
            clipboard.setText(self._open.text(with_names=self.named.isChecked()))

    def ask_and_save(self) -> None:
        """Ask where, and save the pictures."""
        if self._open is None:
            return
        row, col = self._open.cell
        path, _ = QFileDialog.getSaveFileName(
            self, "Save what the model saw", f"tile-r{row}-c{col}.png", "PNG (*.png)"
        )
        if path:
            self.save_to(Path(path))

    def save_to(self, path: Path) -> Path | None:
        """Save the pictures with values and provenance."""
        tile = self._open
        if tile is None:
            return None
        saved: Path | None = self.guarded(lambda: tile.save(path, with_names=self.named.isChecked()))
        return saved

    def sizeHint(self) -> QSize:
        """Small enough to stand under another dock."""
        return QSize(380, 330)

    def resizeEvent(self, event: Any) -> None:
        """Little height: the pictures in one row."""
        super().resizeEvent(event)
        self.pictures.set_columns(4 if self.height() < _TALL else 2)

    def keyPressEvent(self, event: Any) -> None:
        """Arrow keys look at the neighbours."""
        if not self._on_key(event):
            super().keyPressEvent(event)

    def eventFilter(self, watched: QObject, event: QEvent) -> bool:
        """Arrow keys step wherever the focus is in the panel; buttons would take them to move the focus."""
        return event.type() == QEvent.Type.KeyPress and watched is not self and self._on_key(event)

    def _on_key(self, event: Any) -> bool:
        plain = event.modifiers() in (Qt.KeyboardModifier.NoModifier, Qt.KeyboardModifier.KeypadModifier)
        by = _ARROWS.get(event.key()) if plain else None
        if by is None or self._open is None:
            return False
        self.step(*by)
        event.accept()
        return True

    def showEvent(self, event: Any) -> None:
        """The panel is seen: clicks count."""
        super().showEvent(event)
        self._switch()
        if not self._has_place:
            self._has_place = True
            self._place.start()  # once the window has laid it out

    def _share_height(self) -> None:
        """Leave the docks above their height: Qt gives a new one nearly all of it."""
        dock: Any = self.parent()
        while dock is not None and not isinstance(dock, QDockWidget):
            dock = dock.parent()
        window = None if dock is None or dock.isFloating() else dock.parent()
        if not isinstance(window, QMainWindow):
            return
        own = self.sizeHint().height() + 40
        others = [
            other
            for other in window.findChildren(QDockWidget)
            if other is not dock
            and other.isVisible()
            and not other.isFloating()
            and window.dockWidgetArea(other) == window.dockWidgetArea(dock)
            and dock not in window.tabifiedDockWidgets(other)
        ]
        if others:
            rest = sum(other.height() for other in (dock, *others)) - own
            heights = [max(100, rest // len(others))] * len(others)
            window.resizeDocks([*others, dock], [*heights, own], Qt.Orientation.Vertical)

    def hideEvent(self, event: Any) -> None:
        """The panel is away: clicks are napari's alone, and no frame stays behind."""
        super().hideEvent(event)
        self._switch()

    def _switch(self, _on: bool = False) -> None:
        seen = self.isVisible()
        self.view.set_picking(seen and self.pick.isChecked())
        self.view.set_following(seen and self.follow.isChecked())
        if not seen:
            self.view.frame.hide()
        elif self.view.tile is not None and self.view.entry is not None:
            self.view.frame.show(self.view.entry, self.view.tile.bounds_um)

    # ------------------------------------------------------------------ what the user sees

    def show_tile(self, tile: SeenTile) -> None:
        """Show what is known of a tile."""
        self._open = tile
        self._patience.stop()
        self.around.show_pixels(tile.context, frame_px=tile.frame_px)
        self.read.show_pixels(tile.as_read)
        self.stained.show_pixels(tile.as_stained, "no stain\nnormalisation")
        self.seen.show_pixels(tile.as_seen)
        row, col = tile.cell
        lines = [f"{name}: {text}" for name, text in tile.words.items()]
        if not lines:
            lines = ["No overlay has a value here." if tile.stored else "Not encoded yet."]
        self.card.say(
            f"Row {row}, column {col} of {tile.slide}",
            "\n".join([*lines, *tile.warnings]),
            kind="warn" if tile.warnings else "info",
        )
        self.facts.setText(_table(tile.facts(with_names=True)))
        self._allow(True)

    def _on_missed(self, why: str) -> None:
        self.card.say(why, kind="warn")

    def _on_cleared(self) -> None:
        self._open = None
        self._patience.stop()
        for picture in (self.around, self.read, self.stained, self.seen):
            picture.show_pixels(None)
        self.facts.setText("")
        self._allow(False)
        self.card.say("")
        self._refresh()

    def _refresh(self) -> None:
        if self._open is not None:
            return
        ready = bool(self.session.ready_slides())
        if ready:
            self.card.say("Click on a slide to see what the model saw there.")
        else:
            self.card.say("No slide to look at yet.", links={"Open Slides": "dock:slides"})

    def _allow(self, on: bool) -> None:
        for widget in (*self.steps, self.copy, self.save):
            widget.setEnabled(on)

    def _on_progress(self, progress: Any) -> None:
        self._waits_for = progress.text() if progress.unit == "bytes" else f"{progress.what} ..."
        if progress.unit == "bytes":
            self._say_wait()
        elif self._open is None and not self._patience.isActive():
            self._patience.start()

    def _say_wait(self) -> None:
        text = self._waits_for
        self.card.say(text[:1].upper() + text[1:])

    def _on_failed(self, error: BaseException) -> None:
        self._on_cleared()
        if isinstance(error, (BatchfxError, OSError)):
            self.card.say(str(error), kind="error")
        else:
            self.card.fail(error)


def _table(facts: dict[str, str]) -> str:
    """Provenance as a table of two columns that breaks its lines; long identities break anywhere."""
    rows = "".join(
        f"<tr><td style='padding-right:8px; white-space:nowrap'>{html.escape(key)}</td><td>{_breakable(text)}</td></tr>"
        for key, text in facts.items()
    )
    return f"<table cellspacing='0' cellpadding='1'>{rows}</table>"


def _breakable(text: str) -> str:
    escaped = html.escape(text)
    if " " in text or len(text) < 24:
        return escaped
    return "&#8203;".join(html.escape(text[i : i + 8]) for i in range(0, len(text), 8))
