"""Which kinds of layers a slide can have, and showing one kind of overlay at a time."""

from __future__ import annotations

from typing import TYPE_CHECKING

from napari_batchfx.viewer import seam
from napari_batchfx.viewer.layers import tag

if TYPE_CHECKING:
    from napari_batchfx.viewer.session import Session

__all__ = ["KINDS", "show_only"]

# Order of a slide's layers from bottom to top. A "space" shows nothing: it keeps a place in the grid.
KINDS = (
    "slide",
    "preview",
    "tissue",
    "artefacts",
    "encoded",
    "probe",
    "stability",
    "before",
    "after",
    "changed",
    "uncertainty",
    "class",
    "picked",
    "controls",
    "regions",
    "landmarks",
    "space",
)

_ALWAYS = ("slide", "regions", "landmarks", "tissue", "artefacts", "picked", "controls")
"""What other docks show and hide: no overlay of tile values."""

_NOTES = {"probe": "grey is guessing", "encoded": "similar colours look alike to the encoder"}
"""What the canvas says after the name of an overlay."""


def show_only(session: Session, kind: str | None, note: str = "") -> None:
    """Of all overlays leave visible those of one kind; ``None`` hides them all. Slides and regions stay.

    The canvas says what is shown, with ``note`` after it, and has a legend where colours are numbers.
    """
    viewer = session.viewer
    for layer in viewer.layers:
        own = tag(layer).get("kind")
        if own in KINDS and own not in _ALWAYS:
            seam.set_visible(layer, own == kind)
            seam.set_colorbar(viewer, layer, False)
    shown = [
        layer
        for layer in viewer.layers
        if tag(layer).get("kind") == kind and not tag(layer).get("placeholder")
    ]
    if shown and kind in ("probe", "encoded", "stability", "uncertainty", "class"):
        seam.set_colorbar(viewer, shown[-1], True)  # one legend is enough: the slides share the scale
    title = shown[-1].name.rpartition(" · ")[2] if shown else ""
    note = note or _NOTES.get(str(kind), "")
    seam.show_text(viewer, f"{title} · {note}" if title and note else title)
