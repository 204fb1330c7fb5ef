"""Which slides are on the canvas, and what is seen of each."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from napari_batchfx.study.live_view import Look
from napari_batchfx.viewer import seam

if TYPE_CHECKING:
    from napari_batchfx.viewer.session import Session

__all__ = ["looks"]


def looks(session: Session) -> list[Look]:
    """Slides with a pixel size whose layer is visible and on the canvas: box and centre of the view in their own micrometres."""
    box = seam.view_box_um(session.viewer)
    if box is None:
        return []
    y0, x0, y1, x1 = box
    corners = np.array([[y0, x0], [y0, x1], [y1, x0], [y1, x1]])
    ready = session.ready_slides()
    found = []
    for entry in session.shown_slides():
        if entry not in ready or not session.layer(entry, "slide").visible:
            continue
        own = session.to_slide_um(entry, corners)
        (b0, a0), (b1, a1) = own.min(axis=0), own.max(axis=0)
        height, width = session.study.open_slide(entry).extent_um
        if b1 > 0 and a1 > 0 and b0 < height and a0 < width:
            centre = session.to_slide_um(entry, [[(y0 + y1) / 2, (x0 + x1) / 2]])[0]
            box_um = (float(b0), float(a0), float(b1), float(a1))
            found.append(Look(entry, box_um, (float(centre[0]), float(centre[1]))))
    return found
