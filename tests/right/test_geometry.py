"""A tile over a known cluster of nuclei finds it: at any pixel size, on any slide, to a fraction of a pixel.

The slides show one round piece of the phantom on empty glass. Its truth is the phantom's: the optical density over tissue
micrometres, drawn at 0.1 um without any slide, file or tile; and the nuclei's centres.
"""

import numpy as np
import pytest

from napari_batchfx import embed
from napari_batchfx.encoders import load
from napari_batchfx.samples import SCANNERS, Phantom
from napari_batchfx.slides import open_slide, write_pyramid
from napari_batchfx.tiles import TileGrid, read_matched, read_tiles

MPPS = [0.2, 0.25, 0.3, 0.5, 0.77, 1.0]
RADIUS = 15.0  # um of the piece
CENTRE = np.array([131.7, 152.9])  # um of the tissue
SIDE = 300.0  # um of the slide
TISSUE = Phantom(seed=5, shape_um=(SIDE, SIDE), layout="tumour")
# no noise and little blur: glass is one grey level all over
SCANNER = SCANNERS["neutral"].with_(noise=0.0, blur_um=0.2)

# slide's pixel size (y, x), how the tissue lies on it (turned by degrees), levels
SLIDES = {
    "square": ((0.25, 0.25), 0.0, (1,)),
    "pyramid": ((0.2, 0.2), 0.0, (1, 2, 4)),
    "odd": ((0.2271, 0.2271), 0.0, (1, 2)),
    "not square": ((0.22, 0.31), 0.0, (1,)),
    "turned": ((0.25, 0.25), 7.0, (1, 2)),
}


def on_tissue(mpp, degrees):
    """Slide micrometres (y, x, 1) to tissue micrometres: a turn about the corner and a shift."""
    return SCANNER.with_(
        mpp=min(mpp), rotation_deg=degrees, shift_um=(14.0, -22.0) if degrees else (0.0, 0.0)
    ).affine_um()


def piece(mpp, degrees, shape):
    """Concentrations of the round piece alone on pixels of ``mpp`` (y, x) that may not be square."""
    base = mpp[0]
    matrix = on_tissue(mpp, degrees) @ np.diag([1.0, mpp[1] / base, 1.0])
    conc = TISSUE.concentrations(0.0, 0.0, *shape, base, affine=matrix)
    y, x = ((np.arange(n) + 0.5) * base for n in shape)
    at = np.stack(np.meshgrid(y, x, indexing="ij"), -1) @ matrix[:2, :2].T + matrix[:2, 2]
    conc[np.hypot(*np.moveaxis(at - CENTRE, -1, 0)) > RADIUS] = 0
    return conc


@pytest.fixture(scope="module")
def slides(tmp_path_factory):
    """``slides(name)``: the open slide and its matrix to the tissue."""
    folder, made = tmp_path_factory.mktemp("geometry"), {}

    def make(name):
        if name not in made:
            mpp, degrees, levels = SLIDES[name]
            shape = tuple(round(SIDE / m) for m in mpp)
            pixels = SCANNER.with_(mpp=mpp[0]).render(piece(mpp, degrees, shape))
            path = write_pyramid(
                folder / f"{name}.ome.tif",
                pixels,
                mpp,
                tile=128,
                levels=levels,
                compression="deflate",
                flavour="ome",
            )
            made[name] = open_slide(path), on_tissue(mpp, degrees)
        return made[name]

    yield make
    for slide, _ in made.values():
        slide.close()


@pytest.fixture(scope="module")
def truth():
    """Centroid (y, x) of the piece's optical density in tissue micrometres, without a slide."""
    fine = 0.1
    n = round(2 * RADIUS / fine) + 2
    corner = CENTRE - n * fine / 2
    conc = TISSUE.concentrations(*corner, n, n, fine)
    at = np.stack(np.meshgrid(*(corner[:, None] + (np.arange(n) + 0.5) * fine), indexing="ij"), -1)
    conc[np.hypot(*np.moveaxis(at - CENTRE, -1, 0)) > RADIUS] = 0
    light = SCANNER.with_(mpp=fine).render(conc)
    weight = density(light)
    return (weight[..., None] * at).sum((0, 1)) / weight.sum()


