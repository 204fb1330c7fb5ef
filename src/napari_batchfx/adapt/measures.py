"""Numbers that say what control samples carry, on plain arrays."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

__all__ = [
    "direction",
    "effective_rank",
    "leverage",
    "placebo",
    "principal_angles",
    "reach",
    "variance_ratio",
]


def _within(x: NDArray[np.float64], y: NDArray[np.intp]) -> NDArray[np.float64]:
    """Rows centred on their batch."""
    out = x.copy()
    for b in np.unique(y):
        out[y == b] -= x[y == b].mean(axis=0)
    return out


def _scale(x: NDArray[np.float64], y: NDArray[np.intp]) -> NDArray[np.float64]:
    sd = _within(x, y).std(axis=0)
    return np.where(sd > 1e-9 * np.maximum(np.abs(x).max(axis=0, initial=0.0), 1e-12), sd, np.inf)


def effective_rank(x: NDArray[np.float64], y: NDArray[np.intp]) -> float:
    """Directions in which the rows vary within their batch: (sum l)^2 / sum l^2 on scaled features."""
    z = _within(x, y) / _scale(x, y)
    # the smaller of the two Gram matrices has the same traces
    gram = z @ z.T if len(z) < z.shape[1] else z.T @ z
    total = float(np.trace(gram))
    return total**2 / float((gram * gram).sum()) if total > 0 else 0.0


def direction(
    x: NDArray[np.float64], y: NDArray[np.intp], controls: NDArray[np.bool_], label: NDArray[np.intp]
) -> float:
    """Cosine between the shifts of the batches seen on controls and on the other tiles.

    Where the other tiles have labels (codes, -1 = none), classes that occur in every batch are compared class
    by class, so that a different mixture of classes is not taken for a shift.
    """
    seen, target = _shifts(x, y, controls, label)
    if seen is None or target is None:
        return float("nan")
    size = np.sqrt((seen**2).sum() * (target**2).sum())
    return float((seen * target).sum() / size) if size > 0 else float("nan")


def principal_angles(
    x: NDArray[np.float64], y: NDArray[np.intp], controls: NDArray[np.bool_], label: NDArray[np.intp]
) -> tuple[float, ...]:
    """Angles in degrees between the spaces that the shifts of controls and of the other tiles span.

    Smallest first, one fewer than batches; shifts as in :func:`direction`.
    """
    seen, target = _shifts(x, y, controls, label)
    if seen is None or target is None:
        return ()
    bases = []
    for shifts in (seen, target):
        _, s, vt = np.linalg.svd(shifts, full_matrices=False)
        kept = min(len(shifts) - 1, int((s > 1e-9 * max(float(s[0]), 1e-300)).sum()))
        bases.append(vt[:kept])
    if not all(map(len, bases)):
        return ()
    cosines = np.linalg.svd(bases[0] @ bases[1].T, compute_uv=False)
    return tuple(float(one) for one in np.degrees(np.arccos(np.clip(cosines, 0.0, 1.0))))


def leverage(x: NDArray[np.float64], y: NDArray[np.intp], slide: NDArray[np.intp]) -> float:
    """Largest move of the shift between batches when one slide is left out, as a share of the shift.

    NaN where no batch has two slides.
    """
    batches = np.unique(y)
    if len(batches) < 2:
        return float("nan")
    scale = _scale(x, y)
    means = np.array([x[y == b].mean(axis=0) for b in batches]) / scale
    size = float(np.sqrt(((means - means.mean(axis=0)) ** 2).sum(axis=1).max()))
    moves = []
    for i, b in enumerate(batches):
        slides = np.unique(slide[y == b])
        for s in slides if len(slides) > 1 else ():
            left = x[(y == b) & (slide != s)].mean(axis=0) / scale
            # the shift is taken from the mean of all batches, of which this one is a part
            moves.append(float(np.linalg.norm(left - means[i])) * (1.0 - 1.0 / len(batches)))
    if not moves:
        return float("nan")
    return max(moves) / size if size > 0 else float("inf")


def _shifts(
    x: NDArray[np.float64], y: NDArray[np.intp], controls: NDArray[np.bool_], label: NDArray[np.intp]
) -> tuple[NDArray[np.float64] | None, NDArray[np.float64] | None]:
    """Means of the batches about their mean (B, d), on the controls and on the other tiles."""
    scale = _scale(x[controls], y[controls])
    batches = np.unique(y)
    if len(batches) < 2:
        return None, None

    def shifts(rows: NDArray[np.bool_]) -> NDArray[np.float64] | None:
        means = [x[rows & (y == b)].mean(axis=0) if (rows & (y == b)).any() else None for b in batches]
        if any(m is None for m in means):
            return None
        m = np.array(means) / scale
        return np.asarray(m - m.mean(axis=0))

    others = ~controls
    classes = [c for c in np.unique(label[others]) if c >= 0]
    per_class = [s for c in classes if (s := shifts(others & (label == c))) is not None]
    return shifts(controls), np.mean(per_class, axis=0) if per_class else shifts(others)


def placebo(x: NDArray[np.float64], y: NDArray[np.intp], seed: int = 0, repeats: int = 5) -> float:
    """Shift between random halves of one batch's controls, as a share of that between batches (RMS).

    Halves of n / 2 differ by twice the standard error of the batch's own mean, so the share is put right by
    that factor.
    """
    batches = np.unique(y)
    if len(batches) < 2:
        return float("nan")
    scale = _scale(x, y)
    rng = np.random.default_rng(seed)
    false = []
    for b in batches:
        z = x[y == b] / scale
        for _ in range(repeats):
            order = rng.permutation(len(z))
            half = len(z) // 2
            false.append(
                float(((z[order[:half]].mean(axis=0) - z[order[half:]].mean(axis=0)) ** 2).sum()) / 4.0
            )
    means = np.array([x[y == b].mean(axis=0) for b in batches]) / scale
    real = float(((means - means.mean(axis=0)) ** 2).sum(axis=1).mean())
    return float(np.sqrt(np.mean(false) / real)) if real > 0 else float("inf")


def variance_ratio(
    before: NDArray[np.float64], after: NDArray[np.float64], y: NDArray[np.intp], controls: NDArray[np.bool_]
) -> float:
    """Variance of the other tiles within batches, in units of that of the controls: after / before.

    Taking both in units of the controls makes it independent of the scale a correction puts features on.
    """
    others = ~controls

    def spread(x: NDArray[np.float64]) -> float:
        scale = _scale(x[controls], y[controls])
        return float(((_within(x[others], y[others]) / scale) ** 2).sum())

    first = spread(before)
    return spread(after) / first if first > 0 else float("nan")


def reach(x: NDArray[np.float64], y: NDArray[np.intp], controls: NDArray[np.bool_]) -> float:
    """How far the other tiles lie from the controls of their batch, in the controls' standard deviations.

    Root mean square over the features, median over the tiles, the largest over the batches: about 1 where the
    controls are drawn from the same tissue as the other tiles, more where a correction has to be carried
    further than the controls reach. No label is looked at. A feature in which a batch's controls don't vary
    is counted in the spread of all controls; one in which none vary is left out.

    Examples
    --------
    >>> x = np.random.default_rng(0).normal(size=(400, 5)); controls = np.arange(400) < 200
    >>> batch = np.arange(400) % 2
    >>> round(reach(x, batch, controls), 1)
    1.1
    >>> x[~controls] += 4
    >>> round(reach(x, batch, controls), 1)
    4.5
    """
    pooled = _scale(x[controls], y[controls])
    found = []
    for b in np.unique(y[controls]):
        mine, others = x[controls & (y == b)], x[~controls & (y == b)]
        if not len(others):
            continue
        sd = mine.std(axis=0)
        sd = np.where(sd > 1e-6 * pooled, sd, pooled)
        kept = np.isfinite(sd)
        if kept.any():
            z = (others[:, kept] - mine[:, kept].mean(axis=0)) / sd[kept]
            found.append(float(np.median(np.sqrt((z**2).mean(axis=1)))))
    return max(found, default=float("nan"))
