"""The basket of control samples: tiles put in or taken out one by one, beside the regions drawn."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, Literal, get_args

import numpy as np
from numpy.typing import NDArray

from napari_batchfx.errors import StudyError

if TYPE_CHECKING:
    from napari_batchfx.study.entries import SlideEntry
    from napari_batchfx.tiles import TileGrid

__all__ = ["ControlSource", "ControlTile", "from_file", "mark_controls", "read_file", "to_csv", "to_geojson"]

ControlSource = Literal["suggested", "class", "pair", "clicked", "file"]

#: A hundred thousand control tiles have 20 MB.
MAX_FILE_BYTES: Final = 64 * 2**20
#: Brackets of a GeoJSON of 250,000 tiles.
_MOST_PARTS: Final = 2_500_000
_COLUMNS = ("slide_id", "slide", "y_um", "x_um", "size_um", "is_taken", "source", "reason")
_FRAME = {"version": 1, "unit": "micrometre", "axes": "x, y", "kind": "control samples"}


@dataclass(frozen=True)
class ControlTile:
    """A tile put into the basket by itself, or taken out of a control region.

    It is kept by its place, so it stays where it is when tiles get another size.

    Parameters
    ----------
    slide : str
        Name of the slide in the study.
    y_um, x_um : float
        Its centre, micrometres from the slide's top left corner.
    size_um : float
        Its edge.
    reason : str
        Why it was taken.
    source : {"suggested", "class", "pair", "clicked", "file"}
    is_taken : bool
        False = it is no control, even where a control region covers it.

    Raises
    ------
    StudyError
        If the place is no number or the source is none of these.

    Examples
    --------
    >>> ControlTile("A-1042", 56.0, 168.0, 112.0, "96 % tissue").is_taken
    True
    """

    slide: str
    y_um: float
    x_um: float
    size_um: float
    reason: str = ""
    source: ControlSource = "clicked"
    is_taken: bool = True

    def __post_init__(self) -> None:
        if not np.isfinite([self.y_um, self.x_um, self.size_um]).all() or self.size_um <= 0:
            raise StudyError(f"{self.slide}: a control tile needs a place and a size in micrometres.")
        if self.source not in get_args(ControlSource):
            raise StudyError(f"{self.slide}: a control tile can't come from {self.source!r}.")


def mark_controls(
    tiles: Iterable[ControlTile], slide: str, grid: TileGrid, control: NDArray[np.bool_]
) -> NDArray[np.bool_]:
    """The controls (rows, cols) of a grid: those of the regions, with the basket's tiles in or out.

    A cell belongs to a tile of the basket if the tile's centre lies in it.
    """
    marked = control.copy()
    for tile in tiles:
        cell = grid.cell_at(tile.y_um, tile.x_um) if tile.slide == slide else None
        if cell is not None:
            marked[cell] = tile.is_taken
    return marked


def put(tiles: Sequence[ControlTile], new: Iterable[ControlTile]) -> list[ControlTile]:
    """The basket with tiles put in (or taken out, where ``is_taken`` is False); the last word holds."""
    found = {_place(tile): tile for tile in tiles}
    for tile in new:
        found.pop(_place(tile), None)
        found[_place(tile)] = tile
    return list(found.values())


def rescale(tiles: Sequence[ControlTile], slide: str, factor: NDArray[np.float64]) -> list[ControlTile]:
    """The same tiles on their tissue after the slide's pixel size changed by factors (y, x)."""
    y, x = (float(value) for value in factor)
    return [
        replace(tile, y_um=tile.y_um * y, x_um=tile.x_um * x) if tile.slide == slide else tile
        for tile in tiles
    ]


def to_csv(
    tiles: Sequence[ControlTile], entries: Sequence[SlideEntry], *, with_identifiers: bool = False
) -> str:
    """The basket as CSV; slides by their content, and by name only if asked."""
    text = io.StringIO()
    writer = csv.DictWriter(text, _COLUMNS, lineterminator="\n")
    writer.writeheader()
    writer.writerows(_rows(tiles, entries, with_identifiers))
    return text.getvalue()


def to_geojson(
    tiles: Sequence[ControlTile], entries: Sequence[SlideEntry], *, with_identifiers: bool = False
) -> str:
    """The basket as a GeoJSON collection of squares, x before y, in micrometres; slides as in CSV."""
    features = []
    for row in _rows(tiles, entries, with_identifiers):
        half = row["size_um"] / 2
        y0, x0, y1, x1 = row["y_um"] - half, row["x_um"] - half, row["y_um"] + half, row["x_um"] + half
        ring = [[x0, y0], [x1, y0], [x1, y1], [x0, y1], [x0, y0]]
        properties = {
            "objectType": "annotation",
            "classification": {"name": "control" if row["is_taken"] else "no control"},
            **{key: row[key] for key in ("slide_id", "slide", "source", "reason") if row[key] != ""},
        }
        geometry = {"type": "Polygon", "coordinates": [ring]}
        features.append({"type": "Feature", "geometry": geometry, "properties": properties})
    collection = {"type": "FeatureCollection", "batchfx": _FRAME, "features": features}
    return json.dumps(collection, ensure_ascii=False, indent=1) + "\n"


