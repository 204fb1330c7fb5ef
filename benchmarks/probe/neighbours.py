"""Exact neighbours beside the bare block product and top-k on the same device, in turns.

    python benchmarks/probe/neighbours.py [--tiles 100000] [--features 1024] [--queries 8192] [--k 11] [--rounds 3]

Bare: the product of a block of queries with a block of tiles, and of each the k largest, by numpy's argpartition and by
torch.topk; nothing is merged, sorted, measured exactly, and no slide is left out. Queries are the first so many tiles;
all tiles are possible neighbours. The ratio is to the faster of the two. "product" is the product alone.
"""

from __future__ import annotations

import argparse
import resource
import statistics
import time

import numpy as np

from napari_batchfx.probe import neighbours
from napari_batchfx.probe.neighbours import nearest


def peak_mib() -> float:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def bare_numpy(x, queries, k, blocks):
    for q in range(0, queries, blocks[0]):
        for r in range(0, len(x), blocks[1]):
            scores = x[q : min(q + blocks[0], queries)] @ x[r : r + blocks[1]].T
            if k:
                np.argpartition(scores, scores.shape[1] - k, axis=1)[:, -k:]


def bare_torch(x, queries, k, blocks):
    import torch

    for q in range(0, queries, blocks[0]):
        for r in range(0, len(x), blocks[1]):
            torch.topk(x[q : min(q + blocks[0], queries)] @ x[r : r + blocks[1]].T, k, dim=1)
    if x.is_cuda:
        torch.cuda.synchronize()


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--tiles", type=int, default=100_000)
    parser.add_argument("--features", type=int, default=1024)
    parser.add_argument("--queries", type=int, default=8192)
    parser.add_argument("--slides", type=int, default=250)
    parser.add_argument("--k", type=int, default=11)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--device", default="cpu")
    options = parser.parse_args()
    import torch

    rng = np.random.default_rng(0)
    x = rng.standard_normal((options.tiles, options.features), dtype=np.float32)
    slide = np.arange(options.tiles) * options.slides // options.tiles
    blocks = neighbours._QUERIES, neighbours._POINTS
    nearest(x[:500], options.k, device=options.device)
    base = peak_mib()
    there = torch.from_numpy(x).to(options.device)
    queries = np.arange(options.queries)
    runs = {
        "ours": lambda: nearest(x, options.k, group=slide, queries=queries, device=options.device),
        "torch.topk": lambda: bare_torch(there, options.queries, options.k, blocks),
    }
    if options.device == "cpu":
        runs["argpartition"] = lambda: bare_numpy(x, options.queries, options.k, blocks)
        runs["product"] = lambda: bare_numpy(x, options.queries, 0, blocks)
    print(f"{options.queries:,} of {options.tiles:,} x {options.features:,}, k {options.k}, {options.device}")
    ratios: tuple[list[float], list[float]] = ([], [])
    for _ in range(options.rounds):
        took = {}
        for name, call in runs.items():
            start = time.perf_counter(), time.process_time()
            call()
            took[name] = time.perf_counter() - start[0], time.process_time() - start[1]
            if name == "ours":
                memory = peak_mib() - base
        for i in range(2):
            bare = min(took[name][i] for name in ("torch.topk", "argpartition") if name in took)
            ratios[i].append(took["ours"][i] / bare)
        print(
            "  ".join(f"{name} {w:.1f} s wall, {p:.1f} s processor" for name, (w, p) in took.items()),
            flush=True,
        )
    for kind, found in zip(("wall", "processor"), ratios, strict=True):
        print(
            f"ours takes {statistics.median(found):.2f} times the faster bare one, {kind} "
            f"({min(found):.2f}-{max(found):.2f}); {memory:,.0f} MiB over the features themselves"
        )


if __name__ == "__main__":
    main()
