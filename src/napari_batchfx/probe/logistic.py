"""Multinomial logistic regression that is quick enough to be fitted hundreds of times.

The weighted, L2-penalised softmax regression is solved with L-BFGS in the eigenbasis of the training
features, each direction scaled by the curvature expected there. That is only a change of coordinates: the
optimum is the one of the usual problem, reached in a fraction of the steps.
"""

from __future__ import annotations

from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from functools import cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

__all__ = ["Basis", "SoftmaxWeights", "fit_softmax", "fit_temperature", "log_loss", "softmax"]

_CURVATURE = 0.1  # p (1 - p) of a fairly sure prediction; only the speed depends on it


_SMALL = 50_000_000  # numbers; below, threads of the matrix product cost more than they bring


@cache
def _pools() -> Any:
    from threadpoolctl import ThreadpoolController  # type: ignore[import-untyped]

    return ThreadpoolController()


def _few_threads(size: int) -> AbstractContextManager[Any]:
    """One BLAS thread for a small problem: hundreds of tiny products would wait for threads only."""
    if size > _SMALL:
        return nullcontext()
    limited: AbstractContextManager[Any] = _pools().limit(limits=1, user_api="blas")
    return limited


def softmax(logits: NDArray[np.floating]) -> NDArray[np.float64]:
    """Row-wise softmax, (n, b) -> (n, b) float64."""
    z = np.asarray(logits, dtype=np.float64)
    e = np.exp(z - z.max(axis=1, keepdims=True))
    return np.asarray(e / e.sum(axis=1, keepdims=True))


def log_loss(
    logits: NDArray[np.floating], y: NDArray[np.intp], weight: NDArray[np.floating], temperature: float = 1.0
) -> float:
    """Weighted mean negative log likelihood of the true classes ``y`` (n,)."""
    z = np.asarray(logits, dtype=np.float64) / temperature
    top = z.max(axis=1)
    nll = top + np.log(np.exp(z - top[:, None]).sum(axis=1)) - z[np.arange(len(y)), y]
    return float(np.average(nll, weights=weight))


@dataclass(frozen=True)
class Basis:
    """Training features standardised and turned into their eigenbasis.

    Attributes
    ----------
    mean, scale : float64 (d,)
        Weighted mean and standard deviation over the training rows; ``scale`` is infinite for a constant
        feature, so that it counts for nothing.
    vectors : float32 (d, r)
        Eigenvectors of the standardised features, with r = min(d, n).
    values : float64 (r,)
        Their variances.
    """

    mean: NDArray[np.float64]
    scale: NDArray[np.float64]
    vectors: NDArray[np.float32]
    values: NDArray[np.float64]

    @classmethod
    def fit(cls, x: NDArray[np.floating], weight: NDArray[np.floating], rank: int | None = None) -> Basis:
        """Estimate the basis from training rows ``x`` (n, d); ``rank`` keeps only the leading directions."""
        with _few_threads(x.size):
            return cls._fit(x, weight, rank)

    @classmethod
    def _fit(cls, x: NDArray[np.floating], weight: NDArray[np.floating], rank: int | None) -> Basis:
        n, d = x.shape
        share = np.asarray(weight, dtype=np.float64) / float(np.sum(weight))
        mean = share @ x
        centred = x - mean.astype(x.dtype)
        sd = np.sqrt(share @ (centred.astype(np.float64) ** 2 if x.size < 10**7 else centred**2))
        # relative to the size of the values: float32 rounding must not pass for a signal
        constant = sd <= 1e-6 * np.maximum(np.abs(mean), 1e-12)
        scale = np.where(constant, np.inf, np.where(sd > 0, sd, 1.0))
        z = (centred / scale.astype(np.float32)) * np.sqrt(share * n).astype(np.float32)[:, None]
        z = np.asarray(z, dtype=np.float32)
        if d <= n:
            values, vectors = np.linalg.eigh((z.T @ z).astype(np.float64) / n)
        else:
            # by the representer theorem the weights lie in the span of the rows: the n x n problem is enough
            values, left = np.linalg.eigh((z @ z.T).astype(np.float64) / n)
            keep = values > 1e-8 * max(values[-1], 1e-12)
            values = values[keep]
            vectors = z.T.astype(np.float64) @ left[:, keep] / np.sqrt(values * n)
        values, vectors = np.maximum(values[::-1], 0.0), vectors[:, ::-1]
        if rank is not None:
            values, vectors = values[:rank], vectors[:, :rank]
        return cls(mean, scale, np.ascontiguousarray(vectors, dtype=np.float32), np.ascontiguousarray(values))

    def transform(self, x: NDArray[np.floating]) -> NDArray[np.float32]:
        """Rows (n, d) -> (n, r) in the basis."""
        z = (x - self.mean.astype(x.dtype)) / self.scale.astype(np.float32)
        with _few_threads(z.size):
            return np.asarray(np.asarray(z, dtype=np.float32) @ self.vectors, dtype=np.float32)


