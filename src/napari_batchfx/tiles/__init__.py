"""Where tiles lie, which hold tissue, and reading them fast."""

from napari_batchfx.errors import TileError
from napari_batchfx.tiles.artefacts import ARTEFACTS, ArtefactMask, artefact_mask
from napari_batchfx.tiles.grid import TileGrid, nearest_first
from napari_batchfx.tiles.order import block_order, view_order
from napari_batchfx.tiles.pairs import TileMatches, match_tiles, read_matched
from napari_batchfx.tiles.read import damaged_tiles, default_workers, iter_tiles, read_tile, read_tiles
from napari_batchfx.tiles.tilemap import TileMap
from napari_batchfx.tiles.tissue import TissueMask, TissueSettings, tissue_mask

__all__ = [
    "ARTEFACTS",
    "ArtefactMask",
    "TileError",
    "TileGrid",
    "TileMap",
    "TileMatches",
    "TissueMask",
    "TissueSettings",
    "artefact_mask",
    "block_order",
    "damaged_tiles",
    "default_workers",
    "iter_tiles",
    "match_tiles",
    "nearest_first",
    "read_matched",
    "read_tile",
    "read_tiles",
    "tissue_mask",
    "view_order",
]
