"""Parts out of focus: edges wide for their contrast, measured near 1 um a pixel."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray
from PIL import Image

if TYPE_CHECKING:
    from napari_batchfx.slides import Slide
    from napari_batchfx.tiles.overview import Overview

__all__ = ["Sharpness", "measure_sharpness"]

Field = NDArray[np.float32]
Mask = NDArray[np.bool_]

PIXEL_UM = 1.0
WINDOW_UM = 64.0
# Noise of the camera is not sharpness: what is finer than this, um (Gaussian), is smoothed away before.
NOISE_UM = 0.7
# Sharpness is only judged where there is something to see: mean squared gradient, grey levels a um, squared.
LEAST_GRADIENT = 1.0
LEAST_TISSUE = 0.25
# Blurred: a third of the slide's own median sharpness, held between bounds. Measured: 99 of 100 windows of
# fields in focus are above 0.67 (0.47 with forty soft ones among them); blurred by 2 um, 95 of 100 are below
# 0.45, by 3 um below 0.32, with noise of 1.5 grey levels and JPEG alike.
SHARE_OF_MEDIAN = 1 / 3
BOUNDS = (0.36, 0.46)
# Windows read at most, and stored pixels read at most: more tissue is sampled on a coarser lattice.
MOST_WINDOWS = 6000
MOST_PIXELS = 60e6
# Windows a side that are read at once.
BLOCK = 8


class Sharpness:
    """Sharpness of windows over a slide.

    Parameters
    ----------
    values : ndarray of float32, (rows, cols)
        Mean squared Laplacian over mean squared gradient; NaN where it wasn't judged.
    window_um : float
        Side of the square that a value stands for.
    """

    def __init__(self, values: Field, window_um: float) -> None:
        self.values = values
        self.window_um = window_um

    @property
    def limit(self) -> float:
        """Sharpness below which a window is blurred on this slide."""
        judged = self.values[np.isfinite(self.values)]
        middle = float(np.median(judged)) if judged.size else 0.0
        return float(np.clip(middle * SHARE_OF_MEDIAN, *BOUNDS))

    def blurred(self, overview: Overview, tissue: Mask) -> Mask:
        """Blurred tissue on an overview, bool (h, w); a window alone among sharp ones doesn't count."""
        from scipy import ndimage

        low = np.nan_to_num(self.values, nan=np.inf) < self.limit
        labels, _ = ndimage.label(low, structure=np.ones((3, 3)))
        keep = np.bincount(labels.ravel()) >= 2
        keep[0] = False
        windows = keep[labels]
        rows, cols = (
            np.minimum(((np.arange(n) + 0.5) * m / self.window_um).astype(np.intp), windows.shape[axis] - 1)
            for axis, (n, m) in enumerate(zip(overview.shape, overview.mpp, strict=True))
        )
        result: Mask = windows[rows][:, cols] & tissue
        return result


