"""How well an alignment that came from elsewhere fits what the slides show."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

import numpy as np

from napari_batchfx.slides.alignment.models import distances, log10_chance
from napari_batchfx.slides.alignment.refining import (
    CELLS_UM,
    GOOD_UM,
    MIDDLE_UM,
    SURE,
    THREADS,
    Sides,
    looks,
)
from napari_batchfx.slides.alignment.result import Alignment, Verdict
from napari_batchfx.slides.alignment.windows import Scene
from napari_batchfx.slides.slide import Slide

__all__ = ["check_alignment"]


def check_alignment(a: Slide, b: Slide, alignment: Alignment) -> Alignment:
    """Measure an alignment without changing it: windows at 2 um a pixel look for themselves nearby.

    Parameters
    ----------
    a, b : Slide
        The slides it is about.
    alignment : Alignment
        By hand or from a file.

    Returns
    -------
    Alignment
        The same matrix. Where windows agree beyond chance that it lies within reach (28 um), ``residual_um``
        is their median distance, none of them fitted, and the verdict is "good" up to 5 um. Else the residual
        is kept and the verdict is "uncertain": nothing was seen that speaks for it.

    Examples
    --------
    >>> from scipy import ndimage
    >>> from napari_batchfx.slides import open_slide, write_pyramid
    >>> noise = ndimage.gaussian_filter(np.random.default_rng(0).normal(size=(600, 600)), 4)
    >>> pixels = np.repeat((230 - 120 * (noise > 0.05))[..., None], 3, axis=2).astype(np.uint8)
    >>> _ = write_pyramid("a.tif", pixels, mpp=1.0, compression="deflate")
    >>> with open_slide("a.tif") as a, open_slide("a.tif") as b:
    ...     off = Alignment([[1, 0, 3.0], [0, 1, 4.0], [0, 0, 1]], float("nan"), 0.0, "uncertain")
    ...     round(check_alignment(a, b, off).residual_um)
    5
    """
    sides = Sides.of(a, b)
    if sides is None:
        return _unseen(alignment, 0.0)
    correlation = sides.correlation(alignment.affine_um)
    mpp = max(MIDDLE_UM, sides.native)
    seen = None
    if mpp <= CELLS_UM:
        with ThreadPoolExecutor(THREADS) as pool:
            seen = looks(pool, sides, (Scene(a, mpp), Scene(b, mpp)), alignment.affine_um, mpp)
    if seen is not None:
        matches, tolerance, reach = seen
        left = distances(np.eye(3), matches.here, matches.there)
        # the windows of a true alignment are all off the same way: count around their middle
        moves = matches.here - matches.there
        near = np.hypot(*(moves - np.median(moves, axis=0)).T) <= 2 * tolerance
        chance = log10_chance(int(near.sum()), len(left), np.pi * (2 * tolerance) ** 2 / (2 * reach) ** 2)
        if chance < SURE:
            residual = float(np.median(left))
            return _said(
                alignment, residual, correlation, "good" if residual <= GOOD_UM else "uncertain", len(left)
            )
    return _unseen(alignment, correlation)


def _unseen(alignment: Alignment, correlation: float) -> Alignment:
    """Nothing was seen: a residual is still that of the pairs clicked, and having no correlation says so."""
    if alignment.method == "points":
        correlation = float("nan")
    return _said(alignment, alignment.residual_um, correlation, "uncertain", alignment.n_windows)


def _said(alignment: Alignment, residual: float, correlation: float, verdict: Verdict, n: int) -> Alignment:
    return Alignment(
        alignment.affine_um, residual, correlation, verdict, n, alignment.model, alignment.method
    )
