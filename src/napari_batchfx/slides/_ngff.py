"""Stored levels of an OME-Zarr image, read chunk by chunk through zarr (imported when one is opened)."""

from __future__ import annotations

import struct
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import numpy as np
from numpy.typing import NDArray

from napari_batchfx.errors import SlideError
from napari_batchfx.slides._file import short
from napari_batchfx.slides._layout import find_all, number, parse_xml
from napari_batchfx.slides._ngff_layout import NgffImage, read_ngff
from napari_batchfx.slides._ngff_level import MAX_JSON, NgffLevel
from napari_batchfx.slides._sources import StoredLevel
from napari_batchfx.slides._stamps import Stamps
from napari_batchfx.slides.damage import DamagedTile
from napari_batchfx.slides.dates import iso_date
from napari_batchfx.slides.metadata import SlideMetadata
from napari_batchfx.slides.private import private_fields

__all__ = ["NgffSource"]

Rgb = NDArray[np.uint8]
SMALL_CHUNK = 64
SMALLEST_CHUNK = 16
GROUPED = 512
ZSTD_MAGIC = 0xFD2FB528


class NgffSource:
    """Stored levels of an OME-Zarr image: tiles are its chunks, very small chunks are read in groups."""

    in_memory = False
    associated: tuple[str, ...] = ()

    def __init__(self, path: Path) -> None:
        import zarr
        from zarr.storage import LocalStore

        self._name = path.name
        image = read_ngff(path)
        self._image = image
        self._closed = False
        self._y, self._x = image.axes.index("y"), image.axes.index("x")
        self._arrays: list[Any] = []
        for level in image.levels:
            try:
                self._arrays.append(zarr.open_array(LocalStore(level.path, read_only=True), mode="r"))
            except (
                Exception
            ) as error:  # zarr raises a dozen kinds on damaged headers; all mean the same to the user
                raise SlideError(
                    f"{self._name}: its level {level.path.name} can't be opened ({short(error)}); copy "
                    f"or export it "
                    "again."
                ) from error
        self.levels: tuple[StoredLevel, ...] = tuple(
            StoredLevel(image.shape(i), self._tile(level)) for i, level in enumerate(image.levels)
        )
        self.metadata = _metadata(path, image)
        self._stamps = Stamps(image.documents)
        self.files = self._stamps.files

    def _tile(self, level: NgffLevel) -> tuple[int, int]:
        h, w = level.chunks[self._y], level.chunks[self._x]
        height, width = level.shape[self._y], level.shape[self._x]
        if min(min(h, height), min(w, width)) < SMALLEST_CHUNK and height * width > h * w:
            raise SlideError(
                f"{self._name}: its chunks are only {h} x {w} px, too small to be read one by one; export it "
                "again with chunks of 512 or 1024 px."
            )
        sides = [
            side if side >= SMALL_CHUNK else -(-GROUPED // side) * side
            for side in (min(h, max(height, 1)), min(w, max(width, 1)))
        ]
        return sides[0], sides[1]

    def tiles(self, level: int, row: int, col: int) -> Iterator[tuple[tuple[int, int], Rgb]]:
        """Read the chunk or chunks of one tile."""
        if self._closed:
            raise SlideError(f"{self._name} is closed; open it again.")
        height, width = self.levels[level].shape
        th, tw = self.levels[level].tile
        y, x = slice(row * th, min((row + 1) * th, height)), slice(col * tw, min((col + 1) * tw, width))
        header = self._image.levels[level]
        place: list[Any] = []
        for axis, size in zip(self._image.axes, header.shape, strict=True):
            # of several focal planes the middle one, of several times the first
            place.append({"y": y, "x": x, "c": slice(None), "z": size // 2, "t": 0}[axis])
        for chunk in self._files(header, place):
            _require_harmless(chunk, header)
        try:
            pixels = np.asarray(self._arrays[level][tuple(place)])
        except Exception as error:  # each codec has its own exceptions; they all mean damaged pixels
            raise DamagedTile(short(error)) from error
        kept = [axis for axis in self._image.axes if axis in "yxc"]
        tile = np.ascontiguousarray(pixels.transpose([kept.index(axis) for axis in "yxc"]), dtype=np.uint8)
        yield (row, col), tile

    def _files(self, level: NgffLevel, place: list[Any]) -> Iterator[Path]:
        """The files of the chunks that a region touches; none where shards hold many chunks in one file."""
        if level.compressor in {"", "none"}:
            return
        ranges = []
        for at, size, chunk in zip(place, level.shape, level.chunks, strict=True):
            start, stop, _ = at.indices(size) if isinstance(at, slice) else (at, at + 1, 1)
            ranges.append(range(start // chunk, (stop - 1) // chunk + 1))
        for key in np.ndindex(*(len(r) for r in ranges)):
            yield level.file([r[i] for r, i in zip(ranges, key, strict=True)])

    def associated_image(self, name: str) -> Rgb:
        """Say that there is none: NGFF has no place for labels and macros."""
        raise SlideError(f"{self._name}: there is no image called {name!r:.60} in it; there is: none.")

    def is_unchanged(self) -> bool:
        """Whether the headers are still those that were opened."""
        return self._stamps.is_unchanged()

    def close(self) -> None:
        """Let go of the arrays."""
        self._closed = True


def _require_harmless(path: Path, level: NgffLevel) -> None:
    """Refuse a chunk that says it decodes to more than its share: a few bytes can ask for gigabytes.

    Blosc, lz4 and zstd state their size in the header; a deflate stream is counted, 1 MB at a time, where it
    could grow past 64 MB.
    """
    expected = int(np.prod(level.chunks))
    try:
        with path.open("rb") as file:
            head = file.read(18)
            size = file.seek(0, 2)
            stated: int | None = None
            if level.compressor == "blosc" and len(head) >= 16:
                stated = struct.unpack_from("<I", head, 4)[0]
            elif level.compressor == "lz4" and len(head) >= 4:
                stated = struct.unpack_from("<I", head, 0)[0]
            elif level.compressor == "zstd":
                stated = _zstd_size(head)
            elif size * 1032 > max(64 * 2**20, expected):
                file.seek(0)
                stated = _deflated_size(file, expected)
    except FileNotFoundError:
        return
    except (OSError, zlib.error) as error:
        raise DamagedTile(short(error)) from error
    # blosc and numcodecs may pad a little; a shorter chunk is damaged and fails on decoding
    if stated is not None and stated > expected:
        raise DamagedTile(f"a chunk states {stated:,} bytes of pixels where {expected:,} belong")


def _zstd_size(head: bytes) -> int | None:
    """Return the content size of a Zstandard frame (RFC 8878, 3.1.1.1), -1 where it doesn't state one."""
    if len(head) < 6 or struct.unpack_from("<I", head)[0] != ZSTD_MAGIC:
        return None
    flags = head[4]
    single = bool(flags & 0x20)
    width = (1 if single else 0, 2, 4, 8)[flags >> 6]
    start = 5 + (0 if single else 1) + (0, 1, 2, 4)[flags & 3]
    field = head[start : start + width]
    if width == 0:
        raise DamagedTile("a chunk doesn't state how many bytes of pixels it holds")
    return int.from_bytes(field, "little") + (256 if width == 2 else 0)


def _deflated_size(file: Any, expected: int) -> int:
    """Count what a gzip or zlib stream decodes to, up to one byte more than expected."""
    stream = zlib.decompressobj(wbits=47)
    total = 0
    data = file.read(2**20)
    while data and total <= expected and not stream.eof:
        total += len(stream.decompress(data, 2**20))
        data = stream.unconsumed_tail or file.read(2**20)
    return total


def _metadata(path: Path, image: NgffImage) -> SlideMetadata:
    """Pixel size from the multiscales; scanner from the OME-XML that bioformats2raw writes beside them."""
    root = _ome_xml(path) if image.root != path else None
    scope = next(iter(find_all(root, "Microscope")), None) if root is not None else None
    lens = next(iter(find_all(root, "Objective")), None) if root is not None else None
    date = next((e.text for e in find_all(root, "AcquisitionDate")), None) if root is not None else None
    about = scope.attrib if scope is not None else {}
    return SlideMetadata(
        mpp=image.mpp,
        mpp_source="file" if image.mpp else "unknown",
        vendor=(about.get("Manufacturer") or "").lower() or None,
        scanner=about.get("Model") or None,
        scanner_serial=about.get("SerialNumber") or None,
        objective_power=number(lens.get("NominalMagnification")) if lens is not None else None,
        scan_date=iso_date(date),
        private=private_fields(("Image Name", e.get("Name")) for e in find_all(root, "Image"))
        if root is not None
        else {},
    )


def _ome_xml(path: Path) -> ElementTree.Element | None:
    document = path / "OME" / "METADATA.ome.xml"
    try:
        if document.stat().st_size > MAX_JSON:
            return None
        return parse_xml(document.read_text("utf-8", errors="replace"))
    except OSError:
        return None
