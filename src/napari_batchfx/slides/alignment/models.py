"""Fitting a shift, a similarity or an affine to matched positions, and how likely chance does as well."""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

from napari_batchfx.slides.alignment.result import Model

__all__ = ["distances", "fit", "fit_robust", "log10_chance"]

Points = NDArray[np.float64]
Matrix = NDArray[np.float64]
# A turn and scale between two matches that only fit themselves: further apart than any correction.
WIDEST = 0.15
LEAST = {"translation": 1, "similarity": 2, "affine": 3}


def fit(source: Points, target: Points, model: Model) -> Matrix:
    """Least squares (3, 3) that takes ``source`` to ``target``, both (n, 2) of (y, x); no mirror.

    The similarity is the closed form of Umeyama 1991 (IEEE TPAMI 13:376) in complex numbers.
    """
    matrix = np.eye(3)
    p, q = source.mean(axis=0), target.mean(axis=0)
    if model == "translation":
        matrix[:2, 2] = q - p
        return matrix
    x, y = source - p, target - q
    if model == "similarity":
        z, w = x[:, 0] + 1j * x[:, 1], y[:, 0] + 1j * y[:, 1]
        alpha = complex((z.conj() @ w) / max(float((z.conj() @ z).real), 1e-12))
        matrix[:2, :2] = [[alpha.real, -alpha.imag], [alpha.imag, alpha.real]]
    else:
        matrix[:2, :2] = np.linalg.lstsq(x, y, rcond=None)[0].T
    matrix[:2, 2] = q - matrix[:2, :2] @ p
    return matrix


def distances(matrix: Matrix, source: Points, target: Points) -> NDArray[np.float64]:
    """How far apart the pairs are after ``matrix``, (n,)."""
    moved = source @ matrix[:2, :2].T + matrix[:2, 2]
    return np.asarray(np.hypot(*(moved - target).T))


def fit_robust(
    source: Points, target: Points, model: Model, tolerance: float
) -> tuple[Matrix, NDArray[np.bool_]] | None:
    """The model most pairs agree on, and which do; None with too few pairs.

    Every pair of matches (every match, for a shift) proposes a model, so nothing is drawn at random; the one
    with the most matches within ``tolerance`` is refitted by least squares on those until they stay the same.
    The proposals are corrections near the identity: a turn or scale of more than 0.15 isn't looked at.
    """
    n = len(source)
    if n < max(3, LEAST[model]):
        return None
    z, w = source @ [1, 1j], target @ [1, 1j]
    if model == "translation":
        alpha, beta = np.ones(n, complex), w - z
    else:
        i, j = np.triu_indices(n, 1)
        apart = z[j] - z[i]
        far = np.abs(apart) > 0.15 * np.abs(z - z.mean()).max()
        i, j, apart = i[far], j[far], apart[far]
        alpha = (w[j] - w[i]) / apart
        near = np.abs(alpha - 1) < WIDEST
        alpha, i = alpha[near], i[near]
        beta = w[i] - alpha * z[i]
    if not len(alpha):
        return None
    miss = np.abs(alpha[:, None] * z[None] + beta[:, None] - w[None])
    # truncated quadratic: of models with as many matches the tighter one
    best = int(np.argmin((np.minimum(miss, tolerance) ** 2).sum(axis=1)))
    inside = miss[best] <= tolerance
    first: Model = "translation" if model == "translation" else "similarity"
    matrix = np.eye(3)
    # an affine needs matches to hold it at all sides
    steps: list[Model] = [first] * 5 + (["affine"] * 5 if model == "affine" else [])
    for number, kind in enumerate(steps):
        if number == 5:
            # what is sheared lies off the best similarity
            inside = distances(matrix, source, target) <= 3 * tolerance
        if int(inside.sum()) < (8 if kind == "affine" else LEAST[kind]):
            break
        matrix = fit(source[inside], target[inside], kind)
        inside = distances(matrix, source, target) <= tolerance
    return matrix, inside


def log10_chance(k: int, n: int, p: float) -> float:
    """Logarithm of the chance that k or more of n independent matches agree where each does with chance p.

    An a contrario test (Moisan, Stival 2004, Int. J. Comput. Vis. 57:201): matches of unrelated windows lie
    anywhere in the searched square.
    """
    from scipy import stats

    if k <= 0 or n <= 0:
        return 0.0
    return float(stats.binom.logsf(k - 1, n, min(max(p, 1e-12), 1.0)) / math.log(10))
