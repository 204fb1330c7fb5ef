import json

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from napari_batchfx.errors import StainError
from napari_batchfx.stain import (
    REFERENCE,
    REFERENCE_LAB,
    LabStatistics,
    MacenkoNormalizer,
    ReinhardNormalizer,
    StainEstimate,
    StainTransform,
    estimate,
)

from .stain_paint import paint

IMAGES = hnp.arrays(np.uint8, st.tuples(st.integers(1, 9), st.integers(1, 9), st.just(3)))


@st.composite
def macenko_transforms(draw):
    def one():
        h = np.array([draw(st.floats(0.45, 0.8)), draw(st.floats(0.55, 0.8)), draw(st.floats(0.1, 0.5))])
        e = np.array([draw(st.floats(0.0, 0.3)), draw(st.floats(0.75, 1.0)), draw(st.floats(0.1, 0.6))])
        matrix = np.stack([h, e])
        strongest = np.array([draw(st.floats(0.3, 4.0)), draw(st.floats(0.3, 4.0))])
        return StainEstimate(matrix / np.linalg.norm(matrix, axis=1, keepdims=True), strongest)

    return StainTransform(one(), one(), draw(st.floats(0, 1)))


@st.composite
def reinhard_transforms(draw):
    def one():
        mean = np.array([draw(st.floats(20, 90)), draw(st.floats(-40, 60)), draw(st.floats(-60, 40))])
        return LabStatistics(mean, np.array([draw(st.floats(1, 30)) for _ in range(3)]))

    return StainTransform(one(), one(), draw(st.floats(0, 1)))


TRANSFORMS = macenko_transforms() | reinhard_transforms()


@settings(max_examples=60, deadline=None)
@given(TRANSFORMS, IMAGES)
def test_shape_and_type_are_kept_and_the_input_is_untouched(transform, image):
    before = image.copy()
    out = transform.transform(image)
    assert out.shape == image.shape
    assert out.dtype == np.uint8
    assert not np.shares_memory(out, image)
    np.testing.assert_array_equal(image, before)


@settings(max_examples=60, deadline=None)
@given(TRANSFORMS, IMAGES)
def test_strength_zero_is_the_identity(transform, image):
    np.testing.assert_array_equal(transform.with_strength(0).transform(image), image)


@settings(max_examples=60, deadline=None)
@given(TRANSFORMS, IMAGES)
def test_strength_stays_between_the_original_and_the_full_transform(transform, image):
    full = transform.with_strength(1).transform(image).astype(int)
    part = transform.transform(image).astype(int)
    assert (part >= np.minimum(image, full) - 1).all()
    assert (part <= np.maximum(image, full) + 1).all()


@settings(max_examples=60, deadline=None)
@given(TRANSFORMS, IMAGES)
def test_white_stays_white(transform, image):
    image[0] = 255
    np.testing.assert_array_equal(transform.transform(image)[0], 255)


@settings(max_examples=60, deadline=None)
@given(macenko_transforms(), st.lists(st.floats(0, 1), min_size=3, max_size=3))
def test_more_stain_never_comes_out_lighter(transform, direction):
    """Along a ray of optical density, before any rounding: 8-bit input bends the ray."""
    density = np.linspace(0, 4, 64)[:, None] * np.array(direction)
    assert np.diff(transform._two_stains(density), axis=0).max() <= 1e-9


@settings(max_examples=100, deadline=None)
@given(TRANSFORMS, IMAGES, st.booleans())
def test_the_kernel_equals_the_plain_numpy_arithmetic(transform, image, published):
    transform = StainTransform(transform.source, transform.target, transform.strength, published)
    exact = transform.transform_float(image)
    assert np.isfinite(exact).all()
    assert (exact >= 0).all()
    assert (exact <= 255).all()
    assert np.abs(transform.transform(image) - exact).max() <= 0.8


@settings(max_examples=30, deadline=None)
@given(TRANSFORMS)
def test_json_round_trip_keeps_numbers_and_key(transform):
    again = StainTransform.from_dict(json.loads(json.dumps(transform.to_dict())))
    assert again.key == transform.key
    assert again == transform
    image = np.arange(192, dtype=np.uint8).reshape(8, 8, 3)
    np.testing.assert_array_equal(again.transform(image), transform.transform(image))


