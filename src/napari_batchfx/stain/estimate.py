"""Stain vectors and intensities of an image (Macenko et al. 2009), and refusals where they mean nothing."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import numpy.typing as npt

from napari_batchfx.errors import StainError
from napari_batchfx.stain.declining import NoTissueError, refuse_dark, refuse_empty
from napari_batchfx.stain.lab import FEW_PIXELS, GLASS, WHITE, LabStatistics, White, lab_statistics, white_of

__all__ = [
    "BETA",
    "WHITE",
    "NoTissueError",
    "StainEstimate",
    "as_images",
    "estimate",
    "optical_density",
    "tissue_pixels",
]

BETA = 0.15  # a pixel is tissue where every channel absorbs at least this much
ALPHA = 1.0  # percentile of the angles that gives the two stain vectors
LAB_METHODS = ("reinhard", "modified-reinhard")
CLOSE_DEG = 8.0
MOST_RESIDUAL = 0.05
DARK = 20  # a pixel whose brightest channel is below this is ink, a fold or the dark outside of the scan


@dataclass(frozen=True)
class StainEstimate:
    """Two stain vectors and how strongly each stain is present.

    Parameters
    ----------
    matrix : float64 (2, 3)
        Rows haematoxylin and eosin; columns red, green, blue; unit length, in natural optical density.
    max_concentration : float64 (2,)
        99th percentile of the concentration of each stain.
    method : str
        How it was estimated.
    n_pixels : int
        Tissue pixels it rests on.
    warnings : tuple of str
        What could mislead, one sentence each.
    white : (float, float, float)
        Grey level of glass in red, green and blue, which optical density is measured from.
    kind : {"H&E", "H-DAB"}
        What the second row is: eosin, or the brown of immunohistochemistry.
    origin : str
        Where it was estimated, in words: "slide", "drawn region", "average of 5 slides", "built in".
    residual : float or None
        Share of the optical density (its squares) that two stains don't explain; ``None`` = not measured.
    offset : float
        Added to a grey level before the logarithm; 1 everywhere but where another package is reproduced.

    Examples
    --------
    >>> from napari_batchfx.stain import REFERENCE
    >>> REFERENCE.stains, round(REFERENCE.angle_deg), REFERENCE.quality
    (('haematoxylin', 'eosin'), 22, 'good')
    """

    matrix: npt.NDArray[np.float64]
    max_concentration: npt.NDArray[np.float64]
    method: str = "macenko"
    n_pixels: int = 0
    warnings: tuple[str, ...] = ()
    white: tuple[float, float, float] = (WHITE, WHITE, WHITE)
    kind: str = "H&E"
    origin: str = ""
    residual: float | None = None
    offset: float = 1.0

    @property
    def angle_deg(self) -> float:
        """Angle between the two stain vectors in degrees; small means that they are hard to tell apart."""
        cosine = float(self.matrix[0] @ self.matrix[1])
        return float(np.degrees(np.arccos(np.clip(cosine, -1.0, 1.0))))

    @property
    def stains(self) -> tuple[str, str]:
        """Names of the two rows."""
        return ("haematoxylin", "DAB" if self.kind == "H-DAB" else "eosin")

    @property
    def directions_deg(self) -> npt.NDArray[np.float64]:
        """Direction of each stain, (2, 2): degrees in the red-green plane from red, and up towards blue."""
        red, green, blue = self.matrix.T
        base, lift = np.arctan2(green, red), np.arctan2(blue, np.hypot(red, green))
        return np.asarray(np.degrees(np.stack([base, lift], axis=1)))

    @property
    def quality(self) -> str:
        """``"good"``, or ``"uncertain"`` where :attr:`doubts` says why."""
        return "uncertain" if self.doubts else "good"

    @property
    def doubts(self) -> tuple[str, ...]:
        """Why the numbers are uncertain, one sentence each; empty where nothing speaks against them."""
        found: list[str] = []
        if self.angle_deg < CLOSE_DEG:
            found.append(
                f"The two stains are close in colour ({self.angle_deg:.0f} degrees apart), so how much of "
                "each is there is uncertain."
            )
        if 0 < self.n_pixels < FEW_PIXELS:
            found.append(f"The estimate rests on {self.n_pixels:,} tissue pixels only.")
        if self.residual is not None and self.residual > MOST_RESIDUAL:
            found.append(
                f"Two stains leave {self.residual:.0%} of the absorption unexplained: pigment, ink or a "
                "third stain may be in it."
            )
        return tuple(found)

    def to_dict(self) -> dict[str, Any]:
        """Plain values for JSON."""
        return {
            "method": self.method,
            "matrix": [[float(v) for v in row] for row in self.matrix],
            "max_concentration": [float(v) for v in self.max_concentration],
            "n_pixels": int(self.n_pixels),
            "warnings": list(self.warnings),
            "white": [float(v) for v in self.white],
            "kind": self.kind,
            "origin": self.origin,
            "residual": None if self.residual is None else float(self.residual),
            "offset": float(self.offset),
        }

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> StainEstimate:
        """Read what :meth:`to_dict` wrote."""
        return cls(
            np.asarray(values["matrix"], np.float64),
            np.asarray(values["max_concentration"], np.float64),
            str(values.get("method", "macenko")),
            int(values.get("n_pixels", 0)),
            tuple(values.get("warnings", ())),
            white_of(values.get("white")),
            str(values.get("kind", "H&E")),
            str(values.get("origin", "")),
            None if values.get("residual") is None else float(values["residual"]),
            float(values.get("offset", 1.0)),
        )


@dataclass(frozen=True)
class VectorOptions:
    """How stain vectors are looked for; see :func:`estimate`."""

    alpha: float = ALPHA
    beta: float = BETA
    white: White = (WHITE, WHITE, WHITE)
    offset: float = 1.0
    tissue: str = "density"


def as_images(image: npt.ArrayLike) -> npt.NDArray[np.uint8]:
    """Check that an array is uint8 (..., 3) RGB and return it.

    Raises
    ------
    StainError
        If it is anything else; the sentence says what it is.
    """
    array = np.asarray(image)
    if array.dtype != np.uint8 or array.ndim < 2 or array.shape[-1] != 3:
        raise StainError(
            f"Stain methods take 8-bit RGB images (height, width, 3); this one is {array.dtype} "
            f"{array.shape}: convert it first."
        )
    return array


def optical_density(
    pixels: npt.NDArray[np.uint8], white: White = (WHITE, WHITE, WHITE), offset: float = 1.0
) -> npt.NDArray[np.float64]:
    """Natural optical density, ``-ln((I + offset) / white)``, same shape as the pixels.

    Without an offset black counts as grey level 1.
    """
    table = -np.log(np.maximum(np.arange(256) + offset, 1.0))
    return np.asarray(table[pixels] + np.log(white))


def tissue_pixels(
    pixels: npt.NDArray[np.uint8],
    method: str = "macenko",
    beta: float = BETA,
    white: White = (WHITE, WHITE, WHITE),
) -> npt.NDArray[np.bool_]:
    """Which pixels (n, 3) are tissue.

    For stain vectors (Macenko) those that absorb at least ``beta`` in every channel; for Lab statistics
    (Reinhard) all that are neither glass nor black, so that pale pink tissue counts as well.
    """
    if method in LAB_METHODS:
        return np.asarray(
            ((pixels * (WHITE / np.asarray(white))).min(axis=-1) < sum(GLASS) / 2)
            & (pixels.max(axis=-1) >= DARK)
        )
    return np.asarray((optical_density(pixels, white) >= beta).all(axis=-1))


def estimate(
    image: npt.ArrayLike,
    method: str = "macenko",
    *,
    alpha: float = ALPHA,
    beta: float = BETA,
    white: White = (WHITE, WHITE, WHITE),
    offset: float = 1.0,
    tissue: str = "density",
) -> StainEstimate | LabStatistics:
    """Estimate the stain of an image from its tissue pixels.

    Parameters
    ----------
    image : uint8 (..., h, w, 3) or (n, 3)
        RGB; the pixels of several images are pooled.
    method : str
        Id of a method, see :func:`napari_batchfx.stain.methods`: stain vectors ("macenko" and others), or
        mean and standard deviation in CIELAB ("reinhard", "modified-reinhard").
    alpha : float
        Percentile of the angles that is taken as the pure stain.
    beta : float
        Optical density above which a pixel counts as tissue (in every channel).
    white : (float, float, float)
        Grey level of glass in red, green and blue.
    offset : float
        Added to grey levels before the logarithm. 0, with ``white=(255, 255, 255)`` and
        ``tissue="luminosity"``, reproduces tiatoolbox.
    tissue : {"density", "luminosity"}
        Which pixels count: by ``beta``, or those of a lightness below 0.8 of its range.

    Returns
    -------
    StainEstimate or LabStatistics

    Raises
    ------
    StainError
        Where there is no tissue, only one colour, or a dark background (fluorescence).

    References
    ----------
    Macenko et al., "A method for normalizing histology slides for quantitative analysis", ISBI 2009.

    Examples
    --------
    >>> import numpy as np
    >>> from napari_batchfx.stain import REFERENCE
    >>> amounts = np.random.default_rng(0).uniform(0, 1.5, (64, 64, 2))
    >>> image = (240 * np.exp(-amounts @ REFERENCE.matrix)).astype(np.uint8)
    >>> estimate(image).matrix.shape
    (2, 3)
    """
    pixels = as_images(image).reshape(-1, 3)
    refuse_dark(pixels)
    options = VectorOptions(alpha, beta, white, offset, tissue)
    if method in LAB_METHODS:
        kept = pixels[tissue_pixels(pixels, method, beta, white)]
        refuse_empty(len(kept))
        return replace(lab_statistics(kept), white=white, method=method)
    from napari_batchfx.stain.methods import method as method_of
    from napari_batchfx.stain.vectors import estimators

    return estimators()[method_of(method).estimator](pixels, options)
