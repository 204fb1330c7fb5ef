"""An overlay as a picture with its legend, or as numbers: OME-TIFF and OME-Zarr."""

from __future__ import annotations

import json
import os
import shutil
import uuid
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from napari_batchfx.errors import StudyError
from napari_batchfx.report.figures import overlay_figure, to_png
from napari_batchfx.tiles import TileMap

__all__ = ["write_overlay_ome_tiff", "write_overlay_ome_zarr", "write_overlay_png"]


def write_overlay_png(
    path: str | os.PathLike[str],
    thumbnail: npt.NDArray[np.uint8],
    thumbnail_um: tuple[float, float],
    tiles: TileMap,
    *,
    categories: Sequence[str] = (),
) -> Path:
    """Write the slide and the values over it as a picture with legend and scale bar.

    Parameters
    ----------
    path : path
        File to write (.png).
    thumbnail : uint8 (h, w, 3)
        The whole slide.
    thumbnail_um : (float, float)
        Micrometres a thumbnail pixel, (y, x).
    tiles : TileMap
    categories : sequence of str
        Names of the classes where the values are class numbers.

    Raises
    ------
    StudyError
        If the file can't be written.

    Examples
    --------
    >>> import numpy as np
    >>> tiles = TileMap((1, 2), (0.0, 0.0), 112.0, 112.0, np.array([[0.2, 0.9]]), "site probe")
    >>> grey = np.full((60, 120, 3), 220, np.uint8)
    >>> write_overlay_png("a.png", grey, (2.0, 2.0), tiles).name
    'a.png'
    """
    path = Path(path)
    picture = to_png(overlay_figure(thumbnail, thumbnail_um, tiles, categories=categories))
    draft = path.with_name(f".{path.name}.{uuid.uuid4().hex[:8]}.part")
    try:
        draft.write_bytes(picture)
        draft.replace(path)
    except OSError as error:
        raise _trouble(path, error) from error
    finally:
        draft.unlink(missing_ok=True)
    return path


def write_overlay_ome_tiff(
    path: str | os.PathLike[str], tiles: TileMap, *, provenance: Mapping[str, Any] | None = None
) -> Path:
    """Write the values of an overlay as OME-TIFF: float32, one pixel a tile, NaN where nothing was computed.

    The pixel size is the tiles' step, so that the picture has the slide's size in micrometres; the position
    of its first pixel's centre, the name, the range and how it was computed are in the OME-XML.

    Parameters
    ----------
    path : path
        File to write (.ome.tif).
    tiles : TileMap
    provenance : mapping, optional
        Plain values, kept as a JSON annotation.

    Raises
    ------
    StudyError
        If the file can't be written.

    Examples
    --------
    >>> import numpy as np
    >>> tiles = TileMap((1, 2), (0.0, 0.0), 112.0, 112.0, np.array([[0.2, np.nan]]), "site probe")
    >>> write_overlay_ome_tiff("a.ome.tif", tiles).name
    'a.ome.tif'
    """
    from napari_batchfx.slides import write_values

    path = Path(path)
    try:
        return write_values(
            path,
            tiles.values,
            (tiles.stride_um, tiles.stride_um),
            origin_um=tiles.translate_um,
            name=tiles.name,
            description=tiles.description,
            extra=_said(tiles, provenance),
        )
    except OSError as error:
        raise _trouble(path, error) from error


def write_overlay_ome_zarr(
    path: str | os.PathLike[str], tiles: TileMap, *, provenance: Mapping[str, Any] | None = None
) -> Path:
    """Write the values of an overlay as OME-Zarr (NGFF 0.5): float32, one pixel a tile, in micrometres.

    Parameters
    ----------
    path : path
        Folder to make (.ome.zarr); one that is there is replaced when the new one is complete.
    tiles : TileMap
    provenance : mapping, optional
        Plain values, kept among the attributes.

    Raises
    ------
    StudyError
        If it can't be written.

    Examples
    --------
    >>> import numpy as np, zarr
    >>> tiles = TileMap((1, 2), (0.0, 0.0), 112.0, 112.0, np.array([[0.2, np.nan]]), "site probe")
    >>> zarr.open_group(write_overlay_ome_zarr("a.ome.zarr", tiles))["0"].shape
    (1, 2)
    """
    import zarr

    path = Path(path)
    draft = path.with_name(f".{path.name}.{uuid.uuid4().hex[:8]}.part")
    try:
        root = zarr.open_group(draft, mode="w", zarr_format=3)
        root.create_array("0", data=np.asarray(tiles.values, dtype=np.float32), dimension_names=("y", "x"))
        root.attrs["ome"] = {
            "version": "0.5",
            "multiscales": [
                {
                    "name": tiles.name or "overlay",
                    "axes": [{"name": a, "type": "space", "unit": "micrometer"} for a in "yx"],
                    "datasets": [
                        {
                            "path": "0",
                            "coordinateTransformations": [
                                {"type": "scale", "scale": list(tiles.scale_um)},
                                {"type": "translation", "translation": list(tiles.translate_um)},
                            ],
                        }
                    ],
                }
            ],
        }
        root.attrs["batchfx"] = _said(tiles, provenance)
        if path.exists():
            _remove_overlay(path)
        draft.replace(path)
    except OSError as error:
        raise _trouble(path, error) from error
    finally:
        shutil.rmtree(draft, ignore_errors=True)
    return path


def _remove_overlay(path: Path) -> None:
    """Remove an earlier export; a folder of something else stays."""
    if not (path / "zarr.json").is_file():
        raise StudyError(f"{path.name}: something else is there already; choose another name.")
    if "batchfx" not in json.loads((path / "zarr.json").read_text("utf-8")).get("attributes", {}):
        raise StudyError(f"{path.name}: another program's picture is there already; choose another name.")
    shutil.rmtree(path)


def _said(tiles: TileMap, provenance: Mapping[str, Any] | None) -> dict[str, Any]:
    said: dict[str, Any] = {
        "name": tiles.name,
        "unit": tiles.unit,
        "range": [float(tiles.vmin), float(tiles.vmax)],
        "chance": tiles.chance,
        "labels": list(tiles.labels),
        "how": tiles.description,
        "tile_um": float(tiles.size_um),
    }
    return said | ({"provenance": dict(provenance)} if provenance is not None else {})


def _trouble(path: Path, error: OSError) -> StudyError:
    return StudyError(f"{path.name}: can't be written ({error.strerror or error}); choose another folder.")
