"""Views of patches: cut, scaled, turned and stained a little differently, many at a time and outside the GIL."""

from __future__ import annotations

import math
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import cache

import numpy as np
import torch
from numba import njit
from tools.mini.appearance import appearance
from tools.mini.patches import PATCH_PX, Patches

from napari_batchfx.encoders.colour_statistics import COLOUR_FEATURES, RUIFROK, TEXTURE_FEATURES

MEAN = (0.75, 0.60, 0.72)
STD = (0.20, 0.22, 0.18)
_STAINS = np.array(RUIFROK)
_STAINS = _STAINS / np.linalg.norm(_STAINS, axis=1, keepdims=True)


@dataclass(frozen=True)
class ViewSettings:
    """How different two views of a place may be.

    ``stain`` is the spread of the stains' strength (as a factor's logarithm), ``light`` that of white and tone
    curve; both are left alone in one view of five. ``apart`` is the greatest distance of the views' centres, in
    sides. ``other`` is the chance that the second view of a phantom's place is through another scanner: were it 1, the
    network would learn to overlook scanners. Of the places, ``phantom_share`` are phantoms; the real sources share the
    rest by their square roots. ``look`` is the spread of a change of stain and light that *both* views of a place
    share: the network meets more colours than it has sources and yet learns to overlook none of them.
    """

    px: int = 80
    mpp_low: float = 0.28
    mpp_high: float = 1.1
    apart: float = 0.6
    other: float = 0.3
    stain: float = 0.2
    light: float = 0.05
    blur: float = 0.3
    phantom_share: float = 0.4
    look: float = 0.0


@njit(nogil=True, fastmath=True, cache=True)
def _cut(patch, y0, x0, side, turn, density, mix, shift, white, mean, std, out):  # pragma: no cover
    """One view: ``side`` px of a patch, seen through ``exp(-(mix @ od + shift)) * white``."""
    n = out.shape[0]
    step = side / n
    fine = 2 if step > 1.3 else 1
    last = patch.shape[0] - 1
    light = np.empty(3, np.float32)
    for i in range(n):
        for j in range(n):
            for c in range(3):
                light[c] = 0.0
            for a in range(fine):
                for b in range(fine):
                    y = y0 + (i + (a + 0.5) / fine) * step - 0.5
                    x = x0 + (j + (b + 0.5) / fine) * step - 0.5
                    y = min(max(y, 0.0), last - 0.001)
                    x = min(max(x, 0.0), last - 0.001)
                    yi, xi = int(y), int(x)
                    fy, fx = y - yi, x - xi
                    for c in range(3):
                        top = patch[yi, xi, c] * (1 - fx) + patch[yi, xi + 1, c] * fx
                        low = patch[yi + 1, xi, c] * (1 - fx) + patch[yi + 1, xi + 1, c] * fx
                        light[c] += top * (1 - fy) + low * fy
            # turned and mirrored: the eight ways a tile can lie
            k, m = i, j
            if turn & 1:
                k = n - 1 - k
            if turn & 2:
                m = n - 1 - m
            if turn & 4:
                k, m = m, k
            r = density[int(light[0] / (fine * fine) * 4.0)]
            g = density[int(light[1] / (fine * fine) * 4.0)]
            b_ = density[int(light[2] / (fine * fine) * 4.0)]
            for c in range(3):
                od = mix[c, 0] * r + mix[c, 1] * g + mix[c, 2] * b_ + shift[c]
                value = min(math.exp(-od) * white[c], 1.0)
                out[k, m, c] = (value - mean[c]) / std[c]


@njit(nogil=True, fastmath=True, cache=True)
def _blur(image, weights):  # pragma: no cover
    """Blur an image (n, n, 3) in place along both sides; ``weights`` are those of the pixel and of two neighbours."""
    n = image.shape[0]
    line = np.empty((n + 4, 3), np.float32)
    for axis in range(2):
        for i in range(n):
            for j in range(n + 4):
                k = min(max(j - 2, 0), n - 1)
                for c in range(3):
                    line[j, c] = image[i, k, c] if axis == 0 else image[k, i, c]
            for j in range(n):
                for c in range(3):
                    value = weights[0] * line[j + 2, c]
                    value += weights[1] * (line[j + 1, c] + line[j + 3, c])
                    value += weights[2] * (line[j, c] + line[j + 4, c])
                    if axis == 0:
                        image[i, j, c] = value
                    else:
                        image[j, i, c] = value


@cache
def _tables() -> tuple:
    from napari_batchfx.encoders import _colour_kernels as kernels

    vectors = np.array(RUIFROK)
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    return (*kernels.tables(), np.ascontiguousarray(np.linalg.inv(vectors).T), kernels.pattern_codes())


def _describe(tile: np.ndarray, out: np.ndarray) -> None:
    """What the encoder colour-statistics says of a tile; no lock is held, many threads can work at once."""
    from napari_batchfx.encoders import _colour_kernels as kernels

    kernels.describe(tile, *_tables(), out)


Look = tuple[np.ndarray, np.ndarray, np.ndarray]


def both(own: Look, shared: Look | None) -> Look:
    """One look after another: mixing and shift of optical densities, and white."""
    if shared is None:
        return own
    return own[0] @ shared[0], own[1] + own[0] @ shared[1], own[2] * shared[2]


_DENSITY = -np.log((np.arange(1024, dtype=np.float32) / 4.0 + 1.0) / 256.0)


