"""Neighbours by kind: same class or other class, same batch or other batch, never the own slide."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from napari_batchfx.errors import ProbeError
from napari_batchfx.jobs import Job
from napari_batchfx.probe.metrics.tiles import Tiles
from napari_batchfx.probe.neighbours import Neighbours, Wanted, nearest_job
from napari_batchfx.probe.statistics import balanced_accuracy

__all__ = ["KINDS", "TypedNeighbours", "kind_counts", "most_k", "typed_job", "vote_accuracy"]

KINDS = ("SO", "OS", "SS", "OO")  # same/other class, then same/other batch


@dataclass(frozen=True)
class TypedNeighbours:
    """Lists of one search: the nearest of all kinds, and the nearest of kinds SO and OS."""

    every: Neighbours | None
    so: Neighbours | None
    os: Neighbours | None


def most_k(tiles: Tiles) -> int:
    """The longest list that every tile can fill from other groups."""
    return int(len(tiles.rows) - np.bincount(tiles.group).max())


def typed_job(tiles: Tiles, k: int, m: int, device: str = "auto") -> Job[TypedNeighbours]:
    """Search once for the k nearest of any kind and the m nearest of SO and of OS (0 for none)."""
    most = most_k(tiles)
    if k > most:
        raise ProbeError(
            f"k is {k}, but the largest {tiles.group_column} leaves its tiles only {most:,} tiles of other "
            f"{tiles.group_column}s; take a smaller k."
        )
    b = len(tiles.batches)
    cells = np.arange(len(tiles.labels) * b)
    same_label = cells[:, None] // b == cells[None, :] // b
    same_batch = cells[:, None] % b == cells[None, :] % b
    wanted: list[Wanted] = []
    if k:
        wanted.append(Wanted(k, np.ones_like(same_label)))
    if m:
        wanted += [Wanted(m, same_label & ~same_batch), Wanted(m, ~same_label & same_batch)]
    found = yield from nearest_job(
        tiles.x, wanted, cell=tiles.label * b + tiles.batch, group=tiles.group, device=device
    )
    every = found.pop(0) if k else None
    so, os = found if m else (None, None)
    return TypedNeighbours(every, so, os)


def kind_counts(tiles: Tiles, near: Neighbours, ks: Sequence[int]) -> dict[str, NDArray[np.int32]]:
    """For each kind, how many of a tile's nearest k are of it: int32 (m, ks)."""
    out = {kind: np.zeros((len(near.index), len(ks)), dtype=np.int32) for kind in KINDS}
    last = np.asarray(ks) - 1
    for i in range(0, len(near.index), 8192):
        at = slice(i, i + 8192)
        index = near.index[at, : int(last.max()) + 1]
        there = index >= 0
        label = (tiles.label[index] == tiles.label[at, None]) & there
        batch = (tiles.batch[index] == tiles.batch[at, None]) & there
        kinds = (label & ~batch, ~label & batch, label & batch, ~label & ~batch & there)
        for kind, mask in zip(KINDS, kinds, strict=True):
            out[kind][at] = np.cumsum(mask, axis=1, dtype=np.int32)[:, last]
    return out


def vote_accuracy(tiles: Tiles, near: Neighbours, ks: Sequence[int]) -> dict[int, float]:
    """Balanced accuracy of the class by majority of the nearest k, for each k in rising order.

    A tie goes to the class whose nearest neighbour is nearer.
    """
    n, classes = len(near.index), len(tiles.labels)
    out: dict[int, float] = {}
    votes = np.zeros((n, classes), dtype=np.float32)
    first = np.full((n, classes), near.k, dtype=np.float32)
    rows = np.arange(n)
    voted = near.index[:, 0] >= 0
    done = 0
    for k in sorted(ks):
        for j in range(done, k):
            index = near.index[:, j]
            label = tiles.label[index]
            votes[rows, label] += index >= 0
            first[rows, label] = np.where(index >= 0, np.minimum(first[rows, label], j), first[rows, label])
        done = k
        predicted = (votes - first / (2 * near.k + 1)).argmax(axis=1)
        out[k] = balanced_accuracy(tiles.label[voted], predicted[voted], classes) if voted.any() else np.nan
    return out
