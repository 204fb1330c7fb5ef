"""Stain transform: pixels a second, side by side with torchstain in the same run.

    python benchmarks/stain_kernel.py [--peer-python PATH] [--pixels 4]

torchstain is no dependency. It is taken from this environment, or from the interpreter given by
``--peer-python``; where it is in neither, only our own numbers are printed. The image is synthetic H&E
of a fixed seed, so no file is needed.
"""

from __future__ import annotations

import argparse
import importlib.util
import json
import subprocess
import sys
import time
from collections.abc import Callable

PEER = """
import json, sys, time
import numpy as np
{image}
import torchstain
result = {{}}
image = make_image({side})
for name, method in (("macenko", "macenko"), ("reinhard", "reinhard")):
    try:
        if name == "macenko":
            n = torchstain.normalizers.MacenkoNormalizer(backend="numpy")
            n.fit(image); call = lambda: n.normalize(image, stains=False)
        else:
            n = torchstain.normalizers.ReinhardNormalizer(backend="numpy")
            n.fit(image); call = lambda: n.normalize(image)
        call()
        best = min(timed(call) for _ in range(3))
        result[name] = best
    except Exception as error:
        result[name + " error"] = str(error)
print(json.dumps(result))
"""

IMAGE = """
def make_image(side):
    import numpy as np
    rng = np.random.default_rng(0)
    amounts = np.abs(rng.normal(0.0, 0.7, (side, side, 2)))
    vectors = np.array([[0.63, 0.70, 0.33], [0.22, 0.88, 0.42]])
    return np.clip(240 * np.exp(-amounts @ vectors), 0, 255).astype(np.uint8)

def timed(call):
    import time
    start = time.perf_counter()
    call()
    return time.perf_counter() - start
"""


def best(call: Callable[[], object], repeats: int = 7) -> float:
    times = []
    for _ in range(repeats):
        start = time.perf_counter()
        call()
        times.append(time.perf_counter() - start)
    return min(times)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--peer-python", default=None, help="an interpreter that has torchstain")
    parser.add_argument("--pixels", type=float, default=4.0, help="image size in megapixels")
    options = parser.parse_args()
    side = int((options.pixels * 1e6) ** 0.5)
    mpix = side * side / 1e6

    from napari_batchfx import stain
    from napari_batchfx.stain.kernels import default_workers

    space: dict[str, Callable[..., object]] = {}
    exec(IMAGE, space)
    image = space["make_image"](side)

    peer: dict[str, float] = {}
    python = options.peer_python or (sys.executable if importlib.util.find_spec("torchstain") else None)
    if python is None:
        print("torchstain is not installed here and no --peer-python was given: the comparison is skipped")
    else:
        code = PEER.format(image=IMAGE, side=side)
        answer = subprocess.run([python, "-c", code], capture_output=True, text=True, check=False)
        if answer.returncode:
            print("the peer failed:", answer.stderr.strip().splitlines()[-1])
        else:
            peer = json.loads(answer.stdout.strip().splitlines()[-1])

    for name, kind in (("macenko", stain.MacenkoNormalizer), ("reinhard", stain.ReinhardNormalizer)):
        start = time.perf_counter()
        normalizer = kind()
        transform = normalizer.from_source(stain.estimate(image, name))
        transform.transform(image[:8, :8])
        first = time.perf_counter() - start
        print(f"{name}: {mpix:.1f} megapixels; estimate and first use (compile or load) {first:.2f} s")
        numbers = {
            "one thread": best(lambda t=transform: t.transform(image, workers=1)),
            f"{default_workers()} threads": best(lambda t=transform: t.transform(image)),
        }
        for label, seconds in numbers.items():
            screen = seconds / mpix * 2.0736 * 1e3
            print(f"  ours, {label}: {mpix / seconds:6.1f} MPix/s; 1920 x 1080 in {screen:.0f} ms")
        fastest = min(numbers.values())
        plain = best(lambda t=transform: t.transform_float(image), 1)
        print(f"  plain numpy, same arithmetic: {mpix / plain:6.2f} MPix/s; ratio {plain / fastest:.0f}")
        if name in peer:
            ratio = peer[name] / fastest
            print(f"  torchstain (numpy): {mpix / peer[name]:6.2f} MPix/s; ratio {ratio:.0f} (budget: 20)")
        elif f"{name} error" in peer:
            print(f"  torchstain (numpy): failed: {peer[f'{name} error']}")


if __name__ == "__main__":
    main()
