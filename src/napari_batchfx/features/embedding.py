"""From a slide and an encoder to a table, through the store: what is there isn't computed again."""

from __future__ import annotations

import os
from collections.abc import Callable
from contextlib import ExitStack, closing
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from napari_batchfx.encoders import EncodedBatch, Encoder, encode, load_job
from napari_batchfx.errors import FeatureError
from napari_batchfx.features.store import FeatureStore
from napari_batchfx.features.table import SlideMeta, make_table
from napari_batchfx.jobs import Job, Progress, Ticker, run

if TYPE_CHECKING:
    from anndata import AnnData

    from napari_batchfx.slides import Slide
    from napari_batchfx.tiles import TileGrid

__all__ = ["embed", "embed_job", "whole_tiles"]

SHOWN_AT_ONCE = 1024


def embed_job(
    grid: TileGrid,
    encoder: Encoder,
    *,
    cells: npt.ArrayLike | None = None,
    normalizer: Any = None,
    store: FeatureStore | None = None,
    meta: SlideMeta | None = None,
    min_tissue: float = 0.25,
    batch_size: int | None = None,
    workers: int | None = None,
) -> Job[AnnData]:
    """Encode tiles of a slide and make their table; a job.

    Parameters
    ----------
    grid : TileGrid
    encoder : Encoder
    cells : int array (n, 2), optional
        (row, col) of the tiles; default: those with at least ``min_tissue`` tissue.
    normalizer : object, optional
        Stain transform with ``transform(tiles)`` and ``key``.
    store : FeatureStore, optional
        Filled batch by batch; cells it has are taken from it. A job closed in the middle leaves in it what
        was done.
    meta : SlideMeta, optional
        Default: the slide's name, scanner and fingerprint.
    min_tissue : float
        Least share of tissue, 0..1, where ``cells`` isn't given.
    batch_size, workers
        As in :func:`napari_batchfx.encoders.encode`.

    Yields
    ------
    Progress
        With ``partial=EncodedBatch(cells, features)``; what the store has comes first.

    Returns
    -------
    AnnData
        One row for each cell asked for, in that order. Tiles that touch damaged pixels are left out, here
        and in the store; ``uns["damaged_tiles"]`` says how many.

    Raises
    ------
    TileError
        If the slide's colours or pixel size are changed meanwhile: what was read across the change is thrown
        away, what was stored before stays right.
    FeatureError
        If another program writes this slide's features, or the disk is full; what was stored is kept.

    Examples
    --------
    >>> from napari_batchfx.encoders import load
    >>> from napari_batchfx.features import FeatureStore
    >>> from napari_batchfx.jobs import run
    >>> from napari_batchfx.slides import open_slide, write_pyramid
    >>> from napari_batchfx.tiles import TileGrid
    >>> _ = write_pyramid("a.tif", np.full((300, 400, 3), 200, np.uint8), mpp=0.5, compression="deflate")
    >>> encoder, store = load("colour-statistics"), FeatureStore()
    >>> with open_slide("a.tif") as slide:
    ...     grid = TileGrid(slide, size_px=64, mpp=0.5)
    ...     run(embed_job(grid, encoder, cells=[(0, 0), (1, 1)], store=store)).n_obs
    2
    """
    from napari_batchfx.tiles.read import damaged_tiles

    slide = grid.slide
    if meta is None:
        meta = SlideMeta(name=slide.name, scanner=slide.scanner or "", fingerprint=slide.fingerprint)
    wanted = np.asarray(grid.cells(min_tissue) if cells is None else cells, dtype=np.int64).reshape(-1, 2)
    _, first = np.unique(wanted, axis=0, return_index=True)
    wanted = wanted[np.sort(first)]
    stain_key = str(normalizer.key) if normalizer is not None else "none"
    entry = (store or FeatureStore()).array(
        slide.fingerprint, encoder.key, grid.key, stain_key, dim=encoder.dim
    )
    ticker = Ticker(len(wanted), f"encoding {slide.name}")
    yield ticker.tick(0)
    have = entry.has(wanted)
    for sentence in entry.damage_said():
        # once, and then they are encoded like any other
        yield Progress(0, len(wanted), f"{slide.name}: {sentence}")
    known = wanted[have]
    for start in range(0, len(known), SHOWN_AT_ONCE):
        some = known[start : start + SHOWN_AT_ONCE]
        ticker.done += len(some)
        # no rate: reading back says nothing about how long the rest takes
        yield Progress(
            ticker.done, ticker.total, ticker.what, ticker.unit, None, EncodedBatch(some, entry.read(some))
        )
    todo = wanted[~have]
    # known from an earlier reading: not read again
    todo = todo[~damaged_tiles(grid, todo)]
    if len(todo):
        stored = ticker.done
        n_damaged = 0
        job = encode(grid, encoder, todo, normalizer=normalizer, batch_size=batch_size, workers=workers)
        # another program that writes this slide is said now, before anything is computed in vain
        with entry.writing(slide.name), closing(job):
            for progress in job:
                batch = progress.partial
                if batch is None:
                    continue
                grid.check_slide()
                whole = whole_tiles(grid, batch)
                n_damaged += len(batch) - len(whole)
                what = f"{ticker.what} ({n_damaged:,} damaged tiles left out)" if n_damaged else ticker.what
                if len(whole):
                    entry.append(whole.cells, whole.features)
                yield Progress(stored + progress.done, ticker.total, what, ticker.unit, progress.rate, whole)
    grid.check_slide()
    there = wanted[entry.has(wanted, verify=False)]
    table = make_table(entry.read(there), there, grid, meta=meta, encoder=encoder, stain_key=stain_key)
    table.uns["damaged_tiles"] = len(wanted) - len(there)
    return table


