"""Windows over the tissue: where each one's best match lies, and whether they agree on one transform."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from napari_batchfx.slides.alignment.images import Gray, Patch, contrast, density, warp
from napari_batchfx.slides.alignment.models import distances, fit_robust, log10_chance
from napari_batchfx.slides.alignment.result import Model
from napari_batchfx.slides.slide import Slide

__all__ = ["Agreement", "Matches", "Scene", "agree", "match_window", "spread_windows"]

Matrix = NDArray[np.float64]
Points = NDArray[np.float64]

SIGMA_PX = 12.0
WHOLE_PX = 2048 * 2048
SMALLEST_PX = 22
# A peak is a match where it stands this many deviations above the map, or correlates this well.
LEAST_PEAK = 3.5
LEAST_CORRELATION = 0.5
LEAST_TEXTURE = 0.15


@dataclass(frozen=True)
class Scene:
    """Local contrast of a slide at one pixel size: held whole where it is small, else read where needed."""

    slide: Slide
    mpp: float

    @cached_property
    def whole(self) -> Patch | None:
        """The whole slide, if it has no more than 4 MPix at this pixel size."""
        height, width = self.slide.extent_um
        if height * width / self.mpp**2 > WHOLE_PX:
            return None
        patch = density(self.slide, (0.0, 0.0), (height, width), self.mpp)
        return Patch(contrast(patch.data, SIGMA_PX), patch.origin, patch.step)

    def around(self, low: Points, high: Points) -> Patch:
        """A patch that covers a box in micrometres."""
        if self.whole is not None:
            return self.whole
        margin = SIGMA_PX * self.mpp
        origin = (float(low[0] - margin), float(low[1] - margin))
        size = (float(high[0] - low[0] + 2 * margin), float(high[1] - low[1] + 2 * margin))
        patch = density(self.slide, origin, size, self.mpp)
        return Patch(contrast(patch.data, SIGMA_PX), patch.origin, patch.step)


@dataclass(frozen=True)
class Matches:
    """Windows that found something: their centres on a, and where b's tissue belongs, in micrometres.

    Parameters
    ----------
    here : float64 (n, 2)
        Where the present transform lays a window of b.
    there : float64 (n, 2)
        Where it should lie on a.
    fold : int (n,)
        0 or 1: neighbours are in different folds.
    """

    here: Points
    there: Points
    fold: NDArray[np.int64]


@dataclass(frozen=True)
class Agreement:
    """What windows of one pixel size say.

    Parameters
    ----------
    correction : (3, 3)
        To be applied after the present transform.
    residual_um : float
        Median distance of held-out windows.
    n : int
        Windows that found a match; each was held out once.
    n_agreeing : int
        Those within the tolerance when held out.
    log10_chance : float
        How likely that is for unrelated tissue.
    """

    correction: Matrix
    residual_um: float
    n: int
    n_agreeing: int
    log10_chance: float


def spread_windows(
    tissue_a: Patch, tissue_b: Patch, matrix: Matrix, mpp: float, wanted: int, largest_px: int
) -> tuple[Points, NDArray[np.int64], int]:
    """Centres (n, 2) of windows on a that lie on tissue of both slides, their folds, and their edge in px.

    They form a grid without overlap, so that they are independent looks at the tissue.
    """
    on_b = warp(tissue_b, matrix, tissue_a)
    both = (tissue_a.data > 0.5) & (on_b > 0.5)
    sy, sx = tissue_a.step
    area = float(both.sum()) * sy * sx
    if area <= 0:
        return np.empty((0, 2)), np.empty(0, np.int64), largest_px
    size = int(np.clip(np.sqrt(area / wanted) / mpp, SMALLEST_PX, largest_px))
    pitch = max(size * mpp, float(np.sqrt(area / wanted)))
    rows, cols = np.nonzero(both)
    (y0, x0), (y1, x1) = (rows.min() * sy, cols.min() * sx), ((rows.max() + 1) * sy, (cols.max() + 1) * sx)
    ny, nx = max(1, int((y1 - y0) / pitch)), max(1, int((x1 - x0) / pitch))
    # the grid in the middle of the box
    gy = (y0 + y1) / 2 + (np.arange(ny) - (ny - 1) / 2) * pitch
    gx = (x0 + x1) / 2 + (np.arange(nx) - (nx - 1) / 2) * pitch
    index = np.indices((ny, nx)).reshape(2, -1)
    centres = np.stack([gy[index[0]], gx[index[1]]], axis=1)
    r = np.clip((centres[:, 0] / sy).astype(int), 0, both.shape[0] - 1)
    c = np.clip((centres[:, 1] / sx).astype(int), 0, both.shape[1] - 1)
    keep = both[r, c]
    folds = (index.sum(axis=0) % 2).astype(np.int64)
    return centres[keep], folds[keep], size


def match_window(
    a: Scene, b: Scene, matrix: Matrix, centre: Points, size: int, reach: int
) -> tuple[float, float] | None:
    """How far, (y, x) in micrometres, a's window has to go to find itself on b as laid by ``matrix``.

    Normalised cross-correlation (Lewis 1995) with sub-pixel position by a parabola; None where the window is
    empty or no peak stands out.
    """
    from skimage.feature import match_template

    step = a.mpp
    outer = size + 2 * reach
    if a.whole is not None:
        step = float(np.mean(a.whole.step))
    low, high = centre - outer * step / 2, centre + outer * step / 2
    corners = np.array([[low[0], low[1]], [low[0], high[1]], [high[0], low[1]], [high[0], high[1]]])
    back = np.linalg.inv(matrix)
    on_b = corners @ back[:2, :2].T + back[:2, 2]
    raster = ((outer, outer), (float(low[0]), float(low[1])), step)
    own = warp(a.around(low, high), np.eye(3), raster)[reach : reach + size, reach : reach + size]
    if own.std() < LEAST_TEXTURE:
        return None
    other = warp(b.around(on_b.min(axis=0), on_b.max(axis=0)), matrix, raster)
    if other[reach : reach + size, reach : reach + size].std() < LEAST_TEXTURE:
        return None
    field = match_template(other, own)
    return _peak(field, reach, step)


def _peak(field: Gray, reach: int, step: float) -> tuple[float, float] | None:
    row, col = np.unravel_index(int(np.argmax(field)), field.shape)
    top = float(field[row, col])
    if top < LEAST_CORRELATION and top - float(field.mean()) < LEAST_PEAK * float(field.std()):
        return None
    # at the border of the search the true peak may lie outside
    if row in (0, field.shape[0] - 1) or col in (0, field.shape[1] - 1):
        return None
    dy = _parabola(field[row - 1, col], top, field[row + 1, col])
    dx = _parabola(field[row, col - 1], top, field[row, col + 1])
    return float((row + dy - reach) * step), float((col + dx - reach) * step)


def _parabola(before: float, top: float, after: float) -> float:
    curve = 2 * top - before - after
    return 0.0 if curve <= 1e-9 else float(np.clip((after - before) / (2 * curve), -0.5, 0.5))


def agree(matches: Matches, model: Model, tolerance: float, reach: float) -> Agreement | None:
    """Fit on one half of the windows, test on the other, and back; then fit on all.

    Parameters
    ----------
    matches : Matches
        Of one pixel size.
    model : str
        What is fitted.
    tolerance, reach : float
        Within what distance a window agrees, and how far it searched to each side; micrometres.
    """
    n = len(matches.here)
    left = np.full(n, np.inf)
    for fold in (0, 1):
        test = matches.fold == fold
        found = fit_robust(matches.here[~test], matches.there[~test], model, tolerance)
        if found is not None:
            left[test] = distances(found[0], matches.here[test], matches.there[test])
    whole = fit_robust(matches.here, matches.there, model, tolerance)
    if whole is None:
        return None
    tested = np.isfinite(left)
    agreeing = int((left <= tolerance).sum())
    chance = np.pi * tolerance**2 / (2 * reach) ** 2
    residual = float(np.median(left[tested])) if tested.any() else float("nan")
    return Agreement(
        whole[0], residual, int(tested.sum()), agreeing, log10_chance(agreeing, int(tested.sum()), chance)
    )
