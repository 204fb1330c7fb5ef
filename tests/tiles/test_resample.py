"""The compiled bicubic filter gives the very pixels of Pillow's."""

from __future__ import annotations

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from napari_batchfx.tiles._resample import bicubic


def pillow(region, size, box):
    return np.asarray(Image.fromarray(region).resize((size, size), Image.Resampling.BICUBIC, box=box))


@settings(max_examples=150, deadline=None)
@given(
    st.integers(3, 220), st.integers(3, 220), st.integers(1, 130),
    st.floats(0, 0.45), st.floats(0, 0.45), st.floats(0, 0.45), st.floats(0, 0.45), st.integers(0, 9),
)  # fmt: skip
def test_bit_for_bit(h, w, size, left, top, right, lower, seed):
    region = np.random.default_rng(seed).integers(0, 256, (h, w, 3), dtype=np.uint8)
    if seed % 2:
        # black and white: the filter overshoots and is clipped
        region = np.where(region > 128, np.uint8(255), np.uint8(0))
    box = (left * w, top * h, w - right * w, h - lower * h)
    # across, then down: left to itself, Pillow 13 goes down first in tall regions, older ones never do
    left, top, right, lower = box
    across = Image.fromarray(region).resize((size, h), Image.Resampling.BICUBIC, box=(left, 0, right, h))
    down = across.resize((size, size), Image.Resampling.BICUBIC, box=(0, top, size, lower))
    assert np.array_equal(bicubic(region, size, box), np.asarray(down))


def test_tiles_of_an_encoder():
    rng = np.random.default_rng(0)
    for scale in (0.5, 0.998, 1.0, 1.72, 2.0, 3.9):
        n = int(224 * scale) + 14
        region = rng.integers(0, 256, (n, n + 3, 3), dtype=np.uint8)
        box = (5.25, 6.125, 5.25 + 224 * scale, 6.125 + 224 * scale)
        assert np.array_equal(bicubic(region, 224, box), pillow(region, 224, box))
