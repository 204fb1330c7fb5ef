"""What the normalisers share: fit a target once, estimate a source once, make the transform between them."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any, ClassVar, Generic, TypeVar, cast

import numpy as np
import numpy.typing as npt

from napari_batchfx.errors import StainError
from napari_batchfx.stain.declining import NoTissueError, refuse_dark
from napari_batchfx.stain.estimate import LAB_METHODS, StainEstimate, as_images, estimate
from napari_batchfx.stain.lab import LabStatistics, lab_statistics
from napari_batchfx.stain.reference import reference
from napari_batchfx.stain.transform import StainTransform

if TYPE_CHECKING:
    from typing import Self

    from napari_batchfx.slides import Slide

__all__ = ["Normalizer"]

MOST_GAIN = 4.0  # beyond this the scaling of a stain is warned about

Stain = TypeVar("Stain", StainEstimate, LabStatistics)


class Normalizer(ABC, Generic[Stain]):
    """Base of :class:`MacenkoNormalizer` and the others (:func:`methods`); not used by itself.

    Parameters
    ----------
    target : StainEstimate or LabStatistics, optional
        The look to aim at; the built-in reference by default. :meth:`fit` replaces it.
    strength : float
        0 leaves images as they are, 1 transforms them fully.
    as_published : bool
        The arithmetic of the papers; see :class:`StainTransform`.

    Examples
    --------
    >>> import numpy as np
    >>> from napari_batchfx.stain import ReinhardNormalizer
    >>> tissue = np.random.default_rng(0).integers(90, 190, (64, 64, 3)).astype(np.uint8)
    >>> normalizer = ReinhardNormalizer(strength=0.0)
    >>> isinstance(normalizer, Normalizer), bool((normalizer.transform(tissue) == tissue).all())
    (True, True)
    """

    method: ClassVar[str]
    target: Stain
    #: What the last call of :meth:`fit` or :meth:`transform` had to say; empty when all was well.
    warnings: tuple[str, ...]
    _built_in: bool

    def __init__(
        self, target: Stain | None = None, *, strength: float = 1.0, as_published: bool = False
    ) -> None:
        self._built_in = target is None
        self.target = self._reference() if target is None else target
        self.strength = float(strength)
        self.as_published = bool(as_published)
        self.warnings = ()
        self.from_source(
            self.target
        )  # refuses a target of the wrong kind and a strength outside of 0..1 right away

    @abstractmethod
    def _reference(self) -> Stain:
        """The built-in target of the method."""

    def _estimate(self, image: npt.ArrayLike) -> Stain:
        if self.as_published and self.method in LAB_METHODS:
            pixels = as_images(image).reshape(-1, 3)
            refuse_dark(pixels)
            every: Any = replace(lab_statistics(pixels), method=self.method)
            return cast("Stain", every)
        return cast("Stain", estimate(image, self.method))

    def fit(self, target: npt.ArrayLike | Slide | Sequence[npt.ArrayLike | Slide]) -> Self:
        """Take the look of an image or a slide as the target, or the average of several.

        Parameters
        ----------
        target : uint8 (h, w, 3) or Slide, or a list of them
            A slide is sampled over all of its tissue; several are averaged (:func:`average`).

        Returns
        -------
        Normalizer
            Itself.

        Raises
        ------
        StainError
            If the target has no tissue or is no H&E.
        """
        if isinstance(target, (list, tuple)):
            from napari_batchfx.stain.cohort import average

            several: Any = average([self._source(one) for one in target])
            self.target = several
        else:
            single: Any = target
            self.target = self._source(single)
        self._built_in = False
        self.warnings = self.target.warnings
        return self

    def _source(self, image_or_slide: npt.ArrayLike | Slide) -> Stain:
        if hasattr(image_or_slide, "pyramid"):
            from napari_batchfx.stain.sample import estimate_slide

            return cast("Stain", estimate_slide(cast("Slide", image_or_slide), self.method))
        return self._estimate(image_or_slide)

    def from_source(self, source: Stain) -> StainTransform:
        """Make the transform from an estimate that is already there to the target.

        Raises
        ------
        StainError
            If one is H&E and the other H-DAB. The built-in target is that of the source's stains.
        """
        target: Stain = self._target_for(source, self.target)
        warnings = (*source.warnings, *_amplified(source, target))
        return StainTransform(source, target, self.strength, self.as_published, warnings)

    def _target_for(self, source: Stain, target: Stain) -> Stain:
        """The target, of the same stains as the source."""
        if not (isinstance(source, StainEstimate) and isinstance(target, StainEstimate)):
            return target
        if source.kind == target.kind:
            return target
        if self._built_in:
            built_in: Any = reference(self.method, source.kind)
            return cast("Stain", built_in)
        raise StainError(
            f"The slide is stained {source.kind} and the target {target.kind}: matching one to the "
            "other would change what the colours mean; choose a target with the same "
            "stains, or the built-in one."
        )

    def for_slide(self, slide: Slide) -> StainTransform:
        """Estimate a slide's stain once, over all of its tissue, and return the transform to the target.

        Raises
        ------
        StainError
            If the slide has no tissue or is no H&E.
        """
        return self.from_source(self._source(slide))

    def transform(self, image: npt.ArrayLike) -> npt.NDArray[np.uint8]:
        """Normalise one image on its own statistics.

        For tiles of a slide use :meth:`for_slide`: statistics of a single tile turn fat and glass pink.

        Parameters
        ----------
        image : uint8 (..., h, w, 3)
            RGB; the pixels of several images are pooled.

        Returns
        -------
        uint8 (..., h, w, 3)
            The image as it was where it holds too little tissue or one colour only; :attr:`warnings` then
            says so.

        Raises
        ------
        StainError
            If the image is not 8-bit RGB, or no brightfield image.
        """
        try:
            transform = self.from_source(self._estimate(image))
        except NoTissueError as error:
            self.warnings = (f"{error} The image was left unchanged.",)
            return as_images(image).copy()
        self.warnings = transform.warnings
        return transform.transform(image)


def _amplified(
    source: StainEstimate | LabStatistics, target: StainEstimate | LabStatistics
) -> tuple[str, ...]:
    """Say where matching the target multiplies a weak stain so much that noise comes out as stain."""
    if not (isinstance(source, StainEstimate) and isinstance(target, StainEstimate)):
        return ()
    times = target.max_concentration / source.max_concentration
    return tuple(
        f"There is so little {name} here that it has to be multiplied by {factor:.1f} to match the target, "
        "which multiplies noise as well; look at the preview, or lower the strength."
        for name, factor in zip(source.stains, times, strict=True)
        if factor > MOST_GAIN
    )
