"""Which precision a model runs in: half where that is quick and changes nothing that matters, else full."""

from __future__ import annotations

import json
import os
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

__all__ = ["LEAST_COSINE", "PrecisionCheck", "candidates", "check_precision", "tissue_like"]

#: Least cosine between the vectors of one tile in reduced and in full precision.
LEAST_COSINE = 0.999
#: A CPU must be so much quicker in bf16 before a result is rounded for it.
LEAST_GAIN = 1.3
SHORT_SECONDS = 3.0

Tiles = npt.NDArray[np.uint8]
Run = Callable[[Tiles, str], npt.NDArray[np.float32]]


@dataclass(frozen=True)
class PrecisionCheck:
    """How close a reduced precision came to fp32.

    Parameters
    ----------
    tried : str
        "fp16" or "bf16".
    chosen : str
        What the encoder runs in.
    worst, median : float
        Cosine between the vectors of one tile in the two precisions: the least and the median of ``n`` tiles.
    n : int
        Tiles, made to look like stained tissue, glass and their border.
    gain : float or None
        Speed in reduced over speed in full precision, where it counted (on a CPU).
    note : str
        One sentence for the user where full precision was kept although it is slower; else empty.
    """

    tried: str
    chosen: str
    worst: float
    median: float
    n: int
    gain: float | None = None
    note: str = ""

    @property
    def is_close(self) -> bool:
        """Whether no vector changed noticeably."""
        return self.worst > LEAST_COSINE

    def info(self) -> dict[str, Any]:
        """Plain values, for the provenance of a table."""
        return asdict(self)


def candidates(device: str, *, is_large: bool) -> tuple[str, ...]:
    """Reduced precisions that a device runs fast, the finer one first.

    On a CPU bf16 is fast with AMX or AVX-512 BF16, and only large models gain enough to be rounded for it.
    """
    import torch

    kind = device.split(":")[0]
    if kind == "cuda":
        major = torch.cuda.get_device_capability(device)[0]
        return ("fp16", "bf16") if major >= 8 else ("fp16",) if major >= 7 else ()
    if kind == "mps":
        return ("fp16",)
    return ("bf16",) if is_large and _has_fast_bf16() else ()


def _has_fast_bf16() -> bool:
    """Whether this CPU multiplies bf16 matrices in hardware."""
    import torch

    for name in ("_is_amx_tile_supported", "_is_avx512_bf16_supported"):
        ask = getattr(torch.cpu, name, None)
        if ask is not None and ask():
            return True
    return False


def tissue_like(n: int, size: int, seed: int = 0) -> Tiles:
    """Tiles that look like stained tissue: nuclei on eosin of changing density, folds of light, some glass.

    Parameters
    ----------
    n : int
        Tiles.
    size : int
        Edge in pixels.
    seed : int
        Another seed, other tiles.

    Returns
    -------
    uint8 array (n, size, size, 3)

    Examples
    --------
    >>> tiles = tissue_like(3, 32)
    >>> tiles.shape, bool((tiles[0] != tiles[1]).any())
    ((3, 32, 32, 3), True)
    """
    from scipy.ndimage import gaussian_filter

    rng = np.random.default_rng(seed)
    # optical densities of haematoxylin and eosin: Ruifrok & Johnston 2001
    stains = np.array([[0.65, 0.70, 0.29], [0.07, 0.99, 0.11]])
    out = np.empty((n, size, size, 3), np.uint8)
    scale = size / 224
    for i in range(n):

        def field(sigma: float) -> npt.NDArray[np.float64]:
            noise = gaussian_filter(rng.standard_normal((size, size)), sigma, mode="wrap")
            scaled: npt.NDArray[np.float64] = noise / max(float(noise.std()), 1e-9)
            return scaled

        density = rng.uniform(-0.5, 1.5)
        nuclei = np.clip(field(3.5 * scale) - density, 0, 1.5) * rng.uniform(0.4, 1.2)
        matrix = np.clip(0.35 + 0.15 * field(6 * scale) + 0.12 * field(1.2 * scale), 0, None)
        tissue = 1 / (1 + np.exp(-4 * (field(40 * scale) + rng.uniform(-0.5, 2.5))))
        amounts = np.stack([nuclei + 0.1, matrix * rng.uniform(0.6, 1.6)], axis=-1) * tissue[..., None]
        light = np.array([243.0, 241.0, 244.0]) * np.exp(-amounts @ stains * rng.uniform(0.8, 1.2))
        out[i] = np.clip(light + rng.normal(0, 2, light.shape), 0, 255).round()
    return out


