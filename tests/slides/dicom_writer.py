"""Write small DICOM whole-slide files for tests: the elements that PS3.3 A.32.8 asks of a tiled image, no more."""

from __future__ import annotations

import struct

import numpy as np

_LONG = {"OB", "OW", "OV", "SQ", "UN", "UT"}
RAW, IMPLICIT = "1.2.840.10008.1.2.1", "1.2.840.10008.1.2"
JPEG, JPEG2000, JPEG_LS, HTJ2K = (f"1.2.840.10008.1.2.4.{k}" for k in (50, 90, 80, 201))


def element(tag, vr, value, implicit=False):
    """One element; text is padded to an even length, a list of byte strings is a sequence of items."""
    if vr == "SQ":
        value = b"".join(struct.pack("<HHI", 0xFFFE, 0xE000, len(item)) + item for item in value)
    elif isinstance(value, str):
        value = value.encode()
        value += (b"\0" if vr == "UI" else b" ") * (len(value) % 2)
    elif isinstance(value, (int, float)):
        value = struct.pack({"US": "<H", "UL": "<I", "SL": "<i", "FL": "<f"}[vr], value)
    head = struct.pack("<HH", tag >> 16, tag & 0xFFFF)
    if implicit:
        return head + struct.pack("<I", len(value)) + value
    if vr in _LONG:
        return head + vr.encode() + b"\0\0" + struct.pack("<I", len(value)) + value
    return head + vr.encode() + struct.pack("<H", len(value)) + value


def encode(tile, syntax, photometric="YBR_FULL_422"):
    import imagecodecs

    if syntax == JPEG:
        return imagecodecs.jpeg8_encode(tile, level=95, subsampling="444")
    if syntax == JPEG2000:
        return imagecodecs.jpeg2k_encode(tile, level=0, codecformat="j2k", reversible=True)
    if syntax == HTJ2K:
        return imagecodecs.htj2k_encode(tile, reversible=True)
    if syntax == JPEG_LS:
        return imagecodecs.jpegls_encode(tile)
    return tile.tobytes()


def cut(image, tile):
    """Tiles of an image, row by row, padded with white."""
    for y in range(0, image.shape[0], tile):
        for x in range(0, image.shape[1], tile):
            part = image[y : y + tile, x : x + tile]
            full = np.full((tile, tile, 3), 255, np.uint8)
            full[: part.shape[0], : part.shape[1]] = part
            yield full


def write_dicom(
    path, image, *, tile=64, series="1.2.3.1", instance="1", syntax=JPEG, table="basic", mpp=0.5, flavour="VOLUME",
    photometric=None, positions=None, frames=None, shape=None, concatenation=None, extra=(), tags=None,
):  # fmt: skip
    """Write one file: ``frames`` replace the image's tiles, ``positions`` ((row, col), ...) make it sparse."""
    implicit = syntax == IMPLICIT
    data = [encode(part, syntax) for part in cut(image, tile)] if frames is None else frames
    height, width = shape or image.shape[:2]
    photometric = photometric or {JPEG: "YBR_FULL_422", JPEG2000: "YBR_RCT", HTJ2K: "YBR_RCT"}.get(
        syntax, "RGB"
    )
    spacing = f"{mpp / 1000:.8f}\\{mpp / 1000:.8f}" if mpp else None

    def e(tag, vr, value):
        return tag, element(tag, vr, value, implicit)

    measures = [e(0x00280030, "DS", spacing)[1]] if spacing else []
    found = [
        e(0x00080008, "CS", f"ORIGINAL\\PRIMARY\\{flavour}\\NONE"), e(0x00080016, "UI", "1.2.840.10008.5.1.4.1.1.77.1.6"),
        e(0x00080018, "UI", f"{series}.{instance}"), e(0x00080060, "CS", "SM"), e(0x0020000D, "UI", "1.2.3"),
        e(0x0020000E, "UI", series), e(0x00200013, "IS", instance.rsplit(".")[-1]),
        e(0x00209311, "CS", "TILED_SPARSE" if positions else "TILED_FULL"),
        e(0x00280002, "US", 3), e(0x00280004, "CS", photometric), e(0x00280006, "US", 0),
        e(0x00280008, "IS", str(len(data))), e(0x00280010, "US", tile), e(0x00280011, "US", tile),
        e(0x00280100, "US", 8), e(0x00280101, "US", 8), e(0x00280102, "US", 7), e(0x00280103, "US", 0),
        e(0x00480006, "UL", width), e(0x00480007, "UL", height),
        e(0x52009229, "SQ", [e(0x00289110, "SQ", measures)[1]]),
        *extra,
    ]  # fmt: skip
    if concatenation:
        uid, first = concatenation
        found += [e(0x00209161, "UI", uid), e(0x00209228, "UL", first)]
    if positions:
        items = []
        for row, col in positions:
            place = e(0x0048021E, "SL", col * tile + 1)[1] + e(0x0048021F, "SL", row * tile + 1)[1]
            items.append(e(0x0048021A, "SQ", [place])[1])
        found.append(e(0x52009230, "SQ", items))
    by_tag = dict(found)
    for tag, vr, value in tags or []:
        by_tag[tag] = element(tag, vr, value, implicit)
    body = b"".join(by_tag[tag] for tag in sorted(by_tag))
    if syntax in {RAW, IMPLICIT}:
        pixels = element(0x7FE00010, "OW", b"".join(data), implicit)
    else:
        pixels = encapsulated(data, table)
    meta = element(0x00020001, "OB", b"\0\1") + element(0x00020002, "UI", "1.2.840.10008.5.1.4.1.1.77.1.6")
    meta += element(0x00020003, "UI", f"{series}.{instance}") + element(0x00020010, "UI", syntax)
    head = element(0x00020000, "UL", len(meta)) + meta
    path.write_bytes(b"\0" * 128 + b"DICM" + head + body + pixels)
    return path


def encapsulated(data, table):
    """PixelData of compressed frames, with a basic or extended offset table or none."""
    padded = [part + b"\0" * (len(part) % 2) for part in data]
    starts = np.cumsum([0, *(len(part) + 8 for part in padded)])
    basic = starts[:-1].astype("<u4").tobytes() if table == "basic" else b""
    before = b""
    if table == "extended":
        before += element(0x7FE00001, "OV", starts[:-1].astype("<u8").tobytes())
        before += element(0x7FE00002, "OV", np.array([len(p) for p in data], "<u8").tobytes())
    items = b"".join(struct.pack("<HHI", 0xFFFE, 0xE000, len(part)) + part for part in [basic, *padded])
    head = struct.pack("<HH", 0x7FE0, 0x0010) + b"OB\0\0" + struct.pack("<I", 0xFFFFFFFF)
    return before + head + items + struct.pack("<HHI", 0xFFFE, 0xE0DD, 0)
