"""Where tiles lie, which hold tissue, and reading them fast."""

from napari_batchfx.errors import TileError
from napari_batchfx.tiles.artefacts import ARTEFACTS, ArtefactMask, artefact_mask
from napari_batchfx.tiles.grid import TileGrid, nearest_first
from napari_batchfx.tiles.read import default_workers, iter_tiles, read_tile, read_tiles
from napari_batchfx.tiles.tilemap import TileMap
from napari_batchfx.tiles.tissue import TissueMask, TissueSettings, tissue_mask

__all__ = [
    "ARTEFACTS",
    "ArtefactMask",
    "TileError",
    "TileGrid",
    "TileMap",
    "TissueMask",
    "TissueSettings",
    "artefact_mask",
    "default_workers",
    "iter_tiles",
    "nearest_first",
    "read_tile",
    "read_tiles",
    "tissue_mask",
]
