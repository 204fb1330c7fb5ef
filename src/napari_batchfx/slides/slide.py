"""A whole-slide image: levels, pixel size, who scanned it, and thread-safe reads of any region."""

from __future__ import annotations

from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from napari_batchfx.errors import SlideError
from napari_batchfx.slides._info import slide_info
from napari_batchfx.slides._pixels import Pixels
from napari_batchfx.slides._sources import Source
from napari_batchfx.slides._watch import FileWatch
from napari_batchfx.slides.colour import ICC_MODES, ToSrgb, profile_name, to_srgb
from napari_batchfx.slides.damage import Damage, DamageLog
from napari_batchfx.slides.fingerprint import fingerprint
from napari_batchfx.slides.levels import Level, levels_to_prepare, plan_levels
from napari_batchfx.slides.metadata import given_mpp
from napari_batchfx.slides.prepared import prepared_store

if TYPE_CHECKING:
    import dask.array as da

__all__ = ["Slide", "slide_name"]

Rgb = NDArray[np.uint8]


def slide_name(path: Path) -> str:
    """Return the file name without its suffix (``OS-2.ome.tif`` -> ``OS-2``)."""
    name = path.name
    for suffix in (".ome.tiff", ".ome.tif", ".ome.zarr"):
        if name.lower().endswith(suffix):
            return name[: -len(suffix)] or name
    return name if path.is_dir() and path.suffix.lower() != ".zarr" else path.stem or name


