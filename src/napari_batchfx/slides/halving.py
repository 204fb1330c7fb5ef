"""Halve an image by 2x2 box means: how every level that a file doesn't store is made."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from functools import lru_cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

__all__ = ["box_half", "compile_halving"]

Rgb = NDArray[np.uint8]
# numba takes half a second to come: a first look at a slide does without, whoever halves much gets it.
NUMPY_CALLS = 48
_calls = itertools.count()


def box_half(region: Rgb) -> Rgb:
    """Halve an image by 2x2 box means, rounded half to even; odd sizes repeat their last row or column.

    Examples
    --------
    >>> box_half(np.array([[0, 2], [4, 6]], np.uint8)[..., None].repeat(3, 2))[0, 0].tolist()
    [3, 3, 3]
    """
    if _kernel.cache_info().currsize or next(_calls) >= NUMPY_CALLS:
        out = np.empty(((region.shape[0] + 1) // 2, (region.shape[1] + 1) // 2, 3), np.uint8)
        _kernel()(np.ascontiguousarray(region), out)
        return out
    return _with_numpy(region)


def compile_halving() -> None:
    """Compile (or load) the fast way now; some ten times faster, equal bit by bit."""
    _kernel()


def _with_numpy(region: Rgb) -> Rgb:
    pad = (region.shape[0] % 2, region.shape[1] % 2)
    if any(pad):
        region = np.pad(region, ((0, pad[0]), (0, pad[1]), (0, 0)), mode="edge")
    rows = region[0::2].astype(np.uint16)
    rows += region[1::2]
    total = rows[:, 0::2]
    total = total + rows[:, 1::2]
    # half to even: rounding halves up would brighten every further level by an eighth of a grey level
    total += 1 + (total >> 2 & 1)
    total >>= 2
    return total.astype(np.uint8)


@lru_cache(maxsize=1)
def _kernel() -> Callable[..., None]:
    from numba import njit, types

    pixels = types.Array(types.uint8, 3, "C", readonly=True)

    @njit([types.void(pixels, types.uint8[:, :, ::1])], nogil=True, cache=True)  # type: ignore[untyped-decorator]
    def halve(region: Any, out: Any) -> None:
        one, two = np.uint32(1), np.uint32(2)
        pairs = region.shape[1] // 2
        for i in range(out.shape[0]):
            upper = region[2 * i]
            lower = region[min(2 * i + 1, region.shape[0] - 1)]
            for j in range(pairs):
                for c in range(3):
                    left = np.uint32(upper[2 * j, c]) + np.uint32(lower[2 * j, c])
                    total = left + np.uint32(upper[2 * j + 1, c]) + np.uint32(lower[2 * j + 1, c])
                    out[i, j, c] = np.uint8((total + one + ((total >> two) & one)) >> two)
            if pairs < out.shape[1]:
                for c in range(3):
                    total = (np.uint32(upper[2 * pairs, c]) + np.uint32(lower[2 * pairs, c])) * two
                    out[i, pairs, c] = np.uint8((total + one + ((total >> two) & one)) >> two)

    return halve  # type: ignore[no-any-return]
