"""Rescans of the same tissue, shifted onto each other in micrometres."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from napari_batchfx.jobs import Job, Ticker

if TYPE_CHECKING:
    from napari_batchfx.slides.alignment import Alignment
    from napari_batchfx.study.bench import Bench
    from napari_batchfx.study.entries import SlideEntry

__all__ = ["align_job"]


def align_job(
    study: Bench, reference: SlideEntry | str, others: Sequence[SlideEntry | str] | None = None
) -> Job[dict[str, Alignment]]:
    """Register slides onto a reference by translation and keep it in their ``affine_um``.

    Parameters
    ----------
    study : Study
    reference : SlideEntry or str
        The slide the others are moved onto.
    others : sequence of SlideEntry or str, optional
        All other slides where none are named.

    Returns
    -------
    Job
        Returns an :class:`~napari_batchfx.slides.Alignment` for each slide, by name; one that can't be
        trusted
        (its verdict says so) moves nothing.
    """
    from napari_batchfx.slides.alignment import register_translation

    base = study.slide(reference)
    entries = (
        [entry for entry in study.slides if entry is not base]
        if others is None
        else [study.slide(o) for o in others]
    )
    ticker = Ticker(len(entries), "aligning", "slides")
    found: dict[str, Alignment] = {}
    yield ticker.tick(0)
    for entry in entries:
        alignment = register_translation(study.open_slide(base), study.open_slide(entry))
        if alignment.verdict == "good":
            affine = np.asarray(base.affine_um, dtype=float) @ alignment.affine_um
            rows = [tuple(float(value) for value in row) for row in affine]
            entry.affine_um = (
                (rows[0][0], rows[0][1], rows[0][2]),
                (rows[1][0], rows[1][1], rows[1][2]),
                (0.0, 0.0, 1.0),
            )
        found[entry.name] = alignment
        yield ticker.tick()
    return found
