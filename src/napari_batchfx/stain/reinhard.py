"""Reinhard's colour normalisation."""

from __future__ import annotations

from dataclasses import replace

from napari_batchfx.stain.lab import LabStatistics
from napari_batchfx.stain.normalizer import Normalizer
from napari_batchfx.stain.reference import REFERENCE_LAB

__all__ = ["ModifiedReinhardNormalizer", "ReinhardNormalizer"]


class ReinhardNormalizer(Normalizer[LabStatistics]):
    """Colour normalisation by mean and spread in CIELAB (Reinhard et al. 2001).

    Each channel is shifted and scaled: ``L' = (L - mean_source) / std_source * std_target + mean_target``.

    By default the statistics come from tissue pixels only and glass is left white (blended over darkest
    channel 205 to 235, so no edge appears). ``as_published=True`` takes all pixels of an image and
    transforms all of them.

    Parameters
    ----------
    target : LabStatistics, optional
        The look to aim at; :data:`REFERENCE_LAB` by default. :meth:`fit` replaces it.
    strength : float
        0 leaves images as they are, 1 transforms them fully.
    as_published : bool
        See above.

    References
    ----------
    Reinhard et al., "Color transfer between images", IEEE Computer Graphics and Applications 21(5), 2001; in
    CIELAB as in the pathology packages.

    Examples
    --------
    >>> import numpy as np
    >>> image = np.random.default_rng(0).integers(60, 200, (64, 64, 3), np.uint8)
    >>> ReinhardNormalizer().transform(image).dtype
    dtype('uint8')
    """

    method = "reinhard"

    def _reference(self) -> LabStatistics:
        return REFERENCE_LAB


class ModifiedReinhardNormalizer(Normalizer[LabStatistics]):
    """Reinhard's method that keeps the contrast of the slide (Roy et al. 2021).

    With ``q = (std_target - std_source) / std_target`` where that is positive, lightness becomes
    ``L' = mean_target + (L - mean_source) * (1 + q)``; the two colour channels are shifted only. Published
    code takes ``q = 0.05`` where it isn't positive (``as_published=True``); here it is 0, so that a slide is
    left as it is by its own statistics.

    Parameters
    ----------
    target : LabStatistics, optional
        The look to aim at; :data:`REFERENCE_LAB` by default. :meth:`fit` replaces it.
    strength : float
        0 leaves images as they are, 1 transforms them fully.
    as_published : bool
        See above and :class:`ReinhardNormalizer`.

    References
    ----------
    Roy, Panda and Jangid, "Modified Reinhard algorithm for color normalization of colorectal cancer
    histopathology images", EUSIPCO 2021.

    Examples
    --------
    >>> import numpy as np
    >>> image = np.random.default_rng(0).integers(60, 200, (64, 64, 3), np.uint8)
    >>> ModifiedReinhardNormalizer().transform(image).dtype
    dtype('uint8')
    """

    method = "modified-reinhard"

    def _reference(self) -> LabStatistics:
        return replace(REFERENCE_LAB, method=self.method)
