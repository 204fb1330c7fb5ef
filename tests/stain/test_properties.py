"""What holds for every method and any image: its own stain, its borders, nothing negative, nothing missing."""

import contextlib
import json

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from napari_batchfx.errors import StainError
from napari_batchfx.stain import (
    REFERENCE,
    LabStatistics,
    StainChannel,
    StainEstimate,
    StainTransform,
    average,
    channel_image,
    estimate,
    method,
    methods,
    reference,
    separate,
)
from napari_batchfx.stain.estimate import optical_density, tissue_pixels
from napari_batchfx.stain.vahadane import sparse_factors

from .stain_paint import VECTORS, paint

IMAGES = hnp.arrays(np.uint8, st.tuples(st.integers(1, 9), st.integers(1, 9), st.just(3)))
EVERY = pytest.mark.parametrize("name", [one.id for one in methods()])
WITH_VECTORS = pytest.mark.parametrize("name", [one.id for one in methods() if one.has_vectors])


@pytest.fixture(params=["painted", "real"])
def image(request, real_data):
    if request.param == "painted":
        rng = np.random.default_rng(7)
        made = paint(rng.gamma(1.5, 0.5, (160, 160, 2)))
        made[:16] = 247
        made[16:20] = rng.integers(0, 256, (4, 160, 3))  # ink, pigment, noise
        return made
    from skimage.io import imread

    return np.ascontiguousarray(imread(real_data("stain/henorm/example1.png"))[:256, :256, :3])


@pytest.mark.real_data
@EVERY
def test_a_slide_normalised_to_itself_is_itself(image, name):
    found = estimate(image, name)
    once = StainTransform(found, found).transform(image)
    assert np.abs(once.astype(int) - image).max() <= 1


@pytest.mark.real_data
@EVERY
def test_from_the_target_to_the_target_nothing_moves(image, name):
    """The transform with equal ends is the identity; estimating anew on what was normalised is another matter."""
    made = method(name).normalizer()
    transform = made.from_source(estimate(image, name))
    once = transform.transform(image)
    again = StainTransform(transform.target, transform.target).transform(once)
    assert np.abs(again.astype(int) - once).max() <= 2


@settings(max_examples=20, deadline=None)
@given(st.integers(0, 2**32 - 1), st.floats(0.0, 0.6))
def test_normalising_twice_with_fixed_vectors_is_once(seed, least):
    image = paint(least + np.random.default_rng(seed).gamma(1.5, 0.35, (120, 120, 2)))
    once = method("ruifrok").normalizer().transform(image)
    again = method("ruifrok").normalizer().transform(once).astype(int)
    assert np.abs(again - once).max() <= 2


@pytest.mark.real_data
@pytest.mark.parametrize("name", ["torchstain/source", "henorm/example1"])
def test_normalising_twice_is_once_where_tissue_and_glass_are_held(real_data, name):
    """Both glasses are at 255. What moves pixels otherwise: benchmarks/stain/twice.py, docs/methods/stain.md."""
    from skimage.io import imread

    image = np.ascontiguousarray(imread(real_data(f"stain/{name}.png"))[..., :3])
    kept, white = tissue_pixels(image, white=(255.0,) * 3), (255.0,) * 3
    target = reference("macenko")
    once = StainTransform(estimate(image[kept], beta=-9.0, white=white), target).transform(image)
    found = estimate(once[kept], beta=-9.0)
    error = np.abs(StainTransform(found, target).transform(once).astype(int) - once)
    assert 0 < error.max() <= 2


@pytest.mark.real_data
@pytest.mark.parametrize("name", ["torchstain/source", "henorm/example1"])
def test_normalising_twice_by_reinhard_as_published_is_once(real_data, name):
    from skimage.io import imread

    image = np.ascontiguousarray(imread(real_data(f"stain/{name}.png"))[..., :3])
    made = method("reinhard").normalizer(as_published=True)
    once = made.transform(image)
    assert np.abs(once.astype(int) - image).max() > 10
    assert np.abs(made.transform(once).astype(int) - once).max() <= 2


@EVERY
def test_tiles_have_no_seams(tissue, name):
    transform = method(name).normalizer().from_source(estimate(tissue, name))
    whole = transform.transform(tissue)
    for side in (64, 100):
        for y in range(0, 256, side):
            for x in range(0, 256, side):
                part = (slice(y, y + side), slice(x, x + side))
                np.testing.assert_array_equal(transform.transform(tissue[part]), whole[part])


