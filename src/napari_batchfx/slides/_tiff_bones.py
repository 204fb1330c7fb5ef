"""The directories of a TIFF, walked and bounded before anything else reads the file.

A hostile header can ask for gigabytes with a few bytes: pages that point back at one another, tags of four
billion values, a picture of 4,294,967,295 px. What is counted here can't; everything behind it works on a
file whose directories end, lie inside of the file and fit into memory.
"""

from __future__ import annotations

import math
import struct
from dataclasses import dataclass
from typing import BinaryIO

from napari_batchfx.errors import SlideError

__all__ = ["MAX_ENTRIES", "MAX_PAGES", "MAX_SEGMENT_PIXELS", "MAX_SIDE", "require_bones", "require_geometry"]

#: Real slides have some dozen pages, focal stacks some hundred; a page takes about a millisecond to read.
MAX_PAGES = 1024
#: Tags of one page; the baseline and all vendors together know about 200.
MAX_TAGS = 512
#: Tiles of all pages together: 6 million hold 1,000,000 x 1,000,000 px with its pyramid in tiles of 512 px,
#: or 500,000 x 500,000 px in tiles of 256; an entry takes about 80 bytes while the file is opened.
MAX_ENTRIES = 6_000_000
#: All other values together, in bytes: descriptions, colour profiles, a Philips XML with its label.
MAX_TAG_BYTES = 64 * 2**20
#: A glass slide is 75 mm: at 0.05 um a pixel that is 1,500,000 px.
MAX_SIDE = 2_000_000
#: One tile or strip decodes to at most 48 MPix (144 MiB), which the tile cache can hold.
MAX_SEGMENT_PIXELS = 48 * 2**20
_TYPE_BYTES = {
    1: 1,
    2: 1,
    3: 2,
    4: 4,
    5: 8,
    6: 1,
    7: 1,
    8: 2,
    9: 4,
    10: 8,
    11: 4,
    12: 8,
    13: 4,
    16: 8,
    17: 8,
    18: 8,
}
_TABLES = {273, 279, 324, 325, 513, 514, 65426, 65432, 65439, 65440}
_SUB_IFDS = 330
_SUB_IFD_TYPES = {4, 13, 16, 18}


@dataclass(frozen=True)
class _Form:
    """Sizes of the fields of a classic TIFF, a BigTIFF, or an NDPI with its 64-bit offsets."""

    order: str
    count: str
    entry: int
    value: str
    offset: str
    is_ndpi: bool = False


def require_bones(file: BinaryIO, name: str) -> None:
    """Walk every directory of a TIFF once; leave the file at its start.

    Parameters
    ----------
    file : binary file
        Open for reading.
    name : str
        For messages.

    Raises
    ------
    SlideError
        If directories form a loop, are too many, or their values don't fit into the file or into reason.
    """
    _Walk(file, name).run()
    file.seek(0)


