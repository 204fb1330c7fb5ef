"""Normalisation with the fixed vectors of Ruifrok and Johnston."""

from __future__ import annotations

from napari_batchfx.stain.estimate import StainEstimate
from napari_batchfx.stain.normalizer import Normalizer
from napari_batchfx.stain.reference import reference

__all__ = ["RuifrokNormalizer"]


class RuifrokNormalizer(Normalizer[StainEstimate]):
    """Intensities of haematoxylin and eosin (or DAB) along fixed stain vectors (Ruifrok and Johnston 2001).

    The hue of the stains is left as it is; only how strong each is, is matched to the target. The right
    choice where a slide holds too little of one stain for vectors to be estimated from it.

    Parameters
    ----------
    target : StainEstimate, optional
        The look to aim at; the built-in reference by default. :meth:`fit` replaces it.
    strength : float
        0 leaves images as they are, 1 transforms them fully.
    as_published : bool
        See :class:`MacenkoNormalizer`.

    References
    ----------
    Ruifrok and Johnston, "Quantification of histochemical staining by color deconvolution", Analytical and
    Quantitative Cytology and Histology 23, 2001.

    Examples
    --------
    >>> import numpy as np
    >>> from napari_batchfx.stain import REFERENCE
    >>> amounts = np.random.default_rng(0).uniform(0, 1.5, (64, 64, 2))
    >>> image = (240 * np.exp(-amounts @ REFERENCE.matrix)).astype(np.uint8)
    >>> RuifrokNormalizer().transform(image).shape
    (64, 64, 3)
    """

    method = "ruifrok"

    def _reference(self) -> StainEstimate:
        return reference(self.method)
