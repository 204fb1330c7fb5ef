"""Stain augmentation: tiles in other colours than they have, so that a head learns not to mind them."""

from __future__ import annotations

import hashlib
import json
import zlib
from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any, ClassVar

import numpy as np
import numpy.typing as npt

from napari_batchfx.errors import StainError
from napari_batchfx.stain.estimate import BETA, StainEstimate, as_images, estimate, optical_density
from napari_batchfx.stain.lab import lab_to_rgb, rgb_to_lab
from napari_batchfx.stain.least_squares import nonnegative
from napari_batchfx.stain.vectors import RUIFROK

__all__ = ["HEDJitter", "RandStainNA", "StainAugmentation", "StainJitter"]

Pixels = npt.NDArray[np.uint8]
Floats = npt.NDArray[np.float64]

#: Haematoxylin, eosin and DAB of Ruifrok and Johnston (2001), rows of length 1.
_HED = np.vstack([RUIFROK, np.array([0.27, 0.57, 0.78]) / np.linalg.norm([0.27, 0.57, 0.78])])
_FROM_HED = np.linalg.inv(_HED)


class StainAugmentation(ABC):
    """Base of the augmentations: seeded, one draw a tile, usable as ``embed(normalizer=...)``.

    The draw of a tile follows from the seed and the tile's pixels, not from the batch it came in: the same
    tile comes out alike whatever the order, the batch size or the machine, and features made from augmented
    tiles can be kept and resumed. Other seeds give other versions.

    Examples
    --------
    >>> tile = np.random.default_rng(0).integers(60, 220, (32, 32, 3), np.uint8)
    >>> first, again, other = HEDJitter(seed=1)(tile), HEDJitter(seed=1)(tile), HEDJitter(seed=2)(tile)
    >>> bool((first == again).all()), bool((first == other).all())
    (True, False)
    """

    method: ClassVar[str]
    seed: int

    @abstractmethod
    def _augment(self, tile: Pixels, rng: np.random.Generator) -> Pixels:
        """One tile (h, w, 3) with one draw."""

    @abstractmethod
    def to_dict(self) -> dict[str, Any]:
        """Plain values for JSON: all that the outcome depends on."""

    @property
    def key(self) -> str:
        """Identity: equal for equal numbers, in every process; keys stored features."""
        text = json.dumps(self.to_dict(), sort_keys=True)
        return f"{self.method}-{hashlib.blake2b(text.encode(), digest_size=8).hexdigest()}"

    def transform(self, image: npt.ArrayLike, workers: int | None = None) -> Pixels:
        """Augment one tile (h, w, 3) or a batch (n, h, w, 3), uint8; each tile with its own draw."""
        array = as_images(image)
        if array.size == 0:
            return array.copy()
        tiles = np.ascontiguousarray(array).reshape(-1, *array.shape[-3:])
        out = np.empty_like(tiles)
        for i, tile in enumerate(tiles):
            out[i] = self._augment(tile, np.random.default_rng([self.seed, zlib.crc32(tile.tobytes())]))
        return out.reshape(array.shape)

    __call__ = transform


@dataclass(frozen=True, eq=False)
class HEDJitter(StainAugmentation):
    """Haematoxylin, eosin and DAB amounts, each scaled and shifted at random (Tellez et al. 2019).

    Parameters
    ----------
    sigma : float
        Each amount is multiplied by one draw from ``1 - sigma`` to ``1 + sigma``; 0 to 1.
    bias : float
        And shifted by one from ``-bias`` to ``bias``, in natural optical density.
    seed : int

    References
    ----------
    Tellez et al., "Quantifying the effects of data augmentation and stain color normalization in
    convolutional neural networks for computational pathology", Medical Image Analysis 58, 2019. Only tiles
    whose mean grey lies within 0.15 to 0.85 of full scale are changed, as there.

    Examples
    --------
    >>> HEDJitter(0.0, 0.0)(np.full((4, 4, 3), 120, np.uint8)).max()
    np.uint8(120)
    """

    sigma: float = 0.05
    bias: float = 0.05
    seed: int = 0
    method: ClassVar[str] = "hed-jitter"

    def __post_init__(self) -> None:
        _check(self.sigma, self.bias)

    def to_dict(self) -> dict[str, Any]:
        """Plain values for JSON."""
        return {"method": self.method, **asdict(self)}

    def _augment(self, tile: Pixels, rng: np.random.Generator) -> Pixels:
        scale = 1.0 + rng.uniform(-self.sigma, self.sigma, 3)
        shift = rng.uniform(-self.bias, self.bias, 3)
        if not 0.15 < tile.mean() / 255.0 < 0.85:
            return tile
        density = optical_density(tile, (255.0, 255.0, 255.0), 0.0)
        amounts = density @ _FROM_HED
        return _pixels(255.0 * np.exp(-(amounts * scale + shift) @ _HED))


