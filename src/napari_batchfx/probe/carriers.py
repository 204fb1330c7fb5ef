"""Where a batch sits in features: along which components, and how far apart."""

from __future__ import annotations

from dataclasses import replace
from itertools import combinations
from typing import Any

import numpy as np
from numpy.typing import NDArray

from napari_batchfx.probe.design import Design
from napari_batchfx.probe.relabellings import Relabellings
from napari_batchfx.probe.statistics import balance_weights

__all__ = ["component_auroc", "components", "distances", "oriented_auroc", "thin"]

MAX_DISTANCE_TILES = 1_500
_FEWEST_PAIRS = 20


def thin(design: Design, n: int, seed: int, keep: NDArray[np.bool_] | None = None) -> Design:
    """At most ``n`` tiles of a design, drawn evenly over batches and slides; folds stay as they are."""
    rows = np.arange(len(design.y)) if keep is None else np.flatnonzero(keep)
    if len(rows) > n:
        weight = balance_weights(design.y[rows], design.slide[rows])
        rng = np.random.default_rng([seed, 11])
        rows = np.sort(rng.choice(rows, n, replace=False, p=weight / weight.sum()))
    grouping = replace(
        design.grouping,
        unit=design.grouping.unit[rows],
        fold=design.grouping.fold[rows],
        in_blocks=design.grouping.in_blocks[rows],
    )
    return replace(
        design,
        rows=design.rows[rows],
        x=design.x[rows],
        y=design.y[rows],
        slide=design.slide[rows],
        yx=None if design.yx is None else design.yx[rows],
        grouping=grouping,
    )


def components(
    x: NDArray[np.float32], weight: NDArray[np.float64], n: int
) -> tuple[NDArray[np.float32], NDArray[np.float64]]:
    """Scores (m, r) on the first principal components, and the share of the variance of each (r,).

    Features are centred and not scaled; a tile counts by its weight, so that a large slide doesn't make the
    components.
    """
    share = weight / weight.sum()
    mean = (share @ x).astype(np.float32)
    centred = x - mean
    rooted = centred * np.sqrt(share).astype(np.float32)[:, None]
    if x.shape[1] <= x.shape[0]:
        values, vectors = np.linalg.eigh((rooted.T @ rooted).astype(np.float64))
    else:
        values, left = np.linalg.eigh((rooted @ rooted.T).astype(np.float64))
        length = np.sqrt(np.maximum(values, 1e-30))
        vectors = rooted.T.astype(np.float64) @ left / length
    values = np.maximum(values[::-1], 0.0)
    total = float(values.sum())
    # directions of rounding alone are none
    r = int(min(n, np.sum(values > 1e-7 * max(total, 1e-30))))
    scores = centred @ vectors[:, ::-1][:, :r].astype(np.float32)
    return scores, values[:r] / max(total, 1e-30)


def oriented_auroc(
    score: NDArray[np.floating], positive: NDArray[np.bool_], weight: NDArray[np.floating]
) -> float:
    """Weighted area under the curve, turned so that it lies in [0.5, 1]; ties count half.

    Examples
    --------
    >>> oriented_auroc(np.array([3.0, 2.0, 1.0, 0.0]), np.array([False, False, True, True]), np.ones(4))
    1.0
    """
    order = np.argsort(score, kind="stable")
    s, w = score[order], weight[order]
    starts = np.flatnonzero(np.r_[True, s[1:] != s[:-1]])
    up = np.add.reduceat(np.where(positive[order], w, 0.0), starts)
    down = np.add.reduceat(np.where(positive[order], 0.0, w), starts)
    below = np.cumsum(down) - down
    area = float(up @ (below + 0.5 * down) / (up.sum() * down.sum()))
    return max(area, 1.0 - area)


