"""An order of rows that is random and yet the same whatever order the table is in."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

__all__ = ["row_order"]


def row_order(x: NDArray[np.floating], seed: int) -> NDArray[np.intp]:
    """An order of rows that depends on what they hold and on the seed, not on where they stand.

    The first m rows of it are the same random subset whatever order the table is in.

    Examples
    --------
    >>> x = np.random.default_rng(0).normal(size=(6, 3)).astype("float32")
    >>> turned = x[::-1]
    >>> bool((x[row_order(x, 1)] == turned[row_order(turned, 1)]).all())
    True
    """
    flat = np.ascontiguousarray(x).reshape(len(x), -1)
    words = flat.view(np.uint8).reshape(len(flat), -1) if flat.dtype.itemsize < 4 else flat.view(np.uint32)
    rng = np.random.default_rng(seed)
    odd = rng.integers(0, 2**63, size=words.shape[1], dtype=np.uint64) * np.uint64(2) + np.uint64(1)
    key = np.zeros(len(flat), dtype=np.uint64)
    step = max(1, 2**22 // max(1, words.shape[1]))
    for start in range(0, len(flat), step):
        part = words[start : start + step].astype(np.uint64)
        # multiply, fold, multiply: each word reaches the high bits, where the sum is sorted by
        part = (part * odd) ^ ((part * odd) >> np.uint64(29))
        key[start : start + step] = (part * np.uint64(0x9E3779B97F4A7C15)).sum(axis=1, dtype=np.uint64)
    key ^= key >> np.uint64(32)
    key *= np.uint64(0xD6E8FEB86659FD93)
    return np.asarray(np.argsort(key, kind="stable"), dtype=np.intp)
