"""The AnnData table of a study, and where each slide's features are kept."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from importlib import metadata
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from numpy.typing import NDArray

from napari_batchfx.errors import BatchfxError, StudyError
from napari_batchfx.study.annotations import tile_labels, to_geojson
from napari_batchfx.study.control_tiles import mark_controls, to_csv
from napari_batchfx.study.entries import SlideEntry
from napari_batchfx.study.pairs import add_pairs
from napari_batchfx.study.selection import text_of_cells
from napari_batchfx.study.settings import EncodeSettings
from napari_batchfx.study.tile_rows import TileRows
from napari_batchfx.study.tissue_regions import tissue_said

if TYPE_CHECKING:
    from anndata import AnnData

    from napari_batchfx.features import FeatureArray, SlideMeta
    from napari_batchfx.study.bench import Bench
    from napari_batchfx.study.problems import Problem
    from napari_batchfx.study.recipe import Place, Recipe
    from napari_batchfx.tiles import TileGrid

__all__ = [
    "batch_value",
    "computed_from",
    "feature_array",
    "inputs_digest",
    "make_study_table",
    "material_digest",
    "slide_meta",
    "table_rows",
    "training_rows",
]


def feature_array(study: Bench, entry: SlideEntry, grid: TileGrid, transform: Any) -> FeatureArray:
    """Where the features of a slide on a grid are kept, for the encoder of the present settings."""
    encoder = study.encoder()
    key = "none" if transform is None else transform.key
    return study.store().array(entry.fingerprint, encoder.key, grid.key, key, dim=encoder.dim)


def slide_meta(entry: SlideEntry) -> SlideMeta:
    """What goes with every tile of a slide."""
    from napari_batchfx.features import SlideMeta

    return SlideMeta(entry.name, entry.site, entry.scanner, entry.stain, entry.patient, entry.fingerprint)


def make_study_table(
    recipe: Recipe, which: Literal["all", "tissue"], entries: Sequence[SlideEntry]
) -> AnnData:
    """The table of a study (see :meth:`Study.table`)."""
    from napari_batchfx.features import concat, make_table

    study, tables, failed = recipe.study, [], []
    regions, basket = list(study.annotations), list(study.controls)
    for entry in entries:
        try:
            with study.visiting(entry):
                place = recipe.place(entry)
                grid, array = place.grid, place.array
                cells = _table_cells(recipe, entry, place, which)
                if not len(cells):
                    continue
                drawn = tile_labels(regions, entry.name, grid)
                labels = drawn.of(cells)[0]
                controls = mark_controls(basket, entry.name, grid, drawn.control)[cells[:, 0], cells[:, 1]]
                if entry.label:
                    labels = np.array([entry.label if one is None else one for one in labels], object)
                tables.append(
                    make_table(
                        array.read(cells),
                        cells,
                        grid,
                        meta=slide_meta(entry),
                        labels=labels,
                        controls=controls,
                        encoder=recipe.encoder,
                        stain_key=place.stain_key,
                    )
                )
        except (BatchfxError, OSError) as error:
            failed.append(study.report_problem(entry.name, error))
    if not tables:
        raise StudyError(_no_table(study, entries, failed))
    table = concat(tables)
    add_pairs(study, table, lambda entry: recipe.place(entry).grid)
    return table


def _table_cells(
    recipe: Recipe, entry: SlideEntry, place: Place, which: Literal["all", "tissue"]
) -> NDArray[np.int64]:
    """The cells of a slide that go into a table, row-major; which they were is noted where it isn't all."""
    from napari_batchfx.tiles import damaged_tiles

    grid, array, least = place.grid, place.array, recipe.settings.min_tissue
    if not recipe.selection.takes(entry.name):
        return np.empty((0, 2), np.int64)
    cells = np.asarray(array.done_cells(), dtype=np.int64).reshape(-1, 2)
    chosen = recipe.selection.cells(entry.name)
    if chosen is not None and len(cells):
        cells = cells[np.isin(_pack(cells), _pack(chosen))]
    cells = cells[array.has(cells)]  # those damaged on the disk are left out, and said once
    for sentence in array.damage_said():
        recipe.study.report_problem(entry.name, sentence)
    if which == "tissue" and len(cells):
        cells = cells[grid.tissue[cells[:, 0], cells[:, 1]] >= least]
    cells = cells[np.lexsort((cells[:, 1], cells[:, 0]))]
    if len(cells):
        whole = np.asarray(grid.cells(least), dtype=np.int64).reshape(-1, 2)
        left = whole[~np.isin(_pack(whole), _pack(cells))]
        if len(left) and not damaged_tiles(grid, left).all():
            recipe.parts[entry.name] = text_of_cells(cells)
        else:
            recipe.parts.pop(entry.name, None)
    return cells


def _pack(cells: NDArray[np.int64]) -> NDArray[np.int64]:
    packed: NDArray[np.int64] = (cells[:, 0] << 32) | cells[:, 1]
    return packed


