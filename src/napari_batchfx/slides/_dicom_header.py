"""The header of one DICOM whole-slide file: sizes, tiling, where its frames lie. Reads no pixels.

DICOM PS3.5 (encoding), PS3.3 A.32.8 and C.8.12 (VL Whole Slide Microscopy). Little endian only, as all slides
are. Every length is checked against the file before anything is read.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass, field
from pathlib import Path
from typing import BinaryIO

from napari_batchfx.errors import SlideError
from napari_batchfx.slides._declined import NotReadHere

__all__ = ["MAGIC_AT", "DicomHeader", "Elements", "is_dicom", "read_header"]

MAGIC_AT = 128
WSI_CLASS = "1.2.840.10008.5.1.4.1.1.77.1.6"
IMPLICIT = "1.2.840.10008.1.2"
_LONG = {b"OB", b"OD", b"OF", b"OL", b"OV", b"OW", b"SQ", b"SV", b"UC", b"UN", b"UR", b"UT", b"UV"}
_UNDEFINED = 0xFFFFFFFF
_HEAD = struct.Struct("<HHI")
_ITEM, _ITEM_END, _SEQUENCE_END = 0xFFFEE000, 0xFFFEE00D, 0xFFFEE0DD
_PIXELS, _FLOAT_PIXELS, _DOUBLE_PIXELS = 0x7FE00010, 0x7FE00008, 0x7FE00009
_PER_FRAME, _ORGANISATION = 0x52009230, 0x00209311
#: Sequences that are looked into; in implicit files nothing else tells that a value is one.
_SEQUENCES = {0x52009229, 0x52009230, 0x00289110, 0x0048021A, 0x00480105, 0x00220016, 0x00400560}
#: Long values are skipped, except colour profiles and offset tables.
_KEEP_LONG = {0x00282000, 0x7FE00001, 0x7FE00002}
MAX_VALUE = 64 * 2**10
MAX_LONG_VALUE = 256 * 2**20
MAX_DEPTH = 12
MAX_ELEMENTS = 20_000_000

Elements = dict[int, "bytes | list[Elements]"]


def is_dicom(path: Path) -> bool:
    """Whether a file carries DICOM's mark at byte 128; never raises."""
    try:
        with path.open("rb") as file:
            return file.read(MAGIC_AT + 4)[MAGIC_AT:] == b"DICM"
    except (OSError, ValueError):
        return False


@dataclass(frozen=True)
class DicomHeader:
    """What one file of a DICOM slide says.

    Parameters
    ----------
    path : Path
        The file.
    elements : dict
        Tag -> raw value, or a list of such dicts for a sequence.
    transfer_syntax : str
        How the frames are compressed.
    pixels_at, pixels_length : int
        Where the value of PixelData begins, and its length, -1 for encapsulated frames.
    size : int
        Of the file in bytes.
    """

    path: Path
    elements: Elements = field(repr=False)
    transfer_syntax: str
    pixels_at: int
    pixels_length: int
    size: int

    def text(self, tag: int) -> str:
        """Return a value as text, "" where there is none."""
        value = self.elements.get(tag)
        return value.decode("utf-8", "replace").strip(" \0") if isinstance(value, bytes) else ""

    def number(self, tag: int) -> int:
        """Return a whole number stored as US, UL or text; 0 where there is none."""
        value = self.elements.get(tag)
        if not isinstance(value, bytes):
            return 0
        if tag >> 16 in {0x0020, 0x0028} and tag & 0xFFFF in {0x0008, 0x0013}:
            text = self.text(tag)
            return int(text) if text.lstrip("+-").isdigit() and len(text) <= 12 else 0
        return int.from_bytes(value[:4], "little") if len(value) in {2, 4} else 0

    def items(self, tag: int, within: Elements | None = None) -> list[Elements]:
        """Return the items of a sequence, none where there is no such."""
        value = (self.elements if within is None else within).get(tag)
        return value if isinstance(value, list) else []

    @property
    def series(self) -> str:
        """SeriesInstanceUID."""
        return self.text(0x0020000E)

    @property
    def is_slide(self) -> bool:
        """Whether it is a whole-slide microscopy image."""
        return self.text(0x00080016) == WSI_CLASS

    @property
    def flavour(self) -> str:
        """VOLUME, LABEL, OVERVIEW or THUMBNAIL: the third value of ImageType."""
        parts = self.text(0x00080008).split("\\")
        return parts[2].strip().upper() if len(parts) > 2 else "VOLUME"


