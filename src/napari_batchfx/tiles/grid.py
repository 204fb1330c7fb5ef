"""Where tiles lie on a slide: squares of a physical size, rows and columns from the top left corner."""

from __future__ import annotations

from collections.abc import Iterable
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from napari_batchfx.errors import TileError
from napari_batchfx.slides import Slide
from napari_batchfx.tiles._moment import Moment
from napari_batchfx.tiles.tissue import TissueSettings, tissue_mask

__all__ = ["TileGrid", "nearest_first"]

Cells = NDArray[np.int64]
Points = NDArray[np.float64]


class TileGrid:
    """Tiles of ``size_px`` pixels at ``mpp`` micrometres a pixel over a slide.

    Cells are (row, col). Tile (row, col) covers ``row * stride_um`` to ``row * stride_um + size_um``
    micrometres from the slide's top edge, columns alike. Only tiles that lie on the slide are in the grid
    (half a pixel of tolerance).

    Parameters
    ----------
    slide : Slide
        With a known pixel size.
    size_px : int
        Tile edge in pixels of the tile.
    mpp : float
        Micrometres a tile pixel.
    stride_px : int, optional
        Step between tiles in tile pixels; the tile's size unless given.
    tissue_settings : TissueSettings, optional
        How tissue is found; the defaults otherwise. It selects cells and is no part of :attr:`key`: the
        features of a cell don't depend on it.
    include, exclude : iterable of array (k, 2)
        Polygons (y, x) in micrometres that are tissue, and that are none, whatever the pixels say.

    Attributes
    ----------
    shape : (int, int)
        Rows and columns.
    size_um, stride_um : float
        Edge and step in micrometres.
    level : int
        The slide's level tiles are read from: the coarsest stored one that is at least as fine as ``mpp``.
    slide_mpp : (float, float)
        The slide's pixel size when the grid was made.
    key : str
        Names the geometry, for stores: size, mpp, stride, a slide mpp that was given, the colours. All as
        they were when the grid was made: see :meth:`check_slide`.

    Raises
    ------
    TileError
        If it is no slide, has no pixel size or is smaller than one tile.

    Examples
    --------
    >>> import numpy as np, tempfile, pathlib
    >>> from napari_batchfx.slides import open_slide, write_pyramid
    >>> path = pathlib.Path(tempfile.mkdtemp()) / "a.tif"
    >>> _ = write_pyramid(path, np.full((500, 700, 3), 200, np.uint8), mpp=0.25)
    >>> TileGrid(open_slide(path), size_px=100, mpp=0.5).shape
    (2, 3)
    """

    def __init__(
        self,
        slide: Slide,
        size_px: int = 224,
        mpp: float = 0.5,
        stride_px: int | None = None,
        tissue_settings: TissueSettings | None = None,
        include: Iterable[ArrayLike] = (),
        exclude: Iterable[ArrayLike] = (),
    ) -> None:
        if not hasattr(slide, "mpp"):
            raise TileError(f"Tiles are laid on an open slide (see open_slide), not on {slide!r:.60}.")
        name = slide.path.name
        # Once, and the size before where it is from: it can be changed while this runs.
        slide_mpp = slide.mpp
        if slide_mpp is None:
            raise TileError(
                f"{name}: no pixel size in the file; give mpp=... (micrometres a pixel) before laying tiles."
            )
        stride = size_px if stride_px is None else stride_px
        if size_px < 1 or stride < 1 or not 0 < mpp < float("inf"):
            raise TileError(
                f"{name}: tile size and stride must be at least 1 px and mpp above 0, got {size_px}, "
                f"{stride}, {mpp}."
            )
        self.slide = slide
        self.size_px = int(size_px)
        self.mpp = float(mpp)
        self.stride_px = int(stride)
        self.size_um = self.size_px * self.mpp
        self.stride_um = self.stride_px * self.mpp
        self.tissue_settings = tissue_settings or TissueSettings()
        self._include, self._exclude = tuple(include), tuple(exclude)
        self.slide_mpp: tuple[float, float] = slide_mpp
        height, width = slide.shape[0] * slide_mpp[0], slide.shape[1] * slide_mpp[1]
        rows, cols = (
            int(np.floor((length + pixel / 2 - self.size_um) / self.stride_um + 1e-9)) + 1
            for length, pixel in ((height, slide_mpp[0]), (width, slide_mpp[1]))
        )
        if rows < 1 or cols < 1:
            raise TileError(
                f"{name}: it measures {height:.0f} x {width:.0f} µm, less than one tile of "
                f"{self.size_um:.0f} µm; use a smaller tile, or check the pixel size."
            )
        self.shape: tuple[int, int] = (rows, cols)
        self.level = self._best_level()
        self._colour_key = slide.colour_key
        self.key = f"{self.size_px}px-{self.mpp:.6g}um-step{self.stride_px}"
        if slide.mpp_source == "given":
            self.key += f"-slide{slide_mpp[0]:.6g}x{slide_mpp[1]:.6g}"
        if self._colour_key:
            self.key += f"-{self._colour_key}"

    def _best_level(self) -> int:
        # Stored levels only: a made one would be resampled twice. 1 % finer than needed still counts as
        # fitting.
        fits = [
            i
            for i, level in enumerate(self.slide.levels)
            if level.stored
            and max(m * d for m, d in zip(self.slide_mpp, level.downsample, strict=True)) <= self.mpp * 1.01
        ]
        return fits[-1] if fits else 0

    @property
    def n_cells(self) -> int:
        """Number of tiles, with and without tissue."""
        return self.shape[0] * self.shape[1]

    @property
    def is_current(self) -> bool:
        """Whether the slide still has the pixel size and the colours that the grid was made for."""
        return self.slide.mpp == self.slide_mpp and self.slide.colour_key == self._colour_key

    def check_slide(self, since: Moment | None = None) -> Moment:
        """Refuse a slide whose colours or pixel size were changed after the grid was made.

        Parameters
        ----------
        since : Moment, optional
            What an earlier call gave: nothing may have been changed since, not even there and back.

        Returns
        -------
        Moment
            To be given to a second call, after a read.

        Raises
        ------
        TileError
            One sentence; make a new grid, or encode again.
        """
        now = Moment.of(self.slide)
        if self.slide.mpp != self.slide_mpp or (since is not None and now.mpp is not since.mpp):
            what = "pixel size was"
        elif self.slide.colour_key != self._colour_key:
            what = "colours were"
        elif since is not None and now.token != since.token:
            what = "colours or its file were"
        else:
            return now
        raise TileError(
            f"{self.slide.name}: its {what} changed meanwhile, so these tiles are those of before; lay them "
            "anew (encode again)."
        )

    @cached_property
    def tissue(self) -> NDArray[np.float32]:
        """Share of tissue of every cell, float32 (rows, cols), 0..1."""
        cells = self.all_cells()
        before = self.check_slide()
        found = tissue_mask(
            self.slide, settings=self.tissue_settings, include=self._include, exclude=self._exclude
        )
        self.check_slide(before)
        return found.fraction(self.bounds_um(cells)).reshape(self.shape)

    def all_cells(self) -> Cells:
        """Return every cell, int (n, 2), row by row."""
        result: Cells = np.indices(self.shape, dtype=np.int64).reshape(2, -1).T.copy()
        return result

    def cells(self, min_tissue: float = 0.25) -> Cells:
        """Return the cells with at least that share of tissue, int (n, 2), row by row; 0 gives all."""
        if min_tissue <= 0:
            return self.all_cells()
        return np.argwhere(self.tissue >= min_tissue).astype(np.int64)

    def bounds_um(self, cells: ArrayLike) -> Points:
        """Return y0, x0, y1, x1 of cells in micrometres, float (n, 4)."""
        corner = self.check(cells).astype(np.float64) * self.stride_um
        return np.concatenate([corner, corner + self.size_um], axis=1)

    def bounds_px(self, cells: ArrayLike) -> Points:
        """Return y0, x0, y1, x1 of cells in level-0 pixels, float (n, 4)."""
        result: Points = self.bounds_um(cells) / np.array([*self.slide_mpp, *self.slide_mpp])
        return result

    def center_um(self, cells: ArrayLike) -> Points:
        """Return the centres (y, x) of cells in micrometres, float (n, 2)."""
        result: Points = self.check(cells).astype(np.float64) * self.stride_um + self.size_um / 2
        return result

    def cells_in_box(self, y0: float, x0: float, y1: float, x1: float) -> Cells:
        """Return the cells whose centre lies in a box given in micrometres, row by row."""
        ranges = [
            _between(low, high, self.size_um, self.stride_um, n)
            for low, high, n in ((y0, y1, self.shape[0]), (x0, x1, self.shape[1]))
        ]
        return np.stack(np.meshgrid(*ranges, indexing="ij"), axis=-1).reshape(-1, 2).astype(np.int64)

    def cells_in_polygon(self, vertices_um: ArrayLike) -> Cells:
        """Return the cells whose centre lies in a polygon, vertices (k, 2) of (y, x) in micrometres."""
        import shapely

        vertices = np.asarray(vertices_um, dtype=np.float64).reshape(-1, 2)
        if len(vertices) < 3:
            return np.empty((0, 2), np.int64)
        cells = self.cells_in_box(*vertices.min(axis=0), *vertices.max(axis=0))
        if not len(cells):
            return cells
        # a freehand outline may cross itself: make_valid keeps what lies inside by the even-odd rule
        polygon = shapely.make_valid(shapely.Polygon(vertices))
        inside = shapely.intersects_xy(polygon, *self.center_um(cells).T)
        result: Cells = cells[inside]
        return result

    def cell_at(self, y_um: float, x_um: float) -> tuple[int, int] | None:
        """Return the cell that covers a position (the nearest centre, if tiles overlap), or None."""
        cell = []
        for value, n in ((y_um, self.shape[0]), (x_um, self.shape[1])):
            index = int(np.clip(np.floor((value - self.size_um / 2) / self.stride_um + 0.5), 0, n - 1))
            if not 0 <= value - index * self.stride_um < self.size_um:
                return None
            cell.append(index)
        return (cell[0], cell[1])

    def check(self, cells: ArrayLike) -> Cells:
        """Return cells as int (n, 2); :class:`TileError` if one isn't in the grid."""
        array: Any = np.asarray(cells)
        if array.size == 0:
            return np.empty((0, 2), np.int64)
        array = np.atleast_2d(array)
        if array.ndim != 2 or array.shape[1] != 2 or array.dtype.kind not in "iu":
            raise TileError(
                f"{self.slide.name}: cells are whole numbers (n, 2) of rows and columns, got {array.dtype} "
                f"{array.shape}."
            )
        array = array.astype(np.int64)
        if (array < 0).any() or (array >= np.array(self.shape)).any():
            raise TileError(
                f"{self.slide.name}: a cell lies outside of the grid of {self.shape[0]} x {self.shape[1]} "
                "tiles."
            )
        result: Cells = array
        return result

    def __repr__(self) -> str:
        rows, cols = self.shape
        return f"<TileGrid {self.slide.name}: {rows} x {cols} tiles of {self.size_px} px at {self.mpp:g} µm>"


def _between(low: float, high: float, size: float, stride: float, n: int) -> NDArray[np.int64]:
    low, high = min(low, high), max(low, high)
    first = int(np.clip(np.ceil((low - size / 2) / stride - 1e-9), 0, n))
    last = int(np.clip(np.floor((high - size / 2) / stride + 1e-9), -1, n - 1))
    return np.arange(first, last + 1, dtype=np.int64)


def nearest_first(cells: ArrayLike, center_um: tuple[float, float], grid: TileGrid) -> Cells:
    """Return cells sorted by their centre's distance from a point (y, x) in micrometres."""
    array = grid.check(cells)
    distance = np.hypot(*(grid.center_um(array) - np.asarray(center_um, dtype=np.float64)).T)
    result: Cells = array[np.argsort(distance, kind="stable")]
    return result
