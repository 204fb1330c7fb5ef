"""Fused pixel loops of the colour statistics, compiled by numba; imported when the first tile is embedded.

The loops release the interpreter's lock and are called from a thread pool: numba's own parallel loops must
not run in two threads at once with its portable threading layer.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any, TypeVar, cast

import numba
import numpy as np

F = TypeVar("F", bound=Callable[..., Any])


def njit(function: F) -> F:
    """Compile without the interpreter's lock, kept on disk between runs."""
    return cast(F, numba.njit(nogil=True, cache=True)(function))


BINS = 512
STAIN_LOW, STAIN_HIGH = -1.0, 6.0
LUT_SIZE = 4096
OD_FLOOR, LAB_FLOOR = 0.02, 1.0
LBP_TOLERANCE = 0.02
EDGE_FLOOR = 0.02


@functools.cache
def tables() -> tuple[Any, Any, Any]:
    """Look-up tables: optical density and linear light of the 256 grey levels, and CIELAB's f over 0..1."""
    level = np.arange(256, dtype=np.float64)
    density = (-np.log(np.maximum(level, 1.0) / 255.0)).astype(np.float32)
    value = level / 255.0
    linear = np.where(value > 0.04045, ((value + 0.055) / 1.055) ** 2.4, value / 12.92).astype(np.float32)
    # two entries beyond the end: rounding may put white a hair above 1
    t = np.arange(LUT_SIZE + 3, dtype=np.float64) / LUT_SIZE
    f = np.where(t > 0.008856, np.cbrt(t), 7.787 * t + 16.0 / 116.0).astype(np.float32)
    return density, linear, f


@njit
def _f(lut: Any, t: Any) -> Any:
    x = t * LUT_SIZE
    if x < 0.0:
        x = 0.0
    i = int(x)
    if i > LUT_SIZE + 1:
        i = LUT_SIZE + 1
    r = x - i
    return lut[i] + r * (lut[i + 1] - lut[i])


@njit
def _moments(s1: Any, s2: Any, s3: Any, n: Any, floor: Any, out: Any, at: Any) -> Any:
    """Mean, standard deviation and skewness from sums of powers; a spread below ``floor`` is noise."""
    mean = s1 / n
    variance = max(s2 / n - mean * mean, 0.0)
    std = np.sqrt(variance)
    third = s3 / n - 3.0 * mean * s2 / n + 2.0 * mean**3
    out[at] = mean
    out[at + 1] = std
    out[at + 2] = third / max(std, floor) ** 3


@njit
def _quantile(histogram: Any, n: Any, q: Any) -> Any:
    target = q * n
    seen = 0.0
    width = (STAIN_HIGH - STAIN_LOW) / BINS
    for i in range(BINS):
        if seen + histogram[i] >= target:
            return STAIN_LOW + width * (i + (target - seen) / max(histogram[i], 1.0))
        seen += histogram[i]
    return STAIN_HIGH