def density(tiles):
    """What is darker than glass, over the three channels: linear in light, so that resampling keeps its centroid."""
    return (245.0 - np.asarray(tiles, float)).sum(-1)


def centroid(grid, cells, tiles):
    """Centroid (y, x) of what is dark in tiles, mapped back to micrometres of the slide."""
    weight = density(tiles)
    weight[weight < 3] = 0
    step = (np.arange(grid.size_px) + 0.5) * grid.mpp
    corner = grid.bounds_um(cells)[:, :2]
    total = weight.sum()
    y = (weight.sum(2) * (corner[:, :1] + step)).sum() / total
    x = (weight.sum(1) * (corner[:, 1:] + step)).sum() / total
    return np.array([y, x])


def to_tissue(matrix, point):
    return matrix[:2, :2] @ point + matrix[:2, 2]


def covers(grid, matrix, radius):
    """Whether the piece, shrunk or grown to ``radius``, lies in each cell wholly, and whether it touches it."""
    centre = np.linalg.solve(matrix[:2, :2], CENTRE - matrix[:2, 2])
    y0, x0, y1, x1 = grid.bounds_um(grid.all_cells()).T
    inside = (
        (centre[0] - y0 >= radius)
        & (y1 - centre[0] >= radius)
        & (centre[1] - x0 >= radius)
        & (x1 - centre[1] >= radius)
    )
    gap = np.hypot(
        np.maximum(np.maximum(y0 - centre[0], centre[0] - y1), 0),
        np.maximum(np.maximum(x0 - centre[1], centre[1] - x1), 0),
    )
    return inside, gap < radius


@pytest.mark.parametrize("name", SLIDES)
@pytest.mark.parametrize("mpp", MPPS)
def test_tiles_together_hold_the_cluster_where_it_is(slides, truth, name, mpp):
    """Edge to edge the tiles hold each bit of the cluster once: their centroid is the tissue's."""
    slide, matrix = slides(name)
    grid = TileGrid(slide, 64, mpp)
    centre = np.linalg.solve(matrix[:2, :2], CENTRE - matrix[:2, 2])
    reach = RADIUS + 64 * mpp
    cells = grid.cells_in_box(*centre - reach, *centre + reach)
    found = to_tissue(matrix, centroid(grid, cells, read_tiles(grid, cells)))
    # half a pixel of shift anywhere (level, filter, corner instead of centre) would be 0.5
    assert np.abs(found - truth).max() / mpp < 0.15


@pytest.mark.parametrize("name", ["odd", "not square", "turned"])
@pytest.mark.parametrize(("mpp", "stride"), [(0.2, 50), (0.5, 37), (1.0, 16)])
def test_every_overlapping_tile_finds_it_alone(slides, truth, name, mpp, stride):
    slide, matrix = slides(name)
    grid = TileGrid(slide, round(64 / mpp), mpp, stride)
    whole, _ = covers(grid, matrix, RADIUS + 2 * mpp)
    cells = grid.all_cells()[whole]
    assert len(cells) > 1
    for cell, tile in zip(cells, read_tiles(grid, cells), strict=True):
        found = to_tissue(matrix, centroid(grid, [cell], tile[None]))
        assert np.abs(found - truth).max() / mpp < 0.15, cell


@pytest.mark.parametrize("name", SLIDES)
def test_the_cell_at_the_cluster_is_the_one_that_shows_it(slides, name):
    slide, matrix = slides(name)
    centre = np.linalg.solve(matrix[:2, :2], CENTRE - matrix[:2, 2])
    for mpp in MPPS:
        grid = TileGrid(slide, round(40 / mpp), mpp, round(20 / mpp))
        cells = grid.cells_in_box(*centre - 70, *centre + 70)
        dark = density(read_tiles(grid, cells)).sum((1, 2))
        at = (cells == grid.cell_at(*centre)).all(1)
        assert at.sum() == 1
        assert dark[at][0] == pytest.approx(dark.max(), rel=1e-3), mpp


