"""Edges of coverslip and slide, rims of air bubbles: long thin grey lines on glass, straight or curved."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    from napari_batchfx.tiles.overview import Overview

__all__ = ["edge_mask"]

Field = NDArray[np.float32]
Mask = NDArray[np.bool_]

# A line is thinner than this, um, and stands out from what lies on both sides by that density.
WIDEST_UM = 64.0
LEAST_CONTRAST = 0.025
# What lies on both sides is glass.
MOST_AROUND = 0.06
# Grey: the channels differ by less than this share of the line's density; tissue fibres are coloured.
MOST_COLOUR = 0.35
LEAST_LENGTH_UM = 500.0
LEAST_ELONGATION = 12.0
# Distance from the fitted line or circle, um (root mean square); fibres wriggle more. A line this long and
# thin is one whatever its course: coverslips have corners.
MOST_OFF_UM = 20.0
LONG_UM = 2500.0
# Gaps in a faint line that are bridged, um.
GAP_UM = 24.0
# A grey band along the border of the scan (the end of the slide) is this deep at most.
BORDER_UM = 1500.0


def edge_mask(od: Field, overview: Overview) -> Mask:
    """Find edges of coverslip and slide and the rims of bubbles.

    Parameters
    ----------
    od : ndarray of float32, (h, w, 3)
        Optical density, not smoothed.
    overview : Overview

    Returns
    -------
    ndarray of bool, (h, w)
    """
    from scipy import ndimage

    gray = od.mean(axis=2)
    colour = od.max(axis=2) - od.min(axis=2)
    size = tuple(max(3, 2 * round(WIDEST_UM / m / 2) + 1) for m in overview.mpp)
    # the opening takes away all that is thinner than the window, whichever way it runs
    around = ndimage.grey_opening(gray, size=size)
    grey = colour < MOST_COLOUR * gray
    lines = (gray - around > LEAST_CONTRAST) & (around < MOST_AROUND) & grey
    lines &= ~overview.missing
    bridged = ndimage.binary_closing(lines, iterations=max(1, round(GAP_UM / max(overview.mpp) / 2)))
    found = np.zeros(overview.shape, bool)
    labels, n = ndimage.label(bridged, structure=np.ones((3, 3)))
    if n:
        counts = np.bincount(labels.ravel()) * overview.pixel_um2
        for number, box in enumerate(ndimage.find_objects(labels), start=1):
            # cheap first: the shortest line has at least a pixel's width over its length
            if counts[number] < LEAST_LENGTH_UM * min(overview.mpp):
                continue
            part = labels[box] == number
            if _is_line(part, overview.mpp):
                found[box] |= part
    return found | _along_border(gray, colour, overview)


def _is_line(part: Mask, mpp: tuple[float, float]) -> bool:
    from napari_batchfx.tiles._folds import band_size

    length, width = band_size(part, mpp)
    if length < LEAST_LENGTH_UM or length < LEAST_ELONGATION * width or width > WIDEST_UM:
        return False
    points = np.argwhere(part) * np.asarray(mpp)
    extent = float(np.hypot(*np.ptp(points, axis=0)))
    # a net of fibres has the area of a line but stays in one place; a rim closes on itself
    if extent < length / 4:
        return False
    return length >= LONG_UM or min(_off_line(points), _off_circle(points)) <= MOST_OFF_UM


def _off_line(points: NDArray[np.float64]) -> float:
    """Root mean square distance from a parabola along the main axis."""
    centred = points - points.mean(axis=0)
    axes = np.linalg.svd(centred, full_matrices=False)[2]
    along, across = (centred @ axes.T).T
    scale = max(float(np.abs(along).max()), 1e-9)
    fit = np.polynomial.polynomial.polyfit(along / scale, across, 2)
    off = across - np.polynomial.polynomial.polyval(along / scale, fit)
    return float(np.sqrt(np.mean(off**2)))


def _off_circle(points: NDArray[np.float64]) -> float:
    """Root mean square distance from the circle of least squares (Kåsa 1976: linear in its parameters)."""
    centred = points - points.mean(axis=0)
    scale = max(float(np.abs(centred).max()), 1e-9)
    y, x = (centred / scale).T
    design = np.stack([2 * y, 2 * x, np.ones_like(x)], axis=1)
    (a, b, c), *_ = np.linalg.lstsq(design, y * y + x * x, rcond=None)
    radius = np.sqrt(max(float(c + a * a + b * b), 0.0))
    off = np.hypot(y - a, x - b) - radius
    return float(np.sqrt(np.mean(off**2))) * scale


def _along_border(gray: Field, colour: Field, overview: Overview) -> Mask:
    """Grey or black bands along most of a side of the scan: the end of the slide."""
    from scipy import ndimage

    deep = tuple(max(1, round(BORDER_UM / m)) for m in overview.mpp)
    dark = ndimage.binary_opening((gray > 0.15) & (colour < 0.25 * gray) & ~overview.missing, iterations=2)
    # opening eats the picture's own border: give it back
    dark |= ndimage.binary_dilation(dark, iterations=2) & (gray > 0.15) & (colour < 0.25 * gray)
    found = np.zeros(overview.shape, bool)
    labels, n = ndimage.label(dark, structure=np.ones((3, 3)))
    if not n:
        return found
    sides = (labels[0], labels[-1], labels[:, 0], labels[:, -1])
    for side, line in enumerate(sides):
        shares = np.bincount(line, minlength=n + 1) / max(1, len(line))
        for number in np.flatnonzero(shares > 0.5):
            if number == 0:
                continue
            part = labels == number
            rows, cols = np.nonzero(part)
            depth = np.ptp(rows) + 1 if side < 2 else np.ptp(cols) + 1
            if depth <= deep[0 if side < 2 else 1] and depth < overview.shape[0 if side < 2 else 1] / 2:
                found |= part
    return found
