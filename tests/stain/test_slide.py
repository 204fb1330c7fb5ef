import threading

import numpy as np
import pytest

import napari_batchfx
from napari_batchfx.errors import StainError
from napari_batchfx.slides import write_pyramid
from napari_batchfx.stain import MacenkoNormalizer, ReinhardNormalizer, estimate, estimate_slide, preview

from .stain_paint import VECTORS, paint


def tissue(size, seed=0):
    rng = np.random.default_rng(seed)
    return paint(np.stack([rng.gamma(1.5, 0.5, size), rng.gamma(2.0, 0.4, size)], axis=-1))


def write(path, image, mpp=1.0):
    write_pyramid(path, image, mpp, compression="deflate")
    return path


@pytest.fixture(scope="module")
def path(tmp_path_factory):
    """Tissue on the left two thirds, two stains; glass on the right."""
    image = np.full((900, 1200, 3), 245, np.uint8)
    image[:, :800] = tissue((900, 800))
    return write(tmp_path_factory.mktemp("slides") / "made.tif", image)


@pytest.fixture
def slide(path):
    with napari_batchfx.open_slide(path) as slide:
        yield slide


def test_the_slide_gives_its_stains(slide):
    found = estimate_slide(slide, n_pixels=20_000)
    vectors = VECTORS / np.linalg.norm(VECTORS, axis=1, keepdims=True)
    assert np.degrees(np.arccos((found.matrix * vectors).sum(axis=1))).max() < 4
    assert found.n_pixels == 20_000


def test_same_seed_same_numbers_other_seed_nearly(path):
    found = []
    for seed in (0, 0, 1):
        with napari_batchfx.open_slide(path) as slide:
            found.append(estimate_slide(slide, n_pixels=20_000, seed=seed))
    np.testing.assert_array_equal(found[0].matrix, found[1].matrix)
    np.testing.assert_array_equal(found[0].max_concentration, found[1].max_concentration)
    assert not np.array_equal(found[0].matrix, found[2].matrix)
    np.testing.assert_allclose(found[0].matrix, found[2].matrix, atol=0.02)


@pytest.mark.parametrize("kind", [MacenkoNormalizer, ReinhardNormalizer])
def test_grey_glass_does_not_turn_pink(tmp_path, kind):
    """Some scanners leave glass at 208: taken for pale stain it would be coloured all over."""
    image = np.full((600, 900, 3), (209, 208, 206), np.uint8)
    image[:, :600] = (tissue((600, 600)) * 0.866).astype(np.uint8)
    write(tmp_path / "grey.tif", image)
    with napari_batchfx.open_slide(tmp_path / "grey.tif") as slide:
        transform = kind().for_slide(slide)
    np.testing.assert_allclose(transform.source.white, (210, 209, 207), atol=1.5)
    out = transform.transform(image[:, 700:]).astype(int)
    assert np.ptp(out.reshape(-1, 3), axis=1).max() <= 4, "glass has no colour"
    assert out.min() >= 205


def test_too_few_pixels_are_said(slide):
    found = estimate_slide(slide, n_pixels=5_000_000)
    assert "less certain" in found.warnings[-1]


def test_a_slide_without_pixel_size_works(tmp_path):
    from PIL import Image

    Image.fromarray(tissue((256, 256))).save(tmp_path / "plain.png")
    with napari_batchfx.open_slide(tmp_path / "plain.png") as slide:
        assert slide.mpp is None
        assert estimate_slide(slide, n_pixels=10_000).n_pixels == 10_000


@pytest.mark.parametrize("method", ["macenko", "reinhard"])
def test_an_empty_slide_is_refused_by_name(tmp_path, method):
    write(tmp_path / "glass.tif", np.full((600, 600, 3), 245, np.uint8))
    with (
        napari_batchfx.open_slide(tmp_path / "glass.tif") as slide,
        pytest.raises(StainError, match=r"glass.*no tissue"),
    ):
        estimate_slide(slide, method)


def test_a_black_slide_is_refused(tmp_path):
    image = np.zeros((600, 600, 3), np.uint8)
    image[100:200, 100:200, 2] = 200
    write(tmp_path / "dapi.tif", image)
    with (
        napari_batchfx.open_slide(tmp_path / "dapi.tif") as slide,
        pytest.raises(StainError, match="fluorescence"),
    ):
        estimate_slide(slide)


@pytest.mark.parametrize("kind", [MacenkoNormalizer, ReinhardNormalizer])
def test_preview_is_the_pyramid_through_the_transform(slide, kind):
    transform = kind().for_slide(slide)
    plain, levels = slide.pyramid(), preview(slide, transform)
    assert [level.shape for level in levels] == [level.shape for level in plain]
    assert [level.chunks for level in levels] == [level.chunks for level in plain]
    assert all(level.dtype == np.uint8 for level in levels)
    for a, b in zip(plain, levels, strict=True):
        np.testing.assert_array_equal(b.compute(), transform.transform(a.compute()))


def test_preview_names_say_slide_transform_and_level(slide):
    transform = MacenkoNormalizer().for_slide(slide)
    names = [level.name for level in preview(slide, transform)]
    others = [level.name for level in preview(slide, transform.with_strength(0.5))]
    assert len({*names, *others}) == 2 * len(names)


def test_preview_computes_only_what_is_looked_at(slide, monkeypatch):
    """A preview of a corner reads that corner; laziness is seen in the pixels asked of the slide."""
    transform = MacenkoNormalizer().for_slide(slide)
    asked = []
    read, lock = type(slide).read, threading.Lock()

    def spy(self, level, y, x, h, w):
        with lock:
            asked.append((level, h * w))
        return read(self, level, y, x, h, w)

    monkeypatch.setattr(type(slide), "read", spy)
    levels = preview(slide, transform)
    assert asked == []
    levels[-1][:8, :8].compute()
    assert {level for level, _ in asked} == {len(levels) - 1}


