"""Features: the store on disk and the table that everything after it takes."""

from napari_batchfx.features.array import FeatureArray
from napari_batchfx.features.embedding import embed, embed_job, whole_tiles
from napari_batchfx.features.store import FeatureStore
from napari_batchfx.features.table import OBS_COLUMNS, SlideMeta, make_table
from napari_batchfx.features.tables_io import concat, read_h5ad, write_h5ad

__all__ = [
    "OBS_COLUMNS",
    "FeatureArray",
    "FeatureStore",
    "SlideMeta",
    "concat",
    "embed",
    "embed_job",
    "make_table",
    "read_h5ad",
    "write_h5ad",
    "whole_tiles",
]
