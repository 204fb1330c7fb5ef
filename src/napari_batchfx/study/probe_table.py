"""The features behind a probe, row by row as it has them, read from the store without its encoder."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from napari_batchfx.errors import BatchfxError, StudyError
from napari_batchfx.jobs import Job, Progress
from napari_batchfx.study.annotations import tile_labels
from napari_batchfx.study.encoding import BLOCK
from napari_batchfx.study.settings import EncodeSettings
from napari_batchfx.study.tables import slide_meta

if TYPE_CHECKING:
    from anndata import AnnData

    from napari_batchfx.features import FeatureArray
    from napari_batchfx.study.bench import Bench
    from napari_batchfx.study.entries import SlideEntry
    from napari_batchfx.study.probed import ProbeOutcome
    from napari_batchfx.tiles import TileGrid

__all__ = ["probe_table_job", "stored_array"]


def stored_array(
    study: Bench, outcome: ProbeOutcome, entry: SlideEntry, dim: int | None = None
) -> tuple[TileGrid, FeatureArray]:
    """A slide's tiles as the probe had them, and where their features are kept. Loads no encoder."""
    encode = EncodeSettings(**outcome.computed_from["encode"])
    grid = study.grid_of(entry, encode)
    transform = study.instruments.encode_transform(entry, encode)
    key = "none" if transform is None else transform.key
    encoder = outcome.computed_from["encoder"]
    return grid, study.store().array(entry.fingerprint, encoder, grid.key, key, dim=dim)


def probe_table_job(study: Bench, outcome: ProbeOutcome) -> Job[tuple[AnnData, NDArray[np.intp]]]:
    """The table that a probe was computed on, with the names and classes that the study has now.

    Parameters
    ----------
    study : Study
    outcome : ProbeOutcome

    Returns
    -------
    Job
        Returns the table and the row of the result that each of its rows is. Tiles of slides that left the
        study, and tiles whose features left the store, are missing.

    Raises
    ------
    StudyError
        If none of its features are there any more.
    """
    from napari_batchfx.features import concat, make_table

    tables, numbers = [], []
    for done, fingerprint in enumerate(outcome.tiles.fingerprints):
        yield Progress(done, len(outcome.tiles.fingerprints), "reading features", "slides")
        entry = next((one for one in study.slides if one.fingerprint == fingerprint), None)
        if entry is None:
            continue
        rows, cells = outcome.tiles.on(fingerprint)
        try:
            grid, array = stored_array(study, outcome, entry)
            here = np.asarray(array.has(cells), dtype=bool)
            rows, cells = rows[here], cells[here]
            if not len(cells):
                continue
            blocks = []
            for start in range(0, len(cells), BLOCK):
                blocks.append(array.read(cells[start : start + BLOCK]))
                yield Progress(done, len(outcome.tiles.fingerprints), "reading features", "slides")
            labels, controls = tile_labels(list(study.annotations), entry.name, grid).of(cells)
            meta = slide_meta(entry)
            tables.append(
                make_table(np.concatenate(blocks), cells, grid, meta=meta, labels=labels, controls=controls)
            )
            numbers.append(rows)
        except (BatchfxError, OSError) as error:
            study.report_problem(entry.name, error)
    if not tables:
        raise StudyError(f"{study.name}: the features of this probe are gone; encode and run it again.")
    return concat(tables), np.concatenate(numbers).astype(np.intp)
