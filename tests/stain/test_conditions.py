"""Simulated staining conditions: the three steps of the protocol, against a second, plain implementation."""

import csv

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from napari_batchfx.errors import StainError
from napari_batchfx.stain import (
    CONDITIONS,
    SimulatedStain,
    StainingCondition,
    condition_from,
    estimate,
    load_conditions,
    save_conditions,
    simulate,
)

from .stain_paint import paint

IMAGES = hnp.arrays(np.uint8, st.tuples(st.integers(1, 9), st.integers(1, 9), st.just(3)))


@pytest.fixture(scope="module")
def tile():
    rng = np.random.default_rng(3)
    return paint(np.stack([rng.gamma(1.5, 0.5, (160, 160)), rng.gamma(2.0, 0.4, (160, 160))], axis=-1))


def by_hand(image, condition, source):
    """Step 3, pixel arrays in float64 and stains in columns, as the protocol is written."""
    pixels = image.reshape(-1, 3).astype(float)
    white = pixels.max(axis=0)
    density = -np.log(np.maximum(pixels, 1) / white).T
    third = np.cross(*source.matrix)
    third /= np.linalg.norm(third)
    s = np.column_stack([*source.matrix, third])
    c = np.linalg.inv(s) @ density
    times = condition.intensity / source.max_concentration
    if (times < 1).any():
        most = c[0] >= np.quantile(c[0], 0.9)
        c[:2, most] = np.maximum(c[:2, most], 0)
    c[:2] *= times[:, None]
    c[2] = np.where(c[2] > 0.1, 0.01 * c[2], c[2])
    t = np.column_stack([*condition.matrix, third])
    return np.clip(white * np.exp(-(t @ c).T), 0, 255).reshape(image.shape)


@pytest.mark.parametrize("condition", CONDITIONS, ids=lambda one: one.id)
def test_a_simulated_tile_is_the_protocols(tile, condition):
    source = estimate(tile, "density")
    expected = by_hand(tile, condition, source)
    assert np.abs(simulate(tile, condition, source) - expected).max() <= 0.51


@pytest.mark.parametrize("condition", CONDITIONS, ids=lambda one: one.id)
def test_a_simulated_tile_measures_as_the_condition(tile, condition):
    """The same estimate that describes conditions finds the condition in what was simulated."""
    found = estimate(simulate(tile, condition), "density")
    np.testing.assert_allclose(found.max_concentration, condition.intensity, rtol=0.2)
    assert abs(found.angle_deg - condition.angle_deg) < 4


def test_the_density_estimate_finds_known_vectors():
    rng = np.random.default_rng(0)
    # Many pixels of one stain alone: the densest directions are the stains themselves.
    amounts = np.zeros((256, 256, 2))
    amounts[:128, :, 0] = rng.gamma(4.0, 0.3, (128, 256))
    amounts[128:, :, 1] = rng.gamma(4.0, 0.2, (128, 256))
    image = paint(amounts)
    image[0, 0] = 239
    found = estimate(image, "density")
    from .stain_paint import VECTORS

    vectors = VECTORS / np.linalg.norm(VECTORS, axis=1, keepdims=True)
    assert np.degrees(np.arccos((found.matrix * vectors).sum(axis=1))).max() < 2.5
    assert found.method == "density"
    assert found.white == (239.0, 239.0, 239.0)


def test_the_named_extremes_are_extremes():
    """What the ids say is what the numbers are."""
    one = {c.id: c for c in CONDITIONS}
    others = list(CONDITIONS)
    assert one["low-intensity"].intensity.sum() == min(c.intensity.sum() for c in others)
    assert one["high-intensity"].intensity.sum() == max(c.intensity.sum() for c in others)
    assert one["low-similarity"].angle_deg == max(c.angle_deg for c in others)
    assert one["high-similarity"].angle_deg == min(c.angle_deg for c in others)
    assert all(c.origin for c in others)


