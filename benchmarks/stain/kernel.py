"""Stain transforms: pixels a second, side by side with torchstain in the same process.

    python benchmarks/stain/kernel.py [--torchstain FOLDER] [--pixels 4]

torchstain is no dependency. FOLDER is where it was put (``pip install --no-deps --target FOLDER torchstain``);
without it only our own numbers are printed. The image is synthetic H&E of a fixed seed, so no file is needed.
Every number is the median of some runs, with the range in brackets; ours and theirs take turns, so that a
busy machine slows both.
"""

from __future__ import annotations

import argparse
import os
import sys
import time
import warnings
from collections.abc import Callable

import numpy as np


def make_image(side: int) -> np.ndarray:
    rng = np.random.default_rng(0)
    amounts = np.abs(rng.normal(0.0, 0.7, (side, side, 2))).astype(np.float32)
    vectors = np.array([[0.63, 0.70, 0.33], [0.22, 0.88, 0.42]], np.float32)
    return np.clip(240 * np.exp(-amounts @ vectors), 0, 255).astype(np.uint8)


def timed(call: Callable[[], object]) -> tuple[float, float]:
    """Seconds by the clock, and of CPU over all threads: what it would take on cores of its own."""
    start, busy = time.perf_counter(), time.process_time()
    call()
    return time.perf_counter() - start, time.process_time() - busy


def peers(folder: str | None, image: np.ndarray) -> dict[str, Callable[[], object]]:
    """torchstain's normalisers, fitted; each call normalises the image (estimation of the source included)."""
    if folder is None:
        return {}
    sys.path.insert(0, folder)
    import torch
    import torchstain

    tensor = torch.from_numpy(image).permute(2, 0, 1).float()
    found: dict[str, Callable[[], object]] = {}
    for backend, data in (("numpy", image), ("torch", tensor)):
        macenko = torchstain.normalizers.MacenkoNormalizer(backend=backend)
        macenko.fit(data)
        found[f"torchstain {backend}, macenko"] = lambda n=macenko, d=data: n.normalize(d, stains=False)
    reinhard = torchstain.normalizers.ReinhardNormalizer(backend="numpy")
    reinhard.fit(image)
    found["torchstain numpy, reinhard"] = lambda: reinhard.normalize(image)
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--torchstain", default=None, help="the folder that torchstain was put into")
    parser.add_argument("--pixels", type=float, default=4.0, help="image size in megapixels")
    parser.add_argument("--rounds", type=int, default=5)
    options = parser.parse_args()
    warnings.simplefilter("ignore")
    side = int((options.pixels * 1e6) ** 0.5)
    mpix = side * side / 1e6

    import torch

    from napari_batchfx import stain
    from napari_batchfx.stain.kernels import default_workers
    from napari_batchfx.stain.tensors import transform_tensor

    image = make_image(side)
    torch.set_num_threads(default_workers())
    tensor = torch.from_numpy(image)
    calls: dict[str, Callable[[], object]] = {}
    for one in stain.methods():
        if one.estimated_as:
            continue
        transform = one.normalizer().from_source(stain.estimate(image[::4, ::4], one.id))
        transform.transform(image[:8, :8])
        calls[f"ours, {one.id}"] = lambda t=transform: t.transform(image)
        if one.id in ("macenko", "reinhard"):
            calls[f"ours in torch, {one.id}"] = lambda t=transform: transform_tensor(t, tensor)
            if torch.cuda.is_available():
                there = tensor.cuda()
                calls[f"ours in torch on the GPU, {one.id}"] = lambda t=transform, d=there: (
                    t.transform_tensor(d),
                    torch.cuda.synchronize(),
                )
    # Whole use: estimate the source on the image as well, as torchstain does each time.
    normalizer = stain.MacenkoNormalizer()
    calls["ours, macenko, source estimated on the image"] = lambda: normalizer.transform(image)
    calls |= peers(options.torchstain, image)

    times: dict[str, list[float]] = {name: [] for name in calls}
    busy: dict[str, list[float]] = {name: [] for name in calls}
    for _ in range(options.rounds):
        for name, call in calls.items():
            clock, cpu = timed(call)
            times[name].append(clock)
            busy[name].append(cpu)
    load = os.getloadavg()[0] if hasattr(os, "getloadavg") else float("nan")
    print(f"{mpix:.1f} megapixels, {default_workers()} threads, load {load:.1f}, median of {options.rounds}")
    middle = {name: float(np.median(found)) for name, found in times.items()}
    for name, found in times.items():
        low, high = mpix / max(found), mpix / min(found)
        a_core = mpix / float(np.median(busy[name]))
        print(f"{name}: {mpix / middle[name]:.1f} MPix/s ({low:.1f}-{high:.1f}); {a_core:.1f} a CPU second")
    for peer, ours, bar in (
        ("torchstain numpy, macenko", "ours, macenko", 20),
        ("torchstain torch, macenko", "ours, macenko", 6),
        ("torchstain numpy, reinhard", "ours, reinhard", 10),
    ):
        if peer in middle:
            ratios = [a / b for a, b in zip(times[peer], times[ours], strict=True)]
            print(
                f"{ours} against {peer}: {np.median(ratios):.0f} times "
                f"({min(ratios):.0f}-{max(ratios):.0f}; bar {bar}); fastest against fastest "
                f"{min(times[peer]) / min(times[ours]):.0f}; by CPU seconds a core "
                f"{np.median(busy[peer]) / np.median(busy[ours]):.0f}"
            )


if __name__ == "__main__":
    main()
