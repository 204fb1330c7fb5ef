"""Which tile of the reference each tile of an aligned slide shows."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

import numpy as np

from napari_batchfx.errors import BatchfxError
from napari_batchfx.study.alignment import root_of
from napari_batchfx.study.entries import SlideEntry

if TYPE_CHECKING:
    from anndata import AnnData

    from napari_batchfx.study.bench import Bench
    from napari_batchfx.tiles import TileGrid

__all__ = ["add_pairs"]


def add_pairs(study: Bench, table: AnnData, grid_of: Callable[[SlideEntry], TileGrid]) -> None:
    """Add ``obs["pair"]``: the same text on tiles that show the same tissue, "" on all others.

    The text names the reference slide's tile ("A-1042 r12 c34"). It stands on tiles of slides whose
    alignment is "good" and whose nearest tile on the reference (centres no more than half a tile apart,
    nearest both ways) exists, and on the reference's own tile where another slide's row has it.

    Parameters
    ----------
    study : Study
    table : AnnData
        Of slides of the study, with ``slide``, ``row`` and ``col``; changed in place.
    grid_of : callable
        The grid of a slide that the table was made on.
    """
    import pandas as pd

    from napari_batchfx.tiles import match_tiles

    if all(entry.alignment is None for entry in study.slides):
        table.obs["pair"] = pd.Categorical(np.full(table.n_obs, "", dtype=object))
        return
    slides = table.obs["slide"].astype(str).to_numpy()
    rows, cols = (table.obs[key].to_numpy(dtype=int) for key in ("row", "col"))
    pair = np.full(table.n_obs, "", dtype=object)
    shown: set[str] = set()
    roots: dict[str, SlideEntry] = {}
    for entry in study.slides:
        here = np.flatnonzero(slides == entry.name)
        root = root_of(study, entry)
        if root is None or not len(here):
            continue
        back = np.linalg.inv(np.asarray(root.affine_um, dtype=float)) @ np.asarray(
            entry.affine_um, dtype=float
        )
        try:
            matches = match_tiles(grid_of(root), grid_of(entry), back)
        except (BatchfxError, OSError):
            # the reference's file is gone: its tiles can't be named, everything else of the table stands
            continue
        names = {
            (int(b[0]), int(b[1])): tile_name(root.name, int(a[0]), int(a[1]))
            for a, b in zip(matches.cells_a, matches.cells_b, strict=True)
        }
        for i in here:
            pair[i] = names.get((int(rows[i]), int(cols[i])), "")
        shown.update(name for name in pair[here] if name)
        roots[root.name] = root
    for name in roots:
        for i in np.flatnonzero(slides == name):
            own = tile_name(name, int(rows[i]), int(cols[i]))
            pair[i] = own if own in shown else ""
    table.obs["pair"] = pd.Categorical(pair, categories=pd.Index(sorted(set(pair)), dtype=object))


def tile_name(slide: str, row: int, col: int) -> str:
    """``A-1042 r12 c34``."""
    return f"{slide} r{row} c{col}"
