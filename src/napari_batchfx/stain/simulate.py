"""How a tile would look, had another laboratory stained it (the staining-robustness protocol, step 3)."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from napari_batchfx.errors import StainError
from napari_batchfx.stain.conditions import StainingCondition
from napari_batchfx.stain.density import density_estimate
from napari_batchfx.stain.estimate import StainEstimate, as_images

__all__ = ["SimulatedStain", "simulate"]

Floats = npt.NDArray[np.float32]

SHARE_CLEANED = 0.10  # pixels with the most haematoxylin whose negative concentrations are removed
MOST_RESIDUAL = 0.1
KEPT_RESIDUAL = 0.01


@dataclass(frozen=True, eq=False)
class SimulatedStain:
    """A staining condition applied to the tiles of a slide; usable wherever a stain transform is.

    Parameters
    ----------
    condition : StainingCondition
        The look to simulate.
    source : StainEstimate, optional
        The slide's own stain (method "density"); estimated on each tile otherwise, which the protocol doesn't
        do.

    Raises
    ------
    StainError
        If the source is the estimate of another method, whose intensities mean something else.

    Examples
    --------
    >>> from napari_batchfx.stain.conditions import CONDITIONS
    >>> SimulatedStain(CONDITIONS[0]).transform(np.full((1, 4, 4, 3), 255, np.uint8)).min()
    np.uint8(255)
    """

    condition: StainingCondition
    source: StainEstimate | None = None

    def __post_init__(self) -> None:
        if self.source is not None and self.source.method != "density":
            raise StainError(
                "Staining conditions are simulated from the density estimate of a slide; estimate it with "
                'method="density".'
            )

    @property
    def key(self) -> str:
        """Identity: equal for equal numbers, in every process; keys stored features."""
        numbers = [*self.condition.matrix.ravel(), *self.condition.intensity]
        if self.source is not None:
            numbers += [*self.source.matrix.ravel(), *self.source.max_concentration]
        text = ",".join(f"{float(value):.12g}" for value in numbers)
        return f"simulated-{hashlib.blake2b(text.encode(), digest_size=8).hexdigest()}"

    @property
    def method(self) -> str:
        """What it is, in a word."""
        return "simulated"

    def transform(self, image: npt.ArrayLike, workers: int | None = None) -> npt.NDArray[np.uint8]:
        """Simulate one tile (h, w, 3) or a batch (n, h, w, 3); each tile by itself.

        A tile without stained tissue stays as it is where the source is estimated on the tile.
        """
        array = as_images(image)
        if array.ndim > 3:
            tiles = array.reshape(-1, *array.shape[-3:])
            out = np.empty_like(tiles)
            for i, tile in enumerate(tiles):
                out[i] = self._tile(tile)
            return out.reshape(array.shape)
        return self._tile(array)

    __call__ = transform

    def _tile(self, tile: npt.NDArray[np.uint8]) -> npt.NDArray[np.uint8]:
        if tile.size == 0:
            return tile.copy()
        source = self.source
        if source is None:
            try:
                source = density_estimate(tile)
            except StainError:
                return tile.copy()
        pixels = tile.reshape(-1, 3)
        white = np.maximum(pixels.max(axis=0), 1).astype(np.float32)
        density = (np.log(white) - np.log(np.maximum(pixels, 1).astype(np.float32))).astype(np.float32)
        own = _with_third(source.matrix)
        amounts = density @ np.linalg.inv(own).astype(np.float32)
        times = self.condition.intensity / source.max_concentration
        if (times < 1.0).any():
            _clean(amounts)
        amounts[:, :2] *= times.astype(np.float32)
        residual = amounts[:, 2]
        residual[residual > MOST_RESIDUAL] *= KEPT_RESIDUAL
        aim = np.vstack([self.condition.matrix, own[2]]).astype(np.float32)
        out = white * np.exp(-(amounts @ aim))
        return np.asarray(np.rint(np.clip(out, 0.0, 255.0)).astype(np.uint8).reshape(tile.shape))


def simulate(
    image: npt.ArrayLike, condition: StainingCondition, source: StainEstimate | None = None
) -> npt.NDArray[np.uint8]:
    """A tile as it would look under another staining condition.

    Concentrations of haematoxylin and eosin are scaled by the ratio of the intensities and put together with
    the condition's vectors; what neither stain explains is kept, but damped where it is large.

    Parameters
    ----------
    image : uint8 (h, w, 3) or (n, h, w, 3)
        RGB; every tile has its own white (the brightest value of each channel).
    condition : StainingCondition
        One of :data:`CONDITIONS`, or of :func:`load_conditions` or :func:`condition_from`.
    source : StainEstimate, optional
        The slide's own stain by the density method; estimated on each tile otherwise.

    Returns
    -------
    uint8, same shape

    Raises
    ------
    StainError
        If the image is not 8-bit RGB, or the source is the estimate of another method.

    References
    ----------
    Schönpflug et al., arXiv:2603.12886, 2026, step 3.

    Examples
    --------
    >>> from napari_batchfx.stain.conditions import CONDITIONS
    >>> amounts = np.random.default_rng(0).gamma(1.5, 0.4, (128, 128, 2))
    >>> image = (240 * np.exp(-amounts @ CONDITIONS[3].matrix)).astype(np.uint8)
    >>> pale, strong = simulate(image, CONDITIONS[0]), simulate(image, CONDITIONS[1])
    >>> bool(pale.mean() > strong.mean())
    True
    """
    return SimulatedStain(condition, source).transform(image)


def _with_third(matrix: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    """Two vectors and the direction across both, (3, 3)."""
    across = np.cross(matrix[0], matrix[1])
    return np.vstack([matrix, across / np.linalg.norm(across)])


def _clean(amounts: Floats) -> None:
    """Remove negative haematoxylin and eosin from the tenth of the pixels with the most haematoxylin."""
    limit = np.quantile(amounts[:, 0], 1.0 - SHARE_CLEANED)
    most = amounts[:, 0] >= limit
    amounts[most, :2] = np.maximum(amounts[most, :2], 0.0)
