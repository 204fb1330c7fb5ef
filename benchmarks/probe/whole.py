"""Robustness index and CRoMa of a whole table beside the bare block product and top-k, in one run.

    python benchmarks/probe/whole.py [--tiles 100000] [--features 1024] [--bare 10000] [--only RI|CRoMa]

Bare: the product of every block of queries with every block of tiles, and of each query the k largest, by torch.topk and
by numpy's argpartition; nothing is merged, sorted, measured exactly, and no slide is left out. It is taken for --bare
queries, before and after the metrics, and counted for all of them in proportion: every query costs the same. The ratio
is to the faster of the two. Ours is the whole metric with its interval, as a person calls it. Memory is what the largest
resident size grows by over the table itself.
"""

from __future__ import annotations

import argparse
import sys
import time
from pathlib import Path

import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parent))

from neighbours import bare_numpy, bare_torch, peak_mib
from robustness import make

from napari_batchfx.probe import neighbours
from napari_batchfx.probe.metrics import croma, robustness_index


def timed(call) -> tuple[float, float, object]:
    wall, processor = time.perf_counter(), time.process_time()
    value = call()
    return time.perf_counter() - wall, time.process_time() - processor, value


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--tiles", type=int, default=100_000)
    parser.add_argument("--features", type=int, default=1024)
    parser.add_argument("--slides", type=int, default=250)
    parser.add_argument("--bare", type=int, default=10_000, help="queries of the bare product")
    parser.add_argument("--k", type=int, default=11)
    parser.add_argument("--only", choices=["RI", "CRoMa"])
    options = parser.parse_args()
    import torch

    robustness_index(make(600, 16, 12), k=3, device="cpu")  # compiles, or loads what is compiled
    table = make(options.tiles, options.features, options.slides)
    x = np.asarray(table.X)
    there = torch.from_numpy(x)
    blocks, some = (neighbours._QUERIES, neighbours._POINTS), min(options.bare, options.tiles)
    share = options.tiles / some
    ways = {
        "torch.topk": lambda: bare_torch(there, some, options.k, blocks),
        "argpartition": lambda: bare_numpy(x, some, options.k, blocks),
    }
    torch.topk(there[:64] @ there[:64].T, 3)
    print(f"{options.tiles:,} x {options.features:,}, {options.slides} slides, k {options.k}", flush=True)
    bare: dict[str, list[tuple[float, float]]] = {name: [] for name in ways}

    def take_bare() -> None:
        for name, call in ways.items():
            wall, processor, _ = timed(call)
            bare[name].append((wall * share, processor * share))
            print(
                f"bare, {name}: {some:,} queries {wall:.1f} s wall, {processor:.1f} s processor; all would take "
                f"{wall * share:.0f} and {processor * share:.0f} s",
                flush=True,
            )

    base = peak_mib()
    take_bare()
    found = {}
    for name, call in (
        ("RI", lambda: robustness_index(table, k=options.k, device="cpu")),
        ("CRoMa", lambda: croma(table, device="cpu")),
    ):
        if options.only not in (None, name):
            continue
        wall, processor, value = timed(call)
        found[name] = wall, processor
        print(
            f"{name}: {value.value:.6f}, {wall:.1f} s wall, {processor:.1f} s processor; peak "
            f"{peak_mib() - base:,.0f} MiB over the table",
            flush=True,
        )
    take_bare()
    for name, took in found.items():
        ratios = [
            took[i] / min(np.mean([one[i] for one in rounds]) for rounds in bare.values()) for i in (0, 1)
        ]
        print(
            f"{name}: {ratios[0]:.2f} times the bare product and top-k by wall, {ratios[1]:.2f} by processor"
        )


if __name__ == "__main__":
    main()
