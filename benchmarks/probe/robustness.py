"""Robustness index and CRoMa of made tables, beside croma in the same run, in turns.

    python benchmarks/probe/robustness.py [--tiles 20000] [--features 512] [--slides 50] [--rounds 3]
    python benchmarks/probe/robustness.py --tiles 100000 --features 1024 --slides 250 --alone

croma (pip install croma, Apache-2.0) is not a dependency; where it isn't there, or with --alone, only ours is
timed. Memory is the growth of the largest resident size over what the table itself takes.
"""

from __future__ import annotations

import argparse
import importlib.util
import logging
import resource
import statistics
import time
import warnings

import anndata
import numpy as np
import pandas as pd

from napari_batchfx.probe.metrics import croma, robustness_index


def make(tiles: int, features: int, slides: int) -> anndata.AnnData:
    rng = np.random.default_rng(0)
    slide = np.arange(tiles) * slides // tiles
    site, label = slide % 4, rng.integers(0, 4, tiles)
    x = np.empty((tiles, features), dtype=np.float32)
    means = rng.normal(size=(2, 4, features)).astype(np.float32) * 0.25
    for i in range(0, tiles, 5000):
        at = slice(i, i + 5000)
        x[at] = rng.normal(size=x[at].shape) + means[0][label[at]] + means[1][site[at]]
    obs = pd.DataFrame({"label": label, "site": site, "slide": slide}).astype(str)
    obs.index = obs.index.astype(str)
    return anndata.AnnData(x, obs=obs)


def timed(call):
    wall, processor = time.perf_counter(), time.process_time()
    value = call()
    return time.perf_counter() - wall, time.process_time() - processor, value


def peak_mib() -> float:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--tiles", type=int, default=20_000)
    parser.add_argument("--features", type=int, default=512)
    parser.add_argument("--slides", type=int, default=50)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--k", type=int, default=11)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--alone", action="store_true")
    parser.add_argument("--only", choices=["robustness index", "CRoMa"], help="one of the two")
    options = parser.parse_args()
    robustness_index(make(600, 16, 12), k=3)  # compiles, or loads what is compiled
    table = make(options.tiles, options.features, options.slides)
    base = peak_mib()
    runs = {
        "robustness index": [lambda: robustness_index(table, k=options.k, device=options.device).value],
        "CRoMa": [lambda: croma(table, device=options.device).value],
    }
    if not options.alone and importlib.util.find_spec("croma"):
        from croma.metrics.croma import CrossConfounderRobustnessMargin
        from croma.metrics.ri import RobustnessIndex

        warnings.simplefilter("ignore")
        logging.getLogger("croma").setLevel(logging.ERROR)
        x = np.asarray(table.X)
        rows = {"sample_id": table.obs_names, "label": table.obs["label"].to_numpy(), "image_path": "-"}
        rows |= {"site": table.obs["site"].to_numpy(), "dataset": "made"}
        rows |= {"group_id": table.obs["slide"].to_numpy(), "slide_id": table.obs["slide"].to_numpy()}
        manifest = pd.DataFrame(rows)
        runs["robustness index"].append(
            lambda: (
                RobustnessIndex.compute(x, manifest, confounder_column="site", k_candidates=[options.k]).value
            )
        )
        runs["CRoMa"].append(
            lambda: CrossConfounderRobustnessMargin.compute(x, manifest, confounder_column="site").value
        )
    print(f"{options.tiles:,} x {options.features:,}, {options.slides} slides, k {options.k}, m 5")
    for name, calls in runs.items():
        if options.only not in (None, name):
            continue
        rounds = []
        for _ in range(options.rounds):
            found = [timed(call) for call in calls]
            rounds.append(found)
            line = "  ".join(
                f"{who} {wall:.1f} s wall, {cpu:.1f} s processor, value {value:.7f}"
                for who, (wall, cpu, value) in zip(("ours", "croma"), found, strict=False)
            )
            print(f"{name}: {line}; peak {peak_mib() - base:,.0f} MiB over the table", flush=True)
        if len(calls) > 1:
            for i, what in enumerate(("wall", "processor")):
                ratios = [found[1][i] / found[0][i] for found in rounds]
                print(
                    f"{name}: croma takes {statistics.median(ratios):.1f} times as long, {what} "
                    f"({min(ratios):.1f}-{max(ratios):.1f})"
                )


if __name__ == "__main__":
    main()
