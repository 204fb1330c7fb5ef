"""What the model saw: one tile exactly as it reaches the encoder, its values and where it comes from."""

from __future__ import annotations

import threading
from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from napari_batchfx.jobs import Job, Progress, run
from napari_batchfx.study.recipe import Place, Recipe
from napari_batchfx.study.seen_tile import SeenTile
from napari_batchfx.study.tile_facts import facts
from napari_batchfx.study.tile_values import tile_values

if TYPE_CHECKING:
    from napari_batchfx.encoders import Encoder
    from napari_batchfx.slides import Slide
    from napari_batchfx.stain import StainTransform
    from napari_batchfx.study.bench import Bench
    from napari_batchfx.study.entries import SlideEntry
    from napari_batchfx.tiles import ArtefactMask, TileGrid

__all__ = ["SeenTile", "as_normalised", "saw", "saw_job"]

#: Tiles across the surroundings, and pixels.
_CONTEXT_TILES, _CONTEXT_PX = 5, 240
#: Found from the slide's overview in a moment; blur is judged only where it is asked for, it takes seconds.
_QUICK_ARTEFACTS = ("pen", "edge", "fold", "damaged")
_one_at_a_time = threading.Lock()
_WAIT_S = 0.05


def saw(study: Bench, entry: SlideEntry | str, cell: tuple[int, int]) -> SeenTile:
    """One tile as the model sees it under the study's present encode settings.

    The pixels are made by the functions that :meth:`Study.encode_job` uses, in the same order: the tile is
    read in its physical size and the slide's colours, goes through the stain transform where one is set, and
    through the encoder's own resize.

    Parameters
    ----------
    study : Study
    entry : SlideEntry or str
        A slide of the study.
    cell : (int, int)
        Row and column in the slide's grid.

    Returns
    -------
    SeenTile
        Pixels uint8; values of the overlays; provenance in words. Label and macro images are never read.

    Raises
    ------
    StudyError
        If the study has no such slide.
    TileError
        If the cell isn't in the slide's grid, or the slide has no pixel size.
    SlideError, StainError, EncoderError
        If the slide can't be read, its stain can't be estimated, or the encoder can't be loaded.

    Examples
    --------
    >>> from napari_batchfx.slides import write_pyramid
    >>> from napari_batchfx.study import Study
    >>> path = write_pyramid("a.tif", np.full((600, 700, 3), 200, np.uint8), 0.25, compression="deflate")
    >>> with Study.create() as study:
    ...     entry = study.add_slide(path)
    ...     study.settings.encode.size_px = 100
    ...     tile = saw(study, entry, (1, 2))
    >>> tile.as_seen.shape, tile.stored, tile.bounds_um
    ((100, 100, 3), False, (50.0, 100.0, 100.0, 150.0))
    >>> tile.provenance["read from"]
    'level 0, 0.25 µm/px, resampled to 0.5 µm/px (2 to 1)'
    """
    return run(saw_job(study, entry, cell))


def saw_job(study: Bench, entry: SlideEntry | str, cell: tuple[int, int]) -> Job[SeenTile]:
    """:func:`saw` as a job: the pictures come first, as ``Progress.partial``, then what takes longer.

    Parameters
    ----------
    study : Study
    entry : SlideEntry or str
    cell : (int, int)

    Returns
    -------
    Job
        Yields progress in bytes where the encoder has to be downloaded; closing it stops that.
    """
    entry = study.slide(entry)
    recipe = yield from Recipe.job(study)
    yield Progress(0, 3, "reading the tile", "steps")
    place = recipe.place(entry)
    tile = _pictures(recipe, place, entry, cell)
    yield Progress(1, 3, "looking up its values", "steps", partial=tile)
    values, words = tile_values(recipe, place, entry, tile)
    tile = replace(tile, values=values, words=words)
    yield Progress(2, 3, "looking around it", "steps", partial=tile)
    context, frame = _context(place.grid, tile.bounds_um)
    tile = replace(tile, context=context, frame_px=frame)
    yield Progress(2, 3, "looking for tissue and artefacts", "steps", partial=tile)
    # The first time on a slide these take a while: tiles asked for meanwhile wait for one answer, and can be
    # stopped while they do.
    while not _one_at_a_time.acquire(timeout=_WAIT_S):
        yield Progress(2, 3, "looking for tissue and artefacts", "steps")
    try:
        tissue = float(place.grid.tissue[tile.cell])
        yield Progress(2, 3, "looking for artefacts", "steps")
        found = _artefacts(place.grid.slide, recipe)
    finally:
        _one_at_a_time.release()
    provenance, warnings = facts(recipe, place, entry, tile, tissue, found)
    return replace(tile, provenance=provenance, warnings=warnings)


