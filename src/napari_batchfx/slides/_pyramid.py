"""The levels of a slide as lazy dask arrays, for a viewer."""

from __future__ import annotations

import uuid
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from napari_batchfx.errors import SlideError
from napari_batchfx.slides.damage import missing_tile

if TYPE_CHECKING:
    import dask.array as da

    from napari_batchfx.slides.slide import Slide

__all__ = ["lazy_levels"]

CHUNK = 1024


def lazy_levels(slide: Slide, *, quickly: bool) -> list[da.Array]:
    """Return one dask array a level, in chunks of whole tiles; their names are unique to this call."""
    import dask.array as da

    unique = uuid.uuid4().hex
    return [
        da.from_array(
            _LevelArray(slide, index, quickly),
            chunks=(_chunk(level.tile[0]), _chunk(level.tile[1]), 3),
            name=f"slide-{unique}-{index}",
            lock=False,
            asarray=False,
            fancy=False,
            meta=np.empty((0, 0, 0), np.uint8),
        )
        for index, level in enumerate(slide.levels)
    ]


def _chunk(tile: int) -> int:
    return max(1, -(-CHUNK // tile)) * tile


class _LevelArray:
    """A level as something that dask can slice."""

    ndim = 3
    dtype = np.dtype(np.uint8)

    def __init__(self, slide: Slide, level: int, quickly: bool) -> None:
        self._slide = slide
        self._level = level
        self._quickly = quickly
        self.shape = (*slide.levels[level].shape, 3)

    def __getitem__(self, key: tuple[slice, ...]) -> NDArray[np.uint8]:
        rows, cols, *rest = key if isinstance(key, tuple) else (key, slice(None))
        y0, y1, _ = rows.indices(self.shape[0])
        x0, x1, _ = cols.indices(self.shape[1])
        place = (self._level, y0, x0, y1 - y0, x1 - x0)
        if self._quickly:
            try:
                region = self._slide._read(*place, quickly=True)
            except SlideError:
                # gone or closed: an exception inside a viewer's drawing would take the viewer with
                # it; who reads the slide for numbers is told in words
                region = missing_tile(place[3:])
        else:
            region = self._slide.read(*place)
        return region[(slice(None, None, rows.step), slice(None, None, cols.step), *rest)]
