"""CIELAB from sRGB and back, and the Lab statistics that Reinhard's method works with."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

__all__ = ["WHITE", "LabStatistics", "White", "lab_statistics", "lab_to_rgb", "rgb_to_lab"]

_SRGB = np.array(
    [[0.412453, 0.357580, 0.180423], [0.212671, 0.715160, 0.072169], [0.019334, 0.119193, 0.950227]]
)
_D65 = np.array([0.95047, 1.0, 1.08883])
TO_XYZ = _SRGB / _D65[:, None]
FROM_XYZ = np.linalg.inv(TO_XYZ)

White = tuple[float, float, float]
FEW_PIXELS = 10_000  # tissue pixels below which an estimate is called uncertain
WHITE = 240.0  # grey level of glass (I0), where it was not measured

# Darkest channel of a pixel, in grey levels: above the first it is glass and left alone, below the second it
# is tissue and fully transformed, in between blended so that no edge appears.
GLASS = (235.0, 205.0)


def linear_srgb(value: npt.NDArray[np.floating[Any]]) -> npt.NDArray[np.float64]:
    """Linear light of sRGB values in 0..1 (IEC 61966-2-1)."""
    value = np.asarray(value, np.float64)
    return np.where(value > 0.04045, ((value + 0.055) / 1.055) ** 2.4, value / 12.92)


def encode_srgb(light: npt.NDArray[np.floating[Any]]) -> npt.NDArray[np.float64]:
    """Take linear light in 0..1 to sRGB values in 0..1; light outside is clipped."""
    light = np.clip(np.asarray(light, np.float64), 0.0, 1.0)
    return np.where(light > 0.0031308, 1.055 * light ** (1 / 2.4) - 0.055, 12.92 * light)


def f_lab(ratio: npt.NDArray[np.floating[Any]]) -> npt.NDArray[np.float64]:
    """CIELAB's f: a cube root with a straight foot."""
    ratio = np.asarray(ratio, np.float64)
    return np.where(ratio > 0.008856, np.cbrt(ratio), 7.787 * ratio + 16.0 / 116.0)


def rgb_to_lab(image: npt.NDArray[np.uint8]) -> npt.NDArray[np.float64]:
    """Convert sRGB to CIELAB (D65, 2 degrees).

    Parameters
    ----------
    image : uint8 (..., 3)
        sRGB.

    Returns
    -------
    float64 (..., 3)
        L in 0..100, a and b in about -110..110.

    Examples
    --------
    >>> rgb_to_lab(np.array([255, 255, 255], np.uint8)).round(1).tolist()[0]
    100.0
    """
    f = f_lab(linear_srgb(np.asarray(image) / 255.0) @ TO_XYZ.T)
    return np.stack(
        [116 * f[..., 1] - 16, 500 * (f[..., 0] - f[..., 1]), 200 * (f[..., 1] - f[..., 2])], axis=-1
    )


def lab_to_rgb(lab: npt.NDArray[np.floating[Any]]) -> npt.NDArray[np.float64]:
    """Convert CIELAB to sRGB.

    Parameters
    ----------
    lab : float (..., 3)
        L, a, b.

    Returns
    -------
    float64 (..., 3)
        sRGB in 0..255, not rounded; colours outside of sRGB are clipped.

    Examples
    --------
    >>> lab_to_rgb(np.array([50.0, 0.0, 0.0])).round().tolist()
    [119.0, 119.0, 119.0]
    """
    lab = np.asarray(lab, np.float64)
    fy = (lab[..., 0] + 16) / 116
    f = np.stack([fy + lab[..., 1] / 500, fy, fy - lab[..., 2] / 200], axis=-1)
    ratio = np.where(f > 6 / 29, f**3, (f - 16 / 116) * (108 / 841))
    return 255.0 * encode_srgb(ratio @ FROM_XYZ.T)


@dataclass(frozen=True)
class LabStatistics:
    """Mean and standard deviation of tissue pixels in CIELAB.

    Parameters
    ----------
    mean, std : float64 (3,)
        Of L, a and b.
    n_pixels : int
        Pixels they were computed from.
    warnings : tuple of str
        What could mislead, one sentence each.
    white : (float, float, float)
        Grey level of glass in red, green and blue.
    origin : str
        Where it was estimated, in words.
    """

    mean: npt.NDArray[np.float64]
    std: npt.NDArray[np.float64]
    n_pixels: int = 0
    warnings: tuple[str, ...] = ()
    method: str = "reinhard"
    white: White = (WHITE, WHITE, WHITE)
    origin: str = ""

    @property
    def quality(self) -> str:
        """``"good"``, or ``"uncertain"`` where :attr:`doubts` says why."""
        return "uncertain" if self.doubts else "good"

    @property
    def doubts(self) -> tuple[str, ...]:
        """Why the numbers are uncertain, one sentence each; empty where nothing speaks against them."""
        if 0 < self.n_pixels < FEW_PIXELS:
            return (f"The estimate rests on {self.n_pixels:,} tissue pixels only.",)
        return ()

    def to_dict(self) -> dict[str, Any]:
        """Plain values for JSON."""
        return {
            "method": self.method,
            "mean": [float(v) for v in self.mean],
            "std": [float(v) for v in self.std],
            "n_pixels": int(self.n_pixels),
            "warnings": list(self.warnings),
            "white": [float(v) for v in self.white],
            "origin": self.origin,
        }

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> LabStatistics:
        """Read what :meth:`to_dict` wrote."""
        return cls(
            np.asarray(values["mean"], np.float64),
            np.asarray(values["std"], np.float64),
            int(values.get("n_pixels", 0)),
            tuple(values.get("warnings", ())),
            str(values.get("method", "reinhard")),
            white_of(values.get("white")),
            str(values.get("origin", "")),
        )


def white_of(values: Any) -> White:
    """Three grey levels from plain values; the usual white where there are none."""
    if values is None:
        return (WHITE, WHITE, WHITE)
    red, green, blue = (float(v) for v in values)
    return (red, green, blue)


def lab_statistics(pixels: npt.NDArray[np.uint8], warnings: tuple[str, ...] = ()) -> LabStatistics:
    """Mean and (population) standard deviation of pixels (n, 3) in CIELAB."""
    lab = rgb_to_lab(pixels.reshape(-1, 3))
    return LabStatistics(lab.mean(axis=0), lab.std(axis=0), len(lab), warnings)
