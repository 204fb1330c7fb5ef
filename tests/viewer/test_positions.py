"""A tile's value lies exactly over its tile, at every pixel size, on the canvas as well as in the arrays."""

from __future__ import annotations

import numpy as np
import pytest
from tests.viewer.conftest import tissue

from napari_batchfx.viewer import seam

TILE_PX, MPP = 64, 0.5


@pytest.fixture
def black_tile(make_slide):
    """A slide whose one tile, row 3 and column 5, is black; its neighbours are tissue."""

    def make(slide_mpp):
        side = round(TILE_PX * MPP / slide_mpp)
        image = tissue(8 * side + 7, 9 * side + 5, seed=1)
        image[3 * side : 4 * side, 5 * side : 6 * side] = 0
        return make_slide(f"black-{slide_mpp}.tif", image, slide_mpp), side

    return make


@pytest.mark.parametrize("slide_mpp", [0.5, 0.25, 0.4])
def test_value_lies_over_its_tile(bench, wait, black_tile, slide_mpp):
    path, side = black_tile(slide_mpp)
    session = bench.docks["slides"].session
    entry = session.add_slide(path)
    session.study.settings.encode.size_px, session.study.settings.encode.mpp = TILE_PX, MPP
    session.study.settings.encode.min_tissue = 0.0
    encode = bench.docks["encode"]
    encode.encoding.encode_slides([entry])
    wait(lambda: not encode.encoding.job.is_running)

    # What the encoder saw: the black tile is the one and only black one.
    table = session.study.table()
    darkest = table.obs.iloc[int(np.argmax(table[:, list(table.var_names).index("od_red_mean")].X))]
    assert (darkest["row"], darkest["col"]) == (3, 5)

    # Where the viewer puts its value: the layer's pixel covers exactly the black square of the slide's layer.
    overlay, image = session.layer(entry, "encoded"), session.layer(entry, "slide")
    y0, x0 = np.asarray(overlay.data_to_world((3, 5))) - np.asarray(overlay.scale) / 2
    top, left = image.world_to_data((y0, x0))
    bottom, right = image.world_to_data((y0 + overlay.scale[0], x0 + overlay.scale[1]))
    # Edges: napari's data coordinate of a pixel's outer edge is its index minus one half.
    np.testing.assert_allclose([top + 0.5, left + 0.5], [3 * side, 5 * side], atol=1e-6 * side)
    np.testing.assert_allclose([bottom + 0.5, right + 0.5], [4 * side, 6 * side], atol=1e-6 * side)
    assert np.isfinite(overlay.data[3, 5])


def test_value_lies_over_its_tile_on_the_canvas(bench, viewer, wait, qtbot, black_tile):
    """The same, in pixels of a screenshot: the painted square and the black square share their edges."""
    path, side = black_tile(0.5)
    session = bench.docks["slides"].session
    entry = session.add_slide(path)
    grid_shape = session.study.open_slide(entry).shape
    from napari_batchfx.tiles import TileGrid, TileMap

    grid = TileGrid(session.study.open_slide(entry), size_px=TILE_PX, mpp=MPP)
    assert grid.shape == (grid_shape[0] // side, grid_shape[1] // side)
    tile_map = TileMap.from_cells(grid, [[3, 5]], [1.0], name="one", vmin=0, vmax=1)
    seam.fit_to(viewer, (3 * 32 - 20, 5 * 32 - 20, 4 * 32 + 20, 6 * 32 + 20))
    seam.camera(viewer).zoom = 6.0
    viewer.canvas.overlays.scale_bar.visible = False
    layer = session.show_map(entry, "probe", tile_map, "one")
    layer.opacity, layer.blending = 1.0, "opaque"
    layer.colormap = "red"
    # Both pictures of one window: a layer that comes may change what the docks say, and so the canvas's size.
    layer.visible = False
    qtbot.wait(300)
    bare = viewer.screenshot(canvas_only=True, flash=False)[..., :3].astype(int)
    layer.visible = True
    qtbot.wait(150)
    painted = viewer.screenshot(canvas_only=True, flash=False)[..., :3].astype(int)

    black = bare.sum(axis=2) < 20
    red = (painted[..., 0] > 200) & (painted[..., 1] < 60) & (painted[..., 2] < 60)
    inside = np.zeros_like(black)
    middle = np.array(black.shape) // 2
    reach = round(6.0 * 16) + 12  # half a tile on the screen and a little more
    inside[middle[0] - reach : middle[0] + reach, middle[1] - reach : middle[1] + reach] = True
    boxes = []
    for mask in (black & inside, red):
        rows, cols = np.nonzero(mask)
        boxes.append([rows.min(), cols.min(), rows.max(), cols.max()])
    assert np.abs(np.array(boxes[0]) - np.array(boxes[1])).max() <= 1, boxes
    assert boxes[1][2] - boxes[1][0] == pytest.approx(6.0 * 32, abs=2)


def test_all_levels_show_the_same_place(bench, viewer, qtbot, make_slide):
    """A square's centre stays where it is whichever level of the pyramid is drawn (no half-pixel jumps)."""
    image = np.full((1024, 1024, 3), 255, np.uint8)
    image[384:640, 256:512] = 0
    session = bench.docks["slides"].session
    entry = session.add_slide(make_slide("square.tif", image, 0.5, levels=4))
    layer = session.layer(entry, "slide")
    viewer.canvas.overlays.scale_bar.visible = False
    centres = []
    for level in range(4):
        seam.fit_to(viewer, (0, 0, 512, 512))
        layer.locked_data_level = level
        qtbot.wait(150)
        shot = viewer.screenshot(canvas_only=True, flash=False)[..., :3].astype(float)
        height, width = shot.shape[:2]
        zoom = seam.camera(viewer).zoom
        y0, x0 = height / 2 - 256 * zoom, width / 2 - 256 * zoom
        region = shot[
            round(y0) + 4 : round(y0 + 512 * zoom) - 4, round(x0) + 4 : round(x0 + 512 * zoom) - 4
        ].mean(axis=2)
        weight = 255 - region
        rows, cols = np.indices(region.shape)
        centres.append(
            [(rows * weight).sum() / weight.sum() / zoom, (cols * weight).sum() / weight.sum() / zoom]
        )
    spread = np.ptp(np.array(centres), axis=0)
    assert (spread < 0.35).all(), centres  # micrometres; a half-pixel jump at the last level would be 2
