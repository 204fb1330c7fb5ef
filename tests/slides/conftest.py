"""Shared by the tests of slides: the zoo, written when a file of it is first asked for."""

from __future__ import annotations

import pytest
from tests.slides.slide_zoo import ZOO


@pytest.fixture(scope="session")
def written(tmp_path_factory):
    """A function that gives a :class:`ZooSlide` by its name in ``ZOO``; each is written once, in its own folder."""
    found = {}

    def write(name):
        if name not in found:
            found[name] = ZOO[name](tmp_path_factory.mktemp("zoo"))
        return found[name]

    return write
