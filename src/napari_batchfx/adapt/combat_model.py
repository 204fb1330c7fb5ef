"""The equations of ComBat on plain arrays, samples in rows."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, TypeAlias

import numpy as np
from numpy.typing import NDArray

__all__ = ["CombatBase", "Prior", "adjust", "batch_effect", "combat", "fit_base"]

Prior: TypeAlias = Literal["parametric", "nonparametric", "none"]
Floats: TypeAlias = NDArray[np.float64]

_FLAT = 1e-12
_CONVERGED = 1e-4
_MOST_ROUNDS = 1000
_BLOCK = 256


@dataclass(frozen=True)
class CombatBase:
    """What all batches share.

    Attributes
    ----------
    mean : float (d,)
        Grand mean, at covariates 0.
    coefficients : float (k, d)
        Of the covariates.
    sd : float (d,)
        Residual standard deviation; 0 where a feature doesn't vary.
    """

    mean: Floats
    coefficients: Floats
    sd: Floats

    def standardise(self, x: Floats, covariates: Floats) -> Floats:
        """Rows as z = (x - mean - covariates coefficients) / sd; 0 where a feature doesn't vary."""
        residual = x - self.mean - covariates @ self.coefficients
        return np.asarray(np.where(self.sd > 0, residual / np.where(self.sd > 0, self.sd, 1.0), 0.0))


def fit_base(
    x: Floats, batch: NDArray[np.intp], covariates: Floats, reference: int | None = None
) -> CombatBase:
    """Means and residual variances, by least squares on one-hot batches and covariates.

    Parameters
    ----------
    x : float (n, d)
    batch : int (n,)
        Codes 0..B-1, each present.
    covariates : float (n, k)
        Columns to preserve; categorical ones without their first level.
    reference : int, optional
        Batch whose mean and variance are the target.

    Raises
    ------
    ValueError
        If batches and covariates can't be told apart.
    """
    n_batches = int(batch.max()) + 1
    one_hot = np.zeros((len(x), n_batches))
    one_hot[np.arange(len(x)), batch] = 1.0
    design = np.hstack([one_hot, covariates])
    if np.linalg.matrix_rank(design) < design.shape[1]:
        raise ValueError("covariates and batches can't be told apart")
    beta = np.linalg.solve(design.T @ design, design.T @ x)
    means, coefficients = beta[:n_batches], beta[n_batches:]
    if reference is None:
        mean = (np.bincount(batch, minlength=n_batches) / len(x)) @ means
        rows = np.ones(len(x), dtype=bool)
    else:
        mean = means[reference]
        rows = batch == reference
    variance = ((x[rows] - design[rows] @ beta) ** 2).mean(axis=0)
    size = np.abs(x).max(axis=0, initial=0.0)
    sd = np.where(variance > (_FLAT * np.maximum(size, 1e-300)) ** 2, np.sqrt(variance), 0.0)
    return CombatBase(mean, coefficients, sd)


def batch_effect(z: Floats, prior: Prior = "parametric", mean_only: bool = False) -> tuple[Floats, Floats]:
    """Shift (d,) and variance (d,) of one batch's standardised rows (n, d), drawn towards their priors.

    The priors are the distribution of shifts and variances over the features.

    Parameters
    ----------
    z : float (n, d)
    prior : {"parametric", "nonparametric", "none"}
        Normal and inverse gamma; the features themselves; or no empirical Bayes.
    mean_only : bool
        Variances are 1. As in the published programs, the number of samples then doesn't enter the shift.
    """
    n = len(z)
    shift = z.mean(axis=0)
    variance = np.ones_like(shift) if mean_only else z.var(axis=0, ddof=1)
    if prior == "none" or z.shape[1] < 3:
        return shift, variance
    if prior == "nonparametric":
        return _nonparametric(z, shift, variance, mean_only)
    centre, spread = float(shift.mean()), float(shift.var(ddof=1))
    if mean_only:
        return (spread * shift + centre) / (spread + 1.0), variance
    m, s2 = float(variance.mean()), float(variance.var(ddof=1))
    if s2 <= 0:
        return shift, variance
    a, b = (2.0 * s2 + m**2) / s2, (m * s2 + m**3) / s2
    sum_z, sum_zz = z.sum(axis=0), (z**2).sum(axis=0)
    old_shift, old_variance = shift, variance
    for _ in range(_MOST_ROUNDS):
        new_shift = (spread * n * shift + old_variance * centre) / (spread * n + old_variance)
        squares = sum_zz - 2.0 * new_shift * sum_z + n * new_shift**2
        new_variance = (0.5 * squares + b) / (n / 2.0 + a - 1.0)
        # as published: by the signed value, so shifts below 0 don't count
        change = max(_change(new_shift, old_shift), _change(new_variance, old_variance))
        old_shift, old_variance = new_shift, new_variance
        if change < _CONVERGED:
            break
    return old_shift, old_variance


