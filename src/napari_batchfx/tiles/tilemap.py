"""Values over a tile grid and what they mean: the small image that is laid over a slide."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
from numpy.typing import ArrayLike, NDArray

from napari_batchfx.errors import TileError
from napari_batchfx.tiles.grid import TileGrid

__all__ = ["TileMap", "value_in_words"]


def value_in_words(
    value: float, unit: str = "", chance: float | None = None, labels: tuple[str, ...] = ()
) -> str:
    """Say a tile's value with its unit and what guessing would give.

    Parameters
    ----------
    value : float
        NaN where nothing was computed.
    unit : str
        Of the value ("probability", "sd").
    chance : float, optional
        The value that guessing would give.
    labels : tuple of str
        What 0, 1, ... mean, where the value is the number of a class.

    Returns
    -------
    str
        Three significant digits.

    Examples
    --------
    >>> value_in_words(0.9312, "probability", 0.5)
    '0.931 probability (guessing 0.5)'
    >>> value_in_words(1, labels=("tumour", "gland"))
    'gland'
    """
    if not np.isfinite(value):
        return "no value"
    if labels and 0 <= round(value) < len(labels):
        return labels[round(value)]
    text = f"{value:.3g} {unit}".rstrip()
    return text if chance is None else f"{text} (guessing {chance:.3g})"


@dataclass
class TileMap:
    """One value a tile, as an image with one pixel a cell.

    Parameters
    ----------
    grid_shape : (int, int)
        Rows and columns.
    origin_um : (float, float)
        Top left corner of cell (0, 0), (y, x) in micrometres.
    stride_um, size_um : float
        Step and edge of tiles in micrometres.
    values : ndarray of float32, (rows, cols)
        NaN where nothing was computed.
    name, unit : str
        What it is and in which unit ("confidence", "").
    vmin, vmax : float
        Range of the colour map.
    colormap : str
        A matplotlib name; colour-blind safe unless chosen otherwise.
    chance : float, optional
        The value that guessing would give.
    description : str
        One sentence on how it was computed.
    labels : tuple of str
        What the values 0, 1, ... mean, where they are no measure ("tumour", "gland").

    Examples
    --------
    >>> import numpy as np
    >>> empty = np.full((2, 3), np.nan)
    >>> tiles = TileMap((2, 3), (0.0, 0.0), 112.0, 112.0, empty, name="confidence")
    >>> tiles.set([[0, 1]], [0.9])
    >>> round(tiles.at(50.0, 150.0), 3)
    0.9
    >>> tiles.words(0.9)
    '0.9'
    """

    grid_shape: tuple[int, int]
    origin_um: tuple[float, float]
    stride_um: float
    size_um: float
    values: NDArray[np.float32] = field(repr=False)
    name: str = ""
    unit: str = ""
    vmin: float = 0.0
    vmax: float = 1.0
    colormap: str = "viridis"
    chance: float | None = None
    description: str = ""
    labels: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        self.values = np.array(self.values, dtype=np.float32)
        if self.values.shape != tuple(self.grid_shape):
            raise TileError(
                f"{self.name or 'tile map'}: values {self.values.shape} don't fit a grid of "
                f"{tuple(self.grid_shape)}."
            )

    @classmethod
    def from_cells(
        cls,
        grid: TileGrid,
        cells: ArrayLike,
        values: ArrayLike,
        *,
        name: str,
        unit: str = "",
        vmin: float = 0.0,
        vmax: float = 1.0,
        colormap: str = "viridis",
        chance: float | None = None,
        description: str = "",
        labels: tuple[str, ...] = (),
    ) -> TileMap:
        """Make a map over ``grid`` with ``values`` (n,) at ``cells`` (n, 2), NaN elsewhere."""
        empty = np.full(grid.shape, np.nan, np.float32)
        tiles = cls(
            grid.shape,
            (0.0, 0.0),
            grid.stride_um,
            grid.size_um,
            empty,
            name,
            unit,
            vmin,
            vmax,
            colormap,
            chance,
            description,
            labels,
        )
        tiles.set(cells, values)
        return tiles

    def set(self, cells: ArrayLike, values: ArrayLike) -> None:
        """Put ``values`` (n,) at ``cells`` (n, 2).

        Raises
        ------
        TileError
            If their numbers differ or a cell isn't in the grid.
        """
        where = np.asarray(cells, dtype=np.int64).reshape(-1, 2)
        what = np.asarray(values, dtype=np.float32).reshape(-1)
        if len(where) != len(what):
            raise TileError(f"{self.name or 'tile map'}: {len(what)} values for {len(where)} cells.")
        if len(where) and ((where < 0).any() or (where >= np.array(self.grid_shape)).any()):
            raise TileError(
                f"{self.name or 'tile map'}: a cell lies outside of the grid of {self.grid_shape[0]} x "
                f"{self.grid_shape[1]} tiles."
            )
        self.values[where[:, 0], where[:, 1]] = what

    def at(self, y_um: float, x_um: float) -> float:
        """Return the value of the tile at a position; NaN between tiles, outside, or where there is none."""
        index = []
        for value, origin, n in zip((y_um, x_um), self.origin_um, self.grid_shape, strict=True):
            i = int(np.clip(np.floor((value - origin - self.size_um / 2) / self.stride_um + 0.5), 0, n - 1))
            if not 0 <= value - origin - i * self.stride_um < self.size_um:
                return float("nan")
            index.append(i)
        return float(self.values[index[0], index[1]])

    def words(self, value: float) -> str:
        """Say a value as a person reads it: ``0.93 probability (guessing 0.5)``, or the name of a class."""
        return value_in_words(value, self.unit, self.chance, self.labels)

    @property
    def n_computed(self) -> int:
        """Number of tiles that have a value."""
        return int(np.isfinite(self.values).sum())

    @property
    def scale_um(self) -> tuple[float, float]:
        """Micrometres a pixel of ``values``, (y, x), for an image layer."""
        return (self.stride_um, self.stride_um)

    @property
    def translate_um(self) -> tuple[float, float]:
        """Centre of cell (0, 0), (y, x): where an image layer puts the centre of its first pixel."""
        return (self.origin_um[0] + self.size_um / 2, self.origin_um[1] + self.size_um / 2)
