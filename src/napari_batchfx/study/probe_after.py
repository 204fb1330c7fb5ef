"""The probe of a study beside the same probe on stain-normalised or corrected features of the same tiles."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from napari_batchfx.errors import StudyError
from napari_batchfx.jobs import Job, Progress
from napari_batchfx.study.before_after import compare_job
from napari_batchfx.study.encoding import encode_recipe_job
from napari_batchfx.study.findings import ProbeAfter
from napari_batchfx.study.probe_table import probe_table_job
from napari_batchfx.study.recipe import Recipe
from napari_batchfx.study.scatter import last_probe
from napari_batchfx.study.settings import EncodeSettings
from napari_batchfx.study.tile_rows import TileRows

if TYPE_CHECKING:
    from anndata import AnnData

    from napari_batchfx.study.bench import Bench
    from napari_batchfx.study.probed import ProbeOutcome
    from napari_batchfx.tiles import TileMap

__all__ = ["ProbeAfter", "after_maps", "choices_after", "probe_after_job"]


def choices_after() -> dict[str, str]:
    """What there is to compare with: ids of stain methods and of corrections, and what they are called."""
    from napari_batchfx.adapt.methods import REGISTRY
    from napari_batchfx.stain import methods

    found = {one.id: one.label for one in methods()}
    return found | {one.id: one.label for one in REGISTRY.values()}


def probe_after_job(study: Bench, after: str, outcome: ProbeOutcome | None = None) -> Job[ProbeAfter]:
    """Run the probe again on other features of the same tiles, with the same folds.

    Parameters
    ----------
    study : Study
    after : str
        Id of a stain method (the tiles are encoded with it where the store lacks them), or of a correction
        (fitted on the study's control samples, or aligned rescans).
    outcome : ProbeOutcome, optional
        What to compare with: the probe run last otherwise.

    Yields
    ------
    Progress

    Returns
    -------
    ProbeAfter

    Raises
    ------
    StudyError
        If no probe was run, its features are gone, there is no such method, or it was run on tiles normalised
        alike already.
    AdaptError
        If the correction can't be fitted: no control samples, too few, or class and batch tied.
    StainError, EncoderError
        If stain can't be estimated, or the encoder can't be loaded.
    """
    from napari_batchfx.adapt.methods import REGISTRY

    outcome = outcome or last_probe(study)
    if after not in choices_after():
        raise StudyError(
            f"There is nothing called {after!r} to compare with; there are {', '.join(choices_after())}."
        )
    settings = outcome.computed_from["settings"]
    before, numbers = yield from probe_table_job(study, outcome)
    encode = EncodeSettings(**outcome.computed_from["encode"])
    warnings: list[str] = []
    if after in REGISTRY:
        table = yield from _corrected(study, encode, before, after, settings["batch"], warnings)
    else:
        before, table, numbers = yield from _normalised(study, outcome, encode, after, before, numbers)
    finite = np.isfinite(np.asarray(before.X)).all(axis=1) & np.isfinite(np.asarray(table.X)).all(axis=1)
    if not finite.all():
        warnings.append(
            f"{int((~finite).sum()):,} tiles have missing features on one side and were left out of both."
        )
        before, table, numbers = before[finite].copy(), table[finite].copy(), numbers[finite]
    found = yield from compare_job(
        before,
        table,
        batch=settings["batch"],
        group=settings["group"],
        n_splits=int(settings.get("n_splits", 5)),
        seed=int(settings.get("seed", 0)),
        n_bootstrap=int(settings.get("n_bootstrap", 1000)),
        probe=settings.get("probe", "logistic"),
    )
    tiles = outcome.tiles
    rows = TileRows(tiles.fingerprints, tiles.slide[numbers], tiles.cells[numbers])
    kind = "correction" if after in REGISTRY else "stain"
    if kind == "correction":
        warnings.insert(
            0,
            f"The correction knows the {settings['batch']} of every tile, also of those it is judged on: "
            "a probe at guessing after it says that the correction took the difference it was shown, not "
            "that nothing is left for another classifier.",
        )
    return ProbeAfter(found, after, kind, rows, encode, tuple(dict.fromkeys([*warnings, *found.warnings])))


def _corrected(
    study: Bench, encode: EncodeSettings, before: AnnData, method: str, batch: str, warnings: list[str]
) -> Job[AnnData]:
    from napari_batchfx.adapt.methods import REGISTRY, make_correction
    from napari_batchfx.study.pairs import add_pairs

    yield Progress(0, 0, "correcting features")
    if REGISTRY[method].needs == "pairs":
        add_pairs(study, before, lambda entry: study.grid_of(entry, encode))
    correction = make_correction(method)
    table = correction.fit_transform(before, batch=batch)
    warnings += correction.warnings
    return table


def _normalised(
    study: Bench,
    outcome: ProbeOutcome,
    encode: EncodeSettings,
    method: str,
    before: AnnData,
    numbers: NDArray[np.intp],
) -> Job[tuple[AnnData, AnnData, NDArray[np.intp]]]:
    """Both tables of the tiles that could be encoded, in the same order."""
    if encode.normalizer == method:
        raise StudyError(
            f"The probe was run on tiles normalised with {method} already; run it on tiles as scanned first."
        )
    choice = study.settings.stain
    own = choice.method == method  # its target too, then
    update = {"normalizer": method, "target": choice.target if own else None, "cohort": own and choice.cohort}
    recipe = yield from Recipe.job(study)
    if recipe.encoder.key != outcome.computed_from["encoder"]:
        raise StudyError(
            f"The probe was run with {encode.encoder}, and the encoder is another one now; choose it under "
            "Encode, or run the probe again."
        )
    recipe = replace(recipe, settings=encode.model_copy(update=update))
    slide = before.obs["slide"].astype(str).to_numpy()
    cells = before.obs[["row", "col"]].to_numpy(dtype=np.int64)
    names = list(dict.fromkeys(slide))
    entries = [study.slide(name) for name in names]
    done = yield from encode_recipe_job(recipe, entries, {name: cells[slide == name] for name in names})
    if not done.slides:
        raise StudyError(done.problems[0].text if done.problems else "No tile could be encoded.")
    features = np.full(before.shape, np.nan, dtype=np.float32)
    for entry in entries:
        if entry.name in done.slides:
            array = recipe.place(entry).array
            mine = np.flatnonzero(slide == entry.name)
            mine = mine[np.asarray(array.has(cells[mine]), dtype=bool)]
            features[mine] = array.read(cells[mine])
    after = before.copy()
    after.X = features
    return before, after, numbers


def after_maps(study: Bench, found: ProbeAfter) -> dict[str, dict[str, TileMap]]:
    """Maps of a comparison: ``"after"`` (confidence) and ``"difference"``, by fingerprint.

    Parameters
    ----------
    study : Study
    found : ProbeAfter

    Returns
    -------
    dict of str to dict of str to TileMap
    """
    from napari_batchfx.errors import BatchfxError
    from napari_batchfx.study.maps import probe_look
    from napari_batchfx.tiles import TileMap

    result = found.comparison.probe_after
    looks = {
        "after": probe_look(result.batch, float(result.chance), "confidence"),
        "difference": {
            "name": f"site probe, change ({result.batch})",
            "unit": "confidence",
            "vmin": -1.0,
            "vmax": 1.0,
            "colormap": "confidence",
            "chance": None,
            "description": f"Confidence in the tile's own {result.batch} after {found.after} less that "
            "before; blue: less recognised after, grey: as before, orange: more.",
        },
    }
    values = {"after": result.confidence, "difference": found.difference}
    maps: dict[str, dict[str, TileMap]] = {key: {} for key in looks}
    for entry in study.slides:
        rows, cells = found.tiles.on(entry.fingerprint)
        if not len(rows):
            continue
        try:
            grid = study.grid_of(entry, found.encode)
        except (BatchfxError, OSError):
            continue
        for key, look in looks.items():
            maps[key][entry.fingerprint] = TileMap.from_cells(grid, cells, values[key][rows], **look)
    return maps
