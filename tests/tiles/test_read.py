"""Tiles are exact in physical size and place: one black tile, straight ramps, real pixels."""

from __future__ import annotations

import threading

import numpy as np
import pytest

from napari_batchfx.errors import SlideError, TileError
from napari_batchfx.slides import open_slide, write_pyramid
from napari_batchfx.tiles import TileGrid, TileMap, iter_tiles, read_tiles


def black_tile_slide(path, shape, slide_mpp, bounds_um, levels=(1,)):
    """A white slide with one black rectangle (micrometres); edge pixels are grey by the share that is covered."""
    cover = []
    for n, m, (low, high) in zip(
        shape, slide_mpp, ((bounds_um[0], bounds_um[2]), (bounds_um[1], bounds_um[3])), strict=True
    ):
        edges = np.arange(n + 1) * m
        cover.append((np.minimum(edges[1:], high) - np.maximum(edges[:-1], low)).clip(0) / m)
    gray = np.rint(255 * (1 - np.outer(*cover))).astype(np.uint8)
    image = np.repeat(gray[..., None], 3, axis=2)
    return open_slide(
        write_pyramid(path, image, slide_mpp, tile=128, levels=levels, compression="deflate", flavour="ome")
    )


@pytest.mark.parametrize(
    ("shape", "slide_mpp", "size_px", "mpp", "stride", "levels"),
    [
        ((1000, 1200), (0.5, 0.5), 64, 0.5, None, (1,)),
        ((1000, 1200), (0.25, 0.25), 64, 0.5, None, (1, 2, 4)),
        ((1001, 1203), (0.25, 0.25), 64, 0.5, None, (1, 4)),
        ((1003, 1205), (0.2271, 0.2271), 60, 0.5, None, (1, 2)),
        ((1501, 1403), (0.346, 0.25), 48, 0.5, None, (1,)),
        ((1501, 1403), (0.3461, 0.2271), 33, 1.1, 20, (1, 2)),
        ((700, 600), (0.5, 0.5), 96, 0.25, None, (1,)),
        ((2100, 2300), (0.11, 0.13), 40, 1.0, 40, (1, 2, 4)),
    ],
)
def test_one_black_tile_lies_exactly_over_its_cell(tmp_path, shape, slide_mpp, size_px, mpp, stride, levels):
    step = (stride or size_px) * mpp
    cell = (2, 3)
    bounds = (cell[0] * step, cell[1] * step, cell[0] * step + size_px * mpp, cell[1] * step + size_px * mpp)
    with black_tile_slide(tmp_path / "a.ome.tif", shape, slide_mpp, bounds, levels) as slide:
        grid = TileGrid(slide, size_px, mpp, stride)
        tiles = read_tiles(grid, grid.all_cells()).astype(float)[..., 0]
    values = tiles.mean(axis=(1, 2)).reshape(grid.shape)
    tile = tiles[cell[0] * grid.shape[1] + cell[1]]
    # black inside but for the antialiased rim, and the rim is the same on opposite sides: half a pixel of shift
    # would make one side grey (128) and the other black
    assert tile[4:-4, 4:-4].max() <= 1
    rim = [tile[0, 4:-4].mean(), tile[-1, 4:-4].mean(), tile[4:-4, 0].mean(), tile[4:-4, -1].mean()]
    assert rim[0] == pytest.approx(rim[1], abs=25)
    assert rim[2] == pytest.approx(rim[3], abs=25)
    assert np.unravel_index(values.argmin(), values.shape) == cell
    if stride is None:
        others = np.ones(grid.shape, bool)
        others[cell] = False
        # neighbours see at most half a pixel's width of the rim
        assert values[others].min() > 255 * (1 - 1.0 / size_px)
    tile_map = TileMap.from_cells(grid, grid.all_cells(), values.ravel(), name="grey")
    center = ((bounds[0] + bounds[2]) / 2, (bounds[1] + bounds[3]) / 2)
    assert tile_map.at(*center) == np.float32(values.min())


