"""What a coded tile says of itself, read before a decoder allocates for it; and whether it is whole.

Decoders believe the header inside of the tile: a JPEG of 200 bytes that says 65,500 x 65,500 px takes 12 GB
and half a minute. And libjpeg fills what is missing with grey without a word. Both are told here from the
bytes alone.
"""

from __future__ import annotations

import struct

__all__ = [
    "JPEG",
    "JPEG2000",
    "JPEGXL",
    "KNOWN",
    "PNG",
    "WEBP",
    "ends_early",
    "is_harmless_jpeg2000",
    "lacks_end",
    "stated_size",
]

JPEG = frozenset({6, 7, 33007, 34892})
JPEG2000 = frozenset({33003, 33004, 33005, 34712})
WEBP = frozenset({34927, 50001})
PNG = frozenset({34933, 50015})
JPEGXL = frozenset({50002, 52546})
#: none, LZW, deflate, PackBits, LZMA, Zstandard: their decoders take the size of the result
_BOUNDED = frozenset({1, 5, 8, 32773, 32946, 34925, 34926, 50000})
#: Compressions that are read; every other one is declined, since nothing bounds what it decodes to.
KNOWN = _BOUNDED | JPEG | JPEG2000 | WEBP | PNG | JPEGXL

_NO_LENGTH = {0x01, *range(0xD0, 0xD8)}
_FRAMES = {*range(0xC0, 0xD0)} - {0xC4, 0xC8, 0xCC}
# baseline has 1 to 4 scans, progressive about 10; each scan costs a pass over the tile
MAX_SCANS = 100
ZERO_RUN = bytes(256)
LONG_ZERO_RUN = bytes(2048)
MAX_PACKETS = 2_000_000


def stated_size(data: bytes, compression: int) -> tuple[int, int] | str | None:
    """Return (height, width) that a tile's own header states, what is wrong with it, or None if it has none.

    Examples
    --------
    >>> stated_size(bytes(100), 7)
    'there are no JPEG data'
    """
    if compression in JPEG:
        return _jpeg_size(data)
    if compression in JPEG2000:
        return _jpeg2000_size(data)
    if compression in PNG:
        return _png_size(data)
    if compression in WEBP:
        return _webp_size(data)
    if compression in JPEGXL:
        return _jpegxl_size(data)
    return None


def _jpeg_size(data: bytes) -> tuple[int, int] | str:
    if data[:2] != b"\xff\xd8":
        return "there are no JPEG data"
    at, end = 2, len(data)
    while at + 4 <= end:
        if data[at] != 0xFF:
            return "the JPEG header is damaged"
        marker = data[at + 1]
        if marker == 0xFF:
            at += 1
            continue
        if marker in _NO_LENGTH:
            at += 2
            continue
        length = data[at + 2] << 8 | data[at + 3]
        if marker in _FRAMES:
            if at + 9 > end:
                break
            height, width = struct.unpack_from(">HH", data, at + 5)
            return (height, width)
        if marker in (0xDA, 0xD9) or length < 2:
            return "the JPEG header is damaged"
        at += 2 + length
    return "the JPEG header ends too soon"


def _jpeg2000_start(data: bytes) -> int:
    """Where the codestream starts: at once, or in the box jp2c."""
    if data[:4] == b"\xff\x4f\xff\x51":
        return 0
    if data[4:8] != b"jP  ":
        return -1
    box = data.find(b"jp2c\xff\x4f\xff\x51")
    return box + 4 if box >= 0 else -1


def _jpeg2000_size(data: bytes) -> tuple[int, int] | str:
    start = _jpeg2000_start(data)
    if start < 0 or len(data) < start + 42:
        return "there are no JPEG 2000 data"
    x1, y1, x0, y0 = struct.unpack_from(">4I", data, start + 8)
    return (y1 - y0, x1 - x0)


