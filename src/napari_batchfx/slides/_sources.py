"""Where pixels come from: the names that the other files of this room import."""

from napari_batchfx.slides._plain import PlainSource
from napari_batchfx.slides._stored import Source, StoredLevel
from napari_batchfx.slides._tiff_source import TiffSource

__all__ = ["PlainSource", "Source", "StoredLevel", "TiffSource"]