@dataclass(frozen=True, eq=False)
class StainJitter(StainAugmentation):
    """The two stains of the tissue, each scaled and shifted at random; glass and what is no stain stay.

    Parameters
    ----------
    source : StainEstimate, optional
        Of the slide the tiles are from; Macenko's of each tile otherwise (a tile without tissue stays).
    sigma : float
        Each concentration is multiplied by one draw from ``1 - sigma`` to ``1 + sigma``; 0 to 1.
    bias : float
        And shifted by one from ``-bias`` to ``bias``, in natural optical density.
    seed : int

    References
    ----------
    The augmentation of StainTools and tiatoolbox, with tiatoolbox's widths.

    Examples
    --------
    >>> StainJitter()(np.full((8, 8, 3), 250, np.uint8)).min()
    np.uint8(250)
    """

    source: StainEstimate | None = None
    sigma: float = 0.4
    bias: float = 0.2
    seed: int = 0
    method: ClassVar[str] = "stain-jitter"

    def __post_init__(self) -> None:
        _check(self.sigma, self.bias)

    def to_dict(self) -> dict[str, Any]:
        """Plain values for JSON."""
        source = None if self.source is None else self.source.to_dict()
        numbers = {"sigma": self.sigma, "bias": self.bias, "seed": self.seed}
        return {"method": self.method, "source": source, **numbers}

    def _augment(self, tile: Pixels, rng: np.random.Generator) -> Pixels:
        scale = 1.0 + rng.uniform(-self.sigma, self.sigma, 2)
        shift = rng.uniform(-self.bias, self.bias, 2)
        found: Any = self.source
        if found is None:
            try:
                found = estimate(tile)
            except StainError:
                return tile
        density = optical_density(tile, found.white, found.offset)
        amounts = nonnegative(np.maximum(density, 0.0), found.matrix)
        moved = np.maximum(amounts * scale + shift, 0.0)
        light = np.asarray(found.white) * np.exp(-(density + (moved - amounts) @ found.matrix)) - found.offset
        tissue = (density >= BETA).all(axis=-1, keepdims=True)
        return np.where(tissue, _pixels(light), tile)


@dataclass(frozen=True, eq=False)
class RandStainNA(StainAugmentation):
    """Colour statistics drawn from those of many tiles, then matched as in Reinhard's method.

    Parameters
    ----------
    average : float64 (2, 3)
        Mean and standard deviation, over tiles, of a tile's mean L, a and b.
    deviation : float64 (2, 3)
        Mean and standard deviation, over tiles, of a tile's standard deviation of L, a and b.
    spread : float
        The drawn distributions are ``1 + spread`` times as wide; -0.3 in the paper.
    seed : int

    References
    ----------
    Shen et al., "RandStainNA: learning stain-agnostic features from histology slides by bridging stain
    augmentation and normalization", MICCAI 2022; here with normal distributions in CIELAB.

    Examples
    --------
    >>> tiles = np.random.default_rng(0).integers(60, 220, (6, 16, 16, 3), np.uint8)
    >>> RandStainNA.fit(tiles, seed=3)(tiles).shape
    (6, 16, 16, 3)
    """

    average: Floats
    deviation: Floats
    spread: float = -0.3
    seed: int = 0
    method: ClassVar[str] = "randstainna"

    def __post_init__(self) -> None:
        for name in ("average", "deviation"):
            values = np.asarray(getattr(self, name), np.float64)
            if values.shape != (2, 3) or not np.isfinite(values).all() or (values[1] < 0).any():
                raise StainError(
                    f"The {name} of RandStainNA is (2, 3): means and standard deviations of L, a and b."
                )
            object.__setattr__(self, name, values)
        if not self.spread >= -1.0:
            raise StainError(f"The spread of RandStainNA is -1 (no variation) or more, not {self.spread:g}.")

    @classmethod
    def fit(cls, tiles: npt.ArrayLike | Sequence[Pixels], spread: float = -0.3, seed: int = 0) -> RandStainNA:
        """Learn the distributions from tiles (n, h, w, 3) of many slides; at least two."""
        lab = [rgb_to_lab(as_images(tile)).reshape(-1, 3) for tile in np.asarray(tiles)]
        if len(lab) < 2:
            raise StainError("RandStainNA learns from at least two tiles, better from many slides.")
        means, stds = (np.stack([getattr(one, what)(axis=0) for one in lab]) for what in ("mean", "std"))
        both = [np.stack([values.mean(axis=0), values.std(axis=0)]) for values in (means, stds)]
        return cls(both[0], both[1], spread, seed)

    def to_dict(self) -> dict[str, Any]:
        """Plain values for JSON; :meth:`from_dict` gives it back."""
        return {
            "method": self.method,
            "average": self.average.tolist(),
            "deviation": self.deviation.tolist(),
            "spread": self.spread,
            "seed": self.seed,
        }

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> RandStainNA:
        """Read what :meth:`to_dict` wrote."""
        try:
            return cls(
                np.asarray(values["average"], np.float64),
                np.asarray(values["deviation"], np.float64),
                float(values.get("spread", -0.3)),
                int(values.get("seed", 0)),
            )
        except (KeyError, TypeError, ValueError) as error:
            raise StainError(f"These values don't describe RandStainNA ({error}).") from error

    def _augment(self, tile: Pixels, rng: np.random.Generator) -> Pixels:
        width = 1.0 + self.spread
        mean = rng.normal(self.average[0], width * self.average[1])
        std = np.abs(rng.normal(self.deviation[0], width * self.deviation[1]))
        lab = rgb_to_lab(tile)
        own_mean, own_std = lab.mean(axis=(0, 1)), lab.std(axis=(0, 1))
        # A channel without spread is shifted, never divided by zero.
        gain = np.where(own_std > 1e-6, std / np.maximum(own_std, 1e-6), 1.0)
        return _pixels(lab_to_rgb((lab - own_mean) * gain + mean))


def _check(sigma: float, bias: float) -> None:
    if not (0.0 <= sigma <= 1.0 and 0.0 <= bias < np.inf):
        raise StainError(
            f"A stain jitter's sigma lies between 0 and 1 and its bias is 0 or more, not {sigma:g} "
            f"and {bias:g}."
        )


def _pixels(light: Floats) -> Pixels:
    return np.asarray(np.rint(np.clip(light, 0.0, 255.0)).astype(np.uint8))