def as_normalised(
    tile: SeenTile, transform: StainTransform, encoder: Encoder
) -> tuple[NDArray[np.uint8], NDArray[np.uint8]]:
    """What the encoder gets of a tile as scanned, and through a stain transform, whatever is set.

    Parameters
    ----------
    tile : SeenTile
    transform : StainTransform
        Of the tile's slide.
    encoder : Encoder

    Returns
    -------
    (uint8 (p, p, 3), uint8 (p, p, 3))
        After the encoder's own resize.
    """
    read = tile.as_read[None]
    stained = np.asarray(transform.transform(read), dtype=np.uint8)
    return encoder.seen(read)[0], encoder.seen(stained)[0]


def _pictures(recipe: Recipe, place: Place, entry: SlideEntry, cell: tuple[int, int]) -> SeenTile:
    from napari_batchfx.tiles import damaged_tiles, read_tiles

    grid = place.grid
    cells = grid.check([cell])
    before = grid.check_slide()
    # A batch of one, through what encoders.encode calls: bit for bit what it gets.
    read = read_tiles(grid, cells, workers=1)
    given, stained = read, None
    if place.transform is not None:
        given = stained = np.asarray(place.transform.transform(read), dtype=np.uint8)
    seen = recipe.encoder.seen(given)
    grid.check_slide(before)
    y0, x0, y1, x1 = (float(value) for value in grid.bounds_um(cells)[0])
    tile = SeenTile(
        entry.name,
        entry.fingerprint,
        (int(cells[0, 0]), int(cells[0, 1])),
        (y0, x0, y1, x1),
        read[0],
        None if stained is None else stained[0],
        seen[0],
        stored=bool(place.array.has(cells)[0]),
        damaged=bool(damaged_tiles(grid, cells)[0]),
    )
    provenance, warnings = facts(recipe, place, entry, tile)
    return replace(tile, provenance=provenance, warnings=warnings)


def _context(
    grid: TileGrid, bounds_um: tuple[float, float, float, float]
) -> tuple[NDArray[np.uint8], tuple[float, float, float, float]]:
    """The surroundings from the coarsest stored level that is fine enough, and the tile's frame in them."""
    from PIL import Image

    slide = grid.slide
    side = _CONTEXT_TILES * grid.size_um
    wanted = side / _CONTEXT_PX
    fits = [
        i
        for i, level in enumerate(slide.levels)
        if level.stored
        and max(m * d for m, d in zip(grid.slide_mpp, level.downsample, strict=True)) <= wanted
    ]
    level = fits[-1] if fits else 0
    my, mx = (m * d for m, d in zip(grid.slide_mpp, slide.levels[level].downsample, strict=True))
    y0, x0, y1, x1 = bounds_um
    top, left = (y0 + y1 - side) / 2, (x0 + x1 - side) / 2
    region = slide.read(level, round(top / my), round(left / mx), round(side / my), round(side / mx))
    picture = Image.fromarray(region).resize((_CONTEXT_PX, _CONTEXT_PX), Image.Resampling.BOX)
    scale = _CONTEXT_PX / side
    frame = ((y0 - top) * scale, (x0 - left) * scale, (y1 - top) * scale, (x1 - left) * scale)
    return np.array(picture), frame


def _artefacts(slide: Slide, recipe: Recipe) -> ArtefactMask:
    from napari_batchfx.tiles import artefact_mask

    blur = ("blur",) if "blur" in recipe.tissue.exclude else ()
    return artefact_mask(slide, kinds=(*_QUICK_ARTEFACTS, *blur))
