"""Features: the store on disk and the table that everything after it takes."""

from napari_batchfx.features.array import FeatureArray
from napari_batchfx.features.embedding import embed, embed_job, whole_tiles
from napari_batchfx.features.exports import TilePlace, tile_place, write_trident_h5
from napari_batchfx.features.imported_grid import imported_grid
from napari_batchfx.features.imports import import_features
from napari_batchfx.features.locks import LockInfo
from napari_batchfx.features.store import FeatureStore
from napari_batchfx.features.table import OBS_COLUMNS, SlideMeta, make_table
from napari_batchfx.features.tables_io import concat, read_h5ad, write_h5ad

__all__ = [
    "OBS_COLUMNS",
    "FeatureArray",
    "FeatureStore",
    "LockInfo",
    "SlideMeta",
    "TilePlace",
    "concat",
    "embed",
    "embed_job",
    "import_features",
    "imported_grid",
    "make_table",
    "read_h5ad",
    "tile_place",
    "whole_tiles",
    "write_h5ad",
    "write_trident_h5",
]
