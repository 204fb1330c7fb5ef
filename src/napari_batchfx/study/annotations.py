"""Regions drawn on slides: classes and control samples, as GeoJSON, and what they say about tiles."""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from napari_batchfx.errors import StudyError
from napari_batchfx.study.tissue_regions import is_tissue_class

if TYPE_CHECKING:
    from napari_batchfx.tiles import TileGrid

__all__ = ["Annotation", "TileLabels", "annotate_cells", "from_geojson", "tile_labels", "to_geojson"]

_FRAME = {
    "version": 1,
    "unit": "micrometre",
    "axes": "x, y",
    "origin": "outer top-left corner of the slide's first pixel",
}


@dataclass(frozen=True, eq=False)
class Annotation:
    """A polygon on a slide that gives its tiles a class, marks them as control samples, or both.

    Parameters
    ----------
    slide : str
        Name of the slide in the study.
    class_name : str or None
        The class of the tiles inside; ``None`` leaves their class alone (a region of controls only).
    is_control : bool
        Whether the tiles inside are control samples.
    polygon_um : array (k, 2), float64
        Vertices (y, x) in micrometres from the slide's outer top-left corner; k >= 3, not closed.

    Raises
    ------
    StudyError
        If the polygon has fewer than three vertices or a vertex isn't a number.

    Examples
    --------
    >>> Annotation("A-1042", "tumour", False, [[0, 0], [0, 100], [100, 100]]).polygon_um.shape
    (3, 2)
    """

    slide: str
    class_name: str | None
    is_control: bool
    polygon_um: NDArray[np.float64]

    def __post_init__(self) -> None:
        polygon = np.array(self.polygon_um, dtype=np.float64)
        if polygon.ndim == 2 and len(polygon) > 1 and np.array_equal(polygon[0], polygon[-1]):
            polygon = polygon[:-1]
        if polygon.ndim != 2 or polygon.shape[1] != 2 or len(polygon) < 3 or not np.isfinite(polygon).all():
            raise StudyError(
                f"{self.slide}: a region needs at least three corners, each with a y and an x in micrometres."
            )
        polygon.setflags(write=False)
        object.__setattr__(self, "polygon_um", polygon)
        object.__setattr__(self, "class_name", self.class_name or None)

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Annotation):
            return NotImplemented
        return (self.slide, self.class_name, self.is_control) == (
            other.slide,
            other.class_name,
            other.is_control,
        ) and np.array_equal(self.polygon_um, other.polygon_um)

    def __hash__(self) -> int:
        return hash((self.slide, self.class_name, self.is_control, self.polygon_um.tobytes()))


@dataclass(frozen=True)
class TileLabels:
    """What the annotations say about every tile of a grid.

    Parameters
    ----------
    label : array (rows, cols) of object
        Class name, or ``None`` where no region with a class contains the tile's centre.
    control : array (rows, cols) of bool
        Whether a control region contains the tile's centre.
    """

    label: NDArray[np.object_]
    control: NDArray[np.bool_]

    def of(self, cells: NDArray[np.integer[Any]]) -> tuple[NDArray[np.object_], NDArray[np.bool_]]:
        """Labels (n,) and controls (n,) of the cells (n, 2)."""
        rows, cols = np.asarray(cells).reshape(-1, 2).T
        return self.label[rows, cols], self.control[rows, cols]


def tile_labels(annotations: Iterable[Annotation], slide: str, grid: TileGrid) -> TileLabels:
    """Classes and controls of every tile of a grid, from the regions drawn on its slide.

    A tile takes the class of the region that contains its *centre*; where regions overlap the one drawn last
    wins. A tile is a
    control if any control region contains its centre: a class drawn over controls later doesn't take the
    mark away. Regions of class "tissue" and "no tissue" say what is tissue; they are no labels.

    Parameters
    ----------
    annotations : iterable of Annotation
        In the order they were drawn; those of other slides are left out.
    slide : str
        Name of the grid's slide in the study.
    grid : TileGrid
        The tiles.

    Returns
    -------
    TileLabels

    Examples
    --------
    >>> from napari_batchfx.slides import open_slide, write_pyramid
    >>> from napari_batchfx.tiles import TileGrid
    >>> _ = write_pyramid("a.tif", np.full((300, 400, 3), 200, np.uint8), mpp=0.5, compression="deflate")
    >>> region = Annotation("a", "tumour", False, [[0, 0], [0, 70], [40, 70], [40, 0]])
    >>> with open_slide("a.tif") as slide:
    ...     found = tile_labels([region], "a", TileGrid(slide, size_px=64, mpp=0.5))
    >>> labels, controls = found.of(np.array([[0, 0], [3, 3]]))
    >>> list(labels), controls.tolist()
    (['tumour', None], [False, False])
    """
    label = np.full(grid.shape, None, dtype=object)
    control = np.zeros(grid.shape, dtype=bool)
    for annotation in annotations:
        if annotation.slide != slide or is_tissue_class(annotation.class_name):
            continue
        rows, cols = np.asarray(grid.cells_in_polygon(annotation.polygon_um), dtype=np.intp).reshape(-1, 2).T
        if annotation.class_name is not None:
            label[rows, cols] = annotation.class_name
        if annotation.is_control:
            control[rows, cols] = True
    return TileLabels(label, control)


