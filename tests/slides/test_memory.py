"""Freed memory goes back to the system."""

import platform
import sys

import numpy as np
import psutil
import pytest

from napari_batchfx.slides import give_back_memory

BLOCK = 64 * 1024  # so small that glibc takes it from a heap, whose pages it keeps


@pytest.mark.skipif(
    not sys.platform.startswith("linux") or platform.libc_ver()[0] != "glibc",
    reason="other C libraries give memory back by themselves",
)
def test_freed_memory_goes_back():
    process = psutil.Process()
    blocks = [np.ones(BLOCK, np.uint8) for _ in range(3000)]
    pins = blocks[::50]  # the heap can't shrink from its end
    del blocks
    before = process.memory_info().rss
    give_back_memory()
    assert before - process.memory_info().rss > 0.8 * 3000 * BLOCK
    assert all(pin.all() for pin in pins)
