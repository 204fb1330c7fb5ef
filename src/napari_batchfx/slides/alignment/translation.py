"""Where two scans of the same tissue lie on each other: a shift in micrometres, by phase correlation."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from napari_batchfx.slides.alignment.images import density
from napari_batchfx.slides.alignment.result import Alignment, Verdict
from napari_batchfx.slides.slide import Slide

__all__ = ["register_translation"]

Gray = NDArray[np.float32]
COARSE_PX = 2048
WINDOW_PX = 256
MAX_WINDOWS = 16
LIMIT_UM = 25.0


def register_translation(a: Slide, b: Slide, mpp: float = 1.0) -> Alignment:
    """Find the shift that lays slide b onto slide a, both in micrometres from their own corner.

    Phase correlation of the grey optical density, sub-pixel, first on the whole slides, then in windows over
    the tissue at ``mpp``; the windows' median refines the shift and their spread is the residual. Rotation
    isn't estimated: slides turned against each other get a low correlation and a bad verdict.

    Parameters
    ----------
    a, b : Slide
        Two scans with known pixel sizes.
    mpp : float
        Micrometres a pixel to work at.

    Returns
    -------
    Alignment
        Shift, residual, correlation and a verdict.

    Raises
    ------
    SlideError
        If a slide has no pixel size.

    References
    ----------
    Guizar-Sicairos, Thurman, Fienup 2008, Efficient subpixel image registration algorithms, Opt. Lett.
    33:156.

    Examples
    --------
    >>> from napari_batchfx.slides import open_slide, write_pyramid
    >>> rng = np.random.default_rng(0)
    >>> tissue = np.repeat(np.repeat(rng.integers(60, 250, (60, 60, 1)), 10, 0), 10, 1).astype(np.uint8)
    >>> pixels = np.repeat(tissue, 3, axis=2)
    >>> for name, part in (("a.tif", pixels[:500, :500]), ("b.tif", pixels[30:530, 20:520])):
    ...     _ = write_pyramid(name, part, mpp=1.0, compression="deflate")
    >>> with open_slide("a.tif") as a, open_slide("b.tif") as b:
    ...     found = register_translation(a, b)
    >>> found.verdict, [round(v) for v in found.shift_um]
    ('good', [30, 20])
    """
    if mpp <= 0:
        raise ValueError("mpp must be positive")
    longest = max(*a.extent_um, *b.extent_um)
    coarse = max(mpp, longest / COARSE_PX)
    od_a, od_b = (density(s, (0.0, 0.0), s.extent_um, coarse).data for s in (a, b))
    if od_a.std() < 1e-3 or od_b.std() < 1e-3:
        return Alignment.none_found("translation")
    px, _ = _phase_shift(od_a, od_b)
    shift = (px[0] * coarse, px[1] * coarse)
    local = _windows(a, b, od_a, shift, coarse, mpp)
    residual = float("nan")
    if len(local):
        middle = np.median(local, axis=0)
        if np.hypot(*middle) <= max(LIMIT_UM, 2 * coarse):
            shift = (shift[0] + float(middle[0]), shift[1] + float(middle[1]))
            residual = float(np.median(np.hypot(*(local - middle).T)))
    correlation = _overlap_correlation(od_a, od_b, (shift[0] / coarse, shift[1] / coarse))
    good = correlation >= 0.5 and residual <= 5.0
    verdict: Verdict = "good" if good else "uncertain" if correlation >= 0.25 else "failed"
    matrix = np.eye(3)
    matrix[:2, 2] = shift
    return Alignment(matrix, residual, correlation, verdict, len(local), "translation")


def _phase_shift(a: Gray, b: Gray, *, pad: bool = True) -> tuple[tuple[float, float], float]:
    """Shift in pixels that lays b on a, and the part of the energy it doesn't explain."""
    from scipy import ndimage
    from skimage.registration import phase_cross_correlation

    # Without the slow parts: background level and illumination would otherwise pull the peak to zero shift.
    flat = [image - ndimage.gaussian_filter(image, 16) for image in (a, b)]
    shape = tuple(max(p, q) for p, q in zip(a.shape, b.shape, strict=True))
    if pad:
        shape = tuple(_fft_size(p + q) for p, q in zip(a.shape, b.shape, strict=True))
    full = [np.zeros(shape, np.float32) for _ in flat]
    for target, image in zip(full, flat, strict=True):
        target[: image.shape[0], : image.shape[1]] = ndimage.gaussian_filter(image, 1.0)
    shift, error, _ = phase_cross_correlation(full[0], full[1], upsample_factor=20, normalization=None)
    return (float(shift[0]), float(shift[1])), float(error)


def _fft_size(n: int) -> int:
    from scipy import fft

    return int(fft.next_fast_len(int(n), real=True))


def _windows(
    a: Slide, b: Slide, od_a: Gray, shift: tuple[float, float], coarse: float, mpp: float
) -> NDArray[np.float64]:
    """Shifts (n, 2) in micrometres that windows over textured tissue still need after ``shift``."""
    size = min(WINDOW_PX, int(min(*a.extent_um, *b.extent_um) / mpp / 3))
    if size < 32:
        return np.empty((0, 2))
    span = size * mpp
    spots: list[tuple[float, float, float]] = []
    for y in np.arange(0, a.extent_um[0] - span + 1e-6, span):
        for x in np.arange(0, a.extent_um[1] - span + 1e-6, span):
            yb, xb = y - shift[0], x - shift[1]
            if yb < 0 or xb < 0 or yb + span > b.extent_um[0] or xb + span > b.extent_um[1]:
                continue
            patch = od_a[
                int(y / coarse) : int((y + span) / coarse) + 1, int(x / coarse) : int((x + span) / coarse) + 1
            ]
            spots.append((float(patch.std()), float(y), float(x)))
    spots.sort(reverse=True)
    found = []
    for texture, y, x in spots[:MAX_WINDOWS]:
        if texture < 0.02:
            continue
        wa = density(a, (y, x), (span, span), mpp).data
        wb = density(b, (y - shift[0], x - shift[1]), (span, span), mpp).data
        px, _ = _phase_shift(wa, wb, pad=False)
        moved = _overlap_correlation(wa, wb, px)
        if moved >= 0.3:
            found.append((px[0] * mpp, px[1] * mpp))
    return np.array(found, dtype=np.float64).reshape(-1, 2)


def _overlap_correlation(a: Gray, b: Gray, shift: tuple[float, float]) -> float:
    from scipy import ndimage

    dy, dx = round(shift[0]), round(shift[1])
    y0, x0 = max(0, dy), max(0, dx)
    y1, x1 = min(a.shape[0], b.shape[0] + dy), min(a.shape[1], b.shape[1] + dx)
    if y1 - y0 < 8 or x1 - x0 < 8:
        return 0.0
    pa = ndimage.gaussian_filter(a[y0:y1, x0:x1], 1.0)
    pb = ndimage.gaussian_filter(b[y0 - dy : y1 - dy, x0 - dx : x1 - dx], 1.0)
    if pa.std() < 1e-4 or pb.std() < 1e-4:
        return 0.0
    return float(np.corrcoef(pa.ravel(), pb.ravel())[0, 1])
