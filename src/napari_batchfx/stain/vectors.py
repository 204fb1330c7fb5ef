"""How two stain vectors and their intensities are found in pixels, one function a method."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Final

import numpy as np
import numpy.typing as npt

from napari_batchfx.stain.declining import (
    DAB,
    EOSIN,
    HAEMATOXYLIN,
    NoTissueError,
    refuse_empty,
    refuse_vectors,
)
from napari_batchfx.stain.estimate import StainEstimate, VectorOptions, optical_density
from napari_batchfx.stain.lab import FEW_PIXELS, rgb_to_lab

__all__ = ["RUIFROK", "RUIFROK_DAB", "estimators"]

Floats = npt.NDArray[np.float64]

PERCENTILE = 99.0
LEAST_SPREAD = 0.01  # of the directions in optical density, radians; single H&E tiles have 0.047 and more
# A second stain is DAB where it absorbs this many times as much blue as green, and haematoxylin and eosin
# leave this share unexplained. Over the files at hand: H-DAB at least 1.06 and 0.11 (512 px fields), H&E of
# 10,000 pixels or more hardly ever both (1 of 1,094 tiles of 128 px).
BROWN_RATIO = 1.04
BROWN_UNEXPLAINED = 0.10


def unit(rows: npt.ArrayLike) -> Floats:
    """Rows scaled to length 1."""
    matrix = np.asarray(rows, np.float64)
    return np.asarray(matrix / np.linalg.norm(matrix, axis=-1, keepdims=True))


#: The fixed vectors of Ruifrok and Johnston (2001) for haematoxylin and eosin, and haematoxylin and DAB.
RUIFROK: Final = unit([HAEMATOXYLIN, EOSIN])
RUIFROK_DAB: Final = unit([HAEMATOXYLIN, DAB])


def densities(pixels: npt.NDArray[np.uint8], options: VectorOptions) -> tuple[Floats, Floats]:
    """Optical density of all pixels, and of those that are tissue."""
    density = optical_density(pixels, options.white, options.offset)
    if options.tissue == "luminosity":
        return density, density[darker(pixels)]
    return density, density[(density >= options.beta).all(axis=-1)]


def darker(pixels: npt.NDArray[np.uint8], threshold: float = 0.8) -> npt.NDArray[np.bool_]:
    """Tissue by lightness, as other packages find it: L, rounded to 8 bits, below 0.8 of its range.

    tiatoolbox stretches the contrast first; the outputs that it ships were made without.
    """
    return np.asarray(np.rint(rgb_to_lab(pixels)[..., 0] * 2.55) / 255 < threshold)


def macenko(pixels: npt.NDArray[np.uint8], options: VectorOptions) -> StainEstimate:
    """Macenko et al. 2009: the ends of the angles in the plane of the two leading eigenvectors."""
    density, tissue = densities(pixels, options)
    refuse_empty(len(tissue))
    _, vectors = np.linalg.eigh(np.cov(tissue, rowvar=False))
    plane = vectors[:, 1:]
    # The sign of an eigenvector is arbitrary; with both pointing to positive red the angles cannot wrap at
    # 180 degrees.
    plane = plane * np.where(plane[0] < 0, -1.0, 1.0)
    projected = tissue @ plane
    angles = np.arctan2(projected[:, 1], projected[:, 0])
    low, high = np.percentile(angles, [options.alpha, 100.0 - options.alpha])
    ends = np.array([plane @ [np.cos(low), np.sin(low)], plane @ [np.cos(high), np.sin(high)]])
    return finish(ends, density, tissue, "macenko", options)


def ruifrok(pixels: npt.NDArray[np.uint8], options: VectorOptions) -> StainEstimate:
    """Ruifrok and Johnston 2001: fixed vectors; only the intensities come from the pixels.

    Those of eosin or of DAB, whichever leaves less of the absorption unexplained.
    """
    density, tissue = densities(pixels, options)
    refuse_empty(len(tissue))
    with_eosin, with_dab = (unexplained(tissue, matrix) for matrix in (RUIFROK, RUIFROK_DAB))
    # Eosin unless DAB fits clearly better: real eosin lies between the two.
    brown = with_eosin > BROWN_UNEXPLAINED and with_dab < 0.25 * with_eosin
    return finish(RUIFROK_DAB if brown else RUIFROK, density, tissue, "ruifrok", options)


def finish(
    ends: Floats, density: Floats, tissue: Floats, method: str, options: VectorOptions
) -> StainEstimate:
    """Order, check and measure two vectors: the one with more red is haematoxylin."""
    matrix = ends if ends[0, 0] > ends[1, 0] else ends[::-1]
    refuse_vectors(matrix)
    _refuse_one_colour(tissue)
    matrix = unit(np.maximum(matrix, 0.0))
    strongest = np.percentile(density @ np.linalg.pinv(matrix), PERCENTILE, axis=0)
    if not np.isfinite(strongest).all() or (strongest <= 1e-3).any():
        raise NoTissueError(
            "Only one stain was found here, so haematoxylin and eosin can't be told apart; "
            "choose a region with nuclei and stroma."
        )
    found = StainEstimate(
        matrix,
        strongest,
        method,
        len(tissue),
        white=options.white,
        offset=options.offset,
        kind=_kind(matrix, tissue),
        residual=unexplained(tissue, matrix),
    )
    return replace(found, warnings=warnings_of(found))


def _refuse_one_colour(tissue: Floats) -> None:
    """Raise where all tissue has one hue: two stains can't be told apart there, whatever the vectors."""
    directions = tissue / np.maximum(np.linalg.norm(tissue, axis=1, keepdims=True), 1e-9)
    if np.sqrt(directions.var(axis=0).sum()) < LEAST_SPREAD:
        raise NoTissueError(
            "The tissue here has only one colour, so haematoxylin and eosin can't be told apart; "
            "choose a region with nuclei and stroma, or check that the slide is H&E."
        )


def warnings_of(found: StainEstimate) -> tuple[str, ...]:
    """What could mislead about an estimate made from pixels."""
    warnings: list[str] = []
    if found.kind == "H-DAB":
        warnings.append(
            "The second stain is brown rather than pink, as in immunohistochemistry (H-DAB): it is treated "
            "as DAB and never matched to the eosin of an H&E slide."
        )
    return (*warnings, *(doubt for doubt in found.doubts if "tissue pixels" not in doubt))


def _kind(matrix: Floats, tissue: Floats) -> str:
    # On a few nuclei alone eosin can look brown; a slide or a region has more than that.
    brown = len(tissue) >= FEW_PIXELS and matrix[1, 2] > BROWN_RATIO * matrix[1, 1]
    return "H-DAB" if brown and unexplained(tissue, RUIFROK) > BROWN_UNEXPLAINED else "H&E"


def unexplained(tissue: Floats, matrix: Floats) -> float:
    """Share of the squared optical density that two stains, in any amounts, don't reach."""
    left = tissue - (tissue @ np.linalg.pinv(matrix)) @ matrix
    return float((left**2).sum() / max(float((tissue**2).sum()), 1e-12))


Estimator = Callable[[npt.NDArray[np.uint8], VectorOptions], StainEstimate]


def estimators() -> dict[str, Estimator]:
    """The function of each method with stain vectors."""
    from napari_batchfx.stain.density import density_estimate
    from napari_batchfx.stain.vahadane import vahadane

    return {"macenko": macenko, "vahadane": vahadane, "ruifrok": ruifrok, "density": density_estimate}
