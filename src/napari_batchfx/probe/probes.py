"""The classifiers a site probe can use, each as something that gives logits for new tiles."""

from __future__ import annotations

import warnings
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from napari_batchfx.errors import ProbeError
from napari_batchfx.probe.devices import TorchRows
from napari_batchfx.probe.logistic import _few_threads
from napari_batchfx.probe.statistics import balance_weights

__all__ = [
    "PROBES",
    "LinearScorer",
    "LogisticFits",
    "NeighbourScorer",
    "ProbeName",
    "Rows",
    "Scaler",
    "check_probe",
    "fit_centroids",
    "fit_neighbours",
]

#: Features of tiles (n, d): in numpy, or on a device.
Rows = NDArray[np.float32] | TorchRows
ProbeName = Literal["logistic", "centroid", "knn", "linear"]
PROBES: tuple[ProbeName, ...] = ("logistic", "centroid", "knn", "linear")

NEIGHBOURS = 5
MAX_REFERENCE = 10_000
_ROWS = 8192
_ABSENT = -27.6  # log(1e-12): the logit of a batch that no training tile has


def check_probe(name: str) -> ProbeName:
    """The name again, if there is such a probe.

    Raises
    ------
    ProbeError
        If there is none.
    """
    for known in PROBES:
        if name == known:
            return known
    raise ProbeError(f"There is no probe {name}; choose of {', '.join(PROBES)}.")


@dataclass(frozen=True)
class Scaler:
    """Mean and standard deviation (d,) of training tiles, float32; infinite for a constant feature."""

    mean: NDArray[np.float32]
    scale: NDArray[np.float32]

    @classmethod
    def fit(cls, x: Rows, weight: NDArray[np.floating]) -> Scaler:
        """Weighted mean and deviation of ``x`` (n, d), in blocks."""
        share = np.asarray(weight, dtype=np.float64) / float(np.sum(weight))
        mean, sd = x.moments(share) if isinstance(x, TorchRows) else _moments(x, share)
        # relative to the size of the values: float32 rounding must not pass for a signal
        constant = sd <= 1e-6 * np.maximum(np.abs(mean), 1e-12)
        scale = np.where(constant, np.inf, np.where(sd > 0, sd, 1.0))
        return cls(mean.astype(np.float32), scale.astype(np.float32))

    def apply_inplace(self, x: Rows) -> Rows:
        """Standardise ``x`` (n, d) where it lies."""
        if isinstance(x, TorchRows):
            return x.standardise(self.mean, self.scale)
        for i in range(0, len(x), _ROWS):
            block = x[i : i + _ROWS]
            block -= self.mean
            block /= self.scale
        return x


