"""Folds inside the training folds, and who may train next to whom."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from napari_batchfx.probe.design import Design
from napari_batchfx.probe.folds import buffer, grouped_folds

__all__ = ["INNER_SPLITS", "buffered", "inner_folds", "keep_batches", "usable"]

INNER_SPLITS = 3


def inner_folds(design: Design, train: NDArray[np.intp], seed: int) -> NDArray[np.intp] | None:
    """Inner fold of each training row; ``None`` where a batch has too few units."""
    y, unit = design.y[train], design.grouping.unit[train]
    blocks = design.grouping.in_blocks[train]
    b = len(design.batches)
    if blocks.all():
        regions = np.unique(design.grouping.fold[train], return_inverse=True)[1]
        if regions.max() == 0:  # one region left: its blocks have to do
            regions = np.unique(unit, return_inverse=True)[1] % 2
        return np.asarray(regions % INNER_SPLITS, dtype=np.intp)
    fewest = min(len(np.unique(unit[y == k])) for k in range(b))
    if fewest < 2:
        return None
    return grouped_folds(unit, y, min(INNER_SPLITS, fewest), seed)


def buffered(design: Design, test: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """Tiles of slides that are split by place which touch a tile of ``test``."""
    if design.yx is None or not design.grouping.in_blocks.any():
        return np.zeros(len(test), dtype=bool)
    blocks = design.grouping.in_blocks
    return buffer(design.yx, design.slide, test & blocks) & blocks


def keep_batches(
    mask: NDArray[np.bool_], fallback: NDArray[np.bool_], y: NDArray[np.intp], b: int
) -> NDArray[np.bool_]:
    """Use the buffered rows again for a batch that the buffer would leave without training tiles."""
    out = mask.copy()
    for k in range(b):
        if not (mask & (y == k)).any():
            out |= fallback & (y == k)
    return out


def usable(design: Design, rows: NDArray[np.intp], inner: NDArray[np.intp]) -> NDArray[np.bool_]:
    """Which rows (n_folds, n) each inner fold may train on: not its own, and none that touches them."""
    folds = np.unique(inner)
    out = np.ones((len(folds), len(rows)), dtype=bool)
    for f, fold in enumerate(folds):
        whole = np.zeros(len(design.y), dtype=bool)
        whole[rows[inner == fold]] = True
        out[f] = ~buffered(design, whole)[rows]
        out[f] = keep_batches(out[f] & (inner != fold), inner != fold, design.y[rows], len(design.batches))
    return out
