"""Encoding the slides of a study into its store."""

from __future__ import annotations

import contextlib
import errno
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from napari_batchfx.errors import BatchfxError, StudyError
from napari_batchfx.jobs import Job, Progress
from napari_batchfx.slides import give_back_memory
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
#: Up to so many slides are looked at before the first is encoded; of more, the number of tiles is estimated.
LOOK_FIRST = 16
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
    if study.cluster is not None and cells is None:
        return (yield from study.cluster.encode_job(study, entries))
    recipe = yield from Recipe.job(study)
    return (yield from encode_recipe_job(recipe, entries, cells))


def encode_recipe_job(
    recipe: Recipe, entries: Sequence[SlideEntry], cells: Mapping[str, NDArray[np.integer[Any]]] | None
) -> Job[EncodeOutcome]:
    """:func:`encode_job` with other settings than the study's present ones."""
    study = recipe.study
    asked = [
        entry
        for entry in entries
        if recipe.selection.takes(entry.name) and (cells is None or entry.name in cells)
    ]
    found = Found(len(asked))
    ready: dict[str, SlideWork] = {}
    if len(asked) <= LOOK_FIRST:
        # Few slides: how many tiles there are in all is known before the first is encoded.
        for done, entry in enumerate(asked):
            yield Progress(done, len(asked), f"looking at {entry.name}", "slides")
            with _reporting(study, found, entry):
                ready[entry.fingerprint] = _work(recipe, entry, cells)
        found.total = sum(work.total for work in ready.values())
    # One slide after the other: what is done can be worked with, and its pixels and features stay together.
    try:
        for entry in asked:
            if len(asked) <= LOOK_FIRST and entry.fingerprint not in ready:
                continue
            with _reporting(study, found, entry), study.visiting(entry):
                work = ready.pop(entry.fingerprint, None) or _work(recipe, entry, cells)
                found.begin(work)
                try:
                    # Cells that were named are shown at once; of whole slides the store alone is read.
                    for step in _fill(work, recipe, show=cells is not None):
                        yield found.progress(work, step)
                    found.finish(work)
                finally:
                    found.end(work)
                    work.claim.drop()
    finally:
        give_back_memory()  # the encoder's buffers, and the tiles that were read ahead
    return found.outcome()


@contextlib.contextmanager
def _reporting(study: Bench, found: Found, entry: SlideEntry) -> Iterator[None]:
    """Let one slide fail and the rest go on; a full disk ends the job, since every slide would fail."""
    try:
        yield
    except (BatchfxError, OSError) as error:
        if _is_full(error):
            raise
        found.problems.append(study.report_problem(entry.name, error))
    except (GeneratorExit, KeyboardInterrupt):
        raise
    except Exception as error:  # noqa: BLE001 - a thousand slides are not lost to what nobody thought of
        text = " ".join(f"{type(error).__name__}: {error}".split())[:300]
        found.problems.append(
            study.report_problem(entry.name, f"{entry.name}: it can't be encoded ({text}); it is left out.")
        )


def _is_full(error: BaseException | None) -> bool:
    while error is not None:
        if isinstance(error, OSError) and error.errno in (errno.ENOSPC, getattr(errno, "EDQUOT", -1)):
            return True
        error = error.__cause__
    return False


@dataclass
class Found:
    """What became of the slides so far; kept as numbers, so that it doesn't grow with their tiles.

    Parameters
    ----------
    n_slides : int
        Slides in all.
    total : int or None
        Tiles in all where it is known; estimated from the slides so far otherwise.
    """

    n_slides: int
    total: int | None = None
    problems: list[Problem] = field(default_factory=list)
    _slides: list[str] = field(default_factory=list)
    _begun: int = 0
    _tiles: int = 0
    _before: int = 0
    _encoded: int = 0
    _kept: int = 0
    _damaged: dict[str, int] = field(default_factory=dict)
    _lost: dict[str, int] = field(default_factory=dict)
    _start: float = field(default_factory=time.monotonic)

    def begin(self, work: SlideWork) -> None:
        """A slide comes next."""
        self._begun += 1
        self._tiles += work.total

    def progress(self, work: SlideWork, step: Progress) -> Progress:
        """A slide's progress as that of the whole job: tiles, and tiles a second of all so far."""
        total = self.total
        if total is None:
            total = round(self._tiles * max(self.n_slides, self._begun) / max(1, self._begun))
        new = self._encoded + work.n_computed
        seconds = time.monotonic() - self._start
        rate = new / seconds if new and seconds > 0 else None
        return replace(step, done=self._before + step.done, total=total, rate=rate)

    def finish(self, work: SlideWork) -> None:
        """A slide is done."""
        self._slides.append(work.entry.name)
        if work.n_damaged:
            self._damaged[work.entry.name] = work.n_damaged
        # Asked for here, so that nobody is told later to encode what is whole again.
        if lost := work.place.array.damage_found():
            self._lost[work.entry.name] = lost

    def end(self, work: SlideWork) -> None:
        """Nothing more comes of a slide, done or not."""
        self._before += work.total
        self._encoded += work.n_encoded
        self._kept += len(work.stored) + work.n_found

    def outcome(self) -> EncodeOutcome:
        """All of it."""
        return EncodeOutcome(
            self._encoded,
            self._kept,
            tuple(self._slides),
            tuple(self.problems),
            sum(self._damaged.values()),
            dict(self._damaged),
            dict(self._lost),
        )


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


def _work(
    recipe: Recipe, entry: SlideEntry, named: Mapping[str, NDArray[np.integer[Any]]] | None
) -> SlideWork:
    from napari_batchfx.tiles import block_order

    place = recipe.place(entry)
    wanted = recipe.selection.cells(entry.name) if named is None else named[entry.name]
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
                tiles = None if step.partial is None else work.hold(step.partial)
                yield Progress(work.done, 0, what, step.unit, step.rate, tiles)
        except StopIteration:
            continue
        finally:
            job.close()
            work.store()