def component_auroc(
    scores: NDArray[np.float32], design: Design, relabellings: int, seed: int
) -> tuple[dict[str, list[float]], list[float]]:
    """One-vs-one AUROC of each component for each pair of batches, and what relabelled units reach.

    The second list holds, for each component, the 95 % level of the highest AUROC of any pair when the batch
    is moved between whole units: what slides alone give. NaN where the units are pieces of slides, or fewer
    than 19 relabellings exist.
    """
    y, names = design.y, design.batches
    pairs = list(combinations(range(len(names)), 2))

    def areas(labels: NDArray[np.intp], weight: NDArray[np.float64]) -> NDArray[np.float64]:
        out = np.full((len(pairs), scores.shape[1]), np.nan)
        for i, (a, b) in enumerate(pairs):
            mine = (labels == a) | (labels == b)
            positive = labels[mine] == b
            if positive.all() or not positive.any():
                continue
            for j in range(scores.shape[1]):
                out[i, j] = oriented_auroc(scores[mine, j], positive, weight[mine])
        return out

    found = areas(y, balance_weights(y, design.slide))
    by_pair = {f"{names[a]} / {names[b]}": found[i].tolist() for i, (a, b) in enumerate(pairs)}
    level = [float("nan")] * scores.shape[1]
    grouping = design.grouping
    if relabellings >= 19 and not grouping.in_blocks.any():
        others = Relabellings(y, grouping.unit, np.full(len(y), -1, dtype=np.intp))
        if others.count >= 19:
            highest = [
                np.nanmax(areas(labels, balance_weights(labels, grouping.unit)), axis=0)
                for labels in others.draw(relabellings, np.random.default_rng([seed, 13]))
            ]
            # "higher" than 19 of 20 of them: with 19 draws, the highest
            level = np.quantile(np.stack(highest), 0.95, axis=0, method="higher").tolist()
    return by_pair, level


def distances(design: Design, label: NDArray[np.intp], seed: int) -> list[dict[str, Any]]:
    """Euclidean distances between tiles, by slide, batch and class.

    Parameters
    ----------
    design : Design
        Tiles; at most 1,500 are taken, evenly over batches and slides.
    label : int (m,)
        Class of each tile, -1 where it has none.
    seed : int
        Of the draw.

    Returns
    -------
    list of dict
        ``relation`` ("same slide", "same site, other slide", "other site"), ``classes`` ("same", "other", or
        "any" where no tile has a class), ``median``, ``low`` and ``high`` (quartiles), ``pairs``, and
        ``relative`` (median over that of all pairs). A cell of fewer than 20 pairs is left out.

    References
    ----------
    Kömen et al. 2024, arXiv:2411.05489, experiment C; there for one reference tile, here for all.
    """
    labelled = label >= 0
    small = thin(design, MAX_DISTANCE_TILES, seed, labelled if labelled.any() else None)
    kept = np.isin(design.rows, small.rows)
    y, slide, label = small.y, small.slide, label[kept]
    x = (small.x - small.x.mean(axis=0)).astype(np.float64)
    square = (x**2).sum(axis=1)
    upper = np.triu_indices(len(x), 1)
    apart = np.sqrt(np.maximum(square[:, None] + square[None] - 2 * (x @ x.T), 0.0))[upper]
    i, j = upper
    middle = float(np.median(apart)) if len(apart) else float("nan")
    relation = np.where(y[i] != y[j], 2, np.where(slide[i] != slide[j], 1, 0))
    names = ("same slide", f"same {design.batch}, other slide", f"other {design.batch}")
    kinds: list[tuple[str, NDArray[np.bool_]]] = [("any", np.ones(len(i), dtype=bool))]
    if labelled.any():
        kinds = [("same", label[i] == label[j]), ("other", label[i] != label[j])]
    out: list[dict[str, Any]] = []
    for kind, mine in kinds:
        for r, name in enumerate(names):
            some = apart[mine & (relation == r)]
            if len(some) < _FEWEST_PAIRS:
                continue
            low, median, high = (float(v) for v in np.quantile(some, [0.25, 0.5, 0.75]))
            out.append(
                {
                    "relation": name,
                    "classes": kind,
                    "median": median,
                    "low": low,
                    "high": high,
                    "pairs": len(some),
                    "relative": median / middle if middle > 0 else float("nan"),
                }
            )
    return out
