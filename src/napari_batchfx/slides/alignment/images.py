"""Grey optical density of parts of a slide, made alike whatever the stain, and laid on another slide."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from napari_batchfx.slides.slide import Slide

__all__ = ["Gray", "Patch", "contrast", "density", "overview", "tissue", "warp"]

Gray = NDArray[np.float32]
Matrix = NDArray[np.float64]

# Optical density below which contrast is noise of the glass.
NOISE_OD = 0.02
# A pixel is tissue above this density (clean glass stays below 0.01), smoothed over two pixels.
TISSUE_OD = 0.03
OVERVIEW_PX = 1024


@dataclass(frozen=True)
class Patch:
    """Grey values with their place on a slide.

    Parameters
    ----------
    data : float32 (h, w)
        Values.
    origin : (float, float)
        Outer top-left corner in micrometres, (y, x).
    step : (float, float)
        Micrometres a pixel, (y, x).
    """

    data: Gray
    origin: tuple[float, float]
    step: tuple[float, float]

    def to_um(self) -> Matrix:
        """Pixel indices (centres) to micrometres, (3, 3) on (row, col, 1)."""
        (oy, ox), (sy, sx) = self.origin, self.step
        return np.array([[sy, 0, oy + sy / 2], [0, sx, ox + sx / 2], [0, 0, 1.0]])


def density(slide: Slide, origin: tuple[float, float], size: tuple[float, float], mpp: float) -> Patch:
    """Grey optical density of a region given in micrometres, at about ``mpp``, antialiased."""
    level = max(i for i in range(len(slide.levels)) if i == 0 or max(slide.level_mpp(i)) <= mpp * 1.001)
    my, mx = slide.level_mpp(level)
    y0, x0, y1, x1 = origin[0] / my, origin[1] / mx, (origin[0] + size[0]) / my, (origin[1] + size[1]) / mx
    top, left = int(np.floor(y0)), int(np.floor(x0))
    region = slide.read(level, top, left, int(np.ceil(y1)) - top, int(np.ceil(x1)) - left)
    gray = Image.fromarray(-np.log10((region.astype(np.float32).mean(axis=2) + 1.0) / 256.0))
    out = (max(1, round(size[1] / mpp)), max(1, round(size[0] / mpp)))
    box = (x0 - left, y0 - top, x1 - left, y1 - top)
    data = np.asarray(gray.resize(out, Image.Resampling.BILINEAR, box=box), dtype=np.float32)
    return Patch(data, origin, (size[0] / out[1], size[1] / out[0]))


def overview(slide: Slide) -> Patch:
    """The whole slide at no more than 1024 px, its glass at about zero; grey optical density."""
    patch = density(slide, (0.0, 0.0), slide.extent_um, max(max(slide.extent_um) / OVERVIEW_PX, *_mpp(slide)))
    glass = min(float(np.percentile(patch.data, 2)), 0.12)
    return Patch(patch.data - np.float32(glass), patch.origin, patch.step)


def _mpp(slide: Slide) -> tuple[float, float]:
    return slide.level_mpp(0)


def tissue(gray: Gray) -> NDArray[np.bool_]:
    """Tissue in an overview whose glass is at zero, specks and padding left out."""
    from scipy import ndimage

    smooth = ndimage.gaussian_filter(gray, 2.0)
    # a black border of the scan is darker than any stain and has no texture
    mask = (smooth > TISSUE_OD) & (smooth < 1.9)
    labels, n = ndimage.label(mask)
    if n:
        sizes = np.bincount(labels.ravel())
        keep = sizes >= max(16, 0.01 * sizes[1:].max())
        keep[0] = False
        mask = keep[labels]
    result: NDArray[np.bool_] = mask
    return result


def contrast(gray: Gray, sigma: float, blur: float = 0.7) -> Gray:
    """Local contrast: what is left of grey values after their local mean, over their local deviation.

    Stains, scanners and section thickness change the density by a factor and an offset that vary slowly;
    both fall out here. Glass stays near zero since its deviation is noise.
    """
    from scipy import ndimage

    fine = ndimage.gaussian_filter(gray, blur, truncate=3.0) if blur else gray
    flat = fine - _local_mean(fine, sigma)
    spread = np.sqrt(np.maximum(_local_mean(flat * flat, sigma), 0))
    result: Gray = np.clip(flat / (spread + NOISE_OD), -3, 3).astype(np.float32)
    return result


def _local_mean(values: Gray, sigma: float) -> Gray:
    """Mean over a tent about as wide as a Gaussian of ``sigma`` pixels: two running means, much faster."""
    from scipy import ndimage

    width = max(3, round(2.4 * sigma))
    result: Gray = ndimage.uniform_filter(ndimage.uniform_filter(values, width), width)
    return result


def warp(
    patch: Patch, matrix: Matrix, like: Patch | tuple[tuple[int, int], tuple[float, float], float]
) -> Gray:
    """Values of ``patch`` (on b) as they lie on a, linear, 0 outside.

    Parameters
    ----------
    patch : Patch
        On slide b.
    matrix : (3, 3)
        b's micrometres to a's.
    like : Patch, or (shape, origin, step)
        The raster on a.
    """
    from scipy import ndimage

    if isinstance(like, Patch):
        shape, target = like.data.shape, like.to_um()
    else:
        shape, origin, step = like
        target = Patch(np.empty((0, 0), np.float32), origin, (step, step)).to_um()
    back = np.linalg.inv(patch.to_um()) @ np.linalg.inv(matrix) @ target
    result: Gray = ndimage.affine_transform(
        patch.data, back[:2, :2], back[:2, 2], output_shape=shape, order=1, mode="constant", cval=0.0
    )
    return result
