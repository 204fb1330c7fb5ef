"""Encoding the slides of a study into its store."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from napari_batchfx.errors import BatchfxError, StudyError
from napari_batchfx.jobs import Job, Progress
from napari_batchfx.study.entries import SlideEntry
from napari_batchfx.study.problems import Problem
from napari_batchfx.study.recipe import Place, Recipe

if TYPE_CHECKING:
    from napari_batchfx.study.bench import Bench

__all__ = ["EncodeOutcome", "EncodedTiles", "encode_job"]

_BLOCK = 1024


@dataclass(frozen=True)
class EncodedTiles:
    """Tiles of one slide that were just encoded.

    Parameters
    ----------
    slide : str
        Name in the study.
    fingerprint : str
        The slide's content.
    cells : array (k, 2), int
    features : array (k, dim), float32
    """

    slide: str
    fingerprint: str
    cells: NDArray[np.int64]
    features: NDArray[np.float32]


@dataclass(frozen=True)
class EncodeOutcome:
    """What :func:`encode_job` did.

    Parameters
    ----------
    tiles : int
        Tiles encoded now.
    kept : int
        Tiles asked for that were in the store already.
    slides : tuple of str
        Slides that are done.
    problems : tuple of Problem
        Slides that are not, with the reason.
    damaged : int
        Tiles left out because pixels of theirs are damaged in the file.
    damaged_by_slide : dict of str to int
        The same by the name of the slide; only slides that have some.
    """

    tiles: int
    kept: int
    slides: tuple[str, ...]
    problems: tuple[Problem, ...] = ()
    damaged: int = 0
    damaged_by_slide: dict[str, int] = field(default_factory=dict)

    def damage_said(self) -> list[str]:
        """One sentence a slide on the tiles that were left out."""
        return [
            f"{name}: {n:,} {'tile is' if n == 1 else 'tiles are'} damaged in the file and left out."
            for name, n in self.damaged_by_slide.items()
        ]


@dataclass
class _Plan:
    """One slide's share of an encode job."""

    entry: SlideEntry
    place: Place
    stored: NDArray[np.int64]
    todo: NDArray[np.int64]
    #: Known to be damaged from an earlier reading: not read again.
    n_damaged: int

    @property
    def total(self) -> int:
        return len(self.stored) + len(self.todo)


def encode_job(
    study: Bench, entries: Sequence[SlideEntry], cells: Mapping[str, NDArray[np.integer[Any]]] | None
) -> Job[EncodeOutcome]:
    """Encode tiles of slides into the study's store (see :meth:`Study.encode_job`)."""
    if not entries:
        raise StudyError(f"{study.name}: there is no slide to encode; add one.")
    recipe = yield from Recipe.job(study)
    problems: list[Problem] = []
    plans: list[_Plan] = []
    asked = [entry for entry in entries if cells is None or entry.name in cells]
    for done, entry in enumerate(asked):
        yield Progress(done, len(asked), f"looking at {entry.name}", "slides")
        try:
            plans.append(_plan(recipe, entry, None if cells is None else cells[entry.name]))
        except (BatchfxError, OSError) as error:
            problems.append(study.report_problem(entry.name, error))
    total, before, encoded = sum(plan.total for plan in plans), 0, 0
    damaged: dict[str, int] = {}
    finished: list[str] = []
    for plan in plans:
        try:
            # Cells that were named are shown at once; of whole slides the store alone is read.
            stored = yield from _fill(plan, recipe, before, total, show=cells is not None)
            encoded += stored
            if lost := plan.n_damaged + len(plan.todo) - stored:
                damaged[plan.entry.name] = lost
            finished.append(plan.entry.name)
        except (BatchfxError, OSError) as error:
            problems.append(study.report_problem(plan.entry.name, error))
        before += plan.total
    kept = sum(len(plan.stored) for plan in plans)
    return EncodeOutcome(encoded, kept, tuple(finished), tuple(problems), sum(damaged.values()), damaged)


def _plan(recipe: Recipe, entry: SlideEntry, wanted: NDArray[np.integer[Any]] | None) -> _Plan:
    from napari_batchfx.tiles import damaged_tiles

    place = recipe.place(entry)
    cells = place.grid.cells(recipe.settings.min_tissue) if wanted is None else wanted
    cells = np.asarray(cells, dtype=np.int64).reshape(-1, 2)
    if wanted is None and not len(cells):
        raise StudyError(
            f"{entry.name}: no tile has {recipe.settings.min_tissue:.0%} tissue; "
            "lower the least share of tissue."
        )
    there = np.asarray(place.array.has(cells), dtype=bool)
    todo = cells[~there]
    damaged = damaged_tiles(place.grid, todo)
    return _Plan(entry, place, cells[there], todo[~damaged], int(damaged.sum()))


def _fill(plan: _Plan, recipe: Recipe, before: int, total: int, *, show: bool) -> Job[int]:
    """Encode what a slide lacks and store it batch by batch; its tiles are yielded with the slide's name."""
    from napari_batchfx.encoders import encode
    from napari_batchfx.features import whole_tiles

    entry, place, what = plan.entry, plan.place, f"encoding {plan.entry.name}"
    # What is there was read in the colours, and at the pixel size, that the place names: the slide may have
    # others by now.
    place.grid.check_slide()
    for start in range(0, len(plan.stored), _BLOCK if show else max(1, len(plan.stored))):
        block = plan.stored[start : start + _BLOCK]
        tiles = EncodedTiles(entry.name, entry.fingerprint, block, place.array.read(block)) if show else None
        yield Progress(before + start + len(block), total, what, partial=tiles)
    before += len(plan.stored)
    stored = 0
    if not len(plan.todo):
        return stored
    job = encode(
        place.grid,
        recipe.encoder,
        plan.todo,
        normalizer=place.transform,
        batch_size=recipe.settings.batch_size,
    )
    try:
        for step in job:
            batch, partial = step.partial, None
            if batch is not None:
                place.grid.check_slide()
                batch = whole_tiles(place.grid, batch)
                place.array.append(batch.cells, batch.features)
                stored += len(batch.cells)
                partial = EncodedTiles(entry.name, entry.fingerprint, batch.cells, batch.features)
            yield Progress(before + step.done, total, what, step.unit, step.rate, partial)
    finally:
        job.close()
    return stored
