"""Artefacts painted on real tissue are found; clean tissue stays clean."""

from __future__ import annotations

import numpy as np
import pytest
from PIL import Image
from scipy.ndimage import binary_dilation, gaussian_filter
from tests.conftest import real_path
from tests.tiles import painting

from napari_batchfx.errors import TileError
from napari_batchfx.slides import open_slide, write_pyramid
from napari_batchfx.tiles import ARTEFACTS, ArtefactMask, TissueSettings, artefact_mask, tissue_mask
from napari_batchfx.tiles._blur import window_sharpness
from napari_batchfx.tiles._folds import band_size
from napari_batchfx.tiles._gaussian import gaussian


@pytest.fixture(scope="module")
def skin():
    """CMU-1 at 1 um a pixel."""
    with open_slide(real_path("slides/CMU-1-Small-Region.svs")) as slide:
        return slide.read(1, 0, 0, *slide.levels[1].shape)


@pytest.fixture(scope="module")
def breast():
    """An H&E field full of tissue, 512 px at 1 um a pixel, mirrored to 1 mm."""
    tile = np.asarray(Image.open(real_path("stain/histoqc-templates/template2.png")).convert("RGB"))
    row = np.concatenate([tile, tile[:, ::-1]], axis=1)
    return np.concatenate([row, row[::-1]])


def _found(tmp_path, image, kind, mpp=1.0):
    path = write_pyramid(tmp_path / "painted.tif", image, mpp, compression="deflate")
    with open_slide(path) as slide:
        return artefact_mask(slide, kinds=[kind]), tissue_mask(slide).mask


def _score(found, truth, within=None):
    """Recall, and the share of what is found that lies within three pixels of the truth."""
    truth = painting.share(truth, found.shape)
    near = binary_dilation(truth, iterations=3)
    if within is not None:
        truth = truth & within
    return found[truth].mean(), near[found].mean() if found.any() else 0.0


CLEAN = [
    ("slides/CMU-1-Small-Region.svs", None),
    ("scanners/ki67-two-scanners/OS-1-detail.ome.tif", None),
    ("scanners/ki67-two-scanners/OS-2-ndpi.ome.tif", None),
    ("scanners/ki67-two-scanners/OS-2-vsi.ome.tif", None),
    ("tiles/camelyon17/patient_101_node_4/0.jpg", 0.25),
    ("tiles/camelyon17/patient_101_node_4/3.jpg", 0.25),
    ("tiles/camelyon17/patient_116_node_2/0.jpg", 0.25),
    ("tiles/camelyon17/patient_116_node_2/3.jpg", 0.25),
    ("scanners/canine-scc-five-scanners/aperio.png", 4.0),
    ("scanners/canine-scc-five-scanners/3dhistech.png", 4.0),
    ("tiles/histolab/medium-nuclei-score-level1.png", 1.0),
    ("tiles/histolab/tissue-level0-7352-11762-7864-12274.png", 0.5),
]


@pytest.mark.parametrize(("path", "mpp"), CLEAN, ids=[path.split("/", 1)[1] for path, _ in CLEAN])
def test_clean_tissue_has_no_artefacts(real_data, path, mpp):
    with open_slide(real_data(path), mpp=mpp) as slide:
        found = artefact_mask(slide)
        tissue = tissue_mask(slide).mask
    assert {kind: found.share(kind, tissue) for kind in ARTEFACTS if found.share(kind, tissue) > 0.01} == {}


def test_real_red_pen(real_data):
    """Against a colour rule made by hand on grey levels (not on densities)."""
    with open_slide(real_data("artefacts/histolab/tcga-red-pen.png"), mpp=4.0) as slide:
        found = artefact_mask(slide)
        image = Image.fromarray(slide.read(0, 0, 0, *slide.shape)).resize(found.flags.shape[::-1])
    r, g, b = np.moveaxis(np.asarray(image).astype(int), -1, 0)
    by_hand = (r > 140) & (g < 90) & (b < 90) & (r - g > 80)
    assert by_hand.mean() > 0.15
    assert found.inks == ("red",)
    assert found.mask("pen")[by_hand].mean() > 0.99
    # the tissue beside it is left alone
    assert found.mask("pen")[60:, 115:].mean() < 0.02
    assert "blur" in found.not_judged  # 4 um a pixel


@pytest.mark.parametrize("ink", ["red", "green", "blue", "black"])
def test_pen_over_tissue_and_glass(tmp_path, skin, ink):
    h, w = skin.shape[:2]
    painted, truth = painting.pen(
        skin, [(h * 0.1, w * 0.2), (h * 0.5, w * 0.6), (h * 0.8, w * 0.3)], 150, ink
    )
    found, _ = _found(tmp_path, painted, "pen")
    recall, precision = _score(found.mask("pen"), truth)
    assert found.inks == (ink,)
    assert recall > 0.95
    assert precision > 0.95


def test_black_padding_is_no_pen(tmp_path, skin):
    padded = np.pad(skin, ((0, 200), (0, 300), (0, 0)))
    found, _ = _found(tmp_path, padded, "pen")
    assert not found.mask("pen").any()


@pytest.mark.parametrize("sigma", [2, 3, 5])
def test_blur_with_noise_of_the_camera(tmp_path, breast, sigma):
    blurred, truth = painting.blur(breast, (256, 256, 768, 768), sigma)
    noise = np.random.default_rng(0).normal(0, 1.5, blurred.shape)
    image = np.clip(np.rint(blurred + noise), 0, 255).astype(np.uint8)
    found, tissue = _found(tmp_path, image, "blur")
    recall, precision = _score(found.mask("blur"), truth, tissue)
    assert recall > 0.9
    assert precision > 0.9


