"""A stain transform: fixed numbers that turn the colours of one slide into those of a target."""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, cast

import numpy as np
import numpy.typing as npt

from napari_batchfx.errors import StainError
from napari_batchfx.stain.estimate import LAB_METHODS, WHITE, StainEstimate, as_images, optical_density
from napari_batchfx.stain.kernels import apply_rows, lab_kernel, lab_tables, od_kernel, od_tables
from napari_batchfx.stain.lab import GLASS, LabStatistics, lab_to_rgb, rgb_to_lab
from napari_batchfx.stain.least_squares import nonnegative

if TYPE_CHECKING:
    from torch import Tensor

__all__ = ["StainTransform"]

_NUMBERS = {"method", "matrix", "max_concentration", "mean", "std", "white", "offset"}


@dataclass(frozen=True, eq=False)
class StainTransform:
    """Colours of a source to those of a target, the same for every pixel of a slide.

    Made by ``normalizer.for_slide(slide)`` or ``normalizer.from_source(estimate)``. Because the source is
    fitted once on the tissue of the whole slide, a tile of fat or glass does not turn pink.

    Parameters
    ----------
    source, target : StainEstimate or LabStatistics
        Both of the same kind; stain vectors are Macenko's method, Lab statistics Reinhard's.
    strength : float
        0 leaves the image as it is, 1 transforms it fully, in between they are blended.
    as_published : bool
        The arithmetic of the papers, bit for bit: concentrations may be negative (Macenko), glass is
        transformed like tissue (Reinhard). Off by default: concentrations are non-negative and glass stays
        white.
    warnings : tuple of str
        What could mislead.
    keep_residual : bool
        Whether what two stains don't explain of a pixel stays in it: pigment and ink keep their colour, and
        so does part of the slide's signature. Off by default; between equal stains it always stays, so that
        a slide is left as it is by its own stain.

    Examples
    --------
    >>> import numpy as np
    >>> from napari_batchfx.stain import REFERENCE, MacenkoNormalizer
    >>> transform = MacenkoNormalizer().from_source(REFERENCE)
    >>> transform.transform(np.full((4, 4, 3), 255, np.uint8)).min()
    np.uint8(255)
    """

    source: StainEstimate | LabStatistics
    target: StainEstimate | LabStatistics
    strength: float = 1.0
    as_published: bool = False
    warnings: tuple[str, ...] = ()
    keep_residual: bool = False

    def __post_init__(self) -> None:
        if isinstance(self.source, StainEstimate) != isinstance(self.target, StainEstimate):
            raise StainError(
                "The source and the target come from different stain methods; use one method for both."
            )
        if self.source.method in LAB_METHODS and self.source.method != self.target.method:
            raise StainError(
                "The source and the target come from different stain methods; use one method for both."
            )
        if not 0.0 <= self.strength <= 1.0:
            raise StainError(
                f"The strength of a stain transform lies between 0 and 1; {self.strength} does not."
            )

    @property
    def method(self) -> str:
        """Id of the method, one of :func:`napari_batchfx.stain.methods`."""
        return self.source.method

    @property
    def key(self) -> str:
        """Identity of the transform: equal for equal numbers, in every process; keys stored features."""
        values = self.to_dict()
        values.pop("warnings")
        values.pop("keep_residual")
        if self.keep_residual and not self.as_published and isinstance(self.source, StainEstimate):
            values["residual"] = "kept"
        for side in ("source", "target"):
            # What the numbers are, not where they are from; what is as usual isn't spelled out, so that keys
            # of features stored by earlier versions still hold.
            if values[side].get("offset") == 1.0:
                values[side].pop("offset")
            values[side] = {name: value for name, value in values[side].items() if name in _NUMBERS}
        text = json.dumps(values, sort_keys=True)
        return f"{self.method}-{hashlib.blake2b(text.encode(), digest_size=8).hexdigest()}"

    def __eq__(self, other: object) -> bool:
        return isinstance(other, StainTransform) and self.key == other.key

    def __hash__(self) -> int:
        return hash(self.key)

    def with_strength(self, strength: float) -> StainTransform:
        """Return the same transform with another strength (0..1)."""
        return replace(self, strength=float(strength))

    def transform(self, image: npt.ArrayLike, workers: int | None = None) -> npt.NDArray[np.uint8]:
        """Transform one image or many.

        Parameters
        ----------
        image : uint8 (..., h, w, 3)
            RGB.
        workers : int, optional
            Threads; all cores by default. A caller that runs in many threads itself passes 1.

        Returns
        -------
        uint8 (..., h, w, 3)
            A new array of the same shape.

        Raises
        ------
        StainError
            If the image is not 8-bit RGB.
        """
        array = as_images(image)
        if self.strength == 0.0 or array.size == 0:
            return array.copy()
        pixels = np.ascontiguousarray(array).reshape(-1, 3)
        if isinstance(self.source, StainEstimate):
            source, target = (m.astype(np.float32) for m in self._kernel_matrices())
            out = apply_rows(
                od_kernel(),
                pixels,
                workers,
                *od_tables(self.source.white, self.source.offset, *self._out()),
                source,
                target,
                np.float32(self.strength),
                self.as_published,
                np.float32(self._kept()),
                self._base().astype(np.float32),
            )
        else:
            gain, shift = (v.astype(np.float32) for v in self._gains())
            out = apply_rows(
                lab_kernel(),
                pixels,
                workers,
                *lab_tables(),
                gain,
                shift,
                np.float32(self.strength),
                not self.as_published,
                (WHITE / np.array(self.source.white)).astype(np.float32),
            )
        return out.reshape(array.shape)

    __call__ = transform

    def transform_tensor(self, batch: Tensor, *, channels_first: bool = False) -> Tensor:
        """The same for a uint8 torch tensor, on whatever device it is; within one grey level.

        On a GPU the tensor stays there (:func:`napari_batchfx.stain.tensors.transform_tensor`); on the CPU
        the fused kernel is used where the colours come last.

        Parameters
        ----------
        batch : uint8 tensor (..., h, w, 3), or (..., 3, h, w)
            RGB.
        channels_first : bool
            Whether the colours come before height and width.

        Returns
        -------
        uint8 tensor
            Same shape and device.

        Raises
        ------
        StainError
            If the batch is not 8-bit RGB.
        """
        from napari_batchfx.stain.tensors import transform_tensor

        if batch.device.type == "cpu" and not channels_first and batch.ndim >= 3 and batch.shape[-1] == 3:
            import torch

            if batch.dtype == torch.uint8:  # the fused kernel is faster than whole-tensor steps
                return torch.from_numpy(self.transform(batch.numpy()))
        return transform_tensor(self, batch, channels_first=channels_first)

    def transform_float(self, image: npt.ArrayLike) -> npt.NDArray[np.float64]:
        """Transform without rounding: the reference implementation in numpy, float64 in 0..255, slow.

        The fast :meth:`transform` equals this, rounded, within one grey level.
        """
        array = as_images(image)
        if isinstance(self.source, StainEstimate):
            out = np.clip(self._two_stains(self._density(array)), 0.0, 255.0)
        else:
            gain, shift = self._gains()
            out = lab_to_rgb(rgb_to_lab(array) * gain + shift)
        weight: Any = self.strength
        if not isinstance(self.source, StainEstimate) and not self.as_published:
            darkest = (array * (WHITE / np.array(self.source.white))).min(axis=-1, keepdims=True)
            weight = weight * np.clip((GLASS[0] - darkest) / (GLASS[0] - GLASS[1]), 0.0, 1.0)
        return np.asarray(np.clip(array + weight * (out - array), 0.0, 255.0))

    def _density(self, array: npt.NDArray[np.uint8]) -> npt.NDArray[np.float64]:
        source = cast("StainEstimate", self.source)
        return optical_density(array, source.white, source.offset)

    def _out(self) -> tuple[float, float]:
        """Grey level of glass that densities are taken from on the way back, and what is subtracted then.

        The density is that of I + 1; published code forgets the 1 on the way back, which brightens every
        pixel by it.
        """
        target = cast("StainEstimate", self.target)
        return (target.white[0], 0.0) if self.as_published else (WHITE, target.offset)

    def _base(self) -> npt.NDArray[np.float64]:
        """Density of the target's own glass against the usual one, (3,): a slide has its own white."""
        target = cast("StainEstimate", self.target)
        return np.zeros(3) if self.as_published else np.log(WHITE / np.array(target.white))

    def _two_stains(self, density: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
        """Grey levels, not yet clipped at 0, for optical densities (..., 3)."""
        source, target = self._matrices()
        if self.as_published:
            white, _ = self._out()
            return np.minimum(white * np.exp(-(density @ np.linalg.pinv(source)) @ target), 255.0)
        # Light beyond the white point is no negative stain: it is put back after the stains were changed.
        excess, density = np.minimum(density, 0.0), np.maximum(density, 0.0)
        both = nonnegative(density, source)
        made = both @ target
        if self._kept():
            made = np.maximum(made + density - both @ source, 0.0)
        white, offset = self._out()
        return np.minimum(white * np.exp(-(made + excess + self._base())) - offset, 255.0)

    def _kept(self) -> bool:
        return (self.keep_residual or self._is_own()) and not self.as_published

    def _is_own(self) -> bool:
        """Whether source and target are the same stain: nothing is to be changed then."""
        source, target = cast("StainEstimate", self.source), cast("StainEstimate", self.target)
        return bool(
            source.white == target.white
            and np.array_equal(source.matrix, target.matrix)
            and np.array_equal(source.max_concentration, target.max_concentration)
        )

    def _kernel_matrices(self) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.float64]]:
        """Source vectors, and what a unit of each stain adds: its new vector, or the change of it."""
        source, target = self._matrices()
        return source, target - source if self._kept() else target

    def _matrices(self) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.float64]]:
        """Source vectors (2, 3), and target vectors scaled by the ratio of the intensities (2, 3)."""
        source, target = cast("StainEstimate", self.source), cast("StainEstimate", self.target)
        ratio = target.max_concentration / source.max_concentration
        return source.matrix, target.matrix * ratio[:, None]

    def _gains(self) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.float64]]:
        source, target = cast("LabStatistics", self.source), cast("LabStatistics", self.target)
        if self.method == "modified-reinhard":
            return self._modified_gains(source, target)
        # A channel without spread (a flat image) is shifted, never divided by zero.
        gain = np.where(source.std > 1e-6, target.std / np.maximum(source.std, 1e-6), 1.0)
        return gain, target.mean - gain * source.mean

    def _modified_gains(
        self, source: LabStatistics, target: LabStatistics
    ) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.float64]]:
        """Lightness spread only ever widened, by at most twice; colour only shifted (Roy et al. 2021)."""
        wider = (target.std[0] - source.std[0]) / max(target.std[0], 1e-6)
        # The published 0.05 stretches a slide that needs no change; without it a slide is its own target.
        least = 0.05 if self.as_published else 0.0
        gain = np.array([1.0 + (wider if wider > 0 else least), 1.0, 1.0])
        return gain, target.mean - gain * source.mean

    def to_dict(self) -> dict[str, Any]:
        """Plain values for JSON; :meth:`from_dict` gives the same transform back."""
        return {
            "method": self.method,
            "source": self.source.to_dict(),
            "target": self.target.to_dict(),
            "strength": float(self.strength),
            "as_published": bool(self.as_published),
            "warnings": list(self.warnings),
            "keep_residual": bool(self.keep_residual),
        }

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> StainTransform:
        """Read what :meth:`to_dict` wrote.

        Raises
        ------
        StainError
            If the values don't describe a stain transform.
        """
        try:
            kind: type[StainEstimate] | type[LabStatistics]
            kind = StainEstimate if "matrix" in values["source"] else LabStatistics
            return cls(
                kind.from_dict(values["source"]),
                kind.from_dict(values["target"]),
                float(values.get("strength", 1.0)),
                bool(values.get("as_published", False)),
                tuple(values.get("warnings", ())),
                bool(values.get("keep_residual", False)),  # transforms of earlier versions dropped it
            )
        except (KeyError, TypeError, ValueError) as error:
            raise StainError(
                f"These values don't describe a stain transform ({error}); make it again from the slide."
            ) from error
