"""The equations of Harmony on plain arrays."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

__all__ = ["HarmonyRound", "fit_rounds", "replay"]

Floats = NDArray[np.float64]


@dataclass(frozen=True)
class HarmonyRound:
    """One round: soft clusters, and what each batch is moved by in each.

    Attributes
    ----------
    centroids : float (k, d)
        Of unit length.
    balance : float (B, k)
        ((E + 1) / (O + 1))^theta: below 1 where a batch is more frequent in a cluster than overall.
    moves : float (B, k, d)
    """

    centroids: Floats
    balance: Floats
    moves: Floats


def fit_rounds(
    z: Floats,
    batch: NDArray[np.intp],
    *,
    n_clusters: int | None = None,
    theta: float = 2.0,
    sigma: float = 0.1,
    ridge: float = 1.0,
    rounds: int = 10,
    inner_rounds: int = 20,
    block: float = 0.05,
    seed: int = 0,
) -> tuple[list[HarmonyRound], Floats]:
    """Cluster so that batches are mixed in every cluster, move batches together in each, and again.

    Parameters
    ----------
    z : float (n, d)
        Principal components.
    batch : int (n,)
        Codes 0..B-1.
    n_clusters : int, optional
        min(n / 30, 100) otherwise.
    theta, sigma, ridge : float
        Weight of mixing; width of the soft clusters; penalty of the moves.
    rounds, inner_rounds : int
        Most rounds, and most clustering steps in each.
    block : float
        Share of rows whose clusters are renewed at a time.
    seed : int

    Returns
    -------
    (list of HarmonyRound, float (n, d))
        And the corrected components.
    """
    from sklearn.cluster import KMeans

    n, _ = z.shape
    n_batches = int(batch.max()) + 1
    k = n_clusters or int(np.clip(round(n / 30), 2, 100))
    rng = np.random.default_rng(seed)
    share = np.bincount(batch, minlength=n_batches) / n
    found: list[HarmonyRound] = []
    unit = _unit(z)
    centroids = _unit(KMeans(k, n_init=10, random_state=seed).fit(unit).cluster_centers_)
    r = _soft(unit, centroids, sigma)
    corrected = z
    objectives: list[float] = []
    for _ in range(rounds):
        r, centroids, balance, objective = _cluster(
            unit, r, batch, share, theta, sigma, inner_rounds, block, rng
        )
        moves = _moves(z, r, batch, n_batches, ridge)
        corrected = z - _moved(r, batch, moves)
        unit = _unit(corrected)
        found.append(HarmonyRound(centroids, balance, moves))
        objectives.append(objective)
        if len(objectives) > 1 and objectives[-2] - objective < 1e-4 * abs(objectives[-2]):
            break
    return found, corrected


def replay(z: Floats, batch: NDArray[np.intp], rounds: list[HarmonyRound], sigma: float) -> Floats:
    """The same moves for rows of these batches, whether or not they were fitted.

    A row's clusters follow from the centroids and balances that each round ended with, so a row's result
    does not depend on which others are there.
    """
    corrected = z
    for one in rounds:
        r = _soft(_unit(corrected), one.centroids, sigma, one.balance[batch])
        corrected = z - _moved(r, batch, one.moves)
    return corrected


def _cluster(
    unit: Floats,
    r: Floats,
    batch: NDArray[np.intp],
    share: Floats,
    theta: float,
    sigma: float,
    inner_rounds: int,
    block: float,
    rng: np.random.Generator,
) -> tuple[Floats, Floats, Floats, float]:
    n, n_batches = len(unit), len(share)
    parts = max(1, round(1.0 / block))
    observed = _observed(r, batch, n_batches)
    expected = np.outer(share, r.sum(axis=0))
    history: list[float] = []
    centroids = _unit(r.T @ unit)
    for _ in range(inner_rounds):
        centroids = _unit(r.T @ unit)
        distance = 2.0 * (1.0 - unit @ centroids.T)
        near = np.exp(-(distance - distance.min(axis=1, keepdims=True)) / sigma)
        for rows in np.array_split(rng.permutation(n), parts):
            if not len(rows):
                continue
            mine = batch[rows]
            was = _observed(r[rows], mine, n_batches)
            observed -= was
            expected -= np.outer(share, was.sum(axis=0))
            new = near[rows] * (((expected + 1.0) / (observed + 1.0)) ** theta)[mine]
            new /= new.sum(axis=1, keepdims=True)
            r[rows] = new
            now = _observed(new, mine, n_batches)
            observed += now
            expected += np.outer(share, now.sum(axis=0))
        with np.errstate(divide="ignore", invalid="ignore"):
            entropy = np.where(r > 0, r * np.log(r), 0.0).sum()
        diversity = (observed * np.log((observed + 1.0) / (expected + 1.0))).sum()
        history.append(float((r * distance).sum() + sigma * entropy + sigma * theta * diversity))
        if len(history) > 3:
            earlier, later = sum(history[-4:-1]), sum(history[-3:])
            if earlier - later < 1e-5 * abs(earlier):
                break
    balance = ((expected + 1.0) / (observed + 1.0)) ** theta
    return r, centroids, balance, history[-1]


def _moves(z: Floats, r: Floats, batch: NDArray[np.intp], n_batches: int, ridge: float) -> Floats:
    """Ridge regression of the *uncorrected* rows on intercept and batch, weighted by each cluster."""
    k, d = r.shape[1], z.shape[1]
    observed = _observed(r, batch, n_batches)
    moves = np.zeros((n_batches, k, d))
    sums = np.zeros((n_batches, k, d))
    for b in range(n_batches):
        sums[b] = r[batch == b].T @ z[batch == b]
    for c in range(k):
        left = np.zeros((n_batches + 1, n_batches + 1))
        left[0, 0] = observed[:, c].sum()
        left[0, 1:] = left[1:, 0] = observed[:, c]
        left[1:, 1:] = np.diag(observed[:, c] + ridge)
        right = np.vstack([sums[:, c].sum(axis=0), sums[:, c]])
        moves[:, c] = np.linalg.lstsq(left, right, rcond=None)[0][1:]  # the intercept is no batch effect
    return moves


def _moved(r: Floats, batch: NDArray[np.intp], moves: Floats) -> Floats:
    out = np.empty((len(r), moves.shape[2]))
    for b in range(len(moves)):
        out[batch == b] = r[batch == b] @ moves[b]
    return out


def _soft(unit: Floats, centroids: Floats, sigma: float, balance: Floats | None = None) -> Floats:
    distance = 2.0 * (1.0 - unit @ centroids.T)
    r = np.exp(-(distance - distance.min(axis=1, keepdims=True)) / sigma)
    if balance is not None:
        r *= balance
    return np.asarray(r / r.sum(axis=1, keepdims=True))


def _observed(r: Floats, batch: NDArray[np.intp], n_batches: int) -> Floats:
    one_hot = (batch[None, :] == np.arange(n_batches)[:, None]).astype(np.float64)
    return np.asarray(one_hot @ r)


def _unit(x: Floats) -> Floats:
    return np.asarray(x / np.maximum(np.linalg.norm(x, axis=1, keepdims=True), 1e-300))
