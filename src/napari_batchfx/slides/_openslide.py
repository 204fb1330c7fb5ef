"""What OpenSlide reads (extra ``openslide``): MIRAX, and the slides that our own readers decline.

The only module that imports openslide. Handles are replaced after an error: in OpenSlide an error sticks to
its handle and would take the rest of the slide with it.
"""

from __future__ import annotations

import importlib.util
import re
import threading
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from napari_batchfx.errors import SlideError
from napari_batchfx.slides._declined import NotReadHere
from napari_batchfx.slides._file import short
from napari_batchfx.slides._layout import number
from napari_batchfx.slides._openslide_probe import require_no_crash
from napari_batchfx.slides._small_levels import worth_keeping
from napari_batchfx.slides._sources import StoredLevel
from napari_batchfx.slides._stamps import Stamps
from napari_batchfx.slides.damage import DamagedTile
from napari_batchfx.slides.dates import iso_date
from napari_batchfx.slides.metadata import SlideMetadata, mpp_from_objective, plausible_mpp
from napari_batchfx.slides.private import is_identifying

__all__ = ["EXTRA", "OpenSlideSource", "has_openslide", "is_usable"]

Rgb = NDArray[np.uint8]
EXTRA = 'pip install "napari-batchfx[openslide]"'
OLDEST = (4, 0, 1)
TILE = 512
TILE_RANGE = (64, 2048)
MAX_ASSOCIATED_PIXELS = 2**27
#: Our name -> the properties that hold it, by the end of their name, the first that has a value counts.
_SCANNER = (
    "aperio.ScannerType", "aperio.ScanScope ID", "leica.device-model",
    "philips.DICOM_MANUFACTURERS_MODEL_NAME",
    "ventana.ScannerModel", "dicom.ManufacturerModelName", "hamamatsu.Product", "SCANNER_HARDWARE_VERSION",
    "tiff.Model",
)  # fmt: skip
_SERIAL = (
    "aperio.ScanScope ID", "hamamatsu.NDP.S/N", "philips.DICOM_DEVICE_SERIAL_NUMBER", "ventana.UnitNumber",
    "dicom.DeviceSerialNumber", "SCANNER_HARDWARE_ID",
)  # fmt: skip
_DATE = (
    "leica.creation-date", "philips.DICOM_ACQUISITION_DATETIME", "ventana.ScanDate",
    "dicom.AcquisitionDateTime",
    "hamamatsu.Created", "tiff.DateTime",
)  # fmt: skip
_NOTHING = {"", "unknown", "none", "n/a", "0"}


def has_openslide() -> bool:
    """Whether the extra is installed; looks only, imports nothing."""
    return importlib.util.find_spec("openslide") is not None


def is_usable() -> bool:
    """Whether OpenSlide is installed and recent enough; never raises."""
    try:
        _library("")
    except SlideError:
        return False
    return True


def _library(name: str) -> Any:
    """Return the module openslide, or say what to install."""
    try:
        import openslide
    except (ImportError, OSError) as error:
        # an OSError is what a missing or foreign libopenslide gives
        raise SlideError(f"{name}: OpenSlide reads this kind of slide; install it with {EXTRA}.") from error
    found = str(openslide.__library_version__)
    version = tuple(int(part) for part in re.findall(r"\d+", found)[:3])
    if version < OLDEST:
        oldest = ".".join(map(str, OLDEST))
        raise SlideError(
            f"{name}: OpenSlide {found} has memory-safety faults that a damaged slide can reach; update "
            f"it with "
            f'pip install -U "openslide-bin>={oldest}".'
        )
    return openslide