def test_keys_tell_transforms_apart_and_ignore_where_numbers_came_from():
    one = MacenkoNormalizer().from_source(REFERENCE)
    assert one.key != one.with_strength(0.5).key
    assert one.key != ReinhardNormalizer().from_source(REFERENCE_LAB).key
    assert one.key != StainTransform(REFERENCE, REFERENCE, as_published=True).key
    counted = StainEstimate(REFERENCE.matrix, REFERENCE.max_concentration, "macenko", 123, ("a warning",))
    assert one.key == StainTransform(counted, REFERENCE).key
    # A key in a store of features must mean the same in the next version.
    assert one.key.startswith("macenko-")


def test_source_to_source_changes_nothing_for_two_stains(tissue):
    found = estimate(tissue)
    rng = np.random.default_rng(3)
    image = paint(rng.gamma(1.5, 0.4, (64, 64, 2)), found.matrix)
    image[:4] = 255
    out = StainTransform(found, found).transform(image)
    assert np.abs(out.astype(int) - image).max() <= 1


@pytest.mark.parametrize("method", ["macenko", "reinhard"])
def test_source_to_target_and_back_is_within_one_grey_level(tissue, method):
    if method == "macenko":
        a, b = estimate(tissue), REFERENCE
        image = paint(np.random.default_rng(3).gamma(1.2, 0.3, (64, 64, 2)), a.matrix)
    else:
        # A small step, so that no colour leaves sRGB on the way.
        a = LabStatistics(np.array([60.0, 20.0, -12.0]), np.array([14.0, 7.0, 6.0]))
        b = LabStatistics(np.array([57.0, 17.0, -9.0]), np.array([13.0, 7.0, 6.0]))
        image = (
            np.random.default_rng(3).integers((120, 70, 110), (170, 110, 150), (64, 64, 3)).astype(np.uint8)
        )
    forth, back = StainTransform(a, b), StainTransform(b, a)
    again = back.transform(forth.transform(image)).astype(int)
    # 8 bits in between: at most 1 where the way is not steep, so look at the bulk and bound the rest.
    error = np.abs(again - image)
    assert np.percentile(error, 95) <= 1
    assert error.max() <= 4


def test_transforming_twice_to_the_own_look_equals_once(real_data):
    from skimage.io import imread

    image = np.ascontiguousarray(imread(real_data("stain/henorm/example1.png"))[:256, :256, :3])
    found = estimate(image)
    own = StainTransform(found, found)
    once = own.transform(image)
    error = np.abs(own.transform(once).astype(int) - once)
    # Not exact where a channel was brighter than glass, or nearly black.
    assert np.percentile(error, 95) <= 1
    assert error.mean() < 0.2


def test_threads_and_batches_give_the_same_pixels(tissue):
    transform = MacenkoNormalizer().from_source(estimate(tissue))
    big = np.tile(tissue, (3, 3, 1))
    one = transform.transform(big, workers=1)
    np.testing.assert_array_equal(transform.transform(big, workers=3), one)
    np.testing.assert_array_equal(
        transform.transform(tissue[None].repeat(2, 0))[1], transform.transform(tissue)
    )
    view = big[::-2, 5:]
    np.testing.assert_array_equal(transform.transform(view), one[::-2, 5:])


def test_many_python_threads_at_once(tissue):
    from concurrent.futures import ThreadPoolExecutor

    transform = ReinhardNormalizer().from_source(estimate(tissue, "reinhard"))
    expected = transform.transform(tissue)
    with ThreadPoolExecutor(8) as pool:
        for out in pool.map(lambda _: transform.transform(tissue), range(32)):
            np.testing.assert_array_equal(out, expected)


def test_wrong_input_is_refused():
    transform = MacenkoNormalizer().from_source(REFERENCE)
    with pytest.raises(StainError, match="8-bit RGB"):
        transform.transform(np.zeros((4, 4, 3), np.float32))
    with pytest.raises(StainError, match="between 0 and 1"):
        transform.with_strength(1.5)
    with pytest.raises(StainError, match="different stain methods"):
        StainTransform(REFERENCE, REFERENCE_LAB)
    with pytest.raises(StainError, match="don't describe"):
        StainTransform.from_dict({"method": "magic"})
    assert transform.transform(np.zeros((0, 4, 3), np.uint8)).shape == (0, 4, 3)
