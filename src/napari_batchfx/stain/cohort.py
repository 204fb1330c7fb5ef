"""The average stain of several slides, as a target."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import TypeVar

import numpy as np

from napari_batchfx.errors import StainError
from napari_batchfx.stain.estimate import StainEstimate
from napari_batchfx.stain.lab import LabStatistics
from napari_batchfx.stain.vectors import unit

__all__ = ["average"]

Stain = TypeVar("Stain", StainEstimate, LabStatistics)


def average(estimates: Sequence[Stain]) -> Stain:
    """Average several estimates of one method: vectors, intensities, or Lab statistics, each slide once.

    Vectors are averaged and scaled to length 1 again (the "avg-post" of multi-target Macenko), so that a
    large slide counts no more than a small one.

    Parameters
    ----------
    estimates : sequence of StainEstimate or of LabStatistics
        At least one, all of one method and of the same stains.

    Returns
    -------
    StainEstimate or LabStatistics
        Measured from the usual white (240).

    Raises
    ------
    StainError
        If there is none, or they are of different methods or stains.

    References
    ----------
    Ivanov et al., "Multi-target stain normalization for histology slides", 2024.

    Examples
    --------
    >>> from napari_batchfx.stain import REFERENCE
    >>> average([REFERENCE, REFERENCE]).origin
    'average of 2 slides'
    """
    if not estimates:
        raise StainError("There is no slide to average the stain of; add one whose stain can be estimated.")
    first = estimates[0]
    if any(one.method != first.method for one in estimates):
        raise StainError("The estimates come from different stain methods; use one method for all.")
    n_pixels = sum(one.n_pixels for one in estimates)
    origin = f"average of {len(estimates)} {'slide' if len(estimates) == 1 else 'slides'}"
    if isinstance(first, LabStatistics):
        lab = estimates
        mean = np.mean([one.mean for one in lab], axis=0)
        std = np.mean([one.std for one in lab], axis=0)
        return LabStatistics(mean, std, n_pixels, method=first.method, origin=origin)
    two = estimates
    if any(one.kind != two[0].kind for one in two):
        raise StainError(
            "Some of these slides are H&E and some H-DAB, and an average of the two means nothing; choose "
            "slides of one stain."
        )
    plain = replace(two[0], white=LabStatistics.white, residual=None, warnings=(), n_pixels=n_pixels)
    return replace(
        plain,
        matrix=unit(np.mean([one.matrix for one in two], axis=0)),
        max_concentration=np.mean([one.max_concentration for one in two], axis=0),
        origin=origin,
    )
