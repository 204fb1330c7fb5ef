"""Stain vectors by sparse non-negative matrix factorisation (Vahadane et al. 2016)."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from napari_batchfx.stain.declining import refuse_empty
from napari_batchfx.stain.estimate import StainEstimate, VectorOptions
from napari_batchfx.stain.normalizer import Normalizer
from napari_batchfx.stain.reference import REFERENCE, reference
from napari_batchfx.stain.vectors import densities, finish, unit

__all__ = ["VahadaneNormalizer", "sparse_factors", "vahadane"]

Floats = npt.NDArray[np.float64]

# Weight of the concentrations' sum against half the squared error. The paper's 0.1 draws the two vectors
# together (13 degrees apart instead of 20 on tiatoolbox's target); 0.02 agrees best with its shipped output.
SPARSITY = 0.02
MOST_PIXELS = 150_000
ROUNDS = 300
STILL = 1e-6  # largest change of a vector's entry in a round that counts as none


def sparse_factors(density: Floats, sparsity: float = SPARSITY, start: Floats | None = None) -> Floats:
    """Two unit vectors of the sparse non-negative factorisation of optical densities.

    Minimises ``1/2 ||V - H W||^2 + sparsity * sum(H)`` over ``H, W >= 0`` with rows of ``W`` of length 1, in
    turns: for fixed vectors the concentrations of a pixel are a lasso of two variables, solved exactly; for
    fixed concentrations each vector is the exact minimum given the other. Nothing is drawn at random: the
    same pixels give the same vectors.

    Parameters
    ----------
    density : float64 (n, 3)
        Optical densities of tissue.
    sparsity : float
        0.1 in the paper; see the note at :data:`SPARSITY`.
    start : float64 (2, 3), optional
        Vectors to begin with; :data:`REFERENCE`'s otherwise.

    Returns
    -------
    float64 (2, 3)

    References
    ----------
    Vahadane et al., "Structure-preserving color normalization and sparse stain separation for histological
    images", IEEE Transactions on Medical Imaging 35(8), 2016, equation 5.

    Examples
    --------
    >>> rng = np.random.default_rng(0)
    >>> amounts = rng.gamma(1.0, 0.6, (5000, 2)) * (rng.random((5000, 2)) < 0.6)
    >>> vectors = sparse_factors(amounts @ REFERENCE.matrix)
    >>> bool(np.abs(vectors - REFERENCE.matrix).max() < 0.08)
    True
    """
    w = REFERENCE.matrix if start is None else unit(start)
    for _ in range(ROUNDS):
        before = w
        h = _concentrations(density, w, sparsity)
        gram, mixed = h.T @ h, h.T @ density
        if (np.diag(gram) <= 1e-12).any():
            break  # one stain explains all; whoever asked judges the vectors
        w = w.copy()
        for j in (0, 1):
            w[j] = np.maximum(w[j] + (mixed[j] - gram[j] @ w) / gram[j, j], 0.0)
            length = np.linalg.norm(w[j])
            w[j] = before[j] if length < 1e-9 else w[j] / length
        if np.abs(w - before).max() < STILL:
            break
    return w


def _concentrations(density: Floats, w: Floats, sparsity: float) -> Floats:
    """The exact non-negative lasso of two variables for each pixel, (n, 2)."""
    overlap = float(w[0] @ w[1])
    alone = density @ w.T - sparsity
    free = (alone - overlap * alone[:, ::-1]) / max(1.0 - overlap * overlap, 1e-9)
    return np.maximum(alone - overlap * np.maximum(free[:, ::-1], 0.0), 0.0)


def vahadane(pixels: npt.NDArray[np.uint8], options: VectorOptions) -> StainEstimate:
    """Vahadane et al. 2016: sparse non-negative factorisation of the tissue's optical density."""
    density, tissue = densities(pixels, options)
    refuse_empty(len(tissue))
    # More pixels than this change nothing but the time.
    some = tissue[:: -(-len(tissue) // MOST_PIXELS)]
    return finish(sparse_factors(some), density, tissue, "vahadane", options)


class VahadaneNormalizer(Normalizer[StainEstimate]):
    """Stain normalisation with vectors from sparse non-negative factorisation (Vahadane et al. 2016).

    Slower to estimate than Macenko's and less swayed by pixels where both stains lie over each other; the
    transform is the same (:class:`MacenkoNormalizer`). Deterministic, unlike dictionary learning packages.

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
    Vahadane et al., "Structure-preserving color normalization and sparse stain separation for histological
    images", IEEE Transactions on Medical Imaging 35(8), 2016.

    Examples
    --------
    >>> amounts = np.random.default_rng(0).uniform(0, 1.5, (64, 64, 2))
    >>> image = (240 * np.exp(-amounts @ REFERENCE.matrix)).astype(np.uint8)
    >>> VahadaneNormalizer().transform(image).shape
    (64, 64, 3)
    """

    method = "vahadane"

    def _reference(self) -> StainEstimate:
        return reference(self.method)
