"""Layers that come leave the selection alone; layers that go do so together."""

import gc

import numpy as np
from napari.layers import Image
from tests.viewer.conftest import tissue

from napari_batchfx.viewer.layers import tag

KINDS = ("encoded", "probe", "changed")


def full_collections(action):
    """How often all garbage of the process is collected meanwhile."""
    seen = []

    def note(phase, info):
        if phase == "stop" and info["generation"] == 2:
            seen.append(info)

    gc.disable()
    gc.callbacks.append(note)
    try:
        action()
    finally:
        gc.callbacks.remove(note)
        gc.enable()
    return len(seen)


def test_overlays_come_without_taking_the_selection_and_go_together(bench, viewer, make_slide, monkeypatch):
    monkeypatch.setattr("napari._vispy.canvas.gc", gc)  # as in napari: other tests skip it (conftest)
    session = bench.docks["slides"].session
    entry = session.add_slide(make_slide("a.tif", tissue(300, 300)))
    slide = session.layer(entry, "slide")
    assert viewer.layers.selection.active is slide
    changes = []
    viewer.layers.selection.events.active.connect(changes.append)
    for kind in KINDS:
        session.add_layer(entry, kind, Image(np.zeros((4, 4)), name=kind))
    assert changes == []
    assert set(viewer.layers.selection) == {slide}
    assert {tag(layer)["kind"] for layer in viewer.layers} == {"slide", *KINDS}

    assert full_collections(lambda: session.drop_all(*KINDS)) == 1  # napari: one for each layer
    assert list(viewer.layers) == [slide]
    assert viewer.layers.selection.active is slide
    assert not any(session.is_dismissed(entry, kind) for kind in KINDS)
    assert full_collections(lambda: session.drop_all(*KINDS)) == 0
