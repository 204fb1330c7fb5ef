"""Frames of a DICOM slide: where each lies in the file, and its pixels as RGB."""

from __future__ import annotations

import struct
from typing import Any

import numpy as np
from numpy.typing import NDArray

from napari_batchfx.errors import SlideError
from napari_batchfx.slides._declined import NotReadHere
from napari_batchfx.slides._dicom_header import DicomHeader
from napari_batchfx.slides._file import SlideFile, short
from napari_batchfx.slides.damage import DamagedTile

__all__ = ["Frames", "jpeg_facts"]

Rgb = NDArray[np.uint8]
_UID = "1.2.840.10008.1.2"
_RAW = {_UID, _UID + ".1"}
_JPEG = {_UID + ".4.50", _UID + ".4.51"}
_JPEG2000 = {_UID + f".4.{k}" for k in (90, 91, 201, 202, 203)}
_JPEG_LS = {_UID + ".4.80", _UID + ".4.81"}
_ITEM = b"\xfe\xff\x00\xe0"
MAX_FRAME_BYTES = 2**28
MAX_FRAMES = 2**24
MIN_SIDE = 16
_SOF = {*range(0xC0, 0xD0)} - {0xC4, 0xC8, 0xCC} | {0xF7}


class Frames:
    """The frames of one file; safe to use from many threads.

    Parameters
    ----------
    header : DicomHeader
        Of a whole-slide file.

    Raises
    ------
    SlideError
        If the frames aren't 8-bit RGB, are compressed in a way that isn't read here, or lie outside of the
        file.
    """

    def __init__(self, header: DicomHeader) -> None:
        self.header = header
        name = header.path.name
        self.height, self.width = header.number(0x00280010), header.number(0x00280011)
        self.count = max(1, header.number(0x00280008))
        self._photometric = header.text(0x00280004).upper()
        self._planar = header.number(0x00280006) == 1
        samples, bits = header.number(0x00280002), header.number(0x00280100)
        if samples == 1:
            raise SlideError(
                f"{name}: it is greyscale or one colour channel (fluorescence), not a brightfield RGB "
                f"slide; open a "
                "slide stained for light microscopy."
            )
        if samples != 3 or bits != 8:
            raise SlideError(
                f"{name}: its pixels aren't 8-bit RGB ({samples} samples of {bits} bits); export it as such."
            )
        self._raw_bytes = self.height * self.width * 3
        if not 0 < self._raw_bytes <= MAX_FRAME_BYTES or self.count > MAX_FRAMES or header.pixels_at < 0:
            raise SlideError(
                f"{name}: its DICOM header states frames that no slide has; copy or export it again."
            )
        syntax = header.transfer_syntax
        if self.count > 1 and min(self.height, self.width) < MIN_SIDE:
            raise SlideError(
                f"{name}: its frames are only {self.height} x {self.width} px, too small to be read one by "
                "one; export it with frames of 256 or 512 px."
            )
        if syntax not in _RAW and self.count * 8 > header.size - header.pixels_at:
            raise SlideError(
                f"{name}: the file is truncated, most frames are missing; copy or export it again."
            )
        if syntax not in _RAW | _JPEG | _JPEG2000 | _JPEG_LS:
            raise NotReadHere(f"{name}: its frames are compressed in a way that isn't read here ({syntax}).")
        self._file = SlideFile(header.path)
        try:
            self._starts = None if syntax in _RAW else self._offsets()
        except (struct.error, EOFError) as error:
            self._file.close()
            raise SlideError(
                f"{name}: the list of its frames is damaged; copy or export it again."
            ) from error
        except BaseException:
            self._file.close()
            raise

    def _offsets(self) -> NDArray[np.int64]:
        """Return where the first item of each frame begins, and the end of the last one."""
        header = self.header
        at = header.pixels_at
        mark, length = self._item(at)
        if mark != _ITEM:
            raise EOFError
        first = at + 8 + length
        table: NDArray[np.int64] | None = None
        extended = header.elements.get(0x7FE00001)
        if isinstance(extended, bytes) and len(extended) == 8 * self.count:
            table = np.frombuffer(extended, "<u8").astype(np.int64)
        elif length == 4 * self.count and first <= header.size:
            table = np.frombuffer(self._bytes(at + 8, length), "<u4").astype(np.int64)
        # 32-bit offsets wrap in files over 4 GB: then the items are walked instead
        if table is not None and (np.diff(table) > 0).all() and table[0] >= 0:
            starts = first + table
            if starts[-1] + 8 <= header.size:
                return np.append(starts, header.size)
        return self._walk(first)

    def _walk(self, at: int) -> NDArray[np.int64]:
        """Go from item to item; without an offset table each frame is one item (PS3.5 A.4)."""
        starts: list[int] = []
        while at + 8 <= self.header.size:
            mark, length = self._item(at)
            if mark != _ITEM or len(starts) > self.count:
                break
            starts.append(at)
            at += 8 + length
        if len(starts) > self.count == 1:
            starts = starts[:1]
        elif len(starts) > self.count:
            raise EOFError
        if not starts:
            raise EOFError
        return np.array([*starts, min(at, self.header.size)], np.int64)

    def _item(self, at: int) -> tuple[bytes, int]:
        head = self._bytes(at, 8)
        return head[:4], struct.unpack("<I", head[4:])[0]

    def _bytes(self, at: int, n: int) -> bytes:
        if at < 0 or at + n > self.header.size:
            raise EOFError
        return self._file.read(at, n)

    def read(self, index: int) -> Rgb:
        """Decode a frame, uint8 (rows, columns, 3).

        Raises
        ------
        DamagedTile
            If it is missing or damaged.
        """
        try:
            data = self._data(index)
            tile = self._decode(data)
        except SlideError:
            raise
        except Exception as error:  # each codec has its own exceptions; they all mean a damaged frame
            raise DamagedTile(f"frame {index}: {short(error)}") from error
        if tile.shape != (self.height, self.width, 3) or tile.dtype != np.uint8:
            raise DamagedTile(f"frame {index} isn't {self.height} x {self.width} px of 8-bit RGB")
        return tile

    def _data(self, index: int) -> bytes:
        if self._starts is None:
            return self._bytes(self.header.pixels_at + index * self._raw_bytes, self._raw_bytes)
        if not 0 <= index < len(self._starts) - 1:
            raise DamagedTile(f"frame {index} is missing")
        at, end = int(self._starts[index]), int(self._starts[index + 1])
        parts: list[bytes] = []
        while at + 8 <= end:
            mark, length = self._item(at)
            if mark != _ITEM:
                break
            if length > MAX_FRAME_BYTES:
                raise DamagedTile(f"frame {index} states a length that no frame has")
            parts.append(self._bytes(at + 8, length))
            at += 8 + length
        return b"".join(parts)

    def _decode(self, data: bytes) -> Rgb:
        import imagecodecs

        syntax = self.header.transfer_syntax
        if syntax in _RAW:
            tile = np.frombuffer(data, np.uint8)
            tile = (
                tile.reshape(3, self.height, self.width).transpose(1, 2, 0)
                if self._planar
                else tile.reshape(self.height, self.width, 3)
            )
            return _from_ybr(tile) if self._photometric == "YBR_FULL" else np.ascontiguousarray(tile)
        if syntax in _JPEG:
            height, width, tells = jpeg_facts(data)
            self._require_size(height, width)
            return np.asarray(imagecodecs.jpeg8_decode(data, **self._jpeg_colours(tells)))
        if syntax in _JPEG_LS:
            self._require_size(*jpeg_facts(data)[:2])
            tile = np.asarray(imagecodecs.jpegls_decode(data))
            return _from_ybr(tile) if self._photometric == "YBR_FULL" else tile
        self._require_size(*_jpeg2000_size(data))
        tile = np.asarray(imagecodecs.jpeg2k_decode(data))
        return _from_ybr(tile) if self._photometric in {"YBR_FULL", "YBR_FULL_422"} else tile

    def _jpeg_colours(self, tells: bool) -> dict[str, Any]:
        """What the JPEG itself says (JFIF or Adobe mark) comes before the header.

        Some converters write RGB into the header of slides whose frames are YCbCr; OpenSlide shows those in
        false colours.
        """
        if tells:
            return {}
        return {"colorspace": "RGB" if self._photometric == "RGB" else "YCBCR", "outcolorspace": "RGB"}

    def _require_size(self, height: int, width: int) -> None:
        # before decoding: a few bytes of header can ask for gigabytes
        if (height, width) != (self.height, self.width):
            raise DamagedTile(f"a frame is {height} x {width} px where {self.height} x {self.width} belong")

    def close(self) -> None:
        """Close the file."""
        self._file.close()


