"""Where stain numbers mean nothing, and the sentence that says so."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from napari_batchfx.errors import StainError

if TYPE_CHECKING:
    from napari_batchfx.slides import Slide

__all__ = [
    "MIN_PIXELS",
    "NoTissueError",
    "refuse_dark",
    "refuse_empty",
    "refuse_other_stains",
    "refuse_slide",
    "refuse_vectors",
]

MIN_PIXELS = 100
# Directions of the pure stains in optical density (Ruifrok and Johnston 2001), and how far, in degrees,
# those of a whole slide may lie from them: over the H&E and H-DAB images of twelve sources at most 22
# (haematoxylin) and 40 (eosin, on single tiles).
HAEMATOXYLIN = np.array([0.65, 0.70, 0.29])
EOSIN = np.array([0.07, 0.99, 0.11])
DAB = np.array([0.27, 0.57, 0.78])
FARTHEST_DEG = np.array([35.0, 45.0])


class NoTissueError(StainError):
    """There is nothing here to estimate from: glass, fat, one colour only. Such a tile is left as it is."""


def refuse_slide(slide: Slide) -> None:
    """Raise for a slide that is not brightfield."""
    if slide.modality != "brightfield":
        raise StainError(
            f"{slide.name}: it is a {slide.modality} scan, not brightfield, so it has no stain to "
            "estimate; choose a slide stained for light microscopy."
        )


def refuse_dark(pixels: npt.NDArray[np.uint8]) -> None:
    """Raise where most of the image is black: that is fluorescence, or the outside of a scan."""
    if len(pixels) and float((pixels.max(axis=-1) < 30).mean()) > 0.5:
        raise StainError(
            "The background is black, as in fluorescence; stain normalisation is for brightfield H&E images."
        )


def refuse_empty(n: int) -> None:
    """Raise where there are too few tissue pixels."""
    if n < MIN_PIXELS:
        raise NoTissueError(
            f"There is too little stained tissue here to estimate the stain ({n} pixels, {MIN_PIXELS} are "
            "needed); choose a region with tissue."
        )


def refuse_vectors(matrix: npt.NDArray[np.float64]) -> None:
    """Raise where two stain vectors (2, 3), not yet made non-negative, can't be those of two stains."""
    cosine = float(np.clip(matrix[0] @ matrix[1], -1.0, 1.0))
    if not np.isfinite(matrix).all() or np.degrees(np.arccos(cosine)) < 2.0:
        raise NoTissueError(
            "The tissue here has only one colour, so haematoxylin and eosin can't be told apart; "
            "choose a region with nuclei and stroma, or check that the slide is H&E."
        )
    if (matrix < -0.2).any():
        raise StainError(
            "The colours here are not those of absorbing stains, so this does not look like an H&E slide; "
            "stain normalisation is for brightfield H&E images."
        )


def refuse_other_stains(matrix: npt.NDArray[np.float64], kind: str) -> None:
    """Raise where the two vectors (2, 3) of a whole slide are not those of H&E or H-DAB."""
    far = degrees_from(matrix, kind)
    if (far > FARTHEST_DEG).any():
        raise StainError(
            "The two main colours here are neither haematoxylin and eosin nor haematoxylin and DAB "
            f"({far[0]:.0f} and {far[1]:.0f} degrees away), so they would be changed into something they are "
            "not; stain normalisation is for H&E and H-DAB slides."
        )


def degrees_from(matrix: npt.NDArray[np.float64], kind: str) -> npt.NDArray[np.float64]:
    """How far each of two vectors lies from the pure stains of its kind, in degrees, (2,)."""
    pure = np.stack([HAEMATOXYLIN, DAB if kind == "H-DAB" else EOSIN])
    cosines = (matrix * pure).sum(axis=1) / np.linalg.norm(matrix, axis=1) / np.linalg.norm(pure, axis=1)
    return np.asarray(np.degrees(np.arccos(np.clip(cosines, -1.0, 1.0))))
