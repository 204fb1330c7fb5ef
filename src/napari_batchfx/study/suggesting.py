"""Control samples suggested for a study: its tiles are looked at, apart from their colour."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from napari_batchfx.errors import BatchfxError, StudyError
from napari_batchfx.jobs import Job, Ticker
from napari_batchfx.study.control_tiles import ControlSource, ControlTile, mark_controls
from napari_batchfx.study.entries import SlideEntry
from napari_batchfx.study.recipe import Recipe

if TYPE_CHECKING:
    from anndata import AnnData

    from napari_batchfx.study.bench import Bench
    from napari_batchfx.tiles import TileGrid

__all__ = ["ControlSuggestion", "suggest_controls_job"]

#: Most tiles looked at on a slide, and tiles read at a time.
_A_SLIDE = 400
_FOR_RANKS = 96
_BATCH = 32
_ARTEFACTS = ("pen", "edge", "fold", "damaged", "blur")


@dataclass(frozen=True)
class ControlSuggestion:
    """Tiles suggested as controls; :meth:`Study.put_controls` takes them.

    Parameters
    ----------
    tiles : tuple of ControlTile
        With the reason for each.
    sentence : str
        How many, from where, and what was left out.
    warnings : tuple of str
    asked : dict
        What was asked for: arguments of :meth:`Study.suggest_controls_job`.
    """

    tiles: tuple[ControlTile, ...]
    sentence: str
    warnings: tuple[str, ...]
    asked: dict[str, Any] = field(default_factory=dict)


def suggest_controls_job(
    study: Bench,
    *,
    per_slide: int = 50,
    tissue_class: str | None = None,
    pairs: bool = False,
    seed: int = 0,
) -> Job[ControlSuggestion]:
    """Look at tiles of every slide and suggest controls (see :meth:`Study.suggest_controls_job`)."""
    import anndata
    import pandas as pd

    from napari_batchfx.adapt.suggest import suggest

    batch = study.settings.adapt.batch
    recipe = yield from Recipe.job(study)
    if not study.slides:
        raise StudyError(f"{study.name}: there is no slide; add one.")
    frames, looks, warnings = [], [], []
    ticker = Ticker(len(study.slides) * _A_SLIDE, "looking at tissue")
    wanted = (yield from _places(recipe, ticker, tissue_class, seed)) if pairs else {}
    for index, entry in enumerate(study.slides):
        ticker.done = index * _A_SLIDE
        yield ticker.tick(0)
        try:
            with study.visiting(entry):
                found = yield from _look(recipe, entry, ticker, tissue_class, wanted.get(entry.name), seed)
        except (BatchfxError, OSError) as error:
            warnings.append(str(study.report_problem(entry.name, error)))
            continue
        if found is not None:
            frames.append(found[0])
            looks.append(found[1])
    if not frames:
        raise StudyError(
            f"{study.name}: no slide has a tile that could be a control (of at least 80 % tissue"
            + (f" and of class {tissue_class}" if tissue_class else "")
            + ")."
        )
    obs = pd.concat(frames, ignore_index=True)
    obs.index = obs.index.astype(str)
    table = anndata.AnnData(np.zeros((len(obs), 1), dtype=np.float32), obs=obs)
    if pairs:
        _add_pairs(recipe, table)
    table.obsm["morphology"] = np.concatenate(looks)
    chosen = suggest(
        table,
        batch,
        per_slide=per_slide,
        tissue_class=tissue_class,
        pairs=pairs,
        exclude=obs["known"].to_numpy(),
        seed=seed,
    )
    source: ControlSource = "pair" if pairs else "class" if tissue_class else "suggested"
    rows = obs.iloc[chosen.rows]
    tiles = tuple(
        ControlTile(str(name), float(y), float(x), float(size), reason, source)
        for name, y, x, size, reason in zip(
            rows["slide"], rows["y_um"], rows["x_um"], rows["size_um"], chosen.reasons, strict=True
        )
    )
    asked = {"per_slide": per_slide, "tissue_class": tissue_class, "pairs": pairs, "seed": seed}
    return ControlSuggestion(tiles, chosen.sentence, tuple(warnings + chosen.warnings), asked)


def _add_pairs(recipe: Recipe, table: AnnData) -> None:
    from napari_batchfx.study.pairs import add_pairs

    add_pairs(recipe.study, table, recipe.grid)


def _places(
    recipe: Recipe, ticker: Ticker, tissue_class: str | None, seed: int
) -> Job[dict[str, NDArray[np.bool_]]]:
    """At most 400 places that every slide of an alignment shows, as tiles of each slide's grid (rows, cols).

    Slides that can't be read are left to the looking, which tells of them.
    """
    import anndata
    import pandas as pd

    parts = []
    for entry in recipe.study.slides:
        yield ticker.tick(0)
        try:
            with recipe.study.visiting(entry):
                cells = _candidates(recipe, entry, tissue_class)[0]
        except (BatchfxError, OSError):
            continue
        parts.append(pd.DataFrame({"slide": entry.name, "row": cells[:, 0], "col": cells[:, 1]}))
    obs = pd.concat(parts, ignore_index=True) if parts else pd.DataFrame({"slide": [], "row": [], "col": []})
    obs.index = obs.index.astype(str)
    table = anndata.AnnData(np.zeros((len(obs), 1), dtype=np.float32), obs=obs)
    _add_pairs(recipe, table)
    pair = table.obs["pair"].astype(str).to_numpy()
    names, shown = np.unique(pair[pair != ""], return_counts=True)
    if not len(names):
        return {}  # the choice says what is missing
    # places that the most slides show first, as those alone may be taken; at random among them
    order = np.lexsort((np.random.default_rng(seed).random(len(names)), -shown))
    kept = np.isin(pair, names[order[:_A_SLIDE]])
    wanted = {}
    for entry in recipe.study.slides:
        mine = obs[(obs["slide"] == entry.name).to_numpy() & kept]
        if not len(mine):
            continue
        wanted[entry.name] = np.zeros(recipe.place(entry).grid.shape, dtype=bool)
        wanted[entry.name][mine["row"].to_numpy(dtype=int), mine["col"].to_numpy(dtype=int)] = True
    return wanted


def _candidates(
    recipe: Recipe, entry: SlideEntry, tissue_class: str | None
) -> tuple[NDArray[np.int64], NDArray[np.object_], NDArray[np.bool_]]:
    """Tiles of a slide that could be controls (n, 2), their classes, and whether they are known already."""
    from napari_batchfx.study.annotations import tile_labels

    study = recipe.study
    place = recipe.place(entry)
    grid = place.grid
    cells = grid.cells(0.8)
    # a control without features corrects nothing: of slides that are encoded in part, that part
    encoded = place.array.has(cells)
    if encoded.any():
        cells = cells[encoded]
    labels, control = tile_labels(list(study.annotations), entry.name, grid).of(cells)
    # neither what is in the basket nor what was taken out of it is suggested again
    basket = [replace(tile, is_taken=True) for tile in study.controls]
    none = np.zeros(grid.shape, dtype=bool)
    known = control | mark_controls(basket, entry.name, grid, none)[cells[:, 0], cells[:, 1]]
    if tissue_class is not None:
        kept = labels == tissue_class
        cells, labels, known = cells[kept], labels[kept], known[kept]
    return cells, labels, known


def _look(
    recipe: Recipe,
    entry: SlideEntry,
    ticker: Ticker,
    tissue_class: str | None,
    wanted: NDArray[np.bool_] | None,
    seed: int,
) -> Job[tuple[Any, NDArray[np.float64]] | None]:
    """Facts and structure of a slide's candidates: their rows of ``obs``, and morphology with the border."""
    import pandas as pd

    from napari_batchfx.adapt.morphology import describe_tiles, ranks_of
    from napari_batchfx.tiles import artefact_mask, damaged_tiles, read_tiles

    grid = recipe.place(entry).grid
    yield ticker.tick(0)
    cells, labels, known = _candidates(recipe, entry, tissue_class)
    if wanted is not None:
        # of rescans the same places are looked at on all
        kept = wanted[cells[:, 0], cells[:, 1]]
        cells, labels, known = cells[kept], labels[kept], known[kept]
    elif len(cells) > _A_SLIDE:
        drawn = np.sort(np.random.default_rng(seed).choice(len(cells), _A_SLIDE, replace=False))
        cells, labels, known = cells[drawn], labels[drawn], known[drawn]
    if not len(cells):
        return None
    yield ticker.tick(0)
    mask = artefact_mask(grid.slide, kinds=_ARTEFACTS)
    yield ticker.tick(0)
    counts = np.zeros(256, dtype=np.int64)
    some = cells[np.linspace(0, len(cells) - 1, min(len(cells), _FOR_RANKS)).astype(int)]
    for start in range(0, len(some), _BATCH):
        counts += np.bincount(read_tiles(grid, some[start : start + _BATCH])[..., 0].ravel(), minlength=256)
        yield ticker.tick(0)
    ranks = ranks_of(counts)
    parts = []
    for start in range(0, len(cells), _BATCH):
        red = np.ascontiguousarray(read_tiles(grid, cells[start : start + _BATCH])[..., 0])
        parts.append(describe_tiles(red, ranks, grid.mpp))
        yield ticker.tick(len(red))
    look = np.column_stack([np.concatenate(parts), _border(grid, cells)])
    centre = grid.center_um(cells)
    bounds = grid.bounds_um(cells)
    frame = pd.DataFrame(
        {
            "slide": entry.name,
            **{key: getattr(entry, key) for key in ("site", "scanner", "stain", "patient")},
            "row": cells[:, 0],
            "col": cells[:, 1],
            "y_um": centre[:, 0],
            "x_um": centre[:, 1],
            "size_um": grid.size_um,
            "tissue": grid.tissue[cells[:, 0], cells[:, 1]],
            "label": labels,
            "known": known,
        }
    )
    for kind in _ARTEFACTS:
        if kind in mask.kinds and kind not in mask.not_judged:
            frame[kind] = mask.fraction(kind, bounds)
    frame["damaged"] = damaged_tiles(grid, cells).astype(float)
    return frame, look


def _border(grid: TileGrid, cells: NDArray[np.int64]) -> NDArray[np.float64]:
    """Distance to the border of tissue in tiles, at most 4: deep in the tissue all is the same."""
    from scipy.ndimage import distance_transform_edt

    inside = np.pad(grid.tissue >= 0.5, 1)
    return np.asarray(np.minimum(distance_transform_edt(inside)[1:-1, 1:-1][cells[:, 0], cells[:, 1]], 4.0))
