"""Decoded samples to RGB: old YCbCr flavours converted, alpha laid onto white, one channel as grey."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    from napari_batchfx.slides._tifffile import Page

__all__ = ["onto_white", "to_rgb"]

APERIO_JPEG2000_YCBCR = 33003
_RAW_SAMPLES = (1, 5, 8, 32946, 50000)


def to_rgb(tile: NDArray[np.uint8], page: Page) -> NDArray[np.uint8]:
    """Turn the samples (h, w, 1 to 4) of a page into RGB (h, w, 3); what is RGB already isn't copied."""
    if tile.shape[-1] == 1:  # a fluorescence channel; other greyscale is refused when a slide is opened
        return np.repeat(np.asarray(tile, np.uint8), 3, axis=-1)
    raw_ycbcr = page.photometric == 6 and page.compression in _RAW_SAMPLES
    if page.compression == APERIO_JPEG2000_YCBCR or raw_ycbcr:
        tile = _ycbcr_to_rgb(tile)
    if tile.shape[-1] == 4:
        is_alpha = bool({1, 2} & {*page.extra_samples})
        tile = onto_white(tile, associated=1 in page.extra_samples) if is_alpha else tile[..., :3]
    return np.ascontiguousarray(tile[..., :3], dtype=np.uint8)


def _ycbcr_to_rgb(tile: NDArray[np.uint8]) -> NDArray[np.uint8]:
    # ITU-R BT.601, full range, as in JFIF.
    y, cb, cr = (tile[..., i].astype(np.float32) for i in range(3))
    cb -= 128
    cr -= 128
    rgb = np.stack([y + 1.402 * cr, y - 0.344136 * cb - 0.714136 * cr, y + 1.772 * cb], axis=-1)
    result: NDArray[np.uint8] = np.clip(np.rint(rgb), 0, 255).astype(np.uint8)
    return result


def onto_white(tile: NDArray[np.uint8], *, associated: bool) -> NDArray[np.uint8]:
    """Lay RGBA (h, w, 4) onto white; ``associated`` where its colours are multiplied with alpha already."""
    a = tile[..., 3:].astype(np.uint16)
    rgb = tile[..., :3].astype(np.uint16)
    mixed = rgb + (255 - a) if associated else (rgb * a + 255 * (255 - a) + 127) // 255
    result: NDArray[np.uint8] = np.minimum(mixed, 255).astype(np.uint8)
    return result
