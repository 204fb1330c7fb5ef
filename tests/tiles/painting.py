"""Artefacts painted on real pixels, with the mask of where: what the rules are measured against."""

from __future__ import annotations

import numpy as np
from PIL import Image, ImageDraw
from scipy.ndimage import gaussian_filter, zoom

INKS = {"red": (190, 22, 30), "green": (25, 130, 80), "blue": (35, 60, 160), "black": (28, 26, 30)}


def band(shape, points, width):
    """Pixels within width / 2 of a polyline of (y, x), as a float mask with a soft edge of one pixel."""
    canvas = Image.new("L", (shape[1] * 2, shape[0] * 2))
    path = [(2 * x, 2 * y) for y, x in points]
    draw = ImageDraw.Draw(canvas)
    draw.line(path, fill=255, width=max(1, round(2 * width)), joint="curve")
    return np.asarray(canvas.resize((shape[1], shape[0]), Image.Resampling.BOX), dtype=np.float32) / 255


def arc(centre, radius, start, stop, n=64):
    angle = np.linspace(start, stop, n)
    return [(centre[0] + radius * np.sin(a), centre[1] + radius * np.cos(a)) for a in angle]


def pen(image, points, width, ink="red", alpha=0.85, seed=0):
    """A marker stroke: the ink's colour laid over the picture, uneven and with a soft rim."""
    solid = band(image.shape, points, width)
    cover = gaussian_filter(solid, 2) * alpha
    rough = gaussian_filter(np.random.default_rng(seed).normal(size=[n // 8 + 2 for n in image.shape[:2]]), 2)
    rough = zoom(rough / rough.std(), 8, order=1)[: image.shape[0], : image.shape[1]].astype(np.float32)
    cover = np.clip(cover * (1 + 0.05 * rough), 0, 1)[..., None]
    painted = image * (1 - cover) + np.array(INKS[ink], np.float32) * cover
    return np.rint(painted).astype(np.uint8), solid > 0.5


def fold(image, points, width, layers=2, shift=(37, 53)):
    """Tissue laid onto itself along a band: the densities of the layers add up."""
    solid = band(image.shape, points, width)
    density = -np.log(np.maximum(image, 1).astype(np.float32) / 245)
    extra = sum(np.roll(density, [k * n for n in shift], (0, 1)) for k in range(1, layers))
    total = density + np.maximum(extra, 0) * solid[..., None]
    return np.clip(np.rint(245 * np.exp(-total)), 0, 255).astype(np.uint8), solid > 0.5


def blur(image, box, sigma):
    """A box out of focus."""
    y0, x0, y1, x1 = box
    result = image.copy()
    wide = gaussian_filter(image.astype(np.float32), (sigma, sigma, 0))
    result[y0:y1, x0:x1] = np.rint(wide[y0:y1, x0:x1])
    mask = np.zeros(image.shape[:2], bool)
    mask[y0:y1, x0:x1] = True
    return result, mask


def line(image, points, width, grey=140, alpha=0.8):
    """The edge of a coverslip or the rim of a bubble: thin, grey, over glass and tissue alike."""
    solid = band(image.shape, points, width)
    cover = (solid * alpha)[..., None]
    return np.rint(image * (1 - cover) + grey * cover).astype(np.uint8), solid > 0.5


def share(mask, shape):
    """A mask at another size by area means, True where at least half."""
    small = Image.fromarray((mask * 255).astype(np.uint8)).resize((shape[1], shape[0]), Image.Resampling.BOX)
    return np.asarray(small) >= 128
