"""An alignment by hand: the same spots on both slides."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray

from napari_batchfx.errors import SlideError
from napari_batchfx.slides.alignment.models import distances, fit
from napari_batchfx.slides.alignment.result import MODELS, Alignment, Model, Verdict

__all__ = ["alignment_from_points", "fit_points"]

Points = NDArray[np.float64]

LEAST = 3
GOOD_UM = 5.0
UNCERTAIN_UM = 50.0
# Points whose cloud is this much narrower than long lie on a line.
THINNEST = 0.03
CLOSEST_UM = 10.0


def alignment_from_points(
    points_a_um: ArrayLike, points_b_um: ArrayLike, model: Model = "similarity"
) -> Alignment:
    """The alignment that lays b's points on a's by least squares.

    Parameters
    ----------
    points_a_um, points_b_um : array (n, 2)
        The same spots on both slides, (y, x) in micrometres from each slide's top-left corner; n >= 3.
    model : {"similarity", "affine", "translation"}
        The similarity may be mirrored: with three points or more the side is seen from them.

    Returns
    -------
    Alignment
        ``residual_um`` is the median distance left between the pairs themselves: the fit has seen them, so
        the truth is worse (three pairs fix an affine exactly: NaN). "good" up to 5 um, "uncertain" up to
        50 um or where nothing is left to judge by, else "failed".

    Raises
    ------
    SlideError
        If there are too few pairs, or they lie on a line or on one spot.

    References
    ----------
    Umeyama 1991, Least-squares estimation of transformation parameters between two point patterns, IEEE
    TPAMI 13:376.

    Examples
    --------
    >>> on_b = np.array([[0.0, 0], [0, 1000], [800, 0], [500, 400]])
    >>> on_a = on_b @ [[0, 1], [-1, 0]] + [2000, 50]  # a quarter turn
    >>> found = alignment_from_points(on_a, on_b)
    >>> found.verdict, round(found.rotation_deg), found.method
    ('good', 90, 'points')
    """
    a, b = _checked(points_a_um, points_b_um, model)
    matrix = fit_points(b, a, model)
    left = distances(matrix, b, a)
    spare = 2 * len(a) - {"translation": 2, "similarity": 4, "affine": 6}[model]
    residual = float(np.median(left)) if spare > 0 else float("nan")
    verdict: Verdict = "good" if residual <= GOOD_UM else "failed" if residual > UNCERTAIN_UM else "uncertain"
    return Alignment(matrix, residual, float("nan"), verdict, len(a), model, "points")


def fit_points(source: Points, target: Points, model: Model) -> NDArray[np.float64]:
    """Least squares (3, 3) from ``source`` to ``target``, both (n, 2); a similarity may be mirrored."""
    if model != "similarity":
        return fit(source, target, model)
    flip = np.diag([1.0, -1.0, 1.0])
    straight = fit(source, target, model)
    mirrored = fit(source * [1.0, -1.0], target, model) @ flip
    errors = [float((distances(m, source, target) ** 2).sum()) for m in (straight, mirrored)]
    return straight if errors[0] <= errors[1] else mirrored


def _checked(points_a: ArrayLike, points_b: ArrayLike, model: Model) -> tuple[Points, Points]:
    if model not in MODELS:
        raise SlideError(f"There is no model {model!r:.30}; there are {', '.join(MODELS)}.")
    try:
        a, b = (np.asarray(p, dtype=np.float64) for p in (points_a, points_b))
    except (TypeError, ValueError) as error:
        raise SlideError("Points are pairs of numbers (y, x) in micrometres.") from error
    if (
        a.ndim != 2
        or a.shape[1] != 2
        or a.shape != b.shape
        or not (np.isfinite(a).all() and np.isfinite(b).all())
    ):
        raise SlideError(
            "Points to align by are (y, x) in micrometres, as many on one slide as on the other."
        )
    if len(a) < LEAST:
        raise SlideError(f"Mark at least {LEAST} spots on both slides; there are {len(a)}.")
    for points in (a, b):
        spread = np.linalg.svd(points - points.mean(axis=0), compute_uv=False) / np.sqrt(len(points))
        if spread[0] < CLOSEST_UM:
            raise SlideError(
                "The points lie on one spot; mark spots far apart, best near the tissue's edges."
            )
        if spread[1] < THINNEST * spread[0]:
            raise SlideError("The points lie on a line; mark one well beside it.")
    return a, b