@pytest.mark.parametrize("name", SLIDES)
def test_an_encoder_sees_it_in_the_cells_it_lies_in_and_in_no_other(slides, name):
    """The table's rows whose vector isn't that of glass are the tiles that the cluster touches."""
    slide, matrix = slides(name)
    with load("colour-statistics", threads=1) as encoder:
        for mpp in (0.2, 0.5, 1.0):
            grid = TileGrid(slide, 64, mpp)
            table = embed(grid, encoder, cells=grid.all_cells())
            vectors = np.asarray(table.X)
            glass = vectors[0]
            lit = (np.abs(vectors - glass) > 1e-6).any(1)
            # what the blur and the filter carry over an edge may light a neighbour; what lies well inside must
            reach = 3 * mpp + 1.0
            _, surely = covers(grid, matrix, RADIUS - reach)
            _, perhaps = covers(grid, matrix, RADIUS + reach)
            assert surely.any()
            assert lit[surely].all(), mpp
            assert not lit[~perhaps].any(), mpp
            # and the table says where they are
            centre = np.stack([table.obs["y_um"], table.obs["x_um"]], 1)
            np.testing.assert_allclose(
                centre, grid.center_um(table.obs[["row", "col"]].to_numpy()), atol=1e-3
            )


@pytest.mark.parametrize("mpp", [0.25, 0.5, 1.0])
def test_many_nuclei_lie_where_the_phantom_says(mpp, tmp_path):
    """No single cluster: the pattern of all nuclei of a tile, laid over its pixels, fits best without a shift."""
    from skimage.registration import phase_cross_correlation

    lymph = Phantom(seed=2, shape_um=(240, 240), layout="lymphoid")
    conc = lymph.concentrations(0, 0, 960, 960, 0.25)
    path = write_pyramid(
        tmp_path / "a.ome.tif",
        SCANNER.with_(mpp=0.25).render(conc),
        0.25,
        levels=(1,),
        compression="deflate",
        flavour="ome",
    )
    with open_slide(path) as slide:
        grid = TileGrid(slide, round(100 / mpp), mpp)
        tile = read_tiles(grid, [[1, 1]])[0]
        y0, x0 = grid.bounds_um([[1, 1]])[0, :2]
    nuclei = lymph.nuclei(y0 - 10, x0 - 10, 120, 120)
    assert len(nuclei) > 50
    y, x = (np.arange(grid.size_px) + 0.5) * mpp + np.array([[y0], [x0]])
    pattern = np.zeros((grid.size_px, grid.size_px))
    for ny, nx, a, b in nuclei:
        pattern += np.exp(-((y[:, None] - ny) ** 2 + (x[None] - nx) ** 2) / (a * b))
    dark = np.log(246 / (tile[..., 0] + 1.0))
    shift, _, _ = phase_cross_correlation(
        dark - dark.mean(), pattern - pattern.mean(), upsample_factor=20, normalization=None
    )
    assert np.abs(shift).max() < 0.5 if mpp >= 0.5 else np.abs(shift).max() < 1


@pytest.mark.parametrize("mpp", [0.3, 0.5, 1.0])
def test_an_aligned_slide_gives_the_same_place(slides, truth, mpp):
    """The turned scan through its alignment: the straight scan's tile, cut from it, shows the cluster at the same pixels."""
    straight, _ = slides("square")
    turned, matrix = slides("turned")
    grid = TileGrid(straight, round(80 / mpp), mpp, round(20 / mpp))
    cell = grid.cell_at(*CENTRE)
    tile = read_matched(grid, [cell], turned, matrix)
    assert np.abs(centroid(grid, [cell], tile) - truth).max() / mpp < 0.2
