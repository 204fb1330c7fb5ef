"""Which slides take part, and hiding the images of those that do not."""

from __future__ import annotations

from typing import TYPE_CHECKING

from napari_batchfx.viewer.layers import tag

if TYPE_CHECKING:
    from napari.layers import Layer

    from napari_batchfx.study import SlideEntry
    from napari_batchfx.viewer.session import Session

__all__ = ["Others", "chosen"]


def chosen(session: Session, front: str | None, behind: str | None) -> list[SlideEntry]:
    """The slides asked for by fingerprint, front first; all that are shown where none is.

    A slide that went is replaced by the first one shown that is not in use.
    """
    shown = session.shown_slides()
    if front is None and behind is None:
        return shown
    known = {entry.fingerprint: entry for entry in shown}
    first, second = known.get(front or ""), known.get(behind or "")
    if first is None:
        first = next((entry for entry in shown if entry is not second), None)
    if second is None:
        second = next((entry for entry in shown if entry is not first), None)
    return [entry for entry in (first, second) if entry is not None]


class Others:
    """Hides the images of slides that take no part: they show nothing, and would be read at every move.

    What the user shows again by hand stays shown; all others come back when the mode ends.
    """

    def __init__(self, session: Session) -> None:
        self._session = session
        self._hidden: list[Layer] = []
        self._kept: list[Layer] = []

    def hide(self, taking_part: list[SlideEntry]) -> None:
        """Hide all but these, and show again those of them that were hidden here."""
        own = {entry.fingerprint for entry in taking_part}
        here = list(self._session.viewer.layers)
        others = [
            layer for layer in here if tag(layer).get("kind") == "slide" and tag(layer)["slide"] not in own
        ]
        self._kept += [layer for layer in self._hidden if layer.visible and layer not in self._kept]
        for layer in self._hidden:
            if layer in here and layer not in others:
                layer.visible = True
        self._hidden = [layer for layer in self._hidden if layer in others and not layer.visible]
        for layer in others:
            if layer.visible and layer not in self._kept:
                layer.visible = False
                self._hidden.append(layer)

    def ask_again(self) -> None:
        """Forget what the user showed by hand: another pair is compared now."""
        self._kept.clear()

    def restore(self) -> None:
        """Show what was hidden here."""
        for layer in self._hidden:
            if layer in self._session.viewer.layers:
                layer.visible = True
        self._hidden, self._kept = [], []

    @property
    def was_overruled(self) -> bool:
        """Whether something hidden here was shown by hand since."""
        return any(layer.visible for layer in self._hidden)

    def is_visible(self, entry: SlideEntry) -> bool:
        """Whether any layer of a slide is visible, or would be if it was not hidden here."""
        return any(
            layer.visible or layer in self._hidden
            for layer in self._session.layers_of(entry)
            if not tag(layer).get("placeholder")
        )