@settings(max_examples=50, deadline=None)
@given(IMAGES, st.sampled_from([one.id for one in methods()]))
def test_any_image_is_taken_or_declined(image, name):
    """Constants, black, white, 1 x 1: an image of the same shape, or one sentence; never a NaN."""
    made = method(name).normalizer()
    before = image.copy()
    with contextlib.suppress(StainError):  # what is no H&E is declined; any other error is one
        out = made.transform(image)
        assert out.shape == image.shape
        assert out.dtype == np.uint8
    np.testing.assert_array_equal(image, before)


@pytest.mark.parametrize("colour", [(255, 255, 255), (244, 243, 245), (200, 120, 170), (90, 160, 60)])
@EVERY
def test_single_colours_stay_with_a_flag_or_are_declined(name, colour):
    flat = np.full((40, 40, 3), colour, np.uint8)
    made = method(name).normalizer()
    try:
        out = made.transform(flat)
    except StainError:
        return
    if method(name).has_vectors:
        assert made.warnings
        np.testing.assert_array_equal(out, flat)


@settings(max_examples=50, deadline=None)
@given(IMAGES)
def test_amounts_are_never_negative_and_rebuild_the_density(image):
    amounts = separate(image, REFERENCE, residual=True)
    assert amounts.shape == (*image.shape[:2], 3)
    assert amounts.dtype == np.float32
    assert np.isfinite(amounts).all()
    assert (amounts[..., :2] >= 0).all()
    # Where neither stain was held at 0, vectors and residual give the density back: the round trip.
    density = np.maximum(optical_density(image), 0.0)
    free = density @ np.linalg.pinv(REFERENCE.matrix)
    inner = (free > 1e-6).all(axis=-1)
    across = np.cross(*REFERENCE.matrix) / np.linalg.norm(np.cross(*REFERENCE.matrix))
    rebuilt = amounts.astype(float) @ np.vstack([REFERENCE.matrix, across])
    np.testing.assert_allclose(rebuilt[inner], density[inner], atol=1e-5)


@given(st.floats(0.2, 2.0), st.floats(0.2, 2.0))
@settings(max_examples=30, deadline=None)
def test_more_intensity_in_the_target_is_darker(factor_h, factor_e):
    source = reference("macenko")
    more = StainEstimate(source.matrix, source.max_concentration * [factor_h, factor_e])
    image = paint(np.random.default_rng(0).gamma(1.5, 0.4, (24, 24, 2)), source.matrix)
    out = StainTransform(source, more).transform(image).astype(int)
    if factor_h >= 1 and factor_e >= 1:
        assert (out <= image + 1).all()
    if factor_h <= 1 and factor_e <= 1:
        assert (out >= image - 1).all()


@WITH_VECTORS
def test_estimates_survive_json_with_all_they_say(tissue, name):
    found = estimate(tissue, name)
    again = StainEstimate.from_dict(json.loads(json.dumps(found.to_dict())))
    assert again.to_dict() == found.to_dict()
    assert again.quality == found.quality
    assert (found.quality == "good") == (found.n_pixels >= 10_000)
    assert found.stains == ("haematoxylin", "eosin")
    np.testing.assert_allclose(
        np.tan(np.radians(found.directions_deg[:, 0])), found.matrix[:, 1] / found.matrix[:, 0]
    )


def test_keys_of_stored_features_still_mean_the_same():
    """Of an earlier version; a change here makes people encode everything again."""
    dropped = StainTransform(REFERENCE, REFERENCE, 0.5)
    assert dropped.key == "macenko-b1a58de50a41a087"
    kept = StainTransform(REFERENCE, REFERENCE, 0.5, keep_residual=True)
    assert kept.key != dropped.key
    again = StainTransform.from_dict(json.loads(json.dumps(kept.to_dict())))
    assert again.key == kept.key
    old = {name: value for name, value in kept.to_dict().items() if name != "keep_residual"}
    assert StainTransform.from_dict(old).key == dropped.key


def test_channels_show_one_stain(tissue):
    found = estimate(tissue)
    h, e = (channel_image(tissue, found, name) for name in found.stains)
    amounts = separate(tissue, found)
    inner = (amounts > 0.3).all(axis=-1) & (tissue.min(axis=-1) > 8)
    for picture, row, other in ((h, 0, 1), (e, 1, 0)):
        seen = separate(picture, found)[inner]
        np.testing.assert_allclose(seen[:, row], amounts[inner][:, row], atol=0.06)
        assert np.percentile(seen[:, other], 99) < 0.06
        assert (picture[:24] == 255).all(), "glass stays white"
    assert StainChannel(found, "eosin").key != StainChannel(found, "haematoxylin").key
    with pytest.raises(StainError, match="no DAB"):
        channel_image(tissue, found, "DAB")
    with pytest.raises(StainError, match="separates no stains"):
        separate(tissue, estimate(tissue, "reinhard"))


