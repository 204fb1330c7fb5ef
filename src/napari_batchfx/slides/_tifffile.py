"""The one module that knows tifffile: pages as plain facts with their decoder, and a writer.

Only what tifffile 2025.5 and the 2026.5+ generation share is used: ``TiffFile.pages``, tags and
``page.decode``; ``series`` and the zarr stores changed between them. Segments are read with our own file
handle (:mod:`~napari_batchfx.slides._segments`).
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import tifffile
from numpy.typing import NDArray

from napari_batchfx.errors import SlideError
from napari_batchfx.slides._codes import JPEG
from napari_batchfx.slides._file import SlideFile, short
from napari_batchfx.slides._segments import Segments
from napari_batchfx.slides._tiff_bones import MAX_PAGES, require_bones

__all__ = ["Page", "Tiff", "open_writer"]

_TAGS = {
    "Make": "make",
    "Model": "model",
    "Software": "software",
    "XMP": "xmp",
    "DateTime": "date_time",
    "HostComputer": "host_computer",
    "Artist": "artist",
    "DocumentName": "document_name",
}
_TABLES = (273, 279, 324, 325)
# Damaged files make the codecs talk on stderr; we say it once, in our own words.
logging.getLogger("tifffile").setLevel(logging.CRITICAL)


@dataclass(frozen=True)
class Page:
    """One image of a TIFF file as plain facts; sizes in pixels, resolutions in pixels a unit."""

    index: tuple[int, ...]
    height: int
    width: int
    samples: int
    bits: int
    is_integer: bool
    photometric: int
    compression: int
    is_planar: bool
    is_tiled: bool
    segment: tuple[int, int]
    extra_samples: tuple[int, ...]
    subfiletype: int
    description: str
    n_depth: int = 1
    resolution: tuple[float, float] | None = None
    resolution_unit: int = 2
    make: str = ""
    model: str = ""
    software: str = ""
    xmp: str = field(default="", repr=False)
    date_time: str = ""
    host_computer: str = field(default="", repr=False)
    artist: str = field(default="", repr=False)
    document_name: str = field(default="", repr=False)
    icc_profile: bytes | None = None
    ndpi: dict[str, Any] | None = field(default=None, repr=False)
    is_reversed: bool = field(default=False, repr=False)
    offsets: NDArray[np.int64] = field(
        default_factory=lambda: np.zeros(0, np.int64), repr=False, compare=False
    )
    counts: NDArray[np.int64] = field(
        default_factory=lambda: np.zeros(0, np.int64), repr=False, compare=False
    )
    jpeg_tables: bytes | None = field(default=None, repr=False)
    jpeg_header: bytes | None = field(default=None, repr=False)
    jpeg_spaces: tuple[Any, Any] | None = field(default=None, repr=False)
    decode: Callable[..., Any] | None = field(default=None, repr=False, compare=False)

    @property
    def is_rgb(self) -> bool:
        """Three or four 8-bit samples that mean red, green, blue (and alpha)."""
        return self.bits == 8 and self.is_integer and self.photometric in (2, 6) and self.samples in (3, 4)


class Tiff:
    """An open TIFF file: its pages as :class:`Page`, and readers of their segments.

    Raises
    ------
    SlideError
        If the header is damaged, asks for more than fits into memory, or holds no image.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.name = path.name
        self.file = SlideFile(path)
        try:
            require_bones(self.file.handle, self.name)
            self.pages = self._pages()
        except BaseException:
            self.file.close()
            raise

    def _pages(self) -> list[Page]:
        found: list[Page] = []
        try:
            with tifffile.TiffFile(self.path) as tif:
                # what came before an error stays in the list
                found.extend(_walk(tif))
        except SlideError:
            raise
        except (
            Exception
        ) as error:  # tifffile raises a dozen kinds on damaged headers; all mean the same to the user
            # pages before a damaged one can be read
            if not found:
                raise SlideError(
                    f"{self.name}: the TIFF header is damaged or the file is incomplete ({short(error)}); "
                    "copy or export it again."
                ) from error
        # a page without pixels is no page, and parsers divide by its size
        found = [page for page in found if min(page.height, page.width, page.samples, *page.segment) > 0]
        if not found:
            raise SlideError(
                f"{self.name}: the TIFF file holds no image; it is probably incomplete. Copy it again."
            )
        return found

    def segments(self, page: Page) -> Segments:
        """Return what reads the tiles or strips of a page; SlideError where they can't be read safely."""
        return Segments(self.file, self.name, page)

    def close(self) -> None:
        """Close the file."""
        self.file.close()


