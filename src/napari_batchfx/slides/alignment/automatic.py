"""Lay two scans of the same tissue on each other: all turns at a glance, then windows, finer and finer."""

from __future__ import annotations

import math
from collections.abc import Generator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from napari_batchfx.errors import SlideError
from napari_batchfx.jobs import Job, Progress, run
from napari_batchfx.slides.alignment.images import Patch, overview, tissue, warp
from napari_batchfx.slides.alignment.poses import Pose, Search
from napari_batchfx.slides.alignment.result import MODELS, Alignment, Model, Verdict
from napari_batchfx.slides.alignment.windows import (
    Agreement,
    Matches,
    Scene,
    agree,
    match_window,
    spread_windows,
)
from napari_batchfx.slides.slide import Slide

__all__ = ["register", "register_job"]

Matrix = NDArray[np.float64]

FINEST_UM = 0.5
MIDDLE_UM = 2.0
# Windows at this pixel size or finer see cells; only they can make an alignment good.
CELLS_UM = 2.6
CANDIDATES = 12
# log10 of the chance below which windows of one pixel size are believed enough to go on, and to say "good".
LIKELY = -2.5
SURE = -6.0
GOOD_UM = 5.0
THREADS = 2


@dataclass(frozen=True)
class _Track:
    """A pose on its way to finer pixels."""

    matrix: Matrix
    chance: float = 0.0
    level: float = math.inf
    told: Agreement | None = None


@dataclass(frozen=True)
class _Sides:
    a: Slide
    b: Slide
    gray_a: Patch
    gray_b: Patch
    tissue_a: Patch
    tissue_b: Patch


def register(a: Slide, b: Slide, *, model: Model = "similarity", mirror: bool = True) -> Alignment:
    """Find how slide b lies on slide a: rescans of one section, or serial sections.

    1. Overviews of the tissue at about 112 px, as local contrast of the grey optical density, are correlated
       over all shifts at every 3 degrees, both sides and three sizes. 2. The best dozen are refined by windows
       at finer and finer pixels down to 0.5 um: each window finds its own best match nearby, and the transform
       most windows agree on is fitted. 3. At each pixel size one half of the windows tests what the other half
       fitted.

    Parameters
    ----------
    a, b : Slide
        With known pixel sizes.
    model : {"similarity", "translation", "affine"}
        "translation": same turn, side and size. "similarity": any turn, a scale of 0.9 to 1.1. "affine": as
        that, then a linear stretch and shear from what windows say.
    mirror : bool
        Whether b may show the tissue from its other side.

    Returns
    -------
    Alignment
        "good": windows at 2.6 um a pixel or finer agree beyond chance (1 in a million), and what is left is
        at most 5 um. "uncertain": beyond chance, but more is left, or only at coarser pixels. "failed":
        as unrelated tissue would. A failed alignment is the identity.

    Raises
    ------
    SlideError
        If a slide has no pixel size.

    References
    ----------
    Lewis 1995, Fast normalized cross-correlation. Moisan, Stival 2004, A probabilistic criterion to detect
    rigid point matches, Int. J. Comput. Vis. 57:201.

    Examples
    --------
    >>> from scipy import ndimage
    >>> from napari_batchfx.slides import open_slide, write_pyramid
    >>> noise = ndimage.gaussian_filter(np.random.default_rng(0).normal(size=(600, 600)), 4)
    >>> pixels = np.repeat((230 - 120 * (noise > 0.05))[..., None], 3, axis=2).astype(np.uint8)
    >>> for name, part in (("a.tif", pixels), ("b.tif", np.rot90(pixels, -1))):
    ...     _ = write_pyramid(name, np.ascontiguousarray(part), mpp=1.0, compression="deflate")
    >>> with open_slide("a.tif") as a, open_slide("b.tif") as b:
    ...     found = register(a, b)
    >>> found.verdict, round(found.rotation_deg), round(found.scale, 2)
    ('good', 90, 1.0)
    """
    return run(register_job(a, b, model=model, mirror=mirror))


def register_job(a: Slide, b: Slide, *, model: Model = "similarity", mirror: bool = True) -> Job[Alignment]:
    """:func:`register` as a job that says how far it is."""
    if model not in MODELS:
        raise SlideError(f"There is no model {model!r:.30}; there are {', '.join(MODELS)}.")
    what = f"aligning {b.name}"
    total = 100
    yield Progress(0, total, what, "steps")
    overviews = [overview(slide) for slide in (a, b)]
    masks = [tissue(patch.data) for patch in overviews]
    if not all(mask.any() for mask in masks):
        return Alignment.none_found(model)
    places = [
        Patch(mask.astype(np.float32), patch.origin, patch.step)
        for mask, patch in zip(masks, overviews, strict=True)
    ]
    sides = _Sides(a, b, overviews[0], overviews[1], places[0], places[1])
    yield Progress(5, total, what, "steps")
    search = Search(*overviews, *masks, turns=model != "translation", mirror=mirror)
    poses: list[Pose] = []
    rounds = math.ceil(len(search.plans) / 48)
    for i, found in enumerate(search.run(CANDIDATES), 1):
        poses = found
        yield Progress(5 + round(55 * i / rounds), total, what, "steps")
    best = yield from _refine(sides, poses, search.mpp, model, what)
    if best is None:
        return Alignment.none_found(model)
    return _judged(sides, best, model)


