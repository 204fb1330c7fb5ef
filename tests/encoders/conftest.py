"""A small slide with tissue on it, written with the package's own writer."""

import numpy as np
import pytest


@pytest.fixture(scope="session")
def tissue_file(tmp_path_factory):
    from skimage.data import immunohistochemistry

    from napari_batchfx.slides import write_pyramid

    path = tmp_path_factory.mktemp("slide") / "A-1042.tif"
    write_pyramid(path, np.tile(immunohistochemistry(), (1, 2, 1)), mpp=0.5, compression="deflate")
    return path


@pytest.fixture
def grid(tissue_file):
    from napari_batchfx.slides import open_slide
    from napari_batchfx.tiles import TileGrid

    with open_slide(tissue_file) as slide:
        yield TileGrid(slide, size_px=64, mpp=0.5)
