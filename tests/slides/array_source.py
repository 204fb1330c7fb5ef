"""A second, tiny backend: a slide made of arrays, some of its tiles damaged, that counts what is decoded."""

from __future__ import annotations

import numpy as np

from napari_batchfx.slides import DamagedTile, Slide, SlideMetadata
from napari_batchfx.slides._sources import StoredLevel


class ArraySource:
    in_memory = False

    def __init__(self, images, tile=256, *, banded=False, damaged=(), saved=False, **metadata):
        self.images = images
        self.levels = tuple(
            StoredLevel(image.shape[:2], (tile, 128) if banded else (tile, tile), banded) for image in images
        )
        self.metadata = SlideMetadata(mpp=(0.5, 0.5), mpp_source="file", **metadata)
        self.damaged = set(damaged)
        self.saved = saved
        self.decoded = []
        self.n_closed = 0

    def tiles(self, level, row, col):
        th, tw = self.levels[level].tile
        self.decoded.append((level, row) if self.levels[level].banded else (level, row, col))
        image = self.images[level]
        bad = (level, row, col) in self.damaged or (
            self.levels[level].banded and (level, row) in self.damaged
        )
        if bad and not self.saved:
            raise DamagedTile("its data end too soon")
        cols = range(-(-image.shape[1] // tw)) if self.levels[level].banded else [col]
        for c in cols:
            yield (row, c), np.ascontiguousarray(image[row * th : (row + 1) * th, c * tw : (c + 1) * tw])
        if bad:
            raise DamagedTile("a strip is damaged")

    def close(self):
        self.n_closed += 1


def array_slide(tmp_path, images, **options):
    """A slide of arrays; the file only gives it a name and an identity."""
    path = tmp_path / "arrays.tif"
    path.write_bytes(b"".join(image.tobytes()[:999] + bytes(str(image.shape), "ascii") for image in images))
    source = ArraySource(images, **options)
    return Slide(path, source), source