@pytest.mark.parametrize("slide_mpp", [(0.25, 0.25), (0.2271, 0.31)])
@pytest.mark.parametrize("mpp", [0.2, 0.25, 0.5, 0.77, 1.0, 2.3])
def test_a_ramp_keeps_its_place_to_a_fiftieth_of_a_pixel(tmp_path, slide_mpp, mpp):
    """Grey = position: a tile's pixel must hold the ramp's value at its own centre, at every level and ratio."""
    n = 1400
    length = n * max(slide_mpp)
    axis_y, axis_x = ((np.arange(n) + 0.5) * m / length * 250 for m in slide_mpp)
    rng = np.random.default_rng(0)
    channels = [np.repeat(axis_y[:, None], n, 1), np.repeat(axis_x[None], n, 0), np.full((n, n), 128.0)]
    # dither, so that 8 bits carry the fraction
    image = np.floor(np.stack(channels, axis=-1) + rng.random((n, n, 1))).astype(np.uint8)
    path = write_pyramid(
        tmp_path / "a.ome.tif", image, slide_mpp, levels=(1, 2, 4), compression="none", flavour="ome"
    )
    with open_slide(path) as slide:
        grid = TileGrid(slide, 64, mpp)
        cells = (
            np.array([[1, 1], [grid.shape[0] - 2, grid.shape[1] - 2]])
            if min(grid.shape) > 3
            else grid.all_cells()[:1]
        )
        tiles = read_tiles(grid, cells).astype(float)
        for tile, (y, x) in zip(tiles, grid.center_um(cells), strict=True):
            inner = tile[8:-8, 8:-8]
            found = (inner[..., 0].mean() / 250 * length, inner[..., 1].mean() / 250 * length)
            # a hundredth of a tile pixel, and a tenth of a grey level (of 250 over the slide) for rounding and dither
            assert found == pytest.approx((y, x), abs=0.01 * mpp + 0.1 * length / 250)


def test_same_pixels_are_copied_not_resampled(real_data):
    with open_slide(real_data("slides/CMU-1-Small-Region.svs")) as slide:
        grid = TileGrid(slide, 224, 0.499)
        tiles = read_tiles(grid, [[3, 4], [0, 0]])
        assert np.array_equal(tiles[0], slide.read(0, 672, 896, 224, 224))
        assert np.array_equal(tiles[1], slide.read(0, 0, 0, 224, 224))


def test_neighbouring_tiles_join_without_a_seam(real_data):
    """Resampling two tiles apart equals resampling the field they form at once, as one larger tile."""
    with open_slide(real_data("scanners/ki67-two-scanners/OS-2-ndpi.ome.tif")) as slide:
        small, large = TileGrid(slide, 100, 0.5), TileGrid(slide, 200, 0.5)
        four = read_tiles(small, [[0, 0], [0, 1], [1, 0], [1, 1]])
        one = read_tiles(large, [[0, 0]])[0]
    joined = np.vstack([np.hstack(four[:2]), np.hstack(four[2:])])
    assert np.abs(joined.astype(int) - one).max() <= 1


def test_order_workers_and_batches_give_the_same(real_data):
    with open_slide(real_data("slides/CMU-1-Small-Region.svs")) as slide:
        grid = TileGrid(slide, 112, 1.0)
        cells = np.random.default_rng(0).permutation(grid.all_cells())[:37]
        one = read_tiles(grid, cells, workers=1)
        assert np.array_equal(read_tiles(grid, cells, workers=4), one)
        batches = list(iter_tiles(grid, cells, batch_size=10, workers=3))
        assert [len(c) for c, _ in batches] == [10, 10, 10, 7]
        assert np.array_equal(np.concatenate([c for c, _ in batches]), cells)
        assert np.array_equal(np.concatenate([t for _, t in batches]), one)
        assert read_tiles(grid, []).shape == (0, 112, 112, 3)
        assert list(iter_tiles(grid, [])) == []


