"""Macenko's stain normalisation."""

from __future__ import annotations

from napari_batchfx.stain.estimate import StainEstimate
from napari_batchfx.stain.normalizer import Normalizer
from napari_batchfx.stain.reference import reference

__all__ = ["MacenkoNormalizer", "MultiTargetMacenkoNormalizer"]


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


class MultiTargetMacenkoNormalizer(MacenkoNormalizer):
    """Macenko's method towards the average of several targets (Ivanov et al. 2024).

    Each target is estimated by itself; vectors and intensities are averaged and the vectors scaled to length
    1 ("avg-post" in other packages). In a study the targets are all of its slides.

    Parameters
    ----------
    target : StainEstimate, optional
        The look to aim at; :data:`REFERENCE` by default. ``fit([image, image, ...])`` replaces it.
    strength : float
        0 leaves images as they are, 1 transforms them fully.
    as_published : bool
        See :class:`MacenkoNormalizer`.

    References
    ----------
    Ivanov et al., "Multi-target stain normalization for histology slides", 2024.

    Examples
    --------
    >>> import numpy as np
    >>> from napari_batchfx.stain import REFERENCE
    >>> rng = np.random.default_rng(0)
    >>> draw = lambda: (240 * np.exp(-rng.uniform(0, 1.5, (64, 64, 2)) @ REFERENCE.matrix)).astype(np.uint8)
    >>> MultiTargetMacenkoNormalizer().fit([draw(), draw()]).target.origin
    'average of 2 slides'
    """