@dataclass(frozen=True)
class SoftmaxWeights:
    """Weights (r, b) and intercepts (b,) of a softmax regression in a :class:`Basis`."""

    coef: NDArray[np.float64]
    intercept: NDArray[np.float64]

    def logits(self, z: NDArray[np.float32]) -> NDArray[np.float64]:
        """Logits (n, b) of rows (n, r)."""
        with _few_threads(z.size):
            return np.asarray(z @ self.coef.astype(np.float32) + self.intercept, dtype=np.float64)


def fit_softmax(
    z: NDArray[np.float32],
    values: NDArray[np.float64],
    y: NDArray[np.intp],
    weight: NDArray[np.floating],
    c: float,
    n_classes: int,
    start: SoftmaxWeights | None = None,
    max_iter: int = 200,
    tol: float = 1e-4,
) -> SoftmaxWeights:
    """Fit a softmax regression: minimise ``C * sum_i w_i nll_i + ||W||^2 / 2``, intercepts not penalised.

    Parameters
    ----------
    z : float32 (n, r)
        Rows in a basis; ``values`` (r,) are the variances of its directions.
    y : int (n,)
        Class of each row, 0 .. n_classes - 1.
    weight : float (n,)
        Sample weights, scaled here to a mean of 1.
    c : float
        Inverse strength of the penalty, as scikit-learn's ``C``.
    start : SoftmaxWeights, optional
        Where to start (the fit at a smaller ``c``, say).

    Returns
    -------
    SoftmaxWeights

    Examples
    --------
    >>> rng = np.random.default_rng(0)
    >>> y = np.repeat([0, 1], 50)
    >>> x = rng.normal(size=(100, 3)).astype(np.float32); x[:, 0] += 3 * y
    >>> basis = Basis.fit(x, np.ones(100))
    >>> fit = fit_softmax(basis.transform(x), basis.values, y, np.ones(100), 1.0, 2)
    >>> bool((fit.logits(basis.transform(x)).argmax(1) == y).mean() > 0.9)
    True
    """
    from scipy.optimize import minimize

    n, r = z.shape
    w = np.asarray(weight, dtype=np.float64)
    share = w / w.sum()
    penalty = 1.0 / (c * n)
    step = 1.0 / np.sqrt(_CURVATURE * values + penalty)
    target = np.zeros((n, n_classes))
    target[np.arange(n), y] = 1.0
    rows = np.arange(n)
    step32 = step.astype(np.float32)[:, None]

    def objective(flat: NDArray[np.float64]) -> tuple[float, NDArray[np.float64]]:
        u = flat[: r * n_classes].reshape(r, n_classes)
        logits = (z @ (u.astype(np.float32) * step32)).astype(np.float64) + flat[r * n_classes :]
        top = logits.max(axis=1, keepdims=True)
        p = np.exp(logits - top)
        total = p.sum(axis=1, keepdims=True)
        nll = top[:, 0] + np.log(total[:, 0]) - logits[rows, y]
        residual = (p / total - target) * share[:, None]
        coef = u * step[:, None]
        loss = float(share @ nll + 0.5 * penalty * np.sum(coef * coef))
        grad = (z.T @ residual.astype(np.float32)).astype(np.float64) + penalty * coef
        return loss, np.concatenate([(grad * step[:, None]).ravel(), residual.sum(axis=0)])

    if start is None:
        prior = np.maximum(np.bincount(y, weights=share, minlength=n_classes), 1e-12)
        x0 = np.concatenate([np.zeros(r * n_classes), np.log(prior)])
    else:
        x0 = np.concatenate([(start.coef / step[:, None]).ravel(), start.intercept])
    options = {"maxiter": max_iter, "gtol": tol, "ftol": tol * 1e-4}
    with _few_threads(z.size):
        found = minimize(objective, x0, jac=True, method="L-BFGS-B", options=options)
    coef = found.x[: r * n_classes].reshape(r, n_classes) * step[:, None]
    return SoftmaxWeights(coef, found.x[r * n_classes :])


def fit_temperature(
    logits: NDArray[np.floating],
    y: NDArray[np.intp],
    weight: NDArray[np.floating],
    bounds: tuple[float, float] = (0.2, 20.0),
) -> float:
    """Temperature (> 0) by which held-out logits are divided so that their probabilities are honest.

    Guo et al. 2017, "On calibration of modern neural networks", ICML: the one-parameter form of Platt
    scaling.
    """
    from scipy.optimize import minimize_scalar

    found = minimize_scalar(
        lambda t: log_loss(logits, y, weight, float(np.exp(t))),
        bounds=(np.log(bounds[0]), np.log(bounds[1])),
        method="bounded",
    )
    return float(np.exp(found.x))