def measure_sharpness(slide: Slide, overview: Overview, tissue: Mask) -> Sharpness | None:
    """Measure the sharpness of a slide's tissue.

    Parameters
    ----------
    slide : Slide
    overview : Overview
    tissue : ndarray of bool, (h, w)
        On the overview; windows with less than a quarter of it are left out.

    Returns
    -------
    Sharpness or None
        ``None`` where the slide's finest pixels are too large to tell (above 1.5 um).
    """
    fits = [
        i
        for i, level in enumerate(slide.levels)
        if level.stored and max(slide.level_mpp(i)) <= PIXEL_UM * 1.05
    ]
    level = fits[-1] if fits else 0
    own = slide.level_mpp(level)
    if max(own) > 1.5 * PIXEL_UM:
        return None
    pixels_a_window = WINDOW_UM**2 / (own[0] * own[1])
    most = int(max(64, min(MOST_WINDOWS, MOST_PIXELS / pixels_a_window)))
    shape, wanted = _windows(overview, tissue, WINDOW_UM)
    values = np.full(shape, np.nan, np.float32)
    step = int(np.ceil(np.sqrt(max(1.0, wanted.sum() / most))))
    if step > 1:
        # one window of every step x step: the one nearest the middle stands for all
        lattice = np.zeros(shape, bool)
        lattice[step // 2 :: step, step // 2 :: step] = True
        wanted &= lattice
    block = BLOCK if step == 1 else 1
    for row in range(0, shape[0], block):
        for col in range(0, shape[1], block):
            asked = wanted[row : row + block, col : col + block]
            if asked.any():
                found = _read_block(slide, level, own, (row, col), asked.shape)
                values[row : row + block, col : col + block] = np.where(asked, found, np.nan)
    if step > 1:
        coarse = values[step // 2 :: step, step // 2 :: step]
        return Sharpness(coarse, WINDOW_UM * step)
    return Sharpness(values, WINDOW_UM)


def _windows(overview: Overview, tissue: Mask, window_um: float) -> tuple[tuple[int, int], Mask]:
    """Shape of the lattice of whole windows, and those with enough tissue."""
    from napari_batchfx.tiles.tissue import TissueMask

    height, width = (n * m for n, m in zip(overview.shape, overview.mpp, strict=True))
    shape = (max(1, int(height / window_um + 1e-6)), max(1, int(width / window_um + 1e-6)))
    corner = np.indices(shape).reshape(2, -1).T * window_um
    share = TissueMask(tissue, overview.mpp, 0.0).fraction(np.hstack([corner, corner + window_um]))
    return shape, (share >= LEAST_TISSUE).reshape(shape)


def _read_block(
    slide: Slide, level: int, own: tuple[float, float], at: tuple[int, int], shape: tuple[int, ...]
) -> Field:
    """Sharpness of ``shape`` windows from window ``at`` on."""
    n = round(WINDOW_UM / PIXEL_UM)
    y0, x0 = at[0] * WINDOW_UM / own[0], at[1] * WINDOW_UM / own[1]
    h, w = shape[0] * WINDOW_UM / own[0], shape[1] * WINDOW_UM / own[1]
    y, x = int(np.floor(y0)), int(np.floor(x0))
    region = slide.read(level, y, x, int(np.ceil(y0 + h)) - y, int(np.ceil(x0 + w)) - x)
    box = (x0 - x, y0 - y, min(x0 - x + w, region.shape[1]), min(y0 - y + h, region.shape[0]))
    size = (shape[1] * n, shape[0] * n)
    gray = np.asarray(
        Image.fromarray(region).resize(size, Image.Resampling.BOX, box=box), dtype=np.float32
    ).mean(axis=2)
    return window_sharpness(gray, n)


def window_sharpness(gray: Field, window: int) -> Field:
    """Mean squared Laplacian over mean squared gradient, float32 (rows, cols); NaN where all is flat.

    Both count the same edges, whatever their contrast, so that one strong step (tissue against glass) says as
    much as many weak ones. For edges of Gaussian width s the ratio falls as 1 / s^2.

    Parameters
    ----------
    gray : ndarray of float32, (rows * window, cols * window)
        Grey levels 0 to 255 at 1 um a pixel.
    window : int
        Side of a window in pixels.
    """
    from scipy import ndimage

    rows, cols = gray.shape[0] // window, gray.shape[1] // window
    smooth = ndimage.gaussian_filter(gray, NOISE_UM / PIXEL_UM)

    def mean(values: Field) -> Field:
        result: Field = values.reshape(rows, window, cols, window).mean(axis=(1, 3))
        return result

    down, across = (np.gradient(smooth, axis=axis) for axis in (0, 1))
    gradient = mean(down * down + across * across)
    detail = mean(ndimage.laplace(smooth) ** 2)
    ratio = detail / np.maximum(gradient, 1e-6)
    return np.where(gradient >= LEAST_GRADIENT, ratio, np.nan).astype(np.float32)
