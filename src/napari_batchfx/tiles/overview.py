"""A slide at a few micrometres a pixel: what tissue and artefacts are looked for on."""

from __future__ import annotations

import threading
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any
from weakref import WeakKeyDictionary

import numpy as np
from numpy.typing import ArrayLike, NDArray
from PIL import Image

from napari_batchfx.errors import TileError
from napari_batchfx.tiles._moment import Moment

if TYPE_CHECKING:
    from collections.abc import Iterable

    from napari_batchfx.slides import Slide

__all__ = ["Overview", "polygon_mask", "slide_overview", "slide_state"]

Rgb = NDArray[np.uint8]
Mask = NDArray[np.bool_]

MAX_PIXELS = 32 * 2**20
# Overviews up to this size are kept beside an open slide (36 MB); larger ones are made again when asked for.
KEPT_PIXELS = 12 * 2**20
BLACK = 40
LEAST_WHITE = 200.0


@dataclass(frozen=True, eq=False)
class Overview:
    """A slide by area means, from its top left corner.

    Parameters
    ----------
    image : ndarray of uint8, (h, w, 3)
        RGB.
    mpp : (float, float)
        Exact micrometres a pixel, (y, x).
    missing : ndarray of bool, (h, w)
        Where the file was found damaged.
    is_fluorescence : bool
        Bright on dark instead of dark on bright.
    n_damaged : int
        Damaged tiles of the file that ``missing`` knows of.
    """

    image: Rgb
    mpp: tuple[float, float]
    missing: Mask
    is_fluorescence: bool = False
    n_damaged: int = 0

    @property
    def shape(self) -> tuple[int, int]:
        """Rows and columns."""
        return (self.image.shape[0], self.image.shape[1])

    @property
    def pixel_um2(self) -> float:
        """Area of a pixel."""
        return self.mpp[0] * self.mpp[1]

    def black(self) -> Mask:
        """Where all channels are black: padding, scan borders (never in fluorescence)."""
        if self.is_fluorescence:
            return np.zeros(self.shape, bool)
        result: Mask = self.image.max(axis=2) < BLACK
        return result

    def density(self) -> NDArray[np.float32]:
        """Optical density of each channel, float32 (h, w, 3), against the slide's own white.

        Fluorescence: the brightness of each channel above its darkest percent, as a share of full scale.
        """
        if self.is_fluorescence:
            base = np.percentile(self.image.reshape(-1, 3), 1, axis=0).astype(np.float32)
            light: NDArray[np.float32] = np.maximum(self.image.astype(np.float32) - base, 0) / np.float32(255)
            return light
        counts = ~(self.black() | self.missing)
        glass = self.image[counts]
        # a table of 256 densities a channel: no logarithm a pixel
        levels = np.maximum(np.arange(256, dtype=np.float32), 1.0)
        result = np.empty((*self.shape, 3), np.float32)
        for c in range(3):
            table = np.maximum(-np.log10(levels / np.float32(_white(glass[:, c]))), 0).astype(np.float32)
            result[..., c] = table[self.image[..., c]]
        return result


def _white(channel: NDArray[np.uint8]) -> float:
    """Glass of one channel: its 99th percentile, if bright enough for glass (tissue may fill the field)."""
    return float(max(np.percentile(channel, 99), LEAST_WHITE)) if channel.size else 255.0


_overviews: WeakKeyDictionary[Slide, dict[tuple[object, ...], Overview]] = WeakKeyDictionary()
_lock = threading.Lock()


def slide_state(slide: Slide) -> tuple[object, ...]:
    """What an overview depends on besides the file: pixel size, colours, damage found so far.

    Raises
    ------
    TileError
        If the slide has no pixel size.
    """
    if slide.mpp is None:
        raise TileError(f"{slide.path.name}: no pixel size in the file; give mpp=... (micrometres a pixel).")
    return (slide.mpp, getattr(slide, "colour_key", ""), len(_damage(slide)))


def slide_overview(slide: Slide, mpp: float = 8.0) -> Overview:
    """Bring a slide to about ``mpp`` by area means.

    Parameters
    ----------
    slide : Slide
        With a known pixel size.
    mpp : float
        Micrometres a pixel; made coarser where the image would exceed 32 MPix, finer never than the slide.

    Returns
    -------
    Overview
        Kept for an open slide up to 12 MPix. Of the colours and pixel size that the slide has when it comes
        back: where they were changed meanwhile it is made again.

    Raises
    ------
    TileError
        If the slide has no pixel size or ``mpp`` isn't above 0.

    Examples
    --------
    >>> from napari_batchfx.slides import open_slide, write_pyramid
    >>> _ = write_pyramid("a.tif", np.full((400, 800, 3), 240, np.uint8), mpp=1.0, compression="deflate")
    >>> with open_slide("a.tif") as slide:
    ...     slide_overview(slide, 8.0).shape
    (50, 100)
    """
    if not 0 < mpp < float("inf"):
        raise TileError(f"{slide.path.name}: micrometres a pixel must be above 0, got {mpp}.")
    modality = getattr(slide, "modality", "brightfield")
    while True:
        before = Moment.of(slide)
        state = slide_state(slide)
        with _lock:
            known = _overviews.get(slide, {}).get((*state, float(mpp)))
        if known is not None:
            return known
        image, size = _read(slide, float(mpp))
        # the one part of the key that reading itself changes
        damage = _damage(slide)
        missing = _missing(slide, damage, image.shape[:2], size)
        if before.holds(slide):
            break
    made = Overview(image, size, missing, modality == "fluorescence", len(damage))
    if image.shape[0] * image.shape[1] <= KEPT_PIXELS:
        with _lock:
            _overviews.setdefault(slide, {})[(*state[:2], len(damage), float(mpp))] = made
    return made


