"""The one module that knows tifffile: pages as plain facts, decoded segments, and a writer.

Only what tifffile 2025.5 and the 2026.5+ generation share is used: ``TiffFile.pages``, tags and
``page.decode``; ``series`` and the zarr stores changed between them. Segments are read with our own file
handle and lock.
"""

from __future__ import annotations

import logging
import os
import threading
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import tifffile
from numpy.typing import NDArray

from napari_batchfx.errors import SlideError

__all__ = ["Page", "Tiff", "open_writer"]

JPEG = {6, 7, 34892, 33007}
APERIO_JPEG2000_YCBCR = 33003
UNCOMPRESSED = 1
RAW_ROWS = 128
_TAGS = {
    "Make": "make",
    "Model": "model",
    "Software": "software",
    "ResolutionUnit": "resolution_unit",
    "XMP": "xmp",
    "DateTime": "date_time",
    "HostComputer": "host_computer",
    "Artist": "artist",
    "DocumentName": "document_name",
}
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
    raw: Any = field(default=None, repr=False, compare=False)
    decode: Any = field(default=None, repr=False, compare=False)

    @property
    def is_rgb(self) -> bool:
        """Three or four 8-bit samples that mean red, green, blue (and alpha)."""
        return self.bits == 8 and self.is_integer and self.photometric in (2, 6) and self.samples in (3, 4)