def test_a_slide_that_is_blurred_all_over(tmp_path, breast):
    image = np.rint(gaussian_filter(breast.astype(np.float32), (4, 4, 0))).astype(np.uint8)
    found, tissue = _found(tmp_path, image, "blur")
    assert found.share("blur", tissue) > 0.9


def test_fold_of_three_layers(tmp_path, breast):
    h, w = breast.shape[:2]
    path = [(h * 0.15, w * 0.3), (h * 0.5, w * 0.5), (h * 0.85, w * 0.45)]
    folded, truth = painting.fold(breast, path, 60, layers=3)
    found, tissue = _found(tmp_path, folded, "fold")
    recall, precision = _score(found.mask("fold"), truth, tissue)
    assert recall > 0.5
    assert precision > 0.9


@pytest.mark.parametrize("shape", ["line", "arc"])
def test_edges_of_coverslip_and_bubble(tmp_path, skin, shape):
    h, w = skin.shape[:2]
    line = [(0, w * 0.06), (h, w * 0.1)]
    path = line if shape == "line" else painting.arc((h * 0.5, -w * 0.2), w * 0.42, -1, 1)
    painted, truth = painting.line(skin, path, 12)
    found, _ = _found(tmp_path, painted, "edge")
    recall, precision = _score(found.mask("edge"), truth)
    assert recall > 0.9
    assert precision > 0.9


def test_the_dark_end_of_the_slide(tmp_path, skin):
    image = skin.copy()
    image[:, -100:] = np.random.default_rng(0).integers(100, 110, (len(image), 100, 1))
    found, _ = _found(tmp_path, image, "edge")
    assert found.mask("edge")[:, -10:].mean() > 0.9
    assert found.mask("edge")[:, :-16].mean() < 0.01


def test_artefacts_can_be_left_out_of_the_tissue(tmp_path, breast):
    blurred, _ = painting.blur(breast, (256, 256, 768, 768), 4)
    path = write_pyramid(tmp_path / "a.tif", blurred, 1.0, compression="deflate")
    with open_slide(path) as slide:
        with_blur = tissue_mask(slide).mask
        without = tissue_mask(slide, settings=TissueSettings(exclude=("pen", "blur"))).mask
        flagged = artefact_mask(slide, kinds=["blur"]).mask("blur")
    assert (without == (with_blur & ~flagged)).all()
    assert with_blur.mean() - without.mean() > 0.15


def test_sharpness_falls_with_the_square_of_the_blur():
    """For a step blurred by s the ratio of the mean squares is 1 / (2 s^2), noise filter included."""
    step = np.zeros((64, 256), np.float32)
    step[:, 128:] = 200
    for sigma in (2.0, 4.0):
        value = window_sharpness(gaussian_filter(step, sigma), 64)[0]
        expected = 1 / (2 * (sigma**2 + 0.7**2))
        assert np.nanmax(value) == pytest.approx(expected, rel=0.1)
    assert np.isnan(window_sharpness(np.full((64, 64), 90, np.float32), 64)).all()


@pytest.mark.parametrize(("h", "w"), [(12, 300), (40, 200)])
def test_length_and_width_of_a_band(h, w):
    length, width = band_size(np.ones((h, w), bool), (2.0, 2.0))
    assert width == pytest.approx(2 * h, rel=0.15)
    assert length == pytest.approx(2 * w, rel=0.2)


def test_gaussian_equals_scipy():
    image = np.random.default_rng(0).random((201, 87)).astype(np.float32)
    assert gaussian(image, (1.3, 0.0)) == pytest.approx(gaussian_filter(image, (1.3, 0)), abs=1e-5)
    assert gaussian(image, (1.0, 2.5)) == pytest.approx(gaussian_filter(image, (1.0, 2.5)), abs=1e-5)


def test_labels_masks_and_shares():
    flags = np.array([[0, 1, 2], [3, 8, 16]], np.uint8)
    found = ArtefactMask(flags, (8.0, 8.0), ARTEFACTS)
    assert found.labels.tolist() == [[0, 1, 2], [1, 4, 5]]
    assert found.mask("pen", "blur").tolist() == [[False, True, False], [True, True, False]]
    assert found.fraction("pen", [[0, 0, 16, 16]]) == pytest.approx([0.5])
    assert found.share("edge") == pytest.approx(2 / 6)
    with pytest.raises(TileError, match="no artefact 'dust'"):
        found.mask("dust")


def test_each_kind_is_computed_once(tmp_path, breast):
    path = write_pyramid(tmp_path / "a.tif", breast, 1.0, compression="deflate")
    with open_slide(path) as slide:
        alone = artefact_mask(slide, kinds=["blur"])
        everything = artefact_mask(slide)
        assert everything.kinds == ARTEFACTS
        assert (alone.mask("blur") == everything.mask("blur")).all()


def test_damaged_parts_are_no_tissue_even_where_drawn(tmp_path, breast):
    import tifffile

    path = write_pyramid(tmp_path / "a.tif", breast, 1.0, tile=256, compression="deflate")
    with tifffile.TiffFile(path) as tiff:
        page = tiff.pages[0]
        index = 1 * (-(-page.imagewidth // 256)) + 2
        offset, size = page.dataoffsets[index], page.databytecounts[index]
    with path.open("r+b") as file:
        file.seek(offset)
        file.write(bytes(size))
    everywhere = [[0, 0], [0, 2000], [2000, 2000], [2000, 0]]
    with open_slide(path) as slide:
        slide.read(0, 0, 0, *slide.shape)  # damage is known once it was met
        found = artefact_mask(slide, kinds=["damaged"]).mask("damaged")
        tissue = tissue_mask(slide, include=[everywhere]).mask
    assert found[33:63, 65:95].all()
    assert found.mean() == pytest.approx((256 / 1024) ** 2, rel=0.15)
    assert (tissue == ~found).all()
