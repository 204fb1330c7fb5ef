"""What lies around the view is decoded before it is panned into."""

from __future__ import annotations

import numpy as np
from tests.viewer.conftest import tissue

from napari_batchfx.slides import tile_cache
from napari_batchfx.viewer import seam
from napari_batchfx.viewer.ahead import PIECE, pieces_around
from napari_batchfx.viewer.session import session_for


def test_pieces_lie_in_the_level_and_those_ahead_come_first():
    box, shape = (1000, 1000, 2000, 2200), (2300, 9000)
    pieces = pieces_around(box, shape, (0, 700))
    assert len(pieces) == len(set(pieces))
    for y, x, h, w in pieces:
        assert 0 <= y < y + h <= shape[0]
        assert 0 <= x < x + w <= shape[1]
        assert y % PIECE == x % PIECE == 0
    covered = np.zeros(shape, bool)
    for y, x, h, w in pieces:
        covered[y : y + h, x : x + w] = True
    assert covered[400:2300, 300:2900].all()  # the ring, as far as there is slide
    # Moving right: right of the view comes before left of it.
    right = min(i for i, (_, x, _, _) in enumerate(pieces) if x >= 2200)
    left = min(i for i, (_, x, _, w) in enumerate(pieces) if x + w <= 1000)
    assert right < left
    assert pieces_around((-5000, -5000, -4000, -4000), shape, (0, 0)) == []


def test_panning_finds_the_pixels_decoded(viewer, qtbot, make_slide):
    """After a rest, the next view's tiles come from the cache: reading them decodes nothing."""
    session = session_for(viewer)
    entry = session.add_slide(make_slide("wide.tif", tissue(1024, 4096)))
    slide = session.study.open_slide(entry)
    ahead = session.ahead
    zoom = 1 / 0.5  # one pixel of the slide is one of the canvas
    seam.camera(viewer).zoom = zoom
    seam.camera(viewer).center = (256, 500)
    qtbot.wait(100)
    tile_cache().clear()
    seam.camera(viewer).center = (256, 520)
    width = viewer.canvas.size[1] / zoom
    x = round((520 + width / 2) / 0.5 + 30)  # just right of the canvas

    def is_decoded():
        before = tile_cache().misses
        slide.read(0, 400, x, 100, 100)
        return tile_cache().misses == before

    qtbot.wait(600)
    assert is_decoded()
    ahead.stop()
    tile_cache().clear()
    seam.camera(viewer).center = (256, 1500)
    qtbot.wait(300)
    assert not is_decoded()
    session.close()
