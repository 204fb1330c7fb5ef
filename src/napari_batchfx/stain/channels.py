"""How much of each stain a pixel holds, and a slide as one stain alone would show it."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np
import numpy.typing as npt

from napari_batchfx.errors import StainError
from napari_batchfx.stain.estimate import StainEstimate, as_images, optical_density
from napari_batchfx.stain.lab import LabStatistics
from napari_batchfx.stain.least_squares import nonnegative
from napari_batchfx.stain.transform import StainTransform

__all__ = ["StainChannel", "channel_image", "separate"]


def separate(
    image: npt.ArrayLike, estimate: StainEstimate, *, residual: bool = False
) -> npt.NDArray[np.float32]:
    """Concentrations of the two stains in every pixel, by non-negative least squares.

    Parameters
    ----------
    image : uint8 (..., h, w, 3)
        RGB.
    estimate : StainEstimate
        Of the slide the image is from.
    residual : bool
        Add a third value: optical density along the direction that neither stain explains (may be negative).

    Returns
    -------
    float32 (..., h, w, 2 or 3)
        Haematoxylin, then eosin or DAB (``estimate.stains``), in natural optical density; never negative.

    Raises
    ------
    StainError
        If the image is not 8-bit RGB, or the estimate has no stain vectors.

    Examples
    --------
    >>> from napari_batchfx.stain import REFERENCE
    >>> separate(np.full((2, 2, 3), 239, np.uint8), REFERENCE).tolist()[0][0]
    [0.0, 0.0]
    """
    array = as_images(image)
    matrix = _vectors(estimate).matrix
    density = np.maximum(optical_density(array, estimate.white, estimate.offset), 0.0)
    both = nonnegative(density, matrix)
    if not residual:
        return both.astype(np.float32)
    across = np.cross(matrix[0], matrix[1])
    across /= np.linalg.norm(across)
    return np.concatenate([both, (density @ across)[..., None]], axis=-1).astype(np.float32)


@dataclass(frozen=True, eq=False)
class StainChannel:
    """One stain of a slide alone, in its own colour; usable wherever a transform is (:func:`preview`).

    Parameters
    ----------
    estimate : StainEstimate
        Of the slide.
    channel : {"haematoxylin", "eosin", "DAB"}
        One of ``estimate.stains``.

    Raises
    ------
    StainError
        If the slide has no such stain, or the estimate has no stain vectors.

    Examples
    --------
    >>> from napari_batchfx.stain import REFERENCE
    >>> StainChannel(REFERENCE, "eosin").transform(np.full((1, 1, 3), 255, np.uint8)).tolist()
    [[[255, 255, 255]]]
    """

    estimate: StainEstimate
    channel: str

    def __post_init__(self) -> None:
        names = _vectors(self.estimate).stains
        if self.channel not in names:
            raise StainError(
                f"There is no {self.channel} in this estimate; its stains are {names[0]} and {names[1]}."
            )

    @cached_property
    def _transform(self) -> StainTransform:
        kept = np.array([[1.0], [0.0]] if self.channel == "haematoxylin" else [[0.0], [1.0]])
        alone = StainEstimate(
            self.estimate.matrix * kept, self.estimate.max_concentration, self.estimate.method
        )
        return StainTransform(self.estimate, alone, keep_residual=False)

    @property
    def key(self) -> str:
        """Identity of the channel."""
        return f"{self.channel.lower()}-of-{self._transform.key}"

    def transform(self, image: npt.ArrayLike, workers: int | None = None) -> npt.NDArray[np.uint8]:
        """The stain alone: uint8 RGB of the same shape; glass stays white."""
        return self._transform.transform(image, workers)

    __call__ = transform


def channel_image(image: npt.ArrayLike, estimate: StainEstimate, channel: str) -> npt.NDArray[np.uint8]:
    """An image as one of its stains alone would show it.

    Parameters
    ----------
    image : uint8 (..., h, w, 3)
        RGB.
    estimate : StainEstimate
        Of the slide the image is from.
    channel : {"haematoxylin", "eosin", "DAB"}
        One of ``estimate.stains``.

    Returns
    -------
    uint8 (..., h, w, 3)

    Raises
    ------
    StainError
        If the slide has no such stain, or the image is not 8-bit RGB.

    Examples
    --------
    >>> from napari_batchfx.stain import REFERENCE
    >>> channel_image(np.full((2, 2, 3), 120, np.uint8), REFERENCE, "haematoxylin").shape
    (2, 2, 3)
    """
    return StainChannel(estimate, channel).transform(image)


def _vectors(estimate: StainEstimate | LabStatistics) -> StainEstimate:
    if not isinstance(estimate, StainEstimate):
        raise StainError(
            "This method matches colour as a whole and separates no stains; use Macenko or another "
            "method with stain vectors."
        )
    return estimate
