"""A real napari window with the workbench, and slides made on the spot."""

from __future__ import annotations

import gc
import importlib
from types import SimpleNamespace

import numpy as np
import pytest

from napari_batchfx.slides import tile_cache, write_pyramid


@pytest.fixture
def wait(qtbot):
    """``wait(condition)``: run the event loop until it holds."""

    def until(condition, seconds=60):
        qtbot.waitUntil(lambda: bool(condition()), timeout=int(seconds * 1000))

    return until


@pytest.fixture(scope="session", autouse=True)
def _little_to_collect():
    """napari collects garbage for each layer and window that goes: not through all that was imported before the first."""
    for name in (
        "napari._qt.qt_main_window",
        "napari_batchfx.viewer.workbench",
        "sklearn.linear_model",
        "torch",
    ):
        importlib.import_module(name)
    gc.collect()
    gc.freeze()
    # For drivers on Windows, which free textures late (napari 0.9): a tenth of the time of these tests. Each viewer
    # that goes is still followed by a collection of its own, in make_napari_viewer.
    canvas = importlib.import_module("napari._vispy.canvas")
    collects = getattr(canvas, "gc", None)
    if collects is not None:
        canvas.gc = SimpleNamespace(collect=lambda *_: 0)
    yield
    if collects is not None:
        canvas.gc = collects
    gc.unfreeze()


@pytest.fixture(autouse=True)
def _empty_cache():
    """No decoded tile of an earlier test."""
    tile_cache().clear()


@pytest.fixture
def viewer(make_napari_viewer, qtbot):
    """A real viewer, shown, that asks nothing when it closes."""
    viewer = make_napari_viewer(show=True)
    viewer.window.resize(1300, 850)
    qtbot.wait(50)
    return viewer


@pytest.fixture
def bench(viewer, qtbot):
    """The workbench, docked; every job is stopped before the window goes."""
    from napari_batchfx.viewer.workbench import Workbench

    bench = Workbench(viewer)
    viewer.window.add_dock_widget(bench, name="Batchfx workbench", area="right")
    qtbot.wait(20)
    yield bench
    bench.docks["slides"].session.close()


def tissue(height, width, seed=0, tint=(0, 0, 0)):
    """Something like stained tissue: purple blobs on pink, white around; uint8 (height, width, 3)."""
    rng = np.random.default_rng(seed)
    from scipy import ndimage

    blobs = ndimage.gaussian_filter(rng.standard_normal((height, width)), 3)
    blobs = (blobs - blobs.min()) / np.ptp(blobs)
    eosin, nuclei = np.array([222, 150, 190.0]), np.array([92, 60, 140.0])
    image = eosin + (nuclei - eosin) * (blobs[..., None] > 0.6)
    image += rng.normal(0, 4, image.shape) + np.asarray(tint)
    return np.clip(image, 0, 255).astype(np.uint8)


@pytest.fixture
def make_slide(tmp_path):
    """``make_slide(name, image, mpp=0.5, **metadata)``: a pyramidal TIFF on disk, lossless."""

    def make(name, image, mpp=0.5, **options):
        path = tmp_path / name
        write_pyramid(path, image, (mpp, mpp), tile=128, compression="deflate", **options)
        return path

    return make
