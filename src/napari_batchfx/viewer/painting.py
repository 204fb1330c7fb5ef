"""Draws the picture of encoded tiles into the slides' overlays, seldom enough that the window stays quick."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

import numpy as np
from qtpy.QtCore import QObject, QTimer

from napari_batchfx.study.overview import Overview
from napari_batchfx.viewer.layers import tag

if TYPE_CHECKING:
    from napari_batchfx.study import SlideEntry
    from napari_batchfx.tiles import TileMap
    from napari_batchfx.viewer.session import Session

__all__ = ["Painter"]

PAINT_MS = 100
"""Between two paintings; every one has the whole canvas drawn again."""
_TITLE = "encoded tiles"


class Painter(QObject):
    """Keeps the layers of encoded tiles of one session as its :class:`~napari_batchfx.study.overview.Overview` is.

    The first tiles after a pause are painted at once, later ones every ``PAINT_MS``.

    Parameters
    ----------
    session : Session
    """

    def __init__(self, session: Session) -> None:
        super().__init__(session)
        self._session = session
        self.overview = Overview(session.tile_listeners)
        self._announce = False
        self._painted = 0.0
        self._timer = QTimer(self)
        self._timer.setSingleShot(True)
        self._timer.timeout.connect(self.paint_now)

    def announce(self) -> None:
        """With the next painting show this overlay and hide the others."""
        self._announce = True
        self.overview.show_again()

    def paint_soon(self) -> None:
        """Something changed."""
        if not self._timer.isActive():
            since = 1000 * (time.monotonic() - self._painted)
            self._timer.start(max(0, round(PAINT_MS - since)))

    def paint_later(self) -> None:
        """Something may still come from a job that was stopped."""
        self._timer.start(2 * PAINT_MS)

    def paint_now(self, *, thumbnails: bool = False) -> None:
        """Draw what changed."""
        self._timer.stop()
        if self._session.is_closed:
            return
        changed = self.overview.take_changed()
        for entry in self._session.shown_slides():
            if entry.fingerprint in changed:
                self._paint(entry, changed[entry.fingerprint], thumbnails)
        if changed:
            self._painted = time.monotonic()
        if changed and self._announce:
            self._announce = False
            self._session.show_only("encoded")

    def forget(self) -> None:
        """Begin an empty picture; jobs that still run add to the old one."""
        self.overview = Overview(self._session.tile_listeners)
        self._timer.stop()
        self._session.drop_all("encoded")

    def stop(self) -> None:
        """Draw nothing more."""
        self._timer.stop()

    def _paint(self, entry: SlideEntry, tile_map: TileMap, thumbnails: bool) -> None:
        layer: Any = self._session.layer(entry, "encoded")
        if (
            layer is None
            or tag(layer).get("placeholder")
            or layer.data.shape != tile_map.values.shape
            or not np.allclose(layer.scale, tile_map.scale_um)
        ):
            self._session.show_map(entry, "encoded", tile_map, _TITLE)
            return
        # In place: setting the data anew would have napari look at all layers' extents again.
        layer.data[...] = tile_map.values
        layer.refresh(extent=False, highlight=False, thumbnail=thumbnails)
