"""What an OME-Zarr folder says about its image: axes, levels, pixel size; small JSON files, never pixels.

OME-NGFF 0.4 (Zarr 2) and 0.5 (Zarr 3), https://ngff.openmicroscopy.org. Nothing outside of the folder is
read.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from napari_batchfx.errors import SlideError
from napari_batchfx.slides._ngff_level import NgffLevel, read_json, read_level
from napari_batchfx.slides._small_levels import worth_keeping
from napari_batchfx.slides.metadata import plausible_mpp

__all__ = ["NgffImage", "is_ngff", "read_ngff"]

MAX_LEVELS = 64
#: Lengths in micrometres, as NGFF (UDUNITS-2) names them, and as files write them.
_UM = {
    "angstrom": 1e-4, "picometer": 1e-6, "nanometer": 1e-3, "micrometer": 1.0, "micron": 1.0,
    "millimeter": 1e3, "centimeter": 1e4, "meter": 1e6, "pm": 1e-6, "nm": 1e-3, "um": 1.0, "µm": 1.0,
    "\u03bcm": 1.0, "mm": 1e3, "cm": 1e4, "m": 1e6,
}  # fmt: skip
_RGB = ("FF0000", "00FF00", "0000FF")


@dataclass(frozen=True)
class NgffImage:
    """The image of an OME-Zarr folder.

    Parameters
    ----------
    root : Path
        The group that holds the multiscales.
    axes : tuple of str
        Names in the order of the arrays, such as ("t", "c", "z", "y", "x").
    levels : tuple of NgffLevel
        Largest first.
    mpp : (float, float) or None
        Micrometres a pixel of the first level, (y, x); ``None`` where an axis has no unit of length.
    version : str
        "0.4" or "0.5".
    documents : tuple of Path
        The JSON files that were read.
    """

    root: Path
    axes: tuple[str, ...]
    levels: tuple[NgffLevel, ...]
    mpp: tuple[float, float] | None
    version: str
    documents: tuple[Path, ...]

    def shape(self, level: int) -> tuple[int, int]:
        """Height and width of a level."""
        found = self.levels[level].shape
        return found[self.axes.index("y")], found[self.axes.index("x")]


def is_ngff(folder: Path) -> bool:
    """Whether a folder looks like OME-Zarr or is named like it: looks for three file names; never raises."""
    try:
        return folder.is_dir() and any(
            (folder / name).is_file() for name in (".zattrs", ".zgroup", "zarr.json")
        )
    except (OSError, ValueError):
        return False


def read_ngff(folder: Path) -> NgffImage:
    """Read the layout of an OME-Zarr image, or of image "0" of a folder that bioformats2raw wrote.

    Raises
    ------
    SlideError
        If it holds no image, more than one, or one that isn't 8-bit RGB; if chunks are absurdly large.
    """
    name = folder.name
    documents: list[Path] = []
    root = folder
    attributes = _attributes(root, name, documents)
    if "multiscales" not in attributes:
        root = _only_image(folder, attributes, name)
        attributes = _attributes(root, name, documents)
    scales = attributes.get("multiscales")
    if not isinstance(scales, list) or not scales or not isinstance(scales[0], dict):
        raise SlideError(
            f"{name}: the Zarr folder holds no OME-Zarr image (no multiscales in it); choose the image's "
            f"own folder."
        )
    if "image-label" in attributes:
        raise SlideError(
            f"{name}: it is a label image (a segmentation), not a slide; choose the image above it."
        )
    scale: dict[str, Any] = scales[0]
    axes = _axes(scale, name)
    datasets = scale.get("datasets")
    if not isinstance(datasets, list) or not datasets or len(datasets) > MAX_LEVELS:
        raise SlideError(f"{name}: its OME-Zarr header lists no levels; export it again.")
    levels = [read_level(root, entry, len(axes), name, documents) for entry in datasets]
    _require_rgb(axes, levels[0], attributes, name)
    y, x = axes.index("y"), axes.index("x")
    order = worth_keeping([(level.shape[y], level.shape[x]) for level in levels])
    version = str(attributes.get("version") or scale.get("version") or "0.4")
    if version not in {"0.4", "0.5"}:
        raise SlideError(
            f"{name}: it is OME-Zarr {version:.12}; versions 0.4 and 0.5 are read, export it as one of them."
        )
    return NgffImage(
        root=root,
        axes=axes,
        levels=tuple(levels[i] for i in order),
        mpp=_mpp(scale, datasets[order[0]], axes),
        version=version,
        documents=tuple(documents),
    )


def _attributes(root: Path, name: str, documents: list[Path]) -> dict[str, Any]:
    """Return the OME attributes of a group: of Zarr 3 those below "ome", of Zarr 2 all."""
    if (group := read_json(root / "zarr.json", name, documents)) is not None:
        found = group.get("attributes")
        inner = found.get("ome") if isinstance(found, dict) else None
        if isinstance(inner, dict):
            return inner
        return found if isinstance(found, dict) else {}
    return read_json(root / ".zattrs", name, documents) or {}


def _only_image(folder: Path, attributes: Mapping[str, Any], name: str) -> Path:
    if "plate" in attributes or "well" in attributes:
        raise SlideError(
            f"{name}: it is a plate of many images, not a slide; choose the folder of one image."
        )
    try:
        images = sorted(p.name for p in folder.iterdir() if p.name.isdecimal() and is_ngff(p))
    except OSError as error:
        raise SlideError(f"{name}: the folder can't be read ({error.strerror or error}).") from error
    if "0" not in images:
        raise SlideError(
            f"{name}: the Zarr folder holds no OME-Zarr image (no multiscales in it); choose the image's "
            f"own folder."
        )
    # bioformats2raw writes a scan's label and macro beside it as 1, 2, ...: the slide is always image 0
    return folder / "0"


def _axes(scale: Mapping[str, Any], name: str) -> tuple[str, ...]:
    listed = scale.get("axes")
    names = [
        str(axis.get("name") if isinstance(axis, dict) else axis).lower()
        for axis in (listed if isinstance(listed, list) else [])
    ]
    if len(set(names)) != len(names) or not {"y", "x"} <= set(names) <= {"t", "c", "z", "y", "x"}:
        raise SlideError(
            f"{name}: its axes are {', '.join(names)[:60] or 'not named'}; a slide has y, x and c (and t, "
            f"z of one)."
        )
    return tuple(names)


def _require_rgb(axes: Sequence[str], level: NgffLevel, attributes: Mapping[str, Any], name: str) -> None:
    n = level.shape[axes.index("c")] if "c" in axes else 1
    if n != 3:
        raise SlideError(
            f"{name}: it has {n} colour channel{'s' if n > 1 else ''}, not the three of a brightfield RGB "
            f"slide; export it "
            "as 8-bit RGB."
        )
    omero = attributes.get("omero")
    channels = omero.get("channels") if isinstance(omero, dict) else None
    if not isinstance(channels, list) or len(channels) != 3:
        return
    colours = [str(c.get("color", "")).upper().lstrip("#") if isinstance(c, dict) else "" for c in channels]
    if all(colours) and len(set(colours)) > 1 and tuple(colours) != _RGB:
        labels = ", ".join(str(c.get("label", "?")) for c in channels if isinstance(c, dict))
        raise SlideError(
            f"{name}: its three channels ({labels:.60}) are stains shown in colours of their own, not "
            f"red, green and "
            "blue; open a brightfield slide."
        )


def _mpp(scale: Mapping[str, Any], dataset: Any, axes: Sequence[str]) -> tuple[float, float] | None:
    listed = scale["axes"]
    found: list[float | None] = []
    for name in "yx":
        index = axes.index(name)
        unit = listed[index].get("unit") if isinstance(listed[index], dict) else None
        factor = _UM.get(str(unit))
        for owner in (dataset, scale):
            step = _scale(owner.get("coordinateTransformations"), index)
            factor = None if factor is None or step is None else factor * step
        found.append(factor)
    return plausible_mpp(*found)


def _scale(transformations: Any, index: int) -> float | None:
    """Return an axis's scale in a list of transformations: 1 without one, ``None`` if it can't be told."""
    factor = 1.0
    for item in transformations if isinstance(transformations, list) else []:
        if not isinstance(item, dict) or item.get("type") not in {"scale", "identity", "translation"}:
            return None
        if item["type"] == "scale":
            try:
                factor *= float(item["scale"][index])
            except (KeyError, TypeError, ValueError, IndexError):
                return None
    return factor
