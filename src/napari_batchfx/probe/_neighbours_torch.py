"""The neighbour search through torch: one block product, masks and top-k, on any device torch has."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    from napari_batchfx.probe.neighbours import Wanted

__all__ = ["TorchSearch"]

_GATHERED = 2**27  # numbers gathered at once while candidates are measured


@contextmanager
def _full_precision() -> Iterator[None]:
    """Products in true float32: the shorter formats of tensor cores swap close neighbours."""
    import torch

    before = torch.backends.cuda.matmul.allow_tf32
    torch.backends.cuda.matmul.allow_tf32 = False
    try:
        yield
    finally:
        torch.backends.cuda.matmul.allow_tf32 = before


class TorchSearch:
    """Holds the points on a device and answers block by block; used by :func:`nearest_job`."""

    def __init__(
        self,
        x: NDArray[np.float32],
        dim: int,
        cell: NDArray[np.intp],
        group: NDArray[np.intp],
        device: str,
    ) -> None:
        import torch

        self.torch = torch
        self.x = torch.from_numpy(x).to(device)
        self.dim = dim
        self.cell = torch.from_numpy(np.ascontiguousarray(cell, dtype=np.int64)).to(device)
        self.group = torch.from_numpy(np.ascontiguousarray(group, dtype=np.int64)).to(device)
        # a Mac's graphics chip has no float64
        self.exact = torch.float32 if self.x.device.type == "mps" else torch.float64

    def start(self, rows: NDArray[np.intp], wanted: Sequence[Wanted], widths: Sequence[int]) -> list[Any]:
        """Empty lists for a block of queries, given by their rows."""
        torch = self.torch
        self.rows = torch.from_numpy(np.ascontiguousarray(rows, dtype=np.int64)).to(self.x.device)
        self.queries = self.x[self.rows].clone()
        if self.x.shape[1] > self.dim:
            self.queries[:, self.dim :] = self.queries[:, self.dim :].flip(1)
        # a list that takes every cell needs no mask, and asking the device would make it wait
        self.masks = [None if w.cells.all() else torch.from_numpy(w.cells).to(self.x.device) for w in wanted]
        q = len(rows)
        return [
            (
                torch.full((q, k), -torch.inf, device=self.x.device),
                torch.full((q, k), -1, dtype=torch.int64, device=self.x.device),
            )
            for k in widths
        ]

    def take_up(self, lists: list[Any], first: int, last: int) -> list[Any]:
        """The lists with the points first..last taken up."""
        torch = self.torch
        with _full_precision():
            scores = self.queries @ self.x[first:last].T
        scores.masked_fill_(self.group[self.rows, None] == self.group[None, first:last], -torch.inf)
        out = []
        for mask, (best, where) in zip(self.masks, lists, strict=True):
            mine = scores
            if mask is not None:
                allowed = mask[self.cell[self.rows]][:, self.cell[first:last]]
                mine = scores.masked_fill(~allowed, -torch.inf)
            top, at = torch.topk(mine, min(best.shape[1], last - first), dim=1)
            both = torch.cat([best, top], dim=1)
            places = torch.cat([where, at + first], dim=1)
            best, pick = torch.topk(both, best.shape[1], dim=1)
            where = places.gather(1, pick)
            out.append((best, torch.where(torch.isneginf(best), -1, where)))
        return out

    def measure(self, found: Any) -> tuple[NDArray[np.int32], NDArray[np.float64]]:
        """Candidates and their squared distances, summed in float64."""
        torch = self.torch
        _, where = found
        out = torch.full(where.shape, torch.inf, dtype=self.exact, device=self.x.device)
        step = max(1, _GATHERED // max(1, where.shape[1] * self.dim))
        for i in range(0, len(where), step):
            at = where[i : i + step].clamp(min=0)
            gap = self.x[at][:, :, : self.dim].to(self.exact)
            gap -= self.queries[i : i + step, None, : self.dim].to(self.exact)
            out[i : i + step] = gap.square_().sum(dim=2)
        out[where < 0] = torch.inf
        return where.cpu().numpy().astype(np.int32), out.cpu().numpy().astype(np.float64)
