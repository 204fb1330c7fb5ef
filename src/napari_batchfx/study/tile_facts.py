"""Where a tile's pixels come from, in words: the provenance of :class:`~napari_batchfx.study.SeenTile`."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from napari_batchfx.study.report_rows import stain_label

if TYPE_CHECKING:
    from napari_batchfx.study.entries import SlideEntry
    from napari_batchfx.study.recipe import Place, Recipe
    from napari_batchfx.study.seen_tile import SeenTile
    from napari_batchfx.tiles import ArtefactMask, TileGrid

__all__ = ["facts"]

_SAID = {
    "pen": "under pen",
    "edge": "at an edge of coverslip or slide",
    "fold": "in a fold",
    "blur": "out of focus",
    "damaged": "damaged in the file",
}
_FINE_MPP = 1.5


def facts(
    recipe: Recipe,
    place: Place,
    entry: SlideEntry,
    tile: SeenTile,
    tissue: float | None = None,
    artefacts: ArtefactMask | None = None,
) -> tuple[dict[str, str], tuple[str, ...]]:
    """Provenance of a tile and what could mislead about it.

    Parameters
    ----------
    recipe : Recipe
        The encode settings and their encoder.
    place : Place
        The slide's grid and stain transform.
    entry : SlideEntry
    tile : SeenTile
        Its pixels and bounds.
    tissue : float, optional
        Share of tissue, 0..1, where it is known.
    artefacts : ArtefactMask, optional
        What was looked for, where it was.

    Returns
    -------
    (dict of str to str, tuple of str)
        Nothing private: no path, no label or macro image, no patient, site or operator. The names of slides
        stand under the keys of :data:`napari_batchfx.study.seen_tile.NAMES`.
    """
    grid, encoder = place.grid, recipe.encoder
    slide = grid.slide
    warnings: list[str] = []
    y0, x0, y1, x1 = tile.bounds_um
    found = {
        "slide": entry.name,
        "slide id": entry.fingerprint,
        "tile": f"row {tile.cell[0]}, column {tile.cell[1]} (from 0)",
        "place": f"y {y0:,.1f} to {y1:,.1f} µm, x {x0:,.1f} to {x1:,.1f} µm from the top left corner",
        "size": f"{grid.size_um:.4g} µm, {grid.size_px} px at {grid.mpp:g} µm/px",
        "step": f"{grid.stride_um:.4g} µm between tiles",
        "slide's pixel size": f"{_mpp(grid.slide_mpp)} ({slide.mpp_source})",
        "read from": _level(grid, warnings),
        "colours": _colours(place),
    }
    if slide.icc_note:
        warnings.append(f"Colour profile: {slide.icc_note}.")
    if place.transform is None:
        found["stain"] = "as scanned"
    else:
        found["stain"] = f"{stain_label(place.transform.method)}, strength {place.transform.strength:g}"
        cohort = recipe.settings.cohort
        target = None if cohort else recipe.settings.target
        towards = "the average of all slides" if cohort else "the built-in reference"
        found["stain towards"] = towards if target is None else "a slide of the study"
        if target is not None:
            found["stain target"] = target
        found["stain id"] = place.transform.key
        warnings += place.transform.warnings
    found["encoder"] = encoder.name
    found["encoder id"] = encoder.key
    found["precision"] = f"{encoder.precision} on {encoder.device}"
    found["input"] = _input(tile, encoder.kind)
    if grid.mpp != encoder.mpp and not np.isclose(grid.mpp, encoder.mpp, rtol=0.02):
        found["input"] += f", {grid.size_um / tile.as_seen.shape[0]:.3g} µm/px for the model"
        warnings.append(
            f"Tiles are laid at {grid.mpp:g} µm/px; this encoder was made for {encoder.mpp:g} µm/px."
        )
    if tissue is not None:
        found["tissue"] = f"{tissue:.0%} of the tile".replace("%", " %")
    if artefacts is not None:
        found["artefacts"] = _artefacts(tile, artefacts)
    found["damaged"] = "yes, left out of features" if tile.damaged else "no"
    found["stored"] = "yes" if tile.stored else "not yet"
    if tile.damaged:
        warnings.append(
            "Pixels of this tile are damaged in the file (flat grey here): it is left out of features."
        )
    return found, tuple(dict.fromkeys(warnings))


def _mpp(size: tuple[float, float]) -> str:
    y, x = size
    return f"{y:.4g} µm/px" if np.isclose(y, x, rtol=1e-4) else f"{y:.4g} x {x:.4g} µm/px (y, x)"


def _level(grid: TileGrid, warnings: list[str]) -> str:
    down = grid.slide.levels[grid.level].downsample
    own = (grid.slide_mpp[0] * down[0], grid.slide_mpp[1] * down[1])
    factor = (grid.mpp / own[0], grid.mpp / own[1])
    text = f"level {grid.level}, {_mpp(own)}"
    if max(abs(f - 1) for f in factor) * grid.size_px < 0.01:
        return f"{text}, its pixels as they are or moved by less than one"
    if max(own) > grid.mpp * _FINE_MPP:
        warnings.append(
            f"The slide's finest level has {_mpp(own)}; the tile is enlarged to {grid.mpp:g} µm/px and "
            "holds no more detail than that."
        )
    said = f"{factor[0]:.3g}" if np.isclose(*factor, rtol=1e-3) else f"{factor[0]:.3g} x {factor[1]:.3g}"
    return f"{text}, resampled to {grid.mpp:g} µm/px ({said} to 1)"


def _colours(place: Place) -> str:
    slide = place.grid.slide
    if not slide.colour_key:
        return "as stored in the file"
    return f"converted to sRGB with the file's profile ({slide.colour_key})"


def _input(tile: SeenTile, kind: str) -> str:
    side, own = tile.as_seen.shape[0], tile.as_read.shape[0]
    if side == own:
        return f"{side} x {side} px, the tile as it is"
    how = "enlarged" if side > own else "reduced"
    return f"{side} x {side} px, {how} from {own} x {own} px by the encoder"


def _artefacts(tile: SeenTile, artefacts: ArtefactMask) -> str:
    judged = [kind for kind in artefacts.kinds if kind not in artefacts.not_judged]
    shares = {kind: float(artefacts.fraction(kind, [tile.bounds_um])[0]) for kind in judged}
    there = [f"{_percent(share)} {_SAID[kind]}" for kind, share in shares.items() if share > 0]
    looked = f"looked for {', '.join(judged)}" if judged else "none can be judged on this slide"
    return f"{', '.join(there) or 'none found'} ({looked})"


def _percent(share: float) -> str:
    return "less than 1 %" if share < 0.01 else f"{100 * share:.0f} %"
