"""What stain normalisation does to the signature: tiles encoded as scanned and normalised, compared."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from napari_batchfx.errors import StudyError
from napari_batchfx.jobs import Job, Progress
from napari_batchfx.study.before_after import BeforeAfter, compare_job
from napari_batchfx.study.encoding import encode_recipe_job
from napari_batchfx.study.entries import SlideEntry
from napari_batchfx.study.recipe import Recipe
from napari_batchfx.study.settings import EncodeSettings, StainSettings
from napari_batchfx.study.tables import batch_value, make_study_table

if TYPE_CHECKING:
    from anndata import AnnData

    from napari_batchfx.study.bench import Bench

__all__ = ["LITERATURE", "StainEffect", "stain_effect_job"]

Cells = NDArray[np.integer[Any]]
Box = tuple[float, float, float, float]

#: What is published, for whoever reads the numbers.
LITERATURE = (
    "Published: probes still recognise the hospital after Macenko and Reinhard, in over 80 of 100 tiles of "
    "five hospitals and 97 of two (Kömen et al. 2024). Colour is reduced, the signature mostly stays."
)


@dataclass(frozen=True, eq=False)
class StainEffect:
    """What :func:`stain_effect_job` found.

    Parameters
    ----------
    comparison : BeforeAfter
        As scanned, and normalised.
    method : str
        Id of the stain method.
    target : str
        What was aimed at, in words, without the name of a slide.
    encoder : str
    slides : tuple of str
        Names of the slides with tiles in it.
    tiles : dict of str to int
        Tiles a slide.
    encoded : int
        Tiles that had to be encoded now, both variants together.
    problems : tuple of str
        Slides that were left out, with the reason.
    """

    comparison: BeforeAfter
    method: str
    target: str
    encoder: str
    slides: tuple[str, ...]
    tiles: dict[str, int]
    encoded: int
    problems: tuple[str, ...] = ()
    literature: str = field(default=LITERATURE, repr=False)

    @property
    def sentence(self) -> str:
        """What came out, with what guessing would give."""
        return self.comparison.sentence

    @property
    def meaning(self) -> str:
        """What it means."""
        change = self.comparison.probe.change_interval
        if not self.comparison.probe.is_known:
            return "The probe could not be scored."
        if not self.comparison.still_there:
            return (
                "After it the probe does no better than guessing here. That is rare: look at more tiles, and "
                "at what it cost the classes."
            )
        if change is None or (change[0] <= 0.0 <= change[1]):
            return "The signature stays: what changed is within the interval."
        if change[1] < 0.0:
            return "The signature is weaker, and still there."
        return "The signature is stronger than before."

    @property
    def warnings(self) -> tuple[str, ...]:
        """What could mislead."""
        return (*self.problems, *self.comparison.warnings)

    def to_dict(self, *, with_names: bool = False) -> dict[str, Any]:
        """Plain values for JSON; names of slides are left out unless asked for."""
        found: dict[str, Any] = {
            "method": self.method,
            "target": self.target,
            "encoder": self.encoder,
            "meaning": self.meaning,
            "literature": self.literature,
            **self.comparison.to_dict(),
        }
        if with_names:
            found["slides"] = self.tiles
        return found


def stain_effect_job(
    study: Bench,
    slides: Sequence[SlideEntry | str] | None = None,
    *,
    boxes_um: Mapping[str, Box] | None = None,
    batch: str | None = None,
) -> Job[StainEffect]:
    """Encode tiles as scanned and with the stain settings, probe both and compare.

    Parameters
    ----------
    study : Study
        ``settings.stain`` says method and target (at full strength), ``settings.encode`` the encoder and the
        tiles, ``settings.probe`` what to recognise and what is held out together.
    slides : sequence of SlideEntry or str, optional
        Only these; all otherwise.
    boxes_um : mapping of str to (y0, x0, y1, x1), optional
        What is seen of each slide, by its name, in its micrometres; all of its tissue otherwise.
    batch : str, optional
        What to recognise instead of ``settings.probe.batch``.

    Yields
    ------
    Progress
        Tiles, then fits of the probe. Both sets of features stay in the store, each under its own stain
        variant; what is there is not computed again, and a job that was stopped goes on where it was.

    Returns
    -------
    StainEffect

    Raises
    ------
    StudyError
        If the slides don't differ in what is to be recognised, or no tile is seen.
    ProbeError
        If there are too few tiles.
    EncoderError, StainError
        If the encoder can't be loaded, or no slide's stain can be estimated.
    """
    choice = study.settings.stain.model_copy(deep=True)
    scoring = study.settings.probe.model_copy()
    entries = [study.slide(one) for one in (study.slides if slides is None else slides)]
    entries = [entry for entry in entries if boxes_um is None or entry.name in boxes_um]
    column = _column(study, entries, batch or scoring.batch, fixed=batch is not None)
    recipe = yield from Recipe.job(study)
    plain = replace(recipe, settings=recipe.settings.model_copy(update={"normalizer": None}))
    stained = replace(recipe, settings=_normalised(recipe.settings, choice))
    problems: list[str] = []
    cells: dict[str, Cells] = {}
    for done, entry in enumerate(entries):
        yield Progress(done, len(entries), f"looking at {entry.name}", "slides")
        cells[entry.name] = _cells(plain, entry, None if boxes_um is None else boxes_um[entry.name])
    entries = [entry for entry in entries if len(cells[entry.name])]
    if not entries:
        raise StudyError("No tile with tissue is seen; move the view over tissue, or zoom out.")
    n = 0
    for one in (stained, plain):  # first what can fail
        outcome = yield from encode_recipe_job(one, entries, {e.name: cells[e.name] for e in entries})
        n += outcome.tiles
        problems += [problem.text for problem in outcome.problems]
        entries = [entry for entry in entries if entry.name in outcome.slides]
        if not entries:
            raise StudyError(problems[0] if problems else "No tile could be encoded.")
    yield Progress(0, 0, "reading features")
    before, after = _same(_table(plain, entries, cells), _table(stained, entries, cells))
    found = yield from compare_job(
        before,
        after,
        batch=column,
        group=scoring.group,
        label=study.settings.adapt.label,
        n_splits=scoring.n_splits,
        seed=scoring.seed,
        n_bootstrap=scoring.n_bootstrap,
    )
    counts = before.obs["slide"].astype(str).value_counts()
    return StainEffect(
        found,
        choice.method,
        _target(choice),
        recipe.settings.encoder,
        tuple(entry.name for entry in entries),
        {str(name): int(count) for name, count in counts.items()},
        n,
        tuple(dict.fromkeys(problems)),
    )


def _column(study: Bench, entries: Sequence[SlideEntry], wanted: str, *, fixed: bool) -> str:
    """What to recognise: what was asked for, else the first column in which the slides differ."""
    if len(entries) < 2:
        raise StudyError("The signature shows between slides: show at least two in the view.")
    others = [] if fixed else ["scanner", "site", "stain", "slide"]
    for column in (wanted, *others):
        if len({value for entry in entries if (value := batch_value(entry, column))}) > 1:
            return column
    raise StudyError(f"{study.name}: give at least two of the slides in the view a different {wanted}.")


def _normalised(encode: EncodeSettings, choice: StainSettings) -> EncodeSettings:
    update: dict[str, Any] = {"normalizer": choice.method, "target": choice.target}
    update |= {"cohort": choice.cohort} if hasattr(choice, "cohort") else {}
    return encode.model_copy(update=update)


def _target(choice: StainSettings) -> str:
    if choice.cohort:
        return "the average of all slides"
    return "the built-in reference" if choice.target is None else "a slide of the study"


def _cells(recipe: Recipe, entry: SlideEntry, box_um: Box | None) -> Cells:
    from napari_batchfx.tiles import block_order

    grid = recipe.grid(entry)
    if box_um is None:
        return np.asarray(block_order(grid.cells(recipe.settings.min_tissue)))
    seen = grid.cells_in_box(*box_um)
    return np.asarray(seen[grid.tissue[seen[:, 0], seen[:, 1]] >= recipe.settings.min_tissue])


def _table(recipe: Recipe, entries: Sequence[SlideEntry], cells: Mapping[str, Cells]) -> AnnData:
    table = make_study_table(recipe, "all", entries)
    wanted = {name: {(int(r), int(c)) for r, c in found} for name, found in cells.items()}
    kept = [
        (row, col) in wanted.get(slide, ())
        for slide, row, col in zip(
            table.obs["slide"].astype(str), table.obs["row"], table.obs["col"], strict=True
        )
    ]
    return table[np.array(kept)].copy()


def _same(before: AnnData, after: AnnData) -> tuple[AnnData, AnnData]:
    """Only the tiles that both have (one may be damaged on the disk), in the same order."""
    keys = [
        list(zip(table.obs["slide"].astype(str), table.obs["row"], table.obs["col"], strict=True))
        for table in (before, after)
    ]
    places = {key: i for i, key in enumerate(keys[1])}
    rows = [(i, places[key]) for i, key in enumerate(keys[0]) if key in places]
    if not rows:
        raise StudyError("No tile is encoded both as scanned and normalised; try again.")
    first, second = (np.array(side) for side in zip(*rows, strict=True))
    return before[first].copy(), after[second].copy()
