"""Write TIFF files byte by byte: classic, BigTIFF and Hamamatsu's 64-bit variant, with any tag and any tile offset.

Independent of tifffile, so that reading is tested against a second implementation of the format; and able to write
what tifffile can't: a hundred thousand tiles that all lie at one place, NDPI's directories, wrong counts.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

BYTE, ASCII, SHORT, LONG, RATIONAL, UNDEFINED, SLONG, FLOAT, LONG8 = 1, 2, 3, 4, 5, 7, 9, 11, 16
_CODES = {BYTE: "B", SHORT: "H", LONG: "I", UNDEFINED: "B", SLONG: "i", FLOAT: "f", LONG8: "Q"}
_SIZES = {ASCII: 1, RATIONAL: 8} | {k: struct.calcsize(v) for k, v in _CODES.items()}

#: Names of the tags that the zoo writes.
TAGS = {
    "NewSubfileType": (254, LONG),
    "ImageWidth": (256, LONG),
    "ImageLength": (257, LONG),
    "BitsPerSample": (258, SHORT),
    "Compression": (259, SHORT),
    "PhotometricInterpretation": (262, SHORT),
    "DocumentName": (269, ASCII),
    "ImageDescription": (270, ASCII),
    "Make": (271, ASCII),
    "Model": (272, ASCII),
    "StripOffsets": (273, LONG),
    "SamplesPerPixel": (277, SHORT),
    "RowsPerStrip": (278, LONG),
    "StripByteCounts": (279, LONG),
    "XResolution": (282, RATIONAL),
    "YResolution": (283, RATIONAL),
    "PlanarConfiguration": (284, SHORT),
    "ResolutionUnit": (296, SHORT),
    "Software": (305, ASCII),
    "DateTime": (306, ASCII),
    "Artist": (315, ASCII),
    "HostComputer": (316, ASCII),
    "Predictor": (317, SHORT),
    "TileWidth": (322, LONG),
    "TileLength": (323, LONG),
    "TileOffsets": (324, LONG),
    "TileByteCounts": (325, LONG),
    "SubIFDs": (330, LONG),
    "JPEGTables": (347, UNDEFINED),
    "YCbCrSubSampling": (530, SHORT),
    "XMP": (700, BYTE),
    "ICCProfile": (34675, UNDEFINED),
}


@dataclass
class Page:
    """One image: tags by name or as ``code: (type, value)``; pieces are (offset, length) of encoded data."""

    tags: dict = field(default_factory=dict)
    pieces: list = field(default_factory=list)
    sub: list[Page] = field(default_factory=list)


class RawTiff:
    """A TIFF being written: :meth:`data` puts bytes into the file, :meth:`finish` the directories behind them.

    Parameters
    ----------
    path : Path
        File to write.
    kind : {"classic", "big", "ndpi"}
        Offsets of 32 or 64 bits, or NDPI's classic directories with high bits behind them.
    """

    def __init__(self, path: Path, kind: str = "classic") -> None:
        self.path, self.kind = Path(path), kind
        self._file = self.path.open("wb")
        heads = {
            "classic": b"II*\0" + bytes(4),
            "big": b"II+\0\x08\0\0\0" + bytes(8),
            "ndpi": b"II*\0" + bytes(8),
        }
        self._file.write(heads[kind])

    def data(self, code: bytes) -> tuple[int, int]:
        """Write bytes on an even offset; returns (offset, length)."""
        if self._file.tell() % 2:
            self._file.write(b"\0")
        place = self._file.tell()
        self._file.write(code)
        return place, len(code)

    def finish(self, pages: list[Page]) -> Path:
        """Write the directories, chained, and close."""
        first = 4 if self.kind != "big" else 8
        where = first
        for page in pages:
            _, where = self._directory(page, where)
        self._file.close()
        return self.path

    def _directory(self, page: Page, link: int | None) -> tuple[int, int]:
        """Write one directory, point ``link`` to it; returns its place and where the next one is linked from."""
        tags = {TAGS.get(name, name): value for name, value in page.tags.items()}
        if page.pieces:
            kind = "Tile" if (322, LONG) in tags else "Strip"
            wide = LONG8 if self.kind == "big" else LONG
            tags[TAGS[f"{kind}Offsets"][0], wide] = np.array([o for o, _ in page.pieces], np.uint64)
            tags[TAGS[f"{kind}ByteCounts"][0], LONG] = np.array([n for _, n in page.pieces], np.uint32)
        if page.sub:
            tags[330, LONG8 if self.kind == "big" else LONG] = [self._directory(s, None)[0] for s in page.sub]
        big = self.kind == "big"
        room = 8 if big else 4
        entries, high = [], []
        for (code, kind), value in sorted(tags.items()):
            raw, count = _encode(kind, value)
            extra = 0
            if len(raw) <= room:
                packed = raw.ljust(room, b"\0")
            else:
                place, _ = self.data(raw)
                packed = struct.pack("<Q", place)[:room]
                extra = place >> 32
            entries.append(struct.pack("<HHQ" if big else "<HHI", code, kind, count) + packed)
            high.append(extra)
        self._align()
        place = self._file.tell()
        self._file.write(struct.pack("<Q" if big else "<H", len(entries)) + b"".join(entries))
        after = self._file.tell()
        self._file.write(bytes(4 if self.kind == "classic" else 8))
        if self.kind == "ndpi":
            self._file.write(struct.pack(f"<{len(high)}I", *high))
        if link is not None:
            end = self._file.tell()
            self._file.seek(link)
            self._file.write(struct.pack("<I" if self.kind == "classic" else "<Q", place))
            self._file.seek(end)
        return place, after

    def _align(self) -> None:
        if self._file.tell() % 8:
            self._file.write(bytes(8 - self._file.tell() % 8))


def _encode(kind: int, value) -> tuple[bytes, int]:
    """Return the bytes of a value and how many of its type they are."""
    if kind == ASCII:
        raw = (value if isinstance(value, bytes) else value.encode()) + b"\0"
        return raw, len(raw)
    if isinstance(value, bytes):
        return value, len(value) // _SIZES[kind]
    if kind == RATIONAL:
        top, below = value if isinstance(value, tuple) else (round(value * 2**12), 2**12)
        return struct.pack("<II", top, below), 1
    values = np.atleast_1d(np.asarray(value)).astype("<" + np.dtype(_CODES[kind]).str[1:])
    return values.tobytes(), values.size
