"""The tiles or strips of one TIFF page: read, checked, decoded to RGB, or said to be damaged."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from napari_batchfx.errors import SlideError
from napari_batchfx.slides._codes import (
    JPEG,
    JPEG2000,
    KNOWN,
    ends_early,
    is_harmless_jpeg2000,
    lacks_end,
    stated_size,
)
from napari_batchfx.slides._declined import NotReadHere
from napari_batchfx.slides._file import SlideFile, short
from napari_batchfx.slides._rgb import to_rgb
from napari_batchfx.slides._tiff_bones import require_geometry
from napari_batchfx.slides.damage import DamagedTile

if TYPE_CHECKING:
    from napari_batchfx.slides._tifffile import Page

__all__ = ["Segments"]

Rgb = NDArray[np.uint8]
UNCOMPRESSED = 1
JPEG_CODE = 7
RAW_ROWS = 128
RAW_PIXELS = 16 * 2**20
# a coded tile larger than its pixels is possible (noise), one much larger is a wrong number
MAX_OVERHEAD = 2**20
HABIT_SAMPLES = 6


class Segments:
    """Reads the segments of a page by row and column; safe to use from many threads.

    Parameters
    ----------
    file : SlideFile
        The open file.
    name : str
        For messages.
    page : Page
        8-bit samples.

    Attributes
    ----------
    size : (int, int)
        Height and width of what one reading gives. One big raw strip is read in slices.

    Raises
    ------
    SlideError
        If the page's size, its list of tiles or its compression makes no sense here.
    """

    def __init__(self, file: SlideFile, name: str, page: Page) -> None:
        self._file = file
        self._page = page
        self._planes = page.samples if page.is_planar else 1
        if page.compression not in KNOWN:
            raise NotReadHere(
                f"{name}: its pixels are compressed in a way that isn't read here (TIFF compression "
                f"{page.compression}); export it with JPEG or deflate compression."
            )
        self._offsets, self._counts = page.offsets, page.counts
        require_geometry(
            name,
            (page.height, page.width),
            page.segment,
            min(len(self._offsets), len(self._counts)),
            self._planes,
        )
        if page.decode is None:
            raise SlideError(f"{name}: its first pixels are damaged; copy or export the file again.")
        self._decode = page.decode
        self._n_cols = -(-page.width // page.segment[1])
        self._n_rows = -(-page.height // page.segment[0])
        self._extra = (
            {"jpegtables": page.jpeg_tables, "jpegheader": page.jpeg_header}
            if page.compression in JPEG
            else {}
        )
        self._lacks_end: bool | None = None
        self._is_raw_strip = _is_one_raw_strip(page)
        self.size: tuple[int, int] = page.segment
        if self._is_raw_strip:
            self.size = (max(1, min(RAW_ROWS, RAW_PIXELS // page.width)), page.width)
        elif page.jpeg_header is not None:
            self._require_size(page.jpeg_header, 0)

    @property
    def shape(self) -> tuple[int, int]:
        """How many rows and columns of segments there are."""
        return (self._n_rows, self._n_cols)

    @property
    def is_all_lost(self) -> bool:
        """Whether the page has pixels and all of them lie beyond the end of the file."""
        has = (self._offsets[: len(self._counts)] > 0) & (self._counts[: len(self._offsets)] > 0)
        first = self._offsets[: len(self._counts)][has]
        if self._is_raw_strip:
            return bool(len(first)) and int(first[0]) >= self._file.size
        ends = first + self._counts[: len(self._offsets)][has]
        return bool(len(ends)) and int(ends.min()) > self._file.size

    @property
    def lost_share(self) -> float:
        """Share of the stored segments that lie, in part or whole, beyond the end of the file."""
        n = min(len(self._offsets), len(self._counts))
        first, counts = self._offsets[:n], self._counts[:n]
        has = (first > 0) & (counts > 0)
        lost = has & (first + counts > self._file.size)
        return float(lost.sum() / has.sum()) if has.any() else 0.0

    def read(self, row: int, col: int) -> Rgb | None:
        """Return a segment as RGB (h, w, 3), ``None`` where the file has none.

        Raises
        ------
        DamagedTile
            If its bytes are missing or can't be decoded to what belongs there.
        SlideError
            If the file is closed or can't be read any more.
        """
        if self._is_raw_strip:
            return self._raw_rows(row)
        index = row * self._n_cols + col
        if self._planes == 1:
            tile = self._one(index)
        else:
            parts = [self._one(index + plane * self._n_cols * self._n_rows) for plane in range(self._planes)]
            full = [part for part in parts if part is not None]
            tile = np.concatenate(full, axis=-1) if len(full) == self._planes else None
        return None if tile is None else to_rgb(tile, self._page)

    def read_into(self, row: int, col: int, out: Rgb) -> bool:
        """Decode a segment straight into ``out``, uint8 (h, w, 3); False where that isn't possible.

        Saves an array and a copy, a tenth of the time of a JPEG tile. Pixels are those of :meth:`read`.

        Raises
        ------
        DamagedTile, SlideError
            As :meth:`read`.
        """
        page = self._page
        possible = (
            page.compression == JPEG_CODE
            and page.jpeg_spaces is not None
            and page.jpeg_header is None
            and page.is_rgb
            and page.samples == 3
            and not page.is_planar
            and out.shape == (*page.segment, 3)
            and out.flags.c_contiguous
        )
        data = self._data(row * self._n_cols + col) if possible else None
        if data is None:
            return False
        from imagecodecs import jpeg8_decode

        colorspace, outcolorspace = page.jpeg_spaces or (None, None)
        try:
            jpeg8_decode(
                data,
                tables=page.jpeg_tables,
                colorspace=colorspace,
                outcolorspace=outcolorspace,
                shape=page.segment,
                out=out,
            )
        except MemoryError:
            raise
        except Exception:  # noqa: BLE001 - the way that can say what is wrong is taken instead
            return False
        return True

    def _data(self, index: int) -> bytes | None:
        """The coded bytes of a segment, looked at before they are decoded."""
        offset, count = int(self._offsets[index]), int(self._counts[index])
        if not offset or count <= 0:
            return None
        page = self._page
        samples = 1 if page.is_planar else page.samples
        if count > 2 * page.segment[0] * page.segment[1] * samples + MAX_OVERHEAD:
            raise DamagedTile(f"it says that it takes {count:,} bytes, far more than its pixels")
        data = self._file.read(offset, count)
        self._require_whole(data, index)
        return data

    def _one(self, index: int) -> Rgb | None:
        data = self._data(index)
        if data is None:
            return None
        samples = 1 if self._page.is_planar else self._page.samples
        try:
            decoded = self._decode(data, index, **self._extra)[0]
        except MemoryError:
            raise
        except Exception as error:  # each codec has its own exceptions; they all mean damaged pixels
            raise DamagedTile(f"its data can't be decoded ({short(error)})") from error
        tile: Rgb = decoded[0]
        if tile.dtype != np.uint8 or tile.shape[-1] != samples:
            raise DamagedTile(f"its data hold {tile.shape[-1]} x {tile.dtype}, not {samples} x uint8")
        return tile

    def _require_whole(self, data: bytes, index: int) -> None:
        """Refuse data that state another size than belongs here, or that lost a part."""
        compression = self._page.compression
        if compression == UNCOMPRESSED:
            return
        if not data.strip(b"\0"):
            raise DamagedTile("its bytes are all zero")
        header = self._page.jpeg_header
        if header is None:
            self._require_size(data, index)
            if compression in JPEG2000 and not is_harmless_jpeg2000(data):
                raise DamagedTile("its JPEG 2000 header asks for too many parts")
        has_end = compression in JPEG or compression in JPEG2000
        if has_end and header is None and lacks_end(data, compression) and not self._is_habit():
            raise DamagedTile("the JPEG data end too soon")
        reason = ends_early(data, compression, header or self._page.jpeg_tables, has_header=header is None)
        if reason:
            raise DamagedTile(reason)

    def _require_size(self, data: bytes, index: int) -> None:
        stated = stated_size(data, self._page.compression)
        if stated is None:
            return
        if isinstance(stated, str):
            raise DamagedTile(stated)
        # at the lower and right edge a tile may be as large as what is left of the image
        sh, sw = self._page.segment
        row, col = divmod(index % (self._n_cols * self._n_rows), self._n_cols)
        heights = {sh, min(sh, self._page.height - row * sh)}
        widths = {sw, min(sw, self._page.width - col * sw)}
        if stated[0] not in heights or stated[1] not in widths:
            raise DamagedTile(f"it says {stated[1]:,} x {stated[0]:,} px where {sw:,} x {sh:,} px belong")

    def _is_habit(self) -> bool:
        """Whether this file's writer leaves out the end marker everywhere: then its absence means nothing."""
        if self._lacks_end is None:
            stored = np.flatnonzero((self._offsets[: len(self._counts)] > 0) & (self._counts > 0))
            picks = stored[np.linspace(0, len(stored) - 1, min(len(stored), HABIT_SAMPLES)).astype(int)]
            inside = [
                (int(self._offsets[i]), int(self._counts[i]))
                for i in picks
                if self._offsets[i] + self._counts[i] <= self._file.size and self._counts[i] < 2**24
            ]
            self._lacks_end = len(inside) > 2 and all(
                lacks_end(self._file.read(*place), self._page.compression) for place in inside
            )
        return self._lacks_end

    def _raw_rows(self, row: int) -> Rgb:
        page = self._page
        rows = self.size[0]
        start = row * rows
        height = min(rows, page.height - start)
        line = page.width * page.samples
        data = self._file.read(int(self._offsets[0]) + start * line, height * line)
        return to_rgb(np.frombuffer(data, np.uint8).reshape(height, page.width, page.samples), page)


def _is_one_raw_strip(page: Page) -> bool:
    plain = page.compression == UNCOMPRESSED and not page.is_tiled and not page.is_planar and page.is_rgb
    is_one = len(page.offsets) == 1 and page.photometric == 2 and not page.is_reversed
    return plain and is_one and int(page.offsets[0]) > 0 and page.height > RAW_ROWS
