"""Poses refined by windows at finer and finer pixels, as long as the windows agree."""

from __future__ import annotations

import math
from collections.abc import Generator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from napari_batchfx.jobs import Progress
from napari_batchfx.slides.alignment.images import Patch, overview, tissue, warp
from napari_batchfx.slides.alignment.result import Alignment, Model, Verdict
from napari_batchfx.slides.alignment.windows import (
    Agreement,
    Matches,
    Scene,
    agree,
    match_window,
    spread_windows,
)
from napari_batchfx.slides.slide import Slide

__all__ = ["CANDIDATES", "CELLS_UM", "GOOD_UM", "SURE", "Sides", "Track", "judged", "looks", "refine"]

Matrix = NDArray[np.float64]

FINEST_UM = 0.5
MIDDLE_UM = 2.0
# Windows at this pixel size or finer see cells; only they can make an alignment good.
CELLS_UM = 2.6
CANDIDATES = 12
# Poses followed at each pixel size, coarsest first.
FOLLOWED = (CANDIDATES, 4, 2, 1)
# log10 of the chance below which windows of one pixel size are believed enough to go on, and to say "good".
LIKELY = -2.5
SURE = -6.0
# Below this the other poses needn't be looked at.
CERTAIN = -15.0
GOOD_UM = 5.0
THREADS = 2


@dataclass(frozen=True)
class Sides:
    """The two slides with their overviews: grey optical density, and 1 where there is tissue."""

    slides: tuple[Slide, Slide]
    grays: tuple[Patch, Patch]
    tissues: tuple[Patch, Patch]

    @classmethod
    def of(cls, a: Slide, b: Slide) -> Sides | None:
        """Look at both; None where one shows no tissue."""
        grays = (overview(a), overview(b))
        tissues = [Patch(tissue(g.data).astype(np.float32), g.origin, g.step) for g in grays]
        if not all(place.data.any() for place in tissues):
            return None
        return cls((a, b), grays, (tissues[0], tissues[1]))

    def correlation(self, matrix: Matrix) -> float:
        """Pearson's correlation of the overviews' densities where both slides lie; 0 without an overlap."""
        from scipy import ndimage

        a, b = self.grays
        where = warp(Patch(np.ones_like(b.data), b.origin, b.step), matrix, a) > 0.99
        if int(where.sum()) < 64:
            return 0.0
        p = ndimage.gaussian_filter(a.data, 1.0)[where]
        q = ndimage.gaussian_filter(warp(b, matrix, a), 1.0)[where]
        if p.std() < 1e-4 or q.std() < 1e-4:
            return 0.0
        return float(np.corrcoef(p, q)[0, 1])

    @property
    def native(self) -> float:
        """The coarser pixel size of the two, micrometres."""
        return max(mpp for slide in self.slides for mpp in slide.level_mpp(0))


@dataclass(frozen=True)
class Track:
    """A pose on its way to finer pixels: the finest pixel size whose windows agreed, and what they said."""

    matrix: Matrix
    level: float = math.inf
    told: Agreement | None = None

    @property
    def chance(self) -> float:
        """Logarithm (10) of the chance that unrelated tissue agrees as well."""
        return 0.0 if self.told is None else self.told.log10_chance

    @property
    def order(self) -> tuple[float, float]:
        """Sorts the better first: finer, then less likely by chance."""
        return self.level, self.chance

    @property
    def is_good(self) -> bool:
        """Whether cells agree beyond chance and little is left."""
        told = self.told
        return told is not None and (
            self.level <= CELLS_UM and told.log10_chance <= SURE and told.residual_um <= GOOD_UM
        )


