"""What the status bar says over a tile: its row and column, and its value with the unit."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any
from weakref import ref

import numpy as np

from napari_batchfx.viewer import seam
from napari_batchfx.viewer.layers import tag

if TYPE_CHECKING:
    from collections.abc import Callable

    from napari.layers import Layer

    from napari_batchfx.viewer.session import Session

__all__ = ["TILE_KINDS", "TileStatus", "tile_at", "value_at"]

TILE_KINDS = ("encoded", "probe", "before", "after", "changed")
"""Kinds of layers with one value a tile."""


class TileStatus:
    """Lets the layers of a session's slides answer napari's status bar in tiles.

    napari asks a layer what is under the pointer and writes the pixel's number; over an overlay that is one pixel
    a tile and no unit. A slide that is selected tells what the overlay over it shows.
    """

    def __init__(self, session: Session) -> None:
        self._session = ref(session)  # layers outlive the session's window
        for layer in session.viewer.layers:
            self._attach(layer)
        session.viewer.layers.events.inserted.connect(self._on_inserted)

    def _on_inserted(self, event: Any) -> None:
        self._attach(event.value)

    def _attach(self, layer: Layer) -> None:
        if tag(layer).get("kind") not in (*TILE_KINDS, "slide") or "get_status" in vars(layer):
            return
        # napari has no setting for it: the layer's answer is completed. Called from napari's status thread.
        vars(layer)["get_status"] = _completed(ref(layer), self._session)


def _completed(layer_of: ref[Layer], session_of: ref[Session]) -> Callable[..., dict[str, str]]:
    def get_status(position: Any = None, **options: Any) -> dict[str, str]:
        layer, session = layer_of(), session_of()
        if layer is None:
            return {}
        status: dict[str, str] = type(layer).get_status(layer, position, **options)
        if session is None or position is None or not options.get("world"):
            return status
        if tag(layer).get("placeholder"):
            return status
        world = np.asarray(position, dtype=float)[-2:]
        other = _under_pointer(session, layer)
        if other is not None:
            # napari asks the selected slide, whichever cell of the grid the pointer is in.
            said = _over(session, other, world)
            status["value"] = f"{other.name} · {said}" if said else other.name
        elif tag(layer)["kind"] == "slide":
            said = _over(session, layer, world) if session.viewer.layers.selection.active is layer else ""
            status["value"] += f" · {said}" if said else ""
        else:
            entry = session.entry_of(layer)
            said = "" if entry is None else _words(layer, session.to_slide_um(entry, world)[0])
            status["value"] = said or status["value"]
        status["coordinates"] = f"{status['coords']}: {status['value']}"
        return status

    return get_status


def _under_pointer(session: Session, layer: Layer) -> Layer | None:
    """In the grid, the slide whose cell the pointer is in, where that is another one's than the layer's."""
    viewer, settings = session.viewer, seam.grid(session.viewer)
    if not settings.enabled or viewer.layers.selection.active is not layer:
        return None
    layers = list(viewer.layers)
    cell = tuple(viewer.cursor.viewbox or ())
    if not cell or layer not in layers or settings.position(layers.index(layer), layers) in (cell, (-1, -1)):
        return None
    slides = (one for one in layers if tag(one).get("kind") == "slide")
    return next((one for one in slides if settings.position(layers.index(one), layers) == cell), None)


def _over(session: Session, slide: Layer, world_um: np.ndarray) -> str:
    """What the overlay that is seen over a slide shows."""
    entry = session.entry_of(slide)
    if entry is None:
        return ""
    place = session.to_slide_um(entry, world_um)[0]
    for overlay in reversed(session.layers_of(entry)):
        if overlay.visible and tag(overlay)["kind"] in TILE_KINDS and not tag(overlay).get("placeholder"):
            words = _words(overlay, place, title=overlay.name.rpartition(" · ")[2])
            if words:
                return words
    return ""


def _words(layer: Layer, place_um: np.ndarray, title: str = "") -> str:
    cell = tile_at(layer, place_um)
    if cell is None:
        return ""
    return f"r{cell[0]} c{cell[1]}" + (f" · {title}" if title else "") + f": {value_at(layer, place_um)[1]}"


def tile_at(layer: Layer, place_um: Any) -> tuple[int, int] | None:
    """The tile (row, column) of an overlay at a place (y, x) in the slide's micrometres, or ``None``."""
    offset = (np.asarray(place_um, dtype=float) - layer.translate[-2:]) / layer.scale[-2:]
    row, col = (int(v) for v in np.floor(offset + 0.5))
    rows, cols = layer.data.shape[-2:]
    return (row, col) if 0 <= row < rows and 0 <= col < cols else None


def value_at(layer: Layer, place_um: Any) -> tuple[float, str]:
    """What an overlay shows at a place (y, x) in the slide's micrometres, and in words; NaN beside its tiles."""
    from napari_batchfx.tiles.tilemap import value_in_words

    cell = tile_at(layer, place_um)
    value = float("nan") if cell is None else float(layer.data[cell])
    info = tag(layer)
    words = value_in_words(value, info.get("unit", ""), info.get("chance"), info.get("labels", ()))
    return value, words
