"""What a tile's value is called."""

from __future__ import annotations

import numpy as np
import pytest

from napari_batchfx.tiles import TileMap


def make(**meaning):
    return TileMap((1, 2), (0.0, 0.0), 10.0, 10.0, np.array([[0.0, np.nan]]), **meaning)


@pytest.mark.parametrize(
    ("meaning", "value", "words"),
    [
        ({"unit": "probability", "chance": 0.25}, 0.91234, "0.912 probability (guessing 0.25)"),
        ({"unit": "sd"}, -1.5, "-1.5 sd"),
        ({}, 3.0, "3"),
        ({"unit": "class", "labels": ("tumour", "gland")}, 1.0, "gland"),
        ({"unit": "class", "labels": ("tumour", "gland")}, 2.0, "2 class"),
        ({"unit": "sd"}, float("nan"), "no value"),
    ],
)
def test_words(meaning, value, words):
    assert make(**meaning).words(value) == words
