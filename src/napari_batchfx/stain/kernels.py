"""Pixel kernels of the stain transforms: fused, compiled on first use, run without the GIL.

numba is imported when a kernel is first needed, and the compiled code is kept on disk (``cache=True``). The
kernels themselves are serial and release the GIL; :func:`apply_rows` spreads rows of pixels over a small
thread pool of our own, because numba's portable threading layer may not be entered from two Python threads
at once, which is what dask and the viewer do.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import lru_cache
from typing import Any

import numpy as np
import numpy.typing as npt

from napari_batchfx.stain.lab import WHITE, White

__all__ = ["apply_rows", "default_workers", "lab_kernel", "od_kernel", "warm_up"]

# Table steps: small enough for a core's first cache, which is what the speed hangs on, and fine enough that
# a table value differs from the exact one by less than 0.06 grey levels (0.2 in the darkest five levels of
# the Lab transform).
OD_STEPS = 2048
OD_OFFSET = 0.07  # pixels brighter than the white point have a negative optical density; -0.065 is full white
OD_TABLE = int(7.3 * OD_STEPS)
F_STEPS = 2048
LIGHT_STEPS = 8192

# No reordering of sums and no assumptions about NaN: only what lets the compiler use fused multiply-add.
FAST = {"contract", "nsz"}

_PIXELS_A_TASK = 65_536
_pool_lock = threading.Lock()
_pool: ThreadPoolExecutor | None = None
_pool_pid = -1


def default_workers() -> int:
    """Threads used for one image: all cores, at most 8 (the work is bound by memory beyond that)."""
    limit = os.environ.get("NUMBA_NUM_THREADS", "")
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else (os.cpu_count() or 1)
    if limit.isdigit() and int(limit) > 0:
        cores = min(cores, int(limit))
    return max(1, min(8, cores))


def _thread_pool() -> ThreadPoolExecutor:
    global _pool, _pool_pid
    with _pool_lock:
        if _pool is None or _pool_pid != os.getpid():  # threads do not survive a fork
            _pool = ThreadPoolExecutor(default_workers(), thread_name_prefix="batchfx-stain")
            _pool_pid = os.getpid()
        return _pool


def apply_rows(
    kernel: Callable[..., None], pixels: npt.NDArray[np.uint8], workers: int | None, *arguments: Any
) -> npt.NDArray[np.uint8]:
    """Run a kernel over pixels (n, 3) in several threads; returns uint8 (n, 3).

    A caller that is itself one of many threads (a dask chunk) passes ``workers=1``.
    """
    out = np.empty_like(pixels)
    n = len(pixels)
    workers = default_workers() if workers is None else max(1, workers)
    if workers == 1 or n <= _PIXELS_A_TASK:
        kernel(pixels, out, *arguments)
        return out
    step = max(_PIXELS_A_TASK, -(-n // (4 * workers)))
    starts = range(0, n, step)
    pool = _thread_pool()
    for future in [pool.submit(kernel, pixels[i : i + step], out[i : i + step], *arguments) for i in starts]:
        future.result()
    return out


@lru_cache(maxsize=64)
def od_tables(
    white: White, offset: float = 1.0, white_out: float = WHITE, offset_out: float = 1.0
) -> tuple[npt.NDArray[np.float32], npt.NDArray[np.float32]]:
    """Optical density of each grey level and channel (256, 3), and grey level of each step of density."""
    density = np.log(np.array(white)) - np.log(np.maximum(np.arange(256) + offset, 1.0))[:, None]
    steps = (np.arange(OD_TABLE) + 0.5) / OD_STEPS - OD_OFFSET
    levels = np.clip(white_out * np.exp(-steps) - offset_out, 0.0, 255.0)
    return density.astype(np.float32), levels.astype(np.float32)


@lru_cache(maxsize=1)
def od_kernel() -> Callable[..., None]:
    """The compiled transform in stain-concentration space (Macenko and every other two-stain method)."""
    from numba import njit

    steps, offset, last = np.float32(OD_STEPS), np.float32(OD_OFFSET * OD_STEPS), np.float32(OD_TABLE - 1)

    @njit(nogil=True, cache=True, error_model="numpy", fastmath=FAST)  # type: ignore[untyped-decorator]
    def transform(
        pixels: Any,
        out: Any,
        density: Any,
        levels: Any,
        source: Any,
        target: Any,
        strength: Any,
        as_published: Any,
        kept: Any,
        base: Any,
    ) -> None:
        zero, half = np.float32(0), np.float32(0.5)
        h0, h1, h2, e0, e1, e2 = (
            source[0, 0], source[0, 1], source[0, 2], source[1, 0], source[1, 1], source[1, 2],
        )  # fmt: skip
        a0, a1, a2 = target[0, 0] * steps, target[0, 1] * steps, target[0, 2] * steps
        b0, b1, b2 = target[1, 0] * steps, target[1, 1] * steps, target[1, 2] * steps
        overlap = h0 * e0 + h1 * e1 + h2 * e2
        scale = np.float32(1) / (np.float32(1) - overlap * overlap)
        lowest = np.float32(-1e9) if as_published else zero
        # With kept = 1 `target` is the change of each stain's vector, added to the density as it is.
        whole = kept * steps
        least = lowest * steps
        for k in range(pixels.shape[0]):
            r, g, b = pixels[k, 0], pixels[k, 1], pixels[k, 2]
            # Light beyond the white point (wx < 0) is no negative stain: it is put back at the end.
            wx, wy, wz = density[r, 0], density[g, 1], density[b, 2]
            x, y, z = max(wx, lowest), max(wy, lowest), max(wz, lowest)
            wx, wy, wz = wx - x + base[0], wy - y + base[1], wz - z + base[2]
            h_alone = h0 * x + h1 * y + h2 * z
            e_alone = e0 * x + e1 * y + e2 * z
            h_free = (h_alone - overlap * e_alone) * scale
            e_free = (e_alone - overlap * h_alone) * scale
            # Non-negative least squares of two unit vectors without a branch: each stain is what is left of
            # its projection when the other, if there is any, has been taken out.
            h = max(h_alone - overlap * max(e_free, lowest), lowest)
            e = max(e_alone - overlap * max(h_free, lowest), lowest)
            i = min(max(max(a0 * h + b0 * e + whole * x, least) + wx * steps + offset, zero), last)
            j = min(max(max(a1 * h + b1 * e + whole * y, least) + wy * steps + offset, zero), last)
            m = min(max(max(a2 * h + b2 * e + whole * z, least) + wz * steps + offset, zero), last)
            fr, fg, fb = np.float32(r), np.float32(g), np.float32(b)
            # Both are within 0..255, so their blend is.
            out[k, 0] = np.uint8(fr + strength * (levels[np.int32(i)] - fr) + half)
            out[k, 1] = np.uint8(fg + strength * (levels[np.int32(j)] - fg) + half)
            out[k, 2] = np.uint8(fb + strength * (levels[np.int32(m)] - fb) + half)

    return transform  # type: ignore[no-any-return]


@lru_cache(maxsize=1)
def lab_tables() -> tuple[npt.NDArray[np.float32], npt.NDArray[np.float32], npt.NDArray[np.float32]]:
    """Linear light of each grey level (256,); CIELAB's f over [0, 1.25]; grey level of light over [0, 1]."""
    from napari_batchfx.stain.lab import encode_srgb, f_lab, linear_srgb

    linear = linear_srgb(np.arange(256) / 255.0)
    light = np.arange(F_STEPS * 5 // 4 + 2) / F_STEPS
    encoded = 255.0 * encode_srgb(np.arange(LIGHT_STEPS + 1) / LIGHT_STEPS)
    return linear.astype(np.float32), f_lab(light).astype(np.float32), encoded.astype(np.float32)


@lru_cache(maxsize=1)
def lab_kernel() -> Callable[..., None]:
    """The compiled per-channel scaling in CIELAB (Reinhard), optionally sparing the glass."""
    from numba import njit

    from napari_batchfx.stain.lab import FROM_XYZ, GLASS, TO_XYZ

    steps, last = np.float32(F_STEPS), np.float32(LIGHT_STEPS)
    knee, slope, foot = np.float32(6.0 / 29.0), np.float32(108.0 / 841.0), np.float32(4.0 / 29.0)
    to, back = TO_XYZ.astype(np.float32), FROM_XYZ.astype(np.float32)
    t00, t01, t02, t10, t11, t12, t20, t21, t22 = (np.float32(v) for v in to.ravel())
    s00, s01, s02, s10, s11, s12, s20, s21, s22 = (np.float32(v) for v in back.ravel())
    clear, ramp = np.float32(GLASS[0]), np.float32(1.0 / (GLASS[0] - GLASS[1]))

    @njit(nogil=True, error_model="numpy", fastmath=FAST, inline="always")  # type: ignore[untyped-decorator]
    def f_of(table: Any, ratio: Any) -> Any:
        place = ratio * steps
        i = np.int32(place)
        return table[i] + (place - np.float32(i)) * (table[i + 1] - table[i])

    @njit(nogil=True, error_model="numpy", fastmath=FAST, inline="always")  # type: ignore[untyped-decorator]
    def unf(v: Any) -> Any:
        return v * v * v if v > knee else slope * (v - foot)

    @njit(nogil=True, cache=True, error_model="numpy", fastmath=FAST)  # type: ignore[untyped-decorator]
    def transform(
        pixels: Any,
        out: Any,
        linear: Any,
        f_table: Any,
        encoded: Any,
        gain: Any,
        shift: Any,
        strength: Any,
        spare_glass: Any,
        lift: Any,
    ) -> None:
        zero, half, one = np.float32(0), np.float32(0.5), np.float32(1)
        gl, ga, gb = gain[0], gain[1], gain[2]
        # The affine map of L, a, b written as one of fx, fy, fz.
        sl = (shift[0] - np.float32(16) * gl + np.float32(16)) / np.float32(116)
        sa, sb = shift[1] / np.float32(500), shift[2] / np.float32(200)
        for k in range(pixels.shape[0]):
            p0, p1, p2 = pixels[k, 0], pixels[k, 1], pixels[k, 2]
            lr, lg, lb = linear[p0], linear[p1], linear[p2]
            fx = f_of(f_table, t00 * lr + t01 * lg + t02 * lb)
            fy = f_of(f_table, t10 * lr + t11 * lg + t12 * lb)
            fz = f_of(f_table, t20 * lr + t21 * lg + t22 * lb)
            ny = gl * fy + sl
            x = unf(ny + ga * (fx - fy) + sa)
            z = unf(ny - gb * (fy - fz) - sb)
            y = unf(ny)
            r = min(max(s00 * x + s01 * y + s02 * z, zero), one) * last + half
            g = min(max(s10 * x + s11 * y + s12 * z, zero), one) * last + half
            b = min(max(s20 * x + s21 * y + s22 * z, zero), one) * last + half
            v0, v1, v2 = np.float32(p0), np.float32(p1), np.float32(p2)
            weight = strength
            if spare_glass:
                weight = strength * min(
                    max((clear - min(v0 * lift[0], min(v1 * lift[1], v2 * lift[2]))) * ramp, zero), one
                )
            out[k, 0] = np.uint8(v0 + weight * (encoded[np.int32(r)] - v0) + half)
            out[k, 1] = np.uint8(v1 + weight * (encoded[np.int32(g)] - v1) + half)
            out[k, 2] = np.uint8(v2 + weight * (encoded[np.int32(b)] - v2) + half)

    return transform  # type: ignore[no-any-return]


def warm_up() -> None:
    """Compile (or load) both kernels now, so that the first preview does not wait for it."""
    from napari_batchfx.stain.macenko import MacenkoNormalizer
    from napari_batchfx.stain.reference import REFERENCE, REFERENCE_LAB
    from napari_batchfx.stain.reinhard import ReinhardNormalizer

    pixel = np.full((1, 1, 3), 128, np.uint8)
    MacenkoNormalizer().from_source(REFERENCE).transform(pixel)
    ReinhardNormalizer().from_source(REFERENCE_LAB).transform(pixel)