def _read(slide: Slide, mpp: float) -> tuple[Rgb, tuple[float, float]]:
    height_um, width_um = slide.extent_um
    mpp = max(mpp, (height_um * width_um / MAX_PIXELS) ** 0.5)
    level = max(i for i in range(len(slide.levels)) if i == 0 or max(slide.level_mpp(i)) <= mpp * 1.001)
    my, mx = slide.level_mpp(level)
    out = (
        max(1, min(slide.levels[level].shape[0], round(height_um / mpp))),
        max(1, min(slide.levels[level].shape[1], round(width_um / mpp))),
    )
    step_y, step_x = height_um / my / out[0], width_um / mx / out[1]
    rows = []
    # bands of output rows, so that a plain level of a huge slide is never held whole
    band = max(1, int(2048 / step_y))
    for top in range(0, out[0], band):
        n = min(band, out[0] - top)
        y0, y1 = top * step_y, (top + n) * step_y
        first = int(np.floor(y0))
        region = slide.read(
            level, first, 0, int(np.ceil(y1 - 1e-9)) - first, int(np.ceil(out[1] * step_x - 1e-9))
        )
        box = (0.0, y0 - first, min(out[1] * step_x, region.shape[1]), min(y1 - first, region.shape[0]))
        rows.append(np.asarray(Image.fromarray(region).resize((out[1], n), Image.Resampling.BOX, box=box)))
    return np.concatenate(rows), (height_um / out[0], width_um / out[1])


def _damage(slide: Slide) -> tuple[Any, ...]:
    found: tuple[Any, ...] = getattr(slide, "damage", ())
    return found


def _missing(slide: Slide, found: tuple[Any, ...], shape: tuple[int, ...], size: tuple[float, float]) -> Mask:
    """Every overview pixel that a tile found damaged, of whichever level, touches."""
    mask = np.zeros((shape[0], shape[1]), bool)
    for damage in found:
        tile = slide.levels[damage.level].tile
        my, mx = slide.level_mpp(damage.level)
        y0, y1 = damage.row * tile[0] * my / size[0], (damage.row + 1) * tile[0] * my / size[0]
        x0, x1 = damage.col * tile[1] * mx / size[1], (damage.col + 1) * tile[1] * mx / size[1]
        mask[int(y0) : int(np.ceil(y1 - 1e-6)), int(x0) : int(np.ceil(x1 - 1e-6))] = True
    return mask


def polygon_mask(polygons_um: Iterable[ArrayLike], shape: tuple[int, int], mpp: tuple[float, float]) -> Mask:
    """Return the pixels whose centre lies in any of some polygons (even-odd rule), bool ``shape``.

    Parameters
    ----------
    polygons_um : iterable of array (k, 2)
        Vertices (y, x) in micrometres; fewer than three make no area.
    shape : (int, int)
        Rows and columns.
    mpp : (float, float)
        Micrometres a pixel, (y, x).

    Examples
    --------
    >>> polygon_mask([[[0, 0], [0, 20], [20, 20], [20, 0]]], (3, 4), (10.0, 10.0)).astype(int).tolist()
    [[1, 1, 0, 0], [1, 1, 0, 0], [0, 0, 0, 0]]
    """
    mask = np.zeros(shape, bool)
    for polygon in polygons_um:
        points = np.asarray(polygon, dtype=np.float64).reshape(-1, 2) / np.asarray(mpp)
        if len(points) >= 3:
            mask |= _inside(points, shape)
    return mask


def _inside(points: NDArray[np.float64], shape: tuple[int, int]) -> Mask:
    """Parity of the edges left of a pixel's centre; ``points`` (y, x) in pixels."""
    crossings = np.zeros((shape[0], shape[1] + 1), np.int32)
    for (y0, x0), (y1, x1) in zip(points, np.roll(points, -1, axis=0), strict=True):
        if y0 == y1:
            continue
        low, high = min(y0, y1), max(y0, y1)
        first = int(np.clip(np.ceil(low - 0.5), 0, shape[0]))
        last = int(np.clip(np.ceil(high - 0.5), 0, shape[0]))
        rows = np.arange(first, last)
        x = x0 + (rows + 0.5 - y0) * (x1 - x0) / (y1 - y0)
        columns = np.clip(np.ceil(x - 0.5), 0, shape[1]).astype(np.intp)
        crossings[rows, columns] += 1  # an edge crosses a row once: no index twice
    result: Mask = (np.cumsum(crossings, axis=1)[:, :-1] & 1).astype(bool)
    return result
