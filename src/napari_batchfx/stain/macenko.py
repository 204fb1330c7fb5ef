"""Macenko's stain normalisation."""

from __future__ import annotations

from napari_batchfx.stain.estimate import StainEstimate
from napari_batchfx.stain.normalizer import Normalizer
from napari_batchfx.stain.reference import reference

__all__ = ["MacenkoNormalizer"]


class MacenkoNormalizer(Normalizer[StainEstimate]):
    """Stain normalisation in the space of stain concentrations (Macenko et al. 2009).

    The optical density of every pixel is split into haematoxylin and eosin, each is scaled to the intensity
    of the target, and the colour is put together again with the stain vectors of the target: ``I' = 240
    exp(-(c * max_target / max_source) @ matrix_target)``.

    By default the concentrations are found by non-negative least squares and light brighter than the white
    point is kept, so glass stays white and a darker pixel never comes out lighter. ``as_published=True``
    gives the unconstrained arithmetic of the paper and of other packages.

    Parameters
    ----------
    target : StainEstimate, optional
        The look to aim at; :data:`REFERENCE` by default. :meth:`fit` replaces it.
    strength : float
        0 leaves images as they are, 1 transforms them fully.
    as_published : bool
        See above.

    References
    ----------
    Macenko et al., "A method for normalizing histology slides for quantitative analysis", ISBI 2009.

    Examples
    --------
    >>> import numpy as np
    >>> from napari_batchfx.stain import REFERENCE
    >>> amounts = np.random.default_rng(0).uniform(0, 1.5, (64, 64, 2))
    >>> image = (240 * np.exp(-amounts @ REFERENCE.matrix)).astype(np.uint8)
    >>> MacenkoNormalizer().transform(image).shape
    (64, 64, 3)
    """

    method = "macenko"

    def _reference(self) -> StainEstimate:
        return reference(self.method)