def _change(new: Floats, old: Floats) -> float:
    """Largest change relative to the old values; of an old 0 none where it stays, else without bound."""
    moved = np.abs(new - old)
    never = np.where(moved > 0, np.inf, 0.0)
    return float(np.divide(moved, old, out=never, where=old != 0).max())


def _nonparametric(z: Floats, shift: Floats, variance: Floats, mean_only: bool) -> tuple[Floats, Floats]:
    """Means over all other features' shifts and variances, weighted by how well each explains a feature."""
    n, d = z.shape
    sum_z, sum_zz = z.sum(axis=0), (z**2).sum(axis=0)
    out_shift, out_variance = np.empty(d), np.empty(d)
    for start in range(0, d, _BLOCK):
        rows = np.arange(start, min(start + _BLOCK, d))
        squares = sum_zz[rows, None] - 2.0 * sum_z[rows, None] * shift + n * shift**2
        log_like = -0.5 * n * np.log(2.0 * np.pi * variance) - squares / (2.0 * variance)
        log_like[np.arange(len(rows)), rows] = -np.inf
        weight = np.exp(log_like - log_like.max(axis=1, keepdims=True))
        weight /= weight.sum(axis=1, keepdims=True)
        out_shift[rows], out_variance[rows] = weight @ shift, weight @ variance
    return out_shift, np.ones(d) if mean_only else out_variance


def adjust(x: Floats, covariates: Floats, base: CombatBase, shift: Floats, variance: Floats) -> Floats:
    """Corrected rows, x' = sd (z - shift) / sqrt(variance) + mean + covariates coefficients."""
    z = base.standardise(x, covariates)
    expected = base.mean + covariates @ base.coefficients
    adjusted = base.sd * (z - shift) / np.sqrt(variance) + expected
    return np.where(base.sd > 0, adjusted, x)


def combat(
    x: Floats,
    batch: NDArray[np.intp],
    covariates: Floats | None = None,
    *,
    prior: Prior = "parametric",
    mean_only: bool = False,
    reference: int | None = None,
) -> Floats:
    """All rows corrected together, as the published programs do it.

    Examples
    --------
    >>> x = np.random.default_rng(0).normal(size=(20, 8)); batch = np.repeat([0, 1], 10)
    >>> x[10:] += 5
    >>> out = combat(x, batch)
    >>> bool(abs(out[:10].mean() - out[10:].mean()) < 0.1)
    True
    """
    kept = np.zeros((len(x), 0)) if covariates is None else covariates
    base = fit_base(x, batch, kept, reference)
    out = x.astype(np.float64, copy=True)
    varying = base.sd > 0
    z = base.standardise(x, kept)
    for b in range(int(batch.max()) + 1):
        if b == reference:
            continue
        rows = batch == b
        shift, variance = np.zeros(x.shape[1]), np.ones(x.shape[1])
        shift[varying], variance[varying] = batch_effect(z[rows][:, varying], prior, mean_only)
        out[rows] = adjust(x[rows], kept[rows], base, shift, variance)
    return out
