"""Encoding what is looked at: one job that follows the view instead of beginning anew for every move."""

from __future__ import annotations

from collections import Counter, deque
from contextlib import ExitStack
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from napari_batchfx.encoders.base import EncoderMemoryError
from napari_batchfx.errors import BatchfxError
from napari_batchfx.jobs import Job, Progress
from napari_batchfx.slides import give_back_memory
from napari_batchfx.study.encoding import BLOCK, WAIT_S, EncodeOutcome, outcome_of
from napari_batchfx.study.entries import SlideEntry
from napari_batchfx.study.live_line import LiveLine
from napari_batchfx.study.live_view import Aim, LiveView, Look
from napari_batchfx.study.mapping import EncodedMap
from napari_batchfx.study.overview import Overview, tissue_cells
from napari_batchfx.study.recipe import Place, Recipe
from napari_batchfx.study.recording import record_cells
from napari_batchfx.study.slide_work import EncodedTiles, SlideWork

if TYPE_CHECKING:
    from napari_batchfx.study.bench import Bench
    from napari_batchfx.study.problems import Problem

__all__ = ["Pace", "live_job"]

#: A batch takes about this long, in seconds: so soon nothing of a view that was left is begun any more.
STEP_S = 0.06
#: Where a view has more tiles than are computed in this time, it is coloured coarsely first.
EARLY_S = 1.5
_FIRST_BATCH = 4
_FIRST_BUDGET = 96


@dataclass
class Pace:
    """How fast tiles are computed here, measured while it is done.

    Examples
    --------
    >>> pace = Pace()
    >>> for _ in range(3):
    ...     pace.measured(8, 0.08, width=2)
    >>> round(pace.rate), pace.batch, pace.budget(2)
    (200, 6, 150)
    """

    each: float | None = None
    width: int = 1
    _skipped: bool = False

    def measured(self, tiles: int, seconds: float, width: int = 1) -> None:
        """Take a batch into account that ran for some seconds, one of ``width`` at a time."""
        self.width = width
        if not self._skipped:  # the first also pays for buffers and for compiling
            self._skipped = True
            return
        each = max(1e-6, seconds / max(1, tiles))
        self.each = each if self.each is None else 0.7 * self.each + 0.3 * each

    @property
    def rate(self) -> float | None:
        """Tiles a second."""
        return None if self.each is None else self.width / self.each

    @property
    def batch(self) -> int:
        """Tiles that take a lane about ``STEP_S``."""
        return _FIRST_BATCH if self.each is None else int(np.clip(STEP_S / self.each + 1e-6, 1, 128))

    def budget(self, n_slides: int) -> int:
        """Tiles of each slide that take about ``EARLY_S`` together."""
        tiles = _FIRST_BUDGET if self.rate is None else self.rate * EARLY_S
        return max(16, int(tiles / max(1, n_slides)))


def live_job(study: Bench, view: LiveView, overview: Overview, pace: Pace | None = None) -> Job[EncodedMap]:
    """Encode what a view shows, and go on with what it shows then wherever it moves meanwhile.

    What the store has is shown first. Slides take turns, batch by batch; each from the centre of the view
    out, or coarsely all over first where there is much to do. Between two batches the job asks the view: one
    that moved on is followed, one that is held makes it wait. It ends when the view has all its tiles or is
    closed.

    Parameters
    ----------
    study : Study
    view : LiveView
    overview : Overview
        The picture that the tiles are added to.
    pace : Pace, optional
        How fast it went so far.

    Returns
    -------
    Job
        Yields ``Progress(partial=MappedTiles)`` and returns an :class:`EncodedMap` (without maps: they are in
        ``overview``).
    """
    study.claim()
    recipe = yield from Recipe.job(study)
    settings = study.settings.model_copy(deep=True)
    live = _Live(study, recipe, view, overview, pace or Pace())
    try:
        yield from live.run()
    finally:
        view.close()
        live.close()
        record_cells(study, settings, {name: np.concatenate(new) for name, new in live.fresh.items()})
    return EncodedMap(live.outcome(), {})


