"""Encoding the slides of a study into its store."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from napari_batchfx.errors import BatchfxError, StudyError
from napari_batchfx.jobs import Job, Progress
from napari_batchfx.study.entries import SlideEntry
from napari_batchfx.study.problems import Problem
from napari_batchfx.study.recipe import Recipe
from napari_batchfx.study.slide_work import EncodedTiles, SlideWork

if TYPE_CHECKING:
    from napari_batchfx.study.bench import Bench

__all__ = [
    "BLOCK",
    "WAIT_S",
    "EncodeOutcome",
    "EncodedTiles",
    "encode_job",
    "encode_recipe_job",
    "outcome_of",
]

#: Stored tiles that are read at a time.
BLOCK = 1024
#: How often, in seconds, a job looks whether another has stored what it was at.
WAIT_S = 0.05


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
    lost_by_slide : dict of str to int
        Tiles whose features were found damaged on the disk; of a slide that is done they were encoded again.
    """

    tiles: int
    kept: int
    slides: tuple[str, ...]
    problems: tuple[Problem, ...] = ()
    damaged: int = 0
    damaged_by_slide: dict[str, int] = field(default_factory=dict)
    lost_by_slide: dict[str, int] = field(default_factory=dict)

    def damage_said(self) -> list[str]:
        """One sentence a slide on the tiles that were left out, and on those whose features were damaged."""
        said = [
            f"{name}: {n:,} {'tile is' if n == 1 else 'tiles are'} damaged in the file and left out."
            for name, n in self.damaged_by_slide.items()
        ]
        return said + self.lost_said()

    def lost_said(self) -> list[str]:
        """One sentence a slide on tiles whose features were damaged on the disk; they are whole again."""
        whose = {n: f"{n:,} tiles were" if n > 1 else "1 tile were" for n in self.lost_by_slide.values()}
        return [
            f"{name}: the features of {whose[n]} damaged on the disk and encoded again; check the disk."
            for name, n in self.lost_by_slide.items()
        ]


def encode_job(
    study: Bench, entries: Sequence[SlideEntry], cells: Mapping[str, NDArray[np.integer[Any]]] | None
) -> Job[EncodeOutcome]:
    """Encode tiles of slides into the study's store (see :meth:`Study.encode_job`)."""
    if not entries:
        raise StudyError(f"{study.name}: there is no slide to encode; add one.")
    recipe = yield from Recipe.job(study)
    return (yield from encode_recipe_job(recipe, entries, cells))


def encode_recipe_job(
    recipe: Recipe, entries: Sequence[SlideEntry], cells: Mapping[str, NDArray[np.integer[Any]]] | None
) -> Job[EncodeOutcome]:
    """:func:`encode_job` with other settings than the study's present ones."""
    study = recipe.study
    problems: list[Problem] = []
    works: list[SlideWork] = []
    asked = [entry for entry in entries if cells is None or entry.name in cells]
    for done, entry in enumerate(asked):
        yield Progress(done, len(asked), f"looking at {entry.name}", "slides")
        try:
            works.append(_work(recipe, entry, None if cells is None else cells[entry.name]))
        except (BatchfxError, OSError) as error:
            problems.append(study.report_problem(entry.name, error))
    filled: list[SlideWork] = []
    total = sum(work.total for work in works)
    # One slide after the other: what is done can be worked with, and its pixels and features stay together.
    for index, work in enumerate(works):
        before = sum(other.total for other in works[:index])
        try:
            # Cells that were named are shown at once; of whole slides the store alone is read.
            for step in _fill(work, recipe, show=cells is not None):
                yield replace(step, done=before + step.done, total=total)
            filled.append(work)
        except (BatchfxError, OSError) as error:
            problems.append(study.report_problem(work.entry.name, error))
        finally:
            work.claim.drop()
    # Asked for here, so that nobody is told later to encode what is whole again.
    lost = {work.entry.name: n for work in filled if (n := work.place.array.damage_found())}
    return replace(outcome_of(works, filled, problems), lost_by_slide=lost)


def outcome_of(
    works: Sequence[SlideWork], finished: Sequence[SlideWork], problems: Sequence[Problem]
) -> EncodeOutcome:
    """What became of the work on several slides."""
    damaged = {work.entry.name: work.n_damaged for work in finished if work.n_damaged}
    return EncodeOutcome(
        sum(work.n_encoded for work in works),
        sum(len(work.stored) + work.n_found for work in works),
        tuple(work.entry.name for work in finished),
        tuple(problems),
        sum(damaged.values()),
        damaged,
    )


def _work(recipe: Recipe, entry: SlideEntry, wanted: NDArray[np.integer[Any]] | None) -> SlideWork:
    from napari_batchfx.tiles import block_order

    place = recipe.place(entry)
    if wanted is not None:
        return SlideWork(entry, place, wanted)
    cells = place.grid.cells(recipe.settings.min_tissue)
    if not len(cells):
        raise StudyError(
            f"{entry.name}: no tile has {recipe.settings.min_tissue:.0%} tissue; "
            "lower the least share of tissue."
        )
    return SlideWork(entry, place, block_order(cells))


def _fill(work: SlideWork, recipe: Recipe, *, show: bool) -> Job[None]:
    """Encode what a slide lacks and store it batch by batch; its tiles are yielded with the slide's name."""
    what = f"encoding {work.entry.name}"
    work.place.grid.check_slide()
    for start in range(0, len(work.stored), BLOCK if show else max(1, len(work.stored))):
        block = work.stored[start : start + BLOCK] if show else work.stored
        yield Progress(start + len(block), 0, what, partial=work.read(block) if show else None)
    if work.is_done:
        return
    with work.place.array.writing(work.entry.name):
        yield from _compute(work, recipe, what)


def _compute(work: SlideWork, recipe: Recipe, what: str) -> Job[None]:
    from napari_batchfx.encoders import encode

    while not work.is_done:
        todo = work.take()
        if found := work.found():
            yield Progress(work.done, 0, what, partial=found)
        if not len(todo):
            if not work.is_done:
                time.sleep(WAIT_S)
                yield Progress(work.done, 0, f"waiting for tiles of {work.entry.name} that are under way")
            continue
        job = encode(
            work.place.grid,
            recipe.encoder,
            todo,
            normalizer=work.place.transform,
            batch_size=recipe.settings.batch_size,
        )
        try:
            while True:
                work.claim.is_busy = True
                try:
                    step = next(job)
                finally:
                    work.claim.is_busy = False
                    work.claim.touch()
                tiles = None if step.partial is None else work.keep(step.partial)
                yield Progress(work.done, 0, what, step.unit, step.rate, tiles)
        except StopIteration:
            continue
        finally:
            job.close()