def read_file(path: Path, entries: Sequence[SlideEntry]) -> tuple[list[ControlTile], list[str]]:
    """Tiles of a file that :func:`to_csv` or :func:`to_geojson` made, and what was left out.

    Raises
    ------
    StudyError
        If it can't be read, is too large or is something else.
    """
    try:
        if path.is_file() and (size := path.stat().st_size) > MAX_FILE_BYTES:
            raise StudyError(
                f"{path.name}: it has {size / 1e6:,.0f} MB, more than any list of control samples; choose "
                "another."
            )
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise StudyError(f"{path.name}: it can't be read ({type(error).__name__}).") from error
    return from_file(text, path.name, entries)


def from_file(text: str, source: str, entries: Sequence[SlideEntry]) -> tuple[list[ControlTile], list[str]]:
    """Tiles from what :func:`to_csv` or :func:`to_geojson` wrote, and what was left out.

    Slides are found by their content, or else by name. Tiles of slides that the study doesn't have are left
    out and said.

    Raises
    ------
    StudyError
        If the file is neither.
    """
    n_parts = text.count("[") + text.count("{")
    if n_parts > _MOST_PARTS:
        raise StudyError(
            f"{source}: it has more than {_MOST_PARTS:,} parts, more than any list of control samples; "
            "choose another."
        )
    try:
        rows = _read_geojson(text) if text.lstrip().startswith("{") else _read_csv(text)
        of = {entry.fingerprint: entry.name for entry in entries}
        names = set(of.values())
        tiles, unknown = [], 0
        for row in rows:
            name = of.get(str(row.get("slide_id") or ""), str(row.get("slide") or ""))
            if name not in names:
                unknown += 1
                continue
            kind = str(row.get("source") or "file")
            tiles.append(
                ControlTile(
                    name,
                    float(row["y_um"]),
                    float(row["x_um"]),
                    float(row["size_um"]),
                    str(row.get("reason") or ""),
                    kind if kind in get_args(ControlSource) else "file",  # type: ignore[arg-type]
                    str(row.get("is_taken", True)).strip().lower() not in ("false", "0", "no"),
                )
            )
    except (ValueError, KeyError, TypeError, AttributeError, IndexError, RecursionError, csv.Error) as error:
        raise StudyError(
            f"{source}: not a list of control samples ({type(error).__name__}); it needs the columns "
            "slide_id "
            "(or slide), y_um, x_um and size_um, or GeoJSON squares that this program wrote."
        ) from error
    left = [f"{source}: {unknown:,} tiles are of slides that the study doesn't have."] if unknown else []
    return tiles, left


def _rows(
    tiles: Sequence[ControlTile], entries: Sequence[SlideEntry], with_identifiers: bool
) -> list[dict[str, Any]]:
    of = {entry.name: entry.fingerprint for entry in entries}
    return [
        {
            "slide_id": of.get(tile.slide, ""),
            "slide": tile.slide if with_identifiers else "",
            "y_um": round(tile.y_um, 3),
            "x_um": round(tile.x_um, 3),
            "size_um": round(tile.size_um, 3),
            "is_taken": tile.is_taken,
            "source": tile.source,
            # a reason names the tiles it was compared with: by their slides
            "reason": tile.reason if with_identifiers else _without_names(tile.reason, of),
        }
        for tile in tiles
    ]


def _without_names(reason: str, of: Mapping[str, str]) -> str:
    for name in sorted(of, key=len, reverse=True):
        reason = reason.replace(name, of[name][:8])
    return reason


def _read_csv(text: str) -> list[dict[str, Any]]:
    reader = csv.DictReader(io.StringIO(text.lstrip("\ufeff")))
    names = set(reader.fieldnames or ())
    if not {"y_um", "x_um", "size_um"} <= names or not {"slide_id", "slide"} & names:
        raise ValueError("columns are missing")
    rows: list[dict[str, Any]] = list(reader)
    return rows


def _read_geojson(text: str) -> list[dict[str, Any]]:
    collection = json.loads(text)
    if collection["batchfx"]["unit"] != "micrometre":
        raise ValueError("the unit is not micrometre")
    rows = []
    for feature in collection["features"]:
        ring = np.asarray(feature["geometry"]["coordinates"][0], dtype=np.float64)
        (x0, y0), (x1, y1) = ring.min(axis=0), ring.max(axis=0)
        properties = feature["properties"]
        rows.append(
            {
                **properties,
                "y_um": (y0 + y1) / 2,
                "x_um": (x0 + x1) / 2,
                "size_um": y1 - y0,
                "is_taken": properties["classification"]["name"] != "no control",
            }
        )
    return rows


def _place(tile: ControlTile) -> tuple[str, int, int]:
    # to a tenth of a micrometre: the same tile, read back from a file
    return tile.slide, round(tile.y_um * 10), round(tile.x_um * 10)