def read_header(path: Path) -> DicomHeader:
    """Read a file's header.

    Raises
    ------
    SlideError
        If it is no DICOM file, damaged, or in an encoding that no slide has.
    """
    name = path.name
    try:
        with path.open("rb") as file:
            size = file.seek(0, 2)
            file.seek(MAGIC_AT)
            if file.read(4) != b"DICM":
                raise SlideError(
                    f"{name}: it is no DICOM file, whatever its name says; choose the slide file."
                )
            reader = _Reader(file, size)
            syntax = reader.transfer_syntax()
            if syntax in {"1.2.840.10008.1.2.2", "1.2.840.10008.1.2.1.99"}:
                raise NotReadHere(
                    f"{name}: its DICOM encoding ({syntax}) is one that slides don't use; export it again."
                )
            elements = reader.dataset(None, syntax == IMPLICIT, 0)
    except (OSError, struct.error, EOFError, UnicodeDecodeError) as error:
        reason = getattr(error, "strerror", None) or "its DICOM header is damaged or incomplete"
        raise SlideError(f"{name}: the file can't be read ({reason}); copy or export it again.") from error
    return DicomHeader(path, elements, syntax, reader.pixels_at, reader.pixels_length, size)


class _Reader:
    """Elements of a file, one after the other; EOFError where a length leads out of it."""

    def __init__(self, file: BinaryIO, size: int) -> None:
        self._file = file
        self._size = size
        self._at = file.tell()
        self._count = 0
        self.pixels_at, self.pixels_length = -1, 0

    def _take(self, n: int) -> bytes:
        if n < 0 or self._at + n > self._size:
            raise EOFError
        data = self._file.read(n)
        if len(data) != n:
            raise EOFError
        self._at += n
        return data

    def _skip(self, n: int) -> None:
        if n < 0 or self._at + n > self._size:
            raise EOFError
        self._at += n
        self._file.seek(self._at)

    def transfer_syntax(self) -> str:
        """Read the file meta group, which is always explicit."""
        found = ""
        while self._at + 8 <= self._size:
            tag, vr, length = self._element(implicit=False)
            if tag >> 16 != 0x0002:
                self._at -= 12 if vr in _LONG else 8
                self._file.seek(self._at)
                break
            if tag == 0x00020010:
                found = self._take(length).decode("ascii").strip(" \0")
            else:
                self._skip(length)
        return found

    def _element(self, *, implicit: bool) -> tuple[int, bytes, int]:
        self._count += 1
        if self._count > MAX_ELEMENTS:
            raise EOFError
        head = self._take(8)
        group, number, length = _HEAD.unpack(head)
        tag = group << 16 | number
        if implicit or group == 0xFFFE:
            return tag, b"", length
        vr = head[4:6]
        if vr in _LONG:
            return tag, vr, int.from_bytes(self._take(4), "little")
        return tag, vr, length >> 16

    def dataset(self, end: int | None, implicit: bool, depth: int) -> Elements:
        """Read elements up to ``end``, to the item's end mark, or to the pixels."""
        if depth > MAX_DEPTH:
            raise EOFError
        found: Elements = {}
        while self._at < (self._size if end is None else end):
            tag, vr, length = self._element(implicit=implicit)
            if tag == _ITEM_END:
                return found
            if depth == 0 and tag in {_PIXELS, _FLOAT_PIXELS, _DOUBLE_PIXELS}:
                self.pixels_at = self._at
                self.pixels_length = -1 if length == _UNDEFINED else length
                return found
            if vr == b"SQ" or length == _UNDEFINED or (implicit and tag in _SEQUENCES):
                # in a TILED_FULL file the place of a frame follows from its number: its list can be left out
                full = found.get(_ORGANISATION)
                if length != _UNDEFINED and (
                    tag not in _SEQUENCES
                    or (tag == _PER_FRAME and isinstance(full, bytes) and b"FULL" in full)
                ):
                    self._skip(length)
                    continue
                items = self._sequence(length, implicit or vr == b"UN", depth)
                if tag in _SEQUENCES:
                    found[tag] = items
            elif length <= (MAX_LONG_VALUE if tag in _KEEP_LONG else MAX_VALUE):
                found[tag] = self._take(length)
            else:
                self._skip(length)
        if end is None and depth > 0:
            raise EOFError
        return found

    def _sequence(self, length: int, implicit: bool, depth: int) -> list[Elements]:
        end = None if length == _UNDEFINED else self._at + length
        if end is not None and end > self._size:
            raise EOFError
        items: list[Elements] = []
        while end is None or self._at < end:
            tag, _, n = self._element(implicit=True)
            if tag == _SEQUENCE_END:
                break
            if tag != _ITEM:
                raise EOFError
            stop = None if n == _UNDEFINED else self._at + n
            if stop is not None and stop > self._size:
                raise EOFError
            items.append(self.dataset(stop, implicit, depth + 1))
        return items