class ViewMaker:
    """Makes the batches of a training: which places, and how they are seen, follow from seed and step alone."""

    def __init__(
        self, patches: Patches, settings: ViewSettings, seed: int, threads: int = 2, told: str = "colour"
    ) -> None:
        self.patches, self.settings, self.seed, self.told = patches, settings, seed, told
        self._rows = [np.flatnonzero(patches.source == k) for k in range(len(patches.names))]
        real = np.sqrt([len(rows) for rows in self._rows[1:]])
        self._chance = np.append(settings.phantom_share, (1 - settings.phantom_share) * real / real.sum())
        self._pool = ThreadPoolExecutor(threads)

    def batch(self, step: int, n: int, px: int | None = None) -> tuple[np.ndarray, np.ndarray]:
        """Normalised views float32 (2 n, px, px, 3), first one of every place, then the other; and their statistics.

        The statistics (2 n, 63) are those of the encoder ``colour-statistics``, of the views' pixels as bytes; where
        everything is told (``told="all"``), the numbers of :func:`~tools.mini.appearance.appearance` follow.
        """
        s, px = self.settings, px or self.settings.px
        rng = np.random.default_rng([self.seed, step])
        source = rng.choice(len(self._chance), n, p=self._chance)
        place = np.array(
            [self._rows[k][int(u * len(self._rows[k]))] for k, u in zip(source, rng.random(n), strict=True)]
        )
        out = np.empty((2 * n, px, px, 3), np.float32)
        statistics = np.zeros((2 * n, len(COLOUR_FEATURES) + len(TEXTURE_FEATURES)))
        want = np.exp(rng.uniform(math.log(s.mpp_low), math.log(s.mpp_high), n))
        jobs = []
        for i in range(n):
            centre = None
            shared = self._shared_look(rng) if s.look > 0 else None
            seen_again = self.patches.second if rng.random() < s.other else self.patches.first
            for j in (0, 1):
                index = (self.patches.first, seen_again)[j][place[i]]
                side = px * want[i] * rng.uniform(0.85, 1.18) / self.patches.mpp[index]
                side = float(np.clip(side, 0.5 * px, PATCH_PX))
                room = PATCH_PX - side
                yx = rng.uniform(0, room, 2)
                if centre is not None:
                    yx = np.clip(centre - side / 2 + side * rng.uniform(-s.apart, s.apart, 2), 0, room)
                centre = yx + side / 2
                jobs.append(
                    (
                        j * n + i,
                        int(index),
                        float(yx[0]),
                        float(yx[1]),
                        side,
                        int(rng.integers(8)),
                        *both(self._look(rng), shared),
                    )
                )
        blur = np.where(rng.random(2 * n) < s.blur, rng.uniform(0.3, 1.0, 2 * n), 0.0)
        mean, std = np.array(MEAN, np.float32), np.array(STD, np.float32)

        def work(part):
            for row, index, y, x, side, turn, mix, shift, white in part:
                patch = np.ascontiguousarray(self.patches.pixels[index])
                _cut(patch, y, x, side, turn, _DENSITY, mix, shift, white, mean, std, out[row])
                if blur[row] > 0:
                    near = np.exp(-0.5 * (np.arange(3) / blur[row]) ** 2)
                    _blur(out[row], (near / (near[0] + 2 * near[1:].sum())).astype(np.float32))
                grey = np.rint((out[row] * std + mean) * 255).astype(np.uint8)
                _describe(grey, statistics[row])

        list(self._pool.map(work, [jobs[k::4] for k in range(4)]))
        if self.told == "colour":
            return out, statistics.astype(np.float32)
        light = torch.from_numpy(out * std + mean).permute(0, 3, 1, 2).contiguous()
        return out, np.concatenate([statistics, appearance(light).numpy()], 1).astype(np.float32)

    def _shared_look(self, rng: np.random.Generator) -> Look:
        """A change of colour that all views of a place share: strengths, the stains' own colours, white and tone."""
        look = self.settings.look
        if rng.random() < 0.25:
            return np.eye(3, dtype=np.float32), np.zeros(3, np.float32), np.ones(3, np.float32)
        strength = np.exp(rng.normal(0.0, look, 3) * (1.0, 1.0, 0.5))
        turned = np.clip(_STAINS + rng.normal(0.0, 0.2 * look, (3, 3)), 0.01, None)
        turned /= np.linalg.norm(turned, axis=1, keepdims=True)
        curve = np.exp(rng.normal(0.0, 0.3 * look) + rng.normal(0.0, 0.1 * look, 3))
        mix = turned.T @ np.diag(strength) @ np.linalg.inv(_STAINS.T) * curve[:, None]
        white = np.exp(-np.abs(rng.normal(0.0, 0.15 * look)) + rng.normal(0.0, 0.06 * look, 3))
        return mix.astype(np.float32), np.zeros(3, np.float32), white.astype(np.float32)

    def _look(self, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Mixing and shift of the optical densities, and white."""
        s = self.settings
        strength = np.exp(rng.normal(0.0, s.stain, 3) * (1.0, 1.0, 0.5))
        shift = rng.normal(0.0, 0.1 * s.stain, 3)
        white = np.exp(rng.normal(0.0, s.light, 3) * 0.5 + rng.normal(0.0, s.light))
        curve = np.exp(rng.normal(0.0, 2.0 * s.light, 3))
        if rng.random() < 0.2:
            strength, shift, white, curve = np.ones(3), np.zeros(3), np.ones(3), np.ones(3)
        # light = stains^T concentrations in optical density; a factor on each concentration is a mixing of channels
        mix = _STAINS.T @ np.diag(strength) @ np.linalg.inv(_STAINS.T) * curve[:, None]
        return mix.astype(np.float32), shift.astype(np.float32), white.astype(np.float32)
