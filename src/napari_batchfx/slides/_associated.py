"""Label, macro and thumbnail images: decoded only when asked for by name, they may show a patient's name."""

from __future__ import annotations

import io
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray
from PIL import Image, UnidentifiedImageError

from napari_batchfx.errors import SlideError
from napari_batchfx.slides._codes import stated_size
from napari_batchfx.slides._file import short
from napari_batchfx.slides.damage import MISSING_RGB, DamagedTile

if TYPE_CHECKING:
    from napari_batchfx.slides._segments import Segments
    from napari_batchfx.slides._tifffile import Page

__all__ = ["decode_encoded", "read_whole"]

MAX_PIXELS = 64 * 2**20


def read_whole(segments: Segments, page: Page, what: str) -> NDArray[np.uint8]:
    """Read a whole page, uint8 (h, w, 3); damaged parts are grey, SlideError where there is no other."""
    if page.height * page.width > MAX_PIXELS:
        raise SlideError(f"{what} is too large to be shown ({page.width:,} x {page.height:,} px).")
    sh, sw = segments.size
    out = np.full((page.height, page.width, 3), 255, np.uint8)
    n_good, damage = 0, ""
    for y in range(0, page.height, sh):
        for x in range(0, page.width, sw):
            target = out[y : y + sh, x : x + sw]
            try:
                part = segments.read(y // sh, x // sw)
            except DamagedTile as error:
                target[:] = MISSING_RGB
                damage = error.reason
                continue
            n_good += 1
            if part is not None:
                fitting = part[: target.shape[0], : target.shape[1]]
                target[: fitting.shape[0], : fitting.shape[1]] = fitting
    if not n_good:
        raise SlideError(f"{what} is damaged ({damage}).")
    return out


def decode_encoded(data: bytes, what: str) -> NDArray[np.uint8]:
    """Decode a JPEG that a vendor keeps inside of the header, uint8 (h, w, 3)."""
    size = stated_size(data, 7)
    if size is None or isinstance(size, str):
        raise SlideError(f"{what} is damaged ({size}).")
    if size[0] * size[1] > MAX_PIXELS:
        raise SlideError(f"{what} is too large to be shown ({size[1]:,} x {size[0]:,} px).")
    try:
        with Image.open(io.BytesIO(data), formats=("JPEG",)) as image:
            return np.array(image.convert("RGB"))
    except (UnidentifiedImageError, OSError, SyntaxError, ValueError) as error:
        raise SlideError(f"{what} is damaged ({short(error)}).") from error