class OpenSlideSource:
    """Stored levels through OpenSlide; what a slide leaves out has its background colour, else white."""

    in_memory = False

    def __init__(self, path: Path) -> None:
        self._path = path
        self._name = path.name
        self._openslide = _library(path.name)
        require_no_crash(path)
        self._lock = threading.Lock()
        self._closed = False
        self._handle = self._open()
        try:
            properties = dict(self._handle.properties)
            self._background = _background(properties.get("openslide.background-color"))
            shapes = [(int(h), int(w)) for w, h in self._handle.level_dimensions]
            if not shapes or min(min(shape) for shape in shapes) < 1:
                raise SlideError(f"{self._name}: the slide holds no image; copy or export it again.")
            kept = worth_keeping(shapes)
            self.levels: tuple[StoredLevel, ...] = tuple(
                StoredLevel(shapes[i], _tile(properties, i)) for i in kept
            )
            self._index = kept
            self._downsamples = [float(v) for v in self._handle.level_downsamples]
            self.associated: tuple[str, ...] = tuple(sorted(self._handle.associated_images))
            self.metadata = _metadata(properties, self._icc())
        except BaseException:
            self._handle.close()
            raise
        self._stamps = Stamps(_files(path))
        self.files = self._stamps.files

    def _open(self) -> Any:
        try:
            return self._openslide.OpenSlide(self._path)
        except self._openslide.OpenSlideUnsupportedFormatError as error:
            raise NotReadHere(
                f"{self._name}: OpenSlide doesn't know this kind of file; convert it to OME-TIFF (QuPath, "
                f"bfconvert) "
                "and open that."
            ) from error
        except (self._openslide.OpenSlideError, OSError) as error:
            raise SlideError(
                f"{self._name}: OpenSlide can't open it ({short(error)}); copy or export it again, with "
                f"the files "
                "that belong to it."
            ) from error

    def tiles(self, level: int, row: int, col: int) -> Iterator[tuple[tuple[int, int], Rgb]]:
        """Read one tile.

        OpenSlide takes a place in pixels of level 0. Where a level isn't smaller by a whole number the
        nearest such place lies up to half a level-0 pixel off, and OpenSlide interpolates between the level's
        pixels.
        """
        height, width = self.levels[level].shape
        th, tw = self.levels[level].tile
        stored = self._index[level]
        step = self._downsamples[stored]
        place = (round(col * tw * step), round(row * th * step))
        size = (min(tw, width - col * tw), min(th, height - row * th))
        yield (row, col), self._on_background(self._region(place, stored, size))

    def _region(self, place: tuple[int, int], level: int, size: tuple[int, int]) -> Rgb:
        handle = self._current()
        try:
            return np.asarray(handle.read_region(place, level, size))
        except self._openslide.OpenSlideError:
            pass
        except (ValueError, TypeError, OSError) as error:
            self._current()
            raise DamagedTile(short(error)) from error
        # The error may be another thread's, stuck to the shared handle: ask a fresh one of our own.
        fresh = self._open()
        try:
            pixels: Rgb = np.asarray(fresh.read_region(place, level, size))
        except self._openslide.OpenSlideError as error:
            fresh.close()
            self._replace(handle, self._open())
            raise DamagedTile(short(error)) from error
        self._replace(handle, fresh)
        return pixels

    def _current(self) -> Any:
        with self._lock:
            if self._closed:
                raise SlideError(f"{self._name} is closed; open it again.")
            return self._handle

    def _replace(self, broken: Any, fresh: Any) -> None:
        """Put a fresh handle in the place of a broken one, which its last reader lets go of."""
        with self._lock:
            if self._handle is broken and not self._closed:
                self._handle = fresh
                return
        fresh.close()

    def _on_background(self, rgba: Rgb) -> Rgb:
        alpha = rgba[..., 3:]
        if alpha.min() == 255:
            return np.ascontiguousarray(rgba[..., :3])
        a = alpha.astype(np.uint32)
        mixed = (rgba[..., :3] * a + self._background * (255 - a) + 127) // 255
        return mixed.astype(np.uint8)

    def _icc(self) -> bytes | None:
        try:
            profile = self._handle.color_profile
            return None if profile is None else bytes(profile.tobytes())
        except (self._openslide.OpenSlideError, OSError, ValueError):
            # Pillow refuses damaged profiles; the slide can be read without
            return None

    def associated_image(self, name: str) -> Rgb:
        """Read a label, macro or thumbnail image, uint8 (h, w, 3)."""
        if name not in self.associated:
            there = ", ".join(self.associated) or "none"
            raise SlideError(f"{self._name}: there is no image called {name!r:.60} in it; there is: {there}.")
        self._current()
        # a handle of its own: a damaged label must not touch the slide
        handle = self._open()
        try:
            key = f"openslide.associated.{name}."
            sizes = [number(handle.properties.get(key + side)) or 0.0 for side in ("height", "width")]
            if sizes[0] * sizes[1] > MAX_ASSOCIATED_PIXELS:
                raise SlideError(f"{self._name}: its {name} image is too large to be shown.")
            return self._on_background(np.asarray(handle.associated_images[name].convert("RGBA")))
        except (self._openslide.OpenSlideError, ValueError, OSError) as error:
            raise SlideError(f"{self._name}: its {name} image is damaged ({short(error)}).") from error
        finally:
            handle.close()

    def is_unchanged(self) -> bool:
        """Whether the slide's files are still those that were opened."""
        return self._stamps.is_unchanged()

    def close(self) -> None:
        """Let go of the slide; a thread that is reading finishes its tile first."""
        with self._lock:
            self._closed = True
            # openslide-python closes the library's handle when the last reader lets go of it
            self._handle = None


