"""Results of a study as one value a tile: what the viewer paints and the report prints."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from numpy.typing import NDArray

from napari_batchfx.errors import BatchfxError

if TYPE_CHECKING:
    from napari_batchfx.study.bench import Bench
    from napari_batchfx.study.tile_rows import TileRows
    from napari_batchfx.tiles import TileGrid, TileMap

__all__ = ["QUANTITIES", "Quantity", "adapt_maps", "probe_look", "probe_maps"]


Quantity = Literal["confidence", "margin", "entropy"]
QUANTITIES: tuple[Quantity, ...] = ("confidence", "margin", "entropy")


def probe_maps(study: Bench, what: Quantity = "confidence") -> dict[str, TileMap]:
    """Out-of-fold confidence, margin or entropy of the last site probe on every slide it scored.

    Parameters
    ----------
    study : Study
    what : {"confidence", "margin", "entropy"}
        See :class:`~napari_batchfx.probe.SiteProbeResult`.

    Returns
    -------
    dict of str to TileMap
        By fingerprint; empty where no probe was run. NaN where a tile was not scored.
    """
    from napari_batchfx.tiles import TileMap

    outcome = study.results.probe
    if outcome is None:
        return {}
    values = np.asarray(getattr(outcome.result, what), dtype=np.float32)
    looks = probe_look(outcome.computed_from["settings"]["batch"], float(outcome.result.chance), what)
    return {
        fingerprint: TileMap.from_cells(grid, cells, values[rows], **looks)
        for fingerprint, grid, rows, cells in slides_of(study, outcome.tiles, outcome.computed_from)
    }


def probe_look(batch: str, chance: float, what: Quantity) -> dict[str, Any]:
    """Name, unit, range, colours and chance of a map of the site probe: grey is guessing in each."""
    name = f"site probe ({batch})" if what == "confidence" else f"site probe {what} ({batch})"
    if what == "margin":
        return {
            "name": name,
            "unit": "margin",
            "vmin": -1.0,
            "vmax": 1.0,
            "colormap": "confidence",
            "chance": 0.0,
            "description": f"Out-of-fold probability of the tile's own {batch} less that of the likeliest "
            "other; above 0 (orange) it is recognised, below (blue) taken for another.",
        }
    if what == "entropy":
        return {
            "name": name,
            "unit": "entropy",
            "vmin": 0.0,
            "vmax": 1.0,
            "colormap": "doubt",
            "chance": 1.0,
            "description": f"How undecided the classifier is, whichever {batch} it says: 0 (orange) is sure "
            "of one, 1 (grey) no idea.",
        }
    return {
        "name": name,
        "unit": "probability",
        "vmin": 0.0,
        "vmax": 1.0,
        "colormap": "confidence",
        "chance": chance,
        "description": f"Out-of-fold probability that a classifier gives the tile's own {batch}; "
        f"grey is guessing ({chance:.2g}), orange is recognised, blue is taken for another.",
    }


def adapt_maps(study: Bench) -> dict[str, dict[str, TileMap]]:
    """Predicted classes before and after the last adaptation, and where they disagree.

    Parameters
    ----------
    study : Study

    Returns
    -------
    dict of str to dict of str to TileMap
        By fingerprint, then ``"before"``, ``"after"`` (class number) and ``"changed"`` (0 or 1).
    """
    from napari_batchfx.tiles import TileMap

    outcome = study.results.adapt
    if outcome is None:
        return {}
    classes = [str(name) for name in outcome.before.classes]
    legend = ", ".join(f"{index} = {name}" for index, name in enumerate(classes))
    values = {
        "before": (_numbers(outcome.before), f"Class predicted without correction: {legend}."),
        "after": (
            _numbers(outcome.after),
            f"Class predicted after correction on the control samples: {legend}.",
        ),
        "changed": (
            np.where(np.isfinite(_numbers(outcome.before)), outcome.changed, np.nan).astype(np.float32),
            "1 where the prediction changed with the correction, 0 where it stayed.",
        ),
    }
    maps: dict[str, dict[str, TileMap]] = {}
    for fingerprint, grid, rows, cells in slides_of(study, outcome.tiles, outcome.computed_from):
        maps[fingerprint] = {
            kind: TileMap.from_cells(
                grid,
                cells,
                numbers[rows],
                name=kind,
                unit="class" if kind != "changed" else "",
                vmin=0.0,
                vmax=1.0 if kind == "changed" else float(max(1, len(classes) - 1)),
                colormap="changed" if kind == "changed" else "classes",
                description=description,
                labels=("stayed", "changed") if kind == "changed" else tuple(classes),
            )
            for kind, (numbers, description) in values.items()
        }
    return maps


def _numbers(prediction: Any) -> NDArray[np.float32]:
    proba = np.asarray(prediction.proba, dtype=np.float64)
    known = np.isfinite(proba).all(axis=1)
    number = np.full(len(proba), np.nan, dtype=np.float32)
    number[known] = proba[known].argmax(axis=1)
    return number


def slides_of(
    study: Bench, tiles: TileRows, computed_from: dict[str, Any]
) -> Iterator[tuple[str, TileGrid, NDArray[np.int64], NDArray[np.int64]]]:
    """Slides of a result that can be drawn now, with the grid the result was computed on."""
    from napari_batchfx.study.settings import EncodeSettings

    then = EncodeSettings(**computed_from["encode"])
    for entry in study.slides:
        rows, cells = tiles.on(entry.fingerprint)
        if not len(rows):
            continue
        try:
            yield entry.fingerprint, study.grid_of(entry, then), rows, cells
        except (BatchfxError, OSError) as error:
            study.report_problem(entry.name, error)
