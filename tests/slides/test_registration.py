"""register: known turns, mirrors, scales and shifts of phantoms and of the real pair; refusing other tissue."""

from __future__ import annotations

import doctest
import importlib

import numpy as np
import pytest
from scipy import ndimage

from napari_batchfx.errors import SlideError
from napari_batchfx.samples import SCANNERS, STAIN_BATCHES, Phantom
from napari_batchfx.slides import (
    Alignment,
    alignment_from_points,
    check_alignment,
    open_slide,
    read_alignment,
    register,
    register_job,
    write_alignment,
    write_pyramid,
)
from napari_batchfx.slides.alignment.models import fit, fit_robust, log10_chance

SIZE = 700.0


def lay(turn, scale=1.0, mirror=False, shift=(0.0, 0.0), size=SIZE):
    """b's um to a's: about the middle, then shifted by shares of the size."""
    c, s = np.cos(np.radians(turn)), np.sin(np.radians(turn))
    linear = scale * np.array([[c, -s], [s, c]]) @ np.diag([1.0, -1.0 if mirror else 1.0])
    matrix = np.eye(3)
    matrix[:2, :2] = linear
    matrix[:2, 2] = np.full(2, size / 2) - linear @ np.full(2, size / 2) + np.array(shift) * size
    return matrix


def scan(path, seed, scanner, stain, affine=None):
    model = SCANNERS[scanner].with_(mpp=1.0)
    n, halo = round(SIZE / model.mpp), model.halo_px
    corner = -halo * model.mpp
    conc = Phantom(seed, (SIZE, SIZE)).concentrations(
        corner, corner, n + 2 * halo, n + 2 * halo, model.mpp, affine=affine
    )
    pixels = model.render(conc, STAIN_BATCHES[stain], halo_px=halo, seed=3)
    return write_pyramid(path, pixels, model.mpp, compression="jpeg", quality=85)


def error_um(found, truth, size=SIZE):
    grid = np.stack(np.meshgrid(*[np.linspace(0, size, 15)] * 2, indexing="ij"), -1).reshape(-1, 2)
    there = grid @ truth[:2, :2].T + truth[:2, 2]
    inside = ((there >= 0) & (there <= size)).all(axis=1)
    return np.hypot(*(found.apply(grid) - there)[inside].T)


@pytest.fixture(scope="module")
def base(tmp_path_factory):
    with open_slide(scan(tmp_path_factory.mktemp("base") / "a.tif", 1, "aperio_cs2", "standard")) as slide:
        yield slide


@pytest.mark.parametrize(
    ("truth", "scanner", "stain"),
    [
        (lay(133, shift=(-0.2, 0.1)), "nanozoomer_s210", "blue"),
        (lay(-35, 1.1, True, (0.1, 0.1)), "pannoramic_1000", "strong eosin"),
    ],
    ids=["turned", "mirrored and larger"],
)
def test_phantoms_are_laid_within_two_micrometres(base, tmp_path, truth, scanner, stain):
    with open_slide(scan(tmp_path / "b.tif", 1, scanner, stain, truth)) as b:
        found = register(base, b)
    error = error_um(found, truth)
    assert found.verdict == "good"
    assert np.median(error) < 0.5
    assert error.max() < 2
    assert found.is_mirrored == (np.linalg.det(truth) < 0)
    assert found.scale == pytest.approx(np.sqrt(abs(np.linalg.det(truth))), abs=1e-3)
    # what it says of itself is of the size of the truth
    assert found.residual_um < 1


def test_translation_and_affine(base, tmp_path):
    shift = lay(0, shift=(0.1, -0.15))
    with open_slide(scan(tmp_path / "b.tif", 1, "nanozoomer_s210", "pale", shift)) as b:
        found = register(base, b, model="translation")
    assert found.verdict == "good"
    assert found.shift_um == pytest.approx((70.0, -105.0), abs=0.5)
    assert np.array_equal(found.affine_um[:2, :2], np.eye(2))
    sheared = lay(20) @ np.array([[1.02, 0.015, 0], [0, 0.99, 0], [0, 0, 1]])
    with open_slide(scan(tmp_path / "c.tif", 1, "nanozoomer_s210", "pale", sheared)) as c:
        found = register(base, c, model="affine")
        stiff = register(base, c)
    assert found.verdict == "good"
    assert np.median(error_um(found, sheared)) < 0.5
    # the held-out windows know that a similarity can't follow
    assert stiff.residual_um > 3 * found.residual_um


