"""Parts of layers without the graphics card: transparent copies, computed where they are looked at.

The fallback where napari does not let us reach what draws a layer. It is slower than :mod:`.clipping` (a moved edge loads the view
anew, so that it follows once the mouse rests) and knows images only; points and shapes show everywhere.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
from qtpy.QtCore import QObject, QTimer

from napari_batchfx.viewer import seam
from napari_batchfx.viewer.compare.parts import Band, Part, square_step

if TYPE_CHECKING:
    import napari
    from napari.layers import Image

__all__ = ["MaskedCopies", "shows"]

_SETTLE_MS = 120
Box = tuple[float, float, float, float]


def shows(part: Part, y: np.ndarray, x: np.ndarray, box: Box) -> np.ndarray:
    """Whether places of the common frame belong to a part; bool, the shape of ``y`` and ``x`` together.

    ``box`` is what is on the canvas, ``(y0, x0, y1, x1)`` in micrometres: bands are parts of it.
    """
    if isinstance(part, Band):
        y0, x0, y1, x1 = box
        along = (x - x0) / (x1 - x0) if part.across else (y - y0) / (y1 - y0)
        inside = (along >= part.low) & (along < part.high)
        return np.broadcast_to(inside, np.broadcast_shapes(y.shape, x.shape))
    ahead = np.floor(x / part.size_um) + square_step(part.n) * np.floor(y / part.size_um)
    return np.mod(ahead, part.n) == part.index


class MaskedCopies(QObject):
    """Keeps a copy over each layer that shows only a part of it; the layer itself is made transparent meanwhile."""

    def __init__(self, viewer: napari.Viewer) -> None:
        super().__init__()
        self._viewer = viewer
        self._copies: dict[Any, tuple[Any, Any, float]] = {}  # by layer: copy, what it shows, opacity before
        self._wanted: dict[Any, Part] = {}
        self._later = QTimer(self)
        self._later.setSingleShot(True)
        self._later.setInterval(_SETTLE_MS)
        self._later.timeout.connect(self._apply)

    def apply(self, parts: dict[Any, Part]) -> None:
        """Show these parts of these layers, and all of every other layer."""
        self._wanted = dict(parts)
        if not parts:
            self._later.stop()
            self._apply()
        elif not self._later.isActive():
            self._later.start()

    def _apply(self) -> None:
        from napari.layers import Image

        box = seam.view_box_um(self._viewer)
        images = {layer: part for layer, part in self._wanted.items() if isinstance(layer, Image)}
        for layer in [layer for layer in self._copies if layer not in images or box is None]:
            self._drop(layer)
        for layer, part in images.items() if box is not None else ():
            assert box is not None
            key = (part, box if isinstance(part, Band) else None, id(layer.data))
            if layer not in self._copies:
                copy = _masked(layer, part, box)
                self._copies[layer] = (copy, key, float(layer.opacity))
                self._insert(layer, copy)
                layer.opacity = 0.0
            copy, old, opacity = self._copies[layer]
            copy.visible = layer.visible
            copy.affine = layer.affine
            if old != key:
                copy.data = _masked_data(layer, part, box)
                self._copies[layer] = (copy, key, opacity)

    def _insert(self, layer: Image, copy: Image) -> None:
        seam.insert_layer(self._viewer, self._viewer.layers.index(layer) + 1, copy, select=False)

    def _drop(self, layer: Any) -> None:
        copy, _, opacity = self._copies.pop(layer)
        layer.opacity = opacity
        if copy in self._viewer.layers:
            self._viewer.layers.remove(copy)


def _masked(layer: Image, part: Part, box: Box) -> Image:
    from napari.layers import Image

    options: dict[str, Any] = {} if layer.rgb else {
        "colormap": layer.colormap, "contrast_limits": layer.contrast_limits
    }  # fmt: skip
    return Image(
        _masked_data(layer, part, box),
        name=f"{layer.name} (part)",
        rgb=layer.rgb,
        multiscale=layer.multiscale,
        scale=layer.scale,
        translate=layer.translate,
        affine=layer.affine,
        units=layer.units,
        opacity=layer.opacity,
        blending="translucent",
        interpolation2d=layer.interpolation2d,
        visible=layer.visible,
        cache=False,
        **options,
    )


def _masked_data(layer: Image, part: Part, box: Box) -> Any:
    levels = list(layer.data) if layer.multiscale else [layer.data]
    # The affine from pixels of the first level to the common frame, from three points.
    origin, down, right = (np.asarray(layer.data_to_world(at))[-2:] for at in ((0, 0), (1, 0), (0, 1)))
    linear = np.stack([down - origin, right - origin], axis=1)
    full = levels[0].shape[:2]
    masked = [_masked_level(level, full, origin, linear, part, box, layer.rgb) for level in levels]
    return masked if layer.multiscale else masked[0]


def _masked_level(
    level: Any, full: tuple[int, int], origin: np.ndarray, linear: np.ndarray, part: Part, box: Box, rgb: bool
) -> Any:
    import dask.array as da

    step = np.array([full[0] / level.shape[0], full[1] / level.shape[1]])

    def mask(block: np.ndarray, block_info: Any = None) -> np.ndarray:
        (y0, y1), (x0, x1) = block_info[0]["array-location"][:2]
        rows = (np.arange(y0, y1)[:, None] + 0.5) * step[0] - 0.5
        cols = (np.arange(x0, x1)[None, :] + 0.5) * step[1] - 0.5
        y = origin[0] + linear[0, 0] * rows + linear[0, 1] * cols
        x = origin[1] + linear[1, 0] * rows + linear[1, 1] * cols
        inside = shows(part, y, x, box)
        if not rgb:
            return np.where(inside, block, np.nan).astype(np.float32)
        alpha = np.where(inside, block[..., 3] if block.shape[-1] == 4 else 255, 0).astype(block.dtype)
        return np.concatenate([block[..., :3], alpha[..., None]], axis=-1)

    array = level if isinstance(level, da.Array) else da.from_array(np.asarray(level))
    if not rgb:
        return array.map_blocks(mask, dtype=np.float32, meta=np.empty((0, 0), np.float32))
    chunks = (*array.chunks[:2], (4,))
    return array.rechunk({2: -1}).map_blocks(
        mask, dtype=array.dtype, chunks=chunks, meta=np.empty((0, 0, 0), array.dtype)
    )
