"""How long the heads train on 20,000 vectors of 512 numbers (bar: 60 s on two cores). ``--threads 2`` on a quiet machine."""

import argparse
import time

import numpy as np
import torch

from napari_batchfx.adapt import HEADS
from napari_batchfx.benchmark.on_features import as_table


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--heads", nargs="+", default=["csarmbn"])
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    rng = np.random.default_rng(0)
    n, domains = 20_000, 10
    y, domain = rng.integers(0, 4, n), np.arange(n) % domains
    means = rng.normal(size=(4, 512)) * 0.3
    x = (means[y] + rng.normal(size=(n, 512)) + rng.normal(size=(domains, 512))[domain]).astype(np.float32)
    control = np.arange(n) // domains % 5 == 0
    label = np.where(control, "", np.array([f"class {k}" for k in y], object))
    patient = np.array([f"{d}-{i // domains % 20}" for i, d in enumerate(domain)], object)
    table = as_table(x, label, np.array([f"site {d}" for d in domain], object), control, patient)
    for name in options.heads:
        wall, processor = time.perf_counter(), time.process_time()
        head = HEADS[name]().fit(table)
        wall, processor = time.perf_counter() - wall, time.process_time() - processor
        start = time.perf_counter()
        head.predict(table)
        print(
            f"{name}: {wall:.0f} s wall, {processor:.0f} s of processor, {head.curve[-1].step} steps; "
            f"prediction of all tiles {time.perf_counter() - start:.1f} s",
            flush=True,
        )


if __name__ == "__main__":
    main()