def test_stopping_early_leaves_no_threads(real_data):
    with open_slide(real_data("slides/CMU-1-Small-Region.svs")) as slide:
        grid = TileGrid(slide, 64, 1.0)
        batches = iter_tiles(grid, grid.all_cells(), batch_size=8, workers=2)
        next(batches)
        batches.close()
        assert not [t for t in threading.enumerate() if t.name.startswith("batchfx-tiles")]


def test_errors_reach_the_caller(real_data):
    slide = open_slide(real_data("slides/CMU-1-Small-Region.svs"))
    grid = TileGrid(slide, 64, 1.0)
    with pytest.raises(TileError, match="outside of the grid"):
        read_tiles(grid, [[0, 10_000]])
    with pytest.raises(TileError):
        iter_tiles(grid, [[0, 10_000]])
    batches = iter_tiles(grid, grid.all_cells(), batch_size=4)
    next(batches)
    slide.close()
    with pytest.raises(SlideError, match="is closed"):
        list(batches)
    with pytest.raises(SlideError, match="is closed"):
        read_tiles(grid, grid.all_cells()[:5])


def test_whole_tiles_of_the_file_are_read_once_and_equal(real_data):
    """They aren't kept in the cache, and are the same pixels as a region that is."""
    from napari_batchfx.slides import tile_cache

    with open_slide(real_data("slides/CMU-1-Small-Region.svs")) as slide:
        grid = TileGrid(slide, 240, 0.499)
        tile_cache().clear()
        tiles = read_tiles(grid, grid.all_cells(), workers=2)
        assert tile_cache().nbytes == 0
        for tile, (row, col) in zip(tiles, grid.all_cells().tolist(), strict=True):
            assert np.array_equal(tile, slide.read(0, row * 240, col * 240, 240, 240))
        assert tile_cache().nbytes > 0
        assert np.array_equal(read_tiles(grid, grid.all_cells()), tiles)


@pytest.mark.parametrize("colour", ["ycbcr", "rgb"])
def test_tiles_decoded_straight_into_their_place_are_the_same(tmp_path, colour):
    """The quick way for whole JPEG tiles gives the pixels of ``read``, and grey for a damaged one."""
    from napari_batchfx.tiles import damaged_tiles

    rng = np.random.default_rng(4)
    image = rng.integers(0, 255, (300, 420, 3), np.uint8)
    path = write_pyramid(tmp_path / "a.tif", image, 0.5, tile=64, levels=1, jpeg_colour=colour)
    with open_slide(path) as slide:
        grid = TileGrid(slide, 64, 0.5)
        cells = grid.all_cells()
        wanted = np.stack([slide.read(0, r * 64, c * 64, 64, 64) for r, c in cells])
    with open_slide(path) as slide:
        into = slide._source.tile_into
        taken = []
        slide._source.tile_into = lambda *args: taken.append(into(*args)) or taken[-1]
        np.testing.assert_array_equal(read_tiles(TileGrid(slide, 64, 0.5), cells, workers=1), wanted)
        assert len(taken) == len(cells)
        assert all(taken)
    data = bytearray(path.read_bytes())
    with open_slide(path) as slide:
        segments = slide._source._segments[0]
        start, count = int(segments._offsets[8]), int(segments._counts[8])
    data[start : start + count] = bytes(count)
    bad = tmp_path / "bad.tif"
    bad.write_bytes(data)
    with open_slide(bad) as slide:
        grid = TileGrid(slide, 64, 0.5)
        tiles = read_tiles(grid, cells, workers=1)
        flags = damaged_tiles(grid, cells)
    assert flags.sum() == 1
    assert (tiles[flags] == 191).all()
    np.testing.assert_array_equal(tiles[~flags], wanted[~flags])