def _moments(
    x: NDArray[np.float32], share: NDArray[np.float64]
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Weighted mean and standard deviation (d,), in float64 and in blocks."""
    mean = np.zeros(x.shape[1])
    for i in range(0, len(x), _ROWS):
        mean += share[i : i + _ROWS] @ x[i : i + _ROWS].astype(np.float64)
    variance = np.zeros(x.shape[1])
    for i in range(0, len(x), _ROWS):
        variance += share[i : i + _ROWS] @ (x[i : i + _ROWS] - mean) ** 2
    return mean, np.sqrt(variance)


@dataclass(frozen=True)
class LinearScorer:
    """Logits ``(x - mean) @ coef + intercept``: mean (d,), coef (d, b), intercept (b,), all float32."""

    mean: NDArray[np.float32]
    coef: NDArray[np.float32]
    intercept: NDArray[np.float32]

    def logits(self, x: Rows) -> NDArray[np.float64]:
        """Logits (n, b) of raw features (n, d)."""
        if isinstance(x, TorchRows):
            return x.logits(self.mean, self.coef, self.intercept)
        out = np.empty((len(x), len(self.intercept)))
        with _few_threads(x.size):
            for i in range(0, len(x), _ROWS):
                out[i : i + _ROWS] = (x[i : i + _ROWS] - self.mean) @ self.coef + self.intercept
        return out

    def arrays(self) -> dict[str, NDArray[Any]]:
        """What there is to save."""
        return {"mean": self.mean, "coef": self.coef, "intercept": self.intercept}


@dataclass(frozen=True)
class NeighbourScorer:
    """Weighted votes of the nearest reference tiles: rows (m, d), their batch (m,) and weight (m,)."""

    mean: NDArray[np.float32]
    rows: NDArray[np.float32]
    y: NDArray[np.intp]
    weight: NDArray[np.float32]
    n_classes: int

    def logits(self, x: NDArray[np.float32]) -> NDArray[np.float64]:
        """Log shares of the votes (n, b), with half a vote for every batch together."""
        from sklearn.neighbors import NearestNeighbors

        k = min(NEIGHBOURS, len(self.rows))
        index = NearestNeighbors(n_neighbors=k, algorithm="brute").fit(self.rows)
        votes = np.zeros((len(x), self.n_classes))
        for i in range(0, len(x), _ROWS):
            near = index.kneighbors(x[i : i + _ROWS] - self.mean, return_distance=False)
            at = np.repeat(np.arange(i, i + len(near)), k)
            np.add.at(votes, (at, self.y[near].ravel()), self.weight[near].ravel())
        half = 0.5 * float(self.weight.mean()) / self.n_classes
        votes += half
        return np.asarray(np.log(votes / votes.sum(axis=1, keepdims=True)))

    def arrays(self) -> dict[str, NDArray[Any]]:
        """What there is to save."""
        return {
            "mean": self.mean,
            "rows": self.rows,
            "y": self.y.astype(np.int64),
            "weight": self.weight,
        }


class LogisticFits:
    """scikit-learn's logistic regression (lbfgs) on standardised tiles, from one strength to the next.

    Two batches are fitted as the symmetric softmax of two, so that ``C`` means the same for any number.
    """

    def __init__(self, n_classes: int) -> None:
        self._b = n_classes
        self._model: Any = None

    def fit(
        self, z: Rows, y: NDArray[np.intp], weight: NDArray[np.floating], c: float
    ) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """Coefficients (d, b) and intercepts (b,); starts at the last fit of the same rows."""
        present = np.unique(y)
        d = z.tensor.shape[1] if isinstance(z, TorchRows) else z.shape[1]
        coef, intercept = np.zeros((d, self._b)), np.full(self._b, _ABSENT)
        if len(present) == 1:
            intercept[present[0]] = 0.0
            return coef, intercept
        from sklearn.exceptions import ConvergenceWarning
        from sklearn.linear_model import LogisticRegression

        two = len(present) == 2
        if self._model is None:
            self._model = LogisticRegression(solver="lbfgs", max_iter=300, tol=1e-4, warm_start=True)
        # of two, one w = w1 - w0 is fitted: |w0|^2 + |w1|^2 = |w|^2 / 2
        self._model.set_params(C=2 * c if two else c)
        with warnings.catch_warnings(), _few_threads(len(z) * d):
            warnings.simplefilter("ignore", ConvergenceWarning)  # a probe 300 steps in predicts the same
            if isinstance(z, TorchRows):
                from sklearn import config_context

                with config_context(array_api_dispatch=True):
                    given = z.beside(np.asarray(weight, dtype=np.float64))
                    self._model.fit(z.tensor, z.beside(y), sample_weight=given)
            else:
                self._model.fit(z, y, sample_weight=np.asarray(weight, dtype=np.float64))
        found, start = _numpy(self._model.coef_), _numpy(self._model.intercept_)
        if two:
            coef[:, present] = np.outer(found[0], (-0.5, 0.5))
            intercept[present] = start[0] * np.array((-0.5, 0.5))
        else:
            coef[:, present] = found.T
            intercept[present] = start
        return coef, intercept


def _numpy(values: Any) -> NDArray[np.float64]:
    """What scikit-learn fitted, from whatever device."""
    return np.asarray(values if isinstance(values, np.ndarray) else values.cpu().numpy())


def fit_centroids(
    x: NDArray[np.float32], y: NDArray[np.intp], weight: NDArray[np.floating], n_classes: int
) -> LinearScorer:
    """Nearest centroid by Euclidean distance, written as logits ``-|x - m_b|^2 / (2 s^2)`` less a constant.

    Parameters
    ----------
    x : float32 (n, d)
        Raw features: no feature is scaled by itself, so a rotation changes nothing.
    y : int (n,)
        Batches, 0 .. n_classes - 1.
    weight : float (n,)
        A slide's tiles weigh as much as another slide's.

    Returns
    -------
    LinearScorer
    """
    w = np.asarray(weight, dtype=np.float64)
    total = np.array([w[y == k].sum() for k in range(n_classes)])
    # sums of a batch at a time: a one-hot product would need the features in float64
    sums = np.stack([(w[y == k].astype(np.float32) @ x[y == k]).astype(np.float64) for k in range(n_classes)])
    means = sums / np.maximum(total, 1e-300)[:, None]
    mean = np.average(means[total > 0], axis=0)
    centred = means - mean
    spread = 0.0
    for i in range(0, len(x), _ROWS):
        block = x[i : i + _ROWS] - means[y[i : i + _ROWS]]
        spread += float(w[i : i + _ROWS] @ np.einsum("ij,ij->i", block, block))
    variance = spread / w.sum() / x.shape[1]  # of a feature, on average
    size = float(np.mean(np.abs(mean))) if len(mean) else 0.0
    if variance <= (1e-6 * max(size, 1e-12)) ** 2:
        variance = float(np.mean(centred**2))
        if variance <= (1e-6 * max(size, 1e-12)) ** 2:
            centred, variance = np.zeros_like(centred), 1.0
    intercept = np.where(total > 0, -0.5 * (centred**2).sum(axis=1) / variance, _ABSENT)
    return LinearScorer(
        mean.astype(np.float32), (centred / variance).T.astype(np.float32), intercept.astype(np.float32)
    )


def fit_neighbours(
    x: NDArray[np.float32],
    y: NDArray[np.intp],
    slide: NDArray[np.intp],
    n_classes: int,
    seed: int,
) -> NeighbourScorer:
    """Reference tiles of a vote of the five nearest: at most 10,000, drawn evenly over slides and batches."""
    rows = np.arange(len(y))
    if len(rows) > MAX_REFERENCE:
        weight = balance_weights(y, slide)
        rng = np.random.default_rng([seed, 5])
        rows = np.sort(rng.choice(len(y), MAX_REFERENCE, replace=False, p=weight / weight.sum()))
    weight = balance_weights(y[rows], slide[rows])
    reference = x[rows]
    # distances of float32 values far from zero lose their digits
    mean = reference.mean(axis=0, dtype=np.float64).astype(np.float32)
    return NeighbourScorer(
        mean, reference - mean, y[rows].astype(np.intp), weight.astype(np.float32), n_classes
    )
