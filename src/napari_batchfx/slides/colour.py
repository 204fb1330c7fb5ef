"""Colour profiles: from a scanner's own colours to sRGB, exactly as LittleCMS does it, and fast."""

from __future__ import annotations

import hashlib
import io
import threading
from collections.abc import Callable
from functools import lru_cache
from typing import Any
from weakref import WeakValueDictionary

import numpy as np
from numpy.typing import NDArray

from napari_batchfx.errors import SlideError

__all__ = ["ICC_MODES", "ToSrgb", "profile_name", "to_srgb"]

Rgb = NDArray[np.uint8]
#: Pixels as stored; to sRGB where the file has a profile; to sRGB or an error.
ICC_MODES = ("off", "auto", "on")
MAX_PROFILE = 32 * 2**20
# LittleCMS remembers the last colour in the transform unless told not to; threads would share that memory
NO_CACHE = 0x0040

_shared: WeakValueDictionary[str, ToSrgb] = WeakValueDictionary()
_shared_lock = threading.Lock()


class ToSrgb:
    """The transform of one profile to sRGB; made by :func:`to_srgb`, shared by all slides with that profile.

    Relative colorimetric, without black point compensation. LittleCMS answers once for every one of the 2^24
    colours (about 0.3 s, at the first pixel); after that a pixel costs one look into a table of 64 MiB, which
    goes when the last slide with this profile does. Any profile is therefore as exact as LittleCMS itself.

    Attributes
    ----------
    key : str
        "srgb-" and 8 hex digits of the profile's content.
    name : str
        The profile's own description.
    """

    def __init__(self, profile: bytes, key: str) -> None:
        from PIL import ImageCms

        self.key = key
        source = _open(profile)
        if source.profile.xcolor_space.strip() != "RGB":
            raise SlideError(
                f"the colour profile is for {source.profile.xcolor_space.strip()} pixels, not RGB"
            )
        self.name = _description(source)
        try:
            self._transform = ImageCms.buildTransform(
                source,
                ImageCms.createProfile("sRGB"),
                "RGB",
                "RGB",
                renderingIntent=ImageCms.Intent.RELATIVE_COLORIMETRIC,
                flags=ImageCms.Flags(NO_CACHE),
            )
        except (ImageCms.PyCMSError, OSError, ValueError) as error:
            raise SlideError("the colour profile is damaged or incomplete") from error
        self._table: NDArray[np.uint32] | None = None
        self._lock = threading.Lock()

    def __call__(self, rgb: Rgb) -> Rgb:
        """Return the sRGB colours of an image, uint8 (h, w, 3); safe to call from many threads."""
        table = self._table
        if table is None:
            table = self._make_table()
        pixels = np.ascontiguousarray(rgb)
        out = np.empty_like(pixels)
        _kernel()(pixels.reshape(-1, 3), out.reshape(-1, 3), table, *_places())
        return out

    def _make_table(self) -> NDArray[np.uint32]:
        from PIL import Image, ImageCms

        with self._lock:
            if self._table is None:
                red_at, green_at, blue_at = _places()
                table = np.empty(2**24, np.uint32)
                grid = np.empty((256, 256, 3), np.uint8)
                grid[..., 1] = np.arange(256)[:, None]
                grid[..., 2] = np.arange(256)
                for red in range(256):
                    grid[..., 0] = red
                    image = ImageCms.applyTransform(Image.fromarray(grid), self._transform)
                    made = np.asarray(image).astype(np.uint32)
                    table[red_at[red] | green_at[:, None] | blue_at] = (
                        made[..., 0] | made[..., 1] << 8 | made[..., 2] << 16
                    )
                self._table = table
            return self._table


@lru_cache(maxsize=1)
def _places() -> tuple[NDArray[np.uint32], ...]:
    """Where a red, green and blue value lie in the table: bits interleaved, so that like colours lie close.

    A slide's colours then fit the processor's caches far better than in rows of red.
    """
    values = np.arange(256, dtype=np.uint32)
    bits = [(values >> bit & 1) << 3 * bit for bit in range(8)]
    spread = np.bitwise_or.reduce(bits).astype(np.uint32)
    return spread << 2, spread << 1, spread


def to_srgb(profile: bytes) -> ToSrgb:
    """Return the transform of an ICC profile to sRGB.

    Parameters
    ----------
    profile : bytes
        As stored in the file.

    Raises
    ------
    SlideError
        If it is damaged or isn't for RGB pixels. The sentence lacks the file's name, the caller knows it.

    Notes
    -----
    Relative colorimetric keeps what the scanner measured and maps its white to white. Black point
    compensation would stretch each scanner's darks by its own factor, one more difference between scanners;
    OpenSlide's viewer does without it too. For profiles of three curves and a matrix it changes nothing.

    Examples
    --------
    >>> from PIL import ImageCms
    >>> profile = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    >>> to_srgb(profile)(np.full((1, 1, 3), 200, np.uint8)).tolist()
    [[[200, 200, 200]]]
    """
    digest = hashlib.blake2b(profile, digest_size=16).hexdigest()
    with _shared_lock:
        found = _shared.get(digest)
        if found is None:
            found = _shared[digest] = ToSrgb(profile, f"srgb-{digest[:8]}")
        return found


def profile_name(profile: bytes) -> str:
    """Return a profile's own description ("Aperio ScanScope CS2"), or words that say it has none."""
    try:
        return _description(_open(profile))
    except SlideError:
        return "damaged profile"


def _open(profile: bytes) -> Any:
    from PIL import ImageCms

    if len(profile) > MAX_PROFILE:
        raise SlideError("the colour profile is damaged, it is far too large")
    try:
        return ImageCms.ImageCmsProfile(io.BytesIO(profile))
    except (ImageCms.PyCMSError, OSError, ValueError, TypeError) as error:
        raise SlideError("the colour profile is damaged") from error


def _description(profile: Any) -> str:
    text = profile.profile.profile_description or profile.profile.model or ""
    return " ".join(str(text).replace("\0", " ").split())[:200] or "profile without a name"


@lru_cache(maxsize=1)
def _kernel() -> Callable[..., None]:
    from numba import njit, types

    # decoded tiles may be read-only; one compiled kernel serves both kinds
    flat, places = types.Array(types.uint8, 2, "C", readonly=True), types.uint32[::1]
    signature = types.void(flat, types.uint8[:, ::1], places, places, places, places)

    @njit([signature], nogil=True, cache=True)  # type: ignore[untyped-decorator]
    def look_up(pixels: Any, out: Any, table: Any, red_at: Any, green_at: Any, blue_at: Any) -> None:
        for k in range(pixels.shape[0]):
            colour = table[red_at[pixels[k, 0]] | green_at[pixels[k, 1]] | blue_at[pixels[k, 2]]]
            out[k, 0] = np.uint8(colour & 255)
            out[k, 1] = np.uint8(colour >> 8 & 255)
            out[k, 2] = np.uint8(colour >> 16 & 255)

    return look_up  # type: ignore[no-any-return]
