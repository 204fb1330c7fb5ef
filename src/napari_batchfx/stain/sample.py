"""The stain of a whole slide, from tissue pixels spread over all of it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, cast

import numpy as np
import numpy.typing as npt

from napari_batchfx.errors import StainError
from napari_batchfx.stain.declining import refuse_dark, refuse_other_stains, refuse_slide
from napari_batchfx.stain.estimate import StainEstimate, estimate, tissue_pixels
from napari_batchfx.stain.lab import WHITE, LabStatistics, White
from napari_batchfx.stain.methods import method as method_of
from napari_batchfx.stain.region import Region, as_region

if TYPE_CHECKING:
    from napari_batchfx.slides import Slide

__all__ = ["estimate_slide", "glass", "sample_tissue"]

FINEST_UM = 1.1  # a level this fine still shows single nuclei; coarser ones mix the two stains
PATCH = 32  # side of a sampled patch, in pixels of that level
PATCHES_A_ROUND = 512
ROUNDS = 8
FEWEST = 1_000


def estimate_slide(
    slide: Slide,
    method: str = "macenko",
    n_pixels: int = 100_000,
    seed: int = 0,
    region: Sequence[npt.ArrayLike] | npt.NDArray[np.bool_] | None = None,
) -> StainEstimate | LabStatistics:
    """Estimate the stain of a slide from tissue pixels of the whole slide.

    Patches of 32 pixels are drawn at random from the slide's tissue, at about 1 um a pixel or finer, until
    there are ``n_pixels`` tissue pixels. The same slide and seed give the same numbers.

    Parameters
    ----------
    slide : Slide
        An open slide.
    method : str
        Id of a method, see :func:`napari_batchfx.stain.methods`.
    n_pixels : int
        Tissue pixels to use.
    seed : int
        Of the random draw.
    region : sequence of array (k, 2), or bool (h, w), optional
        Only there: polygons of (y, x) in level-0 pixels, or a mask that covers the slide at any resolution.

    Returns
    -------
    StainEstimate or LabStatistics
        With a warning where less tissue was found than asked for.

    Raises
    ------
    StainError
        If the slide has no tissue, is a fluorescence scan, or is no brightfield H&E.

    Examples
    --------
    >>> from napari_batchfx.jobs import run
    >>> from napari_batchfx.samples import demo_pair
    >>> from napari_batchfx.slides import open_slide
    >>> demo = run(demo_pair("demo", size_um=150))
    >>> with open_slide(demo[0].path) as slide:
    ...     found = estimate_slide(slide, n_pixels=5_000)
    >>> found.matrix.shape, found.n_pixels >= 5_000
    ((2, 3), True)
    """
    refuse_slide(slide)
    try:
        method = method_of(method).estimator
        if method == "density" and region is None:
            from napari_batchfx.stain.density import density_slide

            return density_slide(slide, seed)
        white = glass(slide)
        where = None if region is None else as_region(region, slide.levels[0].shape)
        pixels = sample_tissue(slide, n_pixels, seed, method, white, where)
        found = estimate(pixels, method, white=white)
        found = replace(found, origin="slide" if where is None else "drawn region")
        if isinstance(found, StainEstimate):
            refuse_other_stains(found.matrix, found.kind)
    except StainError as error:
        raise StainError(f"{slide.name}: {error}") from error
    if len(pixels) < n_pixels:
        place = "on this slide" if where is None else "in this region"
        note = (
            f"Only {len(pixels):,} tissue pixels were found {place} ({n_pixels:,} wanted), so the "
            "estimate is less certain."
        )
        return replace(found, warnings=(*found.warnings, note))
    return found


def sample_tissue(
    slide: Slide,
    n_pixels: int = 100_000,
    seed: int = 0,
    method: str = "macenko",
    white: White = (WHITE, WHITE, WHITE),
    region: Region | None = None,
) -> npt.NDArray[np.uint8]:
    """Draw stained pixels spread over a slide's tissue, or a region: uint8 (n, 3), n at most ``n_pixels``."""
    thumbnail = slide.thumbnail(512)
    refuse_dark(thumbnail.reshape(-1, 3))
    rng = np.random.default_rng(seed)
    level = _level(slide)
    centres = (
        _region_centres(slide, level, region) if region is not None else _tissue_centres(slide, thumbnail)
    )
    if len(centres) == 0:
        raise StainError(_nothing(slide))
    centres = centres[rng.permutation(len(centres))]
    parts: list[npt.NDArray[np.uint8]] = []
    total = 0
    for start in range(0, min(len(centres), PATCHES_A_ROUND * ROUNDS), PATCHES_A_ROUND):
        for patch in _read(slide, level, centres[start : start + PATCHES_A_ROUND], region):
            kept = patch[tissue_pixels(patch, method, white=white)]
            parts.append(kept)
            total += len(kept)
        if total >= n_pixels:
            break
    if total < FEWEST:
        where = "on this slide" if region is None else "in this region"
        raise StainError(
            f"There is too little stained tissue {where} to estimate the stain ({total} pixels, {FEWEST:,} "
            "are needed); choose another."
        )
    pixels = np.concatenate(parts)
    if total > n_pixels:
        pixels = pixels[np.sort(rng.choice(total, n_pixels, replace=False))]
    return pixels


