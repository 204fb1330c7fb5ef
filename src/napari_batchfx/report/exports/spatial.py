"""Tiles as SpatialData: a square a tile, in micrometres, and the table of what was measured on them."""

from __future__ import annotations

import os
import shutil
import uuid
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from napari_batchfx.errors import StudyError
from napari_batchfx.features.table import provenance_of

if TYPE_CHECKING:
    from anndata import AnnData

__all__ = ["to_spatialdata", "write_spatialdata"]


def to_spatialdata(table: AnnData) -> Any:
    """Tiles of all slides as one SpatialData object.

    Needs the extra ``spatialdata``.

    Parameters
    ----------
    table : AnnData
        As of :func:`napari_batchfx.features.make_table`, with places in micrometres.

    Returns
    -------
    spatialdata.SpatialData
        Shapes ``SLIDE_tiles`` (a square a tile, micrometres from the slide's corner, in a coordinate system
        of the slide's name) and the table ``tiles``, whose rows they are.

    Raises
    ------
    StudyError
        If SpatialData isn't installed, or the table doesn't say where and how large its tiles are.
    """
    try:
        import geopandas
        import shapely
        from spatialdata import SpatialData
        from spatialdata.models import ShapesModel, TableModel
        from spatialdata.transformations import Identity
    except ImportError as error:
        raise StudyError(
            "SpatialData isn't installed; get it with: pip install 'napari-batchfx[spatialdata]'."
        ) from error
    origin = provenance_of(table)
    names = table.obs["slide"].astype(str).to_numpy()
    shapes: dict[str, Any] = {}
    regions = np.empty(table.n_obs, dtype=object)
    for name in dict.fromkeys(names):
        grid = origin.get("slides", {}).get(name, {}).get("grid", {})
        half = float(grid.get("size_px") or 0) * float(grid.get("mpp") or 0) / 2
        rows = np.flatnonzero(names == name)
        x, y = (table.obs[column].to_numpy(dtype=np.float64)[rows] for column in ("x_um", "y_um"))
        if not half > 0 or not np.isfinite(x).all() or not np.isfinite(y).all():
            raise StudyError(
                f"{name}: where its tiles lie in micrometres isn't known, so they have no shape."
            )
        key = f"{_safe(name)}_tiles"
        squares = geopandas.GeoDataFrame(
            geometry=shapely.box(x - half, y - half, x + half, y + half), index=rows.astype(np.int64)
        )
        shapes[key] = ShapesModel.parse(squares, transformations={_safe(name): Identity()})
        regions[rows] = key
    copy = table.copy()
    copy.uns.pop("batchfx", None)
    copy.obs["region"] = np.asarray(regions, dtype=str)
    copy.obs["region"] = copy.obs["region"].astype("category")
    copy.obs["tile"] = np.arange(table.n_obs, dtype=np.int64)
    parsed = TableModel.parse(copy, region=list(shapes), region_key="region", instance_key="tile")
    return SpatialData(shapes=shapes, tables={"tiles": parsed}, attrs={"batchfx": origin})


def write_spatialdata(table: AnnData, path: str | os.PathLike[str]) -> Path:
    """Write :func:`to_spatialdata` as a zarr folder.

    Parameters
    ----------
    table : AnnData
    path : path
        Folder to make (.zarr).

    Raises
    ------
    StudyError
        As :func:`to_spatialdata`, and if something is there already or the folder can't be written.
    """
    path = Path(path)
    if path.exists():
        raise StudyError(f"{path.name}: something is there already; choose another name.")
    draft = path.with_name(f".{path.name}.{uuid.uuid4().hex[:8]}.part")
    try:
        to_spatialdata(table).write(draft)
        draft.replace(path)
    except OSError as error:
        raise StudyError(
            f"{path.name}: can't be written ({error.strerror or error}); choose another folder."
        ) from error
    finally:
        shutil.rmtree(draft, ignore_errors=True)
    return path


def _safe(name: str) -> str:
    """A name of letters, digits, ``_``, ``-`` and ``.``, as SpatialData asks for."""
    return "".join(c if c.isalnum() or c in "_-." else "_" for c in name)
