"""What a backend gives to a slide: stored levels, tile by tile."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from napari_batchfx.slides.metadata import SlideMetadata

__all__ = ["Source", "StoredLevel"]


@dataclass(frozen=True)
class StoredLevel:
    """One stored level: shape (h, w), the tiles it is read in (h, w), whether a read decodes a row."""

    shape: tuple[int, int]
    tile: tuple[int, int]
    banded: bool = False


class Source(Protocol):
    """What a backend gives to :class:`~napari_batchfx.slides.Slide`."""

    levels: tuple[StoredLevel, ...]
    metadata: SlideMetadata
    in_memory: bool
    files: tuple[Path, ...]
    associated: tuple[str, ...]

    def tiles(self, level: int, row: int, col: int) -> Iterator[tuple[tuple[int, int], NDArray[np.uint8]]]:
        """Yield ((row, col), uint8 (h, w, 3)) of what one decoding gives, cropped to the image.

        :class:`~napari_batchfx.slides.DamagedTile` where the pixels of that tile are bad and others may be
        good.
        """

    def associated_image(self, name: str) -> NDArray[np.uint8]:
        """Return a label, macro or thumbnail image, uint8 (h, w, 3); SlideError where there is none."""

    def is_unchanged(self) -> bool:
        """Whether the files are still those that were opened."""

    def close(self) -> None:
        """Release the file."""