def test_the_real_pair_turned_and_mirrored(real_data, tmp_path):
    """Two scanners; the crops are aligned to about 1.5 um, which is all the truth there is."""
    a, b = (open_slide(real_data(f"scanners/ki67-two-scanners/OS-2-{n}.ome.tif")) for n in ("ndpi", "vsi"))
    pixels, mpp = b.read(0, 0, 0, *b.shape), b.mpp
    flipped = write_pyramid(
        tmp_path / "b.tif", np.ascontiguousarray(pixels[::-1]), mpp, compression="deflate"
    )
    truth = np.diag([-1.0, 1.0, 1.0])
    truth[0, 2] = b.extent_um[0]
    with a, b, open_slide(flipped) as c:
        found, straight = register(a, c), register(a, b)
        measured = check_alignment(a, b, Alignment(np.eye(3), np.nan, np.nan, "uncertain", method="file"))
    for one, known in ((found, truth), (straight, np.eye(3))):
        assert one.verdict == "good"
        assert np.median(error_um(one, known, 500.0)) < 3
        assert one.residual_um < 1
    assert found.is_mirrored
    assert found.correlation > 0.9
    # as the makers laid them, windows lie as far apart as the two alignments differ
    assert measured.verdict == "good"
    assert measured.residual_um == pytest.approx(np.median(error_um(straight, np.eye(3), 500.0)), abs=0.5)


def test_other_tissue_is_refused(base, tmp_path, real_data):
    others = [
        scan(tmp_path / "b.tif", 2, "aperio_cs2", "standard"),
        real_data("scanners/ki67-two-scanners/OS-1-detail.ome.tif"),
    ]
    for path in others:
        with open_slide(path) as other:
            found = register(base, other)
        assert found.verdict == "failed", path.name
        assert np.array_equal(found.affine_um, np.eye(3))
        assert np.isnan(found.residual_um)
        assert "No alignment" in found.sentence()


def test_a_wrong_alignment_is_not_called_good(base):
    off = Alignment(lay(90), np.nan, np.nan, "uncertain", method="file")
    assert check_alignment(base, base, off).verdict == "uncertain"


def test_our_own_file_is_measured_on_the_slides_at_hand(base, tmp_path):
    """The file says "good" and 0.1 um: true of its own pair, not of others, nor where it was changed."""
    path = write_alignment(tmp_path / "x.json", Alignment(np.eye(3), 0.1, 0.99, "good", 40, "affine", "auto"))
    same = read_alignment(path, base, base)
    assert (same.verdict, same.model, same.method) == ("good", "affine", "auto")
    assert same.residual_um < 0.05
    with open_slide(scan(tmp_path / "b.tif", 2, "aperio_cs2", "standard")) as other:
        found = read_alignment(path, base, other)
    assert (found.verdict, found.n_windows) == ("uncertain", 0)
    assert np.isnan(found.residual_um)
    assert "not measured" in found.sentence()
    off = np.eye(3)
    off[:2, 2] = 12.0, 9.0
    moved = read_alignment(write_alignment(path, Alignment(off, 0.1, 0.99, "good", 40)), base, base)
    assert moved.verdict == "uncertain"
    assert moved.residual_um == pytest.approx(15, abs=1)
    assert read_alignment(write_alignment(path, Alignment.none_found()), base, base).verdict == "failed"


def test_points_are_told_apart_from_windows(base):
    spots = np.array([[50.0, 60], [600, 80], [300, 640], [400, 300]])
    off = np.array([[1.0, 0], [0, 1], [-1, 0], [0, -1]])
    clicked = alignment_from_points(spots + off, spots)
    assert "the 4 point pairs lie" in clicked.sentence()
    checked = check_alignment(base, base, clicked)
    assert "point pairs" not in checked.sentence()
    assert checked.n_windows > 4
    wrong = check_alignment(base, base, alignment_from_points(spots + off + [300, 0], spots))
    assert wrong.verdict == "uncertain"
    assert "the 4 point pairs lie" in wrong.sentence()