def _files(path: Path) -> list[Path]:
    """The file itself, and of a MIRAX slide the index in its folder."""
    folder = path.with_suffix("")
    if path.suffix.lower() == ".mrxs" and folder.is_dir():
        return [path, *sorted(p for p in folder.iterdir() if p.is_file())]
    return [path]


def _tile(properties: Mapping[str, str], level: int) -> tuple[int, int]:
    sides = [
        int(number(properties.get(f"openslide.level[{level}].tile-{side}")) or 0)
        for side in ("height", "width")
    ]
    low, high = TILE_RANGE
    return (sides[0], sides[1]) if all(low <= side <= high for side in sides) else (TILE, TILE)


def _background(text: str | None) -> NDArray[np.uint32]:
    if text and re.fullmatch(r"[0-9A-Fa-f]{6}", text):
        return np.array([int(text[i : i + 2], 16) for i in (0, 2, 4)], np.uint32)
    return np.full(3, 255, np.uint32)


def _metadata(properties: Mapping[str, str], icc: bytes | None) -> SlideMetadata:
    def first(*keys: str) -> str | None:
        for key in keys:
            for name, value in properties.items():
                if (name == key or name.endswith("." + key)) and value.strip().lower() not in _NOTHING:
                    return value.strip()
        return None

    vendor = first("openslide.vendor")
    if vendor == "dicom":
        vendor = (first("dicom.Manufacturer") or "").lower() or None
    power = number(first("openslide.objective-power"))
    mpp = plausible_mpp(number(first("openslide.mpp-y")), number(first("openslide.mpp-x")))
    source = ("tiff resolution" if vendor == "generic-tiff" else "file") if mpp else "unknown"
    if mpp is None and (mpp := mpp_from_objective(power)):
        source = "objective power (estimate)"
    scanner, serial = first(*_SCANNER), first(*_SERIAL)
    day = first("SLIDE_CREATIONDATETIME") or ""
    date = (
        # 3DHISTECH writes the day first
        iso_date(re.sub(r"^(\d{1,2})/(\d{1,2})/(\d{4})", r"\3-\2-\1", day))
        or iso_date(first("aperio.Date"), first("aperio.Time"), first("aperio.Time Zone"))
        or iso_date(first(*_DATE))
    )
    fluorescent = "fluorescence" in (first("leica.illumination-source") or "").lower() or any(
        # NDPI: which filter let the exciting light through; a brightfield scan has none
        "ExcitationName=" in value
        for name, value in properties.items()
        if name.startswith("hamamatsu.")
    )
    return SlideMetadata(
        mpp=mpp,
        mpp_source=source,
        vendor=None if vendor == "generic-tiff" else vendor,
        scanner=scanner,
        scanner_serial=None if serial == scanner else serial,
        objective_power=power,
        icc_profile=icc,
        scan_date=date,
        modality="fluorescence" if fluorescent else "brightfield",
        private=_private(properties),
    )


def _private(properties: Mapping[str, str]) -> dict[str, str]:
    found: dict[str, str] = {}
    for name, value in sorted(properties.items()):
        vendor, _, key = name.partition(".")
        free_text = key in {"comment", "ImageDescription"}
        if vendor == "openslide" and not free_text:
            continue
        if value.strip().lower() not in _NOTHING and (free_text or is_identifying(key)):
            found[name] = value.strip()
    return found
