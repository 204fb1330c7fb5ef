"""What other programs open: QuPath's GeoJSON, SpatialData, overlays as pictures and as numbers."""

from __future__ import annotations

from napari_batchfx.report.exports.geojson import QuPathRegion, QuPathTiles, write_geojson
from napari_batchfx.report.exports.masking import mask_table
from napari_batchfx.report.exports.overlay_files import (
    write_overlay_ome_tiff,
    write_overlay_ome_zarr,
    write_overlay_png,
)
from napari_batchfx.report.exports.spatial import to_spatialdata, write_spatialdata

__all__ = [
    "QuPathRegion",
    "QuPathTiles",
    "mask_table",
    "to_spatialdata",
    "write_geojson",
    "write_overlay_ome_tiff",
    "write_overlay_ome_zarr",
    "write_overlay_png",
    "write_spatialdata",
]
