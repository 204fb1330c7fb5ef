"""The same tile scanned twice: whether it gets the same vector, and whether it finds its twin."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from napari_batchfx.errors import ProbeError
from napari_batchfx.probe.metrics.result import MetricResult

__all__ = ["paired_cosine", "paired_top_k"]

_ROWS = 1_024
_SAME = 2e-6  # cosines closer than this are a tie: what float32 products of unit vectors are good for


def paired_cosine(a: Any, b: Any) -> MetricResult:
    """Mean cosine between the features of the same tiles on two scans.

    Parameters
    ----------
    a, b : float (n, d), or tables of the same n tiles
        Row i of both is the same piece of tissue.

    Returns
    -------
    MetricResult
        ``per_tile`` (n,): the cosine of each pair. ``support["unpaired"]``: the mean cosine of tiles that are
        not pairs, without which the value means little; ``interval``: 95 %, from the spread over pairs.

    Raises
    ------
    ProbeError
        The shapes differ, features are not finite, or a row is all zero.

    References
    ----------
    plism-benchmark (owkin), and Filiot A et al. Distilling foundation models for robust and efficient models
    in digital pathology, arXiv:2501.16239. There in half precision; here in float32.

    Examples
    --------
    >>> paired_cosine(np.eye(2), np.eye(2)).value
    1.0
    """
    first, second = _units(a, b)
    n = len(first)
    cosine = np.einsum("ij,ij->i", first, second, dtype=np.float64)
    value = float(cosine.mean())
    support: dict[str, Any] = {"pairs": n, "features": first.shape[1]}
    warnings = []
    interval = None
    if n > 1:
        sums = first.sum(axis=0, dtype=np.float64) @ second.sum(axis=0, dtype=np.float64)
        unpaired = float((sums - cosine.sum()) / (n * (n - 1)))
        half = 1.959964 * float(cosine.std(ddof=1)) / n**0.5
        interval = (value - half, value + half)
        support |= {"unpaired": unpaired, "interval": "95 %, over pairs taken as independent"}
        if value - unpaired < 0.1:
            warnings.append(
                f"Tiles that are not pairs are nearly as alike ({unpaired:.3f}): the features lie in a "
                "narrow cone, and a high cosine says nothing; look at the retrieval."
            )
    return MetricResult(value, support, warnings, interval, cosine)


def paired_top_k(a: Any, b: Any, k: int | Sequence[int] = 10) -> MetricResult:
    """Share of tiles whose twin on the other scan is among their k nearest of all other tiles.

    Both scans are stacked (2 n rows); a tile's own row is left out of its 2 n - 1 candidates; the mean of
    both directions.

    Parameters
    ----------
    a, b : float (n, d), or tables of the same n tiles
        Row i of both is the same piece of tissue.
    k : int or sequence of int
        The published ones are 1, 3, 5 and 10; the value is that of the largest.

    Returns
    -------
    MetricResult
        ``per_tile`` (n,): mean of both directions. ``curve``: the value at each k. ``support["chance"]``:
        ``k / (2 n - 1)``; the value depends on n, so quote it too.

    Raises
    ------
    ProbeError
        The shapes differ, features are not finite, a row is all zero, or k doesn't fit.

    Notes
    -----
    Where other tiles are exactly as near as the twin (copies, constant features), a tile counts as the chance
    that the twin is in the list when the tied are put in random order.

    References
    ----------
    plism-benchmark (owkin), and Filiot A et al., arXiv:2501.16239.

    Examples
    --------
    >>> x = np.eye(4)
    >>> paired_top_k(x, x + 0.1, k=1).value
    1.0
    """
    ks = sorted({int(one) for one in ([k] if isinstance(k, (int, np.integer)) else k)})
    first, second = _units(a, b)
    n = len(first)
    if not ks or ks[0] < 1 or ks[-1] > 2 * n - 1:
        raise ProbeError(f"k must lie between 1 and {2 * n - 1:,}, the number of other tiles.")
    nearer, tied = (
        np.concatenate(one) for one in zip(_rank(first, second), _rank(second, first), strict=True)
    )
    hits = {one: np.clip((one - nearer) / tied, 0.0, 1.0) for one in ks}
    curve = {one: float(hit.mean()) for one, hit in hits.items()}
    last = hits[ks[-1]]
    support = {"pairs": n, "k": ks[-1], "candidates": 2 * n - 1, "chance": ks[-1] / (2 * n - 1)}
    half = 1.959964 * float((last[:n] + last[n:]).std(ddof=1)) / 2 / n**0.5 if n > 1 else np.nan
    interval = (max(0.0, curve[ks[-1]] - half), min(1.0, curve[ks[-1]] + half)) if n > 1 else None
    warnings = []
    copies = int((tied > 1).sum())
    if copies:
        warnings.append(
            f"For {copies:,} of {2 * n:,} tiles others are as near as the twin; such ties count as chance."
        )
    return MetricResult(
        curve[ks[-1]],
        support | {"interval": "95 %, over pairs taken as independent"},
        warnings,
        interval,
        (last[:n] + last[n:]) / 2,
        curve if len(ks) > 1 else None,
    )


def _rank(
    queries: NDArray[np.float32], twins: NDArray[np.float32]
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """For each query, how many others are nearer than its twin, and how many as near, itself included."""
    n = len(queries)
    nearer, tied = np.zeros(n), np.zeros(n)
    for i in range(0, n, _ROWS):
        at = np.arange(i, min(i + _ROWS, n))
        to_twins = queries[at] @ twins.T
        bar = to_twins[np.arange(len(at)), at][:, None]
        own = queries[at] @ queries.T
        own[np.arange(len(at)), at] = -np.inf
        for scores in (to_twins, own):
            nearer[at] += (scores > bar + _SAME).sum(axis=1)
            tied[at] += (np.abs(scores - bar) <= _SAME).sum(axis=1)
    return nearer, tied


def _units(a: Any, b: Any) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Rows of unit length, checked."""
    out = []
    for one in (a, b):
        x = one.X if hasattr(one, "obs") else one
        x = np.asarray(x.toarray() if hasattr(x, "toarray") else x, dtype=np.float32)
        if x.ndim != 2 or not len(x):
            raise ProbeError(f"Pairs need features of the shape (tiles, features); these have {x.shape}.")
        if not np.isfinite(x).all():
            raise ProbeError("Some features are not finite (NaN or infinite); leave those pairs out.")
        length = np.linalg.norm(x.astype(np.float64), axis=1, keepdims=True)
        if (length == 0).any():
            raise ProbeError("A tile whose features are all zero has no direction; leave the pair out.")
        out.append(np.asarray(x / length, dtype=np.float32))
    if out[0].shape != out[1].shape:
        raise ProbeError(
            f"The scans have {out[0].shape[0]:,} x {out[0].shape[1]:,} and {out[1].shape[0]:,} x "
            f"{out[1].shape[1]:,} features; give the same tiles of one encoder in the same order."
        )
    return out[0], out[1]