@njit
def _colour(tile: Any, density: Any, linear: Any, lut: Any, unmix: Any, out: Any, absorbance: Any) -> Any:
    """34 colour numbers into ``out``, the mean optical density of every pixel into ``absorbance``."""
    height, width = tile.shape[0], tile.shape[1]
    n = height * width
    od = np.zeros((3, 3))
    lab = np.zeros((3, 3))
    stain = np.zeros((3, 2))
    product = 0.0
    tissue = 0
    h_histogram = np.zeros(BINS)
    e_histogram = np.zeros(BINS)
    scale = BINS / (STAIN_HIGH - STAIN_LOW)
    for y in range(height):
        for x in range(width):
            r, g, b = tile[y, x, 0], tile[y, x, 1], tile[y, x, 2]
            d0, d1, d2 = density[r], density[g], density[b]
            mean_od = (d0 + d1 + d2) / np.float32(3.0)
            absorbance[y, x] = mean_od
            if mean_od > 0.1:
                tissue += 1
            od[0, 0] += d0
            od[0, 1] += d0 * d0
            od[0, 2] += d0 * d0 * d0
            od[1, 0] += d1
            od[1, 1] += d1 * d1
            od[1, 2] += d1 * d1 * d1
            od[2, 0] += d2
            od[2, 1] += d2 * d2
            od[2, 2] += d2 * d2 * d2
            l0, l1, l2 = linear[r], linear[g], linear[b]
            # sRGB (IEC 61966-2-1) to XYZ over the D65 white
            fx = _f(lut, (0.412453 * l0 + 0.357580 * l1 + 0.180423 * l2) / 0.95047)
            fy = _f(lut, 0.212671 * l0 + 0.715160 * l1 + 0.072169 * l2)
            fz = _f(lut, (0.019334 * l0 + 0.119193 * l1 + 0.950227 * l2) / 1.08883)
            v = 116.0 * fy - 16.0
            lab[0, 0] += v
            lab[0, 1] += v * v
            lab[0, 2] += v * v * v
            v = 500.0 * (fx - fy)
            lab[1, 0] += v
            lab[1, 1] += v * v
            lab[1, 2] += v * v * v
            v = 200.0 * (fy - fz)
            lab[2, 0] += v
            lab[2, 1] += v * v
            lab[2, 2] += v * v * v
            h = unmix[0, 0] * d0 + unmix[0, 1] * d1 + unmix[0, 2] * d2
            e = unmix[1, 0] * d0 + unmix[1, 1] * d1 + unmix[1, 2] * d2
            z = unmix[2, 0] * d0 + unmix[2, 1] * d1 + unmix[2, 2] * d2
            stain[0, 0] += h
            stain[0, 1] += h * h
            stain[1, 0] += e
            stain[1, 1] += e * e
            stain[2, 0] += z
            stain[2, 1] += z * z
            product += h * e
            h_histogram[min(max(int((h - STAIN_LOW) * scale), 0), BINS - 1)] += 1.0
            e_histogram[min(max(int((e - STAIN_LOW) * scale), 0), BINS - 1)] += 1.0
    at = 0
    for c in range(3):
        _moments(od[c, 0], od[c, 1], od[c, 2], n, OD_FLOOR, out, at)
        at += 3
    for c in range(3):
        _moments(lab[c, 0], lab[c, 1], lab[c, 2], n, LAB_FLOOR, out, at)
        at += 3
    spread = np.zeros(3)
    for c in range(3):
        mean = stain[c, 0] / n
        spread[c] = np.sqrt(max(stain[c, 1] / n - mean * mean, 0.0))
        out[at] = mean
        out[at + 1] = spread[c]
        at += 2
    for q in (0.05, 0.5, 0.95):
        out[at] = _quantile(h_histogram, n, q)
        out[at + 1] = _quantile(e_histogram, n, q)
        at += 2
    covariance = product / n - (stain[0, 0] / n) * (stain[1, 0] / n)
    out[at] = covariance / (max(spread[0], OD_FLOOR) * max(spread[1], OD_FLOOR))
    total = od[0, 0] + od[1, 0] + od[2, 0] + 3.0 * OD_FLOOR * n
    out[at + 1] = (od[0, 0] + OD_FLOOR * n) / total
    out[at + 2] = (od[2, 0] + OD_FLOOR * n) / total
    out[at + 3] = tissue / n
    return at + 4


