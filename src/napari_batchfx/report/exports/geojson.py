"""Tiles and regions as the GeoJSON that QuPath opens."""

from __future__ import annotations

import json
import math
import os
import uuid
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from napari_batchfx.errors import StudyError
from napari_batchfx.report.figures import CLASS_COLOURS

__all__ = ["QuPathRegion", "QuPathTiles", "write_geojson"]

_SPACE = uuid.UUID("6d1f3d1c-6f0e-5b0a-9a53-2c6c2f0f5e1a")


@dataclass(frozen=True)
class QuPathTiles:
    """Tiles of one slide with what was measured on them.

    Parameters
    ----------
    corners : float array (n, 2)
        (x, y) of the top left corners, full-resolution pixels.
    side : (float, float)
        Width and height of a tile in those pixels.
    measurements : mapping of str to float array (n,)
        By name; what is not finite is left out of its tile.
    classes : sequence of str or None, length n
        Class of each tile, ``None`` where it has none.
    """

    corners: npt.NDArray[np.float64]
    side: tuple[float, float]
    measurements: Mapping[str, npt.NDArray[Any]] = field(default_factory=dict)
    classes: Sequence[str | None] = ()


@dataclass(frozen=True)
class QuPathRegion:
    """A drawn region.

    Parameters
    ----------
    polygon : float array (k, 2)
        (x, y) of the corners, full-resolution pixels; not closed.
    class_name : str or None
    measurements : mapping of str to float
    """

    polygon: npt.NDArray[np.float64]
    class_name: str | None = None
    measurements: Mapping[str, float] = field(default_factory=dict)


def write_geojson(
    path: str | os.PathLike[str],
    tiles: QuPathTiles | None = None,
    regions: Sequence[QuPathRegion] = (),
    *,
    provenance: Mapping[str, Any] | None = None,
    identity: str = "",
) -> Path:
    """Write tiles and regions of one slide as a GeoJSON feature collection that QuPath opens.

    In QuPath: open the slide, then *File > Import objects from file*, or drop the file on the image. Every
    object states its type (``tile`` or ``annotation``), measurements are a mapping of names to numbers, and
    places are full-resolution pixels from the top left corner, as QuPath 0.4 and later write them.

    Parameters
    ----------
    path : path
        File to write; it appears when it is complete.
    tiles : QuPathTiles, optional
    regions : sequence of QuPathRegion
    provenance : mapping, optional
        Plain values on how it was computed, kept beside the objects (``"batchfx"``); QuPath leaves them
        alone.
    identity : str
        What tells this slide from others (its fingerprint): ids of objects depend on it, so that the same
        tiles have the same ids in every export.

    Returns
    -------
    Path
        The file.

    Raises
    ------
    StudyError
        If the file can't be written.

    Examples
    --------
    >>> import json, numpy as np
    >>> corner, seen = np.array([[0.0, 0.0]]), {"confidence": np.array([0.9])}
    >>> tiles = QuPathTiles(corner, (256.0, 256.0), seen, ["tumour"])
    >>> found = json.loads(write_geojson("a.geojson", tiles).read_text())["features"][0]
    >>> found["properties"]["objectType"], found["properties"]["measurements"]
    ('tile', {'confidence': 0.9})
    """
    path = Path(path)
    names = [name for name in (tiles.classes if tiles is not None else ()) if name]
    names += [region.class_name for region in regions if region.class_name]
    colours = {
        name: _rgb(CLASS_COLOURS[i % len(CLASS_COLOURS)])
        for i, name in enumerate(sorted(dict.fromkeys(names)))
    }
    draft = path.with_name(f".{path.name}.{uuid.uuid4().hex[:8]}.part")
    try:
        with draft.open("w", encoding="utf-8", newline="\n") as file:
            file.write('{"type": "FeatureCollection"')
            if provenance is not None:
                file.write(f', "batchfx": {_text(_plain(provenance))}')
            file.write(', "features": [')
            between = "\n"
            for feature in _features(tiles, regions, colours, identity):
                file.write(between + _text(feature))
                between = ",\n"
            file.write("\n]}\n")
        draft.replace(path)
    except OSError as error:
        raise StudyError(
            f"{path.name}: can't be written ({error.strerror}); choose another folder."
        ) from error
    finally:
        draft.unlink(missing_ok=True)
    return path


def _features(
    tiles: QuPathTiles | None,
    regions: Iterable[QuPathRegion],
    colours: Mapping[str, list[int]],
    identity: str,
) -> Iterator[dict[str, Any]]:
    for number, region in enumerate(regions):
        yield _feature(
            region.polygon,
            "annotation",
            region.class_name,
            colours,
            region.measurements,
            f"{identity}/region/{number}",
        )
    if tiles is None:
        return
    width, height = tiles.side
    box = np.array([[0.0, 0.0], [width, 0.0], [width, height], [0.0, height]])
    names = list(tiles.measurements)
    columns = [np.asarray(tiles.measurements[name], dtype=np.float64) for name in names]
    for i, corner in enumerate(np.asarray(tiles.corners, dtype=np.float64)):
        values = {name: float(column[i]) for name, column in zip(names, columns, strict=True)}
        yield _feature(
            corner + box,
            "tile",
            tiles.classes[i] if tiles.classes else None,
            colours,
            values,
            f"{identity}/tile/{corner[0]:.3f},{corner[1]:.3f}",
        )


def _feature(
    polygon: npt.NDArray[np.float64],
    kind: str,
    class_name: str | None,
    colours: Mapping[str, list[int]],
    measurements: Mapping[str, float],
    identity: str,
) -> dict[str, Any]:
    ring = [[_short(x), _short(y)] for x, y in polygon]
    properties: dict[str, Any] = {"objectType": kind}
    if class_name:
        properties["classification"] = {"name": class_name, "color": colours[class_name]}
    known = {name: float(value) for name, value in measurements.items() if math.isfinite(value)}
    if known:
        properties["measurements"] = known
    return {
        "type": "Feature",
        "id": str(uuid.uuid5(_SPACE, identity)),
        "geometry": {"type": "Polygon", "coordinates": [[*ring, ring[0]]]},
        "properties": properties,
    }


def _short(value: float) -> float | int:
    """A coordinate to a thousandth of a pixel, without .0."""
    rounded = round(float(value), 3)
    return int(rounded) if rounded == int(rounded) else rounded


def _rgb(colour: str) -> list[int]:
    return [int(colour[i : i + 2], 16) for i in (1, 3, 5)]


def _text(value: Any) -> str:
    return json.dumps(value, ensure_ascii=False, allow_nan=False)


def _plain(value: Any) -> Any:
    """Plain values; what is no finite number becomes null, which JSON has."""
    if isinstance(value, Mapping):
        return {str(key): _plain(one) for key, one in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(one) for one in value]
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return value
