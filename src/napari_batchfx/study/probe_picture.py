"""The picture of a site probe over the slides: its own tiles, and those encoded since."""

from __future__ import annotations

import threading
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from napari_batchfx.errors import BatchfxError
from napari_batchfx.jobs import Job, Progress
from napari_batchfx.study.encoding import BLOCK, EncodedTiles
from napari_batchfx.study.maps import QUANTITIES, Quantity, probe_look
from napari_batchfx.study.probe_table import stored_array
from napari_batchfx.study.settings import EncodeSettings
from napari_batchfx.study.tables import batch_value

if TYPE_CHECKING:
    from napari_batchfx.study.bench import Bench
    from napari_batchfx.study.live_view import Look
    from napari_batchfx.study.probed import ProbeOutcome
    from napari_batchfx.tiles import TileGrid, TileMap

__all__ = ["ProbePicture", "ViewFigure", "catch_up_job"]

_COLUMNS = ("slide", "patient", "site", "scanner", "stain")
_SAME = ("encoder", "precision", "normalizer", "target", "cohort")


@dataclass(frozen=True)
class ViewFigure:
    """What the probe says of the tiles in view.

    Parameters
    ----------
    recognised : float
        Mean over the batches in view of the share of their tiles that is recognised; NaN without tiles.
    chance : float
        What guessing would give.
    tiles : int
        Tiles it is about.
    batch : str
        What is recognised ("scanner").
    taken_for : dict of str to int
        Tiles taken for each batch, for slides whose own isn't among those learned.
    """

    recognised: float
    chance: float
    tiles: int
    batch: str
    taken_for: dict[str, int]

    @property
    def text(self) -> str:
        """One line."""
        if self.tiles:
            return (
                f"{self.batch} recognised in {100 * self.recognised:.0f} of 100 tiles in view "
                f"(guessing {100 * self.chance:.0f})"
            )
        total = sum(self.taken_for.values())
        if total:
            name, n = max(self.taken_for.items(), key=lambda one: one[1])
            return f"an unknown {self.batch}: {n:,} of {total:,} tiles in view look like {name}"
        return "no tile in view is scored yet"


@dataclass
class _SlideScores:
    grid: TileGrid
    own: int  # number of the slide's batch, -1 where the probe doesn't know it
    values: dict[Quantity, NDArray[np.float32]]
    taken: NDArray[np.int16]  # -1 = not scored


