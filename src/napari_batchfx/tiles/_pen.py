"""Marker pen by colour: inks absorb where stains don't, in strokes larger than any red cell or pigment."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    from napari_batchfx.tiles.overview import Overview

__all__ = ["INKS", "ink_masks", "marker_pen"]

Field = NDArray[np.float32]
Mask = NDArray[np.bool_]

INKS = ("red", "green", "blue", "black")
# The least stroke, um2, in which ink is certain: a marker is 1 mm wide, lakes of red cells are smaller.
LEAST_STROKE_UM2 = 10_000.0
# Where a slide has such a stroke, blots of the same ink count from here on.
LEAST_BLOT_UM2 = 500.0
# How far from certain ink paler pixels of its hue belong to it, and what is added as its rim, um.
REACH_UM = 200.0
RIM_UM = 16.0
# Spread of grey levels below which black is padding.
FLAT = 3.0


def marker_pen(od: Field, overview: Overview) -> Mask:
    """Marker pen of any colour, with its rim; bool (h, w)."""
    result: Mask = np.logical_or.reduce(list(ink_masks(od, overview).values()))
    return result


def ink_masks(od: Field, overview: Overview) -> dict[str, Mask]:
    """Marker pen by colour.

    Parameters
    ----------
    od : ndarray of float32, (h, w, 3)
        Optical density against glass, not smoothed.
    overview : Overview
        Where it comes from.

    Returns
    -------
    dict of str to ndarray of bool, (h, w)
        One mask for each of :data:`INKS`, rims included.
    """
    from scipy import ndimage

    found = {}
    rim = max(1, round(RIM_UM / max(overview.mpp)))
    reach = max(1, round(REACH_UM / max(overview.mpp)))
    for name, (certain, likely) in zip(INKS, _rules(od, overview), strict=True):
        mask = _strokes(certain, likely, overview.pixel_um2, reach)
        if mask.any():
            mask = ndimage.binary_dilation(mask, iterations=rim)
        found[name] = mask
    return found


def _rules(od: Field, overview: Overview) -> list[tuple[Mask, Mask]]:
    """For each ink the pixels that are certainly of it, and those that are if they touch certain ones.

    By the ratio of the channels' densities, so that thin and thick ink obey the same rule. Red pen takes
    green and blue alike and lets red through (eosin takes little blue, DAB and AEC take some red); green pen
    takes red most and green least; blue pen takes red and green strongly and lets blue through; black pen
    takes all alike.
    """
    r, g, b = od[..., 0], od[..., 1], od[..., 2]
    red = (g > 0.6) & (b > 0.75 * g) & (b < 1.4 * g) & (r < 0.16 * g)
    # thin ink on glass; lakes of red cells have less blue
    red |= (g > 0.38) & (b > 0.9 * g) & (b < 1.25 * g) & (r < 0.22 * g)
    red_too = (g > 0.2) & (b > 0.65 * g) & (b < 1.6 * g) & (r < 0.4 * g)
    green = (r > 0.25) & (g < 0.6 * r) & (g < 0.75 * b)
    green_too = (r > 0.12) & (g < 0.75 * r) & (g < 0.95 * b)
    blue = (r > 0.25) & (g > 0.2) & (b < 0.35 * r) & (g < r)
    blue_too = (r > 0.25) & (b < 0.45 * r) & (g < 1.05 * r)
    low, high = od.min(axis=2), od.max(axis=2)
    black = (low > 0.4) & (high < 1.3 * low) & ~_padding(overview)
    black_too = (low > 0.35) & (high < 1.6 * low)
    return [(red, red_too), (green, green_too), (blue, blue_too), (black, black_too)]


def _strokes(certain: Mask, likely: Mask, pixel_um2: float, reach: int) -> Mask:
    """Certain parts, if one of them is a whole stroke, and likely pixels within ``reach`` pixels of them."""
    from scipy import ndimage

    nothing = np.zeros_like(certain)
    if certain.sum() * pixel_um2 < LEAST_STROKE_UM2:
        return nothing
    labels, _ = ndimage.label(ndimage.binary_closing(certain, iterations=2) | certain, np.ones((3, 3)))
    areas = np.bincount(labels.ravel(), weights=certain.ravel()) * pixel_um2
    areas[0] = 0
    if areas.max() < LEAST_STROKE_UM2:
        return nothing
    strokes = (areas >= LEAST_BLOT_UM2)[labels]
    result: Mask = ndimage.binary_dilation(strokes, iterations=reach, mask=likely | strokes)
    return result


def _padding(overview: Overview) -> Mask:
    """Black that the scanner filled in: flat, and touching the border."""
    from scipy import ndimage

    black = overview.black()
    if not black.any():
        return black
    labels, n = ndimage.label(black)
    touching = np.unique(np.concatenate([labels[0], labels[-1], labels[:, 0], labels[:, -1]]))
    level = overview.image.mean(axis=2)
    spread = ndimage.standard_deviation(level, labels, np.arange(n + 1))
    is_padding = np.zeros(n + 1, bool)
    is_padding[touching] = spread[touching] < FLAT
    is_padding[0] = False
    result: Mask = is_padding[labels]
    return result
