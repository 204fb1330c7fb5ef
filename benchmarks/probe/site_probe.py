"""The site probe on a made table: seconds, processor seconds, and memory over what the table itself takes.

    python benchmarks/probe/site_probe.py [--tiles 100000] [--features 1024] [--sites 4] [--slides 80]

Five folds grouped by patient, the penalty and the temperature chosen inside, no permutations and 1,000 draws
for the interval; --permutations adds them. Memory is the growth of the largest resident size.
"""

from __future__ import annotations

import argparse
import resource
import time

import anndata
import numpy as np
import pandas as pd

from napari_batchfx.probe import PROBES, site_probe


def make(tiles: int, features: int, sites: int, slides: int) -> anndata.AnnData:
    """Features with a spectrum, slides that differ, and sites that differ a little."""
    rng = np.random.default_rng(0)
    slide = np.arange(tiles) * slides // tiles
    site, label = slide % sites, rng.integers(0, 4, tiles)
    spread = np.geomspace(3.0, 0.3, features).astype(np.float32)
    of_site = rng.normal(size=(sites, features)).astype(np.float32) * 0.05
    of_slide = rng.normal(size=(slides, features)).astype(np.float32) * 0.1
    of_class = rng.normal(size=(4, features)).astype(np.float32) * 0.2
    x = np.empty((tiles, features), dtype=np.float32)
    for i in range(0, tiles, 5000):
        at = slice(i, i + 5000)
        x[at] = rng.normal(size=x[at].shape)
        x[at] = (x[at] + of_site[site[at]] + of_slide[slide[at]] + of_class[label[at]]) * spread
    obs = pd.DataFrame({"label": label, "site": site, "slide": slide, "patient": slide}).astype(str)
    obs.index = obs.index.astype(str)
    return anndata.AnnData(x, obs=obs)


def peak_mib() -> float:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--tiles", type=int, default=100_000)
    parser.add_argument("--features", type=int, default=1024)
    parser.add_argument("--sites", type=int, default=4)
    parser.add_argument("--slides", type=int, default=80)
    parser.add_argument("--permutations", type=int, default=0)
    parser.add_argument("--probe", choices=PROBES, default="logistic")
    parser.add_argument("--rounds", type=int, default=1)
    options = parser.parse_args()
    site_probe(make(800, 16, 2, 20), probe=options.probe, permutations=0)  # imports
    table = make(options.tiles, options.features, options.sites, options.slides)
    base = peak_mib()
    print(f"{options.tiles:,} x {options.features:,} float32, {options.sites} sites, {options.slides} slides")
    for _ in range(options.rounds):
        wall, processor = time.perf_counter(), time.process_time()
        found = site_probe(table, probe=options.probe, permutations=options.permutations)
        wall, processor = time.perf_counter() - wall, time.process_time() - processor
        print(
            f"{options.probe}: {wall:.1f} s wall, {processor:.1f} s processor, peak {peak_mib() - base:,.0f} MiB "
            f"over the table; balanced accuracy {found.balanced_accuracy:.4f} "
            f"({found.ci[0]:.3f}-{found.ci[1]:.3f}), ECE {found.ece:.4f}, C {found.settings['C']}",
            flush=True,
        )


if __name__ == "__main__":
    main()
