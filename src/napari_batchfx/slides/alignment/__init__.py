"""How two slides lie on each other: found by itself, from point pairs, or read from a file."""

from napari_batchfx.slides.alignment.automatic import register, register_job
from napari_batchfx.slides.alignment.result import Alignment
from napari_batchfx.slides.alignment.translation import register_translation

__all__ = ["Alignment", "register", "register_job", "register_translation"]
