import numpy as np
import pytest

from napari_batchfx.errors import StainError
from napari_batchfx.stain import LabStatistics, StainEstimate, estimate

from .stain_paint import VECTORS, paint


def test_known_vectors_are_found(tissue):
    found = estimate(tissue)
    vectors = VECTORS / np.linalg.norm(VECTORS, axis=1, keepdims=True)
    cosines = (found.matrix * vectors).sum(axis=1)
    assert np.degrees(np.arccos(cosines)).max() < 3.0
    assert (found.matrix >= 0).all()
    np.testing.assert_allclose(np.linalg.norm(found.matrix, axis=1), 1.0)
    assert found.matrix[0, 0] > found.matrix[1, 0], "haematoxylin is the row that takes more red"
    assert found.n_pixels > 10_000
    assert found.warnings == ()


def test_pooled_images_equal_one_long_image(tissue):
    halves = tissue.reshape(2, 128, 256, 3)
    np.testing.assert_array_equal(estimate(halves).matrix, estimate(tissue).matrix)


@pytest.mark.parametrize("method", ["macenko", "reinhard"])
def test_estimates_survive_json(tissue, method):
    import json

    found = estimate(tissue, method)
    kind = StainEstimate if method == "macenko" else LabStatistics
    again = kind.from_dict(json.loads(json.dumps(found.to_dict())))
    assert again.to_dict() == found.to_dict()


@pytest.mark.parametrize(
    ("image", "words"),
    [
        (np.full((64, 64, 3), 255, np.uint8), "too little stained tissue"),
        (np.full((64, 64, 3), (180, 90, 150), np.uint8), "one colour"),
        (np.zeros((64, 64, 3), np.uint8), "black"),
        (np.zeros((64, 64, 3), np.float32), "8-bit RGB"),
        (np.zeros((64, 64), np.uint8), "8-bit RGB"),
        (np.zeros((64, 64, 4), np.uint8), "8-bit RGB"),
    ],
)
def test_what_cannot_be_estimated_is_refused_in_one_sentence(image, words):
    with pytest.raises(StainError, match=words) as caught:
        estimate(image)
    assert str(caught.value).count(". ") == 0


def test_a_grey_ramp_is_one_colour():
    ramp = np.repeat(np.linspace(20, 250, 4096).astype(np.uint8).reshape(64, 64, 1), 3, axis=2)
    with pytest.raises(StainError, match="one colour"):
        estimate(ramp)


def test_unknown_method_is_refused(tissue):
    with pytest.raises(StainError, match="macenko"):
        estimate(tissue, "magic")


def test_fluorescence_is_refused():
    rng = np.random.default_rng(0)
    image = np.zeros((128, 128, 3), np.uint8)
    image[40:60, 40:60, 2] = rng.integers(80, 255, (20, 20))
    with pytest.raises(StainError, match="fluorescence"):
        estimate(image)


def test_brown_stain_is_named():
    rng = np.random.default_rng(1)
    image = paint(rng.gamma(1.5, 0.5, (128, 128, 2)), np.array([[0.65, 0.70, 0.29], [0.27, 0.57, 0.78]]))
    assert any("brown" in warning for warning in estimate(image).warnings)


@pytest.mark.real_data
@pytest.mark.parametrize(
    ("name", "brown"),
    [
        ("scanners/ki67-two-scanners/OS-2-ndpi.ome.tif", True),
        ("scanners/ki67-two-scanners/OS-2-vsi.ome.tif", True),
        ("scanners/ki67-two-scanners/OS-1-detail.ome.tif", False),
        ("slides/CMU-1-Small-Region.svs", False),
    ],
)
def test_real_h_dab_is_warned_about_and_real_he_is_not(real_data, name, brown):
    import tifffile

    image = tifffile.imread(real_data(name))[:1024, :1024, :3]
    assert any("brown" in warning for warning in estimate(image).warnings) == brown