def is_harmless_jpeg2000(data: bytes) -> bool:
    """Whether the parts a JPEG 2000 tile is cut into stay countable: each costs memory, whatever its bytes.

    ISO/IEC 15444-1 A.5.1 (SIZ: tiles, components) and A.6.1 (COD: layers, resolutions, precincts).
    """
    start = _jpeg2000_start(data)
    x1, y1, x0, y0, tw, th = struct.unpack_from(">6I", data, start + 8)
    components = struct.unpack_from(">H", data, start + 40)[0]
    if not tw or not th or not 1 <= components <= 4:
        return False
    tiles = -(-x1 // tw) * -(-y1 // th)
    cod = data.find(b"\xff\x52", start, start + 4096)
    if cod < 0 or len(data) < cod + 14:
        return False
    layers, levels = struct.unpack_from(">H", data, cod + 6)[0], data[cod + 9]
    if levels > 32:
        return False
    precincts = 0
    for r in range(levels + 1):
        size = data[cod + 14 + r] if data[cod + 4] & 1 and len(data) > cod + 14 + r else 0xFF
        scale = levels - r
        h, w = (-(-min(side, edge) >> scale) for side, edge in ((th, y1 - y0), (tw, x1 - x0)))
        precincts += -(-max(h, 1) // 2 ** (size >> 4)) * -(-max(w, 1) // 2 ** (size & 15))
    return bool(tiles * components * max(1, layers) * precincts <= MAX_PACKETS and tiles <= 4096)


def _png_size(data: bytes) -> tuple[int, int] | str:
    if data[:8] != b"\x89PNG\r\n\x1a\n" or data[12:16] != b"IHDR" or len(data) < 24:
        return "there are no PNG data"
    width, height = struct.unpack_from(">II", data, 16)
    return (height, width)


def _webp_size(data: bytes) -> tuple[int, int] | str:
    kind = data[12:16]
    if data[:4] != b"RIFF" or data[8:12] != b"WEBP" or len(data) < 30:
        return "there are no WebP data"
    if kind == b"VP8X":
        width, height = (int.from_bytes(data[i : i + 3], "little") + 1 for i in (24, 27))
        return (height, width)
    if kind == b"VP8L":
        bits = int.from_bytes(data[21:25], "little")
        return ((bits >> 14 & 0x3FFF) + 1, (bits & 0x3FFF) + 1)
    width, height = struct.unpack_from("<HH", data, 26)
    return (height & 0x3FFF, width & 0x3FFF)


def _jpegxl_size(data: bytes) -> tuple[int, int] | str:
    """Read the SizeHeader of a JPEG XL codestream (ISO/IEC 18181-1, D.2)."""
    start = 0
    if data[4:8] == b"JXL ":
        box = max(data.find(b"jxlc\xff\x0a"), data.find(b"jxlp"))
        start = data.find(b"\xff\x0a", box) if box >= 0 else -1
    if start < 0 or data[start : start + 2] != b"\xff\x0a":
        return "there are no JPEG XL data"
    bits = int.from_bytes(data[start + 2 : start + 14], "little")
    taken = 0

    def take(n: int) -> int:
        nonlocal taken
        taken += n
        return bits >> (taken - n) & (1 << n) - 1

    def size(is_small: int) -> int:
        return (take(5) + 1) * 8 if is_small else take((9, 13, 18, 30)[take(2)]) + 1

    small = take(1)
    height = size(small)
    ratio = take(3)
    if not ratio:
        return (height, size(small))
    upper, lower = ((1, 1), (12, 10), (4, 3), (3, 2), (16, 9), (5, 4), (2, 1))[ratio - 1]
    return (height, height * upper // lower)


def lacks_end(data: bytes, compression: int = 7) -> bool:
    """Whether a JPEG has no end marker after its first scan, or a JPEG 2000 codestream none at all."""
    end = data.rfind(b"\xff\xd9")
    return end < (data.find(b"\xff\xda") if compression in JPEG else 0)


def ends_early(
    data: bytes, compression: int, tables: bytes | None = None, *, has_header: bool = True
) -> str | None:
    """Say what tells that a JPEG or JPEG 2000 tile lost a part of its data, or None.

    Decoders pass over a stretch of zero bytes, as a lost disk block or an unfinished download leaves it, and
    paint noise; no encoder writes one. In tiles of an NDPI the header is kept elsewhere, ``has_header`` is
    false.
    """
    if compression in JPEG:
        start = data.find(b"\xff\xda") if has_header else 0
        if start < 0:
            return "there are no JPEG data in it"
        # one scan of all three colours of a baseline JPEG is read once, whatever follows; counting takes long
        is_one_scan = has_header and data[start + 4 : start + 5] == b"\3" and b"\xff\xc2" not in data[:start]
        if not is_one_scan and data.count(b"\xff\xda") > MAX_SCANS:
            return "it has too many JPEG scans"
        end = data.rfind(b"\xff\xd9") if has_header else -1
        # after the end marker there may be padding
        found = data.find(ZERO_RUN, start, end if end > start else len(data))
        if found >= 0 and not _zeros_mean_flat(tables or b"", data if has_header else b""):
            return "a part of the JPEG data is lost"
        return None
    if compression in JPEG2000 and LONG_ZERO_RUN in data:
        return "a part of the JPEG 2000 data is lost"
    return None


def _zeros_mean_flat(tables: bytes, data: bytes) -> bool:
    """Whether zero bits code flat blocks here: the first code of every AC table is "end of block" (T.81).

    So it is with optimised tables on very plain tiles, not with that for luminance of the standard's Annex K.
    """
    first = []
    for part in (tables, data):
        at = 2
        while at + 4 <= len(part) and part[at] == 0xFF and part[at + 1] != 0xDA:
            length = part[at + 2] << 8 | part[at + 3]
            if part[at + 1] == 0xC4:
                inner, stop = at + 4, at + 2 + length
                while inner + 17 < min(stop, len(part)):
                    if part[inner] >> 4 == 1:
                        first.append(part[inner + 17])
                    inner += 17 + sum(part[inner + 1 : inner + 17])
            at += 2 + max(2, length)
    return bool(first) and not any(first)
