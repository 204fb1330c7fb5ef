"""Writing pyramids from streams, with bounded memory."""

from __future__ import annotations

import tracemalloc

import numpy as np
import pytest
import tifffile

from napari_batchfx.errors import SlideError
from napari_batchfx.slides import open_slide, write_pyramid


def _tiles(image, tile):
    for y in range(0, image.shape[0], tile):
        for x in range(0, image.shape[1], tile):
            yield image[y : y + tile, x : x + tile]


def test_a_stream_gives_the_same_file_as_the_array(tmp_path):
    image = np.random.default_rng(0).integers(0, 255, (333, 445, 3), dtype=np.uint8)
    for k, source in enumerate((image, _tiles(image, 64))):
        write_pyramid(
            tmp_path / f"{k}.tif", source, 0.5, shape=(333, 445), tile=64, levels=4, compression="deflate"
        )
    assert (tmp_path / "0.tif").read_bytes() == (tmp_path / "1.tif").read_bytes()


def test_memory_is_bounded(tmp_path):
    """A slide of 75 MB of pixels as a stream: far less is held at once."""
    tile = np.full((256, 256, 3), 230, np.uint8)
    tracemalloc.start()
    write_pyramid(tmp_path / "a.tif", (tile for _ in range(20 * 20)), 0.5, shape=(5120, 5120), tile=256)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 40e6
    with open_slide(tmp_path / "a.tif") as slide:
        assert [lv.shape[0] for lv in slide.levels] == [5120, 2560, 1280, 640]
        assert all(lv.stored for lv in slide.levels)
        assert (slide.read(3, 0, 0, 640, 640) == 230).all()


def test_too_few_tiles_leave_no_file(tmp_path):
    tile = np.zeros((64, 64, 3), np.uint8)
    with pytest.raises(SlideError, match="don't fill"):
        write_pyramid(tmp_path / "a.tif", (tile for _ in range(3)), 0.5, shape=(128, 128), tile=64)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    "change",
    [{"tile": 100}, {"flavour": "dicom"}, {"compression": "zip"}, {"levels": (1, 3)}, {"levels": (2, 4)}],
)
def test_bad_arguments(tmp_path, change):
    with pytest.raises(SlideError, match=r"a\.tif"):
        write_pyramid(tmp_path / "a.tif", np.zeros((64, 64, 3), np.uint8), 0.5, **change)


@pytest.mark.parametrize("array", [np.zeros((64, 64), np.uint8), np.zeros((64, 64, 3), np.uint16)])
def test_bad_arrays(tmp_path, array):
    with pytest.raises(SlideError, match="uint8"):
        write_pyramid(tmp_path / "a.tif", array, 0.5)
    with pytest.raises(SlideError, match="shape="):
        write_pyramid(tmp_path / "a.tif", iter([array]), 0.5)


def test_ome_is_read_by_tifffile_as_a_pyramid(tmp_path):
    image = np.random.default_rng(0).integers(0, 255, (300, 300, 3), dtype=np.uint8)
    path = write_pyramid(
        tmp_path / "a.ome.tif", image, 0.5, tile=64, levels=3, compression="none", flavour="ome"
    )
    with tifffile.TiffFile(path) as tif:
        assert tif.is_ome
        assert len(tif.pages) == 1
        assert len(tif.pages[0].pages) == 2
    assert np.array_equal(tifffile.imread(path), image)
