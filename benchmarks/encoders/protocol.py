"""How encoders are compared on labelled tiles: a linear probe and nearest neighbours, the same for every encoder.

Features are standardised with the training rows. The linear probe is the site probe's L2-penalised softmax
regression, every class weighing the same, its penalty chosen inside the training rows; the neighbours are the five
nearest by cosine similarity, each voting with its similarity. Nothing is chosen by looking at test rows.
"""

from __future__ import annotations

import numpy as np

from napari_batchfx.probe.crossfit import C_GRID
from napari_batchfx.probe.folds import grouped_folds
from napari_batchfx.probe.logistic import Basis, fit_softmax, log_loss

NEIGHBOURS = 5


def linear(x: np.ndarray, y: np.ndarray, group: np.ndarray, test: np.ndarray, seed: int = 0) -> np.ndarray:
    """Classes (0 .. k - 1) of the rows ``test`` by a linear probe of ``x`` (n, d), ``y`` (n,), grouped by ``group``."""
    k = int(y.max()) + 1
    weight = (1.0 / np.maximum(np.bincount(y, minlength=k), 1))[y]
    groups = np.unique(group, return_inverse=True)[1]
    fewest = min(len(np.unique(groups[y == c])) for c in range(k))
    splits = min(3, fewest)
    best = C_GRID[2]
    if splits > 1:
        fold = grouped_folds(groups, y, splits, seed)
        losses = np.zeros(len(C_GRID))
        for f in range(splits):
            inner, held = fold != f, fold == f
            basis = Basis.fit(x[inner], weight[inner])
            z, zh = basis.transform(x[inner]), basis.transform(x[held])
            start = None
            for i, c in enumerate(C_GRID):
                start = fit_softmax(z, basis.values, y[inner], weight[inner], c, k, start)
                losses[i] += log_loss(start.logits(zh), y[held], weight[held])
        best = C_GRID[int(np.argmin(losses))]
    basis = Basis.fit(x, weight)
    fit = fit_softmax(basis.transform(x), basis.values, y, weight, best, k)
    return fit.logits(basis.transform(test)).argmax(1)


def neighbours(
    x: np.ndarray, y: np.ndarray, group: np.ndarray, test: np.ndarray, seed: int = 0
) -> np.ndarray:
    """Classes of the rows ``test`` by their five nearest training rows; ``group`` and ``seed`` aren't used."""
    mean, sd = x.mean(0), x.std(0)
    sd = np.where(sd > 1e-6 * np.maximum(np.abs(mean), 1e-6), sd, np.inf)
    a, b = (x - mean) / sd, (test - mean) / sd
    a = a / np.maximum(np.linalg.norm(a, axis=1, keepdims=True), 1e-9)
    b = b / np.maximum(np.linalg.norm(b, axis=1, keepdims=True), 1e-9)
    similar = b @ a.T
    near = np.argsort(-similar, axis=1, kind="stable")[:, :NEIGHBOURS]
    votes = np.zeros((len(test), int(y.max()) + 1))
    for j in range(near.shape[1]):
        np.add.at(
            votes, (np.arange(len(test)), y[near[:, j]]), 1.0 + np.take_along_axis(similar, near, 1)[:, j]
        )
    return votes.argmax(1)


PROBES = {"linear probe": linear, "nearest neighbours": neighbours}


def balanced_accuracy(y: np.ndarray, predicted: np.ndarray) -> float:
    """Mean over the classes of the share found."""
    return float(np.mean([(predicted[y == c] == c).mean() for c in np.unique(y)]))


def cross_validated(x, y, group, probe, *, splits: int = 5, seed: int = 0) -> np.ndarray:
    """Class of every row by a probe that saw other groups only, (n,)."""
    groups = np.unique(group, return_inverse=True)[1]
    fold = grouped_folds(groups, y, splits, seed)
    out = np.empty(len(y), int)
    for f in range(splits):
        train, held = fold != f, fold == f
        out[held] = probe(x[train], y[train], groups[train], x[held], seed)
    return out