class _Walk:
    def __init__(self, file: BinaryIO, name: str) -> None:
        self._file = file
        self._name = name
        self._end = file.seek(0, 2)
        self._seen: set[int] = set()
        self._entries = 0
        self._bytes = 0

    def run(self) -> None:
        head = self._at(0, 16)
        order = {b"II": "<", b"MM": ">"}.get(head[:2])
        if order is None or len(head) < 8:
            raise self._damaged("its first bytes are no TIFF header")
        version = struct.unpack_from(order + "H", head, 2)[0]
        if version == 43:
            if len(head) < 16:
                raise self._damaged("it ends within its first bytes")
            form = _Form(order, "Q", 20, "Q", "Q")
            first = struct.unpack_from(order + "Q", head, 8)[0]
        else:
            form = _Form(order, "H", 12, "I", "I")
            first = struct.unpack_from(order + "I", head, 4)[0]
            # tifffile tells by the name alone, and reads an NDPI of another name as a classic TIFF
            if order == "<" and self._name.lower().endswith(".ndpi"):
                # offsets have 64 bits, the one in the header, too
                form = _Form("<", "H", 12, "I", "Q", is_ndpi=True)
                first = struct.unpack_from("<Q", head.ljust(16, b"\0"), 4)[0]
        self._chain(form, first)

    def _chain(self, form: _Form, start: int) -> None:
        waiting: list[int] = []
        chain: set[int] = set()
        offset = start
        while offset:
            if offset in chain:
                raise self._damaged("its pages point back at one another")
            chain.add(offset)
            offset, subs = self._page(form, offset)
            waiting += subs
        # those of SubIFDs are listed and mostly chained, too: each is looked at once
        for offset in waiting:
            if offset not in self._seen:
                self._page(form, offset)

    def _page(self, form: _Form, offset: int) -> tuple[int, list[int]]:
        if len(self._seen) >= MAX_PAGES:
            raise self._damaged(f"it says it has more than {MAX_PAGES:,} pages")
        is_first = not self._seen
        self._seen.add(offset)
        size = struct.calcsize(form.count)
        head = self._at(offset, size)
        if len(head) < size:
            if is_first:
                raise self._damaged("its first page lies beyond the end of the file")
            return 0, []  # tifffile stops here, too: the pages before can be read
        count = struct.unpack(form.order + form.count, head)[0]
        if count > MAX_TAGS:
            raise self._damaged(f"a page says it has {count:,} tags")
        body = self._at(offset + size, count * form.entry)
        if len(body) < count * form.entry:
            if is_first:
                raise self._damaged("its list of tags ends too soon")
            return 0, []
        tail = self._at(offset + size + len(body), 8 + 4 * count)
        high = (
            struct.unpack_from(f"<{count}I", tail, 8) if form.is_ndpi and len(tail) >= 8 + 4 * count else ()
        )
        subs: list[int] = []
        for i in range(count):
            code, kind = struct.unpack_from(form.order + "HH", body, i * form.entry)
            number, value = struct.unpack_from(form.order + form.value * 2, body, i * form.entry + 4)
            subs += self._tag(form, code, kind, number, value | (high[i] << 32 if high else 0))
        width = struct.calcsize(form.offset)
        if len(tail) < width:
            return 0, subs
        return struct.unpack_from(form.order + form.offset, tail)[0], subs

    def _tag(self, form: _Form, code: int, kind: int, count: int, value: int) -> list[int]:
        each = _TYPE_BYTES.get(kind)
        if each is None:
            return []  # tifffile leaves tags of unknown types out
        total = count * each
        inline = struct.calcsize(form.value)
        if total > inline and value + total > self._end:
            if code == _SUB_IFDS or code in _TABLES:
                raise self._damaged("its list of tiles lies beyond the end of the file")
            return []
        if code in _TABLES:
            self._entries += count
            if self._entries > 2 * MAX_ENTRIES:
                raise self._damaged(f"it says it has more than {MAX_ENTRIES:,} tiles")
        elif total > inline:
            self._bytes += total
            if self._bytes > MAX_TAG_BYTES:
                raise self._damaged(f"its header alone is larger than {MAX_TAG_BYTES >> 20} MB")
        if code != _SUB_IFDS or kind not in _SUB_IFD_TYPES or not count:
            return []
        if count > MAX_PAGES:
            raise self._damaged(f"it says it has more than {MAX_PAGES:,} pages")
        letter = "I" if each == 4 else "Q"
        if total <= inline:
            packed = struct.pack(form.order + form.value, value)
            return [v for v in struct.unpack_from(f"{form.order}{count}{letter}", packed) if v]
        return [v for v in struct.unpack(f"{form.order}{count}{letter}", self._at(value, total)) if v]

    def _at(self, offset: int, count: int) -> bytes:
        if offset >= self._end:
            return b""
        self._file.seek(offset)
        return self._file.read(count)

    def _damaged(self, what: str) -> SlideError:
        return SlideError(
            f"{self._name}: the TIFF header is damaged or the file is incomplete ({what}); copy or export it "
            "again."
        )


def require_geometry(
    name: str, size: tuple[int, int], segment: tuple[int, int], n_entries: int, planes: int = 1
) -> None:
    """Check that a level's size is one a slide can have and that its list of tiles is as long as it must be.

    Parameters
    ----------
    name : str
        For messages.
    size, segment : (int, int)
        Height and width of the level, and of a tile or strip, in pixels.
    n_entries, planes : int
        Tiles that the file lists; colour planes stored apart.

    Raises
    ------
    SlideError
        Otherwise.
    """
    height, width = size
    sh, sw = segment
    if not (1 <= height <= MAX_SIDE and 1 <= width <= MAX_SIDE):
        raise SlideError(
            f"{name}: its header says {width:,} x {height:,} px, which no slide has (at most {MAX_SIDE:,} px "
            "on a side); copy or export it again."
        )
    if sh < 1 or sw < 1:
        raise SlideError(f"{name}: its tiles have no size ({sw} x {sh} px); copy or export it again.")
    if sh * sw > MAX_SEGMENT_PIXELS:
        raise SlideError(
            f"{name}: its pixels are stored in pieces of {sw:,} x {sh:,} px, too large to be read piece by "
            "piece; save it as a tiled pyramidal TIFF (QuPath, bfconvert, vips)."
        )
    needed = math.ceil(height / sh) * math.ceil(width / sw) * planes
    if n_entries < needed:
        raise SlideError(
            f"{name}: {width:,} x {height:,} px need {needed:,} tiles, the file lists {n_entries:,}; copy or "
            "export it again."
        )