def jpeg_facts(data: bytes) -> tuple[int, int, bool]:
    """Return height, width, and whether the JPEG itself says how its colours are stored (JFIF or Adobe mark).

    Raises
    ------
    DamagedTile
        If it is no JPEG.

    Examples
    --------
    >>> import imagecodecs, numpy as np
    >>> jpeg_facts(imagecodecs.jpeg8_encode(np.zeros((16, 24, 3), np.uint8)))
    (16, 24, True)
    """
    at, tells = 2, False
    if data[:2] != b"\xff\xd8":
        raise DamagedTile("it is no JPEG")
    while at + 4 <= len(data):
        if data[at] != 0xFF:
            break
        marker = data[at + 1]
        if marker == 0xFF:
            at += 1
            continue
        if marker in _SOF and at + 9 <= len(data):
            height, width = struct.unpack_from(">HH", data, at + 5)
            return height, width, tells or _marked(data, at)
        tells = tells or (marker == 0xE0 and data[at + 4 : at + 8] == b"JFIF")
        tells = tells or (marker == 0xEE and data[at + 4 : at + 9] == b"Adobe")
        at += 2 + struct.unpack_from(">H", data, at + 2)[0]
    raise DamagedTile("its JPEG header is damaged")


def _marked(data: bytes, at: int) -> bool:
    """An Adobe mark may also stand after the frame header."""
    scan = data.find(b"\xff\xda", at)
    return data.find(b"\xff\xee\x00\x0eAdobe", at, scan if scan > 0 else len(data)) >= 0


def _from_ybr(tile: Rgb) -> Rgb:
    """Full-range YCbCr to RGB (ITU-R BT.601; DICOM PS3.3 C.7.6.3.1.2)."""
    y, cb, cr = (tile[..., i].astype(np.float32) for i in range(3))
    cb -= 128
    cr -= 128
    rgb = np.stack([y + 1.402 * cr, y - 0.344136 * cb - 0.714136 * cr, y + 1.772 * cb], axis=-1)
    result: Rgb = np.clip(np.rint(rgb), 0, 255).astype(np.uint8)
    return result


def _jpeg2000_size(data: bytes) -> tuple[int, int]:
    at = data.find(b"\xff\x4f\xff\x51", 0, 4096)
    if at < 0 or at + 24 > len(data):
        raise DamagedTile("its JPEG 2000 header is damaged")
    width, height, x, y = struct.unpack_from(">IIII", data, at + 8)
    return height - y, width - x
