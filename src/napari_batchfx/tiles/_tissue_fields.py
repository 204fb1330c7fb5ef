"""The steps from an overview to tissue, kept apart so that a new threshold doesn't smooth again."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from napari_batchfx.tiles._gaussian import gaussian

if TYPE_CHECKING:
    from napari_batchfx.tiles.overview import Overview

__all__ = ["Smoothed", "TissueFields"]

Field = NDArray[np.float32]
Mask = NDArray[np.bool_]

# Optical density (mean over the channels, smoothed) between which an automatic threshold may lie. Measured:
# clean glass stays below 0.01, the palest cytoplasm of a Ki-67 slide is at 0.02 to 0.03. Otsu on a field full
# of tissue would split tissue from tissue.
FLOOR = 0.02
CEILING = 0.04
# The same for the brightness of fluorescence above its dark background, as a share of full scale.
LIGHT_FLOOR = 0.02
LIGHT_CEILING = 0.25
# Uneven light and dirty glass are grey and smooth; tissue has a colour or a texture.
LEAST_COLOUR = 0.006
MOST_COUNTED = 2**20
LEAST_TEXTURE = 0.01


@dataclass(frozen=True, eq=False)
class Smoothed:
    """Density over a slide after smoothing, what may be tissue at all, and the automatic threshold.

    Parameters
    ----------
    density : ndarray of float32, (h, w)
    possible : ndarray of bool, (h, w)
        Coloured or textured, and not excluded.
    automatic : float
        Otsu's threshold between floor and ceiling.
    """

    density: Field
    possible: Mask
    automatic: float


class TissueFields:
    """What is computed once for an overview; a mask of other settings takes only the steps that change.

    Parameters
    ----------
    overview : Overview
    pen : function
        From density (h, w, 3) and overview to the marker pen on it, bool (h, w).
    """

    def __init__(self, overview: Overview, pen: Callable[[Field, Overview], Mask]) -> None:
        self.overview = overview
        self._find_pen = pen
        self._smoothed: tuple[tuple[float, bool], Smoothed] | None = None

    @cached_property
    def _density(self) -> tuple[Field, Field, Mask | None]:
        """Mean density, its range over the channels, pen (``None`` where the light is fluorescence)."""
        od = self.overview.density()
        if self.overview.is_fluorescence:
            # one channel often carries all: its mean would be a third of it
            return od.max(axis=2), np.zeros(self.overview.shape, np.float32), None
        gray = od.mean(axis=2)
        low = np.minimum(np.minimum(od[..., 0], od[..., 1]), od[..., 2])
        high = np.maximum(np.maximum(od[..., 0], od[..., 1]), od[..., 2])
        return gray, high - low, self._find_pen(od, self.overview)

    @cached_property
    def never(self) -> Mask:
        """Black or damaged."""
        result: Mask = self.overview.black() | self.overview.missing
        return result

    @property
    def pen(self) -> Mask:
        """Marker pen, as it is left out."""
        found = self._density[2]
        return np.zeros(self.overview.shape, bool) if found is None else found

    def smoothed(self, smooth_um: float, without_pen: bool) -> Smoothed:
        """Smooth over ``smooth_um``; the last result is kept."""
        key = (float(smooth_um), bool(without_pen))
        last = self._smoothed
        if last is not None and last[0] == key:
            return last[1]
        made = self._smooth(*key)
        self._smoothed = (key, made)
        return made

    def _smooth(self, smooth_um: float, without_pen: bool) -> Smoothed:
        gray, colour, pen = self._density
        excluded = self.never | pen if without_pen and pen is not None else self.never
        sigma = (smooth_um / self.overview.mpp[0], smooth_um / self.overview.mpp[1])
        any_excluded = bool(excluded.any())
        # weighted by what counts, so that pen and padding don't bleed into their surroundings
        weight: Field = np.ones((1, 1), np.float32)
        if any_excluded:
            weight = gaussian((~excluded).astype(np.float32), sigma) + np.float32(1e-6)

        def smooth(values: Field) -> Field:
            source = np.where(excluded, np.float32(0), values) if any_excluded else values
            result: Field = gaussian(source, sigma)
            result /= weight
            return result

        density = smooth(gray)
        if self.overview.is_fluorescence:
            possible = ~excluded
            low, high = LIGHT_FLOOR, LIGHT_CEILING
        else:
            possible = self._coloured_or_textured(gray, colour, excluded if any_excluded else None, sigma)
            low, high = FLOOR, CEILING
        counted = density[~excluded] if any_excluded else density
        return Smoothed(density, possible, float(np.clip(_otsu_log(counted), low, high)))

    @staticmethod
    def _coloured_or_textured(
        gray: Field, colour: Field, excluded: Mask | None, sigma: tuple[float, float]
    ) -> Mask:
        """Where smoothed colour or texture is above its least, and nothing is excluded.

        From 1.5 pixels of smoothing on by means of 2 x 2 pixels: a quarter of the work, and the answer is yes
        or no.
        """
        shape = gray.shape
        weight = np.ones(shape, np.float32) if excluded is None else (~excluded).astype(np.float32)
        fields = [gray * weight, gray * gray * weight, colour * weight]
        halved = min(sigma) >= 1.5
        if halved:
            fields = [_halve(field) for field in fields]
            sigma = (sigma[0] / 2, sigma[1] / 2)
        mean, square, colour = (gaussian(field, sigma) for field in fields)
        if excluded is not None:
            share = gaussian(_halve(weight) if halved else weight, sigma) + np.float32(1e-6)
            mean, square, colour = mean / share, square / share, colour / share
        possible: Mask = (colour > LEAST_COLOUR) | (square - mean * mean > LEAST_TEXTURE**2)
        if halved:
            possible = possible.repeat(2, axis=0).repeat(2, axis=1)[: shape[0], : shape[1]]
        return possible if excluded is None else possible & ~excluded


def _halve(values: Field) -> Field:
    """Means of 2 x 2 pixels; odd sizes repeat their last row or column."""
    if values.shape[0] % 2 or values.shape[1] % 2:
        values = np.pad(values, ((0, values.shape[0] % 2), (0, values.shape[1] % 2)), mode="edge")
    rows = values[0::2] + values[1::2]
    return (rows[:, 0::2] + rows[:, 1::2]) * np.float32(0.25)


def drop_specks(mask: Mask, least_pixels: float) -> Mask:
    """Keep connected parts (corners connect) of at least that many pixels."""
    from scipy import ndimage

    if least_pixels <= 1:
        return mask
    labels, n = ndimage.label(mask, structure=np.ones((3, 3)))
    if not n:
        return mask
    keep = np.bincount(labels.ravel()) >= least_pixels
    keep[0] = False
    result: Mask = keep[labels]
    return result


def fill_holes(mask: Mask, below_pixels: float, closed: Mask) -> Mask:
    """Fill holes of fewer pixels; one that touches the border or ``closed`` pixels is no hole."""
    from scipy import ndimage

    if below_pixels <= 0:
        return mask
    labels, n = ndimage.label(~mask)
    if not n:
        return mask
    fill = np.bincount(labels.ravel()) < below_pixels
    for edge in (labels[0], labels[-1], labels[:, 0], labels[:, -1], labels[closed]):
        fill[edge] = False
    fill[0] = True  # tissue itself
    result: Mask = fill[labels]
    return result


def _otsu_log(density: Field) -> float:
    """Otsu's threshold on the logarithm of densities 0.001 to 2, over 256 bins; of a million at most."""
    density = density.ravel()[:: max(1, density.size // MOST_COUNTED)]
    counts, edges = np.histogram(np.log10(np.clip(density, 1e-3, 2.0)), bins=256, range=(-3.0, 0.31))
    middle = (edges[:-1] + edges[1:]) / 2
    weight = np.cumsum(counts)
    total = np.cumsum(counts * middle)
    below, above = weight[:-1], weight[-1] - weight[:-1]
    ok = (below > 0) & (above > 0)
    if not ok.any():
        return 0.0
    mean_below = total[:-1] / np.maximum(below, 1)
    mean_above = (total[-1] - total[:-1]) / np.maximum(above, 1)
    between = np.where(ok, below * above * (mean_below - mean_above) ** 2.0, 0.0)
    return float(10 ** edges[int(np.argmax(between)) + 1])
