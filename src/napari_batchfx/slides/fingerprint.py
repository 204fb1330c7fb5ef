"""Who a slide is, by content and not by path: the key of everything that is computed from it."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Sequence
from pathlib import Path

import numpy as np

from napari_batchfx.errors import SlideError

__all__ = ["fingerprint", "fingerprint_of", "slide_bytes"]

WHOLE_BELOW = 4 * 2**20
EDGE = 256 * 2**10
BLOCK = 4096
N_BLOCKS = 128
#: Chunk files of each level of an OME-Zarr image that are looked at.
N_CHUNKS = 96


def fingerprint(path: str | Path) -> str:
    """Return 32 hex digits that identify a slide's content.

    Files under 4 MiB are hashed whole. Of larger ones the size, the first and last 256 KiB (header, index,
    first tiles) and 128 blocks of 4 KiB spread evenly over the pixels: 5 GB take milliseconds. A slide of
    several files (the DICOM files of one slide, MIRAX, OME-Zarr) is hashed file by file, in an order that
    doesn't depend on the folder; of OME-Zarr the headers and up to 96 chunks a level.

    Parameters
    ----------
    path : path
        A file or the folder of a slide; its name, folder and dates play no part.

    Returns
    -------
    str
        BLAKE2b, 128 bits.

    Raises
    ------
    SlideError
        If the file can't be read, or the folder is no slide.

    Notes
    -----
    It tells slides apart; it does not prove that a file is undamaged.

    Examples
    --------
    >>> for name in ("a.svs", "copy of a.svs"):
    ...     _ = Path(name).write_bytes(b"the same content")
    >>> len(fingerprint("a.svs")), fingerprint("a.svs") == fingerprint("copy of a.svs")
    (32, True)
    """
    return fingerprint_of(list(_parts(Path(path))))


def slide_bytes(path: str | Path) -> int:
    """Return the bytes of the files that :func:`fingerprint` looks at; what else lies in a folder is no part.

    Examples
    --------
    >>> _ = Path("a.svs").write_bytes(b"the same content")
    >>> slide_bytes("a.svs")
    16

    Raises
    ------
    SlideError
        If a folder is no slide.
    OSError
        If the file is gone.
    """
    total = 0
    for _, member in _parts(Path(path)):
        try:
            total += member.stat().st_size
        except FileNotFoundError:
            # chunks of nothing but the fill value aren't stored
            if not Path(path).is_dir():
                raise
    return total


def fingerprint_of(parts: Sequence[tuple[str, Path]]) -> str:
    """Return the fingerprint of a slide of known files, each with the name that counts ("" for none)."""
    if len(parts) == 1:
        return _of_file(parts[0][1])
    digest = hashlib.blake2b(digest_size=16)
    for name, member in sorted((name, _of_member(member)) for name, member in parts):
        digest.update(f"{name}\0{member}\n".encode())
    return digest.hexdigest()


def _parts(path: Path) -> Iterable[tuple[str, Path]]:
    """Yield a slide's files with the names that count: those of DICOM files and of a .mrxs don't."""
    from napari_batchfx.slides._dicom import dicom_files, has_dicom
    from napari_batchfx.slides._dicom_header import is_dicom
    from napari_batchfx.slides._ngff_layout import is_ngff

    try:
        is_folder = path.is_dir()
    except OSError:
        # the name is too long: reading it says so
        is_folder = False
    if is_folder:
        if is_ngff(path):
            yield from _ngff_parts(path)
        elif has_dicom(path):
            yield from (("", member) for member in dicom_files(path))
        else:
            raise SlideError(f"{path.name}: it is a folder, not a slide; choose the slide's file.")
        return
    if is_dicom(path):
        yield from (("", member) for member in dicom_files(path))
        return
    yield "", path
    folder = path.with_suffix("")
    if path.suffix.lower() == ".mrxs" and folder.is_dir():
        try:
            yield from ((member.name, member) for member in folder.iterdir() if member.is_file())
        except OSError as error:
            raise SlideError(
                f"{folder.name}: the folder can't be read ({error.strerror or error})."
            ) from error


def _ngff_parts(path: Path) -> Iterable[tuple[str, Path]]:
    """Yield headers and chunks spread evenly over each level; what isn't there counts as missing."""
    from napari_batchfx.slides._ngff_layout import read_ngff

    image = read_ngff(path)
    for document in image.documents:
        if document.is_relative_to(image.root):
            yield document.relative_to(image.root).as_posix(), document
    for level in image.levels:
        total = int(np.prod(level.grid, dtype=np.int64))
        for index in np.unique(np.linspace(0, total - 1, min(total, N_CHUNKS)).astype(np.int64)):
            chunk = level.file(np.unravel_index(index, level.grid))
            yield chunk.relative_to(image.root).as_posix(), chunk


def _of_member(path: Path) -> str:
    try:
        return _of_file(path)
    except SlideError:
        if path.exists():
            raise
        # chunks of nothing but the fill value aren't stored
        return "missing"


def _of_file(path: Path) -> str:
    digest = hashlib.blake2b(digest_size=16)
    try:
        size = path.stat().st_size
        digest.update(size.to_bytes(8, "little"))
        with path.open("rb") as file:
            if size <= WHOLE_BELOW:
                digest.update(file.read())
            else:
                digest.update(file.read(EDGE))
                step = (size - 2 * EDGE) // N_BLOCKS
                for block in range(N_BLOCKS):
                    file.seek(EDGE + block * step)
                    digest.update(file.read(BLOCK))
                file.seek(size - EDGE)
                digest.update(file.read(EDGE))
    except OSError as error:
        raise SlideError(f"{path.name}: the file can't be read ({error.strerror or error}).") from error
    return digest.hexdigest()
