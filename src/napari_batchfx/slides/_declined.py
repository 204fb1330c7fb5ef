"""The kind of refusal that another reader may still help with."""

from __future__ import annotations

from napari_batchfx.errors import SlideError

__all__ = ["NotReadHere"]


class NotReadHere(SlideError):
    """The file is of a kind that this reader doesn't read, as far as one can see sound; OpenSlide may."""
