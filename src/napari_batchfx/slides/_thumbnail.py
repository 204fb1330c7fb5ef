"""A whole slide as one small picture."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from PIL import Image

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from napari_batchfx.slides.slide import Slide

__all__ = ["thumbnail"]


def thumbnail(slide: Slide, max_px: int) -> NDArray[np.uint8]:
    """The slide at no more than ``max_px`` on its longer side, from the smallest level that does."""
    longest = max(slide.shape)
    fits = [i for i, level in enumerate(slide.levels) if max(level.shape) >= min(max_px, longest)]
    level = fits[-1] if fits else 0
    height, width = slide.levels[level].shape
    image = slide.read(level, 0, 0, height, width)
    scale = max_px / max(height, width)
    if scale >= 1:
        return image
    size = (max(1, round(width * scale)), max(1, round(height * scale)))
    return np.array(Image.fromarray(image).resize(size, Image.Resampling.BOX))
