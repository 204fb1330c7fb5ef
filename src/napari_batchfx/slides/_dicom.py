"""DICOM whole-slide images: the files of one series are one slide, read frame by frame without OpenSlide."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from napari_batchfx.errors import SlideError
from napari_batchfx.slides._declined import NotReadHere
from napari_batchfx.slides._dicom_facts import read_facts
from napari_batchfx.slides._dicom_frames import Frames
from napari_batchfx.slides._dicom_header import DicomHeader, Elements, is_dicom, read_header
from napari_batchfx.slides._small_levels import worth_keeping
from napari_batchfx.slides._sources import StoredLevel
from napari_batchfx.slides._stamps import Stamps
from napari_batchfx.slides.damage import DamagedTile
from napari_batchfx.slides.fingerprint import fingerprint_of

__all__ = ["DicomSource", "dicom_files", "dicom_folder", "dicom_slide", "has_dicom"]

Rgb = NDArray[np.uint8]
MAX_FILES = 4096
LOOK_AT = 64
MAX_SIDE = 2**24
MAX_PIXELS = 2**40
MAX_ASSOCIATED_PIXELS = 2**27
_ASSOCIATED = {"LABEL": "label", "OVERVIEW": "macro", "THUMBNAIL": "thumbnail", "LOCALIZER": "localizer"}


def has_dicom(folder: Path) -> bool:
    """Whether one of a folder's first files carries DICOM's mark; a cheap look that never raises."""
    try:
        names = sorted(p for _, p in zip(range(LOOK_AT), folder.iterdir(), strict=False))
    except (OSError, ValueError):
        return False
    return any(path.is_file() and is_dicom(path) for path in names)


def dicom_files(path: Path) -> tuple[Path, ...]:
    """Return the files of the slide that a folder, or one file of it, stands for; sorted by name."""
    return tuple(header.path for header in dicom_slide(path))


def dicom_folder(path: Path, files: Sequence[Path]) -> Path:
    """Return the folder if the slide's files are all that it holds, else the path as it was given."""
    if path.is_dir():
        return path
    try:
        alone = {p for p in path.parent.iterdir() if p.is_file() and is_dicom(p)} == set(files)
    except OSError:
        return path
    return path.parent if alone and path.parent.name else path


def dicom_slide(path: Path) -> tuple[DicomHeader, ...]:
    """Read the headers of the slide's files: those in one folder with the same series, sorted by name.

    Raises
    ------
    SlideError
        If there is no slide, or a folder holds several.
    """
    one = None if path.is_dir() else read_header(path)
    if one is not None and not one.is_slide:
        raise SlideError(
            f"{path.name}: it is a DICOM file of another kind ({one.text(0x00080060) or 'unknown'}), not "
            f"a whole-slide "
            "image; choose the slide's files."
        )
    folder = path if one is None else path.parent
    series: dict[str, list[DicomHeader]] = {}
    for candidate in _candidates(folder):
        try:
            header = read_header(candidate)
        except SlideError:
            # a damaged neighbour may belong to another slide; one of this slide is missed below
            continue
        if header.is_slide:
            series.setdefault(header.series, []).append(header)
    if one is not None:
        return tuple(series.get(one.series) or [one])
    slides = [headers for headers in series.values() if any(h.flavour not in _ASSOCIATED for h in headers)]
    if not slides:
        raise SlideError(
            f"{path.name}: there is no slide in this folder that can be opened; choose a slide file, or a "
            f"folder of "
            "DICOM files of one slide."
        )
    if len(slides) > 1:
        names = ", ".join(sorted(_main(headers).path.name for headers in slides)[:4])
        more = f" and {len(slides) - 4} more" if len(slides) > 4 else ""
        raise SlideError(
            f"{path.name}: the folder holds {len(slides)} DICOM slides; open the one you mean by its "
            f"file: {names}{more}."
        )
    return tuple(slides[0])