def annotate_cells(
    grid: TileGrid,
    cells: NDArray[np.integer[Any]],
    slide: str,
    class_name: str | None,
    is_control: bool = False,
) -> list[Annotation]:
    """Rectangles that contain the centres of these tiles and of no others.

    Parameters
    ----------
    grid : TileGrid
        The tiles.
    cells : array (n, 2), int
        Rows and columns.
    slide : str
        Name of the grid's slide in the study.
    class_name : str or None
        Class of the tiles.
    is_control : bool
        Whether they are control samples.

    Returns
    -------
    list of Annotation
        As few as neighbouring rows with the same columns make.

    Examples
    --------
    >>> from napari_batchfx.slides import open_slide, write_pyramid
    >>> from napari_batchfx.tiles import TileGrid
    >>> _ = write_pyramid("a.tif", np.full((300, 400, 3), 200, np.uint8), mpp=0.5, compression="deflate")
    >>> with open_slide("a.tif") as slide:
    ...     grid = TileGrid(slide, size_px=64, mpp=0.5)
    ...     regions = annotate_cells(grid, np.array([[0, 0], [0, 1], [1, 0], [1, 1]]), "a", "tumour")
    ...     len(regions), grid.cells_in_polygon(regions[0].polygon_um).tolist()
    (1, [[0, 0], [0, 1], [1, 0], [1, 1]])
    """
    mask = np.zeros((grid.shape[0], grid.shape[1] + 2), dtype=np.int8)
    rows, cols = np.asarray(cells, dtype=np.intp).reshape(-1, 2).T
    mask[rows, cols + 1] = 1
    growing: dict[tuple[int, int], int] = {}
    found: list[tuple[int, int, int, int]] = []
    for row in range(grid.shape[0] + 1):
        edges = np.flatnonzero(np.diff(mask[row])) if row < grid.shape[0] else np.empty(0, dtype=np.intp)
        runs = set(zip(edges[::2].tolist(), edges[1::2].tolist(), strict=True))
        for run in [run for run in growing if run not in runs]:
            found.append((growing.pop(run), row, *run))
        for run in runs:
            growing.setdefault(run, row)
    offset = (grid.size_um - grid.stride_um) / 2
    boxes = [np.array(box) * grid.stride_um + offset for box in sorted(found)]
    return [
        Annotation(slide, class_name, is_control, np.array([[y0, x0], [y0, x1], [y1, x1], [y1, x0]]))
        for y0, y1, x0, x1 in boxes
    ]


def to_geojson(annotations: Sequence[Annotation]) -> str:
    """Annotations as a GeoJSON FeatureCollection of QuPath-like annotation objects.

    Coordinates are **micrometres**, x before y, from the outer top-left corner of the slide's first pixel;
    the collection says so
    under ``batchfx``. (QuPath itself counts in full-resolution pixels: use the report's export for that.)
    """
    features = []
    for annotation in annotations:
        ring = [[float(x), float(y)] for y, x in annotation.polygon_um]
        properties: dict[str, Any] = {
            "objectType": "annotation",
            "slide": annotation.slide,
            "isControl": annotation.is_control,
        }
        if annotation.class_name is not None:
            properties["classification"] = {"name": annotation.class_name}
        geometry = {"type": "Polygon", "coordinates": [[*ring, ring[0]]]}
        features.append({"type": "Feature", "geometry": geometry, "properties": properties})
    collection = {"type": "FeatureCollection", "batchfx": _FRAME, "features": features}
    return json.dumps(collection, ensure_ascii=False, indent=1) + "\n"


def from_geojson(text: str, source: str = "annotations.geojson") -> list[Annotation]:
    """Annotations from the text that :func:`to_geojson` wrote.

    Raises
    ------
    StudyError
        If the text isn't a GeoJSON collection of polygons in micrometres.
    """
    try:
        collection = json.loads(text)
        unit = collection.get("batchfx", {}).get("unit")
        if unit != "micrometre":
            raise StudyError(
                f"{source}: the file doesn't say that its coordinates are micrometres; export it from a "
                "study again."
            )
        annotations = []
        for feature in collection["features"]:
            properties = feature["properties"]
            ring = np.asarray(feature["geometry"]["coordinates"][0], dtype=np.float64)
            name = (properties.get("classification") or {}).get("name")
            annotations.append(
                Annotation(properties["slide"], name, bool(properties.get("isControl", False)), ring[:, ::-1])
            )
    except (ValueError, KeyError, TypeError, AttributeError, IndexError) as error:
        raise StudyError(
            f"{source}: not a collection of drawn regions ({type(error).__name__}); restore the file from a "
            "copy."
        ) from error
    return annotations
