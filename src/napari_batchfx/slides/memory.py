"""Memory that was freed and that the C library still holds."""

from __future__ import annotations

import ctypes
import functools
import sys
from collections.abc import Callable

__all__ = ["give_back_memory"]


def give_back_memory() -> None:
    """Have freed memory returned to the system, where the C library keeps it for later.

    glibc does: an encoder's buffers, freed in several threads, leave some hundred megabytes of free pages in
    its arenas. Nothing is done with another C library and on other systems. It takes some milliseconds and
    the pages have to be asked for again when they are needed, so it belongs to the end of work.

    Examples
    --------
    >>> give_back_memory()
    """
    trim = _malloc_trim()
    if trim is not None:
        trim(0)


@functools.cache
def _malloc_trim() -> Callable[[int], int] | None:
    if not sys.platform.startswith("linux"):
        return None
    try:
        trim: Callable[[int], int] = ctypes.CDLL(None).malloc_trim
    except (OSError, AttributeError):
        # another C library (musl) gives memory back by itself
        return None
    return trim