def glass(slide: Slide) -> White:
    """Grey level of empty glass in red, green and blue; 240 where the slide shows too little of it.

    A scanner that leaves glass grey would otherwise have its background taken for pale stain, and coloured.
    """
    thumbnail = slide.thumbnail(512).reshape(-1, 3).astype(np.float64)
    brightest, darkest = thumbnail.max(axis=1), thumbnail.min(axis=1)
    # Glass is the bright end of what has hardly any colour.
    plain = (brightest - darkest < 16) & (darkest > 150)
    if plain.mean() < 0.01:
        return (WHITE, WHITE, WHITE)
    top = np.percentile(darkest[plain], 90)
    level = np.median(thumbnail[plain & (darkest > top - 12)], axis=0)
    # 240 stands for glass that is as bright as usual: only darker glass needs another white.
    red, green, blue = (min(WHITE, float(v) + 1.0) for v in level)
    return (red, green, blue)


def _level(slide: Slide) -> int:
    """Coarsest level that is still near 1 um a pixel or finer; level 0 where the pixel size isn't known."""
    if slide.mpp is None:
        return 0
    finest = max(slide.mpp)
    fitting = [i for i, level in enumerate(slide.levels) if finest * max(level.downsample) <= FINEST_UM]
    return fitting[-1] if fitting else 0


def _tissue_centres(slide: Slide, thumbnail: npt.NDArray[np.uint8]) -> npt.NDArray[np.float64]:
    """Centres of tissue in fractions of the slide's height and width, (n, 2)."""
    mask: npt.NDArray[np.bool_]
    if slide.mpp is None:
        mask = tissue_pixels(thumbnail)
    else:
        from napari_batchfx.tiles import tissue_mask

        mask = np.asarray(tissue_mask(slide).mask, bool)
        if mask.sum() < 64 and not _is_under_pen(slide):  # a slide of less than 64 x 64 um at 8 um a pixel
            mask = tissue_pixels(thumbnail)
    cells = np.argwhere(mask)
    return cast("npt.NDArray[np.float64]", (cells + 0.5) / np.array(mask.shape))


def _region_centres(slide: Slide, level: int, region: Region) -> npt.NDArray[np.float64]:
    """Centres of patches that touch a region, in fractions of the slide, (n, 2)."""
    down = np.asarray(slide.levels[level].downsample, float)
    step = PATCH * down
    top, left, bottom, right = region.bounds()
    height, width = slide.levels[0].shape
    # A large region on a coarser raster: there are more patches than are ever read.
    step = step * max(1.0, np.sqrt((bottom - top) * (right - left) / step.prod() / 20_000))
    rows = np.arange(top, bottom, step[0]) + min(step[0], bottom - top) / 2
    columns = np.arange(left, right, step[1]) + min(step[1], right - left) / 2
    grid = np.stack(np.meshgrid(rows, columns, indexing="ij"), axis=-1).reshape(-1, 2)
    return np.asarray(grid / (height, width))


def _is_under_pen(slide: Slide) -> bool:
    """Whether there would be tissue, did marker pen count."""
    from napari_batchfx.tiles import TissueSettings, tissue_mask

    if slide.mpp is None:
        return False
    return int(np.asarray(tissue_mask(slide, settings=TissueSettings(exclude=())).mask).sum()) >= 64


def _nothing(slide: Slide) -> str:
    """Why a slide shows no tissue: it is blank, or what is there is pen."""
    if _is_under_pen(slide):
        return (
            "What this slide shows is covered by marker pen, so its stain can't be estimated; draw a region "
            "of tissue that is free of pen."
        )
    return "There is no tissue on this slide to estimate the stain from; choose another slide."


def _read(
    slide: Slide, level: int, centres: npt.NDArray[np.float64], region: Region | None
) -> list[npt.NDArray[np.uint8]]:
    """Patches around centres, in the file's order so that decoded tiles are reused; each uint8 (n, 3)."""
    height, width = slide.levels[level].shape
    h, w = min(PATCH, height), min(PATCH, width)
    top = np.clip(np.round(centres[:, 0] * height - h / 2), 0, height - h).astype(int)
    left = np.clip(np.round(centres[:, 1] * width - w / 2), 0, width - w).astype(int)
    corners = np.unique(np.stack([top, left], axis=1), axis=0)
    patches = [(int(y), int(x), slide.read(level, int(y), int(x), h, w)) for y, x in corners]
    if region is None:
        return [pixels.reshape(-1, 3) for _, _, pixels in patches]
    down, right = (float(v) for v in slide.levels[level].downsample)
    return [
        pixels[region.inside(y * down, x * right, (down, right), (h, w))].reshape(-1, 3)
        for y, x, pixels in patches
    ]