class Slide:
    """An open slide. Made by :func:`napari_batchfx.open_slide`.

    Lengths are micrometres from the outer top-left corner of the first pixel, order (y, x).

    Attributes
    ----------
    path, name : Path, str
        Where it lies; file name without suffix.
    shape : (int, int)
        Height and width of level 0 in pixels.
    levels : tuple of Level
        Full size first; missing 2x levels and a coarsest one under 1 MPix are made when read.
    mpp : (float, float) or None
        Micrometres a pixel of level 0, (y, x).
    mpp_source : str
        "file", "tiff resolution", "given", "objective power (estimate)" or "unknown".
    vendor, scanner, scanner_serial : str or None
        From the file.
    objective_power : float or None
        From the file.
    modality : str
        "brightfield" or "fluorescence".
    scan_date : str or None
        ISO 8601, "2009-12-29T09:59:15" or the date alone.
    associated : tuple of str
        Names of the label, macro and thumbnail images; read only by :meth:`associated_image`.
    icc_profile : bytes or None
        Colour profile as stored.
    icc_name : str or None
        The profile's own description; None where the file has none.
    icc_note : str
        Why "auto" reads the pixels as stored although there is a profile; else empty.
    fingerprint : str
        32 hex digits of the content.

    Examples
    --------
    >>> import numpy as np
    >>> from napari_batchfx.slides import open_slide, write_pyramid
    >>> _ = write_pyramid("a.tif", np.full((300, 400, 3), 200, np.uint8), mpp=0.5, compression="deflate")
    >>> with open_slide("a.tif") as slide:
    ...     slide.shape, slide.extent_um, slide.read(0, y=10, x=20, h=32, w=32).shape
    ((300, 400), (150.0, 200.0), (32, 32, 3))
    """

    def __init__(self, path: Path, source: Source, icc: str = "off") -> None:
        self.path = path
        self.name = slide_name(path)
        self._source = source
        self._is_closed = False
        self._watch = FileWatch(path, source)
        self._damage = DamageLog()
        self.lost_share: float = getattr(source, "lost_share", 0.0)
        self.levels: tuple[Level, ...] = plan_levels(source.levels)
        self.shape: tuple[int, int] = self.levels[0].shape
        meta = source.metadata
        self.mpp: tuple[float, float] | None = meta.mpp
        self.mpp_source: str = meta.mpp_source
        self._own_mpp = (meta.mpp, meta.mpp_source)
        self.vendor = meta.vendor
        self.scanner = meta.scanner
        self.scanner_serial = meta.scanner_serial
        self.objective_power = meta.objective_power
        self.modality = meta.modality
        self.scan_date = meta.scan_date
        self.associated: tuple[str, ...] = tuple(getattr(source, "associated", ()))
        self.icc_profile = meta.icc_profile
        self.icc_name = None if meta.icc_profile is None else profile_name(meta.icc_profile)
        self.fingerprint: str = getattr(source, "fingerprint", None) or fingerprint(path)
        self._icc = "off"
        self.icc_note = ""
        self._pixels = self._pixels_in(None)
        if icc != "off":
            self.with_icc(icc)

    def _pixels_in(self, colour: ToSrgb | None) -> Pixels:
        store = prepared_store(self, "" if colour is None else colour.key, self._damage)
        return Pixels(self._source, self.levels, colour, self._damage, store)

    @property
    def extent_um(self) -> tuple[float, float]:
        """Height and width in micrometres.

        Raises
        ------
        SlideError
            If the pixel size isn't known.
        """
        if self.mpp is None:
            raise SlideError(
                f"{self.path.name}: no pixel size in the file; give mpp=... (micrometres a pixel)."
            )
        return (self.shape[0] * self.mpp[0], self.shape[1] * self.mpp[1])

    def level_mpp(self, level: int) -> tuple[float, float]:
        """Return micrometres a pixel of a level, (y, x); SlideError if the slide has no pixel size."""
        self.extent_um  # noqa: B018 - says so where there is no pixel size
        assert self.mpp is not None
        dy, dx = self.levels[self._index(level)].downsample
        return (self.mpp[0] * dy, self.mpp[1] * dx)

    def with_mpp(self, mpp: float | tuple[float, float]) -> None:
        """Set the pixel size, in micrometres, one number or (y, x).

        Raises
        ------
        SlideError
            If it is no size a slide can have (0.05 to 20 um).
        """
        found = given_mpp(self.path.name, mpp)
        # Where it is from first: whoever sees the new size meanwhile sees that it was given.
        self.mpp_source = "given"
        self.mpp = found

    @property
    def own_mpp(self) -> tuple[float, float] | None:
        """Pixel size that the file states or its objective suggests, whatever was given since."""
        return self._own_mpp[0]

    def with_own_mpp(self) -> None:
        """Go back to the pixel size of the file or its objective; SlideError where there is none."""
        mpp, source = self._own_mpp
        if mpp is None:
            raise SlideError(f"{self.path.name}: the file states no pixel size; give micrometres a pixel.")
        self.mpp_source = source
        self.mpp = mpp

    @property
    def icc(self) -> str:
        """Which colours are read: "off" as stored, "auto" as the file says, "on" sRGB."""
        return self._icc

    @property
    def colour_key(self) -> str:
        """Names the colours that are read, for stores: "" as stored, else "srgb-" and the profile's hash."""
        colour = self._pixels.colour
        return "" if colour is None else colour.key

    def with_icc(self, mode: str) -> None:
        """Choose the colours that are read; pyramids made before show the new ones.

        Parameters
        ----------
        mode : {"off", "auto", "on"}
            Pixels as stored; converted to sRGB where the file has a usable colour profile; converted, or an
            error.

        Raises
        ------
        SlideError
            If there is no such mode, or for "on" if the file has no profile or a damaged one.
        """
        if mode not in ICC_MODES:
            raise SlideError(
                f"{self.path.name}: colours can be {', '.join(ICC_MODES)}, there is no {mode!r:.40}."
            )
        colour, note = None, ""
        if mode != "off" and self.icc_profile is not None:
            try:
                colour = to_srgb(self.icc_profile)
            except SlideError as error:
                note = str(error)
        if mode == "on" and colour is None:
            raise SlideError(
                f"{self.path.name}: {note or 'it has no colour profile'}; its colours can't be converted, "
                "use them as stored."
            )
        self._icc = mode
        self.icc_note = f"{note}; pixels as stored" if note else ""
        if (colour and colour.key) != (self.colour_key or None):
            before, self._pixels = self._pixels, self._pixels_in(colour)
            before.retire()
        if self._is_closed:
            self._pixels.retire()

    @property
    def damage(self) -> tuple[Damage, ...]:
        """Tiles found damaged so far, each once; they show as flat grey (191, 191, 191)."""
        return self._damage.found

    def damaged_in(self, level: int, y: int, x: int, h: int, w: int) -> bool:
        """Whether a region touches a tile that was found damaged; known once it was read.

        Parameters are those of :meth:`read`; regions of made levels count as damaged where the stored tiles
        that they are made from are.
        """
        index = self._index(level)
        height, width = self.levels[index].shape
        y0, y1 = (min(max(v, 0), height - 1) for v in (y, y + h - 1))
        x0, x1 = (min(max(v, 0), width - 1) for v in (x, x + w - 1))
        return h > 0 and w > 0 and self._pixels.is_damaged(index, y0, x0, y1 - y0 + 1, x1 - x0 + 1)

    @property
    def needs_pyramid(self) -> bool:
        """Whether far-out views decode much more than they show: the file's small levels are missing."""
        return not self._source.in_memory and bool(levels_to_prepare(self.levels))

    @property
    def is_prepared(self) -> bool:
        """Whether the missing levels lie ready on disk (see ``prepare_pyramid_job``), or none is needed."""
        return self._pixels.store is None or self._pixels.store.is_complete

    def associated_image(self, name: str) -> Rgb:
        """Read a label, macro or thumbnail image by its name, uint8 (h, w, 3).

        Label and macro images can show a patient's name: nothing here reads them unless asked for by name.

        Raises
        ------
        SlideError
            If the slide has no such image, is closed, or the image is damaged.
        """
        self._require_open()
        if name not in self.associated:
            has = ", ".join(self.associated) or "none"
            raise SlideError(f"{self.path.name}: has no image called {name!r:.40}; it has {has}.")
        image: Rgb = self._source.associated_image(name)
        return image

    def private(self) -> dict[str, str]:
        """Return what could name a patient or a person (barcode, user, ...); never part of :meth:`info`."""
        return dict(self._source.metadata.private)

    def read(self, level: int, y: int, x: int, h: int, w: int) -> Rgb:
        """Read a region of a level; safe to call from many threads.

        Parameters
        ----------
        level : int
            Index into ``levels``; negative counts from the coarsest.
        y, x : int
            Top left corner in that level's pixels; may lie outside.
        h, w : int
            Height and width in that level's pixels.

        Returns
        -------
        ndarray of uint8, (h, w, 3)
            RGB; outside of the image its nearest edge pixel is repeated; damaged tiles are flat grey
            (:data:`MISSING_RGB`) and noted in :attr:`damage`. The array is the caller's own.

        Raises
        ------
        SlideError
            If the slide is closed or has no such level, or if its file vanished or was changed meanwhile.

        Examples
        --------
        >>> import napari_batchfx, numpy as np, tempfile, pathlib
        >>> from napari_batchfx.slides import write_pyramid
        >>> path = pathlib.Path(tempfile.mkdtemp()) / "a.tif"
        >>> _ = write_pyramid(path, np.full((300, 400, 3), 200, np.uint8), 0.5, compression="deflate")
        >>> with napari_batchfx.open_slide(path) as slide:
        ...     slide.read(0, -10, 390, 20, 20).shape
        (20, 20, 3)
        """
        return self._read(level, y, x, h, w)

    def _read(self, level: int, y: int, x: int, h: int, w: int, *, quickly: bool = False) -> Rgb:
        if h < 0 or w < 0:
            raise ValueError(f"height and width can't be negative, got {h} and {w}")
        index = self._index(level)
        y, x, h, w = int(y), int(x), int(h), int(w)
        height, width = self.levels[index].shape
        if h == 0 or w == 0:
            return np.empty((h, w, 3), np.uint8)
        if y >= 0 and x >= 0 and y + h <= height and x + w <= width:
            return self._inside(index, y, x, h, w, quickly)
        rows = np.clip(np.arange(y, y + h), 0, height - 1)
        cols = np.clip(np.arange(x, x + w), 0, width - 1)
        y0, x0 = int(rows[0]), int(cols[0])
        region = self._inside(index, y0, x0, int(rows[-1]) - y0 + 1, int(cols[-1]) - x0 + 1, quickly)
        return region[rows - y0][:, cols - x0]

    def read_once(self, level: int, y: int, x: int, h: int, w: int, out: Rgb | None = None) -> Rgb:
        """As :meth:`read`, for pixels that won't be asked for again: a whole tile of the file isn't kept.

        The array may be read-only, or ``out`` itself, uint8 (h, w, 3), where that is quicker.
        """
        self._require_open()
        self._watch.check()
        tile = self._pixels.once(self._index(level), y, x, h, w, out) if y >= 0 and x >= 0 else None
        return self._read(level, y, x, h, w) if tile is None else tile

    def _index(self, level: int) -> int:
        n = len(self.levels)
        if not -n <= level < n:
            raise SlideError(f"{self.path.name}: has levels 0 to {n - 1}, there is no level {level}.")
        return level % n

    def _inside(self, level: int, y: int, x: int, h: int, w: int, quickly: bool) -> Rgb:
        self._require_open()
        self._watch.check()
        return self._pixels.read(level, y, x, h, w, quickly=quickly)

    def pyramid(self, *, pending: str = "wait") -> list[da.Array]:
        """Return one lazy dask array a level, uint8 (h, w, 3), in chunks of 1024 px and a little more.

        Chunks are whole tiles of the file; names are unique to this open slide, so no cache mixes slides up.

        Parameters
        ----------
        pending : {"wait", "blank"}
            What a chunk does that isn't prepared yet and would decode more than about 16 MPix: decode them,
            or come at once, pale grey (235, 235, 235) where nothing is prepared. Ask again later for its
            pixels.
        """
        if pending not in {"wait", "blank"}:
            raise ValueError(f'pending is "wait" or "blank", not {pending!r}')
        from napari_batchfx.slides._pyramid import lazy_levels

        self._require_open()
        return lazy_levels(self, quickly=pending == "blank")

    def thumbnail(self, max_px: int = 1024) -> Rgb:
        """Return the whole slide at no more than ``max_px`` on its longer side, uint8 (h, w, 3)."""
        from napari_batchfx.slides._thumbnail import thumbnail

        return thumbnail(self, max_px)

    def info(self) -> dict[str, Any]:
        """Return plain values for a table: what the file says, nothing that could name a patient."""
        return slide_info(self)

    @property
    def is_closed(self) -> bool:
        """Whether :meth:`close` was called."""
        return self._is_closed

    @property
    def _token(self) -> int:
        return self._pixels.token

    def _require_open(self) -> None:
        if self._is_closed:
            raise SlideError(f"{self.path.name} is closed; open it again.")

    def close(self) -> None:
        """Close the file and let go of its decoded tiles; a second call does nothing."""
        if not self._is_closed:
            self._is_closed = True
            self._source.close()
            self._pixels.retire()

    def __enter__(self) -> Slide:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def __repr__(self) -> str:
        mpp = "unknown mpp" if self.mpp is None else f"{self.mpp[0]:.4g} x {self.mpp[1]:.4g} µm"
        return f"<Slide {self.name}: {self.shape[0]} x {self.shape[1]} px, {mpp}, {len(self.levels)} levels>"
