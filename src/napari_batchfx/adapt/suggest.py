"""Suggest control samples: ordinary tissue that is alike on every batch, apart from its colour."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt
from numpy.typing import NDArray

from napari_batchfx.adapt.correction import FEW_CONTROLS, MIN_CONTROLS
from napari_batchfx.adapt.spread import choose_sets
from napari_batchfx.errors import AdaptError
from napari_batchfx.probe.columns import category_codes, positions

if TYPE_CHECKING:
    from anndata import AnnData

__all__ = ["Suggestion", "suggest"]

#: Columns of ``obs`` with the share of a tile that an artefact covers, and the most that is taken.
ARTEFACT_COLUMNS = ("blur", "pen", "fold", "edge", "damaged")
_MOST_ARTEFACT = 0.02
#: Root mean square difference over descriptors, in standard deviations: the first that gives enough.
_CALIPERS = (0.2, 0.35, 0.5)
_FEW_SLIDES = 5
_MOST_CANDIDATES = 1500


@dataclass(frozen=True)
class Suggestion:
    """Tiles to take as controls, and why.

    Attributes
    ----------
    rows : int (k,)
        Rows of the table.
    reasons : list of str
        Why each was taken.
    distance : float (k,)
        How far its structure is from that of its counterparts on the other batches, in standard deviations;
        NaN where none was compared.
    n : dict of str to int
        Tiles of each slide.
    warnings : list of str
        What this choice can't give.
    left_out : dict of str to int
        Tiles that were not candidates, by reason.
    """

    rows: NDArray[np.intp]
    reasons: list[str]
    distance: NDArray[np.float64]
    n: dict[str, int]
    warnings: list[str] = field(default_factory=list)
    left_out: dict[str, int] = field(default_factory=dict)

    @property
    def sentence(self) -> str:
        """How many, from where."""
        counts = sorted(set(self.n.values()))
        each = f"{counts[0]:,}" if len(counts) == 1 else f"{counts[0]:,} to {counts[-1]:,}"
        text = f"{len(self.rows):,} control tiles, {each} a slide on {len(self.n):,} slides."
        out = [f"{n:,} {why}" for why, n in self.left_out.items() if n]
        return text + (f" Left out: {', '.join(out)}." if out else "")


def suggest(
    table: AnnData,
    batch: str = "site",
    *,
    per_slide: int = 50,
    tissue_class: str | None = None,
    pairs: bool = False,
    label: str = "label",
    min_tissue: float = 0.8,
    spacing: float = 2.0,
    exclude: npt.ArrayLike | None = None,
    seed: int = 0,
) -> Suggestion:
    """Choose control samples without looking at features or colour.

    Choosing tiles that are near each other in feature space would take those that already look alike on all
    batches, and understate the difference. So features are not looked at. Tiles pass a gate of quality; are
    matched one to one across batches by their structure; and are spread over slides and over each slide.

    Parameters
    ----------
    table : anndata.AnnData
        ``obs``: ``slide``, the batch, ``tissue``, positions; shares of artefacts (``blur``, ``pen``,
        ``fold``, ``edge``, ``damaged``) where they are known. ``obsm["morphology"]`` (n, m): structure
        without colour (:func:`napari_batchfx.adapt.morphology.describe_tiles`). ``X`` is not read.
    batch : str
        Column to correct for.
    per_slide : int
        Most tiles a slide.
    tissue_class : str, optional
        Only tiles of that class.
    pairs : bool
        Only tiles that show the same tissue on every batch (``obs["pair"]``, aligned rescans). They are
        matched by place, not by structure.
    label : str
        Column of the classes; looked at only for ``tissue_class``.
    min_tissue : float
        Least share of tissue of a tile.
    spacing : float
        Least distance of two tiles of a slide, in tiles.
    exclude : bool array (n,), optional
        Tiles not to be taken (that the user took out before, or took already).
    seed : int
        For the candidates of slides with very many tiles.

    Returns
    -------
    Suggestion

    Raises
    ------
    AdaptError
        If no tile is fit, or no batch shares structure with the others; the sentence says what is missing.

    Examples
    --------
    >>> import anndata, numpy, pandas
    >>> rng = numpy.random.default_rng(0); k = numpy.arange(400)
    >>> obs = pandas.DataFrame({"site": numpy.where(k < 200, "A", "B"), "slide": k // 100, "tissue": 1.0})
    >>> obs["row"], obs["col"] = k % 100 // 10, k % 10
    >>> obs.index = obs.index.astype(str)
    >>> table = anndata.AnnData(numpy.zeros((400, 2)), obs=obs)
    >>> table.obsm["morphology"] = rng.normal(size=(400, 2))
    >>> found = suggest(table, per_slide=10)
    >>> found.n
    {'0': 10, '1': 10, '2': 10, '3': 10}
    >>> found.reasons[0].startswith("100 % tissue")
    True
    """
    if per_slide < 1:
        raise AdaptError(f"At least one tile a slide has to be asked for, not {per_slide}.")
    y, names = category_codes(table, batch)
    if not names:
        raise AdaptError(f"No slide has a {batch}: give each slide one in the Slides dock.")
    slide, slides = category_codes(table, "slide")
    fit, left_out = _gate(table, y, slide, tissue_class, label, min_tissue, exclude)
    warnings: list[str] = []
    missing = [name for b, name in enumerate(names) if not (fit & (y == b)).any()]
    if missing:
        which = f" of class {tissue_class}" if tissue_class else ""
        raise AdaptError(
            f"{batch} {missing[0]} has no tile{which} that could be a control (of at least "
            f"{100 * min_tissue:.0f} % "
            "tissue and without artefacts)."
        )
    if pairs:
        sets, distance = _paired(table, fit, y, len(names), batch)
    else:
        sets, distance, said = _matched(table, fit, y, slide, names, batch, seed)
        warnings += said
    yx = positions(table)
    pitch = _pitch(yx, slide)
    slides_of = [len(np.unique(slide[sets[:, b]])) for b in range(sets.shape[1])]
    wanted = per_slide * min(slides_of)
    quota = np.zeros(len(slides), dtype=np.intp)
    for b, n in enumerate(slides_of):
        quota[np.unique(slide[sets[:, b]])] = -(-wanted // n)
    chosen = choose_sets(sets, distance, slide, yx, quota, spacing * pitch, wanted)
    rows = sets[chosen].T.ravel()
    apart = np.tile(distance[chosen], sets.shape[1])
    reasons = _reasons(table, sets[chosen], distance[chosen], slide, slides, fit, pairs, tissue_class)
    per = {slides[s]: int((slide[rows] == s).sum()) for s in np.unique(slide[rows])}
    warnings += _said_of_counts(y[rows], slide[rows], names, batch, per)
    order = np.lexsort((rows, slide[rows], y[rows]))
    return Suggestion(rows[order], [reasons[i] for i in order], apart[order], per, warnings, left_out)


def _gate(
    table: AnnData,
    y: NDArray[np.intp],
    slide: NDArray[np.intp],
    tissue_class: str | None,
    label: str,
    min_tissue: float,
    exclude: npt.ArrayLike | None,
) -> tuple[NDArray[np.bool_], dict[str, int]]:
    fit = (y >= 0) & (slide >= 0)
    left_out: dict[str, int] = {}

    def leave(bad: NDArray[np.bool_], why: str) -> None:
        nonlocal fit
        left_out[why] = int((fit & bad).sum())
        fit = fit & ~bad

    if exclude is not None:
        mask = np.asarray(exclude, dtype=bool)
        if mask.shape != fit.shape:
            raise AdaptError(
                f"The mask of tiles to leave out has {mask.size:,} values for {fit.size:,} tiles."
            )
        leave(mask, "chosen or taken out before")
    if tissue_class is not None:
        codes, classes = category_codes(table, label)
        if tissue_class not in classes:
            raise AdaptError(f"No tile is of class {tissue_class}; there are {', '.join(classes) or 'none'}.")
        leave(codes != classes.index(tissue_class), f"of another class than {tissue_class}")
    if "tissue" in table.obs:
        leave(~(table.obs["tissue"].to_numpy(dtype=float) >= min_tissue), "with little tissue")
    for column in ARTEFACT_COLUMNS:
        if column in table.obs:
            leave(table.obs[column].to_numpy(dtype=float) > _MOST_ARTEFACT, f"with {column}")
    if "morphology" in table.obsm:
        leave(~np.isfinite(np.asarray(table.obsm["morphology"], dtype=float)).all(axis=1), "not looked at")
    return fit, left_out


def _paired(
    table: AnnData, fit: NDArray[np.bool_], y: NDArray[np.intp], n_batches: int, batch: str
) -> tuple[NDArray[np.intp], NDArray[np.float64]]:
    """Rows (k, B) of the places that every batch shows."""
    pair, places = category_codes(table, "pair")
    rows = np.full((len(places), n_batches), -1, dtype=np.intp)
    for row in np.flatnonzero(fit & (pair >= 0))[::-1]:
        rows[pair[row], y[row]] = row
    whole = rows[(rows >= 0).all(axis=1)]
    if not len(whole):
        raise AdaptError(
            f"No tile shows the same tissue on every {batch}: align rescans of the same section in the "
            "Slides "
            "dock, or let controls be suggested by structure."
        )
    return whole, np.full(len(whole), np.nan)


def _matched(
    table: AnnData,
    fit: NDArray[np.bool_],
    y: NDArray[np.intp],
    slide: NDArray[np.intp],
    names: Sequence[str],
    batch: str,
    seed: int,
) -> tuple[NDArray[np.intp], NDArray[np.float64], list[str]]:
    """Rows (k, B) of alike structure, one of each batch, their distance, and what to mind."""
    from scipy.optimize import linear_sum_assignment

    rng = np.random.default_rng(seed)
    candidates = [_even_share(np.flatnonzero(fit & (y == b)), slide, rng) for b in range(len(names))]
    if len(names) == 1 or "morphology" not in table.obsm:
        why = (
            f"There is only one {batch}: nothing was matched."
            if len(names) == 1
            else f"The structure of tiles is not known: they were not matched between {batch}s."
        )
        k = min(map(len, candidates))
        sets = np.column_stack([rng.permutation(rows)[:k] for rows in candidates])
        return sets, np.full(k, np.nan), [why]
    z = np.asarray(table.obsm["morphology"], dtype=np.float64)
    within = [z[rows] - z[rows].mean(axis=0) for rows in candidates]
    sd = np.sqrt(np.mean([(one**2).mean(axis=0) for one in within], axis=0))
    z = z / np.where(sd > 0, sd, np.inf)
    anchor = int(np.argmin([len(rows) for rows in candidates]))
    # tile by tile: the counterpart on every other batch, each used once
    partner = np.full((len(candidates[anchor]), len(names)), -1, dtype=np.intp)
    partner[:, anchor] = candidates[anchor]
    apart = np.zeros((len(candidates[anchor]), len(names)))
    for b, rows in enumerate(candidates):
        if b == anchor:
            continue
        a, c = z[candidates[anchor]], z[rows]
        square = (a**2).sum(axis=1)[:, None] + (c**2).sum(axis=1) - 2 * a @ c.T
        cost = np.sqrt(np.maximum(square, 0.0) / z.shape[1])
        # what is too far apart to be taken costs the same, so it doesn't rule the assignment
        i, j = linear_sum_assignment(np.minimum(cost, 2 * _CALIPERS[-1]))
        partner[i, b], apart[i, b] = rows[j], cost[i, j]
    distance = np.where((partner >= 0).all(axis=1), apart.max(axis=1), np.inf)
    warnings: list[str] = []
    for caliper in _CALIPERS:
        near = distance <= caliper
        if near.sum() >= FEW_CONTROLS:
            break
    if near.sum() < MIN_CONTROLS:
        raise AdaptError(
            f"Only {int(near.sum())} tiles have a counterpart of alike structure on every {batch}: their "
            "tissue "
            "is too different. Mark controls by hand, by class, or from aligned rescans."
        )
    if caliper > _CALIPERS[0]:
        warnings.append(
            f"Few tiles are alike on every {batch}: structure may differ by up to {caliper:g} standard "
            "deviations "
            f"({_CALIPERS[0]:g} otherwise)."
        )
    share = near.mean()
    if share < 0.3:
        warnings.append(
            f"{100 * (1 - share):.0f} % of the tiles looked at have no counterpart on another {batch}: the "
            "slides show different tissue, and the controls stand for what they share."
        )
    return partner[near], distance[near], warnings


def _even_share(
    rows: NDArray[np.intp], slide: NDArray[np.intp], rng: np.random.Generator
) -> NDArray[np.intp]:
    """At most 1,500 of the rows, as many of each slide as can be."""
    if len(rows) <= _MOST_CANDIDATES:
        return rows
    shuffled = rng.permutation(rows)
    rank = np.zeros(len(rows), dtype=np.intp)
    for s in np.unique(slide[shuffled]):
        mine = slide[shuffled] == s
        rank[mine] = np.arange(int(mine.sum()))
    return np.sort(shuffled[np.argsort(rank, kind="stable")[:_MOST_CANDIDATES]])


def _pitch(yx: NDArray[np.float64] | None, slide: NDArray[np.intp]) -> float:
    from scipy.spatial import cKDTree

    if yx is None:
        return 0.0
    steps = [
        float(np.median(cKDTree(yx[slide == s]).query(yx[slide == s], k=2)[0][:, 1]))
        for s in np.unique(slide)
        if (slide == s).sum() > 1
    ]
    return float(np.median(steps)) if steps else 0.0


def _reasons(
    table: AnnData,
    sets: NDArray[np.intp],
    distance: NDArray[np.float64],
    slide: NDArray[np.intp],
    slides: Sequence[str],
    fit: NDArray[np.bool_],
    pairs: bool,
    tissue_class: str | None,
) -> list[str]:
    known = [column for column in ARTEFACT_COLUMNS if column in table.obs]
    tissue = table.obs["tissue"].to_numpy(dtype=float) if "tissue" in table.obs else None
    has_cells = "row" in table.obs and "col" in table.obs
    cells = table.obs[["row", "col"]].to_numpy() if has_cells else None
    density = np.asarray(table.obsm["morphology"])[:, 0] if "morphology" in table.obsm else None
    out = []

    def name(row: int) -> str:
        text = slides[slide[row]]
        return text if cells is None else f"{text} r{int(cells[row, 0])} c{int(cells[row, 1])}"

    for b in range(sets.shape[1]):
        for i, row in enumerate(sets[:, b]):
            parts = []
            if tissue is not None:
                parts.append(f"{100 * tissue[row]:.0f} % tissue")
            if known:
                parts.append(f"no {', '.join(known)}")
            if tissue_class is not None:
                parts.append(f"drawn as {tissue_class}")
            if density is not None:
                mine = density[fit & (slide == slide[row])]
                parts.append(f"denser than {100 * (mine < density[row]).mean():.0f} % of its slide's tiles")
            others = [int(sets[i, c]) for c in range(sets.shape[1]) if c != b]
            if others and pairs:
                parts.append(f"the same tissue as {', '.join(map(name, others))}")
            elif others and np.isfinite(distance[i]):
                parts.append(f"built like {', '.join(map(name, others))} ({distance[i]:.2f} sd apart)")
            out.append("; ".join(parts) or "spread over the slide")
    return out


def _said_of_counts(
    y: NDArray[np.intp], slide: NDArray[np.intp], names: Sequence[str], batch: str, n: dict[str, int]
) -> list[str]:
    out = []
    for b, name in enumerate(names):
        count, n_slides = int((y == b).sum()), len(np.unique(slide[y == b]))
        if count < FEW_CONTROLS:
            out.append(f"{batch} {name} gets {count} tiles: few, {FEW_CONTROLS} or more are better.")
        if batch != "slide" and n_slides == 1:
            out.append(f"{batch} {name} has one slide: its controls correct that slide, not the {batch}.")
        elif batch != "slide" and n_slides < _FEW_SLIDES:
            out.append(f"{batch} {name} has {n_slides} slides; {_FEW_SLIDES} or more stand for it better.")
    if max(n.values()) > 2 * min(n.values()):
        low, high = min(n, key=lambda one: n[one]), max(n, key=lambda one: n[one])
        out.append(f"Slides give unequal numbers: {n[low]} from {low}, {n[high]} from {high}.")
    return out