class _Live:
    def __init__(self, study: Bench, recipe: Recipe, view: LiveView, overview: Overview, pace: Pace) -> None:
        self.study, self.recipe, self.view, self.overview, self.pace = study, recipe, view, overview, pace
        self.line = LiveLine(recipe)
        self.works: list[SlideWork] = []
        self.turns: deque[SlideWork] = deque()
        self.largest = recipe.settings.batch_size or recipe.encoder.most_at_once
        self.encoded: Counter[str] = Counter()
        self.fresh: dict[str, list[NDArray[np.int64]]] = {}
        self.failed: set[str] = set()
        self.problems: list[Problem] = []
        self.held: set[str] = set()
        self.holding = ExitStack()

    def run(self) -> Job[None]:
        shown = planned = -1  # turns of the view
        while not self.view.is_closed:
            aim = self.view.current
            if not aim.held and aim.turn != planned:
                shown = planned = aim.turn
                self.line.recall()
                yield from self._plan(aim)
            elif aim.turn != shown:
                shown = aim.turn
                self.line.recall()
                yield from self._show(aim)
                self.view.shown(aim)
            elif aim.held:
                self.line.recall()  # what was read ahead may not be wanted any more
                yield from self._collect()
                self.view.wait(aim, WAIT_S)
                yield self._progress("waiting for the view to rest")
            else:
                yield from self._step(aim)

    def _step(self, aim: Aim) -> Job[None]:
        self._send()
        if not self.line.is_empty:
            self.line.wait(WAIT_S)
            yield from self._collect()
        elif self.turns:
            yield from self._collect()  # what another job has stored by now
            self.view.wait(aim, WAIT_S if self.turns else 0)
            yield self._progress("waiting for tiles that are under way")
        else:
            yield from self._complete(aim)
            yield self._progress("the view is done")
            give_back_memory()  # what batches and pictures of this view left, while nobody waits
            self.view.finish(aim)

    def _send(self) -> None:
        """Keep readers and lanes at work: a batch of each slide in turn."""
        for work, error in self.line.advance():
            self._fail(work, error)
        for _ in range(len(self.turns)):
            if not self.line.has_room:
                break
            if self.view.current.held:
                return
            work = self.turns[0]
            try:
                self._hold(work)
                cells = work.take(min(self.pace.batch, self.largest))
            except (BatchfxError, OSError) as error:
                self._fail(work, error)
                continue
            if len(cells):
                self.line.send(work, cells)
            self.turns.rotate(-1)
            if work.is_done:
                self.turns.remove(work)

    def _hold(self, work: SlideWork) -> None:
        """Keep the right to write a slide's features until the job ends."""
        if work.entry.fingerprint not in self.held:
            self.holding.enter_context(work.place.array.writing(work.entry.name))
            self.held.add(work.entry.fingerprint)

    def _collect(self) -> Job[None]:
        """Store and show the batches that ran; meanwhile the next ones run."""
        if not self.view.current.held:
            self._send()
        while batch := self.line.next_done():
            try:
                tiles = self.line.keep(batch)
            except EncoderMemoryError as error:
                if len(batch.cells) == 1:
                    self._fail(batch.work, error)
                self.largest = max(1, len(batch.cells) // 2)
                continue
            except (BatchfxError, OSError) as error:
                self._fail(batch.work, error)
                continue
            self.encoded[tiles.fingerprint] += len(tiles.cells)
            self.fresh.setdefault(tiles.slide, []).append(tiles.cells)
            self.pace.measured(len(batch.cells), batch.seconds, self.line.width)
            yield self._progress(f"encoding {tiles.slide}", self.overview.add(tiles, batch.work.place.grid))
        for work in list(self.turns):
            if found := work.found():
                yield self._progress(f"showing {found.slide}", self.overview.add(found, work.place.grid))
            if work.is_done:
                self.turns.remove(work)

    def _plan(self, aim: Aim) -> Job[None]:
        """Aim at another view: show what the store has of it, and put the rest in order."""
        works = []
        for look in aim.looks:
            yield from self._show(aim, (look,))
            if look is aim.looks[-1]:
                self.view.shown(aim)
            if self.view.current.turn != aim.turn:
                break
            try:
                place = self.recipe.place(look.entry)
                cells = self._ordered(self._cells(place, look), place, look, len(aim.looks))
                works.append(SlideWork(look.entry, place, cells))
            except (BatchfxError, OSError) as error:
                self._report(look.entry.name, error)
        # The slide that got least so far begins, or many movements would always favour the first.
        works.sort(key=lambda work: self.encoded[work.entry.fingerprint])
        self.works, self.turns = works, deque(work for work in works if not work.is_done)

    def _show(self, aim: Aim, looks: tuple[Look, ...] | None = None) -> Job[None]:
        """Add to the picture what the store has of a view and the picture lacks."""
        for look in aim.looks if looks is None else looks:
            yield self._progress(f"looking at {look.entry.name}")
            try:
                place = self.recipe.place(look.entry)
                cells = self._cells(place, look)
                yield from self._add_stored(aim, look.entry, place, cells)
            except (BatchfxError, OSError) as error:
                self._report(look.entry.name, error)

    def _complete(self, aim: Aim) -> Job[None]:
        """With nothing else to do, add what the store has beyond the view: it is there when it is seen."""
        from napari_batchfx.tiles import nearest_first

        for look in aim.looks:
            try:
                place = self.recipe.place(look.entry)
                if self.overview.is_complete(look.entry.fingerprint, place.grid):
                    continue
                done = np.asarray(place.array.done_cells(), dtype=np.int64).reshape(-1, 2)
                done = nearest_first(done, look.centre_um, place.grid)
                yield from self._add_stored(aim, look.entry, place, done)
            except (BatchfxError, OSError) as error:
                self._report(look.entry.name, error)
                continue
            if self.view.current is aim:
                self.overview.set_complete(look.entry.fingerprint)

    def _add_stored(self, aim: Aim, entry: SlideEntry, place: Place, cells: NDArray[np.int64]) -> Job[None]:
        cells = cells[self.overview.lacks(entry.fingerprint, place.grid, cells)]
        cells = cells[np.asarray(place.array.has(cells), dtype=bool)]
        for start in range(0, len(cells), BLOCK):
            if self.view.current.turn != aim.turn:
                return
            block = cells[start : start + BLOCK]
            tiles = EncodedTiles(entry.name, entry.fingerprint, block, place.array.read(block))
            yield self._progress(f"showing {entry.name}", self.overview.add(tiles, place.grid))

    def _cells(self, place: Place, look: Look) -> NDArray[np.int64]:
        return tissue_cells(place.grid, look.box_um, self.recipe.settings.min_tissue)

    def _ordered(
        self, cells: NDArray[np.int64], place: Place, look: Look, n_slides: int
    ) -> NDArray[np.int64]:
        from napari_batchfx.tiles import nearest_first, view_order

        budget = self.pace.budget(n_slides)
        todo = cells[~np.asarray(place.array.has(cells), dtype=bool)]
        if len(todo) <= budget:
            return nearest_first(cells, look.centre_um, place.grid)
        # The lattice is laid over the whole view: what is stored is part of it, and colours its place.
        return view_order(place.grid, cells, look.centre_um, budget, min_tissue=0.0)

    def _progress(self, what: str, partial: Any = None) -> Progress:
        done, total = sum(work.done for work in self.works), sum(work.total for work in self.works)
        return Progress(done, total, what, rate=self.pace.rate, partial=partial)

    def _fail(self, work: SlideWork, error: Exception) -> None:
        """Leave a slide out for this view; the others go on."""
        if work in self.turns:
            self.turns.remove(work)
        work.claim.drop()
        self.failed.add(work.entry.name)
        self._report(work.entry.name, error)

    def _report(self, name: str, error: Exception) -> None:
        if all(problem.subject != name for problem in self.problems):
            self.problems.append(self.study.report_problem(name, error))

    def close(self) -> None:
        """Keep what runs, and end the threads."""
        with self.holding:
            self.line.close()
        for work in self.works:
            work.claim.drop()

    def outcome(self) -> EncodeOutcome:
        """What was encoded for all views; what was there already, and is damaged, for the last one."""
        finished = [work for work in self.works if work.is_done and work.entry.name not in self.failed]
        last = outcome_of(self.works, finished, self.problems)
        return replace(last, tiles=self.encoded.total())
