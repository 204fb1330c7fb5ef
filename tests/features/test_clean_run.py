"""Two encoders, two slides, a cancel, a kill and a resume: the same content, bit for bit, as one clean run."""

import os
import signal
import subprocess
import sys

import numpy as np
import pytest

from napari_batchfx.encoders import load
from napari_batchfx.errors import Cancelled
from napari_batchfx.features import FeatureStore, embed, embed_job
from napari_batchfx.jobs import run
from napari_batchfx.slides import open_slide, write_pyramid
from napari_batchfx.tiles import TileGrid

#: Name and tile size.
ENCODERS = (("colour-statistics", 64), ("test_vit?pretrained=false", 80))

CHILD = """
import sys
from napari_batchfx.encoders import load
from napari_batchfx.features import FeatureStore, embed_job
from napari_batchfx.slides import open_slide
from napari_batchfx.tiles import TileGrid
from tests.features.test_clean_run import ENCODERS, cells_of
store = FeatureStore(sys.argv[1])
name, size = ENCODERS[1]
with open_slide(sys.argv[2]) as slide:
    grid = TileGrid(slide, size, 0.5)
    for step in embed_job(grid, load(name), cells=cells_of(grid)[::-1], store=store, batch_size=2):
        if step.partial is not None:
            print(step.done, flush=True)
"""


def cells_of(grid):
    return grid.all_cells()


def content(folder):
    """Every entry's cells and the bytes of their vectors."""
    store = FeatureStore(folder)
    result = {}
    for row in store.keys():  # noqa: SIM118 - no dict
        array = store.array(*(row[key] for key in ("fingerprint", "encoder", "grid", "stain")))
        cells = array.done_cells()
        vectors = array.read(cells)
        result[row["fingerprint"], row["encoder"], row["grid"], row["stain"]] = {
            tuple(cell): vector.tobytes() for cell, vector in zip(cells.tolist(), vectors, strict=True)
        }
    return result


@pytest.mark.skipif(not hasattr(signal, "SIGKILL"), reason="no SIGKILL on this system")
def test_as_one_clean_run(tmp_path, tissue_file, request):
    from skimage.data import immunohistochemistry

    other = write_pyramid(tmp_path / "B.tif", immunohistochemistry()[::-1], 0.5, compression="deflate")
    slides = (tissue_file, other)
    clean, rough = tmp_path / "clean.zarr", tmp_path / "rough.zarr"
    models = {name: load(name) for name, _ in ENCODERS}
    for path in slides:
        for name, size in ENCODERS:
            with open_slide(path) as slide:
                grid = TileGrid(slide, size, 0.5)
                embed(grid, models[name], cells=cells_of(grid), store=FeatureStore(clean))
    # cancelled
    steps = []
    with open_slide(slides[0]) as slide:
        grid = TileGrid(slide, 64, 0.5)
        job = embed_job(
            grid, models["colour-statistics"], cells=cells_of(grid), store=FeatureStore(rough), batch_size=3
        )
        with pytest.raises(Cancelled):
            run(job, steps.append, lambda: len(steps) > 6)
    # killed, with the other encoder and from the other end
    child = subprocess.Popen(
        [sys.executable, "-c", CHILD, str(rough), str(slides[1])],
        stdout=subprocess.PIPE,
        text=True,
        cwd=request.config.rootpath,
    )
    for _ in range(3):
        assert child.stdout.readline()
    os.kill(child.pid, signal.SIGKILL)
    child.wait()
    child.stdout.close()
    partly = content(rough)
    assert len(partly) == 2
    assert all(0 < len(cells) < len(content(clean)[key]) for key, cells in partly.items())
    # resumed, in another order and in other batches
    rng = np.random.default_rng(0)
    for path in slides[::-1]:
        for name, size in ENCODERS[::-1]:
            with open_slide(path) as slide:
                grid = TileGrid(slide, size, 0.5)
                cells = rng.permutation(cells_of(grid))
                embed(grid, models[name], cells=cells, store=FeatureStore(rough), batch_size=5)
    assert content(rough) == content(clean)
    assert len(content(clean)) == 4
    # the files' content, too: where a vector lies says only which tile it is of
    files = {p.relative_to(clean): p.read_bytes() for p in clean.glob("*/*/**/*") if p.is_file()}
    assert files == {p.relative_to(rough): p.read_bytes() for p in rough.glob("*/*/**/*") if p.is_file()}
