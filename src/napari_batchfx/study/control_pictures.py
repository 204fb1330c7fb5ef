"""The tiles of the basket as small pictures, slide by slide."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from napari_batchfx.errors import BatchfxError
from napari_batchfx.jobs import Job, Progress
from napari_batchfx.study.control_tiles import ControlTile

if TYPE_CHECKING:
    from napari_batchfx.study.bench import Bench

__all__ = ["ControlPicture", "control_pictures_job"]

PX = 64
_BATCH = 8


@dataclass(frozen=True, eq=False)
class ControlPicture:
    """A tile of the basket as it looks.

    Parameters
    ----------
    tile : ControlTile
    pixels : uint8 (64, 64, 3)
        As the slide is, before any stain normalisation.
    """

    tile: ControlTile
    pixels: NDArray[np.uint8]


def control_pictures_job(
    study: Bench, tiles: Iterable[ControlTile] | None = None
) -> Job[list[ControlPicture]]:
    """Read tiles of the basket.

    Parameters
    ----------
    study : Study
    tiles : iterable of ControlTile, optional
        All that are in the basket otherwise.

    Returns
    -------
    Job
        Yields ``Progress(partial=[ControlPicture, ...])`` and returns all that could be read. A slide that
        can't be read is reported and left out; so is a tile outside of its slide's grid.
    """
    from PIL import Image

    from napari_batchfx.tiles import read_tiles

    wanted = [tile for tile in (study.controls if tiles is None else tiles) if tile.is_taken]
    found: list[ControlPicture] = []
    done = 0
    for name in dict.fromkeys(tile.slide for tile in wanted):
        own = [tile for tile in wanted if tile.slide == name]
        yield Progress(done, len(wanted), "reading control tiles")
        try:
            grid = study.grid(name)
            for start in range(0, len(own), _BATCH):
                part = own[start : start + _BATCH]
                placed = [(tile, grid.cell_at(tile.y_um, tile.x_um)) for tile in part]
                inside = [(tile, cell) for tile, cell in placed if cell is not None]
                pixels = read_tiles(grid, [cell for _, cell in inside], workers=1) if inside else ()
                read = [
                    ControlPicture(
                        tile, np.array(Image.fromarray(one).resize((PX, PX), Image.Resampling.LANCZOS))
                    )
                    for (tile, _), one in zip(inside, pixels, strict=True)
                ]
                found += read
                done += len(part)
                yield Progress(done, len(wanted), "reading control tiles", partial=read)
        except (BatchfxError, OSError) as error:
            study.report_problem(name, error)
    return found
