"""A drawn region of a slide, in level-0 pixels: where stain is estimated by hand."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from napari_batchfx.errors import StainError

__all__ = ["Region", "as_region"]

Mask = npt.NDArray[np.bool_]


@dataclass(frozen=True)
class Region:
    """Polygons, or a mask over the whole slide.

    Parameters
    ----------
    polygons : tuple of float64 (k, 2)
        Vertices (y, x) in level-0 pixels.
    mask : bool (h, w) or None
        Any resolution; it covers the slide.
    shape : (int, int)
        Of level 0, pixels.
    """

    polygons: tuple[npt.NDArray[np.float64], ...]
    mask: Mask | None
    shape: tuple[int, int]

    def bounds(self) -> tuple[float, float, float, float]:
        """Top, left, bottom and right in level-0 pixels, within the slide."""
        if self.mask is not None:
            rows, columns = np.flatnonzero(self.mask.any(1)), np.flatnonzero(self.mask.any(0))
            down, right = np.array(self.shape) / self.mask.shape
            return (rows[0] * down, columns[0] * right, (rows[-1] + 1) * down, (columns[-1] + 1) * right)
        points = np.concatenate(self.polygons)
        low = np.clip(points.min(axis=0), 0, self.shape)
        high = np.clip(points.max(axis=0), 0, self.shape)
        return (float(low[0]), float(low[1]), float(high[0]), float(high[1]))

    def inside(self, top: float, left: float, step: tuple[float, float], size: tuple[int, int]) -> Mask:
        """Which pixels of a patch have their centre in the region, bool ``size``.

        ``top`` and ``left`` are level-0 pixels, ``step`` level-0 pixels a pixel of the patch.
        """
        if self.mask is not None:
            y = top + (np.arange(size[0]) + 0.5) * step[0]
            x = left + (np.arange(size[1]) + 0.5) * step[1]
            rows = np.clip((y * self.mask.shape[0] / self.shape[0]).astype(int), 0, self.mask.shape[0] - 1)
            columns = np.clip((x * self.mask.shape[1] / self.shape[1]).astype(int), 0, self.mask.shape[1] - 1)
            return np.asarray(self.mask[np.ix_(rows, columns)])
        from napari_batchfx.tiles.overview import polygon_mask

        return polygon_mask([polygon - (top, left) for polygon in self.polygons], size, step)


def as_region(given: Sequence[npt.ArrayLike] | npt.NDArray[np.bool_], shape: tuple[int, int]) -> Region:
    """Check polygons or a mask and make a region of them.

    Parameters
    ----------
    given : sequence of array (k, 2), or bool (h, w)
        Polygons of (y, x) in level-0 pixels, or a mask that covers the slide at any resolution.
    shape : (int, int)
        Level-0 height and width.

    Raises
    ------
    StainError
        If it is neither, or empty.
    """
    if isinstance(given, np.ndarray) and given.dtype == bool and given.ndim == 2:
        if not given.any():
            raise StainError("The drawn region is empty; draw one over tissue.")
        return Region((), given, shape)
    try:
        polygons = tuple(np.asarray(one, np.float64).reshape(-1, 2) for one in given)
    except (TypeError, ValueError) as error:
        raise StainError(
            "A region is a list of polygons, each (y, x) points in level-0 pixels, or a mask of the slide."
        ) from error
    polygons = tuple(one for one in polygons if len(one) >= 3 and np.isfinite(one).all())
    region = Region(polygons, None, shape)
    if not polygons:
        raise StainError("The drawn region is empty; draw one over tissue.")
    top, left, bottom, right = region.bounds()
    if bottom <= top or right <= left:
        raise StainError("The drawn region lies outside of the slide; draw one over tissue.")
    return region