def check_precision(
    run: Run, n: int, size: int, name: str, identity: str, device: str, tries: tuple[str, ...]
) -> PrecisionCheck:
    """Compare reduced precisions with fp32, or remember that it was done.

    Parameters
    ----------
    run : callable
        (tiles, precision) -> vectors, of the model that is asked about.
    n, size : int
        Tiles to compare, and their edge in pixels.
    name, identity : str
        For people; and what the result is remembered under: weights and how the vector is put together.
    device : str
        Where it runs; on a CPU the speed counts, too.
    tries : tuple of str
        What to try, from :func:`candidates`; the first that is good is taken.

    Returns
    -------
    PrecisionCheck
        Of the one chosen, or of the last one tried where none was good.
    """
    key = f"{identity} on {_machine(device)}"
    known = _remembered().get(key)
    if known is not None and known.tried in tries:
        return known
    tiles = tissue_like(n, size)
    found = _compare(run, tiles, name, device, tries)
    _remember(key, found)
    return found


def _compare(run: Run, tiles: Tiles, name: str, device: str, tries: tuple[str, ...]) -> PrecisionCheck:
    run(tiles[:1], "fp32")  # the first tile also pays for buffers
    exact, slow = _timed(run, tiles, "fp32")
    found: PrecisionCheck | None = None
    for tried in tries:
        try:
            run(tiles[:1], tried)
            rounded, quick = _timed(run, tiles, tried)
        except RuntimeError:  # some layers know no reduced precision on some devices
            rounded, quick = np.zeros_like(exact), slow
        cosine = _cosine(exact, rounded)
        worst, median = float(cosine.min()), float(np.median(cosine))
        gain = None
        if device == "cpu" and worst > LEAST_COSINE:
            if slow < SHORT_SECONDS:
                # so short that a neighbour on the same cores could decide it: once more each, in turn
                slow = min(slow, _timed(run, tiles, "fp32")[1])
                quick = min(quick, _timed(run, tiles, tried)[1])
            gain = slow / quick
        is_good = worst > LEAST_COSINE and (gain is None or gain >= LEAST_GAIN)
        note = (
            ""
            if worst > LEAST_COSINE
            else f"{name}: runs in full precision: in {tried} its vectors change (cosine {worst:.4f} on the "
            f"worst of {len(tiles)} test tiles, {LEAST_COSINE} is asked for)."
        )
        found = PrecisionCheck(tried, tried if is_good else "fp32", worst, median, len(tiles), gain, note)
        if is_good:
            break
    assert found is not None
    return found


def _timed(run: Run, tiles: Tiles, precision: str) -> tuple[npt.NDArray[np.float64], float]:
    began = time.perf_counter()
    vectors = run(tiles, precision).astype(np.float64)
    return vectors, time.perf_counter() - began


def _cosine(exact: npt.NDArray[np.float64], rounded: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    """Cosine of each pair of rows; 0 where one of them isn't finite or has no length."""
    with np.errstate(all="ignore"):
        norms = np.linalg.norm(exact, axis=1) * np.linalg.norm(rounded, axis=1)
        result: npt.NDArray[np.float64] = np.nan_to_num(
            (exact * rounded).sum(axis=1) / norms, nan=0.0, posinf=0.0, neginf=0.0
        )
    return result


def _machine(device: str) -> str:
    """What a result holds for: the processor or graphics card, and the version of torch."""
    import torch

    if device.startswith("cuda"):
        model = torch.cuda.get_device_name(device)
    elif device == "cpu":
        model = f"cpu {getattr(torch.backends.cpu, 'get_cpu_capability', lambda: '')()}".strip()
    else:
        model = device
    return f"{model}, torch {torch.__version__}"


def _file() -> Path:
    if given := os.environ.get("BATCHFX_CACHE"):
        return Path(given) / "precision.json"
    import platformdirs

    return Path(platformdirs.user_cache_dir("napari-batchfx", appauthor=False)) / "precision.json"


def _remembered() -> dict[str, PrecisionCheck]:
    try:
        rows = json.loads(_file().read_text(encoding="utf-8"))
        return {key: PrecisionCheck(**row) for key, row in rows.items()}
    except (OSError, ValueError, TypeError, AttributeError):
        return {}  # nothing there, or not ours: the check is done again


def _remember(key: str, found: PrecisionCheck) -> None:
    path = _file()
    rows = {k: check.info() for k, check in _remembered().items()} | {key: found.info()}
    part = path.with_name(f"{path.name}.{os.getpid()}")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        part.write_text(json.dumps(rows, indent=1), encoding="utf-8")
        part.replace(path)
    except OSError:
        # a cache that can't be written costs a check a load, no more
        with suppress(OSError):
            part.unlink()
