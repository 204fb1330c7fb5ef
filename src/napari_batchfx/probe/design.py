"""What a probe works on: the tiles that can be scored, their batches, slides and groups."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from napari_batchfx.errors import ProbeError
from napari_batchfx.probe.columns import category_codes, feature_matrix, positions
from napari_batchfx.probe.folds import Grouping, make_grouping

if TYPE_CHECKING:
    from anndata import AnnData

__all__ = ["Design", "read_design"]


@dataclass(frozen=True)
class Design:
    """Scored tiles of a table.

    Attributes
    ----------
    rows : int (m,)
        Their rows in the table.
    x : float32 (m, d)
        Features, all finite.
    y, slide : int (m,)
        Batch and slide.
    yx : float (m, 2) or None
        Positions.
    """

    rows: NDArray[np.intp]
    x: NDArray[np.float32]
    y: NDArray[np.intp]
    slide: NDArray[np.intp]
    yx: NDArray[np.float64] | None
    batch: str
    group: str
    batches: list[str]
    grouping: Grouping
    support: dict[str, Any]
    notes: list[str]


def read_design(table: AnnData, batch: str, group: str, n_splits: int, seed: int, min_tiles: int) -> Design:
    """Check a table and lay out groups and folds.

    Raises
    ------
    ProbeError
        One sentence that says what is missing.
    """
    codes, names = category_codes(table, batch)
    if not table.n_obs:
        raise ProbeError("There are no tiles to tell apart: encode slides first.")
    if not names:
        raise ProbeError(f"No slide has a {batch} yet: give each slide a {batch} in the Slides dock.")
    x = feature_matrix(table)
    finite = np.isfinite(x).all(axis=1)
    known = codes >= 0
    rows = np.flatnonzero(known & finite)
    notes: list[str] = []
    left_out = {"no batch": int((~known).sum()), "missing features": int((known & ~finite).sum())}
    if left_out["no batch"]:
        notes.append(f"{left_out['no batch']:,} tiles have no {batch} and were left out.")
    if left_out["missing features"]:
        notes.append(f"{left_out['missing features']:,} tiles have missing features and were not scored.")

    if len(names) < 2:
        raise ProbeError(
            f"Every tile is of {batch} {names[0]}: a probe needs two or more to tell apart; add slides or "
            "edit the column "
            f"in the Slides dock."
        )
    counts = np.bincount(codes[rows], minlength=len(names))
    enough = np.flatnonzero(counts >= min_tiles)
    few = [f"{names[b]} ({counts[b]})" for b in np.flatnonzero(counts < min_tiles)]
    if len(enough) < 2:
        lost = left_out["missing features"]
        why = f" ({lost:,} have missing features)" if lost else ""
        raise ProbeError(
            f"Too few tiles to tell the {batch} apart: {', '.join(few)}{why}; encode at least {min_tiles} "
            "tiles of each of two."
        )
    if few:
        notes.append(f"Fewer than {min_tiles} tiles, so left out: {', '.join(few)}.")
    rows = rows[np.isin(codes[rows], enough)]
    left_out["tiny batch"] = int(counts.sum() - len(rows))
    y = np.searchsorted(enough, codes[rows]).astype(np.intp)
    batches = [names[b] for b in enough]

    slide_codes = category_codes(table, "slide")[0][rows] if "slide" in table.obs else np.full(len(rows), -1)
    candidates: list[tuple[str, NDArray[np.intp]]] = []
    for name in dict.fromkeys((group, "slide")):
        if name == batch:
            continue
        group_codes = category_codes(table, name)[0][rows]
        if (group_codes >= 0).any():
            missing = int((group_codes < 0).sum())
            if missing:
                notes.append(f"{missing:,} tiles have no {name}: not grouped by {name}.")
            candidates.append((name, group_codes))
    # without a slide column every batch is taken for one slide: blocks, and the warning that goes with them
    slide = np.where(slide_codes >= 0, slide_codes, slide_codes.max(initial=-1) + 1 + y).astype(np.intp)
    yx_all = positions(table)
    yx = None if yx_all is None else yx_all[rows]
    try:
        grouping = make_grouping(y, candidates, slide, yx, batches, batch, n_splits, seed)
    except ValueError as error:
        raise ProbeError(str(error)) from error
    if grouping.kind == "slide" and group != "slide" and not any(name == group for name, _ in candidates):
        notes.append(
            f"The {batch} can't be held out and recognised at once: slides were held out."
            if group == batch
            else f"No tile has a {group}, so slides were held out: slides of one {group} may be in training "
            f"and in test, which makes the {batch} look easier to recognise than it is."
        )
    per_batch: dict[str, dict[str, int]] = {}
    for b, name in enumerate(batches):
        mine = y == b
        per_batch[name] = {
            "tiles": int(mine.sum()),
            "slides": len(np.unique(slide[mine])),
            "groups": len(np.unique(grouping.unit[mine])),
        }
    support = {"tiles": len(rows), "batches": per_batch, "left_out": left_out, "grouped_by": grouping.kind}
    return Design(
        rows,
        np.asarray(x if len(rows) == len(x) else x[rows], dtype=np.float32),
        y,
        slide,
        yx,
        batch,
        group,
        batches,
        grouping,
        support,
        notes,
    )
