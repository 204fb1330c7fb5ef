"""Read what lies around the view before it is panned into, so that the window does not wait for pixels.

napari loads a view in the window's own thread, and decoding JPEG tiles takes most of that. A thread of its own decodes the tiles
around the view, those in the direction of the movement first, into the cache that the view reads from.
"""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any

import numpy as np
from qtpy.QtCore import QObject, QTimer

from napari_batchfx.errors import BatchfxError
from napari_batchfx.viewer import seam

if TYPE_CHECKING:
    from napari_batchfx.slides import Slide
    from napari_batchfx.viewer.session import Session

__all__ = ["ReadAhead", "pieces_around"]

PIECE = 512
_EVERY_MS = 60
# The ring that is read: this part of the view's size on every side.
_RING = 0.6
_MAX_PIECES = 40

Box = tuple[int, int, int, int]


def pieces_around(
    box: tuple[float, float, float, float], shape: tuple[int, int], motion: tuple[float, float]
) -> list[Box]:
    """The pieces ``(y, x, h, w)`` of a level around a view, the ones that are panned into next first.

    Parameters
    ----------
    box : (float, float, float, float)
        ``(y0, x0, y1, x1)`` of the view in pixels of the level.
    shape : (int, int)
        Height and width of the level in pixels.
    motion : (float, float)
        How the view's centre moved, (y, x) in pixels.
    """
    y0, x0, y1, x1 = box
    margin_y, margin_x = _RING * (y1 - y0), _RING * (x1 - x0)
    middle = np.array([(y0 + y1) / 2, (x0 + x1) / 2])
    ahead = middle + np.clip(motion, [-margin_y, -margin_x], [margin_y, margin_x])
    found: list[tuple[float, Box]] = []
    rows = range(max(0, int((y0 - margin_y) // PIECE)), int(min(shape[0] - 1, y1 + margin_y) // PIECE) + 1)
    columns = range(max(0, int((x0 - margin_x) // PIECE)), int(min(shape[1] - 1, x1 + margin_x) // PIECE) + 1)
    for row in rows:
        for col in columns:
            top, left = row * PIECE, col * PIECE
            piece = (top, left, min(PIECE, shape[0] - top), min(PIECE, shape[1] - left))
            centre = np.array([top + piece[2] / 2, left + piece[3] / 2])
            found.append((float(np.hypot(*(centre - ahead))), piece))
    return [piece for _, piece in sorted(found)][:_MAX_PIECES]


class ReadAhead(QObject):
    """Keeps the tiles around the view of one session decoded; stops with its window."""

    def __init__(self, session: Session) -> None:
        super().__init__(session)
        self._session = session
        self._pool = ThreadPoolExecutor(1, thread_name_prefix="read-ahead")
        self._turn = 0
        self._middles: dict[Any, np.ndarray] = {}
        self._timer = QTimer(self)
        self._timer.setSingleShot(True)
        self._timer.setInterval(_EVERY_MS)
        self._timer.timeout.connect(self._look)
        self._disconnect = seam.on_view_changed(session.viewer, self._on_view)
        seam.on_window_closed(session.viewer, self.stop)

    def stop(self) -> None:
        """Read nothing more."""
        self._turn += 1
        self._timer.stop()
        self._disconnect()
        self._pool.shutdown(wait=False, cancel_futures=True)

    def _on_view(self) -> None:
        if not self._timer.isActive() and not self._session.is_closed:
            self._timer.start()

    def _look(self) -> None:
        """See where the view is (in the window's thread) and read on from there (in the other)."""
        if self._session.is_closed:
            return
        wanted = []
        for entry in self._session.shown_slides():
            layer = self._session.layer(entry, "slide")
            if not layer.visible or self._session.viewer.dims.ndisplay != 2:
                continue
            try:
                slide = self._session.study.open_slide(entry)
            except BatchfxError:  # gone meanwhile; the view says so itself
                continue
            level = int(layer.data_level)
            if level >= len(slide.levels) or not slide.levels[level].stored:
                continue  # a level that is made from others: reading it is work for a job
            factor = np.asarray(layer.downsample_factors[level])[:2] if layer.multiscale else np.ones(2)
            corners = self._corners(layer) / factor
            middle = corners.mean(axis=0)
            before = self._middles.get((entry.fingerprint, level), middle)
            self._middles = {
                key: value for key, value in self._middles.items() if key[0] != entry.fingerprint
            }
            self._middles[entry.fingerprint, level] = middle
            box = (*corners.min(axis=0), *corners.max(axis=0))
            motion = tuple(8 * (middle - before))  # where it will be in half a second
            wanted.append((slide, level, box, motion))
        self._turn += 1
        if wanted:
            self._pool.submit(self._read, self._turn, wanted)

    def _corners(self, layer: Any) -> np.ndarray:
        """The view's corners in pixels of the layer's first level, (4, 2)."""
        y0, x0, y1, x1 = seam.view_box_um(self._session.viewer) or (0.0, 0.0, 0.0, 0.0)
        return np.array([layer.world_to_data(at)[-2:] for at in ((y0, x0), (y0, x1), (y1, x0), (y1, x1))])

    def _read(self, turn: int, wanted: list[tuple[Slide, int, Any, Any]]) -> None:
        for slide, level, piece in _in_turns(wanted):
            if turn != self._turn:
                return  # the view has moved on
            try:
                slide.read(level, *piece)
            except (BatchfxError, OSError):
                return  # closed or gone meanwhile; the view says so itself


def _in_turns(wanted: list[tuple[Slide, int, Any, Any]]) -> Iterator[tuple[Slide, int, Box]]:
    """The nearest piece of every slide, then the next nearest of every slide, and so on."""
    lists = [
        (slide, level, pieces_around(box, slide.levels[level].shape, motion))
        for slide, level, box, motion in wanted
    ]
    for rank in range(max(len(pieces) for _, _, pieces in lists)):
        for slide, level, pieces in lists:
            if rank < len(pieces):
                yield slide, level, pieces[rank]
