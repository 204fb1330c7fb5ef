"""A PNG, JPEG, BMP or WebP image, decoded once and held in memory."""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image, UnidentifiedImageError

from napari_batchfx.errors import SlideError
from napari_batchfx.slides._codes import MAX_SCANS
from napari_batchfx.slides._file import SlideFile, short
from napari_batchfx.slides._layout import greyscale_text
from napari_batchfx.slides._rgb import onto_white
from napari_batchfx.slides._stored import StoredLevel
from napari_batchfx.slides.metadata import SlideMetadata

__all__ = ["PlainSource"]

Rgb = NDArray[np.uint8]
TILE = 512
FORMATS = ("PNG", "JPEG", "BMP", "WEBP")
#: Pillow holds 4 bytes a pixel and we 3: 110 MPix take 770 MB while the image is opened.
MAX_PIXELS = 110_000_000
#: A progressive JPEG also holds its coefficients, a WebP two more pictures; each scan is a pass over all.
MAX_HEAVY_PIXELS = 50_000_000
MAX_SCANNED_PIXELS = 600_000_000


class PlainSource:
    """A PNG, JPEG, BMP or WebP image held in memory; alpha is laid onto white.

    Raises
    ------
    SlideError
        If it is damaged, isn't 8-bit RGB, or is too large to be held in memory.
    """

    in_memory = True
    associated: tuple[str, ...] = ()

    def __init__(self, path: Path) -> None:
        name = path.name
        self.files: tuple[Path, ...] = (path,)
        # kept open for its identity alone
        self._file = SlideFile(path)
        try:
            pixels, icc = _decode(path, name)
        except BaseException:
            self._file.close()
            raise
        self._name = name
        self._pixels: Rgb | None = pixels
        height, width = pixels.shape[:2]
        self.levels: tuple[StoredLevel, ...] = (StoredLevel((height, width), (TILE, TILE)),)
        self.metadata = SlideMetadata(icc_profile=bytes(icc) if icc else None)

    def tiles(self, level: int, row: int, col: int) -> Iterator[tuple[tuple[int, int], Rgb]]:
        """Cut a tile out of the image."""
        pixels = self._pixels
        if pixels is None:
            raise SlideError(f"{self._name} is closed; open it again.")
        y, x = row * TILE, col * TILE
        yield (row, col), pixels[y : y + TILE, x : x + TILE]

    def associated_image(self, name: str) -> Rgb:
        """Say that there is none."""
        raise SlideError(f"{self._name}: there is no image called {name!r:.60} in it; there is: none.")

    def is_unchanged(self) -> bool:
        """Whether the path still leads to the file that was read, and nobody wrote to it."""
        return self._file.is_unchanged()

    def close(self) -> None:
        """Let go of the pixels."""
        self._pixels = None
        self._file.close()


def _decode(path: Path, name: str) -> tuple[Rgb, bytes | None]:
    with path.open("rb") as file:
        head = file.read(32)
    if head.startswith(b"\x89PNG") and len(head) > 25 and head[24] == 16:
        # Pillow would cut 16-bit PNGs to 8 bits without a word
        raise SlideError(f"{name}: its pixels are 16-bit; export it as 8-bit RGB and open that.")
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", Image.DecompressionBombWarning)
            with Image.open(path, formats=FORMATS) as image:
                _require_harmless(image, path)
                icc = image.info.get("icc_profile")
                return _plain_rgb(image, name), icc
    except Image.DecompressionBombError as error:
        raise SlideError(
            f"{name}: it is too large for a plain image; convert it to a pyramidal TIFF."
        ) from error
    except UnidentifiedImageError as error:
        raise SlideError(f"{name}: the image is damaged; copy or export it again.") from error
    except SlideError:
        raise
    except Exception as error:  # Pillow's plugins have their own exceptions (struct.error, IndexError)
        raise SlideError(
            f"{name}: the image is damaged or incomplete ({short(error)}); copy or export it again."
        ) from error


def _require_harmless(image: Image.Image, path: Path) -> None:
    """Refuse by the header what would take more than a gigabyte or many seconds; nothing is decoded yet."""
    n_pixels = image.width * image.height
    progressive = bool(image.info.get("progressive"))
    if n_pixels > (MAX_HEAVY_PIXELS if progressive or image.format == "WEBP" else MAX_PIXELS):
        raise SlideError(
            f"{path.name}: it is too large for a plain image ({image.width:,} x {image.height:,} px); "
            "convert it to a pyramidal TIFF."
        )
    if progressive:
        data = path.read_bytes()
        n_scans = data.count(b"\xff\xda")
        if n_scans > MAX_SCANS or n_scans * n_pixels > MAX_SCANNED_PIXELS:
            raise SlideError(
                f"{path.name}: it is a JPEG in {n_scans:,} scans, which takes too long to read; save it as a "
                "plain JPEG or a pyramidal TIFF."
            )


def _plain_rgb(image: Image.Image, name: str) -> Rgb:
    mode = image.mode
    if mode in {"P", "PA"} and "transparency" in image.info:
        image = image.convert("RGBA")
    elif mode == "P":
        image = image.convert("RGB")
    elif mode in {"L", "1", "LA"}:
        raise SlideError(greyscale_text(name))
    elif mode.startswith("I") or mode == "F":
        raise SlideError(f"{name}: its pixels are 16-bit or more; export it as 8-bit RGB and open that.")
    elif mode not in {"RGB", "RGBA"}:
        raise SlideError(f"{name}: its colours are stored as {mode}; export it as 8-bit RGB and open that.")
    image.load()
    pixels = np.empty((image.height, image.width, 3), np.uint8)
    # in bands: the whole as RGBA and on white would take four times the memory
    for y in range(0, image.height, TILE):
        band = np.asarray(image.crop((0, y, image.width, min(y + TILE, image.height))))
        pixels[y : y + TILE] = onto_white(band, associated=False) if band.shape[-1] == 4 else band
    pixels.setflags(write=False)
    return pixels
