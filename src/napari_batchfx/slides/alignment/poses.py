"""All turns, mirror and sizes at a glance: which ways of laying b on a deserve a closer look."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from napari_batchfx.slides.alignment.images import Patch, contrast, warp

__all__ = ["SCALES", "Pose", "Search"]

Matrix = NDArray[np.float64]

EDGE_PX = 112
SIGMA_PX = 9.0
STEP_DEG = 3.0
SCALES = ((1.0,), (0.92, 1.08))
# One batch of poses between two reports of progress.
BATCH = 48
LEAST_OVERLAP = 0.2
THREADS = 2


@dataclass(frozen=True)
class Pose:
    """One way of laying b on a.

    Parameters
    ----------
    score : float
        Correlation of local contrasts times the root of the overlap in pixels: how unlikely it is by chance.
    matrix : (3, 3)
        b's micrometres to a's.
    """

    score: float
    matrix: Matrix


class Search:
    """Correlation of two overviews over turns, mirror, scales and all shifts (by FFT).

    Parameters
    ----------
    a, b : Patch
        Grey optical densities (glass at zero) of the slides.
    tissue_a, tissue_b : bool arrays
        Of the same shapes.
    turns, mirror : bool
        Whether turns and scales, and the mirror image, are tried.
    """

    def __init__(
        self,
        a: Patch,
        b: Patch,
        tissue_a: NDArray[np.bool_],
        tissue_b: NDArray[np.bool_],
        *,
        turns: bool = True,
        mirror: bool = True,
    ) -> None:
        from scipy import fft, ndimage

        boxes = [_box(patch, mask) for patch, mask in ((a, tissue_a), (b, tissue_b))]
        self.mpp = max(float((high - low).max()) for low, high in boxes) / EDGE_PX
        self._images: list[Patch] = []
        self._masks: list[Patch] = []
        for patch, mask, (low, high) in zip((a, b), (tissue_a, tissue_b), boxes, strict=True):
            shape = (max(8, int(np.ceil((high[0] - low[0]) / self.mpp))),) * 2
            shape = (shape[0], max(8, int(np.ceil((high[1] - low[1]) / self.mpp))))
            raster = (shape, (float(low[0]), float(low[1])), self.mpp)
            wide = [0.5 * self.mpp / step for step in patch.step]
            smooth = Patch(ndimage.gaussian_filter(patch.data, wide), patch.origin, patch.step)
            grown = ndimage.gaussian_filter(mask.astype(np.float32), [4 * w for w in wide]) > 0.05
            domain = warp(Patch(grown.astype(np.float32), patch.origin, patch.step), np.eye(3), raster)
            gray = contrast(warp(smooth, np.eye(3), raster), SIGMA_PX)
            place = ((float(low[0]), float(low[1])), (self.mpp, self.mpp))
            self._images.append(Patch(gray * domain, *place))
            self._masks.append(Patch(domain, *place))
        self._centre = (np.asarray(boxes[1][0]) + boxes[1][1]) / 2
        diagonal = int(np.ceil(np.hypot(*self._images[1].data.shape) * (max(SCALES[-1]) if turns else 1))) + 2
        self._diagonal = diagonal
        self._size = tuple(
            int(fft.next_fast_len(n + diagonal, real=True)) for n in self._images[0].data.shape
        )
        self._fixed = [fft.rfft2(p.data, self._size) for p in (self._images[0], self._masks[0])]
        self._least = LEAST_OVERLAP * min(float(p.data.sum()) for p in self._masks)
        self._angles = np.arange(0, 360, STEP_DEG) if turns else np.zeros(1)
        self._flips = (False, True) if mirror and turns else (False,)

    def run(self, scales: Sequence[float], keep: int) -> Iterator[tuple[float, list[Pose]]]:
        """Yield the share done and the best poses so far, of these sizes, every few dozen turns."""
        plans = [
            (float(angle), scale, flip) for flip in self._flips for scale in scales for angle in self._angles
        ]
        found: list[Pose] = []
        with ThreadPoolExecutor(THREADS) as pool:
            for start in range(0, len(plans), BATCH):
                for poses in pool.map(self._look, plans[start : start + BATCH]):
                    found += poses
                found = self._distinct(found, 4 * keep)
                yield min(1.0, (start + BATCH) / len(plans)), found[:keep]

    def _look(self, plan: tuple[float, float, bool]) -> list[Pose]:
        from scipy import fft

        angle, scale, flip = plan
        turn = _turn(angle, scale, flip)
        n = self._diagonal
        # b turned about its tissue's centre, in the middle of a square on a's raster
        here = np.eye(3)
        here[:2, :2] = turn
        here[:2, 2] = n * self.mpp / 2 - turn @ self._centre
        raster = ((n, n), (0.0, 0.0), self.mpp)
        moved = [fft.rfft2(warp(p, here, raster), self._size) for p in (self._images[1], self._masks[1])]
        match, overlap = (
            fft.irfft2(f * m.conj(), self._size) for f, m in zip(self._fixed, moved, strict=True)
        )
        z = np.where(overlap > self._least, match / np.sqrt(np.maximum(overlap, 1.0)), -np.inf)
        poses = []
        for _ in range(2):
            row, col = np.unravel_index(int(np.argmax(z)), z.shape)
            score = float(z[row, col])
            if not np.isfinite(score):
                break
            dy = row - self._size[0] if row >= self._images[0].data.shape[0] else row
            dx = col - self._size[1] if col >= self._images[0].data.shape[1] else col
            matrix = here.copy()
            matrix[:2, 2] += np.asarray(self._images[0].origin) + np.array([dy, dx]) * self.mpp
            poses.append(Pose(score, matrix))
            rows, cols = (np.arange(-5, 6) + row) % z.shape[0], (np.arange(-5, 6) + col) % z.shape[1]
            z[np.ix_(rows, cols)] = -np.inf
        return poses

    def _distinct(self, poses: list[Pose], keep: int) -> list[Pose]:
        """The best poses, without those that lay b nearly like a better one."""
        radius = self._diagonal * self.mpp / 2
        probes = np.array([[0, 0], [radius / 2, 0], [0, radius / 2]]) + self._centre
        kept: list[Pose] = []
        places: list[NDArray[np.float64]] = []
        for pose in sorted(poses, key=lambda p: -p.score):
            place = probes @ pose.matrix[:2, :2].T + pose.matrix[:2, 2]
            if all(np.abs(place - other).max() > 7 * self.mpp for other in places):
                kept.append(pose)
                places.append(place)
                if len(kept) == keep:
                    break
        return kept


def _turn(angle: float, scale: float, flip: bool) -> Matrix:
    c, s = scale * np.cos(np.radians(angle)), scale * np.sin(np.radians(angle))
    return np.array([[c, -s], [s, c]]) @ np.diag([1.0, -1.0 if flip else 1.0])


def _box(patch: Patch, mask: NDArray[np.bool_]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Corners (y, x) of the tissue in micrometres."""
    rows, cols = np.flatnonzero(mask.any(axis=1)), np.flatnonzero(mask.any(axis=0))
    low = np.array([rows[0], cols[0]]) * patch.step
    high = np.array([rows[-1] + 1, cols[-1] + 1]) * patch.step
    return low, high
