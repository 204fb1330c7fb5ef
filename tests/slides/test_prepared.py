"""Prepared levels: equal bit by bit to those made on the fly, resumed, checked, bounded in memory and on disk."""

from __future__ import annotations

import os
import shutil
import threading
import tracemalloc

import numpy as np
import pytest
import tifffile

from napari_batchfx.errors import SlideError
from napari_batchfx.jobs import run
from napari_batchfx.slides import (
    _making,
    clear_prepared,
    open_slide,
    prepare_pyramid_job,
    prepared_bytes,
    prepared_folder,
    tile_cache,
    write_pyramid,
)
from napari_batchfx.slides._pixels import PENDING_RGB
from napari_batchfx.slides.levels import Level, levels_to_prepare

from .array_source import array_slide
from .profiles import matrix_profile


@pytest.fixture(autouse=True)
def folder(tmp_path, monkeypatch):
    monkeypatch.setenv("BATCHFX_PREPARED", str(tmp_path / "kept"))
    return tmp_path / "kept"


def noise(height, width, seed=0):
    return np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8)


@pytest.fixture(scope="module")
def image():
    return noise(4301, 5003)


@pytest.fixture(scope="module")
def tiled(image, tmp_path_factory):
    return write_pyramid(
        tmp_path_factory.mktemp("tiled") / "a.tif", image, 0.5, tile=240, levels=1, compression="none"
    )


@pytest.fixture(scope="module")
def striped(image, tmp_path_factory):
    """Strips of 7 rows: bands of 511, so that pairs of rows lie in two bands."""
    path = tmp_path_factory.mktemp("striped") / "b.tif"
    tifffile.imwrite(
        path, image, rowsperstrip=7, photometric="rgb", compression="zlib", compressionargs={"level": 0}
    )
    return path


def whole(slide, level):
    return slide.read(level, 0, 0, *slide.levels[level].shape)


@pytest.mark.parametrize("kind", ["tiled", "striped"])
def test_equal_to_levels_made_on_the_fly(kind, request, folder):
    path = request.getfixturevalue(kind)
    with open_slide(path) as slide:
        made = {level: whole(slide, level) for level in range(1, len(slide.levels))}
        assert slide.needs_pyramid
        assert not slide.is_prepared
    with open_slide(path) as slide:
        assert run(prepare_pyramid_job(slide)) == folder / slide.fingerprint
        assert slide.is_prepared
        assert sorted({p.name.split("-")[1] for p in folder.glob("*/*.band")}) == (
            ["2", "3"] if kind == "tiled" else ["1", "2", "3"]
        )
    with open_slide(path) as slide:
        assert slide.is_prepared
        rng = np.random.default_rng(1)
        for level, wanted in made.items():
            for _ in range(12):
                h, w = rng.integers(1, 700, 2)
                y, x = (
                    int(rng.integers(0, max(1, n - k))) for n, k in zip(wanted.shape, (h, w), strict=False)
                )
                region = wanted[y : y + h, x : x + w]
                assert np.array_equal(slide.read(level, y, x, *region.shape[:2]), region)
            assert np.array_equal(whole(slide, level), wanted)


def test_prepared_levels_are_read_without_the_file(tmp_path, image):
    slide, source = array_slide(tmp_path, [image])
    run(prepare_pyramid_job(slide))
    source.decoded.clear()
    whole(slide, 2), whole(slide, 3)
    assert source.decoded == []


