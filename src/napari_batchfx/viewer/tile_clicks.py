"""Clicks on tiles of the slides, told from drags, for whoever wants to know."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
from qtpy.QtCore import QObject, Signal

if TYPE_CHECKING:
    from collections.abc import Generator

    from napari_batchfx.viewer.session import Session

__all__ = ["TileClicks"]

_CLICK_PX = 4


class TileClicks(QObject):
    """Emits ``clicked(SlideEntry, (y, x))``, micrometres of the slide, while it is switched on.

    Parameters
    ----------
    session : Session
    """

    clicked = Signal(object, object)

    def __init__(self, session: Session, parent: QObject) -> None:
        super().__init__(parent)
        self._session = session

    def set_on(self, on: bool) -> None:
        """Whether clicks are told; drawing tools keep theirs."""
        callbacks = self._session.viewer.mouse_drag_callbacks
        if on and self._on_press not in callbacks:
            callbacks.append(self._on_press)
        elif not on and self._on_press in callbacks:
            callbacks.remove(self._on_press)

    def _on_press(self, viewer: Any, event: Any) -> Generator[None, None, None]:
        from napari_batchfx.viewer.tile_view import slide_at

        active = viewer.layers.selection.active
        if event.button != 1 or event.modifiers or (active is not None and str(active.mode) != "pan_zoom"):
            return
        start, moved = np.asarray(event.pos, dtype=float), False
        position, viewbox = tuple(event.position), event.viewbox
        yield
        while event.type == "mouse_move":
            moved |= bool(np.hypot(*(np.asarray(event.pos, dtype=float) - start)) > _CLICK_PX)
            yield
        if moved or viewer.dims.ndisplay != 2:
            return
        found = slide_at(self._session, np.asarray(position, dtype=float)[-2:], viewbox)
        if found is not None:
            self.clicked.emit(*found)