def _refine(
    sides: _Sides, poses: list[Pose], coarse: float, model: Model, what: str
) -> Generator[Progress, None, _Track | None]:
    tracks = [_Track(pose.matrix) for pose in poses]
    levels = _levels(coarse, sides)
    keep = [CANDIDATES, 4, 2] + [1] * len(levels)
    with ThreadPoolExecutor(THREADS) as pool:
        for number, mpp in enumerate(levels):
            scenes = Scene(sides.a, mpp), Scene(sides.b, mpp)
            going: list[_Track] = []
            for track in tracks[: keep[number]]:
                going.append(_step(pool, sides, scenes, track, mpp, model))
            going.sort(key=lambda t: (t.level, t.chance))
            if going and going[0].level > mpp and number == 0:
                return None
            tracks = going
            done = 60 + round(38 * (number + 1) / len(levels))
            yield Progress(done, 100, what, "steps")
            if not tracks:
                return None
    best = tracks[0]
    return None if best.told is None else best


def _levels(coarse: float, sides: _Sides) -> list[float]:
    """Pixel sizes from half the overview's down to 0.5 um, no finer than the slides are."""
    native = max(*sides.a.level_mpp(0), *sides.b.level_mpp(0))
    levels = []
    mpp = coarse / 2
    while mpp > 1.6 * MIDDLE_UM:
        levels.append(mpp)
        mpp /= 2.3
    levels.append(max(MIDDLE_UM, native))
    if native < MIDDLE_UM / 1.4:
        levels.append(max(FINEST_UM, native))
    return levels


def _step(
    pool: ThreadPoolExecutor,
    sides: _Sides,
    scenes: tuple[Scene, Scene],
    track: _Track,
    mpp: float,
    model: Model,
) -> _Track:
    """Windows at one pixel size; the track as it was where they don't agree."""
    fine = mpp <= CELLS_UM
    reach = 24 if mpp < 1.5 else 14 if fine else 9
    tolerance = 2.5 * mpp if not fine else max(2.0, 2.5 * mpp)
    centres, folds, size = spread_windows(
        sides.tissue_a, sides.tissue_b, track.matrix, mpp, 64 if fine else 49, 128 if fine else 72
    )
    if len(centres) < 4:
        return track
    for scene in scenes:
        scene.whole  # noqa: B018 - read once, before threads ask for it
    moves = list(pool.map(lambda c: match_window(*scenes, track.matrix, c, size, reach), centres))
    ok = np.array([move is not None for move in moves])
    if ok.sum() < 4:
        return track
    # a's window found itself `move` further on b as laid: that piece of b has to come back by it
    shift = np.array([move for move in moves if move is not None])
    matches = Matches(centres[ok] + shift, centres[ok], folds[ok])
    kind: Model = "similarity" if model == "affine" and not fine else model
    told = agree(matches, kind, tolerance, reach * mpp)
    if told is None or told.log10_chance > LIKELY:
        return track
    return replace(
        track, matrix=told.correction @ track.matrix, chance=told.log10_chance, level=mpp, told=told
    )


def _judged(sides: _Sides, track: _Track, model: Model) -> Alignment:
    told = track.told
    assert told is not None
    correlation = _correlation(sides, track.matrix)
    verdict: Verdict = "failed"
    if track.level <= CELLS_UM and track.chance < SURE:
        verdict = "good" if told.residual_um <= GOOD_UM else "uncertain"
    elif track.level <= 4 * CELLS_UM and track.chance < SURE:
        verdict = "uncertain"
    if verdict == "failed":
        return Alignment.none_found(model, correlation)
    return Alignment(track.matrix, told.residual_um, correlation, verdict, told.n, model)


def _correlation(sides: _Sides, matrix: Matrix) -> float:
    """Pearson's correlation of the overviews' densities where both show slide."""
    from scipy import ndimage

    inside = warp(
        Patch(np.ones_like(sides.gray_b.data), sides.gray_b.origin, sides.gray_b.step), matrix, sides.gray_a
    )
    where = inside > 0.99
    if int(where.sum()) < 64:
        return 0.0
    p = ndimage.gaussian_filter(sides.gray_a.data, 1.0)[where]
    q = ndimage.gaussian_filter(warp(sides.gray_b, matrix, sides.gray_a), 1.0)[where]
    if p.std() < 1e-4 or q.std() < 1e-4:
        return 0.0
    return float(np.corrcoef(p, q)[0, 1])