@pytest.mark.parametrize("banded", [False, True])
def test_every_tile_is_decoded_once_and_a_stopped_job_goes_on(tmp_path, image, banded):
    slide, source = array_slide(tmp_path, [image], banded=banded)
    job = prepare_pyramid_job(slide)
    for progress in job:
        if progress.partial is not None:
            # the first row is there: it shows, although nothing else does
            assert progress.partial == ((1 if banded else 2), 0)
            break
    first = set(source.decoded)
    next(job)
    job.close()
    assert not slide.is_prepared
    assert not list(prepared_folder().glob("*/*part*"))
    source.decoded.clear()
    run(prepare_pyramid_job(slide))
    assert slide.is_prepared
    assert not first & set(source.decoded)
    assert len(source.decoded) == len(set(source.decoded))
    n = -(-4301 // 256) if banded else (-(-4301 // 256)) * (-(-5003 // 256))
    assert len(first | set(source.decoded)) == n
    source.decoded.clear()
    run(prepare_pyramid_job(slide))
    assert source.decoded == []


def test_what_a_killed_program_left_is_cleared_away(tiled, folder):
    with open_slide(tiled) as slide:
        job = prepare_pyramid_job(slide)
        next(job)
        (half,) = folder.glob("*/*.part-*")
        left = half.with_name("level-2-row-0.part-x7_")
        left.write_bytes(b"half a row")
        job.close()
        assert not slide.is_prepared
        run(prepare_pyramid_job(slide))
        assert slide.is_prepared
        assert not left.exists()


def test_progress_says_how_far_it_is(tiled):
    seen = []
    with open_slide(tiled) as slide:
        run(prepare_pyramid_job(slide), seen.append)
    assert seen[-1].done == seen[-1].total == 3 * 3 + 2 * 2
    assert seen[-1].what == "preparing a"
    assert [p.done for p in seen] == sorted(p.done for p in seen)
    assert [p.partial for p in seen if p.partial] == [(2, 0), (2, 1), (3, 0), (2, 2), (3, 1)]


def test_a_damaged_file_is_ignored_and_made_again(tiled, folder):
    with open_slide(tiled) as slide:
        wanted = [whole(slide, 2), whole(slide, 3)]
        run(prepare_pyramid_job(slide))
    files = sorted(folder.glob("*/*.band"))
    cut, flipped, foreign, empty = files[:4]
    cut.write_bytes(cut.read_bytes()[:-100])
    data = bytearray(flipped.read_bytes())
    data[200] ^= 1
    flipped.write_bytes(data)
    shutil.copy(files[4], foreign)
    empty.write_bytes(b"")
    with open_slide(tiled) as slide:
        assert not slide.is_prepared
        assert np.array_equal(whole(slide, 2), wanted[0])
        assert np.array_equal(whole(slide, 3), wanted[1])
        # the flipped bit was met by now
        assert not flipped.exists()
        run(prepare_pyramid_job(slide))
    with open_slide(tiled) as slide:
        assert slide.is_prepared
        assert np.array_equal(whole(slide, 2), wanted[0])
        assert np.array_equal(whole(slide, 3), wanted[1])


def test_another_slides_rows_are_never_shown(tmp_path, tiled, folder):
    other = write_pyramid(
        tmp_path / "other.tif", noise(4301, 5003, 5), 0.5, tile=240, levels=1, compression="none"
    )
    with open_slide(tiled) as one, open_slide(other) as two:
        wanted = whole(two, 2)
        run(prepare_pyramid_job(one))
        shutil.copytree(folder / one.fingerprint, folder / two.fingerprint)
    with open_slide(other) as two:
        assert not two.is_prepared
        assert np.array_equal(whole(two, 2), wanted)
        run(prepare_pyramid_job(two))
        assert np.array_equal(whole(two, 2), wanted)


def test_colours_have_their_own(tmp_path, image, folder):
    slide, _ = array_slide(tmp_path, [image], icc_profile=matrix_profile())
    stored = whole(slide, 2)
    run(prepare_pyramid_job(slide))
    slide.with_icc("on")
    assert not slide.is_prepared
    converted = whole(slide, 2)
    assert not np.array_equal(converted, stored)
    assert run(prepare_pyramid_job(slide)).name == f"{slide.fingerprint}-{slide.colour_key}"
    tile_cache().drop(slide._token)
    assert np.array_equal(whole(slide, 2), converted)
    slide.with_icc("off")
    assert slide.is_prepared
    assert np.array_equal(whole(slide, 2), stored)


def test_damage_is_remembered_with_the_rows(tmp_path, image):
    slide, _ = array_slide(tmp_path, [image], damaged=[(0, 9, 3)])
    run(prepare_pyramid_job(slide))
    found = slide.damage
    slide.close()
    again, source = array_slide(tmp_path, [image], damaged=[(0, 9, 3)])
    assert again.damage == ()
    whole(again, 2)
    assert source.decoded == []
    assert again.damage == found
    assert again.damaged_in(2, 9 * 64, 3 * 64, 1, 1)
    assert not again.damaged_in(2, 8 * 64, 3 * 64, 63, 63)


def test_pending_chunks_come_at_once_and_later_show_the_pixels(tmp_path):
    image = np.tile(noise(1000, 1000), (8, 8, 1))
    slide, source = array_slide(tmp_path, [image])
    wait, blank = slide.pyramid(), slide.pyramid(pending="blank")
    assert [level.shape for level in slide.levels][2:] == [(2000, 2000), (1000, 1000)]
    # the coarsest level takes all 64 MPix, which is too much; a chunk of the 4x level is not
    assert (blank[3].compute() == PENDING_RGB).all()
    assert np.array_equal(blank[2][:1024, :1024].compute(), slide.read(2, 0, 0, 1024, 1024))
    source.decoded.clear()
    assert (blank[3].compute()[:, 512:] == PENDING_RGB).all()
    assert source.decoded == []
    job = prepare_pyramid_job(slide)
    for progress in job:
        if progress.partial == (2, 0):
            break
    # the first row below is there: the view fills in
    source.decoded.clear()
    part = blank[3].compute()
    assert np.array_equal(part[:256], slide.read(3, 0, 0, 256, 1000))
    assert (part[256:, 512:] == PENDING_RGB).all()
    run(job)
    assert np.array_equal(blank[3].compute(), wait[3].compute())
    assert np.array_equal(blank[2].compute(), wait[2].compute())
    with pytest.raises(ValueError, match="pending is"):
        slide.pyramid(pending="soon")


@pytest.mark.parametrize("kind", ["striped", "tiled"])
def test_memory_stays_bounded_for_a_slide_100_000_px_wide(tmp_path, kind):
    path = tmp_path / "wide.tif"
    shape = (600, 100_000, 3)
    if kind == "striped":
        tifffile.imwrite(
            path, np.full(shape, 200, np.uint8), rowsperstrip=8, photometric="rgb", compression="zlib",
            compressionargs={"level": 1},
        )  # fmt: skip
    else:
        tile = np.full((512, 512, 3), 200, np.uint8)
        tifffile.imwrite(
            path, (tile for _ in range(2 * 196)), shape=shape, dtype=np.uint8, tile=(512, 512), photometric="rgb",
            compression="zlib", compressionargs={"level": 1},
        )  # fmt: skip
    with open_slide(path) as slide:
        before = tile_cache().nbytes
        tracemalloc.start()
        try:
            run(prepare_pyramid_job(slide))
            peak = tracemalloc.get_traced_memory()[1]
        finally:
            tracemalloc.stop()
        # the shared cache belongs to the view
        assert tile_cache().nbytes == before
        assert peak < 300e6
        assert (whole(slide, -1) == 200).all()


def test_a_folder_that_cannot_be_written_is_one_sentence(tiled, tmp_path, monkeypatch):
    (tmp_path / "a file").write_text("")
    with open_slide(tiled) as slide:
        with pytest.raises(SlideError, match=r"^a\.tif: its small levels can't be kept in .*the slide works"):
            run(prepare_pyramid_job(slide, tmp_path / "a file"))
        assert whole(slide, 3).shape == (538, 626, 3)


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="no full device here")
def test_a_full_disk_is_one_sentence(tiled, folder, monkeypatch):
    from napari_batchfx.slides import _bands

    real = os.fdopen
    monkeypatch.setattr(
        _bands.os,
        "fdopen",
        lambda handle, mode: (os.close(handle), real(os.open("/dev/full", os.O_WRONLY), mode))[1],
    )
    with open_slide(tiled) as slide:
        with pytest.raises(SlideError, match=r"No space left on device.*the slide works"):
            run(prepare_pyramid_job(slide))
        assert not slide.is_prepared
        assert not list(folder.glob("*/*part*"))
        assert whole(slide, 3).shape == (538, 626, 3)


