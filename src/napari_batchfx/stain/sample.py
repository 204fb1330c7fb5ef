"""The stain of a whole slide, from tissue pixels spread over all of it."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, cast

import numpy as np
import numpy.typing as npt

from napari_batchfx.errors import StainError
from napari_batchfx.stain.estimate import StainEstimate, estimate, refuse_dark, tissue_pixels
from napari_batchfx.stain.lab import WHITE, LabStatistics, White

if TYPE_CHECKING:
    from napari_batchfx.slides import Slide

__all__ = ["estimate_slide", "glass", "sample_tissue"]

FINEST_UM = 1.1  # a level this fine still shows single nuclei; coarser ones mix the two stains
PATCH = 32  # side of a sampled patch, in pixels of that level
PATCHES_A_ROUND = 512
ROUNDS = 8
FEWEST = 1_000


def estimate_slide(
    slide: Slide, method: str = "macenko", n_pixels: int = 100_000, seed: int = 0
) -> StainEstimate | LabStatistics:
    """Estimate the stain of a slide from tissue pixels of the whole slide.

    Patches of 32 pixels are drawn at random from the slide's tissue, at about 1 um a pixel or finer, until
    there are ``n_pixels`` tissue pixels. The same slide and seed give the same numbers.

    Parameters
    ----------
    slide : Slide
        An open slide.
    method : {"macenko", "reinhard"}
        Stain vectors, or mean and standard deviation in CIELAB.
    n_pixels : int
        Tissue pixels to use.
    seed : int
        Of the random draw.

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
    if slide.modality != "brightfield":
        raise StainError(
            f"{slide.name}: it is a {slide.modality} scan, not brightfield, so it has no stain to "
            "estimate; choose a slide stained for light microscopy."
        )
    try:
        white = glass(slide)
        pixels = sample_tissue(slide, n_pixels, seed, method, white)
        found = estimate(pixels, method, white=white)
    except StainError as error:
        raise StainError(f"{slide.name}: {error}") from error
    if len(pixels) < n_pixels:
        note = (
            f"Only {len(pixels):,} tissue pixels were found on this slide ({n_pixels:,} wanted), so the "
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
) -> npt.NDArray[np.uint8]:
    """Draw stained pixels spread over a slide's tissue: uint8 (n, 3), n at most ``n_pixels``."""
    thumbnail = slide.thumbnail(512)
    refuse_dark(thumbnail.reshape(-1, 3))
    rng = np.random.default_rng(seed)
    level = _level(slide)
    centres = _tissue_centres(slide, thumbnail)
    if len(centres) == 0:
        raise StainError("There is no tissue on this slide to estimate the stain from; choose another slide.")
    centres = centres[rng.permutation(len(centres))]
    parts: list[npt.NDArray[np.uint8]] = []
    total = 0
    for start in range(0, min(len(centres), PATCHES_A_ROUND * ROUNDS), PATCHES_A_ROUND):
        for patch in _read(slide, level, centres[start : start + PATCHES_A_ROUND]):
            kept = patch[tissue_pixels(patch, method, white=white)]
            parts.append(kept)
            total += len(kept)
        if total >= n_pixels:
            break
    if total < FEWEST:
        raise StainError(
            f"There is too little stained tissue on this slide to estimate the stain ({total} pixels, "
            f"{FEWEST:,} are needed); choose another slide."
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
        if mask.sum() < 64:  # a slide of less than 64 x 64 um at 8 um a pixel
            mask = tissue_pixels(thumbnail)
    cells = np.argwhere(mask)
    return cast("npt.NDArray[np.float64]", (cells + 0.5) / np.array(mask.shape))


def _read(slide: Slide, level: int, centres: npt.NDArray[np.float64]) -> list[npt.NDArray[np.uint8]]:
    """Patches around centres, in the file's order so that decoded tiles are reused; each uint8 (n, 3)."""
    height, width = slide.levels[level].shape
    h, w = min(PATCH, height), min(PATCH, width)
    top = np.clip(np.round(centres[:, 0] * height - h / 2), 0, height - h).astype(int)
    left = np.clip(np.round(centres[:, 1] * width - w / 2), 0, width - w).astype(int)
    corners = np.unique(np.stack([top, left], axis=1), axis=0)
    return [slide.read(level, int(y), int(x), h, w).reshape(-1, 3) for y, x in corners]
