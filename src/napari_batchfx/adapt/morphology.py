"""What tissue looks like apart from its colour: texture and nuclei on ranks of one channel."""

from __future__ import annotations

from typing import Final

import numpy as np
from numpy.typing import NDArray

__all__ = ["MORPHOLOGY", "describe_tiles", "ranks_of"]

#: Columns of :func:`describe_tiles`, in words.
MORPHOLOGY: Final = ("density", "nuclei", "dense area", "fine texture", "coarse texture")

_DENSE = 0.85
_WORK_MPP = 1.0
_NUCLEUS_UM = 2.0
_COARSE_UM = 8.0


def ranks_of(counts: NDArray[np.integer]) -> NDArray[np.float32]:
    """Rank (256,) in 0..1 of each grey value of a slide, 1 the darkest, from how often (256,) each occurs.

    A scanner that maps grey values one to one onto others, in whatever curve, changes no rank.

    Examples
    --------
    >>> ranks_of(np.bincount([10, 10, 200, 200], minlength=256))[[10, 200]].tolist()
    [0.75, 0.25]
    """
    total = max(int(counts.sum()), 1)
    lighter = counts[::-1].cumsum()[::-1] - counts
    return np.asarray((lighter + 0.5 * counts) / total, dtype=np.float32)


def describe_tiles(red: NDArray[np.uint8], ranks: NDArray[np.float32], mpp: float) -> NDArray[np.float64]:
    """Morphology of tiles on the ranks of their red channel.

    Haematoxylin takes up red light and eosin hardly does, so dark red ranks are mostly nuclei. Colour and
    contrast of the scan don't enter: only which pixels are darker than which on their slide.

    Parameters
    ----------
    red : uint8 (n, h, w)
        Red channel.
    ranks : float32 (256,)
        Of the slide (:func:`ranks_of`).
    mpp : float
        Micrometres a pixel.

    Returns
    -------
    float64 (n, 5)
        Mean rank; local dark maxima a square millimetre; share of dark pixels; spread of structure from 2 to
        8 um and above 8 um. What is finer is left out: it tells sharp scanners from soft ones. Columns as
        :data:`MORPHOLOGY`.

    Examples
    --------
    >>> tiles = np.random.default_rng(0).integers(0, 255, (3, 64, 64)).astype(np.uint8)
    >>> describe_tiles(tiles, ranks_of(np.bincount(tiles.ravel(), minlength=256)), 0.5).shape
    (3, 5)
    """
    from scipy.ndimage import gaussian_filter, maximum_filter

    step = max(1, round(_WORK_MPP / mpp))
    n, h, w = red.shape
    cut = red[:, : h - h % step, : w - w % step] if min(h, w) >= step else red
    u = ranks[cut]
    if min(h, w) >= step > 1:
        u = u.reshape(n, h // step, step, w // step, step).mean(axis=(2, 4))
    pitch = mpp * step
    sigma = _NUCLEUS_UM / pitch
    smooth = gaussian_filter(u, (0, sigma, sigma))
    coarse = gaussian_filter(u, (0, _COARSE_UM / pitch, _COARSE_UM / pitch))
    reach = 2 * max(1, round(2 * _NUCLEUS_UM / pitch)) + 1
    peaks = (smooth == maximum_filter(smooth, (1, reach, reach))) & (smooth > _DENSE - 0.1)
    area_mm2 = h * w * (mpp / 1000.0) ** 2
    return np.column_stack(
        [
            u.mean(axis=(1, 2)),
            peaks.sum(axis=(1, 2)) / area_mm2,
            (u > _DENSE).mean(axis=(1, 2)),
            (smooth - coarse).std(axis=(1, 2)),
            coarse.std(axis=(1, 2)),
        ]
    ).astype(np.float64)