def test_sparse_factors_find_sparse_stains_and_are_the_same_each_time():
    rng = np.random.default_rng(0)
    vectors = VECTORS / np.linalg.norm(VECTORS, axis=1, keepdims=True)
    amounts = rng.gamma(1.5, 0.5, (8000, 2)) * (rng.random((8000, 2)) < 0.6)
    density = np.maximum(amounts @ vectors + rng.normal(0, 0.01, (8000, 3)), 0)
    found = sparse_factors(density)
    assert np.degrees(np.arccos((found * vectors).sum(axis=1))).max() < 3
    np.testing.assert_array_equal(found, sparse_factors(density))
    # Rows in another order are the same pixels.
    np.testing.assert_allclose(found, sparse_factors(density[::-1]), atol=1e-9)
    # scikit-learn's sparse coder minimises the same thing: at our vectors it can't do better.
    from sklearn.decomposition import sparse_encode

    from napari_batchfx.stain.vahadane import SPARSITY, _concentrations

    ours = _concentrations(density[:300], found, SPARSITY)
    theirs = sparse_encode(
        density[:300], found, algorithm="lasso_cd", alpha=SPARSITY, positive=True, max_iter=2000
    )
    np.testing.assert_allclose(ours, theirs, atol=2e-3)


def test_the_average_is_the_mean_and_mixed_stains_are_refused(tissue):
    one, two = estimate(tissue), REFERENCE
    found = average([one, two])
    assert found.origin == "average of 2 slides"
    np.testing.assert_allclose(np.linalg.norm(found.matrix, axis=1), 1)
    np.testing.assert_allclose(found.max_concentration, (one.max_concentration + two.max_concentration) / 2)
    lab = average([estimate(tissue, "reinhard"), LabStatistics(np.ones(3), np.ones(3))])
    assert lab.n_pixels > 1000
    for wrong in ([], [one, reference("vahadane")], [one, reference("macenko", "H-DAB")]):
        with pytest.raises(StainError):
            average(wrong)


@pytest.mark.real_data
def test_dab_has_its_own_target_and_never_meets_eosin(real_data):
    import tifffile

    image = tifffile.imread(real_data("scanners/ki67-two-scanners/OS-2-ndpi.ome.tif"))[:512, :512, :3]
    found = estimate(image)
    assert found.stains == ("haematoxylin", "DAB")
    made = method("macenko").normalizer()
    transform = made.from_source(found)
    assert transform.target.kind == "H-DAB"
    brown = transform.transform(image)
    assert estimate(brown).kind == "H-DAB"
    with pytest.raises(StainError, match="same stains"):
        type(made)(REFERENCE).from_source(found)


def test_modified_reinhard_keeps_contrast():
    wide = LabStatistics(
        np.array([60.0, 10.0, -10.0]), np.array([20.0, 5.0, 5.0]), method="modified-reinhard"
    )
    narrow = LabStatistics(
        np.array([50.0, 20.0, -5.0]), np.array([10.0, 9.0, 9.0]), method="modified-reinhard"
    )
    gain, shift = StainTransform(narrow, wide)._gains()
    np.testing.assert_allclose(gain, [1.5, 1, 1])  # 1 + (20 - 10) / 20
    np.testing.assert_allclose(gain * narrow.mean + shift, wide.mean)
    np.testing.assert_allclose(StainTransform(wide, narrow)._gains()[0], [1, 1, 1])
    published = StainTransform(wide, narrow, as_published=True)
    np.testing.assert_allclose(published._gains()[0], [1.05, 1, 1])
    with pytest.raises(StainError, match="different stain methods"):
        StainTransform(wide, LabStatistics(narrow.mean, narrow.std))


def test_registry_is_complete():
    ids = [one.id for one in methods()]
    assert len(set(ids)) == len(ids)
    for one in methods():
        assert one.sentence.endswith(".")
        assert one.normalizer.method == one.estimator
        assert method(one.id) is one
    with pytest.raises(StainError, match="choose one of macenko"):
        method("magic")
