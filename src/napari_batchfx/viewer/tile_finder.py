"""Going to a tile on its slide, with a frame around it, and lighting many tiles at once."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np

from napari_batchfx.errors import BatchfxError
from napari_batchfx.study.settings import EncodeSettings
from napari_batchfx.viewer import seam
from napari_batchfx.viewer.tile_frame import TileFrame

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from napari_batchfx.study import ProbeOutcome, SlideEntry
    from napari_batchfx.tiles import TileGrid
    from napari_batchfx.viewer.session import Session

__all__ = ["TileFinder"]

_SHARE = 0.12  # of the canvas that a tile is made to fill, at least


class TileFinder:
    """Finds the tiles of a probe's result on the slides.

    Parameters
    ----------
    session : Session
    """

    def __init__(self, session: Session) -> None:
        self.session = session
        self.frame = TileFrame(session)

    def entry(self, fingerprint: str) -> SlideEntry | None:
        """The slide, while it is in the study and shown."""
        entries = self.session.shown_slides()
        return next((one for one in entries if one.fingerprint == fingerprint), None)

    def grid(self, outcome: ProbeOutcome, entry: SlideEntry) -> TileGrid | None:
        """The tiles that a result has on a slide."""
        try:
            return self.session.study.grid_of(entry, EncodeSettings(**outcome.computed_from["encode"]))
        except (BatchfxError, OSError):
            return None

    def go_to(self, outcome: ProbeOutcome, fingerprint: str, cell: tuple[int, int]) -> bool:
        """Show a tile in the middle of the canvas, framed; whether its slide is there."""
        entry = self.entry(fingerprint)
        grid = None if entry is None else self.grid(outcome, entry)
        if entry is None or grid is None:
            return False
        bounds = tuple(float(v) for v in grid.bounds_um([cell])[0])
        y0, x0, y1, x1 = bounds
        self.frame.show(entry, (y0, x0, y1, x1))
        viewer = self.session.viewer
        affine = np.asarray(entry.affine_um)
        y, x = (affine @ [(y0 + y1) / 2, (x0 + x1) / 2, 1.0])[:2]
        down, across = (axis - (viewer.dims.ndim - 2) for axis in viewer.dims.displayed[-2:])
        camera = seam.camera(viewer)
        camera.center = ((y, x)[down], (y, x)[across])
        camera.zoom = max(camera.zoom, _SHARE * min(viewer.canvas.size) / max(1e-6, grid.size_um))
        layer = self.session.layer(entry, "slide")
        if layer is not None:
            layer.visible = True
        return True

    def light(self, outcome: ProbeOutcome, cells: Mapping[str, NDArray[np.int64]]) -> int:
        """Light tiles on their slides (by fingerprint) in a layer of their own; how many are on slides that are shown."""
        from napari_batchfx.tiles import TileMap

        self.session.allow_overlays("picked")
        lit = 0
        for entry in self.session.shown_slides():
            own = cells.get(entry.fingerprint)
            grid = None if own is None or not len(own) else self.grid(outcome, entry)
            if grid is None or own is None:
                self.session.drop(entry, "picked")
                continue
            lit += len(own)
            tile_map = TileMap.from_cells(
                grid,
                own,
                np.ones(len(own)),
                name="picked tiles",
                colormap="changed",
                description="Tiles that were outlined among the points of the site probe.",
                labels=("", "picked"),
            )
            layer: Any = self.session.show_map(entry, "picked", tile_map, "picked tiles")
            if layer is not None:
                layer.visible = True
                layer.opacity = 0.65
        return lit

    def clear(self) -> None:
        """Take frame and lit tiles away."""
        self.frame.hide()
        self.session.drop_all("picked")