def _walk(tif: Any) -> Iterator[Page]:
    for number in range(MAX_PAGES):
        try:
            raw = tif.pages[number]
        except IndexError:
            return
        yield _page(raw, (number,))
        if raw.subifds:
            # an interrupted copy may have lost some of them
            for k, sub in enumerate(raw.pages):
                yield _page(sub, (number, k))


def _page(raw: Any, index: tuple[int, ...]) -> Page:
    tags = raw.tags
    text = {field_name: _text(tags.valueof(tag)) for tag, field_name in _TAGS.items()}
    x, y = (_ratio(tags.valueof(tag)) for tag in ("XResolution", "YResolution"))
    icc = tags.valueof(34675)
    dtype = raw.dtype
    compression = int(raw.compression)
    unit = tags.valueof("ResolutionUnit")
    page = Page(
        index=index,
        height=int(raw.imagelength),
        width=int(raw.imagewidth),
        samples=int(raw.samplesperpixel),
        bits=int(raw.bitspersample) if isinstance(raw.bitspersample, int) else 0,
        is_integer=dtype is not None and np.dtype(dtype).kind == "u",
        photometric=int(raw.photometric),
        compression=compression,
        is_planar=int(raw.planarconfig) == 2 and int(raw.samplesperpixel) > 1,
        is_tiled=bool(raw.is_tiled),
        segment=(int(raw.tilelength), int(raw.tilewidth)) if raw.is_tiled else _strip(raw),
        extra_samples=tuple(int(v) for v in raw.extrasamples),
        subfiletype=int(raw.subfiletype or 0),
        description=raw.description if isinstance(raw.description, str) else "",
        n_depth=int(raw.imagedepth),
        resolution=(y, x) if x and y else None,
        resolution_unit=int(unit) if isinstance(unit, int) else 2,
        icc_profile=bytes(icc) if isinstance(icc, bytes) and icc else None,
        ndpi=dict(raw.ndpi_tags) if raw.ndpi_tags else None,
        is_reversed=int(raw.fillorder) == 2,
        offsets=_table(raw.dataoffsets),
        counts=_table(raw.databytecounts),
        jpeg_tables=_bytes(raw.jpegtables) if compression in JPEG else None,
        jpeg_header=_bytes(raw.keyframe.jpegheader) if compression in JPEG else None,
        jpeg_spaces=_jpeg_spaces(raw) if compression in JPEG else None,
        decode=_decode(raw),
        **text,
    )
    # tifffile keeps the tables as tuples of integers: half a gigabyte for a million tiles
    raw.dataoffsets = raw.databytecounts = ()
    for code in _TABLES:
        tag = tags.get(code)
        if tag is not None and tag.count > 1:
            tag.value = None
    return page


def _decode(raw: Any) -> Callable[..., Any] | None:
    """The page's decoder, made while the file is open: tifffile looks into the first JPEG for its colours."""
    try:
        decode: Callable[..., Any] = raw.keyframe.decode
    except Exception:  # noqa: BLE001 - a damaged label or macro page must not keep the slide from opening
        return None
    return decode


def _jpeg_spaces(raw: Any) -> tuple[Any, Any] | None:
    """Colour space of the page's JPEG data and of what they are decoded to, as its own decoder has it."""
    find = getattr(tifffile.tifffile, "jpeg_decode_colorspace", None)
    try:
        found: tuple[Any, Any] | None = (
            None
            if find is None
            else find(raw.photometric, raw.planarconfig, raw.extrasamples, raw.keyframe.is_jfif)
        )
    except Exception:  # noqa: BLE001 - only the quicker way is closed then
        return None
    return found


def _table(values: Any) -> NDArray[np.int64]:
    # a count or place beyond 2**63 is no place in a file: it is made one that lies beyond its end
    return np.minimum(np.asarray(values, np.uint64).reshape(-1), np.uint64(2**62)).astype(np.int64)


def _bytes(value: Any) -> bytes | None:
    return bytes(value) if isinstance(value, bytes) else None


def _strip(raw: Any) -> tuple[int, int]:
    return (max(1, min(int(raw.rowsperstrip), int(raw.imagelength))), int(raw.imagewidth))


def _text(value: Any) -> str:
    if isinstance(value, bytes):
        return value.decode("utf-8", "replace")
    return value.strip("\0 ") if isinstance(value, str) else ""


def _ratio(value: Any) -> float | None:
    if isinstance(value, tuple) and len(value) == 2 and value[1]:
        return float(value[0]) / float(value[1])
    return float(value) if isinstance(value, (int, float)) else None


def open_writer(path: Path, *, bigtiff: bool, ome: bool) -> Any:
    """Return tifffile's writer, for :mod:`napari_batchfx.slides.write`."""
    return tifffile.TiffWriter(path, bigtiff=bigtiff, ome=ome)
