"""What the overlays of a study show for one tile, without drawing the maps."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from napari_batchfx.errors import BatchfxError
from napari_batchfx.study.axis import SAMPLE, Axis
from napari_batchfx.study.settings import EncodeSettings

if TYPE_CHECKING:
    from napari_batchfx.study.entries import SlideEntry
    from napari_batchfx.study.recipe import Place, Recipe
    from napari_batchfx.study.seen_tile import SeenTile

__all__ = ["tile_values"]


def tile_values(
    recipe: Recipe, place: Place, entry: SlideEntry, tile: SeenTile
) -> tuple[dict[str, float], dict[str, str]]:
    """Values of a tile by the name of their overlay, and the same in words.

    Parameters
    ----------
    recipe : Recipe
    place : Place
        The slide's.
    entry : SlideEntry
    tile : SeenTile
        Its cell, its bounds and whether it is stored.

    Returns
    -------
    (dict of str to float, dict of str to str)
        ``"encoded tiles"`` (the first principal component), ``"site probe (scanner)"`` (out-of-fold
        confidence), ``"prediction before"`` and ``"prediction after"`` (class number), ``"prediction
        changed"`` (0 or 1); only those that the tile has. A result of other tiles is looked up at the centre
        of this one, as its overlay shows it, and its words say so.
    """
    from napari_batchfx.tiles.tilemap import value_in_words

    values: dict[str, float] = {}
    words: dict[str, str] = {}

    def put(name: str, value: float, text: str) -> None:
        values[name], words[name] = value, text

    study = recipe.study
    if tile.stored:
        score = _component(recipe, place, tile.cell)
        if score is not None:
            put("encoded tiles", score, value_in_words(score, "sd"))
    probe, adapt = study.results.probe, study.results.adapt
    if probe is not None:
        row, note = _row(recipe, place, entry, tile, probe)
        value = np.nan if row is None else float(np.asarray(probe.result.confidence)[row])
        if np.isfinite(value):
            text = value_in_words(value, "probability", float(probe.result.chance))
            put(f"site probe ({probe.computed_from['settings']['batch']})", value, text + note)
    if adapt is not None:
        row, note = _row(recipe, place, entry, tile, adapt)
        for name, prediction in (("before", adapt.before), ("after", adapt.after)):
            proba = np.full(1, np.nan) if row is None else np.asarray(prediction.proba, np.float64)[row]
            if np.isfinite(proba).all():
                number = int(proba.argmax())
                text = f"{prediction.classes[number]} ({proba[number]:.3g} probability)"
                put(f"prediction {name}", float(number), text + note)
        if row is not None and "prediction before" in values:
            changed = bool(adapt.changed[row])
            put("prediction changed", float(changed), "changed" if changed else "stayed")
    return values, words


def _component(recipe: Recipe, place: Place, cell: tuple[int, int]) -> float | None:
    """The tile's score on the axis of :func:`.mapping.component_maps`: the same sample."""
    sources = []
    for entry in recipe.study.slides:
        try:
            array = recipe.place(entry).array
            done = np.asarray(array.done_cells(), dtype=np.int64).reshape(-1, 2)
            done = done[np.asarray(array.has(done), dtype=bool)]  # not those damaged on the disk
        except (BatchfxError, OSError):
            continue  # a slide that can't be opened is said elsewhere, and isn't in the overlay either
        if len(done):
            sources.append((array, done))
    if not sources:
        return None
    rng = np.random.default_rng(0)
    share = max(8, SAMPLE // len(sources))
    axis = Axis()
    axis.fit(
        np.concatenate(
            [array.read(done[np.sort(rng.permutation(len(done))[:share])]) for array, done in sources]
        )
    )
    value = float(axis.scores(place.array.read(np.asarray([cell], dtype=np.int64)))[0])
    return value if np.isfinite(value) else None


def _row(
    recipe: Recipe, place: Place, entry: SlideEntry, tile: SeenTile, outcome: Any
) -> tuple[int | None, str]:
    """The row of a result that lies on the tile, and a note where it comes from another encoding."""
    rows, cells = outcome.tiles.on(entry.fingerprint)
    if not len(rows):
        return None, ""
    then = EncodeSettings(**outcome.computed_from["encode"])
    grid = recipe.study.grid_of(entry, then)
    cell: tuple[int, int] | None = tile.cell
    notes = []
    if grid.key != place.grid.key:
        y0, x0, y1, x1 = tile.bounds_um
        cell = grid.cell_at((y0 + y1) / 2, (x0 + x1) / 2)
        notes.append(f"tiles of {grid.size_px} px at {grid.mpp:g} µm/px")
    if cell is None:
        return None, ""
    if outcome.computed_from["encoder"] != recipe.encoder.key:
        notes.append(then.encoder.replace("\\", "/").rpartition("/")[2])
    if _stain(then) != _stain(recipe.settings):
        notes.append(f"stain: {then.normalizer}" if then.normalizer else "no stain normalisation")
    here = np.flatnonzero((cells == np.asarray(cell)).all(axis=1))
    note = f"; computed with other settings ({', '.join(notes)})" if notes else ""
    return (int(rows[here[0]]), note) if len(here) else (None, "")


def _stain(settings: EncodeSettings) -> tuple[str | None, str | None, bool]:
    if settings.normalizer is None:
        return None, None, False
    return settings.normalizer, None if settings.cohort else settings.target, settings.cohort
