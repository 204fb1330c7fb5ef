"""PathoROB's robustness index: whether near tiles share the class or share the batch."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import combinations
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from napari_batchfx import jobs
from napari_batchfx.errors import ProbeError
from napari_batchfx.jobs import Job
from napari_batchfx.probe.metrics.jackknife import Blocks, jackknife_interval, without_each
from napari_batchfx.probe.metrics.result import MetricResult, undefined
from napari_batchfx.probe.metrics.tiles import Group, Tiles, read_tiles
from napari_batchfx.probe.metrics.typed import KINDS, kind_counts, most_k, typed_job, vote_accuracy
from napari_batchfx.probe.neighbours import Neighbours

if TYPE_CHECKING:
    from anndata import AnnData

__all__ = [
    "PUBLISHED_K",
    "Counted",
    "candidate_ks",
    "choose_ks",
    "index_from",
    "robustness_index",
    "robustness_index_job",
    "two_by_two",
]

PUBLISHED_K = {"camelyon": 11, "tcga": 61, "tolkach": 46}  # medians of the best k over PathoROB's models


def candidate_ks(limit: int) -> list[int]:
    """PathoROB's choices of k up to a limit: 1, 3, 5, 7, 9, then 11, 21, 31 and so on.

    Examples
    --------
    >>> candidate_ks(35)
    [1, 3, 5, 7, 9, 11, 21, 31]
    """
    return [k for k in (1, 3, 5, 7, 9) if k <= limit] + list(range(11, limit + 1, 10))


def robustness_index(
    table: AnnData,
    label: str = "label",
    batch: str = "site",
    group: Group = "slide",
    k: int | Sequence[int] | None = None,
    *,
    k_max: int = 61,
    pairs: bool = False,
    balance: bool = False,
    interval: bool = True,
    seed: int = 0,
    device: str = "auto",
) -> MetricResult:
    """Share of a tile's telling neighbours that are of its class and not of its batch.

    ``RI(k) = sum SO / (sum SO + sum OS)`` over the k nearest tiles of other slides of every tile: SO has the
    same class and another batch, OS another class and the same batch. 1: biology rules the neighbourhood, 0:
    the batch does.

    Parameters
    ----------
    table : anndata.AnnData
        ``X`` float32 (n, d).
    label, batch : str
        Columns of class and batch.
    group : str, int array (n,) or None
        What may not be a neighbour of itself, the slide mostly; ``None``: only the tile itself.
    k : int, sequence of int or None
        Neighbours. Of several, and of PathoROB's candidates up to ``k_max`` where it is ``None``, the value
        is given at the k with the best balanced accuracy of the class; ``curve`` has them all. Compare
        encoders at one fixed k: the published ones are 11 (Camelyon), 61 (TCGA), 46 (Tolkach).
    k_max : int
        Largest candidate.
    pairs : bool
        Weigh every two classes in every two batches by themselves and pool the counts, as PathoROB does with
        TCGA.
    balance : bool
        Draw equally many tiles of every class in every batch first.
    interval : bool
        Whether to work out the 95 % interval: from leaving each group out, as tiles and as neighbours.
    seed : int
        Of ``balance``, and of the deal where more than 200 groups are left out several at a time.
    device : str
        See :func:`napari_batchfx.probe.neighbours.nearest`.

    Returns
    -------
    MetricResult
        ``per_tile``: the local index SO / (SO + OS) of each tile, NaN where it has neither; good for a map,
        but not what is pooled. ``support``: ``k``, pooled counts of SO, OS, SS and OO, the share of tiles
        with a telling neighbour, and the confounder insensitivity (SO + OO) / (SS + OS). ``retention``:
        balanced accuracy of the class by vote of the same neighbours.

    Raises
    ------
    ProbeError
        A column is missing or empty, or k is too large for this table.

    References
    ----------
    "Towards robust foundation models for digital pathology" (PathoROB), arXiv:2507.17845, Nature
    Communications 17:5218, 2026. The index of de Jong et al. (arXiv:2501.18055) has the same name and is
    another: (SS + SO) / (SS + OS).

    Examples
    --------
    >>> import anndata, pandas
    >>> rng = np.random.default_rng(0)
    >>> obs = pandas.DataFrame({"slide": np.arange(40) // 5, "site": np.arange(40) // 5 % 2})
    >>> obs["label"] = np.where(np.arange(40) % 5 < 2, "tumour", "normal")
    >>> obs.index = obs.index.astype(str)
    >>> x = rng.normal(size=(40, 4)).astype("float32"); x[:, 0] += 20 * (obs["label"] == "tumour")
    >>> robustness_index(anndata.AnnData(x, obs=obs.astype(str)), k=3).value
    1.0
    """
    return jobs.run(
        robustness_index_job(
            table,
            label,
            batch,
            group,
            k,
            k_max=k_max,
            pairs=pairs,
            balance=balance,
            interval=interval,
            seed=seed,
            device=device,
        )
    )


def robustness_index_job(
    table: AnnData,
    label: str = "label",
    batch: str = "site",
    group: Group = "slide",
    k: int | Sequence[int] | None = None,
    *,
    k_max: int = 61,
    pairs: bool = False,
    balance: bool = False,
    interval: bool = True,
    seed: int = 0,
    device: str = "auto",
) -> Job[MetricResult]:
    """:func:`robustness_index` as a job."""
    tiles = read_tiles(table, label, batch, group)
    if reason := tiles.trouble() or tiles.lone():
        return undefined(reason, tiles.support)
    whole = tiles
    if balance:
        tiles = tiles.balanced(seed)
    problems = two_by_two(tiles) if pairs else [np.arange(len(tiles.rows))]
    if not problems:
        return undefined(
            f"No two classes occur together in two {batch}s: there are no pairs to weigh.", tiles.support
        )
    parts = [tiles.only(rows) if pairs else tiles for rows in problems]
    ks = choose_ks(parts, k, k_max)
    blocks = Blocks.deal(tiles.group, tiles.batch, seed) if interval else None
    total = Counted.empty(len(tiles.rows), ks, blocks)
    for rows, part in zip(problems, parts, strict=True):
        found = yield from typed_job(part, max(ks), 0, device)
        assert found.every is not None
        total.add(rows, part, found.every)
    result = index_from(tiles, total, "pairs" if pairs else "")
    if balance and len(tiles.rows) < len(whole.rows):
        result.warnings.append(
            f"{len(tiles.rows):,} of {len(whole.rows):,} tiles were drawn, equally many of every class and "
            f"{batch}; another seed gives a slightly different value."
        )
    return result


class Counted:
    """Counts of neighbours by kind at each k, and the accuracies of the vote, summed over sub-problems."""

    def __init__(self, kinds: dict[str, NDArray[np.int32]], ks: list[int], blocks: Blocks | None) -> None:
        self.kinds, self.ks, self.blocks = kinds, ks, blocks
        b = 0 if blocks is None else len(blocks)
        self.pairs = np.zeros((2, len(ks), b, b))
        self.accuracies: list[dict[int, float]] = []
        self.cells: list[int] = []

    @classmethod
    def empty(cls, n: int, ks: list[int], blocks: Blocks | None = None) -> Counted:
        """No counts yet, for n tiles; with ``blocks`` also of who is whose neighbour, for an interval."""
        return cls({kind: np.zeros((n, len(ks)), dtype=np.int32) for kind in KINDS}, ks, blocks)

    def add(self, rows: NDArray[np.intp], part: Tiles, near: Neighbours) -> None:
        """Count the lists of some of the tiles."""
        for kind, counts in kind_counts(part, near, self.ks).items():
            self.kinds[kind][rows] += counts
        if self.blocks is not None:
            self._count_pairs(self.blocks, rows, part, near)
        self.accuracies.append(vote_accuracy(part, near, self.ks))
        self.cells.append(int(part.counts[part.counts > 0].min()))

    def _count_pairs(self, blocks: Blocks, rows: NDArray[np.intp], part: Tiles, near: Neighbours) -> None:
        """SO and OS by the block of the tile and of its neighbour, at each k."""
        done = 0
        sums = np.zeros(self.pairs.shape[:1] + self.pairs.shape[2:])
        for at, k in enumerate(self.ks):
            index = near.index[:, done:k]
            label = part.label[index] == part.label[:, None]
            batch = part.batch[index] == part.batch[:, None]
            for i, kind in enumerate((label & ~batch, ~label & batch)):
                sums[i] += blocks.pairs(rows, rows[index], kind & (index >= 0))
            self.pairs[:, at] += sums
            done = k

    def interval(self, at: int, value: float) -> tuple[float, float] | None:
        """Of the index at the k in place ``at``."""
        if self.blocks is None:
            return None
        so, os = without_each(self.pairs[:, at])
        with np.errstate(invalid="ignore", divide="ignore"):
            return jackknife_interval(value, so / (so + os), self.blocks)

    @property
    def accuracy(self) -> dict[int, float]:
        """Balanced accuracy at each k, the mean over sub-problems."""
        return {k: float(np.nanmean([one[k] for one in self.accuracies])) for k in self.ks}


def choose_ks(parts: Sequence[Tiles], k: int | Sequence[int] | None, k_max: int) -> list[int]:
    """The k to look at, rising; candidates stay below the smallest cell of class and batch."""
    if k is None:
        least = min(int(part.counts[part.counts > 0].min()) for part in parts)
        limit = min(k_max, least, *(most_k(part) for part in parts))
        return candidate_ks(limit) or [1]
    ks = sorted({int(one) for one in ([k] if isinstance(k, (int, np.integer)) else k)})
    if not ks or ks[0] < 1:
        raise ProbeError("k must be 1 or more.")
    return ks


def index_from(tiles: Tiles, counted: Counted, how: str = "") -> MetricResult:
    """The index at the k with the best balanced accuracy of the class, from counted neighbours."""
    so, os = counted.kinds["SO"], counted.kinds["OS"]
    accuracy = counted.accuracy
    best = max(counted.ks, key=lambda k: (accuracy[k], -k))
    at = counted.ks.index(best)
    pooled = {kind: int(counts[:, at].sum(dtype=np.int64)) for kind, counts in counted.kinds.items()}
    telling = (so[:, at] + os[:, at]) > 0
    support = tiles.support | {"k": best, **pooled, "telling": float(telling.mean())}
    if pooled["SS"] + pooled["OS"]:
        support["insensitivity"] = (pooled["SO"] + pooled["OO"]) / (pooled["SS"] + pooled["OS"])
    if how:
        support["sub_problems"] = len(counted.accuracies)
    retention = MetricResult(
        accuracy[best],
        tiles.support | {"k": best, "chance": 1 / (2 if how else len(tiles.labels))},
        curve=accuracy if len(counted.ks) > 1 else None,
    )
    if pooled["SO"] + pooled["OS"] == 0:
        reason = (
            f"Among the {best} nearest tiles of other {tiles.group_column}s none tells class from "
            f"{tiles.batch_column}: all share both or neither; take a larger k, or the margin (CRoMa)."
        )
        return undefined(reason, support, retention)
    with np.errstate(invalid="ignore", divide="ignore"):
        totals_so, totals_os = so.sum(axis=0, dtype=np.int64), os.sum(axis=0, dtype=np.int64)
        curve = dict(zip(counted.ks, (totals_so / (totals_so + totals_os)).tolist(), strict=True))
        local = so[:, at] / (so[:, at] + os[:, at])
    interval = counted.interval(at, curve[best])
    support["interval"] = f"95 %, each {tiles.group_column} left out, as tiles and as neighbours"
    warnings = list(tiles.notes)
    if best >= min(counted.cells):
        warnings.append(
            f"k is {best}, and the smallest class in a {tiles.batch_column} has only {min(counted.cells)} "
            "of them: its neighbours have to be others; take a smaller k."
        )
    if telling.mean() < 0.5:
        warnings.append(
            f"Only {round(100 * telling.mean())} of 100 tiles have a neighbour that tells class from "
            f"{tiles.batch_column} among their {best} nearest: the index speaks for these alone."
        )
    warnings += tiles.traps()
    return MetricResult(
        curve[best],
        support,
        warnings,
        interval,
        tiles.spread(local),
        curve if len(counted.ks) > 1 else None,
        retention,
    )


def two_by_two(tiles: Tiles) -> list[NDArray[np.intp]]:
    """Places of the tiles of each two classes and two batches whose four cells are filled."""
    counts = tiles.counts
    out = []
    for a in combinations(range(len(tiles.labels)), 2):
        for b in combinations(range(len(tiles.batches)), 2):
            if counts[np.ix_(a, b)].min() > 0:
                out.append(np.flatnonzero(np.isin(tiles.label, a) & np.isin(tiles.batch, b)))
    return out
