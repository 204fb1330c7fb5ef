"""Tissue folds: bands where every channel is much denser than the tissue around and than nearly all else."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from napari_batchfx.tiles._gaussian import gaussian

if TYPE_CHECKING:
    from napari_batchfx.tiles.overview import Overview

__all__ = ["fold_mask"]

Field = NDArray[np.float32]
Mask = NDArray[np.bool_]

SMOOTH_UM = 10.0
AROUND_UM = 300.0
# Density over that of the surroundings, in the channel where it is least: two layers have 2, a pleat 3.
# Stains differ in one channel more than in another, layers in none.
CERTAIN_RATIO = 1.6
LIKELY_RATIO = 1.3
# ... and how far the channels' ratios may lie apart.
MOST_SPREAD = 1.6
# Density over that of the slide's densest tenth: epithelium, keratin and lymph follicles are that tenth.
CERTAIN_TAIL = 1.5
LIKELY_TAIL = 1.15
TAIL = 0.9
LEAST_CERTAIN_UM2 = 2000.0
LEAST_LENGTH_UM = 200.0
LEAST_ELONGATION = 3.0
WIDTH_UM = (16.0, 200.0)
# Offsets keep pale tissue, where a ratio means little, from counting.
OFFSET = 0.02


def fold_mask(od: Field, tissue: Mask, overview: Overview) -> Mask:
    """Find folds inside tissue.

    Parameters
    ----------
    od : ndarray of float32, (h, w, 3)
        Optical density.
    tissue : ndarray of bool, (h, w)
        Where tissue is, without pen.
    overview : Overview

    Returns
    -------
    ndarray of bool, (h, w)
    """
    from scipy import ndimage

    found = np.zeros(overview.shape, bool)
    if tissue.sum() * overview.pixel_um2 < 4 * LEAST_CERTAIN_UM2:
        return found
    ratio, spread, tail = _ratios(od, tissue, overview)
    likely = tissue & (ratio > LIKELY_RATIO) & (tail > LIKELY_TAIL) & (spread < MOST_SPREAD * 1.15)
    certain = likely & (ratio > CERTAIN_RATIO) & (tail > CERTAIN_TAIL) & (spread < MOST_SPREAD)
    labels, n = ndimage.label(likely, structure=np.ones((3, 3)))
    if not n:
        return found
    sure = np.bincount(labels.ravel(), weights=certain.ravel()) * overview.pixel_um2
    for number, box in enumerate(ndimage.find_objects(labels), start=1):
        if sure[number] < LEAST_CERTAIN_UM2:
            continue
        part = labels[box] == number
        length, width = band_size(part, overview.mpp)
        if (
            length >= LEAST_LENGTH_UM
            and length >= LEAST_ELONGATION * width
            and WIDTH_UM[0] <= width <= WIDTH_UM[1]
        ):
            found[box] |= part
    return found


def band_size(part: Mask, mpp: tuple[float, float]) -> tuple[float, float]:
    """Length and width, um, of a part if it is a band, straight or not.

    In a band of width w the mean distance to the edge is w / 4; the length is the area over the width.
    """
    from scipy import ndimage

    inside = ndimage.distance_transform_edt(np.pad(part, 1), sampling=mpp)[1:-1, 1:-1][part]
    # distances end half a pixel short of the edge
    width = 4 * max(float(inside.mean()) - 0.25 * float(np.mean(mpp)), 1e-6)
    width = max(width, min(mpp))
    return float(part.sum()) * mpp[0] * mpp[1] / width, width


def _ratios(od: Field, tissue: Mask, overview: Overview) -> tuple[Field, Field, Field]:
    """Least ratio to the surroundings, largest over least ratio, density over the slide's densest tenth."""
    weight = _blur(tissue.astype(np.float32), AROUND_UM, overview) + 1e-3
    ratios = []
    total = np.zeros(overview.shape, np.float32)
    for c in range(3):
        smooth = _blur(od[..., c], SMOOTH_UM, overview)
        total += smooth / 3
        around = _blur(smooth * tissue, AROUND_UM, overview) / weight
        ratios.append((smooth / (around + OFFSET)).astype(np.float32))
    least = np.minimum(np.minimum(ratios[0], ratios[1]), ratios[2])
    most = np.maximum(np.maximum(ratios[0], ratios[1]), ratios[2])
    densest = float(np.quantile(total[tissue], TAIL))
    spread: Field = (most / np.maximum(least, 1e-3)).astype(np.float32)
    tail: Field = (total / max(densest, OFFSET)).astype(np.float32)
    return least, spread, tail


def _blur(values: Field, sigma_um: float, overview: Overview) -> Field:
    """Gaussian; a wide one on means of blocks, where it is as good and takes no time."""
    from scipy import ndimage

    sy, sx = (sigma_um / m for m in overview.mpp)
    step = int(min(sy, sx) // 4)
    if step < 2:
        return gaussian(values, (sy, sx))
    h, w = values.shape
    padded = np.pad(values, ((0, -h % step), (0, -w % step)), mode="edge")
    small = padded.reshape(padded.shape[0] // step, step, -1, step).mean(axis=(1, 3))
    small = gaussian(small, (sy / step, sx / step))
    wide: Field = ndimage.zoom(small, step, order=1, grid_mode=True, mode="nearest")[:h, :w]
    return wide
