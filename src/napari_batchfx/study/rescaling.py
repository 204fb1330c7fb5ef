"""Another pixel size: what is kept in micrometres of a slide stays on its tissue."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from napari_batchfx.study.alignment import lying_on
from napari_batchfx.study.annotations import Annotation
from napari_batchfx.study.control_tiles import rescale
from napari_batchfx.study.entries import IDENTITY

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from napari_batchfx.study.entries import Affine, SlideEntry
    from napari_batchfx.study.shelf import Shelf

__all__ = ["rescale_slide"]


def rescale_slide(
    study: Shelf, entry: SlideEntry, old: tuple[float, float], new: tuple[float, float]
) -> None:
    """Let regions and alignments of a slide follow its pixels to another pixel size.

    Parameters
    ----------
    study : Study
    entry : SlideEntry
        The slide whose pixel size changed.
    old, new : (float, float)
        Micrometres a pixel, (y, x), before and now.

    Notes
    -----
    A position keeps its pixel, so its micrometres are multiplied by ``new / old``. A slide that lies on
    another keeps its place there; slides that lie on a reference follow the reference's pixels. What was
    measured of an alignment (its residual) was measured before; only its place follows.
    """
    factor = np.array([new[0] / old[0], new[1] / old[1]])
    if np.allclose(factor, 1.0, rtol=1e-9):
        return
    study.annotations = [
        Annotation(a.slide, a.class_name, a.is_control, a.polygon_um * factor) if a.slide == entry.name else a
        for a in study.annotations
    ]
    study.controls = rescale(study.controls, entry.name, factor)
    grow = np.diag([*factor, 1.0])
    if entry.is_aligned or entry.alignment is not None:
        shrink = np.linalg.inv(grow)
        entry.affine_um = _affine(_matrix(entry.affine_um) @ shrink)
        entry.earlier_affines = [
            (
                _affine(_matrix(affine) @ shrink) if record is not None or affine != IDENTITY else affine,
                record,
            )
            for affine, record in entry.earlier_affines
        ]
        return
    for other in lying_on(study, entry):
        other.affine_um = _affine(grow @ _matrix(other.affine_um))
        other.earlier_affines = [
            (_affine(grow @ _matrix(affine)) if record is not None else affine, record)
            for affine, record in other.earlier_affines
        ]


def _matrix(affine: Affine) -> NDArray[np.float64]:
    return np.asarray(affine, dtype=np.float64)


def _affine(matrix: NDArray[np.float64]) -> Affine:
    (a, b, c), (d, e, f), _ = ((float(value) for value in row) for row in matrix)
    return ((a, b, c), (d, e, f), (0.0, 0.0, 1.0))
