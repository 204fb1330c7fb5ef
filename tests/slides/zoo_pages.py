"""What the writers of the zoo share: an image, its codes, pages in tiles and in strips."""

from __future__ import annotations

import functools
from dataclasses import dataclass, field
from pathlib import Path

import imagecodecs
import numpy as np
from PIL import Image, ImageCms
from tests.slides.raw_tiff import Page, RawTiff

__all__ = [
    "DATE",
    "SECRET",
    "ZooSlide",
    "encode",
    "image_tags",
    "jpeg",
    "label",
    "smaller",
    "srgb_profile",
    "strips",
    "tiled",
    "tissue",
]

SECRET = "SECRET"  # every planted text holds it
DATE = "2009-12-29T09:59:15"
CODES = {"jpeg": 7, "jpeg2000": 33005, "jpeg2000-ycbcr": 33003, "deflate": 8, "lzw": 5, "none": 1}


@dataclass
class ZooSlide:
    """A written slide and what a reader has to say about it."""

    path: Path
    vendor: str | None
    pixels: list[np.ndarray]  # of each level before coding, without padding
    is_lossless: bool
    facts: dict = field(default_factory=dict)
    associated: tuple[str, ...] = ()


def tissue(height: int, width: int, seed: int = 3) -> np.ndarray:
    """Return pink and purple blobs on glass, smooth enough for JPEG: uint8 (height, width, 3)."""
    rng = np.random.default_rng(seed)
    shape = (max(4, width // 24), max(4, height // 24))
    noise = rng.integers(0, 255, (shape[1], shape[0]), dtype=np.uint8)
    amount = np.asarray(Image.fromarray(noise).resize((width, height), Image.Resampling.BICUBIC)) / 255.0
    stain = np.clip(amount * 1.6 - 0.4, 0, 1)[..., None]
    pixels = 243 - stain * np.array([60.0, 150.0, 70.0]) - 20 * stain**2
    return np.clip(np.rint(pixels), 0, 255).astype(np.uint8)


@functools.cache
def srgb_profile() -> bytes:
    """Return an ICC profile, sRGB's, without the time it was made at."""
    code = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    return code[:24] + bytes(12) + code[36:]


def smaller(image: np.ndarray, factor: int) -> np.ndarray:
    """Return the image made smaller, sizes rounded down as scanners do it."""
    size = (max(1, image.shape[1] // factor), max(1, image.shape[0] // factor))
    return np.asarray(Image.fromarray(image).resize(size, Image.Resampling.BOX))


def jpeg(tile: np.ndarray, *, ycbcr: bool, quality: int = 90) -> bytes:
    """Encode one tile; grey where it has one channel."""
    if tile.ndim == 2:
        return bytes(imagecodecs.jpeg8_encode(tile, level=quality))
    return bytes(
        imagecodecs.jpeg8_encode(
            np.ascontiguousarray(tile), level=quality, colorspace="rgb",
            outcolorspace="ycbcr" if ycbcr else "rgb", subsampling="422" if ycbcr else "444",
        )
    )  # fmt: skip


def split_tables(code: bytes) -> tuple[bytes, bytes]:
    """Take quantisation and Huffman tables out of a JPEG, as TIFF's JPEGTables has them; returns (tables, rest)."""
    tables, rest, at = [], [], 2
    while code[at + 1] != 0xDA:
        length = int.from_bytes(code[at + 2 : at + 4], "big") + 2
        segment = code[at : at + length]
        if code[at + 1] in (0xDB, 0xC4):
            tables.append(segment)
        elif not 0xE0 <= code[at + 1] <= 0xEF:  # colours are TIFF's to say, not JFIF's or Adobe's
            rest.append(segment)
        at += length
    return b"\xff\xd8" + b"".join(tables) + b"\xff\xd9", b"\xff\xd8" + b"".join(rest) + code[at:]


def encode(tile: np.ndarray, how: str, *, ycbcr: bool = False) -> bytes:
    """Encode one tile or strip."""
    tile = np.ascontiguousarray(tile)
    if how == "jpeg":
        return jpeg(tile, ycbcr=ycbcr)
    if how.startswith("jpeg2000"):
        if how == "jpeg2000":
            return bytes(
                imagecodecs.jpeg2k_encode(tile, level=0, reversible=True, codecformat="j2k", mct=True)
            )
        plain = np.asarray(Image.fromarray(tile).convert("YCbCr"))
        return bytes(imagecodecs.jpeg2k_encode(plain, level=0, reversible=True, codecformat="j2k", mct=False))
    if how == "deflate":
        return bytes(imagecodecs.zlib_encode(tile.tobytes()))
    if how == "lzw":
        return bytes(imagecodecs.lzw_encode(tile.tobytes()))
    return tile.tobytes()


def tiled(
    out: RawTiff,
    image: np.ndarray,
    how: str,
    tile: int = 256,
    *,
    ycbcr: bool = False,
    share_tables: bool = True,
    overlap: int = 0,
    leave_out: tuple[int, ...] = (),
    **tags,
) -> Page:
    """Write an image in tiles; with ``overlap`` neighbours share that many pixels (the last tile is cropped)."""
    height, width = image.shape[:2]
    step = tile - overlap
    counts = [max(1, -(-(n - overlap) // step)) for n in (height, width)]
    pieces, tables = [], b""
    for row in range(counts[0]):
        for col in range(counts[1]):
            y, x = row * step, col * step
            piece = image[y : y + tile, x : x + tile]
            pad = [(0, tile - piece.shape[0]), (0, tile - piece.shape[1]), (0, 0)][: image.ndim]
            code = encode(np.pad(piece, pad, mode="edge"), how, ycbcr=ycbcr)
            if how == "jpeg" and share_tables:
                tables, code = split_tables(code)
            pieces.append((0, 0) if row * counts[1] + col in leave_out else out.data(code))
    stored = [n + (c - 1) * overlap for n, c in zip((height, width), counts, strict=True)]
    if tables:
        tags["JPEGTables"] = tables
    return Page(
        image_tags(image, how, ycbcr) | {"ImageLength": stored[0], "ImageWidth": stored[1], "TileWidth": tile, "TileLength": tile} | tags,
        pieces,
    )  # fmt: skip


def strips(out: RawTiff, image: np.ndarray, how: str, rows: int = 16, *, ycbcr: bool = False, **tags) -> Page:
    """Write an image in strips, as thumbnails, labels and macros are; JPEG tables stay in every strip."""
    pieces = [out.data(encode(image[y : y + rows], how, ycbcr=ycbcr)) for y in range(0, len(image), rows)]
    return Page(image_tags(image, how, ycbcr) | {"RowsPerStrip": rows} | tags, pieces)


def image_tags(image: np.ndarray, how: str, ycbcr: bool) -> dict:
    """Return the tags that every image has."""
    grey = image.ndim == 2
    tags = {
        "ImageWidth": image.shape[1], "ImageLength": image.shape[0], "BitsPerSample": [8] if grey else [8, 8, 8],
        "Compression": CODES[how], "PhotometricInterpretation": 1 if grey else 6 if ycbcr else 2,
        "SamplesPerPixel": 1 if grey else 3, "PlanarConfiguration": 1,
    }  # fmt: skip
    return tags | ({"YCbCrSubSampling": [2, 1]} if ycbcr else {})


def label(text: str = "label", size: tuple[int, int] = (96, 80)) -> np.ndarray:
    return tissue(*size, seed=len(text))
