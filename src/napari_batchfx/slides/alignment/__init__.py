"""How two slides lie on each other: found by itself, from point pairs, or read from a file."""

from napari_batchfx.slides.alignment.automatic import register, register_job
from napari_batchfx.slides.alignment.checking import check_alignment
from napari_batchfx.slides.alignment.files import read_alignment, write_alignment
from napari_batchfx.slides.alignment.points import alignment_from_points
from napari_batchfx.slides.alignment.result import Alignment
from napari_batchfx.slides.alignment.translation import register_translation

__all__ = [
    "Alignment",
    "alignment_from_points",
    "check_alignment",
    "read_alignment",
    "register",
    "register_job",
    "register_translation",
    "write_alignment",
]