class Tiff:
    """An open TIFF file; pages as :class:`Page`, segments decoded to RGB. Safe to use from many threads."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.name = path.name
        self._lock = threading.Lock()
        try:
            with tifffile.TiffFile(path) as tif:
                self.pages = _pages(tif)
        except (
            Exception
        ) as error:  # tifffile raises a dozen kinds on damaged headers; all mean the same to the user
            raise SlideError(
                f"{self.name}: the TIFF header is damaged or the file is incomplete ({_short(error)}); copy "
                "or export it again."
            ) from error
        if not self.pages:
            raise SlideError(
                f"{self.name}: the TIFF file holds no image; it is probably incomplete. Copy it again."
            )
        self._file = path.open("rb")
        self.size = os.fstat(self._file.fileno()).st_size

    def missing_bytes(self, page: Page) -> int:
        """Return how many bytes of this page's pixels lie beyond the end of the file."""
        ends = (o + n for o, n in zip(page.raw.dataoffsets, page.raw.databytecounts, strict=False) if n)
        return max(0, max(ends, default=0) - self.size)

    def decoder(self, page: Page) -> Callable[[int, int], NDArray[np.uint8] | None]:
        """Return ``read(row, col)``: a segment as uint8 RGB (h, w, 3), ``None`` where the file has none."""
        raw = page.raw
        decode = page.decode
        extra: dict[str, Any] = {}
        if page.compression in JPEG:
            extra = {"jpegtables": raw.jpegtables, "jpegheader": raw.keyframe.jpegheader}
        if decode is None:
            raise SlideError(f"{self.name}: its first pixels are damaged; copy or export the file again.")
        offsets, counts = raw.dataoffsets, raw.databytecounts
        n_cols = -(-page.width // page.segment[1])
        n_rows = -(-page.height // page.segment[0])
        planes = page.samples if page.is_planar else 1

        def one(index: int) -> NDArray[np.uint8] | None:
            if index >= len(offsets):
                raise SlideError(f"{self.name}: the file's index is incomplete; copy or export it again.")
            data = self._bytes(offsets[index], counts[index]) if counts[index] and offsets[index] else None
            if data is None:
                return None
            try:
                decoded = decode(data, index, **extra)[0]
            except Exception as error:  # each codec has its own exceptions; they all mean damaged pixels
                raise SlideError(
                    f"{self.name}: the pixels at tile {index} are damaged ({_short(error)}); copy or export "
                    "the file again."
                ) from error
            tile: NDArray[np.uint8] = decoded[0]
            return tile

        def read(row: int, col: int) -> NDArray[np.uint8] | None:
            index = row * n_cols + col
            if planes == 1:
                tile = one(index)
            else:
                parts = [one(index + plane * n_cols * n_rows) for plane in range(planes)]
                full = [part for part in parts if part is not None]
                tile = np.concatenate(full, axis=-1) if len(full) == planes else None
            return None if tile is None else _to_rgb(tile, page)

        if _is_one_raw_strip(raw, page):
            return lambda row, col: self._raw_rows(page, row)
        return read

    def segment_size(self, page: Page) -> tuple[int, int]:
        """Return (height, width) of what :meth:`decoder` reads: one big raw strip is read in slices."""
        return (RAW_ROWS, page.width) if _is_one_raw_strip(page.raw, page) else page.segment

    def _raw_rows(self, page: Page, row: int) -> NDArray[np.uint8]:
        start = row * RAW_ROWS
        height = min(RAW_ROWS, page.height - start)
        line = page.width * page.samples
        data = self._bytes(page.raw.dataoffsets[0] + start * line, height * line)
        return _to_rgb(np.frombuffer(data, np.uint8).reshape(height, page.width, page.samples), page)

    def _bytes(self, offset: int, count: int) -> bytes:
        with self._lock:
            if self._file.closed:
                raise SlideError(f"{self.name} is closed; open it again.")
            try:
                self._file.seek(offset)
                data = self._file.read(count)
            except OSError as error:
                raise SlideError(
                    f"{self.name}: the file can't be read any more ({_short(error)})."
                ) from error
        if len(data) != count:
            raise SlideError(
                f"{self.name}: the file is truncated, pixels are missing; copy or export it again."
            )
        return data

    def close(self) -> None:
        """Close the file."""
        with self._lock:
            self._file.close()


def _short(error: BaseException) -> str:
    return (str(error).splitlines() or [type(error).__name__])[0][:120]


def _is_one_raw_strip(raw: Any, page: Page) -> bool:
    plain = (
        page.compression == UNCOMPRESSED
        and not page.is_tiled
        and not page.is_planar
        and page.photometric == 2
    )
    return plain and len(raw.dataoffsets) == 1 and page.height > RAW_ROWS and raw.fillorder == 1


def _pages(tif: Any) -> list[Page]:
    found: list[Page] = []
    for number, raw in enumerate(tif.pages):
        found.append(_page(raw, (number,)))
        if raw.subifds:
            found += [_page(sub, (number, k)) for k, sub in enumerate(raw.pages)]
    return found


def _page(raw: Any, index: tuple[int, ...]) -> Page:
    tags = raw.tags
    text = {
        field_name: _text(tags.valueof(tag)) for tag, field_name in _TAGS.items() if tag != "ResolutionUnit"
    }
    x, y = (_ratio(tags.valueof(tag)) for tag in ("XResolution", "YResolution"))
    icc = tags.valueof(34675)
    dtype = raw.dtype
    return Page(
        index=index,
        height=int(raw.imagelength),
        width=int(raw.imagewidth),
        samples=int(raw.samplesperpixel),
        bits=int(raw.bitspersample) if isinstance(raw.bitspersample, int) else 0,
        is_integer=dtype is not None and np.dtype(dtype).kind == "u",
        photometric=int(raw.photometric),
        compression=int(raw.compression),
        is_planar=int(raw.planarconfig) == 2 and int(raw.samplesperpixel) > 1,
        is_tiled=bool(raw.is_tiled),
        segment=(int(raw.tilelength), int(raw.tilewidth)) if raw.is_tiled else _strip(raw),
        extra_samples=tuple(int(v) for v in raw.extrasamples),
        subfiletype=int(raw.subfiletype or 0),
        description=raw.description or "",
        n_depth=int(raw.imagedepth),
        resolution=(y, x) if x and y else None,
        resolution_unit=int(tags.valueof("ResolutionUnit") or 2),
        icc_profile=bytes(icc) if icc else None,
        ndpi=dict(raw.ndpi_tags) if raw.ndpi_tags else None,
        raw=raw,
        decode=_decode(raw),
        **text,
    )


def _decode(raw: Any) -> Any:
    """The page's decoder, made while the file is open: tifffile looks into the first JPEG for its colours."""
    try:
        return raw.keyframe.decode
    except Exception:  # noqa: BLE001 - a damaged label or macro page must not keep the slide from opening
        return None


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


def _to_rgb(tile: NDArray[np.uint8], page: Page) -> NDArray[np.uint8]:
    """Turn decoded samples into RGB: old YCbCr flavours converted, alpha laid onto white, one channel as grey."""
    if tile.shape[-1] == 1:  # a fluorescence channel; other greyscale is refused when a slide is opened
        return np.repeat(np.asarray(tile, np.uint8), 3, axis=-1)
    raw_ycbcr = page.photometric == 6 and page.compression in (1, 5, 8, 32946, 50000)
    if page.compression == APERIO_JPEG2000_YCBCR or raw_ycbcr:
        tile = _ycbcr_to_rgb(tile)
    if tile.shape[-1] == 4:
        tile = _onto_white(
            tile, associated=1 in page.extra_samples, alpha=bool({1, 2} & {*page.extra_samples})
        )
    return np.ascontiguousarray(tile[..., :3], dtype=np.uint8)


def _ycbcr_to_rgb(tile: NDArray[np.uint8]) -> NDArray[np.uint8]:
    # ITU-R BT.601, full range, as in JFIF.
    y, cb, cr = (tile[..., i].astype(np.float32) for i in range(3))
    cb -= 128
    cr -= 128
    rgb = np.stack([y + 1.402 * cr, y - 0.344136 * cb - 0.714136 * cr, y + 1.772 * cb], axis=-1)
    result: NDArray[np.uint8] = np.clip(np.rint(rgb), 0, 255).astype(np.uint8)
    return result


def _onto_white(tile: NDArray[np.uint8], *, associated: bool, alpha: bool) -> NDArray[np.uint8]:
    if not alpha:
        return tile[..., :3]
    a = tile[..., 3:].astype(np.uint16)
    rgb = tile[..., :3].astype(np.uint16)
    mixed = rgb + (255 - a) if associated else (rgb * a + 255 * (255 - a) + 127) // 255
    result: NDArray[np.uint8] = np.minimum(mixed, 255).astype(np.uint8)
    return result


def open_writer(path: Path, *, bigtiff: bool, ome: bool) -> Any:
    """Return tifffile's writer, for :mod:`napari_batchfx.slides.write`."""
    return tifffile.TiffWriter(path, bigtiff=bigtiff, ome=ome)