def _candidates(folder: Path) -> list[Path]:
    try:
        files = sorted(p for p in folder.iterdir() if p.is_file() and is_dicom(p))
    except OSError as error:
        raise SlideError(f"{folder.name}: the folder can't be read ({error.strerror or error}).") from error
    if len(files) > MAX_FILES:
        raise SlideError(
            f"{folder.name}: the folder holds {len(files):,} DICOM files; put those of one slide into a "
            f"folder of their own."
        )
    return files


def _size(header: DicomHeader) -> tuple[int, int]:
    """Height and width of the whole image that a file's frames are part of."""
    return header.number(0x00480007), header.number(0x00480006)


def _main(headers: Sequence[DicomHeader]) -> DicomHeader:
    volumes = [h for h in headers if h.flavour not in _ASSOCIATED] or list(headers)
    return max(volumes, key=lambda h: math.prod(_size(h)))


class DicomSource:
    """Stored levels of a DICOM slide; where frames were left out the tile is white, the colour of glass."""

    in_memory = False

    def __init__(self, path: Path) -> None:
        self._name = path.name
        headers = dicom_slide(path)
        volumes = [h for h in headers if h.flavour not in _ASSOCIATED]
        if not volumes:
            raise SlideError(
                f"{self._name}: only its label or overview image is there; put the slide's other DICOM "
                f"files beside it."
            )
        by_size: dict[tuple[int, int], list[DicomHeader]] = {}
        for header in volumes:
            by_size.setdefault(_size(header), []).append(header)
        sizes = list(by_size)
        for height, width in sizes:
            if not (0 < height <= MAX_SIDE and 0 < width <= MAX_SIDE and height * width <= MAX_PIXELS):
                raise SlideError(
                    f"{self._name}: its DICOM header states a size that no slide has; export it again."
                )
        kept = [sizes[i] for i in worth_keeping(sizes)]
        self._associated = {_ASSOCIATED[h.flavour]: h for h in reversed(headers) if h.flavour in _ASSOCIATED}
        self.associated: tuple[str, ...] = tuple(sorted(self._associated))
        self._opened: list[_Level] = []
        try:
            for size in kept:
                self._opened.append(_Level(by_size[size], size, self._name))
        except BaseException:
            self.close()
            raise
        self.levels: tuple[StoredLevel, ...] = tuple(
            StoredLevel(level.size, level.tile) for level in self._opened
        )
        self.metadata = read_facts(by_size[kept[0]][0], headers)
        self._stamps = Stamps(h.path for h in headers)
        self.files = self._stamps.files
        # known here, where the headers are at hand: those of sparse slides take a while to read
        self.fingerprint = fingerprint_of([("", path) for path in self.files])

    def tiles(self, level: int, row: int, col: int) -> Iterator[tuple[tuple[int, int], Rgb]]:
        """Decode one frame, cropped to the image."""
        yield (row, col), self._opened[level].read(row, col)

    def associated_image(self, name: str) -> Rgb:
        """Read a label, macro or thumbnail image, uint8 (h, w, 3)."""
        if name not in self._associated:
            there = ", ".join(self.associated) or "none"
            raise SlideError(f"{self._name}: there is no image called {name!r:.60} in it; there is: {there}.")
        header = self._associated[name]
        size = _size(header)
        if not all(size):
            size = header.number(0x00280010), header.number(0x00280011)
        if not 0 < math.prod(size) <= MAX_ASSOCIATED_PIXELS:
            raise SlideError(f"{self._name}: its {name} image is too large to be shown.")
        level = _Level([header], size, self._name)
        try:
            image = np.full((*size, 3), 255, np.uint8)
            th, tw = level.tile
            for row, col in np.ndindex(-(-size[0] // th), -(-size[1] // tw)):
                part = level.read(row, col)
                image[row * th : row * th + part.shape[0], col * tw : col * tw + part.shape[1]] = part
        except DamagedTile as error:
            raise SlideError(f"{self._name}: its {name} image is damaged ({error}).") from error
        finally:
            level.close()
        return image

    def is_unchanged(self) -> bool:
        """Whether the slide's files are still those that were opened."""
        return self._stamps.is_unchanged()

    def close(self) -> None:
        """Close the files."""
        for level in self._opened:
            level.close()


class _Level:
    """One level: a file, or the parts of a concatenation."""

    def __init__(self, headers: Sequence[DicomHeader], size: tuple[int, int], name: str) -> None:
        self.size = size
        self._name = name
        self._parts: list[tuple[int, Frames]] = []
        try:
            for header in _parts(headers):
                self._parts.append((header.number(0x00209228), Frames(header)))
        except BaseException:
            self.close()
            raise
        first = self._parts[0][1]
        self.tile = (first.height, first.width)
        if any((frames.height, frames.width) != self.tile for _, frames in self._parts):
            self.close()
            raise NotReadHere(f"{name}: the DICOM files of one level have frames of different sizes.")
        self._rows, self._cols = -(-size[0] // self.tile[0]), -(-size[1] // self.tile[1])
        self._places = self._sparse() if self._is_sparse() else None

    def _is_sparse(self) -> bool:
        organisation = self._parts[0][1].header.text(0x00209311)
        full = "FULL" in organisation or (not organisation and self._total == self._rows * self._cols)
        return not full and self._rows * self._cols > 1

    @property
    def _total(self) -> int:
        return sum(frames.count for _, frames in self._parts)

    def _sparse(self) -> dict[tuple[int, int], tuple[int, int]]:
        """Return where each tile's frame is, from the positions that the header lists frame by frame."""
        places: dict[tuple[int, int], tuple[int, int]] = {}
        for part, (_, frames) in enumerate(self._parts):
            for index, item in enumerate(frames.header.items(0x52009230)[: frames.count]):
                position = next(iter(frames.header.items(0x0048021A, item)), {})
                y, x = (_signed(position, tag) - 1 for tag in (0x0048021F, 0x0048021E))
                if y % self.tile[0] or x % self.tile[1] or y < 0 or x < 0:
                    raise NotReadHere(f"{self._name}: the frames of this DICOM slide don't lie on a grid.")
                # of several focal planes or channels the first stays
                places.setdefault((y // self.tile[0], x // self.tile[1]), (part, index))
        if not places:
            raise NotReadHere(f"{self._name}: this DICOM slide doesn't say where its frames lie.")
        return places

    def read(self, row: int, col: int) -> Rgb:
        """Decode a frame, cropped to the image."""
        th, tw = self.tile
        size = (min(th, self.size[0] - row * th), min(tw, self.size[1] - col * tw))
        if self._places is not None:
            found = self._places.get((row, col))
            if found is None:
                return np.full((*size, 3), 255, np.uint8)
            part, index = found
            frame = self._parts[part][1].read(index)
        else:
            planes = max(1, self._parts[0][1].header.number(0x00480303))
            # in order of rows, then of focal planes (PS3.3 C.7.6.17.3): the middle one is in focus
            wanted = (planes // 2) * self._rows * self._cols + row * self._cols + col
            frame = self._frame(wanted)
        return frame if frame.shape[:2] == size else np.ascontiguousarray(frame[: size[0], : size[1]])

    def _frame(self, wanted: int) -> Rgb:
        for start, frames in reversed(self._parts):
            if wanted >= start:
                if wanted - start >= frames.count:
                    break
                return frames.read(wanted - start)
        raise DamagedTile(f"frame {wanted} is missing")

    def close(self) -> None:
        for _, frames in self._parts:
            frames.close()


def _parts(headers: Sequence[DicomHeader]) -> list[DicomHeader]:
    """Return the parts of one concatenation in order; of several whole images the original one."""
    whole = [h for h in headers if not h.text(0x00209161)]
    if whole:
        return [
            min(
                whole,
                key=lambda h: (
                    not h.text(0x00080008).startswith("ORIGINAL"),
                    h.number(0x00200013),
                    h.path.name,
                ),
            )
        ]
    first = min(h.text(0x00209161) for h in headers)
    return sorted((h for h in headers if h.text(0x00209161) == first), key=lambda h: h.number(0x00209228))


def _signed(item: Elements, tag: int) -> int:
    value = item.get(tag)
    return int.from_bytes(value, "little", signed=True) if isinstance(value, bytes) and len(value) == 4 else 0