@pytest.mark.real_data
def test_the_built_in_numbers_are_those_of_their_images(real_data):
    from skimage.io import imread

    image = imread(real_data("stain/histoqc-templates/template2.png"))[:448, :448, :3]
    found = estimate(np.ascontiguousarray(image), "density")
    np.testing.assert_allclose(found.matrix, CONDITIONS[0].matrix, atol=2e-4)
    np.testing.assert_allclose(found.max_concentration, CONDITIONS[0].intensity, atol=2e-3)


@settings(max_examples=40, deadline=None)
@given(IMAGES, st.sampled_from(CONDITIONS))
def test_any_image_can_be_simulated(image, condition):
    """Constants, black, white, single pixels: no error, no other shape, the input untouched."""
    before = image.copy()
    out = simulate(image, condition)
    assert out.shape == image.shape
    assert out.dtype == np.uint8
    np.testing.assert_array_equal(image, before)


def test_a_blank_tile_stays_and_batches_are_tile_by_tile(tile):
    blank = np.full_like(tile, 244)
    both = np.stack([tile, blank])
    out = simulate(both, CONDITIONS[1])
    np.testing.assert_array_equal(out[1], blank)
    np.testing.assert_array_equal(out[0], simulate(tile, CONDITIONS[1]))


def test_keys_tell_conditions_and_slides_apart(tile):
    source = estimate(tile, "density")
    keys = {SimulatedStain(c, s).key for c in CONDITIONS for s in (None, source)}
    assert len(keys) == 2 * len(CONDITIONS)
    with pytest.raises(StainError, match="density"):
        SimulatedStain(CONDITIONS[0], estimate(tile, "macenko"))


def test_conditions_survive_json_and_come_from_own_images(tile, tmp_path):
    own = condition_from(tile, "ours", "our lab")
    path = save_conditions([*CONDITIONS, own], tmp_path / "conditions.json")
    again = load_conditions(path)
    assert [c.to_dict() for c in again] == [c.to_dict() for c in (*CONDITIONS, own)]
    assert "own image" in again[-1].origin


def test_the_published_library_is_read(tmp_path):
    """The layout of the data set: matrices with stains in columns, intensities by condition."""
    (tmp_path / "stain_vectors").mkdir()
    (tmp_path / "intensities").mkdir()
    matrix = np.column_stack([*CONDITIONS[0].matrix, [0.1, -0.2, 0.9]])
    np.savez(tmp_path / "stain_vectors" / "KRH_GT450_median.npz", matrix)
    with (tmp_path / "intensities" / "median_intensities_per_condition.csv").open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerows([["condition", "H_95th", "E_95th"], ["KRH-GT450", 1.1, 0.7], ["GV-AT2", 3.0, 1.9]])
    (found,) = load_conditions(tmp_path)
    assert found.id == "KRH_GT450"
    np.testing.assert_allclose(found.matrix, CONDITIONS[0].matrix, atol=1e-3)
    np.testing.assert_allclose(found.intensity, [1.1, 0.7])


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("{}", "no staining conditions"),
        ("[1]", "no staining conditions"),
        ("nonsense", "can't be read"),
        ('{"format": "napari-batchfx staining conditions", "conditions": [{"id": "a"}]}', "don't describe"),
        ('{"format": "napari-batchfx staining conditions", "conditions": []}', "no staining conditions"),
    ],
)
def test_a_wrong_file_is_refused_in_a_sentence(tmp_path, text, words):
    (tmp_path / "c.json").write_text(text)
    with pytest.raises(StainError, match=words):
        load_conditions(tmp_path / "c.json")


def test_impossible_conditions_are_refused():
    with pytest.raises(StainError, match="two different"):
        StainingCondition("x", "x", np.ones((2, 3)), np.ones(2), "")
    with pytest.raises(StainError, match="above 0"):
        StainingCondition("x", "x", CONDITIONS[0].matrix, np.array([1.0, np.nan]), "")
    with pytest.raises(StainError, match="not found"):
        load_conditions(pytest.importorskip("pathlib").Path(__file__).parent)
