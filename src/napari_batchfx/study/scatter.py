"""The tiles of a probe as points in a plane, with everything they can be coloured by."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Literal

import numpy as np
from numpy.typing import NDArray

from napari_batchfx.jobs import Job
from napari_batchfx.study.probe_table import probe_table_job

if TYPE_CHECKING:
    from napari_batchfx.study.bench import Bench
    from napari_batchfx.study.probed import ProbeOutcome

__all__ = ["Scatter", "scatter_job"]


@dataclass(frozen=True, eq=False)
class Scatter:
    """Tiles of a study as points.

    Parameters
    ----------
    xy : float32 (m, 2)
    kind : str
        "pca" or "umap".
    explained : (float, float) or None
        Share of the variance of each axis.
    rows : int (m,)
        Rows of the probe's result.
    fingerprints : tuple of str
        The slides.
    slide : int (m,)
        Index into ``fingerprints``.
    cells : int (m, 2)
    columns : dict of str to (int (m,), list of str)
        Code and names of each column that has values: site, scanner, stain, slide, patient, class; -1 = none.
    confidence : float (m,)
        Out of fold; NaN where not scored.
    chance : float
    warnings : list of str
    """

    xy: NDArray[np.float32]
    kind: str
    explained: tuple[float, float] | None
    rows: NDArray[np.intp]
    fingerprints: tuple[str, ...]
    slide: NDArray[np.intp]
    cells: NDArray[np.int64]
    columns: dict[str, tuple[NDArray[np.intp], list[str]]]
    confidence: NDArray[np.float64]
    chance: float
    warnings: list[str] = field(default_factory=list)

    def cells_of(self, points: NDArray[np.bool_] | NDArray[np.intp]) -> dict[str, NDArray[np.int64]]:
        """The cells (k, 2) of points, by the fingerprint of their slide."""
        slide, cells = self.slide[points], self.cells[points]
        return {
            fingerprint: cells[slide == i]
            for i, fingerprint in enumerate(self.fingerprints)
            if (slide == i).any()
        }

    def point_of(self, fingerprint: str, cell: tuple[int, int]) -> int | None:
        """The point of a tile, or ``None`` where it is none."""
        if fingerprint not in self.fingerprints:
            return None
        is_it = (self.slide == self.fingerprints.index(fingerprint)) & (self.cells == cell).all(axis=1)
        found = np.flatnonzero(is_it)
        return int(found[0]) if len(found) else None


def scatter_job(
    study: Bench,
    outcome: ProbeOutcome | None = None,
    kind: Literal["pca", "umap"] = "pca",
    *,
    max_tiles: int = 100_000,
    seed: int = 0,
) -> Job[Scatter]:
    """Lay out the tiles of a probe (see :func:`napari_batchfx.probe.projection`).

    Parameters
    ----------
    study : Study
    outcome : ProbeOutcome, optional
        The probe run last otherwise.
    kind, max_tiles, seed
        As :func:`napari_batchfx.probe.projection`.

    Returns
    -------
    Job
        Returns a :class:`Scatter`.

    Raises
    ------
    StudyError
        If no probe was run, or its features are gone.
    ProbeError
        If there is nothing to lay out, or umap-learn is missing.
    """
    from napari_batchfx.probe.columns import category_codes
    from napari_batchfx.probe.projection import projection_job

    outcome = outcome or last_probe(study)
    table, numbers = yield from probe_table_job(study, outcome)
    found = yield from projection_job(table, kind, max_tiles=max_tiles, seed=seed)
    rows = numbers[found.rows]
    columns = {}
    for name in ("site", "scanner", "stain", "slide", "patient", "label"):
        codes, names = category_codes(table, name)
        if names:
            columns["class" if name == "label" else name] = (codes[found.rows], names)
    return Scatter(
        found.xy,
        found.kind,
        found.explained,
        rows,
        outcome.tiles.fingerprints,
        outcome.tiles.slide[rows].astype(np.intp),
        outcome.tiles.cells[rows],
        columns,
        np.asarray(outcome.result.confidence)[rows],
        float(outcome.result.chance),
        found.warnings,
    )


def last_probe(study: Bench) -> ProbeOutcome:
    """The probe run last.

    Raises
    ------
    StudyError
        If there is none.
    """
    from napari_batchfx.errors import StudyError

    if study.results.probe is None:
        raise StudyError(f"{study.name}: no site probe was run yet; run it first.")
    return study.results.probe
