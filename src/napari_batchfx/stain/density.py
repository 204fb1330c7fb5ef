"""Stain vectors from the densest colours: the estimate of the staining-robustness protocol."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from napari_batchfx.errors import StainError, TileError
from napari_batchfx.stain.declining import NoTissueError, refuse_empty, refuse_vectors
from napari_batchfx.stain.estimate import StainEstimate, VectorOptions
from napari_batchfx.stain.normalizer import Normalizer
from napari_batchfx.stain.reference import reference
from napari_batchfx.stain.vectors import unexplained, unit, warnings_of

if TYPE_CHECKING:
    from napari_batchfx.slides import Slide

__all__ = ["DensityNormalizer", "density_estimate", "density_slide", "is_usable"]

Floats = npt.NDArray[np.float64]
Pixels = npt.NDArray[np.uint8]

BINS = 256
DENSITY_PERCENTILE = 80.0
ANGLE_PERCENTILE = 95.0
INTENSITY_PERCENTILE = 95.0
FAINTEST = 0.1  # concentrations up to here don't count towards the intensity
LEAST_SHARE = 0.02
TILE_PX = 448
TILE_UM = 224.0
TILES = 10
TRIES = 200


def density_estimate(pixels: Pixels, options: VectorOptions | None = None) -> StainEstimate:
    """Stain vectors of one tile from its most frequent colours.

    White is the brightest value of each channel. Of the pixels that are neither pale nor dark, only those
    count whose direction in optical density is frequent: the densest fifth of the cells of a 256 x 256
    histogram of two angles. Their plane (second moment, not centred) and the 5th and 95th percentile of the
    angle in it give the two vectors; an intensity is the 95th percentile of the concentrations above 0.1.

    Parameters
    ----------
    pixels : uint8 (n, 3) or (h, w, 3)
        RGB.
    options : VectorOptions, optional
        Not used: the protocol has its own white point and limits.

    Returns
    -------
    StainEstimate
        ``white`` is the tile's own and ``offset`` is 0.

    Raises
    ------
    NoTissueError
        If less than 2 % of the pixels are stained, or only one stain is found.

    References
    ----------
    Schönpflug et al., arXiv:2603.12886, 2026,
    step 2 of the protocol. Its histogram is smoothed with 8 taps; here with a Gaussian of the same width.

    Examples
    --------
    >>> amounts = np.random.default_rng(0).gamma(1.5, 0.4, (128, 128, 2))
    >>> image = (240 * np.exp(-amounts @ reference("macenko").matrix)).astype(np.uint8)
    >>> density_estimate(image).method
    'density'
    """
    flat = np.asarray(pixels).reshape(-1, 3)
    refuse_empty(len(flat))
    white = flat.max(axis=0).astype(np.float64)
    some = flat[::4] if len(flat) > 40_000 else flat
    stained = _stained(some)
    if len(stained) < LEAST_SHARE * len(some):
        raise NoTissueError(
            "Less than 2 % of the pixels here are stained, so the stain can't be estimated; choose a region "
            "with tissue."
        )
    refuse_empty(len(stained))
    density = -np.log(np.maximum(stained, 1) / white)
    matrix = _vectors(density[_frequent(density)], density)
    refuse_vectors(matrix)
    matrix = unit(np.maximum(matrix, 0.0))
    third = np.cross(matrix[0], matrix[1])
    amounts = density @ np.linalg.inv(np.vstack([matrix, third / np.linalg.norm(third)]))
    strongest = np.array([_intensity(amounts[:, 0]), _intensity(amounts[:, 1])])
    red, green, blue = (float(v) for v in white)
    found = StainEstimate(
        matrix,
        strongest,
        "density",
        len(stained),
        white=(red, green, blue),
        residual=unexplained(density, matrix),
        offset=0.0,
    )
    return replace(found, warnings=warnings_of(found))


def density_slide(slide: Slide, seed: int = 0) -> StainEstimate:
    """The median of the estimates of ten random tiles of 224 um that are sharp and full of stained tissue.

    Parameters
    ----------
    slide : Slide
        With a known pixel size.
    seed : int
        Of the random draw.

    Returns
    -------
    StainEstimate

    Raises
    ------
    StainError
        If the slide has no pixel size, or no tissue. Where no tile of 224 um is full of tissue, all of the
        tissue is taken as one tile, with a warning.

    References
    ----------
    Schönpflug et al. 2026, step 2. Of its limits on tiles, those on saturation, entropy and sharpness are
    applied; those on colourfulness and hue are given without a definition and are left out.

    Examples
    --------
    >>> from napari_batchfx.jobs import run
    >>> from napari_batchfx.samples import demo_pair
    >>> from napari_batchfx.slides import open_slide
    >>> demo = run(demo_pair("demo", size_um=150))
    >>> with open_slide(demo[0].path) as slide:
    ...     found = density_slide(slide)
    >>> found.matrix.shape
    (2, 3)
    """
    from napari_batchfx.tiles import TileGrid, read_tiles

    if slide.mpp is None:
        raise StainError(
            f"{slide.name}: this method takes tiles of 224 µm, and the file has no pixel size; give mpp=..."
        )
    try:
        grid = TileGrid(slide, TILE_PX, TILE_UM / TILE_PX)
    except TileError:  # smaller than one tile
        return _pooled(slide, seed)
    cells = np.argwhere(np.asarray(grid.tissue) >= 0.6)
    cells = cells[np.random.default_rng(seed).permutation(len(cells))][:TRIES]
    found: list[StainEstimate] = []
    spare: list[StainEstimate] = []
    for start in range(0, len(cells), TILES):
        for tile in read_tiles(grid, cells[start : start + TILES]):
            try:
                made = density_estimate(tile)
            except StainError:
                continue
            (found if is_usable(tile) else spare).append(made)
        if len(found) >= TILES:
            break
    chosen = (found or spare)[:TILES]
    if not chosen:
        return _pooled(slide, seed)
    warnings = () if len(found) >= TILES else (f"Only {len(found)} tiles were sharp and full of tissue.",)
    red, green, blue = (float(v) for v in np.median([one.white for one in chosen], axis=0))
    median = replace(
        chosen[0],
        matrix=unit(np.median([one.matrix for one in chosen], axis=0)),
        max_concentration=np.median([one.max_concentration for one in chosen], axis=0),
        n_pixels=sum(one.n_pixels for one in chosen),
        white=(red, green, blue),
        residual=float(np.median([one.residual or 0.0 for one in chosen])),
    )
    return replace(median, warnings=(*warnings_of(median), *warnings), origin=f"slide, {len(chosen)} tiles")


def _pooled(slide: Slide, seed: int) -> StainEstimate:
    """All tissue as one tile, where a slide is too small for one of 224 um."""
    from napari_batchfx.stain.sample import sample_tissue

    found = density_estimate(sample_tissue(slide, seed=seed))
    note = "There is no tile of 224 µm full of stained tissue here, so all of the tissue was taken as one."
    return replace(found, warnings=(*found.warnings, note), origin="slide")


def is_usable(tile: Pixels) -> bool:
    """Whether a tile (h, w, 3) is full of stained, sharp tissue, by the protocol's limits.

    At least 0.6 of the pixels have a saturation above 0.2, the entropy of the grey levels is at least 6.4
    bits and the variance of their Laplacian at least 100.
    """
    from scipy import ndimage

    values = tile.astype(np.float64)
    brightest = values.max(axis=-1)
    saturation = (brightest - values.min(axis=-1)) / np.maximum(brightest, 1.0)
    grey = values @ (0.299, 0.587, 0.114)
    share = np.bincount(np.rint(grey).astype(int).ravel(), minlength=256) / grey.size
    entropy = -(share[share > 0] * np.log2(share[share > 0])).sum()
    return bool((saturation > 0.2).mean() >= 0.6 and entropy >= 6.4 and ndimage.laplace(grey).var() >= 100)


def _stained(pixels: Pixels) -> Pixels:
    """Neither pale nor dark."""
    palest = pixels.min(axis=1)
    kept = pixels[palest < min(float(np.median(palest)), 240.0)]
    return np.asarray(kept[kept.max(axis=1) > 20])


def _frequent(density: Floats) -> npt.NDArray[np.bool_]:
    """Pixels whose direction lies in one of the densest cells of the histogram of two angles."""
    from scipy import ndimage

    positive = np.maximum(density, 0.0)
    base = np.arctan2(positive[:, 1], positive[:, 0])
    lift = np.arctan2(positive[:, 2], np.hypot(positive[:, 0], positive[:, 1]))
    step = (np.pi / 2) / BINS
    rows, columns = (np.minimum((angle / step).astype(int), BINS - 1) for angle in (base, lift))
    counts = np.zeros((BINS, BINS))
    np.add.at(counts, (rows, columns), 1.0)
    smooth = ndimage.gaussian_filter(counts, 1.0)
    limit = np.percentile(smooth[counts > 0], DENSITY_PERCENTILE)
    return np.asarray(smooth[rows, columns] >= limit)


def _vectors(frequent: Floats, every: Floats) -> Floats:
    _, vectors = np.linalg.eigh(frequent.T @ frequent / len(frequent))
    plane = vectors[:, [2, 1]]
    plane = plane * np.where((plane < 0).all(axis=0), -1.0, 1.0)
    projected = every @ plane
    angles = np.arctan2(projected[:, 1], projected[:, 0])
    ends = np.percentile(angles, [100.0 - ANGLE_PERCENTILE, ANGLE_PERCENTILE])
    both = np.stack([np.cos(ends), np.sin(ends)], axis=1) @ plane.T
    return np.asarray(both if both[0, 0] > both[1, 0] else both[::-1])


def _intensity(amounts: Floats) -> float:
    present = amounts[amounts > FAINTEST]
    if len(present) < 10:
        raise NoTissueError(
            "Only one stain was found here, so haematoxylin and eosin can't be told apart; choose a region "
            "with nuclei and stroma."
        )
    return float(np.percentile(present, INTENSITY_PERCENTILE))


class DensityNormalizer(Normalizer[StainEstimate]):
    """Stain normalisation with the vectors of the densest colours (Schönpflug et al. 2026).

    Parameters
    ----------
    target : StainEstimate, optional
        The look to aim at; the built-in reference by default. :meth:`fit` replaces it.
    strength : float
        0 leaves images as they are, 1 transforms them fully.
    as_published : bool
        See :class:`MacenkoNormalizer`.

    References
    ----------
    Schönpflug et al., arXiv:2603.12886, 2026.

    Examples
    --------
    >>> amounts = np.random.default_rng(0).gamma(1.5, 0.4, (128, 128, 2))
    >>> image = (240 * np.exp(-amounts @ reference("macenko").matrix)).astype(np.uint8)
    >>> DensityNormalizer().transform(image).shape
    (128, 128, 3)
    """

    method = "density"

    def _reference(self) -> StainEstimate:
        return reference(self.method)
