"""Imported tiles on their slide, to be drawn."""

from __future__ import annotations

from typing import TYPE_CHECKING

from napari_batchfx.errors import FeatureError
from napari_batchfx.features.table import provenance_of

if TYPE_CHECKING:
    from anndata import AnnData

    from napari_batchfx.slides import Slide
    from napari_batchfx.tiles import TileGrid

__all__ = ["imported_grid"]

_TOLERANCE = 0.01


def imported_grid(table: AnnData, slide: Slide, name: str | None = None) -> TileGrid:
    """The grid of an imported table's tiles on its slide, to draw a value for each of them.

    Parameters
    ----------
    table : AnnData
        As :func:`import_features` gives it.
    slide : Slide
        With a known pixel size.
    name : str, optional
        Which slide of the table it is; needed where the table has several.

    Returns
    -------
    TileGrid
        Whose cells are the table's (row, col).

    Raises
    ------
    FeatureError
        If the tiles lie on no grid, or on one that doesn't begin at the slide's corner.

    Examples
    --------
    >>> import h5py
    >>> import numpy as np
    >>> from napari_batchfx.features import import_features
    >>> from napari_batchfx.slides import open_slide, write_pyramid
    >>> _ = write_pyramid("a.tif", np.full((300, 400, 3), 200, np.uint8), mpp=0.5, compression="deflate")
    >>> with h5py.File("a.h5", "w") as file:
    ...     file["features"], file["coords"] = np.ones((2, 4), np.float32), np.array([[0, 64], [128, 64]])
    >>> with open_slide("a.tif") as slide:
    ...     table = import_features("a.h5", slide=slide, tile_px=64)
    ...     grid = imported_grid(table, slide)
    >>> bool((grid.center_um(table.obs[["row", "col"]])[:, 1] == table.obs["x_um"]).all())
    True
    """
    from napari_batchfx.tiles import TileGrid

    slides = provenance_of(table).get("slides", {})
    if name is None and len(slides) != 1:
        raise FeatureError(f"The table has {len(slides)} slides; say which one is meant.")
    name = next(iter(slides)) if name is None else name
    if name not in slides:
        raise FeatureError(f"{name}: the table has no slide of this name.")
    about = slides[name].get("grid", {})
    how = slides[name].get("imported", {})
    side = how.get("side", 0.0)
    if not about.get("shape") or not side:
        raise FeatureError(f"{name}: its tiles lie on no common grid, so they can't be drawn as one.")
    if slide.mpp is None:
        raise FeatureError(f"{slide.path.name}: no pixel size in the file; give mpp=... to draw tiles on it.")
    step = about["stride_px"] * side / about["size_px"] if about["size_px"] else side
    if max(about["offset"]) > _TOLERANCE * step:
        raise FeatureError(f"{name}: its tiles don't begin at the slide's corner, as those drawn here do.")
    if how.get("unit") == "px" and abs(slide.mpp[0] / slide.mpp[1] - 1) <= _TOLERANCE:
        return TileGrid(slide, round(side), slide.mpp[1], round(step))
    if how.get("unit") == "px":
        raise FeatureError(f"{slide.path.name}: has pixels that are not square, but tiles drawn here are.")
    size_px = about["size_px"] or 256
    return TileGrid(slide, size_px, side / size_px, round(step * size_px / side))
