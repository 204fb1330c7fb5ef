"""Stored levels of a TIFF of any vendor."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from napari_batchfx.errors import SlideError
from napari_batchfx.slides._associated import decode_encoded, read_whole
from napari_batchfx.slides._file import short
from napari_batchfx.slides._layout import Layout
from napari_batchfx.slides._segments import Segments
from napari_batchfx.slides._stored import StoredLevel
from napari_batchfx.slides._tifffile import Page, Tiff
from napari_batchfx.slides.damage import MISSING_RGB, DamagedTile
from napari_batchfx.slides.vendors import read_layout

__all__ = ["BAND_TILE", "TiffSource"]

Rgb = NDArray[np.uint8]
Placed = tuple[tuple[int, int], Rgb]
BAND_TILE = 512
MIN_SEGMENT = 64
MAX_SEGMENT = 2048
# a band of very wide strips is lower than 512 px
MAX_BAND_PIXELS = 32 * 2**20


class TiffSource:
    """Stored levels of a TIFF; strips and very flat tiles are read in bands and cut into tiles of 512 px.

    Smaller levels that can't be read (their header is damaged, the file was cut before them) are left out.

    Raises
    ------
    SlideError
        If the full-size level can't be read, or the file was cut before its first tile.
    """

    in_memory = False

    def __init__(self, path: Path) -> None:
        self.files: tuple[Path, ...] = (path,)
        self._name = path.name
        self._tiff = Tiff(path)
        try:
            layout = _layout(self._tiff.pages, path.name)
            self._segments: list[Segments] = []
            self._overlaps: list[tuple[int, int]] = []
            levels: list[StoredLevel] = []
            for index, (page, shape) in enumerate(zip(layout.pages, layout.shapes, strict=True)):
                segments = self._usable(page, shape, is_main=index == 0)
                if segments is None:
                    continue
                overlap = layout.overlaps[index] if layout.overlaps else (0, 0)
                levels.append(_stored(page, shape, segments.size, overlap))
                self._segments.append(segments)
                self._overlaps.append(overlap)
        except BaseException:
            self._tiff.close()
            raise
        self.levels: tuple[StoredLevel, ...] = tuple(levels)
        self.lost_share = self._segments[0].lost_share
        self.metadata = layout.metadata
        self._associated = dict(layout.associated)
        self._encoded = {name: data for name, data in layout.encoded if name not in self._associated}
        self.associated: tuple[str, ...] = (*self._associated, *self._encoded)

    def _usable(self, page: Page, shape: tuple[int, int], *, is_main: bool) -> Segments | None:
        try:
            if min(shape) < 1 or shape[0] > page.height or shape[1] > page.width:
                raise SlideError(
                    f"{self._name}: its header states sizes that don't fit one another; copy or export it "
                    "again."
                )
            segments = self._tiff.segments(page)
        except DamagedTile as error:
            if is_main:
                raise SlideError(
                    f"{self._name}: its JPEG header is damaged ({error.reason}); copy or export it again."
                ) from error
            return None
        except SlideError:
            if is_main:
                raise
            return None
        if not segments.is_all_lost:
            return segments
        if is_main:
            raise SlideError(
                f"{self._name}: the file is truncated, it ends before the first pixels of the slide; copy or "
                "export it again."
            )
        return None

    def tiles(self, level: int, row: int, col: int) -> Iterator[Placed]:
        """Decode a tile, or the band of segments it lies in."""
        info = self.levels[level]
        if info.banded:
            yield from self._band(level, row)
            return
        (height, width), (th, tw) = info.shape, info.tile
        size = (min(th, height - row * th), min(tw, width - col * tw))
        if any(self._overlaps[level]):
            yield (row, col), _fit(self._overlapped(level, row, col), size)
        else:
            yield (row, col), _fit(self._segments[level].read(row, col), size)

    def tile_into(self, level: int, row: int, col: int, out: Rgb) -> bool:
        """Decode a whole tile straight into ``out``; False where :meth:`tiles` has to do it."""
        info = self.levels[level]
        if info.banded or any(self._overlaps[level]):
            return False
        return self._segments[level].read_into(row, col, out)

    def _band(self, level: int, row: int) -> Iterator[Placed]:
        """Yield a band of segments in tiles; damaged segments are grey in it and raised at the end."""
        height, width = self.levels[level].shape
        th, tw = self.levels[level].tile
        sh, sw = self._segments[level].size
        top, bottom = row * th, min((row + 1) * th, height)
        rows, cols = range(top // sh, -(-bottom // sh)), range(-(-width // sw))
        band: Rgb | None = None
        damage: DamagedTile | None = None
        n_bad = 0
        for r in rows:
            for c in cols:
                y, x = r * sh - top, c * sw
                try:
                    part = self._segments[level].read(r, c)
                except DamagedTile as error:
                    damage, n_bad = error, n_bad + 1
                    part = np.full((1, 1, 3), MISSING_RGB, np.uint8)
                    part = np.broadcast_to(part, (min(sh, bottom - top - y), min(sw, width - x), 3))
                if part is None:
                    continue
                if len(rows) == len(cols) == 1:
                    band = _fit(part, (bottom - top, width))
                    continue
                if band is None:
                    band = np.full((bottom - top, width, 3), 255, np.uint8)
                target = band[y : y + part.shape[0], x : x + part.shape[1]]
                target[:] = part[: target.shape[0], : target.shape[1]]
        if band is None:
            band = np.full((bottom - top, width, 3), 255, np.uint8)
        for c in range(-(-width // tw)):
            yield (row, c), band[:, c * tw : (c + 1) * tw].copy()
        if damage is not None:
            total = len(rows) * len(cols)
            raise DamagedTile(damage.reason if total == 1 else f"{n_bad} of {total} strips: {damage.reason}")

    def _overlapped(self, level: int, row: int, col: int) -> Rgb | None:
        """Read a tile where the file's tiles overlap.

        Of two neighbours the lower and the right one shows what they share, as in OpenSlide: each shows its
        first step of pixels, and what the last one holds beyond that is one more row or column.
        """
        th, tw = self.levels[level].tile
        segments = self._segments[level]
        r, c = min(row, segments.shape[0] - 1), min(col, segments.shape[1] - 1)
        part = segments.read(r, c)
        if part is None:
            return None
        y, x = (row - r) * th, (col - c) * tw
        return np.ascontiguousarray(part[y : y + th, x : x + tw])

    def associated_image(self, name: str) -> Rgb:
        """Read a label, macro or thumbnail image, uint8 (h, w, 3)."""
        if name in self._associated:
            page = self._associated[name]
            return read_whole(self._tiff.segments(page), page, f"{self._name}: its {name} image")
        if name in self._encoded:
            return decode_encoded(self._encoded[name], f"{self._name}: its {name} image")
        there = ", ".join(self.associated) or "none"
        raise SlideError(f"{self._name}: there is no image called {name!r:.60} in it; there is: {there}.")

    def is_unchanged(self) -> bool:
        """Whether the path still leads to the file that is open, and nobody wrote to it."""
        return self._tiff.file.is_unchanged()

    def close(self) -> None:
        """Close the file; a thread that is reading finishes its tile first."""
        self._tiff.close()


def _layout(pages: list[Page], name: str) -> Layout:
    try:
        return read_layout(pages, name)
    except SlideError:
        raise
    except Exception as error:  # numbers and texts that no parser foresaw
        raise SlideError(
            f"{name}: what its header says about the scan makes no sense ({short(error)}); copy or export it "
            "again."
        ) from error


def _stored(
    page: Page, shape: tuple[int, int], segment: tuple[int, int], overlap: tuple[int, int] = (0, 0)
) -> StoredLevel:
    sh, sw = segment
    if any(overlap):
        return StoredLevel(shape, (sh - overlap[0], sw - overlap[1]))
    if page.is_tiled and sh >= MIN_SEGMENT and sw >= MIN_SEGMENT and max(sh, sw) <= MAX_SEGMENT:
        return StoredLevel(shape, segment)
    most = max(1, min(BAND_TILE, MAX_BAND_PIXELS // shape[1]))
    return StoredLevel(shape, (max(1, most // sh) * sh, BAND_TILE), banded=True)


def _fit(tile: Rgb | None, size: tuple[int, int]) -> Rgb:
    """Crop a tile to the part inside of the image; what a file leaves out is white, the colour of glass."""
    if tile is None:
        return np.full((*size, 3), 255, np.uint8)
    if tile.shape[:2] == size:
        return tile
    if tile.shape[0] >= size[0] and tile.shape[1] >= size[1]:
        return np.ascontiguousarray(tile[: size[0], : size[1]])
    full = np.full((*size, 3), 255, np.uint8)
    full[: tile.shape[0], : tile.shape[1]] = tile[: size[0], : size[1]]
    return full
