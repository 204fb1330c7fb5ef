"""What carries the batch of a study's probe: components, how many of them, and how much is colour."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from napari_batchfx.jobs import Job, Progress
from napari_batchfx.study.encoding import encode_recipe_job
from napari_batchfx.study.probe_table import probe_table_job
from napari_batchfx.study.recipe import Recipe
from napari_batchfx.study.scatter import last_probe
from napari_batchfx.study.settings import EncodeSettings

if TYPE_CHECKING:
    from anndata import AnnData

    from napari_batchfx.probe import SignatureResult
    from napari_batchfx.study.bench import Bench
    from napari_batchfx.study.probed import ProbeOutcome

__all__ = ["carried_job"]

COLOUR = "colour-statistics"
MAX_TILES = 5_000


def carried_job(
    study: Bench, outcome: ProbeOutcome | None = None, *, colour: bool = True
) -> Job[SignatureResult]:
    """Find what carries the batch of a probe (see :func:`napari_batchfx.probe.signature`).

    Parameters
    ----------
    study : Study
    outcome : ProbeOutcome, optional
        The probe run last otherwise.
    colour : bool
        Whether ``colour-statistics`` of the same tiles are compared with; they are computed where the store
        lacks them, of at most 5,000 tiles. Left out where the encoder is ``colour-statistics`` itself.

    Returns
    -------
    Job
        Returns a :class:`~napari_batchfx.probe.SignatureResult`.

    Raises
    ------
    StudyError
        If no probe was run, or its features are gone.
    ProbeError
        As :func:`~napari_batchfx.probe.signature`.
    """
    from napari_batchfx.probe import signature_job

    outcome = outcome or last_probe(study)
    settings = outcome.computed_from["settings"]
    table, _ = yield from probe_table_job(study, outcome)
    numbers = None
    if colour and outcome.computed_from["encode"]["encoder"] != COLOUR:
        table = _thinned(table, int(settings.get("seed", 0)))
        numbers = yield from _colour_job(study, outcome, table)
    return (
        yield from signature_job(
            table,
            settings["batch"],
            settings["group"],
            colour=numbers,
            probe=settings.get("probe", "logistic"),
            n_splits=int(settings.get("n_splits", 5)),
            seed=int(settings.get("seed", 0)),
            max_tiles=MAX_TILES,
        )
    )


def _thinned(table: AnnData, seed: int) -> AnnData:
    """At most so many tiles, the same number of each slide as far as it has them."""
    if table.n_obs <= MAX_TILES:
        return table
    slide = table.obs["slide"].astype(str).to_numpy()
    order = np.random.default_rng([seed, 19]).permutation(table.n_obs)
    turn = np.empty(table.n_obs, dtype=np.intp)  # the how-manieth of its slide a tile is
    for name in np.unique(slide):
        mine = order[slide[order] == name]
        turn[mine] = np.arange(len(mine))
    return table[np.sort(np.argsort(turn, kind="stable")[:MAX_TILES])].copy()


def _colour_job(study: Bench, outcome: ProbeOutcome, table: AnnData) -> Job[NDArray[np.float32]]:
    """Colour statistics (n, q) of the tiles of a table, in its order; NaN where a slide can't be read."""
    from napari_batchfx.encoders import load

    yield Progress(0, 0, "measuring colour")
    encode = EncodeSettings(**outcome.computed_from["encode"] | {"encoder": COLOUR, "batch_size": None})
    encoder = load(COLOUR)
    try:
        recipe = Recipe(study, encode, encoder, study.settings.tissue.model_copy(deep=True))
        slide = table.obs["slide"].astype(str).to_numpy()
        cells = table.obs[["row", "col"]].to_numpy(dtype=np.int64)
        names = list(dict.fromkeys(slide))
        entries = [study.slide(name) for name in names]
        done = yield from encode_recipe_job(recipe, entries, {name: cells[slide == name] for name in names})
        out = np.full((table.n_obs, encoder.dim), np.nan, dtype=np.float32)
        for entry in entries:
            if entry.name not in done.slides:
                continue
            array = recipe.place(entry).array
            mine = np.flatnonzero(slide == entry.name)
            mine = mine[np.asarray(array.has(cells[mine]), dtype=bool)]
            out[mine] = array.read(cells[mine])
        return out
    finally:
        encoder.close()
