"""How well relabelled slides are recognised: what the true labels are compared with."""

from __future__ import annotations

from collections.abc import Generator
from itertools import chain

import numpy as np
from numpy.typing import NDArray

from napari_batchfx.jobs import Progress, Ticker
from napari_batchfx.probe.design import Design
from napari_batchfx.probe.folds import buffer, grouped_folds
from napari_batchfx.probe.inner import keep_batches
from napari_batchfx.probe.logistic import Basis, fit_softmax
from napari_batchfx.probe.probes import ProbeName, fit_centroids, fit_neighbours
from napari_batchfx.probe.relabellings import Relabellings
from napari_batchfx.probe.statistics import balance_weights, balanced_accuracy

__all__ = ["MAX_PERMUTATION_RANK", "MAX_PERMUTATION_ROWS", "permutation_scores"]

MAX_PERMUTATION_ROWS = 3_000
MAX_PERMUTATION_RANK = 128


def permutation_scores(
    design: Design,
    c: float,
    permutations: int,
    seed: int,
    ticker: Ticker,
    probe: ProbeName = "logistic",
) -> Generator[Progress, None, tuple[NDArray[np.float64], int]]:
    """Balanced accuracy with the true labels (first) and with labels moved between whole units.

    Also how many relabellings exist: where that is fewer than ``permutations``, each of them is scored once.

    Units in groups are dealt into folds anew for every relabelling, exactly as for the true labels, so that
    the comparison is fair; spatial blocks exchange labels within their fold, which stays where it is. The
    Adam layer is stood in for by the logistic regression, which has the same boundaries.
    """
    rng = np.random.default_rng([seed, 7])
    b = len(design.batches)
    y, slide = design.y, design.slide
    grouping = design.grouping
    rows = np.arange(len(y))
    if len(rows) > MAX_PERMUTATION_ROWS:
        weight = balance_weights(y, slide)
        rows = np.sort(rng.choice(len(y), MAX_PERMUTATION_ROWS, replace=False, p=weight / weight.sum()))
    y, unit, fold, blocks = y[rows], grouping.unit[rows], grouping.fold[rows], grouping.in_blocks[rows]
    # label-free, so the same for every relabelling; units are balanced because labels move with units
    even = balance_weights(np.zeros(len(rows), dtype=np.intp), unit)
    raw = design.x[rows]
    basis = Basis.fit(raw, even, rank=MAX_PERMUTATION_RANK)
    z = basis.transform(raw)
    within = np.where(blocks, fold, -1)
    mixed = bool(blocks.any() and not blocks.all())
    if mixed:  # a block may stand for a batch of one patient: it exchanges labels with patients too
        within = np.zeros_like(within)
    touching: dict[int, NDArray[np.bool_]] = {}
    if blocks.all() and design.yx is not None:
        for k in range(grouping.n_splits):
            touching[k] = buffer(design.yx[rows], slide[rows], fold == k)
    n_splits = grouping.n_splits if blocks.all() else min(3, grouping.n_splits)
    relabellings = Relabellings(y, unit, within)
    scores: list[float] = []
    for labels in chain((y,), relabellings.draw(permutations, rng)):
        split = fold if blocks.all() else grouped_folds(unit, labels, n_splits, seed)
        predicted = np.full(len(labels), -1, dtype=np.intp)
        weight = balance_weights(labels, unit)
        for k in np.unique(split):
            test = split == k
            train = ~test
            if int(k) in touching and split is fold:
                train = keep_batches(train & ~touching[int(k)], train, labels, b)
            if not train.any():
                continue
            if probe == "centroid":
                logits = fit_centroids(raw[train], labels[train], weight[train], b).logits(raw[test])
            elif probe == "knn":
                logits = fit_neighbours(raw[train], labels[train], unit[train], b, seed).logits(raw[test])
            else:
                logits = fit_softmax(
                    z[train], basis.values, labels[train], weight[train], c, b, max_iter=50, tol=1e-3
                ).logits(z[test])
            predicted[test] = logits.argmax(axis=1)
        scores.append(balanced_accuracy(labels, predicted, b))
        yield ticker.tick()
    return np.array(scores), relabellings.count
