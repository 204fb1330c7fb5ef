"""The table of a study with everything that was found about its tiles."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from napari_batchfx.study.tables import table_rows

if TYPE_CHECKING:
    from anndata import AnnData

    from napari_batchfx.study.adapted import AdaptOutcome
    from napari_batchfx.study.bench import Bench
    from napari_batchfx.study.probed import ProbeOutcome
    from napari_batchfx.study.tile_rows import TileRows

__all__ = ["result_table"]

_COMPONENTS = 50


def result_table(study: Bench) -> AnnData:
    """All encoded tissue tiles with their features and what the last probe and adaptation said of each.

    Parameters
    ----------
    study : Study

    Returns
    -------
    AnnData
        :meth:`Study.table` and, where there are results: ``obs`` columns ``probe_confidence``,
        ``probe_margin``, ``probe_entropy`` (NaN where a tile was not scored), ``probe_taken_for``,
        ``prediction_before``, ``prediction_after``, their ``_probability``, and ``prediction_changed``;
        ``obsm["probe_proba"]``, ``["proba_before"]``, ``["proba_after"]``. ``obsm["spatial"]`` is (x, y) in
        micrometres and ``obsm["X_pca"]`` the first 50 principal components of the standardised features, as
        scanpy, squidpy and scib expect them. ``uns["batchfx"]["results"]`` says what each was computed from,
        and whether it is still current.

    Raises
    ------
    StudyError
        If no tile is encoded.

    Examples
    --------
    >>> from napari_batchfx.jobs import run
    >>> from napari_batchfx.slides import write_pyramid
    >>> from napari_batchfx.study import Study
    >>> pixels = np.random.default_rng(0).integers(90, 190, (256, 256, 3)).astype(np.uint8)
    >>> with Study.create() as study:
    ...     _ = study.add_slide(write_pyramid("a.tif", pixels, mpp=0.5, compression="deflate"))
    ...     study.settings.encode.size_px, study.settings.encode.mpp = 64, 0.5
    ...     _ = run(study.encode_job())
    ...     result_table(study).obsm["spatial"][:2].tolist()
    [[16.0, 16.0], [48.0, 16.0]]
    """
    table = study.table("tissue")
    rows = table_rows(table)
    table.obsm["spatial"] = table.obs[["x_um", "y_um"]].to_numpy(dtype=np.float64)
    if (components := _pca(np.asarray(table.X, dtype=np.float64))) is not None:
        table.obsm["X_pca"] = components
    results: dict[str, Any] = {}
    if (probe := study.results.probe) is not None:
        _add_probe(table, probe, _match(rows, probe.tiles, probe.computed_from, table))
        results["probe"] = _about(study, probe) | {
            "classes": [str(name) for name in probe.result.batches],
            "balanced_accuracy": float(probe.result.balanced_accuracy),
            "ci": [float(value) for value in probe.result.ci],
            "chance": float(probe.result.chance),
            "warnings": [str(text) for text in probe.result.warnings],
        }
    if (adapt := study.results.adapt) is not None:
        _add_predictions(table, adapt, _match(rows, adapt.tiles, adapt.computed_from, table))
        results["adapt"] = _about(study, adapt) | {
            "classes": [str(name) for name in adapt.before.classes],
            "sentence": adapt.sentence,
            "warnings": [str(text) for text in adapt.warnings],
        }
    if results:
        table.uns["batchfx"]["results"] = results
    return table


def _about(study: Bench, outcome: ProbeOutcome | AdaptOutcome) -> dict[str, Any]:
    origin = outcome.computed_from
    return {
        "encoder": origin["encoder"],
        "encode": origin["encode"],
        "settings": origin["settings"],
        "version": origin["version"],
        "is_current": study.still_holds(outcome),
    }


def _match(rows: TileRows, of: TileRows, origin: dict[str, Any], table: AnnData) -> NDArray[np.int64]:
    """Row of a result for every row of the table (n,), -1 where it says nothing of that tile.

    A result of tiles of another size or place says nothing.
    """
    from napari_batchfx.features.table import provenance_of

    found = np.full(len(rows.slide), -1, dtype=np.int64)
    grid = next(iter(provenance_of(table)["slides"].values()))["grid"]
    then = origin["encode"]
    if any(grid[key] != then[key] for key in ("size_px", "mpp", "stride_px")):
        return found
    for fingerprint in of.fingerprints:
        theirs, cells = of.on(fingerprint)
        ours, own = rows.on(fingerprint)
        if not len(ours) or not len(theirs):
            continue
        width = int(max(cells[:, 1].max(), own[:, 1].max())) + 1
        order = np.argsort(keys := cells[:, 0] * width + cells[:, 1])
        wanted = own[:, 0] * width + own[:, 1]
        place = np.minimum(np.searchsorted(keys, wanted, sorter=order), len(keys) - 1)
        hit = keys[order[place]] == wanted
        found[ours[hit]] = theirs[order[place[hit]]]
    return found


def _pick(values: Any, match: NDArray[np.int64]) -> NDArray[np.float64]:
    source = np.asarray(values, dtype=np.float64)
    picked = np.full((len(match), *source.shape[1:]), np.nan)
    picked[match >= 0] = source[match[match >= 0]]
    return picked


def _add_probe(table: AnnData, probe: ProbeOutcome, match: NDArray[np.int64]) -> None:
    import pandas as pd

    result = probe.result
    proba = _pick(result.proba, match)
    for name in ("confidence", "margin", "entropy"):
        table.obs[f"probe_{name}"] = _pick(getattr(result, name), match)
    table.obsm["probe_proba"] = proba
    table.obs["probe_taken_for"] = pd.Categorical(
        _winners(proba, [str(name) for name in result.batches]), categories=[str(n) for n in result.batches]
    )


def _add_predictions(table: AnnData, adapt: AdaptOutcome, match: NDArray[np.int64]) -> None:
    import pandas as pd

    classes = [str(name) for name in adapt.before.classes]
    for when in ("before", "after"):
        proba = _pick(getattr(adapt, when).proba, match)
        table.obsm[f"proba_{when}"] = proba
        table.obs[f"prediction_{when}"] = pd.Categorical(_winners(proba, classes), categories=classes)
        known = np.isfinite(proba).all(axis=1)
        best = np.full(len(proba), np.nan)
        best[known] = proba[known].max(axis=1)
        table.obs[f"prediction_{when}_probability"] = best
    before, after = (table.obs[f"prediction_{when}"].astype(object) for when in ("before", "after"))
    table.obs["prediction_changed"] = (before.notna() & (before != after)).to_numpy(dtype=bool)


def _winners(proba: NDArray[np.float64], names: list[str]) -> list[str | None]:
    return [names[int(row.argmax())] if np.isfinite(row).all() else None for row in proba]


def _pca(x: NDArray[np.float64]) -> NDArray[np.float32] | None:
    """Principal components of standardised features; None where there are too few tiles or numbers."""
    spread = x.std(axis=0)
    usable = np.isfinite(x).all(axis=0) & (spread > 0)
    count = min(_COMPONENTS, x.shape[0] - 1, int(usable.sum()))
    if count < 2:
        return None
    from sklearn.decomposition import PCA

    z = (x[:, usable] - x[:, usable].mean(axis=0)) / spread[usable]
    found: NDArray[np.float32] = PCA(count, random_state=0).fit_transform(z).astype(np.float32)
    return found