def _no_table(study: Bench, entries: Sequence[SlideEntry], failed: Sequence[Problem]) -> str:
    """Why there is no table: files that can't be found, slides that failed, or nothing encoded yet."""
    gone = [entry.path.name for entry in entries if not entry.path.exists()]
    if gone and len(gone) == len(failed):
        it = "it" if len(gone) == 1 else "them"
        return (
            f"{study.name}: can't find {', '.join(gone)} where the study had {it}; add {it} from the new "
            f"place, or put {it} back."
        )
    if failed and len(failed) == len(entries):
        return str(failed[0])
    return f"{study.name}: no tile is encoded with these settings; encode first."


def table_rows(table: AnnData) -> TileRows:
    """Which tile each row of a table is."""
    return TileRows.of_table(table, {name: slide["fingerprint"] for name, slide in _slides_of(table).items()})


def _slides_of(table: AnnData) -> dict[str, dict[str, Any]]:
    """The slides as they were when the table was made: in the study they may be renamed or gone by now."""
    from napari_batchfx.features.table import provenance_of

    slides: dict[str, dict[str, Any]] = provenance_of(table)["slides"]
    return slides


def computed_from(
    recipe: Recipe, table: AnnData, settings: dict[str, Any], *, regions: bool = True
) -> dict[str, Any]:
    """What a result was computed from: slides, tiles, encoder and settings, as plain values.

    ``regions`` says whether it depends on what is drawn: a probe recognises scanners without labels, and
    drawing afterwards doesn't make it outdated.
    """
    slides = _slides_of(table)
    grid = next(iter(slides.values()))["grid"]
    # The sizes that were used, not "the encoder's own": the tiles can be laid again without the encoder.
    sizes = {"size_px": grid["size_px"], "mpp": grid["mpp"], "stride_px": int(grid["stride_px"])}
    return {
        "version": metadata.version("napari-batchfx"),
        "encoder": recipe.encoder.key,
        "encode": recipe.settings.model_dump() | sizes,
        "settings": settings,
        "inputs": inputs_digest(recipe.study, recipe.settings, settings, regions=regions),
        "material": material_digest(recipe.study, regions=regions),
        "slides": {name: slide["fingerprint"] for name, slide in slides.items()},
        "tiles": int(table.n_obs),
    } | ({"parts": dict(recipe.parts)} if recipe.parts else {})


def inputs_digest(
    study: Bench, encode: EncodeSettings, settings: dict[str, Any], *, regions: bool = True
) -> str:
    """Digest of everything the user can change that a result depends on: slides, regions, settings."""
    # What came later is left out at its default, so that results from before stay current.
    chosen = encode.model_dump(exclude=set() if encode.cohort else {"cohort"})
    said = [_said(study), chosen, settings]
    said += tissue_said(study.settings.tissue, study.annotations)
    text = json.dumps(said, sort_keys=True)
    return _digest(text + (_drawn(study) if regions else ""))


def material_digest(study: Bench, *, regions: bool = True) -> str:
    """Digest of what is looked at, slides and regions, whatever the settings."""
    text = json.dumps(_said(study), sort_keys=True)
    return _digest(text + (_drawn(study) if regions else ""))


def _drawn(study: Bench) -> str:
    # without a basket the digest is what it was before there were baskets
    basket = to_csv(study.controls, study.slides, with_identifiers=True) if study.controls else ""
    return to_geojson(study.annotations) + basket


def _said(study: Bench) -> list[dict[str, Any]]:
    # where a slide lies, and pixels as stored, change no result: earlier ones stay up to date
    left_out = {"path", "size_bytes", "affine_um", "alignment", "earlier_affines", "more"}

    def unsaid(entry: SlideEntry) -> set[str]:
        return ({"icc"} if entry.icc == "off" else set()) | (set() if entry.label else {"label"})

    return [entry.model_dump(mode="json", exclude=left_out | unsaid(entry)) for entry in study.slides]


def _digest(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()[:32]


def training_rows(table: AnnData, train_on: Sequence[str], batch: str, label: str) -> NDArray[np.bool_]:
    """Which rows train the head: of the slides or batch values named; else the first with classes.

    Raises
    ------
    StudyError
        If a name is neither a slide nor a value of the batch in the table.
    """
    slides, values = table.obs["slide"].astype(str).to_numpy(), table.obs[batch].astype(str).to_numpy()
    labelled = table.obs[label].notna().to_numpy()
    if not train_on:
        train_on = [str(values[labelled][0])]
    mask = np.zeros(table.n_obs, dtype=bool)
    for name in train_on:
        rows = slides == name if (slides == name).any() else values == name
        if not rows.any():
            raise StudyError(
                f"{name}: neither a slide nor a {batch} with encoded tiles; choose what the model learns "
                "from."
            )
        mask |= rows
    return mask


def batch_value(entry: SlideEntry, batch: str) -> str:
    """A slide's site, scanner, stain, patient or name."""
    return str(entry.name if batch == "slide" else getattr(entry, batch))