class ProbePicture:
    """One value a tile of the site probe run last; tiles encoded since are scored as they come.

    A tile of a slide that the probe has seen is scored by the classifier of the fold that its slide was held
    out of (of the nearest tile's fold, where slides were split by place), a slide it has not seen by all of
    them.

    Parameters
    ----------
    study : Study
    outcome : ProbeOutcome
        With its classifiers, or no further tiles are scored.
    """

    def __init__(self, study: Bench, outcome: ProbeOutcome) -> None:
        self.outcome = outcome
        self._study = study
        self._lock = threading.Lock()
        self._slides: dict[str, _SlideScores] = {}
        self._changed: set[str] = set()
        self._encode = EncodeSettings(**outcome.computed_from["encode"])
        self._names = {
            fingerprint: name for name, fingerprint in outcome.computed_from.get("slides", {}).items()
        }
        self._groups = self._groups_of_slides()
        self._unknowable = self._seen_by_all()

    @property
    def fits(self) -> bool:
        """Whether tiles encoded with the study's present settings are what the probe was fitted on."""
        now, fitted = self._study.settings.encode, self.outcome.result.fitted
        return fitted is not None and all(getattr(now, key) == getattr(self._encode, key) for key in _SAME)

    def add(self, tiles: EncodedTiles, grid: TileGrid) -> int:
        """Score tiles that were just encoded; returns how many. Any thread; what has a value keeps it."""
        fitted = self.outcome.result.fitted
        if fitted is None or not len(tiles.cells) or tiles.features.shape[1] != fitted.dim:
            return 0
        if tiles.fingerprint in self._unknowable:
            return 0
        with self._lock:
            slide = self._slide(tiles.fingerprint)
            if slide is None or slide.grid.key != grid.key:
                return 0
            new = slide.taken[tiles.cells[:, 0], tiles.cells[:, 1]] < 0
        cells = tiles.cells[new]
        if not len(cells):
            return 0
        proba = fitted.apply(tiles.features[new], *self._held_out(tiles.fingerprint, grid, cells))
        with self._lock:
            self._put(slide, cells, proba)
            self._changed.add(tiles.fingerprint)
        return int(np.isfinite(proba).all(axis=1).sum())

    def prepare(self) -> None:
        """Take in the probe's own tiles, of slides that were not looked at yet."""
        with self._lock:
            for fingerprint in self.outcome.tiles.fingerprints:
                self._slide(fingerprint)

    def maps(self, what: Quantity = "confidence", *, changed: bool = False) -> dict[str, TileMap]:
        """Maps by fingerprint: of all slides with a value, or of those ``changed`` since the last call."""
        from napari_batchfx.tiles import TileMap

        result = self.outcome.result
        look = probe_look(result.batch, float(result.chance), what)
        self.prepare()
        with self._lock:
            names = [name for name in (self._changed if changed else self._slides) if name in self._slides]
            self._changed -= set(names)
            found = {}
            for name in names:
                slide = self._slides[name]
                grid, values = slide.grid, slide.values[what].copy()
                found[name] = TileMap(grid.shape, (0.0, 0.0), grid.stride_um, grid.size_um, values, **look)
        return found

    def figure(self, looks: Sequence[Look]) -> ViewFigure:
        """What it says of the tiles in view."""
        result = self.outcome.result
        right: dict[int, list[int]] = {}
        taken: dict[str, int] = {}
        for look in looks:
            with self._lock:
                slide = self._slides.get(look.entry.fingerprint)
                if slide is None:
                    continue
                cells = np.asarray(slide.grid.cells_in_box(*look.box_um)).reshape(-1, 2)
                said = slide.taken[cells[:, 0], cells[:, 1]]
            said = said[said >= 0]
            if slide.own >= 0:
                counts = right.setdefault(slide.own, [0, 0])
                counts[0] += int((said == slide.own).sum())
                counts[1] += len(said)
            else:
                for number, n in zip(*np.unique(said, return_counts=True), strict=True):
                    name = result.batches[int(number)]
                    taken[name] = taken.get(name, 0) + int(n)
        shares = [hits / n for hits, n in right.values() if n]
        return ViewFigure(
            float(np.mean(shares)) if shares else float("nan"),
            float(result.chance),
            sum(n for _, n in right.values()),
            result.batch,
            taken,
        )

    # ------------------------------------------------------------------ one slide

    def _slide(self, fingerprint: str) -> _SlideScores | None:
        """A slide's scores; begun with those of the probe itself. Called with the lock held."""
        slide = self._slides.get(fingerprint)
        entry = next((one for one in self._study.slides if one.fingerprint == fingerprint), None)
        if slide is None and entry is not None:
            try:
                grid = self._study.grid_of(entry, self._encode)
            except (BatchfxError, OSError):
                return None
            result = self.outcome.result
            rows, cells = self.outcome.tiles.on(fingerprint)
            own = self._own_batch(fingerprint, rows)
            if own is None:
                value = batch_value(entry, result.batch)
                own = result.batches.index(value) if value in result.batches else -1
            blank: dict[Quantity, NDArray[np.float32]] = {
                what: np.full(grid.shape, np.nan, np.float32) for what in QUANTITIES
            }
            slide = _SlideScores(grid, own, blank, np.full(grid.shape, -1, np.int16))
            inside = (cells < grid.shape).all(axis=1)
            self._put(slide, cells[inside], result.proba[rows[inside]])
            self._slides[fingerprint] = slide
        return slide

    def _own_batch(self, fingerprint: str, rows: NDArray[np.int64]) -> int | None:
        """The slide's batch as the probe knew it: probability of which column is its confidence."""
        result = self.outcome.result
        scored = rows[np.isfinite(result.confidence[rows])]
        if not len(scored):
            return None
        same = np.isclose(result.proba[scored], result.confidence[scored, None], rtol=0, atol=1e-12).all(
            axis=0
        )
        return int(np.argmax(same)) if same.sum() == 1 else None

    def _put(self, slide: _SlideScores, cells: NDArray[np.int64], proba: NDArray[np.float64]) -> None:
        fine = np.isfinite(proba).all(axis=1)
        cells, p = cells[fine], proba[fine]
        if not len(cells):
            return
        at = (cells[:, 0], cells[:, 1])
        safe = np.clip(p, 1e-300, 1.0)
        slide.values["entropy"][at] = -(safe * np.log(safe)).sum(axis=1) / np.log(p.shape[1])
        slide.taken[at] = p.argmax(axis=1)
        if slide.own >= 0:
            own = p[:, slide.own]
            others = np.delete(p, slide.own, axis=1).max(axis=1)
            slide.values["confidence"][at] = own
            slide.values["margin"][at] = own - others

    # ------------------------------------------------------------------ who has not seen a tile

    def _groups_of_slides(self) -> dict[str, str]:
        """A group of the fold of each slide held out as a whole: names and patients may be others by now."""
        fitted, result = self.outcome.result.fitted, self.outcome.result
        if fitted is None:
            return {}
        of_fold = {fold: group for group, fold in fitted.fold_of.items()}
        found = {}
        for fingerprint in self.outcome.tiles.fingerprints:
            rows, _ = self.outcome.tiles.on(fingerprint)
            folds = np.unique(result.folds[rows])
            folds = folds[folds >= 0]
            if (
                len(folds) == 1
                and int(folds[0]) in of_fold
                and self._names.get(fingerprint) not in fitted.places
            ):
                found[fingerprint] = of_fold[int(folds[0])]
        return found

    def _seen_by_all(self) -> set[str]:
        """Slides of the probe of which can't be told any more which classifier has not seen them."""
        fitted, result = self.outcome.result.fitted, self.outcome.result
        places = {} if fitted is None else fitted.places
        return {
            fingerprint
            for fingerprint in self.outcome.tiles.fingerprints
            if fingerprint not in self._groups
            and self._names.get(fingerprint) not in places
            and (result.folds[self.outcome.tiles.on(fingerprint)[0]] >= 0).any()
        }

    def _held_out(
        self, fingerprint: str, grid: TileGrid, cells: NDArray[np.int64]
    ) -> tuple[list[str], list[str], NDArray[np.float64]]:
        """Group, slide and place of tiles, as :meth:`FittedProbe.apply` takes them."""
        fitted = self.outcome.result.fitted
        entry = next((one for one in self._study.slides if one.fingerprint == fingerprint), None)
        group = self._groups.get(fingerprint)
        if group is None and entry is None:
            group = ""  # it left the study meanwhile
        elif group is None and entry is not None:
            column = "slide" if fitted is None else fitted.group
            group = (
                batch_value(entry, column)
                if column in ("slide", "patient", "site", "scanner", "stain")
                else ""
            )
        name = self._names.get(fingerprint, "\0")  # a slide that came later is no place of the probe's
        n = len(cells)
        return [group or ""] * n, [name] * n, np.asarray(grid.center_um(cells), dtype=np.float64)


def catch_up_job(study: Bench, picture: ProbePicture) -> Job[int]:
    """Score what the store has beyond the probe's own tiles; returns how many tiles. Loads no encoder.

    Parameters
    ----------
    study : Study
    picture : ProbePicture
        With its classifiers.

    Returns
    -------
    Job
        A slide that can't be opened is left out.
    """
    outcome, scored = picture.outcome, 0
    fitted = outcome.result.fitted
    if fitted is None:
        return 0
    for done, entry in enumerate(list(study.slides)):
        yield Progress(done, len(study.slides), "scoring tiles encoded since", "slides")
        try:
            grid, array = stored_array(study, outcome, entry, fitted.dim)
            cells = np.asarray(array.done_cells(), dtype=np.int64).reshape(-1, 2)
            cells = cells[np.asarray(array.has(cells), dtype=bool)]
            for start in range(0, len(cells), BLOCK):
                block = cells[start : start + BLOCK]
                tiles = EncodedTiles(entry.name, entry.fingerprint, block, array.read(block))
                scored += picture.add(tiles, grid)
                yield Progress(done, len(study.slides), "scoring tiles encoded since", "slides")
        except (BatchfxError, OSError):
            continue
    return scored