@njit
def _edges(image: Any, out: Any, at: Any) -> Any:
    """Gradient and Laplacian relative to the image's own spread: intensity drops out, sharpness stays."""
    height, width = image.shape
    if height < 3 or width < 3:
        out[at] = 0.0
        out[at + 1] = 0.0
        out[at + 2] = 0.0
        return at + 3
    s1 = 0.0
    s2 = 0.0
    for y in range(height):
        for x in range(width):
            v = image[y, x]
            s1 += v
            s2 += v * v
    n = height * width
    spread = np.sqrt(max(s2 / n - (s1 / n) ** 2, 0.0)) + EDGE_FLOOR
    g1 = 0.0
    g2 = 0.0
    c2 = 0.0
    for y in range(1, height - 1):
        for x in range(1, width - 1):
            dy = np.float32(0.5) * (image[y + 1, x] - image[y - 1, x])
            dx = np.float32(0.5) * (image[y, x + 1] - image[y, x - 1])
            square = dy * dy + dx * dx
            g1 += np.sqrt(square)
            g2 += square
            curve = (
                (image[y + 1, x] + image[y - 1, x])
                + (image[y, x + 1] + image[y, x - 1])
                - np.float32(4.0) * image[y, x]
            )
            c2 += curve * curve
    m = (height - 2) * (width - 2)
    out[at] = g1 / m / spread
    out[at + 1] = np.sqrt(max(g2 / m - (g1 / m) ** 2, 0.0)) / spread
    out[at + 2] = np.sqrt(c2 / m) / spread
    return at + 3


@njit
def _patterns(image: Any, codes: Any, out: Any, at: Any) -> Any:
    """Share of each of the ten rotation-invariant uniform local binary patterns on the 3 x 3 ring."""
    height, width = image.shape
    for i in range(10):
        out[at + i] = 0.0
    if height < 3 or width < 3:
        return at + 10
    counts = np.zeros(256, np.int64)
    for y in range(1, height - 1):
        for x in range(1, width - 1):
            limit = image[y, x] + np.float32(LBP_TOLERANCE)
            code = int(image[y - 1, x - 1] > limit)
            code |= int(image[y - 1, x] > limit) << 1
            code |= int(image[y - 1, x + 1] > limit) << 2
            code |= int(image[y, x + 1] > limit) << 3
            code |= int(image[y + 1, x + 1] > limit) << 4
            code |= int(image[y + 1, x] > limit) << 5
            code |= int(image[y + 1, x - 1] > limit) << 6
            code |= int(image[y, x - 1] > limit) << 7
            counts[code] += 1
    n = (height - 2) * (width - 2)
    for code in range(256):
        out[at + codes[code]] += counts[code] / n
    return at + 10


@functools.cache
def pattern_codes() -> Any:
    """Class of each 8-bit ring: its number of ones if they are in one piece (0..8), else 9."""
    codes = np.empty(256, np.int64)
    for code in range(256):
        ring = [(code >> i) & 1 for i in range(8)]
        changes = sum(ring[i] != ring[i - 1] for i in range(8))
        codes[code] = sum(ring) if changes <= 2 else 9
    return codes


@njit
def _halve(image: Any) -> Any:
    height, width = image.shape[0] // 2, image.shape[1] // 2
    half = np.empty((height, width), np.float32)
    for y in range(height):
        for x in range(width):
            # summed along the diagonals, so that a rotation by 90 degrees changes no bit of the result
            half[y, x] = np.float32(0.25) * (
                (image[2 * y, 2 * x] + image[2 * y + 1, 2 * x + 1])
                + (image[2 * y, 2 * x + 1] + image[2 * y + 1, 2 * x])
            )
    return half


@njit
def describe(tile: Any, density: Any, linear: Any, lut: Any, unmix: Any, codes: Any, out: Any) -> Any:
    """All numbers of one tile, in the published order, into ``out``."""
    absorbance = np.empty((tile.shape[0], tile.shape[1]), np.float32)
    at = _colour(tile, density, linear, lut, unmix, out, absorbance)
    half = _halve(absorbance)
    quarter = _halve(half)
    at = _edges(absorbance, out, at)
    at = _edges(half, out, at)
    at = _edges(quarter, out, at)
    at = _patterns(absorbance, codes, out, at)
    at = _patterns(half, codes, out, at)
    return at
