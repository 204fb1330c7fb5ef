"""Open a slide from its path: look into the header, choose who reads it, refuse with one clear sentence."""

from __future__ import annotations

from pathlib import Path

from napari_batchfx.errors import SlideError
from napari_batchfx.slides._declined import NotReadHere
from napari_batchfx.slides._dicom import DicomSource, dicom_files, dicom_folder, has_dicom
from napari_batchfx.slides._dicom_header import MAGIC_AT
from napari_batchfx.slides._ngff_layout import is_ngff
from napari_batchfx.slides._openslide import EXTRA, OpenSlideSource, has_openslide, is_usable
from napari_batchfx.slides._sources import PlainSource, Source, TiffSource
from napari_batchfx.slides.slide import Slide

__all__ = ["BACKENDS", "can_open", "open_slide"]

BACKENDS = ("auto", "tifffile", "openslide", "zarr", "dicom", "image")
_TIFF = (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+")
_PLAIN = (b"\x89PNG\r\n\x1a\n", b"\xff\xd8\xff", b"BM")
#: What OpenSlide reads and nothing else here does.
_OPENSLIDE = {
    ".mrxs": "MIRAX",
    ".czi": "Zeiss CZI",
    ".vms": "Hamamatsu VMS",
    ".vmu": "Hamamatsu VMU",
    ".svslide": "Sakura",
}
_ELSEWHERE = {".vsi": "Olympus VSI", ".isyntax": "Philips iSyntax", ".sdpc": "SDPC", ".kfb": "KFB"}


def open_slide(
    path: str | Path,
    *,
    backend: str = "auto",
    mpp: float | tuple[float, float] | None = None,
    icc: str = "off",
) -> Slide:
    """Open a whole-slide image.

    Parameters
    ----------
    path : path
        A file: Aperio SVS, Hamamatsu NDPI, Leica SCN, Ventana BIF, Philips TIFF, Trestle, OME-TIFF, pyramidal
        or plain TIFF, DICOM, PNG, JPEG, BMP, WebP; with the extra ``openslide`` also MIRAX, Zeiss CZI,
        Hamamatsu VMS, Sakura. Or a folder: OME-Zarr (NGFF 0.4, 0.5), or the DICOM files of one slide. 8-bit
        RGB.
    backend : {"auto", "tifffile", "openslide", "zarr", "dicom", "image"}
        Who reads it; "auto" looks at the file's first bytes, not at its name, and asks OpenSlide where our
        own readers decline.
    mpp : float or (float, float), optional
        Micrometres a pixel, (y, x), in place of what the file says.
    icc : {"off", "auto", "on"}
        Pixels as stored; to sRGB where the file has a colour profile; to sRGB, or an error where it has none.

    Returns
    -------
    Slide
        Open; close it, or use it in a ``with`` statement.

    Raises
    ------
    SlideError
        If there is no such file, it is no slide, it is damaged, or it isn't 8-bit RGB. One sentence that
        names the file and says what to do.

    Examples
    --------
    >>> import numpy as np, tempfile, pathlib
    >>> from napari_batchfx.slides import open_slide, write_pyramid
    >>> path = pathlib.Path(tempfile.mkdtemp()) / "a.tif"
    >>> _ = write_pyramid(path, np.full((300, 400, 3), 200, np.uint8), mpp=0.5)
    >>> with open_slide(path) as slide:
    ...     slide.shape, slide.mpp
    ((300, 400), (0.5, 0.5))
    """
    try:
        path = Path(path)
    except TypeError as error:
        raise SlideError(f"A slide is opened from the path of its file, not from {path!r:.60}.") from error
    if backend not in BACKENDS:
        raise SlideError(
            f"{path.name}: there is no reader called {backend!r}; use one of {', '.join(BACKENDS)}."
        )
    source = _from_folder(path, backend) if _is_folder(path) else _from_file(path, backend)
    try:
        if isinstance(source, DicomSource):
            # one of a slide's files stands for all of them
            path = dicom_folder(path, source.files)
        slide = Slide(path, source, icc=icc)
        if mpp is not None:
            slide.with_mpp(mpp)
    except BaseException:
        source.close()
        raise
    return slide


def can_open(path: str | Path) -> bool:
    """Tell from first bytes, or a look into a folder, whether :func:`open_slide` would try it; never raises.

    Examples
    --------
    >>> can_open("no such file")
    False
    """
    try:
        path = Path(path)
        if _is_folder(path):
            return is_ngff(path) or has_dicom(path)
        head = _head(path)
    except (SlideError, OSError, ValueError, TypeError):
        return False
    suffix = path.suffix.lower()
    if suffix in _OPENSLIDE:
        return is_usable() and (suffix != ".mrxs" or _holds(path.with_suffix(""), "Slidedat.ini"))
    return head.startswith(_TIFF) or _is_plain(head) or _is_dicom(head)


def _is_folder(path: Path) -> bool:
    try:
        return path.is_dir()
    except (OSError, ValueError):
        # the name is too long or holds a null: opening it says so
        return False


def _head(path: Path) -> bytes:
    name = path.name or str(path)
    try:
        with path.open("rb") as file:
            head = file.read(MAGIC_AT + 4)
    except FileNotFoundError as error:
        raise SlideError(
            f"{name}: there is no such file in {path.parent}; check the name and the folder."
        ) from error
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or error
        raise SlideError(f"{name}: the file can't be read ({reason}); check that you may read it.") from error
    if not head:
        raise SlideError(f"{name}: the file is empty; copy or export it again.")
    return head


def _is_plain(head: bytes) -> bool:
    return head.startswith(_PLAIN) or (head[:4] == b"RIFF" and head[8:12] == b"WEBP")


def _is_dicom(head: bytes) -> bool:
    return head[MAGIC_AT:] == b"DICM"


def _from_folder(path: Path, backend: str) -> Source:
    name = path.name or str(path)
    if backend in {"auto", "zarr"} and is_ngff(path):
        # zarr takes a moment to import
        from napari_batchfx.slides._ngff import NgffSource

        return NgffSource(path)
    if backend in {"auto", "dicom", "openslide"} and has_dicom(path):
        return _dicom(path, backend)
    if backend not in {"auto", "zarr", "dicom"}:
        raise SlideError(
            f"{name}: it is a folder; the reader {backend!r} reads files, choose the slide's file."
        )
    if _holds(path, "Slidedat.ini"):
        raise SlideError(f"{name}: it is the data folder of a MIRAX slide; choose the .mrxs file beside it.")
    raise SlideError(
        f"{name}: it is a folder, not a slide file; choose a file in it, or a folder of OME-Zarr or of "
        f"the DICOM files "
        "of one slide."
    )


def _holds(folder: Path, name: str) -> bool:
    try:
        return (folder / name).is_file()
    except OSError:
        return False


def _from_file(path: Path, backend: str) -> Source:
    head = _head(path)
    suffix = path.suffix.lower()
    if backend == "openslide":
        return OpenSlideSource(path)
    if head.startswith(_TIFF) and backend in {"auto", "tifffile"}:
        return _tiff(path, backend)
    if _is_dicom(head) and backend in {"auto", "dicom"}:
        return _dicom(path, backend)
    if _is_plain(head) and backend in {"auto", "image"} and suffix not in _OPENSLIDE:
        return PlainSource(path)
    if backend != "auto":
        raise SlideError(
            f"{path.name}: the reader {backend!r} can't read this kind of file; use backend='auto'."
        )
    if suffix in _OPENSLIDE:
        return _through_openslide(path, _OPENSLIDE[suffix])
    if suffix in _ELSEWHERE:
        raise SlideError(
            f"{path.name}: {_ELSEWHERE[suffix]} slides aren't read here; convert it to OME-TIFF (QuPath, "
            f"bfconvert) and "
            "open that."
        )
    if path.name in {"zarr.json", ".zattrs", ".zgroup", ".zarray"}:
        raise SlideError(f"{path.name}: it is the header of a Zarr folder; choose the folder it lies in.")
    raise SlideError(
        f"{path.name}: it is neither a TIFF or DICOM slide nor a PNG or JPEG image, whatever its name "
        f"says; choose "
        "the slide file."
    )


def _through_openslide(path: Path, kind: str) -> Source:
    if not has_openslide():
        raise SlideError(f"{path.name}: {kind} slides are read by OpenSlide; install it with {EXTRA}.")
    if kind == "MIRAX" and not _holds(path.with_suffix(""), "Slidedat.ini"):
        raise SlideError(
            f"{path.name}: a MIRAX slide is this file and the folder {path.stem} with its pixels, which "
            f"isn't beside it; "
            "copy both."
        )
    return OpenSlideSource(path)


def _tiff(path: Path, backend: str) -> Source:
    try:
        return TiffSource(path)
    except NotReadHere as declined:
        return _fallback(path, backend, declined)


def _dicom(path: Path, backend: str) -> Source:
    # OpenSlide reads no DICOM that our reader doesn't, and crashes on some damaged ones: only if asked for
    return OpenSlideSource(dicom_files(path)[0]) if backend == "openslide" else DicomSource(path)


def _fallback(path: Path, backend: str, declined: NotReadHere) -> Source:
    """Ask OpenSlide for what our own reader declined; where it isn't installed, say so."""
    if backend != "auto":
        raise declined
    if not has_openslide():
        raise SlideError(f"{str(declined).rstrip('.')}. OpenSlide may read it: {EXTRA}.") from declined
    try:
        return OpenSlideSource(path)
    except NotReadHere:
        # what our reader said tells more
        raise declined from None
