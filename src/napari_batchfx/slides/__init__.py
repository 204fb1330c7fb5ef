"""Open a whole-slide image: levels, pixel size, vendor and scanner, colour profile; lazily."""

from napari_batchfx.errors import SlideError
from napari_batchfx.slides._pixels import PENDING_RGB
from napari_batchfx.slides.alignment import (
    Alignment,
    alignment_from_points,
    check_alignment,
    read_alignment,
    register,
    register_job,
    register_translation,
    write_alignment,
)
from napari_batchfx.slides.cache import TileCache, set_cache_bytes, tile_cache
from napari_batchfx.slides.damage import MISSING_RGB, Damage, DamagedTile
from napari_batchfx.slides.fingerprint import fingerprint
from napari_batchfx.slides.levels import Level
from napari_batchfx.slides.memory import give_back_memory
from napari_batchfx.slides.metadata import SlideMetadata
from napari_batchfx.slides.open import can_open, open_slide
from napari_batchfx.slides.prepared import (
    clear_prepared,
    prepare_pyramid_job,
    prepared_bytes,
    prepared_folder,
)
from napari_batchfx.slides.slide import Slide
from napari_batchfx.slides.values import write_values
from napari_batchfx.slides.write import write_pyramid
from napari_batchfx.slides.write_zarr import write_ome_zarr
from napari_batchfx.slides.writing import write_slide_job

__all__ = [
    "MISSING_RGB",
    "PENDING_RGB",
    "Alignment",
    "Damage",
    "DamagedTile",
    "Level",
    "Slide",
    "SlideError",
    "SlideMetadata",
    "TileCache",
    "alignment_from_points",
    "can_open",
    "check_alignment",
    "clear_prepared",
    "fingerprint",
    "give_back_memory",
    "open_slide",
    "prepare_pyramid_job",
    "prepared_bytes",
    "prepared_folder",
    "read_alignment",
    "register",
    "register_job",
    "register_translation",
    "set_cache_bytes",
    "tile_cache",
    "write_alignment",
    "write_ome_zarr",
    "write_pyramid",
    "write_slide_job",
    "write_values",
]
