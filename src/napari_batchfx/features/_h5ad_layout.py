"""Tables of tiles (h5ad) that another program wrote."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from napari_batchfx.errors import FeatureError
from napari_batchfx.features._layouts import TileFile, checked
from napari_batchfx.features.table import CATEGORIES

__all__ = ["read_foreign"]

_SLIDE = ("slide", "slide_id", "wsi", "library_id", "sample")
_CORNERS = (("x_px", "y_px"), ("x", "y"))


def read_foreign(path: Path) -> list[TileFile]:
    """The slides of an h5ad, each by itself; the file was looked at before (see ``open_hdf5``)."""
    import anndata
    import pandas as pd

    try:
        table = anndata.read_h5ad(path)
    except (OSError, KeyError, ValueError, TypeError, AttributeError, RuntimeError) as error:
        raise FeatureError(f"{path.name}: is no h5ad table, or it is damaged; write it again.") from error
    if "batchfx" in table.uns:
        raise FeatureError(f"{path.name}: is a table of napari-batchfx already; use it as it is.")
    if table.X is None:
        raise FeatureError(f"{path.name}: holds no features (X is empty).")
    values: Any = table.X
    if hasattr(values, "toarray"):
        rows, columns = values.shape
        if rows * columns * 4 > 16 * 10**9:
            raise FeatureError(f"{path.name}: {rows:,} x {columns:,} numbers are too many for one table.")
        values = values.toarray()
    features, corners = checked(path.name, np.asarray(values), _corners(path, table))
    column = next((c for c in _SLIDE if c in table.obs), None)
    names = (
        np.full(table.n_obs, "", dtype=object) if column is None else table.obs[column].astype(str).to_numpy()
    )
    own: dict[str, Any] = {}
    for key in (*(c for c in CATEGORIES if c != "slide"), "label"):
        if key in table.obs:
            texts = table.obs[key].astype(object)
            own[key] = texts.where(texts.notna(), None if key == "label" else "").to_numpy()
    if "control" in table.obs and table.obs["control"].dtype == bool:
        own["control"] = table.obs["control"].to_numpy()
    found = []
    for name in dict.fromkeys(names):
        mine = names == name
        part = TileFile(features[mine], corners[mine], "h5ad", name=str(name))
        for key, all_values in own.items():
            kept = all_values[mine]
            part.columns[key] = (
                kept if key == "control" else pd.Categorical([None if v is None else str(v) for v in kept])
            )
        found.append(part)
    return found


def _corners(path: Path, table: Any) -> NDArray[Any]:
    if "spatial" in table.obsm:
        return np.asarray(table.obsm["spatial"])
    for x, y in _CORNERS:
        if x in table.obs and y in table.obs:
            try:
                corners: NDArray[Any] = table.obs[[x, y]].to_numpy(dtype=np.float64)
                return corners
            except (TypeError, ValueError) as error:
                raise FeatureError(f"{path.name}: the columns {x} and {y} are no numbers.") from error
    raise FeatureError(
        f'{path.name}: where its tiles lie isn\'t in obsm["spatial"] nor in the columns x and y of obs.'
    )
