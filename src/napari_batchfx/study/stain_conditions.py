"""How stable features and calls are when another laboratory stains: a study's tiles under conditions."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from napari_batchfx.errors import BatchfxError, StudyError
from napari_batchfx.jobs import Job, Progress
from napari_batchfx.study.encoding import encode_recipe_job
from napari_batchfx.study.entries import SlideEntry
from napari_batchfx.study.recipe import Place, Recipe
from napari_batchfx.study.stain_effect import Box, Cells, _cells
from napari_batchfx.study.tables import make_study_table

if TYPE_CHECKING:
    from anndata import AnnData

    from napari_batchfx.adapt import ERMHead
    from napari_batchfx.stain import StainingCondition
    from napari_batchfx.stain.stability import MinMaxAuc
    from napari_batchfx.study.bench import Bench
    from napari_batchfx.tiles import TileMap

__all__ = ["AS_SCANNED", "StainStability", "stain_conditions_job"]

AS_SCANNED = "as scanned"


@dataclass(frozen=True)
class _ConditionRecipe(Recipe):
    """Encode settings with a simulated staining condition before the encoder."""

    condition: StainingCondition | None = None

    def place(self, entry: SlideEntry) -> Place:
        from napari_batchfx.stain import SimulatedStain

        if self.condition is None:
            return super().place(entry)
        grid = self.grid(entry)
        before = grid.check_slide()
        source: Any = self.study.instruments.stain.of(entry, "density")
        transform: Any = SimulatedStain(self.condition, source)
        grid.check_slide(before)
        array = self.study.store().array(
            entry.fingerprint, self.encoder.key, grid.key, transform.key, dim=self.encoder.dim
        )
        return Place(grid, transform, array)


@dataclass(frozen=True, eq=False)
class StainStability:
    """What :func:`stain_conditions_job` found.

    Parameters
    ----------
    conditions : tuple of str
        Ids, "as scanned" first.
    origins : dict of str to str
        Where the numbers of each condition come from.
    feature_spread : float64 (n,)
        Mean cosine distance of a tile's vectors under the conditions to that as scanned.
    tile_distance : float
        Median cosine distance between different tiles as scanned: what the spread is compared with.
    prediction_spread, changed : float64 (n,) or None
        Spread of the probability of the class called, and share of conditions that call another class;
        ``None`` without a head.
    auc : MinMaxAuc or None
        Where the head knows two classes and tiles carry them.
    fingerprints : tuple of str
        Slides.
    slide : int64 (n,)
        Number of each tile's slide among them.
    cells : int64 (n, 2)
        Row and column of each tile.
    maps : dict of str to dict of str to TileMap
        By fingerprint: "features", and "predictions" with a head.
    problems : tuple of str
        Slides that were left out, with the reason.
    """

    conditions: tuple[str, ...]
    origins: dict[str, str]
    feature_spread: NDArray[np.float64]
    tile_distance: float
    prediction_spread: NDArray[np.float64] | None
    changed: NDArray[np.float64] | None
    auc: MinMaxAuc | None
    fingerprints: tuple[str, ...]
    slide: NDArray[np.int64]
    cells: NDArray[np.int64]
    maps: dict[str, dict[str, TileMap]] = field(repr=False)
    problems: tuple[str, ...] = ()

    @property
    def sentence(self) -> str:
        """What came out, in plain words."""
        n, others = len(self.feature_spread), len(self.conditions) - 1
        median = float(np.nanmedian(self.feature_spread))
        text = (
            f"Under {others} simulated {'stain' if others == 1 else 'stains'} a tile's features move by "
            f"{median:.3g} (cosine distance, median of {n:,} tiles); two different tiles as scanned are "
            f"{self.tile_distance:.3g} apart."
        )
        if self.changed is not None and np.isfinite(self.changed).any():
            known = int(np.isfinite(self.changed).sum())
            flipped = int((self.changed > 0).sum())
            text += f" {flipped:,} of {known:,} calls change under at least one of them."
        if self.auc is not None:
            low, high = self.auc.ci
            text += (
                f" The AUC ranges over {self.auc.value:.3f} ({low:.3f}-{high:.3f}): smaller is more robust."
            )
        return text

    @property
    def warnings(self) -> tuple[str, ...]:
        """What could mislead."""
        general = (
            "Simulated stains change colour and intensity only: section thickness, focus and scanner are as "
            "they were, so real laboratories may differ more."
        )
        return (*self.problems, *(self.auc.warnings if self.auc is not None else ()), general)

    def to_dict(self) -> dict[str, Any]:
        """Plain values for JSON; no names of slides."""
        return {
            "sentence": self.sentence,
            "conditions": [{"id": one, "origin": self.origins[one]} for one in self.conditions],
            "tiles": len(self.feature_spread),
            "feature_spread_median": _plain(np.nanmedian(self.feature_spread)),
            "tile_distance_median": _plain(self.tile_distance),
            "prediction_spread_median": None
            if self.prediction_spread is None
            else _plain(np.nanmedian(self.prediction_spread)),
            "calls_changed": None if self.changed is None else int((self.changed > 0).sum()),
            "auc": None if self.auc is None else self.auc.to_dict(),
            "warnings": list(self.warnings),
        }


def stain_conditions_job(
    study: Bench,
    slides: Sequence[SlideEntry | str] | None = None,
    *,
    conditions: Sequence[StainingCondition] | None = None,
    head: ERMHead | None = None,
    boxes_um: Mapping[str, Box] | None = None,
) -> Job[StainStability]:
    """Encode tiles as scanned and under simulated staining conditions, and say how much they move.

    Parameters
    ----------
    study : Study
        ``settings.encode`` says encoder and tiles (its normaliser is not used: tiles are as scanned).
    slides : sequence of SlideEntry or str, optional
        Only these; all otherwise.
    conditions : sequence of StainingCondition, optional
        :data:`napari_batchfx.stain.CONDITIONS` otherwise.
    head : ERMHead, optional
        Whose predictions are looked at; that of the study's last adaptation, before its correction, where
        there is one.
    boxes_um : mapping of str to (y0, x0, y1, x1), optional
        What is seen of each slide, by its name, in its micrometres; all of its tissue otherwise.

    Yields
    ------
    Progress
        Tiles. Features stay in the store, each condition under its own key; what is there is not computed
        again, and a job that was stopped goes on where it was.

    Returns
    -------
    StainStability

    Raises
    ------
    StudyError
        If no tile is seen.
    EncoderError, StainError
        If the encoder can't be loaded, or no slide's stain can be estimated.

    References
    ----------
    Schönpflug et al., arXiv:2603.12886, 2026.
    """
    from napari_batchfx.stain import CONDITIONS

    asked = tuple(CONDITIONS if conditions is None else conditions)
    if not asked:
        raise StudyError(f"{study.name}: name at least one staining condition to simulate.")
    entries = [study.slide(one) for one in (study.slides if slides is None else slides)]
    entries = [entry for entry in entries if boxes_um is None or entry.name in boxes_um]
    made = yield from Recipe.job(study)
    settings = made.settings.model_copy(update={"normalizer": None})
    plain = _ConditionRecipe(study, settings, made.encoder, made.tissue)
    problems: list[str] = []
    cells: dict[str, Cells] = {}
    for done, entry in enumerate(entries):
        yield Progress(done, len(entries), f"estimating the stain of {entry.name}", "slides")
        try:
            study.instruments.stain.of(entry, "density")
            cells[entry.name] = _cells(plain, entry, None if boxes_um is None else boxes_um[entry.name])
        except BatchfxError as error:
            problems.append(f"{entry.name} is left out: {error}")
    entries = [entry for entry in entries if len(cells.get(entry.name, ()))]
    if not entries:
        raise StudyError(
            problems[0] if problems else "No tile with tissue is seen; move the view over tissue."
        )
    variants = [plain, *(replace(plain, condition=condition) for condition in asked)]
    names = [AS_SCANNED, *(condition.id for condition in asked)]
    for name, variant in zip(names, variants, strict=True):
        job = encode_recipe_job(variant, entries, {e.name: cells[e.name] for e in entries})
        outcome = yield from _named(job, name)
        problems += [problem.text for problem in outcome.problems]
        entries = [entry for entry in entries if entry.name in outcome.slides]
        if not entries:
            raise StudyError(problems[0] if problems else "No tile could be encoded.")
    yield Progress(0, 0, "reading features")
    tables = _same([_table(variant, entries, cells) for variant in variants])
    return _result(study, names, asked, tables, head or _head(study), entries, plain, problems)


def _named(job: Job[Any], name: str) -> Job[Any]:
    """The same job with the condition in what it says."""
    while True:
        try:
            step = next(job)
        except StopIteration as stop:
            return stop.value
        yield replace(step, what=f"{step.what} ({name})", partial=None)


def _result(
    study: Bench,
    names: list[str],
    asked: Sequence[StainingCondition],
    tables: list[AnnData],
    head: ERMHead | None,
    entries: Sequence[SlideEntry],
    recipe: Recipe,
    problems: list[str],
) -> StainStability:
    from napari_batchfx.stain.stability import feature_spread, prediction_spread

    first = tables[0]
    stack = np.stack([np.asarray(table.X, np.float32) for table in tables])
    spread = feature_spread(stack)
    mixed = stack[0][np.random.default_rng(0).permutation(len(first))]
    distance = float(np.nanmedian(feature_spread(np.stack([stack[0], mixed]))))
    predictions, changed, auc = None, None, None
    if head is not None:
        try:
            proba = np.stack([head.predict(table).proba for table in tables])
            found = prediction_spread(proba)
            predictions, changed = found.spread, found.changed
            auc = _auc(first, proba, head, names, study.settings.adapt.label)
        except BatchfxError as error:
            problems.append(f"Predictions are left out: {error}")
    fingerprints = tuple(entry.fingerprint for entry in entries)
    slide_names = [entry.name for entry in entries]
    slide = np.array([slide_names.index(name) for name in first.obs["slide"].astype(str)], np.int64)
    cells = np.stack([first.obs["row"], first.obs["col"]], axis=1).astype(np.int64)
    return StainStability(
        tuple(names),
        {AS_SCANNED: "the slide itself", **{one.id: one.origin for one in asked}},
        spread,
        distance,
        predictions,
        changed,
        auc,
        fingerprints,
        slide,
        cells,
        _maps(recipe, entries, slide, cells, spread, predictions, distance),
        tuple(dict.fromkeys(problems)),
    )


def _auc(
    table: AnnData, proba: NDArray[np.float64], head: ERMHead, names: list[str], label: str
) -> MinMaxAuc | None:
    """Where the head knows two classes, and enough tiles carry them."""
    from napari_batchfx.errors import StainError
    from napari_batchfx.stain.stability import min_max_auc

    if len(head.classes) != 2 or label not in table.obs:
        return None
    truth = table.obs[label].astype(str).to_numpy()
    known = np.isin(truth, head.classes) & np.isfinite(proba).all(axis=(0, 2))
    patient = table.obs["patient"].astype(str).to_numpy()
    groups = np.where(patient == "", table.obs["slide"].astype(str).to_numpy(), patient)
    try:
        return min_max_auc(proba[:, known, 1], truth[known] == head.classes[1], names, groups[known])
    except StainError:
        return None  # too few labels: the spread is said without an AUC


def _maps(
    recipe: Recipe,
    entries: Sequence[SlideEntry],
    slide: NDArray[np.int64],
    cells: NDArray[np.int64],
    spread: NDArray[np.float64],
    predictions: NDArray[np.float64] | None,
    distance: float,
) -> dict[str, dict[str, TileMap]]:
    from napari_batchfx.tiles import TileMap

    found: dict[str, dict[str, TileMap]] = {}
    for number, entry in enumerate(entries):
        rows = slide == number
        grid = recipe.grid(entry)
        made = {
            "features": TileMap.from_cells(
                grid,
                cells[rows],
                spread[rows].astype(np.float32),
                name="features under other stains",
                unit="cosine distance",
                vmin=0.0,
                vmax=max(distance, 1e-3),
                colormap="viridis",
                description="Mean distance of a tile's vector under simulated stains to that as scanned; the "
                "top of the range is how far different tiles are apart.",
            )
        }
        if predictions is not None:
            made["predictions"] = TileMap.from_cells(
                grid,
                cells[rows],
                predictions[rows].astype(np.float32),
                name="call under other stains",
                unit="probability",
                vmin=0.0,
                vmax=1.0,
                colormap="viridis",
                description="Largest less smallest probability, over simulated stains, of the class that is "
                "called as scanned: 0 is stable.",
            )
        found[entry.fingerprint] = made
    return found


def _head(study: Bench) -> ERMHead | None:
    from napari_batchfx.adapt import AdaptResult

    outcome = study.results.adapt
    result = None if outcome is None else outcome.result
    return result.head_before if isinstance(result, AdaptResult) else None


def _table(recipe: Recipe, entries: Sequence[SlideEntry], cells: Mapping[str, Cells]) -> AnnData:
    table = make_study_table(recipe, "all", entries)
    wanted = {name: {(int(r), int(c)) for r, c in found} for name, found in cells.items()}
    kept = [(row, col) in wanted.get(slide, ()) for slide, row, col in _keys(table)]
    return table[np.array(kept)].copy()


def _keys(table: AnnData) -> list[tuple[str, int, int]]:
    return list(zip(table.obs["slide"].astype(str), table.obs["row"], table.obs["col"], strict=True))


def _same(tables: Sequence[AnnData]) -> list[AnnData]:
    """Only the tiles that all have (one may be damaged on the disk), in the same order."""
    places = [{key: i for i, key in enumerate(_keys(table))} for table in tables]
    common = [key for key in _keys(tables[0]) if all(key in one for one in places)]
    if not common:
        raise StudyError("No tile is encoded under all conditions; try again.")
    return [
        table[np.array([place[key] for key in common])].copy()
        for table, place in zip(tables, places, strict=True)
    ]


def _plain(value: Any) -> float | None:
    return float(value) if np.isfinite(value) else None
