"""Encoding slides with a picture of it, and the picture of everything that is encoded."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from napari_batchfx.errors import BatchfxError
from napari_batchfx.jobs import Job, Progress, run
from napari_batchfx.study.axis import SAMPLE, Axis
from napari_batchfx.study.encoding import BLOCK, EncodedTiles, EncodeOutcome
from napari_batchfx.study.overview import Overview, SlideMap, blank_map
from napari_batchfx.study.tables import feature_array

if TYPE_CHECKING:
    from napari_batchfx.study.bench import Bench
    from napari_batchfx.study.entries import SlideEntry
    from napari_batchfx.tiles import TileMap

__all__ = ["EncodedMap", "component_maps", "encode_map_job"]


@dataclass(frozen=True)
class EncodedMap:
    """What :func:`encode_map_job` returns: the outcome, and a map for every slide that has encoded tiles.

    Parameters
    ----------
    outcome : EncodeOutcome
    maps : dict of str to TileMap
        By fingerprint.
    """

    outcome: EncodeOutcome
    maps: dict[str, TileMap]


def encode_map_job(
    study: Bench,
    slides: Sequence[SlideEntry | str],
    cells: Mapping[str, NDArray[np.integer[Any]]] | None = None,
    overview: Overview | None = None,
) -> Job[EncodedMap]:
    """Encode tiles (as :meth:`Study.encode_job`) and add each to a picture.

    Parameters
    ----------
    study : Study
    slides : sequence of SlideEntry or str
    cells : mapping of str to array (n, 2), optional
        Cells a slide, in the order wanted; all tissue otherwise.
    overview : Overview, optional
        The picture so far.

    Returns
    -------
    Job
        Yields ``Progress(partial=MappedTiles)`` and returns an :class:`EncodedMap`. Its maps show all tiles
        of the study that are encoded, on one axis, and are the overview's from then on.
    """
    picture = Overview() if overview is None else overview
    job = study.encode_job(slides, cells)
    try:
        while True:
            progress = next(job)
            tiles = progress.partial
            if isinstance(tiles, EncodedTiles):
                progress = replace(progress, partial=picture.add(tiles, study.grid(tiles.slide)))
            yield progress
    except StopIteration as stop:
        outcome: EncodeOutcome = stop.value
    finally:
        job.close()
    drawn, axis = yield from _component_job(study)
    if drawn:
        picture.replace(drawn, axis)
    return EncodedMap(outcome, {name: slide.tiles for name, slide in drawn.items()})


def component_maps(study: Bench) -> dict[str, TileMap]:
    """First principal component of every encoded tile, one scale for all slides, by fingerprint."""
    slides, _ = run(_component_job(study))
    return {name: slide.tiles for name, slide in slides.items()}


def _component_job(study: Bench) -> Job[tuple[dict[str, SlideMap], Axis]]:
    what = "drawing the map"
    yield Progress(0, 0, what)
    sources = []
    for entry in study.slides:
        try:
            grid = study.grid(entry)
            array = feature_array(study, entry, grid, study.encode_transform(entry))
            done = np.asarray(array.done_cells(), dtype=np.int64).reshape(-1, 2)
            done = done[np.asarray(array.has(done), dtype=bool)]  # not those damaged on the disk
            if len(done):
                sources.append((entry, grid, array, done))
        except (BatchfxError, OSError) as error:
            study.report_problem(entry.name, error)
    axis = Axis()
    if not sources:
        return {}, axis
    rng = np.random.default_rng(0)
    share = max(8, SAMPLE // len(sources))
    picks = [done[np.sort(rng.permutation(len(done))[:share])] for *_, done in sources]
    samples = [array.read(pick) for (_, _, array, _), pick in zip(sources, picks, strict=True)]
    axis.fit(np.concatenate(samples))
    total, drawn = sum(len(done) for *_, done in sources), 0
    # Where every tile is in the sample the axis may still move with what comes; else it stays.
    is_settled = total > sum(len(pick) for pick in picks)
    axis.seen = SAMPLE if is_settled else total
    axis.rows = [] if is_settled else samples
    slides: dict[str, SlideMap] = {}
    for (entry, grid, array, done), pick, sample in zip(sources, picks, samples, strict=True):
        tiles = blank_map(grid)
        for start in range(0, len(done), BLOCK):
            block = done[start : start + BLOCK]
            tiles.set(block, axis.scores(array.read(block)))
            drawn += len(block)
            yield Progress(drawn, total, what)
        slides[entry.fingerprint] = SlideMap(
            grid, tiles, [] if is_settled else [(pick, sample)], is_complete=True
        )
    return slides, axis