def test_sentences_put_no_sign_on_nothing():
    tiny = np.array([[1, 1e-6, -0.004], [-1e-6, 1, -0.04], [0, 0, 1]])
    for model in ("translation", "similarity"):
        assert "-0.0" not in Alignment(tiny, 0.2, 0.9, "good", 9, model).sentence()
    mirrored = Alignment(np.diag([1.0, -1.0, 1.0]) @ tiny, 0.2, 0.9, "good", 9).sentence()
    assert "-0.0" not in mirrored
    assert "°" in mirrored
    assert "-0.1 µm down" in Alignment([[1, 0, -0.06], [0, 1, 0], [0, 0, 1]], 0.2, 0.9, "good", 9).sentence()


def test_blank_slides_fail_and_no_pixel_size_is_refused(base, tmp_path):
    blank = np.full((300, 300, 3), 240, np.uint8)
    with open_slide(write_pyramid(tmp_path / "a.tif", blank, 1.0, compression="deflate")) as slide:
        assert register(base, slide).verdict == "failed"
        assert check_alignment(base, slide, Alignment.none_found()).verdict == "uncertain"
    with (
        open_slide(write_pyramid(tmp_path / "b.tif", blank, None, compression="deflate")) as slide,
        pytest.raises(SlideError, match="no pixel size"),
    ):
        register(base, slide)
    with pytest.raises(SlideError, match="no model"):
        register(base, base, model="rigid")


def test_a_job_can_be_left(base):
    job = register_job(base, base)
    steps = [next(job) for _ in range(4)]
    job.close()
    assert [s.done for s in steps] == sorted(s.done for s in steps)
    assert steps[-1].total == 100


def test_only_reduced_levels_are_read(base, tmp_path, monkeypatch):
    """Of 10 million pixels only the windows are read, however fine the slide is."""
    rng = np.random.default_rng(0)
    blobs = ndimage.gaussian_filter(rng.normal(size=(400, 400)), 2)
    small = np.where(blobs > 0.03, 120, 238).astype(np.uint8)
    large = np.repeat(np.repeat(small, 8, 0), 8, 1)[..., None].repeat(3, 2)
    path = write_pyramid(tmp_path / "a.tif", large, 0.5, compression="deflate")
    with open_slide(path) as a, open_slide(path) as b:
        read = 0
        plain = type(a).read

        def counted(self, level, y, x, h, w):
            nonlocal read
            read += h * w
            return plain(self, level, y, x, h, w)

        monkeypatch.setattr(type(a), "read", counted)
        found = register(a, b)
    assert found.shift_um == pytest.approx((0, 0), abs=0.1)
    # two overviews and 64 windows on each: the same for any larger slide
    assert read < 13e6


def test_fits_against_known_matrices():
    rng = np.random.default_rng(0)
    points = rng.uniform(0, 1000, (40, 2))
    matrix = np.array([[1.01, -0.03, 5], [0.025, 1.005, -7], [0, 0, 1]])
    moved = points @ matrix[:2, :2].T + matrix[:2, 2]
    assert np.allclose(fit(points, moved, "affine"), matrix)
    from skimage.transform import SimilarityTransform

    theirs = SimilarityTransform.from_estimate(points[:, ::-1], moved[:, ::-1])
    swap = np.eye(3)[[1, 0, 2]]
    assert np.allclose(fit(points, moved, "similarity"), swap @ theirs.params @ swap, atol=1e-8)
    # 60 % of the matches point anywhere
    noisy = moved + rng.normal(0, 0.3, moved.shape)
    noisy[:24] = rng.uniform(0, 1000, (24, 2))
    found, inside = fit_robust(points, noisy, "affine", 3.0)
    assert inside[24:].sum() >= 14
    assert np.hypot(*(points @ found[:2, :2].T + found[:2, 2] - moved).T).max() < 3
    assert fit_robust(points[:2], moved[:2], "similarity", 3.0) is None


def test_chance_is_the_binomial_tail():
    assert log10_chance(0, 10, 0.1) == 0
    assert log10_chance(10, 10, 0.1) == pytest.approx(-10)
    assert 10 ** log10_chance(1, 3, 0.5) == pytest.approx(7 / 8)


@pytest.mark.parametrize("name", ["automatic", "checking", "files", "points", "result", "translation"])
def test_examples(name, monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    module = importlib.import_module(f"napari_batchfx.slides.alignment.{name}")
    found = doctest.testmod(module)
    assert found.attempted > 0
    assert found.failed == 0
