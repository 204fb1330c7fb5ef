"""Alignment by hand: the same spot clicked on two slides, three times or more."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
from qtpy.QtCore import QObject, Signal

from napari_batchfx.errors import SlideError

if TYPE_CHECKING:
    from napari.layers import Points

    from napari_batchfx.slides import Alignment
    from napari_batchfx.study import SlideEntry
    from napari_batchfx.viewer.session import Session

__all__ = ["LEAST_PAIRS", "Landmarks"]

LEAST_PAIRS = 3
_COLOURS = ("#ffe119", "#42d4f4")


class Landmarks(QObject):
    """Point pairs on a reference slide and on the one to be laid on it.

    Clicks alternate: one on the reference, then the same spot on the other. Both layers carry their slide's
    affine, so pairs stay on their tissue whatever the alignment is meanwhile. ``changed`` tells of every new
    point, and when the pairs were taken or given up.
    """

    changed = Signal()

    def __init__(self, session: Session) -> None:
        super().__init__(session)
        self._session = session
        self._entries: tuple[SlideEntry, SlideEntry] | None = None
        self._layers: tuple[Points, ...] = ()
        session.viewer.layers.events.removed.connect(self._on_removed)

    @property
    def is_active(self) -> bool:
        """Whether points are being clicked."""
        return self._entries is not None

    @property
    def n_pairs(self) -> int:
        """Complete pairs so far."""
        return min((len(layer.data) for layer in self._layers), default=0)

    def start(self, reference: SlideEntry, moving: SlideEntry) -> None:
        """Make the two point layers and wait for the first click, on the reference."""
        from napari.layers import Points

        self.cancel()
        made, size = [], self._size()
        for entry, colour in zip((reference, moving), _COLOURS, strict=True):
            layer = Points(
                ndim=2,
                name=f"{entry.name} · alignment points",
                size=size,
                face_color=colour,
                border_color="black",
                symbol="cross",
                text={
                    "string": "{number}",
                    "size": 12,
                    "color": "black",
                    "translation": np.array([-size, size / 2]),
                },
                features={"number": np.empty(0, dtype=int)},
                affine=np.asarray(entry.affine_um),
                units=("um", "um"),
            )
            layer.current_size = size
            made.append(self._session.add_layer(entry, "landmarks", layer))
        # only now: adding a layer tells the docks, which ask for the next click
        self._entries, self._layers = (reference, moving), tuple(made)
        for layer in self._layers:
            layer.events.data.connect(self._on_data)
        self._ask()

    def sentence(self) -> str:
        """What to click next."""
        if self._entries is None:
            return ""
        reference, moving = self._entries
        counts = [len(layer.data) for layer in self._layers]
        where = reference.name if counts[0] <= counts[1] else moving.name
        spot = "a spot that you can find on both slides" if counts[0] <= counts[1] else "the same spot"
        return f"Pair {min(counts) + 1}: click {spot} on {where}."

    def points_um(self) -> tuple[np.ndarray, np.ndarray]:
        """The complete pairs, each (n, 2) of (y, x) in the slide's own micrometres: reference, moving."""
        n = self.n_pairs
        # data coordinates of a layer without scale or translate are the slide's own micrometres
        first, second = (np.asarray(layer.data, dtype=float)[:n] for layer in self._layers)
        return first, second

    @property
    def slides(self) -> tuple[SlideEntry, SlideEntry]:
        """The slide that is laid on, and the one that moves."""
        if self._entries is None:
            raise SlideError("Choose Align > By hand first.")
        return self._entries

    def fit(self, model: Any = "similarity") -> Alignment:
        """Fit the pairs; nothing is moved yet.

        Raises
        ------
        SlideError
            With fewer than three pairs, or points on one line.
        """
        from napari_batchfx.slides import alignment_from_points

        if self._entries is None or self.n_pairs < LEAST_PAIRS:
            raise SlideError(f"Click at least {LEAST_PAIRS} pairs of points first.")
        return alignment_from_points(*self.points_um(), model=model)

    def cancel(self) -> None:
        """Take the points away; slides stay where they are."""
        entries, self._entries, self._layers = self._entries, None, ()
        for entry in entries or ():
            self._session.drop(entry, "landmarks")
        if entries:
            self.changed.emit()

    def _on_data(self, event: Any) -> None:
        if getattr(event, "action", None) not in ("added", "removed", "changed"):
            return
        for layer in self._layers:
            layer.features = {"number": np.arange(1, len(layer.data) + 1)}
        self._ask()

    def _ask(self) -> None:
        """Make the layer active that the next click belongs to."""
        if self._entries is None:
            return
        counts = [len(layer.data) for layer in self._layers]
        layer = self._layers[0 if counts[0] <= counts[1] else 1]
        for other in self._layers:
            other.mode = "pan_zoom"
        self._session.viewer.layers.selection.active = layer
        layer.mode = "add"
        self.changed.emit()

    def _size(self) -> float:
        """Points of about 14 px on the canvas, in micrometres."""
        from napari_batchfx.viewer import seam

        return 14.0 / max(1e-6, float(seam.camera(self._session.viewer).zoom))

    def _on_removed(self, event: Any) -> None:
        if any(event.value is layer for layer in self._layers):
            self.cancel()
