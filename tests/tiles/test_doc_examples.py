"""The examples in the docstrings of slides and tiles run."""

from __future__ import annotations

import doctest
import importlib

import pytest

MODULES = [
    "slides.cache",
    "slides.open",
    "slides.slide",
    "slides.write",
    "tiles.grid",
    "tiles.artefacts",
    "tiles.overview",
    "tiles.tilemap",
    "tiles.tissue",
]


@pytest.mark.parametrize("name", MODULES)
def test_examples(name, monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)  # the examples write small slides
    module = importlib.import_module(f"napari_batchfx.{name}")
    found = doctest.testmod(module)
    assert found.attempted > 0
    assert found.failed == 0
