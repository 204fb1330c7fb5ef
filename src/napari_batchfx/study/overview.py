"""The picture of encoded tiles that a viewer shows: the first principal component of every tile."""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, TypeAlias

import numpy as np
from numpy.typing import NDArray

from napari_batchfx.study.axis import SAMPLE, Axis
from napari_batchfx.study.slide_work import EncodedTiles

if TYPE_CHECKING:
    from napari_batchfx.study.live_view import Look
    from napari_batchfx.tiles import TileGrid, TileMap

__all__ = ["MappedTiles", "Overview", "SlideMap", "blank_map", "tissue_cells"]

Listener: TypeAlias = "Callable[[EncodedTiles, TileGrid], object]"

_DESCRIPTION = (
    "First principal component of the feature vectors of all encoded tiles (standardised features; unit: "
    "standard deviations). It shows where tiles look different to the encoder; it is no measurement of "
    "anything by itself."
)


@dataclass(frozen=True)
class MappedTiles:
    """Tiles of one slide that were just encoded, with the value that is shown for each.

    Parameters
    ----------
    fingerprint : str
        The slide's content.
    cells : array (k, 2), int
    values : array (k,), float32
    """

    fingerprint: str
    cells: NDArray[np.int64]
    values: NDArray[np.float32]


@dataclass
class SlideMap:
    """A slide's map, the grid it lies on, and its tiles that the axis was fitted on.

    Parameters
    ----------
    grid : TileGrid
    tiles : TileMap
    sampled : list of (array (k, 2), array (k, dim))
        Cells and features.
    is_complete : bool
        Whether everything that was stored is on the map.
    """

    grid: TileGrid
    tiles: TileMap
    sampled: list[tuple[NDArray[np.int64], NDArray[np.float32]]]
    is_complete: bool = False


class Overview:
    """The picture of encoded tiles that a viewer shows, kept from job to job: one axis, one map a slide.

    Jobs add tiles in their thread and the window takes the maps that changed; a job that was cancelled before
    its last tiles were drawn loses none.

    Parameters
    ----------
    listeners : sequence of callable
        Called with the same tiles and grid, in the job's thread, after each addition.
    """

    def __init__(self, listeners: Sequence[Listener] = ()) -> None:
        self._listeners = listeners
        self._adding = threading.Lock()
        self._lock = threading.Lock()
        self._axis = Axis()
        self._slides: dict[str, SlideMap] = {}
        self._changed: set[str] = set()

    def add(self, tiles: EncodedTiles, grid: TileGrid) -> MappedTiles:
        """Put tiles of a slide into its map; where the axis moves with them, its sample moves along."""
        name, cells, features = tiles.fingerprint, tiles.cells, tiles.features
        with self._adding:
            slide = self._slide(name, grid)
            room = SAMPLE - self._axis.seen
            if room > 0 and len(cells):
                slide.sampled.append((cells[:room], features[:room]))
            moved = self._axis.add(features)  # this takes its time, and the window asks for maps meanwhile
            values = self._axis.scores(features)
            others = [
                (its, where, self._axis.scores(rows))
                for its in (list(self._slides.values()) if moved else ())
                for where, rows in its.sampled
            ]
            with self._lock:
                for its, where, scores in [*others, (slide, cells, values)]:
                    its.tiles.set(where, scores)
                self._changed |= set(self._slides) if moved else {name}
        for listener in self._listeners:
            listener(tiles, grid)
        return MappedTiles(name, cells, values)

    def replace(self, slides: dict[str, SlideMap], axis: Axis) -> None:
        """Take other maps instead, and the axis they were made with for what comes."""
        with self._adding, self._lock:
            self._axis, self._slides = axis, dict(slides)
            self._changed |= set(slides)

    def lacks(self, fingerprint: str, grid: TileGrid, cells: NDArray[np.int64]) -> NDArray[np.bool_]:
        """Which cells (n, 2) have no value in the slide's map, bool (n,)."""
        with self._lock:
            slide = self._slides.get(fingerprint)
            if slide is None or not _fits(slide.grid, grid):
                return np.ones(len(cells), dtype=bool)
            missing: NDArray[np.bool_] = np.isnan(slide.tiles.values[cells[:, 0], cells[:, 1]])
            return missing

    def covers(self, look: Look, min_tissue: float) -> bool:
        """Whether all tissue seen of a slide has its value; never waits for tissue to be found."""
        slide = self._slides.get(look.entry.fingerprint)
        if slide is None or not slide.grid.is_current:
            return False
        if min_tissue > 0 and "tissue" not in vars(slide.grid):
            return False
        cells = tissue_cells(slide.grid, look.box_um, min_tissue)
        return not self.lacks(look.entry.fingerprint, slide.grid, cells).any()

    def is_complete(self, fingerprint: str, grid: TileGrid) -> bool:
        """Whether everything that was stored of a slide is on its map."""
        slide = self._slides.get(fingerprint)
        return slide is not None and slide.is_complete and _fits(slide.grid, grid)

    def set_complete(self, fingerprint: str) -> None:
        """Note that all that is stored of a slide is on its map; what comes now is added as it comes."""
        with self._lock:
            if fingerprint in self._slides:
                self._slides[fingerprint].is_complete = True

    def take_changed(self) -> dict[str, TileMap]:
        """Copies of the maps that changed since the last time, by fingerprint."""
        with self._lock:
            changed, self._changed = self._changed, set()
            maps = {name: self._slides[name].tiles for name in changed if name in self._slides}
            return {name: replace(tiles, values=tiles.values.copy()) for name, tiles in maps.items()}

    def show_again(self) -> None:
        """Have every map taken again."""
        with self._lock:
            self._changed |= set(self._slides)

    def forget(self, fingerprint: str) -> None:
        """Drop a slide's tiles: they are others now."""
        with self._lock:
            self._slides.pop(fingerprint, None)
            self._changed.discard(fingerprint)

    def _slide(self, fingerprint: str, grid: TileGrid) -> SlideMap:
        with self._lock:
            slide = self._slides.get(fingerprint)
            if slide is None or not _fits(slide.grid, grid):
                slide = self._slides[fingerprint] = SlideMap(grid, blank_map(grid), [])
            slide.grid = grid  # of the same places; its tissue may be another
            return slide


def _fits(one: TileGrid, other: TileGrid) -> bool:
    return one.key == other.key and one.shape == other.shape


def tissue_cells(
    grid: TileGrid, box_um: tuple[float, float, float, float], min_tissue: float
) -> NDArray[np.int64]:
    """Cells with their centre in a box (y0, x0, y1, x1, micrometres) and that share of tissue, row by row."""
    cells = np.asarray(grid.cells_in_box(*box_um), dtype=np.int64).reshape(-1, 2)
    return cells if min_tissue <= 0 else cells[grid.tissue[cells[:, 0], cells[:, 1]] >= min_tissue]


def blank_map(grid: TileGrid) -> TileMap:
    """A map of encoded tiles without values."""
    from napari_batchfx.tiles import TileMap

    empty = np.empty((0, 2), dtype=np.int64)
    return TileMap.from_cells(
        grid,
        empty,
        np.empty(0, dtype=np.float32),
        name="encoded tiles",
        unit="sd",
        vmin=-2.5,
        vmax=2.5,
        colormap="viridis",
        description=_DESCRIPTION,
    )
