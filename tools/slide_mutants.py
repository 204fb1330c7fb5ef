"""Small valid slides of every kind, and ways to break them, for ``tools/fuzz_slides.py``."""

from __future__ import annotations

import functools
import io
import struct
import zlib
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image

__all__ = ["mutate", "seeds"]

ZOO = (
    "svs", "svs-jpeg2000", "svs-icc", "ndpi", "scn", "bif", "philips", "philips-label-in-xml", "ome", "ome-jpeg",
    "trestle", "generic-lzw", "strips", "strips-jpeg",
)  # fmt: skip
INTERESTING = (
    0,
    1,
    2,
    7,
    255,
    256,
    65_500,
    65_535,
    2**20,
    2**31 - 1,
    2**31,
    2**32 - 1,
    2**40,
    2**63,
    2**64 - 1,
)
SIZES = {
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


def seeds(folder: Path) -> list[Path]:
    """Write the slides that are mutated."""
    import tifffile
    from tests.slides.slide_zoo import ZOO as WRITERS

    image = _picture()
    paths = [WRITERS[name](_new(folder / name)).path for name in ZOO]
    plain = {"tile": (128, 128), "photometric": "rgb", "metadata": None}
    for name, kwargs in {
        "deflate.tif": {"compression": "zlib", "predictor": True, "byteorder": ">"},
        "zstd.tif": {"compression": "zstd", "bigtiff": True},
        "lzw.tif": {"compression": "lzw"},
        "packbits.tif": {"compression": "packbits"},
        "lzma.tif": {"compression": "lzma"},
        "webp.tif": {"compression": "webp"},
        "png.tif": {"compression": "png"},
        "jpegxl.tif": {"compression": "jpegxl"},
        "j2k.tif": {"compression": "jpeg2000"},
        "planar.tif": {"compression": "zlib", "planarconfig": "separate"},
        "raw.tif": {"compression": None},
    }.items():
        data = np.moveaxis(image, -1, 0) if "planarconfig" in kwargs else image
        tifffile.imwrite(folder / name, data, **plain | kwargs)
        paths.append(folder / name)
    tifffile.imwrite(folder / "one-strip.tif", image, photometric="rgb", metadata=None)
    tifffile.imwrite(
        folder / "one-piece.tif",
        image,
        photometric="rgb",
        metadata=None,
        compression="zlib",
        rowsperstrip=400,
    )
    paths += [folder / "one-strip.tif", folder / "one-piece.tif"]
    for name, kwargs in {
        "a.png": {},
        "a.jpg": {"quality": 85},
        "progressive.jpg": {"quality": 85, "progressive": True},
        "a.webp": {"lossless": True},
        "a.bmp": {},
    }.items():
        Image.fromarray(image).save(folder / name, **kwargs)
        paths.append(folder / name)
    return paths


def _new(folder: Path) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    return folder


def _picture() -> np.ndarray:
    small = np.random.default_rng(3).integers(90, 255, (20, 25, 3), dtype=np.uint8)
    return np.asarray(Image.fromarray(small).resize((500, 400), Image.Resampling.BICUBIC))


@dataclass(frozen=True)
class Entry:
    """One tag: where its entry lies, its code, type, count, where its value lies, how long it is."""

    at: int
    code: int
    kind: int
    count: int
    value_at: int
    length: int


@dataclass(frozen=True)
class Form:
    """Sizes of the fields: classic, BigTIFF, NDPI."""

    order: str
    big: bool

    @property
    def word(self) -> str:
        return self.order + ("Q" if self.big else "I")

    @property
    def room(self) -> int:
        return 8 if self.big else 4


def _entries(data: bytes) -> tuple[Form, list[Entry], list[int]]:
    """Walk a valid file: its tags, and where the links to the next directories lie."""
    order = "<" if data[:2] == b"II" else ">"
    big = struct.unpack_from(order + "H", data, 2)[0] == 43
    form = Form(order, big)
    entries, links, link = [], [], 8 if big else 4
    for _ in range(40):
        place = struct.unpack_from(form.word, data, link)[0]
        links.append(link)
        if not place or place + 8 > len(data):
            break
        n = struct.unpack_from(order + ("Q" if big else "H"), data, place)[0]
        at = place + (8 if big else 2)
        for _ in range(n):
            code, kind = struct.unpack_from(order + "HH", data, at)
            count = struct.unpack_from(form.word, data, at + 4)[0]
            length = count * SIZES.get(kind, 1)
            inline = at + (12 if big else 8)
            value_at = inline if length <= form.room else struct.unpack_from(form.word, data, inline)[0]
            entries.append(Entry(at, code, kind, count, value_at, length))
            at += 20 if big else 12
        link = at
    return form, entries, links


def _put(data: bytearray, fmt: str, at: int, value: int) -> None:
    size = struct.calcsize(fmt)
    if 0 <= at <= len(data) - size:
        struct.pack_into(fmt, data, at, value & (1 << 8 * size) - 1)


def mutate(rng: np.random.Generator, path: Path) -> tuple[str, bytes]:
    """Break a file in one of many ways; returns which one ("kind: details") and the bytes."""
    data = path.read_bytes()
    is_tiff = data[:2] in (b"II", b"MM")
    ways = [*_ANY, *(_TIFF * 3 if is_tiff else _PLAIN * 2)]
    way = ways[int(rng.integers(len(ways)))]
    changed, details = way(rng, bytearray(data))
    if rng.random() < 0.1:
        changed, more = _flip(rng, bytearray(changed))
        details = f"{details} and {more}"
    return f"{way.__name__.strip('_')}: {details}", bytes(changed)


def _pick(rng, items):
    return items[int(rng.integers(len(items)))] if len(items) else None


def _flip(rng, data):
    at = rng.integers(0, len(data), int(rng.integers(1, 20)))
    for i in at:
        data[i] = int(rng.integers(256))
    return data, f"{len(at)} bytes"


def _flip_header(rng, data):
    for i in rng.integers(0, min(len(data), 400), 3):
        data[i] = int(rng.integers(256))
    return data, "3 bytes of the first 400"


def _truncate(rng, data):
    at = int(len(data) * rng.random())
    return data[:at], f"at {at} of {len(data)}"


def _zero_block(rng, data):
    at, n = int(rng.integers(len(data))), int(rng.integers(16, 8192))
    data[at : at + n] = bytes(min(n, len(data) - at))
    return data, f"{n} bytes at {at}"


def _cut_out(rng, data):
    at, n = int(rng.integers(len(data))), int(rng.integers(1, 4096))
    return data[:at] + data[at + n :], f"{n} bytes at {at}"


def _put_in(rng, data):
    at, n = int(rng.integers(len(data))), int(rng.integers(1, 4096))
    return data[:at] + bytearray(rng.bytes(n)) + data[at:], f"{n} bytes at {at}"


def _tag_type(rng, data):
    _, entries, _ = form_entries = _entries(data)
    tag = _pick(rng, entries)
    kind = int(rng.integers(0, 20))
    _put(data, form_entries[0].order + "H", tag.at + 2, kind)
    return data, f"{tag.code} to {kind}"


def _tag_count(rng, data):
    form, entries, _ = _entries(data)
    tag, count = _pick(rng, entries), int(_pick(rng, INTERESTING))
    _put(data, form.word, tag.at + 4, count)
    return data, f"{tag.code} to {count}"


def _tag_value(rng, data):
    form, entries, _ = _entries(data)
    tag, value = _pick(rng, entries), int(_pick(rng, (*INTERESTING, len(data), len(data) - 1)))
    _put(data, form.word, tag.at + (12 if form.big else 8), value)
    return data, f"{tag.code} to {value}"


def _tag_code(rng, data):
    form, entries, _ = _entries(data)
    one, two = _pick(rng, entries), _pick(rng, entries)
    _put(data, form.order + "H", one.at, two.code)
    return data, f"{one.code} to {two.code}"


def _dimensions(rng, data):
    form, entries, _ = _entries(data)
    sizes = [e for e in entries if e.code in (256, 257, 322, 323, 278, 277, 32997)]
    details = []
    for _ in range(int(rng.integers(1, 4))):
        tag = _pick(rng, sizes)
        value = int(_pick(rng, (0, 1, 15, 17, 4096, 65_535, 100_000, 10**6, 2**31 - 1, 2**32 - 1)))
        _put(data, form.order + ("H" if tag.kind == 3 else "I"), tag.value_at, value)
        details.append(f"{tag.code}={value}")
    return data, " ".join(details)


def _tables(rng, data):
    form, entries, _ = _entries(data)
    tables = [e for e in entries if e.code in (273, 279, 324, 325, 65426) and e.kind in (3, 4, 16)]
    tag = _pick(rng, tables)
    if tag is None:
        return _flip(rng, data)
    letter = {3: "H", 4: "I", 16: "Q"}[tag.kind]
    size = struct.calcsize(letter)
    n = int(rng.integers(1, min(tag.count, 6) + 1))
    for _ in range(n):
        value = int(_pick(rng, (*INTERESTING, len(data) - 5, int(rng.integers(len(data))))))
        _put(data, form.order + letter, tag.value_at + size * int(rng.integers(tag.count)), value)
    return data, f"{n} values of {tag.code}"


def _loop(rng, data):
    form, entries, links = _entries(data)
    places = [struct.unpack_from(form.word, data, link)[0] for link in links]
    link, place = _pick(rng, links), int(_pick(rng, [*places, int(rng.integers(len(data)))]))
    _put(data, form.word, link, place)
    subs = [e for e in entries if e.code == 330]
    if subs and rng.random() < 0.5:
        tag = _pick(rng, subs)
        _put(data, form.word, tag.value_at, int(places[0]))
    return data, f"link at {link} to {place}"


def _chain(rng, data):
    """Hang thousands of small directories behind the last one."""
    form, _, links = _entries(data)
    n = int(_pick(rng, (50, 1100, 20_000)))
    start = len(data) + len(data) % 2
    data += bytes(len(data) % 2)
    count, entry = ("Q", "HHQQ") if form.big else ("H", "HHII")
    tags = [(256, 16), (257, 16), (258, 8), (273, 8), (279, 16)]
    size = struct.calcsize("<" + count) + len(tags) * struct.calcsize("<" + entry) + form.room
    body = b"".join(
        struct.pack(form.order + entry, code, 4 if code != 258 else 3, 1, value) for code, value in tags
    )
    head = struct.pack(form.order + count, len(tags))
    for k in range(n):
        following = start + (k + 1) * size if k < n - 1 else 0
        data += head + body + struct.pack(form.word, following)
    _put(data, form.word, links[-1], start)
    return data, f"{n} directories"


def _big_value(rng, data):
    """Point a tag at all of the file, or at megabytes behind it."""
    form, entries, _ = _entries(data)
    tag = _pick(rng, entries)
    n = int(_pick(rng, (len(data) // 2, 3 * 2**20, 70 * 2**20)))
    start = len(data)
    data += bytes(max(0, n - start)) if rng.random() < 0.5 else b"A" * max(0, n - start)
    _put(data, form.order + "H", tag.at + 2, int(_pick(rng, (1, 2, 7, tag.kind))))
    _put(data, form.word, tag.at + 4, n // SIZES.get(tag.kind, 1))
    _put(data, form.word, tag.at + (12 if form.big else 8), 16)
    return data, f"{tag.code} of {n} bytes"


def _bomb(rng, data):
    """Put a tile that decodes to far more than its place into the file."""
    form, entries, _ = _entries(data)
    codes = {
        e.code: struct.unpack_from(form.order + "H", data, e.value_at)[0]
        for e in entries[:20]
        if e.code == 259
    }
    compression = codes.get(259, 1)
    offsets = [e for e in entries if e.code in (273, 324) and e.kind in (4, 16)]
    tag = _pick(rng, offsets[:2])
    if tag is None:
        return _flip(rng, data)
    counts = [e for e in entries if e.code == tag.code + {273: 6, 324: 1}[tag.code] and e.at > 0]
    counts = min(counts, key=lambda e: abs(e.at - tag.at))
    code = _bombs(compression)
    if code is None:
        code = rng.bytes(1000)
    letter, size = {4: ("I", 4), 16: ("Q", 8), 3: ("H", 2)}[tag.kind]
    c_letter, c_size = {4: ("I", 4), 16: ("Q", 8), 3: ("H", 2)}[counts.kind]
    index = int(rng.integers(tag.count))
    _put(data, form.order + letter, tag.value_at + size * index, len(data))
    _put(data, form.order + c_letter, counts.value_at + c_size * index, len(code))
    data += code
    return data, f"compression {compression}, tile {index}"


@functools.cache
def _bombs(compression: int) -> bytes | None:
    import imagecodecs

    zeros = bytes(200_000_000)
    if compression in (8, 32946):
        return zlib.compress(zeros, 9)
    if compression == 5:
        return bytes(imagecodecs.lzw_encode(zeros[: 50 * 2**20]))
    if compression in (34926, 50000):
        return bytes(imagecodecs.zstd_encode(zeros, level=3))
    if compression == 34925:
        return bytes(imagecodecs.lzma_encode(zeros[: 2**25]))
    if compression == 32773:
        return b"\x81\0" * 10**6
    if compression in (7, 6):
        code = bytearray(imagecodecs.jpeg8_encode(np.zeros((256, 256, 3), np.uint8), level=80))
        struct.pack_into(">HH", code, code.index(b"\xff\xc0") + 5, 65_500, 65_500)
        return bytes(code)
    if compression in (33003, 33005, 34712):
        code = bytearray(imagecodecs.jpeg2k_encode(np.zeros((256, 256, 3), np.uint8), codecformat="j2k"))
        struct.pack_into(">II", code, 8, 60_000, 60_000)
        return bytes(code)
    if compression in (34927, 50001):
        return bytes(imagecodecs.webp_encode(np.zeros((6000, 6000, 3), np.uint8), lossless=True))
    if compression == 34933:
        return bytes(imagecodecs.png_encode(np.zeros((10_000, 10_000, 3), np.uint8), level=1))
    if compression in (50002, 52546):
        return bytes(imagecodecs.jpegxl_encode(np.zeros((6000, 6000, 3), np.uint8), effort=1, lossless=False))
    return None


def _zero_tile(rng, data):
    """Zero a tile or a part of it, as a lost block of a disk does."""
    form, entries, _ = _entries(data)
    tag = _pick(rng, [e for e in entries if e.code in (273, 324) and e.kind in (4, 16)])
    if tag is None:
        return _flip(rng, data)
    letter, size = {4: ("I", 4), 16: ("Q", 8)}[tag.kind]
    at = struct.unpack_from(form.order + letter, data, tag.value_at + size * int(rng.integers(tag.count)))[0]
    at += int(_pick(rng, (0, 0, 300, 1000)))
    n = int(_pick(rng, (512, 4096, 100_000)))
    n = max(0, min(n, len(data) - at))
    data[at : at + n] = bytes(n)
    return data, f"{n} bytes at {at}"


def _xml(rng, data):
    """Exchange the description: entities that multiply, nesting, endless text, numbers that are none."""
    form, entries, _ = _entries(data)
    tag = next((e for e in entries if e.code == 270), None)
    if tag is None:
        return _flip(rng, data)
    roots = (
        ("OME", 'xmlns="http://www.openmicroscopy.org/Schemas/OME/2016-06"'),
        ("scn", 'xmlns="http://www.leica-microsystems.com/scn/2010/10/01"'),
        ("DataObject", 'ObjectType="DPUfsImport" PIM_DP_="1"'),
    )
    root, about = roots[int(rng.integers(3))]
    which = int(rng.integers(6))
    if which == 0:
        laughs = '<!ENTITY l0 "ha">' + "".join(f'<!ENTITY l{k} "{f"&l{k - 1};" * 10}">' for k in range(1, 12))
        text = f'<?xml version="1.0"?><!DOCTYPE x [{laughs}]><{root} {about}>&l11;</{root}>'
    elif which == 1:
        text = f'<?xml version="1.0"?><!DOCTYPE x [<!ENTITY a "{"b" * 50_000}">]><{root} {about}>{"&a;" * 50_000}</{root}>'
    elif which == 2:
        text = f"<{root} {about}>" + "<a>" * 100_000 + "</a>" * 100_000 + f"</{root}>"
    elif which == 3:
        text = f"<{root} {about}>" + "x" * 20_000_000 + f"</{root}>"
    elif which == 4:
        old = bytes(data[tag.value_at : tag.value_at + tag.length])
        digits = str(_pick(rng, ("-1", "1e400", "NaN", "99999999999999999999", ""))).encode()
        parts = [
            digits if ch.isdigit() and rng.random() < 0.05 else ch.encode("latin1")
            for ch in old.decode("latin1")
        ]
        text = b"".join(parts).decode("latin1")
    else:
        text = f'<!DOCTYPE x SYSTEM "file:///etc/passwd" [<!ENTITY a SYSTEM "file:///etc/passwd">]><{root} {about}>&a;</{root}>'
    raw = text.encode("latin1", "replace") + b"\0"
    start = len(data)
    data += raw
    _put(data, form.word, tag.at + 4, len(raw))
    _put(data, form.word, tag.at + (12 if form.big else 8), start)
    return data, f"{root} {which}"


def _plain_size(rng, data):
    """State another size in the header of a PNG, JPEG, BMP or WebP."""
    h, w = (int(_pick(rng, (0, 1, 3000, 11_000, 40_000, 65_500, 2**31 - 1))) for _ in range(2))
    if data[:4] == b"\x89PNG":
        struct.pack_into(">II", data, 16, w, h)
        struct.pack_into(">I", data, 29, zlib.crc32(bytes(data[12:29])))
    elif data[:2] == b"BM":
        struct.pack_into("<ii", data, 18, w, min(h, 2**31 - 1))
    elif data[:4] == b"RIFF":
        data[21:25] = struct.pack("<I", (min(w, 16384) - 1 & 0x3FFF) | (min(h, 16384) - 1 & 0x3FFF) << 14)
    else:
        at = max(data.find(b"\xff\xc0"), data.find(b"\xff\xc2"))
        struct.pack_into(">HH", data, at + 5, h & 0xFFFF, w & 0xFFFF)
    return data, f"{w} x {h}"


def _plain_bomb(rng, data):
    which = int(rng.integers(4))
    return bytearray(_plain_bombs(which)), ("png 10,000", "png 20,000", "webp", "many scans")[which]


@functools.cache
def _plain_bombs(which: int) -> bytes:
    out = io.BytesIO()
    if which < 2:
        side = (10_000, 20_000)[which]
        Image.new("RGB", (side, side)).save(out, "PNG", compress_level=1)
    elif which == 2:
        Image.new("RGB", (10_000, 8_000)).save(out, "WEBP", quality=1, method=0)
    else:
        Image.new("RGB", (6000, 6000), (200, 100, 150)).save(out, "JPEG", progressive=True)
        code = out.getvalue()
        # the last scan (a refinement) a thousand times over
        last = code.rindex(b"\xff\xda")
        return code[:-2] + code[last:-2] * 1000 + code[-2:]
    return out.getvalue()


_ANY = [_flip, _flip_header, _truncate, _zero_block, _cut_out, _put_in]
_TIFF = [_tag_type, _tag_count, _tag_value, _tag_code, _dimensions, _tables, _loop, _chain, _big_value, _bomb,
         _zero_tile, _xml]  # fmt: skip
_PLAIN = [_plain_size, _plain_bomb, _truncate]
