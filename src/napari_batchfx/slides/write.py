"""Write pyramidal TIFF slides from an array or a stream of tiles; memory holds a few rows of tiles."""

from __future__ import annotations

import itertools
import os
import tempfile
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from fractions import Fraction
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
from numpy.typing import NDArray

from napari_batchfx.errors import SlideError
from napari_batchfx.slides._tifffile import open_writer
from napari_batchfx.slides.descriptions import page_description
from napari_batchfx.slides.halving import box_half
from napari_batchfx.slides.levels import COARSEST_PIXELS

__all__ = ["resolution_ratio", "write_pyramid"]

Rgb = NDArray[np.uint8]
_COMPRESSIONS = {"jpeg": 7, "jpeg2000": 34712, "deflate": 8, "lzw": 5, "none": 1}
_FLAVOURS = ("generic", "ome", "svs")


def write_pyramid(
    path: str | Path,
    source: Any,
    mpp: float | tuple[float, float] | None,
    *,
    shape: tuple[int, int] | None = None,
    tile: int = 256,
    levels: str | int | Sequence[int] = "auto",
    compression: str = "jpeg",
    quality: int = 90,
    jpeg_colour: str = "ycbcr",
    flavour: str = "generic",
    vendor: str | None = None,
    scanner: str | None = None,
    scanner_serial: str | None = None,
    objective_power: float | None = None,
    icc_profile: bytes | None = None,
    description: str = "",
    notes: Mapping[str, str] | None = None,
    on_tiles: Callable[[int, int], None] | None = None,
) -> Path:
    """Write a tiled, pyramidal TIFF.

    Each level is the 2x2 box mean of the level before (odd sizes rounded up). Tiles are compressed as they
    come; the smaller levels wait, compressed, in a temporary file. Memory holds about two rows of tiles a
    level.

    Parameters
    ----------
    path : path
        File to write; it appears when it is complete.
    source : array (h, w, 3) uint8, or iterable of arrays
        The image (anything that can be sliced by rows), or its tiles row by row, each (tile, tile, 3) or
        cropped at the right and lower edge.
    mpp : float, (float, float) or None
        Micrometres a pixel, (y, x); None writes no pixel size.
    shape : (int, int), optional
        Height and width; needed where ``source`` is an iterable of tiles.
    tile : int
        Tile edge in pixels, a multiple of 16.
    levels : "auto", int or sequence of int
        "auto": until a level has at most 1 MPix. A number: that many. A sequence: the downsamples, powers of
        2, 1 first.
    compression : {"jpeg", "jpeg2000", "deflate", "lzw", "none"}
        The last three are lossless.
    quality : int
        JPEG quality 1-100; for JPEG 2000 the PSNR in dB.
    jpeg_colour : {"ycbcr", "rgb"}
        YCbCr 4:2:2, as most scanners write, or RGB.
    flavour : {"generic", "ome", "svs"}
        Pages with TIFF resolution; OME-TIFF with sub-IFDs; Aperio-like descriptions.
    vendor, scanner, scanner_serial, objective_power : optional
        Written where the flavour has a place for them ("ome": all; "svs": all but the vendor).
    icc_profile : bytes, optional
        Colour profile to embed.
    description : str
        Free text ("generic" and "ome").
    notes : mapping of str to str, optional
        What else to keep about the image, as OME's key-value pairs ("ome" only).
    on_tiles : callable, optional
        Called with (tiles written, tiles in all), of all levels; what it raises stops the writing, and no
        file is left.

    Returns
    -------
    Path
        The file.

    Raises
    ------
    SlideError
        If an argument makes no sense or the tiles don't add up to the shape.

    Examples
    --------
    >>> import numpy as np, tempfile, pathlib
    >>> path = pathlib.Path(tempfile.mkdtemp()) / "b.svs"
    >>> _ = write_pyramid(path, np.full((64, 64, 3), 220, np.uint8), 0.25, flavour="svs", scanner="S1")
    """
    path = Path(path)
    if flavour not in _FLAVOURS or compression not in _COMPRESSIONS:
        raise SlideError(
            f"{path.name}: can't write flavour {flavour!r} with compression {compression!r}; flavours are "
            f"{', '.join(_FLAVOURS)}, compressions {', '.join(_COMPRESSIONS)}."
        )
    if tile < 16 or tile % 16:
        raise SlideError(f"{path.name}: the tile size must be a multiple of 16, got {tile}.")
    size = _shape(source, shape, path.name)
    factors = _factors(levels, size, path.name)
    mpp_yx = (
        None
        if mpp is None
        else (float(mpp), float(mpp))
        if isinstance(mpp, (int, float))
        else (float(mpp[0]), float(mpp[1]))
    )
    facts = {"vendor": vendor, "scanner": scanner, "serial": scanner_serial, "power": objective_power}
    options: dict[str, Any] = {
        "dtype": np.uint8,
        "tile": (tile, tile),
        "compression": _COMPRESSIONS[compression],
        "photometric": "rgb",
        "metadata": None,
        "software": "napari-batchfx",
    }
    if compression == "jpeg" and jpeg_colour == "ycbcr":
        options |= {"photometric": "ycbcr", "subsampling": (2, 1)}
    if icc_profile:
        options["iccprofile"] = icc_profile
    encode = _encoder(compression, quality, jpeg_colour)
    partial = path.with_name(f".{path.name}.{os.getpid()}.part")
    big = size[0] * size[1] * 3 > 2**31
    told = _Told(size, tile, factors, on_tiles)
    try:
        with (
            tempfile.TemporaryDirectory(prefix="batchfx-") as folder,
            ThreadPoolExecutor(max(1, (os.cpu_count() or 2) - 1)) as pool,
            open_writer(partial, bigtiff=big, ome=False) as writer,
        ):
            chain = _Chain(size, tile, factors, encode, pool, Path(folder))
            for index, factor in enumerate(factors):
                shape_k = (-(-size[0] // factor), -(-size[1] // factor))
                extra = dict(options)
                if mpp_yx is not None and flavour != "svs":
                    extra |= {
                        "resolution": (
                            resolution_ratio(mpp_yx[1] * factor),
                            resolution_ratio(mpp_yx[0] * factor),
                        ),
                        "resolutionunit": 3,
                    }
                if index and flavour != "svs":
                    extra["subfiletype"] = 1
                if index == 0 and flavour == "ome" and len(factors) > 1:
                    extra["subifds"] = len(factors) - 1
                text = page_description(
                    flavour, size, shape_k, tile, quality, mpp_yx, facts, description, index, notes
                )
                data = (
                    chain.first(_bands(source, size, tile, path.name))
                    if index == 0
                    else chain.spooled(factor)
                )
                writer.write(told.each(data), shape=(*shape_k, 3), description=text.encode() or None, **extra)
                if index == 0:
                    chain.finish()
            chain.close()
        partial.replace(path)
    finally:
        partial.unlink(missing_ok=True)
    return path


def resolution_ratio(mpp: float) -> tuple[int, int]:
    """Return pixels a centimetre as TIFF's ratio of 32-bit numbers; older tifffile rounds floats to 1e-6."""
    pixels = 1e4 / mpp
    ratio = Fraction(pixels).limit_denominator(max(1, min(2**16, int(2**32 / pixels) - 1)))
    return ratio.numerator, ratio.denominator


def _shape(source: Any, shape: tuple[int, int] | None, name: str) -> tuple[int, int]:
    found = getattr(source, "shape", None)
    if found is None:
        if shape is None:
            raise SlideError(f"{name}: give shape=(height, width) with a stream of tiles.")
        found = (*shape, 3)
    elif len(found) != 3 or found[2] != 3 or source.dtype != np.uint8:
        raise SlideError(
            f"{name}: a slide is written from uint8 (height, width, 3), got {source.dtype} {tuple(found)}."
        )
    if min(found) < 1:
        raise SlideError(f"{name}: the image is empty.")
    return (int(found[0]), int(found[1]))


def _factors(levels: str | int | Sequence[int], size: tuple[int, int], name: str) -> list[int]:
    if isinstance(levels, int):
        return [2**k for k in range(max(1, levels))]
    if not isinstance(levels, str):
        factors = [int(f) for f in levels]
        if (
            factors[:1] != [1]
            or any(b <= a for a, b in itertools.pairwise(factors))
            or any(f & (f - 1) for f in factors)
        ):
            raise SlideError(
                f"{name}: levels are downsamples that grow by powers of 2 from 1, got {factors}."
            )
        return factors
    factors = [1]
    while -(-size[0] // factors[-1]) * -(-size[1] // factors[-1]) > COARSEST_PIXELS:
        factors.append(factors[-1] * 2)
    return factors


def _encoder(compression: str, quality: int, jpeg_colour: str) -> Callable[[Rgb], bytes]:
    import imagecodecs

    def encode(tile: Rgb) -> bytes:
        if compression == "jpeg":
            code = imagecodecs.jpeg8_encode(
                tile,
                level=quality,
                colorspace="rgb",
                outcolorspace=jpeg_colour,
                subsampling="422" if jpeg_colour == "ycbcr" else "444",
            )
            return bytes(code)
        if compression == "jpeg2000":
            return bytes(imagecodecs.jpeg2k_encode(tile, level=quality, codecformat="j2k", mct=True))
        if compression == "deflate":
            return bytes(imagecodecs.zlib_encode(tile.tobytes(), level=6))
        if compression == "lzw":
            return bytes(imagecodecs.lzw_encode(tile.tobytes()))
        return tile.tobytes()

    return encode


def _bands(source: Any, size: tuple[int, int], tile: int, name: str) -> Iterator[Rgb]:
    """Yield the image in bands of ``tile`` rows."""
    height, width = size
    if hasattr(source, "shape"):
        for y in range(0, height, tile):
            yield np.asarray(source[y : y + tile], dtype=np.uint8)
        return
    stream: Iterable[Rgb] = source
    tiles = iter(stream)
    for y in range(0, height, tile):
        band = np.empty((min(tile, height - y), width, 3), np.uint8)
        for x in range(0, width, tile):
            target = band[:, x : x + tile]
            piece = next(tiles, None)
            if piece is None or piece.shape[0] < target.shape[0] or piece.shape[1] < target.shape[1]:
                raise SlideError(
                    f"{name}: the tiles don't fill {height} x {width} px; they stop or are too small at row "
                    f"{y}, column {x}."
                )
            target[:] = piece[: target.shape[0], : target.shape[1]]
        yield band


class _Chain:
    """The levels while they are written: bands are halved into the next level, coded tiles wait in files."""

    def __init__(
        self,
        size: tuple[int, int],
        tile: int,
        factors: Sequence[int],
        encode: Callable[[Rgb], bytes],
        pool: ThreadPoolExecutor,
        folder: Path,
    ) -> None:
        self._tile = tile
        self._encode = encode
        self._pool = pool
        self._last = factors[-1]
        self._pending: dict[int, list[Rgb]] = {}
        self._files: dict[int, BinaryIO] = {f: (folder / str(f)).open("w+b") for f in factors[1:]}
        self._lengths: dict[int, list[int]] = {f: [] for f in factors[1:]}

    def first(self, bands: Iterable[Rgb]) -> Iterator[bytes]:
        """Yield the coded tiles of level 0; the other levels fill on the way."""
        for band in bands:
            # before the tiles are handed out: the writer never comes back after the last one
            self._add(2, band)
            yield from self._coded(band)

    def spooled(self, factor: int) -> Iterator[bytes]:
        """Yield the coded tiles of a smaller level."""
        file = self._files[factor]
        file.seek(0)
        for length in self._lengths[factor]:
            yield file.read(length)

    def close(self) -> None:
        for file in self._files.values():
            file.close()

    def _coded(self, band: Rgb) -> Iterator[bytes]:
        tile = self._tile
        pieces = [_full(band[:, x : x + tile], tile) for x in range(0, band.shape[1], tile)]
        return self._pool.map(self._encode, pieces)

    def _add(self, factor: int, band: Rgb) -> None:
        if factor > self._last:
            return
        waiting = self._pending.setdefault(factor, [])
        waiting.append(box_half(band))
        if sum(len(part) for part in waiting) >= self._tile:
            self._emit(factor)

    def _emit(self, factor: int) -> None:
        waiting = self._pending.pop(factor, [])
        if not waiting:
            return
        band = np.concatenate(waiting)
        if factor in self._files:
            for code in self._coded(band):
                self._files[factor].write(code)
                self._lengths[factor].append(len(code))
        self._add(factor * 2, band)

    def finish(self) -> None:
        """Write what waits for more rows: level 0 is complete."""
        factor = 2
        while factor <= self._last:
            self._emit(factor)
            factor *= 2


class _Told:
    """Counts tiles as they are written, and tells."""

    def __init__(
        self,
        size: tuple[int, int],
        tile: int,
        factors: Sequence[int],
        tell: Callable[[int, int], None] | None,
    ) -> None:
        self._tell = tell
        self._done = 0
        self._total = sum(-(-size[0] // (f * tile)) * -(-size[1] // (f * tile)) for f in factors)

    def each(self, codes: Iterable[bytes]) -> Iterator[bytes]:
        for code in codes:
            self._done += 1
            if self._tell is not None:
                self._tell(self._done, self._total)
            yield code


def _full(piece: Rgb, tile: int) -> Rgb:
    """Fill a tile at the edge by repeating its last pixels, which JPEG keeps sharp."""
    pad = (tile - piece.shape[0], tile - piece.shape[1])
    if any(pad):
        piece = np.pad(piece, ((0, pad[0]), (0, pad[1]), (0, 0)), mode="edge")
    return np.ascontiguousarray(piece)
