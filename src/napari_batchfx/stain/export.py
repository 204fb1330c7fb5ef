"""A slide, or a part of it, written with its stain normalised: a pyramid that any program opens."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from napari_batchfx.errors import SlideError, StainError
from napari_batchfx.jobs import Job

if TYPE_CHECKING:
    from napari_batchfx.slides import Slide
    from napari_batchfx.stain.transform import StainTransform

__all__ = ["ExportedSlide", "export_job", "provenance"]

_SUFFIXES = (".ome.tif", ".ome.tiff", ".ome.zarr")
Region = tuple[float, float, float, float]


@dataclass(frozen=True)
class ExportedSlide:
    """What :func:`export_job` wrote.

    Parameters
    ----------
    path : Path
    shape : (int, int)
        Height and width in pixels.
    mpp : (float, float) or None
        Micrometres a pixel, (y, x).
    n_bytes : int
        On the disk.
    provenance : dict of str to str
        What the file says about how it was made.
    warnings : tuple of str
        What to mind about it.
    """

    path: Path
    shape: tuple[int, int]
    mpp: tuple[float, float] | None
    n_bytes: int
    provenance: dict[str, str]
    warnings: tuple[str, ...] = ()


def export_job(
    slide: Slide,
    transform: StainTransform,
    path: str | Path,
    *,
    region_um: Region | None = None,
    level: int = 0,
    compression: str = "deflate",
    quality: int = 90,
    target: str = "",
    overwrite: bool = False,
) -> Job[ExportedSlide]:
    """Write a slide through a stain transform, tile by tile.

    Parameters
    ----------
    slide : Slide
        An open slide, in the colours that the transform was estimated on.
    transform : StainTransform
        Usually ``normalizer.for_slide(slide)``; its strength counts.
    path : path
        ``.ome.tif`` or ``.ome.tiff`` for a pyramidal OME-TIFF, ``.ome.zarr`` for OME-Zarr (lossless).
    region_um : (float, float, float, float), optional
        y0, x0, y1, x1 in micrometres from the slide's top left corner, widened to whole pixels; all of it
        otherwise.
    level : int
        Level of the slide that becomes the full size of the new one.
    compression : {"deflate", "jpeg"}
        Of an OME-TIFF: lossless, or several times smaller and no longer the exact pixels.
    quality : int
        Of JPEG, 1 to 100.
    target : str
        What the target is, in words for the provenance, such as "built-in reference". No name of a person.
    overwrite : bool
        Whether a file of that name is replaced, once the new one is complete.

    Yields
    ------
    Progress
        Tiles written. A job that is closed leaves no file.

    Returns
    -------
    ExportedSlide

    Raises
    ------
    StainError
        If the name has another ending or is taken, the region lies off the slide, or it can't be written.
    SlideError
        If the slide can't be read.

    Notes
    -----
    Label and macro images, dates, and names of slides are not written. Memory holds a few rows of tiles,
    however large the slide is. Smaller levels are box means of the normalised pixels.

    Examples
    --------
    >>> from napari_batchfx.jobs import run
    >>> from napari_batchfx.samples import demo_pair
    >>> from napari_batchfx.slides import open_slide
    >>> from napari_batchfx.stain import MacenkoNormalizer
    >>> demo = run(demo_pair("demo", size_um=150))
    >>> with open_slide(demo[0].path) as slide:
    ...     transform = MacenkoNormalizer().for_slide(slide)
    ...     done = run(export_job(slide, transform, "normal.ome.tif", region_um=(0, 0, 50, 50)))
    >>> done.provenance["stain method"]
    'macenko'
    """
    from napari_batchfx.slides import write_slide_job
    from napari_batchfx.slides.rows import SlideRows

    path = Path(path)
    _check(slide, path, compression, overwrite)
    box = _box(slide, region_um, level)
    mpp = None if slide.mpp is None else slide.level_mpp(level)
    about = _provenance(slide, transform, box, level, target)
    options: dict[str, Any] = {"notes": about}
    if path.suffix.lower() != ".zarr":
        about["compression"] = "lossless" if compression == "deflate" else f"JPEG, quality {quality}"
        options |= {
            "flavour": "ome",
            "compression": compression,
            "quality": quality,
            "vendor": slide.vendor,
            "scanner": slide.scanner,
            "objective_power": slide.objective_power,
            "description": f"{about['what']} with {about['made by']}; see the annotations.",
        }
    before = set(slide.damage)
    source = _Normalised(SlideRows(slide, level, box), transform)
    try:
        yield from write_slide_job(path, source, mpp, **options)
        size = path.stat().st_size if path.is_file() else _folder_bytes(path)
    except OSError as error:
        raise StainError(
            f"{path.name}: it can't be written ({error.strerror or error}); choose another place, or make "
            "room."
        ) from error
    warnings = list(transform.warnings)
    if new := set(slide.damage) - before:
        warnings.append(f"{len(new)} damaged tiles of {slide.name} were met; they are flat grey in it.")
    return ExportedSlide(path, (box[2], box[3]), mpp, size, about, tuple(warnings))


def provenance(path: str | Path) -> dict[str, str]:
    """How a slide written by :func:`export_job` was made; empty for any other file.

    Parameters
    ----------
    path : path
        OME-TIFF or OME-Zarr.

    Returns
    -------
    dict of str to str
        With "stain transform" as JSON for :meth:`StainTransform.from_dict`.

    Examples
    --------
    >>> provenance("no such file.ome.tif")
    {}
    """
    path = Path(path)
    try:
        if path.is_dir():
            found = json.loads((path / ".zattrs").read_text("utf-8")).get("napari-batchfx", {})
            return {str(key): str(value) for key, value in found.items()}
        from napari_batchfx.slides.notes import read_notes

        return read_notes(path)
    except (OSError, ValueError, AttributeError, SlideError):
        return {}


class _Normalised:
    """Rows of a slide through a transform, sliced like an array."""

    dtype = np.dtype(np.uint8)

    def __init__(self, rows: Any, transform: StainTransform) -> None:
        self._rows, self._transform = rows, transform
        self.shape = rows.shape

    def __getitem__(self, rows: slice) -> NDArray[np.uint8]:
        return self._transform.transform(self._rows[rows])


def _check(slide: Slide, path: Path, compression: str, overwrite: bool) -> None:
    if not path.name.lower().endswith(_SUFFIXES) or path.name.lower() in _SUFFIXES:
        raise StainError(
            f"{path.name}: a slide is written as OME-TIFF or OME-Zarr; give it a name ending in "
            f"{', '.join(_SUFFIXES[:-1])} or {_SUFFIXES[-1]}."
        )
    if compression not in ("deflate", "jpeg"):
        raise StainError(f'{path.name}: compression is "deflate" (lossless) or "jpeg", not {compression!r}.')
    if path.exists() and path.resolve() == slide.path.resolve():
        raise StainError(f"{path.name}: that is the slide itself; choose another name.")
    if path.exists() and not overwrite:
        raise StainError(f"{path.name} is there already; choose another name, or let it be replaced.")
    if not path.absolute().parent.is_dir():
        raise StainError(f"{path.name}: the folder {path.parent.name} isn't there; make it first.")
    if path.is_dir() and not any((path / name).is_file() for name in (".zattrs", ".zgroup", "zarr.json")):
        raise StainError(f"{path.name}: that is a folder which holds no OME-Zarr; choose another name.")


def _box(slide: Slide, region_um: Region | None, level: int) -> tuple[int, int, int, int]:
    """Return y, x, height, width in pixels of the level."""
    if not 0 <= level < len(slide.levels):
        raise StainError(f"{slide.name}: has levels 0 to {len(slide.levels) - 1}, there is no level {level}.")
    height, width = slide.levels[level].shape
    if region_um is None:
        return (0, 0, height, width)
    my, mx = slide.level_mpp(level)
    y0, x0, y1, x1 = region_um
    top, left = max(0, int(np.floor(y0 / my + 1e-6))), max(0, int(np.floor(x0 / mx + 1e-6)))
    bottom, right = min(height, int(np.ceil(y1 / my - 1e-6))), min(width, int(np.ceil(x1 / mx - 1e-6)))
    if bottom <= top or right <= left:
        raise StainError(f"{slide.name}: the region lies outside of the slide; choose one on it.")
    return (top, left, bottom - top, right - left)


def _provenance(
    slide: Slide, transform: StainTransform, box: tuple[int, int, int, int], level: int, target: str
) -> dict[str, str]:
    y, x, height, width = box
    values: Mapping[str, Any] = transform.to_dict()
    return {
        "made by": f"napari-batchfx {metadata.version('napari-batchfx')}",
        "what": f"Stain normalised ({transform.method})",
        "stain method": transform.method,
        "stain target": target or "not said",
        "stain strength": f"{transform.strength:g}",
        "stain transform": json.dumps(values, sort_keys=True),
        "stain key": transform.key,
        "source fingerprint": slide.fingerprint,
        "source colours": slide.colour_key or "as stored",
        "source pixel size": slide.mpp_source,
        "region": f"level {level}, y {y}, x {x}, height {height}, width {width} px",
    }


def _folder_bytes(folder: Path) -> int:
    return sum(one.stat().st_size for one in folder.rglob("*") if one.is_file())