@pytest.mark.real_data
def test_the_real_slide_from_end_to_end(real_data):
    with napari_batchfx.open_slide(real_data("slides/CMU-1-Small-Region.svs")) as slide:
        transform = MacenkoNormalizer().for_slide(slide)
        assert transform.source.n_pixels >= 100_000
        assert transform.source.warnings == ()
        # What all pixels of the slide give; a sample that misses part of the tissue would be off.
        whole = estimate(slide.read(1, 0, 0, *slide.levels[1].shape))
        np.testing.assert_allclose(transform.source.matrix, whole.matrix, atol=0.03)
        out = preview(slide, transform)[-1].compute()
        glass = slide.pyramid()[-1].compute().min(axis=2) > 238
        assert out[glass].min() > 230


OTHER = np.array([[0.50, 0.75, 0.43], [0.10, 0.80, 0.59]])


@pytest.fixture(scope="module")
def halves(tmp_path_factory):
    """Two stains on the left, the same two in other colours on the right."""
    rng = np.random.default_rng(2)
    amounts = np.stack([rng.gamma(1.5, 0.5, (600, 900)), rng.gamma(2.0, 0.4, (600, 900))], axis=-1)
    image = np.concatenate([paint(amounts[:, :450]), paint(amounts[:, 450:], OTHER)], axis=1)
    return write(tmp_path_factory.mktemp("slides") / "halves.tif", image)


def degrees(found, vectors):
    vectors = vectors / np.linalg.norm(vectors, axis=1, keepdims=True)
    return np.degrees(np.arccos((found.matrix * vectors).sum(axis=1))).max()


def test_a_drawn_region_gives_its_own_stain(halves):
    left = [[[0, 0], [0, 440], [600, 440], [600, 0]]]
    right = [[[-50, 470], [700, 470], [700, 2000], [-50, 2000]]]  # drawn beyond the slide
    mask = np.zeros((60, 90), bool)
    mask[:, 48:] = True
    with napari_batchfx.open_slide(halves) as slide:
        found = estimate_slide(slide, n_pixels=30_000, region=left)
        assert degrees(found, VECTORS) < 3
        assert found.origin == "drawn region"
        for region in (right, mask):
            assert degrees(estimate_slide(slide, n_pixels=30_000, region=region), OTHER) < 3
        few = estimate_slide(slide, n_pixels=30_000, region=[[[0, 0], [0, 60], [60, 60], [60, 0]]])
        assert 1_000 < few.n_pixels <= 3_600
        assert few.quality == "uncertain"
        assert "in this region" in few.warnings[-1]


@pytest.mark.parametrize(
    ("region", "words"),
    [
        ([], "empty"),
        ([[[0, 0], [1, 1]]], "empty"),
        ([[[5000, 5000], [5000, 6000], [6000, 6000]]], "outside"),
        (np.zeros((6, 9), bool), "empty"),
        ("here", "polygons"),
        ([[[0, 0], [0, 4], [4, 4], [4, 0]]], "too little"),
    ],
)
def test_a_region_that_is_none_is_refused(halves, region, words):
    with napari_batchfx.open_slide(halves) as slide, pytest.raises(StainError, match=words):
        estimate_slide(slide, region=region)


def test_a_slide_under_pen_is_declined_and_says_so(tmp_path):
    image = np.full((900, 1200, 3), 246, np.uint8)
    image[200:600, 200:1000] = (40, 150, 80)
    image = np.clip(image + np.random.default_rng(0).integers(-3, 4, image.shape), 0, 255).astype(np.uint8)
    write(tmp_path / "pen.tif", image)
    with (
        napari_batchfx.open_slide(tmp_path / "pen.tif") as slide,
        pytest.raises(StainError, match=r"pen: .*marker pen"),
    ):
        estimate_slide(slide)


def test_other_stains_are_declined(tmp_path):
    """Cyan and yellow: neither H&E nor H-DAB."""
    rng = np.random.default_rng(0)
    amounts = np.stack([rng.gamma(1.5, 0.5, (600, 600)), rng.gamma(2.0, 0.4, (600, 600))], axis=-1)
    write(tmp_path / "other.tif", paint(amounts, np.array([[0.98, 0.15, 0.10], [0.10, 0.30, 0.95]])))
    with (
        napari_batchfx.open_slide(tmp_path / "other.tif") as slide,
        pytest.raises(StainError, match=r"other.*neither haematoxylin and eosin nor"),
    ):
        estimate_slide(slide)


@pytest.mark.real_data
def test_fluorescence_is_declined_by_every_method(real_data):
    from napari_batchfx.stain import methods

    folder = real_data("slides/fluorescence-ndpi")
    path = next(folder.rglob("*.ndpi"))
    with napari_batchfx.open_slide(path) as slide:
        for one in methods():
            with pytest.raises(StainError, match="fluorescence"):
                estimate_slide(slide, one.id)


@pytest.mark.real_data
@pytest.mark.parametrize("name", ["vahadane", "density", "ruifrok"])
def test_methods_agree_on_what_a_real_slide_holds(real_data, name):
    """Other ways to the same stains: near those of Macenko, on the slide's own tissue."""
    with napari_batchfx.open_slide(real_data("slides/CMU-1-Small-Region.svs")) as slide:
        found, usual = estimate_slide(slide, name), estimate_slide(slide)
    assert found.n_pixels >= 100_000
    apart = np.degrees(np.arccos(np.clip((found.matrix * usual.matrix).sum(axis=1), -1, 1)))
    assert apart.max() < 25
    assert found.kind == "H&E"