def whole_tiles(grid: TileGrid, batch: EncodedBatch) -> EncodedBatch:
    """Leave out of a batch the tiles that were read with damaged pixels: their vectors describe grey.

    Parameters
    ----------
    grid : TileGrid
        The grid they were read from.
    batch : EncodedBatch
        Tiles that were just encoded.

    Examples
    --------
    >>> from napari_batchfx.slides import open_slide, write_pyramid
    >>> from napari_batchfx.tiles import TileGrid
    >>> _ = write_pyramid("a.tif", np.full((300, 400, 3), 200, np.uint8), mpp=0.5, compression="deflate")
    >>> with open_slide("a.tif") as slide:
    ...     batch = EncodedBatch(np.array([[0, 0]]), np.zeros((1, 4), np.float32))
    ...     len(whole_tiles(TileGrid(slide, size_px=64, mpp=0.5), batch))
    1
    """
    from napari_batchfx.tiles.read import damaged_tiles

    bad = damaged_tiles(grid, batch.cells)
    return EncodedBatch(batch.cells[~bad], batch.features[~bad]) if bad.any() else batch


def embed(
    slide_or_grid: Slide | TileGrid | str | os.PathLike[str],
    encoder: Encoder | str,
    *,
    cells: npt.ArrayLike | None = None,
    normalizer: Any = None,
    store: FeatureStore | None = None,
    meta: SlideMeta | None = None,
    min_tissue: float = 0.25,
    batch_size: int | None = None,
    workers: int | None = None,
    on_progress: Callable[[Progress], None] | None = None,
) -> AnnData:
    """Encode a slide and return its table.

    Parameters
    ----------
    slide_or_grid : Slide, TileGrid or path
        A slide gets the grid the encoder wants: tiles of its input size at its pixel size, edge to edge. The
        file at a path is opened, and closed when done.
    encoder : Encoder or str
        An encoder, or a name for :func:`napari_batchfx.encoders.load`.
    on_progress : callable, optional
        Called with every :class:`~napari_batchfx.jobs.Progress`.
    cells, normalizer, store, meta, min_tissue, batch_size, workers
        As in :func:`embed_job`.

    Returns
    -------
    AnnData
        One row a tile; see :func:`make_table`.

    Raises
    ------
    BatchfxError
        One sentence: what was given is no slide or no encoder, the slide has no pixel size, the model fails,
        the store can't be written.

    Examples
    --------
    >>> from napari_batchfx.slides import open_slide, write_pyramid
    >>> _ = write_pyramid("a.tif", np.full((300, 400, 3), 200, np.uint8), mpp=0.5, compression="deflate")
    >>> with open_slide("a.tif") as slide:
    ...     table = embed(slide, "colour-statistics", cells=[(0, 0)])
    >>> table.obs["slide"].tolist(), table.X.dtype.name
    (['a'], 'float32')
    """
    from napari_batchfx.slides import Slide, open_slide
    from napari_batchfx.tiles import TileGrid

    if not isinstance(encoder, (str, Encoder)):
        raise FeatureError(f"An encoder is a name or what encoders.load gives, not {type(encoder).__name__}.")
    if not isinstance(slide_or_grid, (str, os.PathLike, Slide, TileGrid)):
        raise FeatureError(
            f"What is encoded is a slide, its path or a TileGrid, not {type(slide_or_grid).__name__}."
        )
    with ExitStack() as own:
        if isinstance(slide_or_grid, (str, os.PathLike)):
            slide_or_grid = own.enter_context(open_slide(Path(slide_or_grid)))
        model = (
            own.enter_context(run(load_job(encoder), on_progress)) if isinstance(encoder, str) else encoder
        )
        grid = (
            slide_or_grid
            if isinstance(slide_or_grid, TileGrid)
            else TileGrid(slide_or_grid, model.input_px, model.mpp)
        )
        job = embed_job(
            grid,
            model,
            cells=cells,
            normalizer=normalizer,
            store=store,
            meta=meta,
            min_tissue=min_tissue,
            batch_size=batch_size,
            workers=workers,
        )
        return run(job, on_progress)