def refine(
    sides: Sides,
    matrices: Sequence[Matrix],
    coarse: float,
    model: Model,
    what: str,
    steps: tuple[int, int] = (0, 100),
) -> Generator[Progress, None, Track | None]:
    """Follow the likeliest poses down to 0.5 um a pixel; None where windows agree on none of them."""
    tracks = [Track(matrix) for matrix in matrices]
    levels = _levels(coarse, sides.native)
    with ThreadPoolExecutor(THREADS) as pool:
        for number, mpp in enumerate(levels):
            scenes = (Scene(sides.slides[0], mpp), Scene(sides.slides[1], mpp))
            followed = FOLLOWED[min(number, len(FOLLOWED) - 1)]
            going = []
            for track in tracks[:followed]:
                going.append(_step(pool, sides, scenes, track, mpp, model))
                done = steps[0] + (steps[1] - steps[0]) * (number + 1) // len(levels)
                yield Progress(done, 100, what, "steps")
                if going[-1].level == mpp and going[-1].chance < CERTAIN:
                    break
            # a small piece of tissue has too few windows at the coarsest pixels: finer ones decide
            waiting = [track for track in going if track.told is None][: FOLLOWED[1]] if number == 0 else []
            tracks = _worth_following(going, sides, mpp) or waiting
            if not tracks:
                return None
    return tracks[0] if tracks[0].told is not None else None


def _levels(coarse: float, native: float) -> list[float]:
    """Pixel sizes from half the search's down to 0.5 um, no finer than the slides are."""
    levels = []
    mpp = coarse / 2
    while mpp > 1.6 * MIDDLE_UM:
        levels.append(mpp)
        mpp /= 2.3
    levels.append(max(MIDDLE_UM, native))
    if native < MIDDLE_UM / 1.4:
        levels.append(max(FINEST_UM, native))
    return levels


def _worth_following(tracks: list[Track], sides: Sides, mpp: float) -> list[Track]:
    """The likeliest first, without those that lie like a better one or are far less likely than the best."""
    tracks = sorted((t for t in tracks if t.told is not None), key=lambda track: track.order)
    height, width = sides.slides[1].extent_um
    corners = np.array([[0, 0, 1], [0, width, 1], [height, 0, 1.0]])
    kept: list[Track] = []
    for track in tracks:
        if tracks[0].chance < SURE and track.chance > tracks[0].chance / 2:
            continue
        place = corners @ track.matrix.T
        if all(np.abs(place - corners @ other.matrix.T).max() > 6 * mpp for other in kept):
            kept.append(track)
    return kept


def looks(
    pool: ThreadPoolExecutor, sides: Sides, scenes: tuple[Scene, Scene], matrix: Matrix, mpp: float
) -> tuple[Matches, float, float] | None:
    """Windows of one pixel size: matches, how close they have to agree and how far they searched."""
    fine = mpp <= CELLS_UM
    reach = 24 if mpp < 1.5 else 14 if fine else 9
    tolerance = max(2.0, 2.5 * mpp) if fine else 2.5 * mpp
    centres, folds, size = spread_windows(
        *sides.tissues, matrix, mpp, 64 if fine else 49, 128 if fine else 72
    )
    if len(centres) < 4:
        return None
    for scene in scenes:
        scene.whole  # noqa: B018 - read once, before threads ask for it
    moves = list(pool.map(lambda centre: match_window(*scenes, matrix, centre, size, reach), centres))
    ok = np.array([move is not None for move in moves])
    if ok.sum() < 4:
        return None
    # a's window found itself `shift` further on b as laid: that piece of b has to come back by it
    shift = np.array([move for move in moves if move is not None])
    return Matches(centres[ok] + shift, centres[ok], folds[ok]), tolerance, reach * mpp


def _step(
    pool: ThreadPoolExecutor,
    sides: Sides,
    scenes: tuple[Scene, Scene],
    track: Track,
    mpp: float,
    model: Model,
) -> Track:
    """The track after one pixel size; as it was where the windows don't agree."""
    seen = looks(pool, sides, scenes, track.matrix, mpp)
    if seen is None:
        return track
    kind: Model = "similarity" if model == "affine" and mpp > CELLS_UM else model
    told = agree(seen[0], kind, *seen[1:])
    if told is None or told.log10_chance > LIKELY:
        return track
    return replace(track, matrix=told.correction @ track.matrix, level=mpp, told=told)


def judged(sides: Sides, track: Track, model: Model) -> Alignment:
    """The alignment with its verdict."""
    told = track.told
    correlation = sides.correlation(track.matrix)
    if told is None or told.log10_chance > SURE or track.level > 4 * CELLS_UM:
        return Alignment.none_found(model, correlation)
    verdict: Verdict = "good" if track.is_good else "uncertain"
    return Alignment(track.matrix, told.residual_um, correlation, verdict, told.n, model)