def test_two_programs_take_turns(tiled):
    with open_slide(tiled) as one, open_slide(tiled) as two:
        first, second = prepare_pyramid_job(one), prepare_pyramid_job(two)
        next(first)
        assert "another program" in next(second).what
        thread = threading.Thread(target=run, args=(first,))
        thread.start()
        run(second)
        thread.join()
        assert one.is_prepared
        assert two.is_prepared


def test_the_longest_unused_slides_go_first(tmp_path, folder):
    paths = [
        write_pyramid(
            tmp_path / f"{k}.tif", noise(2200, 2300, k), 0.5, tile=256, levels=1, compression="none"
        )
        for k in range(3)
    ]
    names = []
    for k, path in enumerate(paths):
        with open_slide(path) as slide:
            names.append(run(prepare_pyramid_job(slide)))
            # a file of someone else's stays
            (names[-1] / "notes.txt").write_text("mine")
            os.utime(names[-1], (k, k))
    each = prepared_bytes() // 3
    with open_slide(paths[0]) as slide:
        # it is used again
        tile_cache().drop(slide._token)
        whole(slide, 2)
    assert clear_prepared(keep_bytes=int(2.5 * each)) == pytest.approx(each, rel=0.1)
    assert [bool(list(name.glob("*.band"))) for name in names] == [True, False, True]
    # a new slide that needs room takes it from the others, never from itself
    clear_prepared()
    assert prepared_bytes() == 0
    assert all((name / "notes.txt").exists() for name in names)
    for path in paths:
        with open_slide(path) as slide:
            run(prepare_pyramid_job(slide, limit_bytes=int(1.5 * each)))
            assert slide.is_prepared
    assert prepared_bytes() < 1.5 * each
    with open_slide(paths[0]) as slide, pytest.raises(SlideError, match="need more than the"):
        run(prepare_pyramid_job(slide, limit_bytes=each // 2))


def test_a_slide_that_needs_nothing_makes_nothing(tmp_path, folder):
    path = write_pyramid(tmp_path / "a.tif", noise(2300, 2300), 0.5, compression="none")
    with open_slide(path) as slide:
        assert not slide.needs_pyramid
        assert slide.is_prepared
        run(prepare_pyramid_job(slide))
    assert not folder.exists()


def test_which_levels_are_prepared():
    def levels(*sizes, banded=False):
        return [Level((size, size), (1, 1), stored, (256, 256), 0, banded) for size, stored in sizes]

    def prepared(*sizes, **options):
        return [list(run) for run in levels_to_prepare(levels(*sizes, **options))]

    big = (40_000, True)
    made = [(20_000, False), (10_000, False), (5_000, False), (2_500, False)]
    assert prepared(big, *made) == [[2, 3, 4]]
    assert prepared(big, *made, banded=True) == [[1, 2, 3, 4]]
    # gaps of 4x or 8x between stored levels are quick enough; 16x isn't
    assert prepared(big, made[0], (10_000, True)) == [[]][1:]
    assert prepared(big, *made[:2], (5_000, True)) == []
    assert prepared(big, *made[:3], (2_500, True)) == [[2, 3]]
    # small ends are quick
    assert prepared((2_000, True), (1_000, False), (500, False)) == []


def test_the_file_is_replaced_meanwhile(tmp_path):
    path = write_pyramid(tmp_path / "a.tif", noise(2200, 2300), 0.5, tile=256, levels=1, compression="none")
    with open_slide(path) as slide:
        job = prepare_pyramid_job(slide)
        next(job)
        path.write_bytes(path.read_bytes()[:-1] + b"x")
        os.utime(path, (1, 1))
        with pytest.raises(SlideError, match="changed or replaced"):
            run(job)
        assert not list(prepared_folder().glob("*/*.band"))


def test_a_job_may_be_stopped_after_every_megapixel(tmp_path, image, monkeypatch):
    monkeypatch.setattr(_making, "PAUSE_S", 0)
    slide, source = array_slide(tmp_path, [image])
    decoded = [0]
    for _ in prepare_pyramid_job(slide):
        decoded.append(len(source.decoded))
    # a tile of the level between is made of 1024 px squares, 16 tiles of the file
    assert max(np.diff(decoded)) <= 16
