"""Reading regions: geometry of every level, edges, threads, the cache, closing."""

from __future__ import annotations

import gc
import os
import shutil
import threading
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from napari_batchfx.errors import SlideError
from napari_batchfx.slides import _watch, fingerprint, open_slide, set_cache_bytes, tile_cache, write_pyramid
from napari_batchfx.slides.halving import box_half
from napari_batchfx.slides.slide import slide_name

from .array_source import array_slide


@pytest.fixture(scope="module")
def image():
    return np.random.default_rng(0).integers(0, 255, (501, 733, 3), dtype=np.uint8)


@pytest.fixture(scope="module")
def path(image, tmp_path_factory):
    file = tmp_path_factory.mktemp("slides") / "a.tif"
    return write_pyramid(file, image, 0.5, tile=112, levels=(1, 4), compression="deflate")


def mean_2x2(image):
    """A second implementation of the 2x2 box mean: float means of the edge-padded image, rounded half to even."""
    h, w = image.shape[:2]
    padded = np.pad(image, ((0, h % 2), (0, w % 2), (0, 0)), mode="edge").astype(float)
    blocks = padded.reshape(padded.shape[0] // 2, 2, padded.shape[1] // 2, 2, 3)
    return np.rint(blocks.mean(axis=(1, 3))).astype(np.uint8)


@settings(max_examples=30, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.integers(-60, 560), st.integers(-60, 800), st.integers(0, 200), st.integers(0, 200))
def test_any_region_repeats_its_edges(path, image, y, x, h, w):
    padded = np.pad(image, ((900, 900), (900, 900), (0, 0)), mode="edge")
    with open_slide(path) as slide:
        assert np.array_equal(slide.read(0, y, x, h, w), padded[900 + y : 900 + y + h, 900 + x : 900 + x + w])


def test_missing_levels_are_box_means(path, image):
    with open_slide(path) as slide:
        assert [(lv.shape, lv.downsample, lv.stored) for lv in slide.levels] == [
            ((501, 733), (1, 1), True),
            ((251, 367), (2, 2), False),
            ((126, 184), (4, 4), True),
        ]
        assert np.array_equal(slide.read(1, 0, 0, 251, 367), mean_2x2(image))
        assert np.array_equal(slide.read(2, 0, 0, 126, 184), mean_2x2(mean_2x2(image)))
        assert np.array_equal(slide.read(-1, 3, 4, 5, 6), slide.read(2, 3, 4, 5, 6))


def test_made_levels_across_their_tiles(tmp_path):
    """A level that is larger than its 512 px tiles, twice made, equals the means of the whole."""
    image = np.random.default_rng(1).integers(0, 255, (2301, 1203, 3), dtype=np.uint8)
    path = write_pyramid(tmp_path / "a.tif", image, 0.5, tile=256, levels=1, compression="none")
    with open_slide(path) as slide:
        assert [lv.shape for lv in slide.levels] == [(2301, 1203), (1151, 602)]
        assert np.array_equal(slide.read(1, 0, 0, 1151, 602), mean_2x2(image))


def test_no_half_pixel_shift_at_any_level(tmp_path):
    """A dark blob's centre of mass, in micrometres, is the same at every level, stored or made."""
    size, center, sigma = (1500, 1900), (812.3, 1207.8), 25.0
    y, x = (np.arange(n) + 0.5 for n in size)
    blob = np.exp(-((y[:, None] - center[0]) ** 2 + (x[None] - center[1]) ** 2) / (2 * sigma**2))
    image = np.repeat((250 - 200 * blob).round().astype(np.uint8)[..., None], 3, axis=2)
    path = write_pyramid(tmp_path / "a.tif", image, 1.0, tile=256, levels=(1, 4), compression="deflate")
    with open_slide(path) as slide:
        # pixel size 1 um: level-0 pixels are micrometres
        assert len(slide.levels) == 3
        for level, info in enumerate(slide.levels):
            dark = 250.0 - slide.read(level, 0, 0, *info.shape)[..., 0]
            dark[dark < 2] = 0
            rows, cols = ((np.arange(n) + 0.5) * d for n, d in zip(info.shape, info.downsample, strict=True))
            found = (dark.sum(1) @ rows / dark.sum(), dark.sum(0) @ cols / dark.sum())
            assert found == pytest.approx(center, abs=0.1), level


def test_pyramid_is_lazy_named_apart_and_equal(path, image):
    with open_slide(path) as one, open_slide(path) as two:
        arrays = one.pyramid()
        assert [a.shape for a in arrays] == [(*lv.shape, 3) for lv in one.levels]
        assert all(a.dtype == np.uint8 for a in arrays)
        # whole tiles of the file
        assert all(c % 112 == 0 for c in arrays[0].chunks[0][:-1])
        assert not {a.name for a in arrays} & {a.name for a in two.pyramid()}
        assert np.array_equal(arrays[0].compute(), image)
        assert np.array_equal(arrays[0][10:300:3, 7:90, 1].compute(), image[10:300:3, 7:90, 1])
        assert np.array_equal(arrays[1].compute(), one.read(1, 0, 0, *one.levels[1].shape))


def test_chunks_are_1024_to_2048_px_on_the_tiles(real_data):
    with open_slide(real_data("slides/CMU-1-Small-Region.svs")) as slide:
        chunks = slide.pyramid()[0].chunks
        assert chunks[0] == (1200, 1200, 567)
        assert chunks[1] == (1200, 1020)


def test_thumbnail(real_data):
    with open_slide(real_data("slides/CMU-1-Small-Region.svs")) as slide:
        thumb = slide.thumbnail(500)
        assert thumb.shape == (500, 374, 3)
        # mean colour is kept by area means
        full = slide.read(0, 0, 0, *slide.shape).reshape(-1, 3).mean(0)
        assert np.abs(thumb.reshape(-1, 3).mean(0) - full).max() < 1
        assert slide.thumbnail(10**6).shape == (2967, 2220, 3)


def test_many_threads_read_the_same(path, image):
    rng = np.random.default_rng(5)
    boxes = [
        (int(y), int(x)) for y, x in zip(rng.integers(0, 400, 200), rng.integers(0, 600, 200), strict=True)
    ]
    with open_slide(path) as slide, ThreadPoolExecutor(8) as pool:
        got = list(pool.map(lambda p: slide.read(0, p[0], p[1], 90, 120), boxes))
    assert all(
        np.array_equal(g, image[y : y + 90, x : x + 120]) for g, (y, x) in zip(got, boxes, strict=True)
    )


def test_closed_slide_says_so_and_leaves_no_tiles(path):
    slide = open_slide(path)
    array = slide.pyramid()[0]
    slide.read(1, 0, 0, 100, 100)
    token = slide._token
    assert any(key[0] == token for key in tile_cache()._tiles)
    slide.close()
    slide.close()
    assert slide.is_closed
    assert not any(key[0] == token for key in tile_cache()._tiles)
    for act in (lambda: slide.read(0, 0, 0, 5, 5), slide.pyramid, slide.thumbnail, array.compute):
        with pytest.raises(SlideError, match=r"a\.tif is closed"):
            act()


def test_reads_are_the_callers_own(path, image):
    with open_slide(path) as slide:
        slide.read(0, 0, 0, 50, 50)[:] = 0
        assert np.array_equal(slide.read(0, 0, 0, 50, 50), image[:50, :50])


def test_shared_cache_stays_in_its_bound(path):
    before = tile_cache().max_bytes
    try:
        set_cache_bytes(200_000)
        with open_slide(path) as slide:
            slide.read(0, 0, 0, *slide.shape)
            assert 0 < tile_cache().nbytes <= 200_000
            set_cache_bytes(0)
            assert tile_cache().nbytes == 0
            assert slide.read(1, 0, 0, 20, 20).shape == (20, 20, 3)
    finally:
        set_cache_bytes(before)


def test_fingerprint_is_the_content_not_the_path(path, tmp_path):
    copy = tmp_path / "other name.svs"
    copy.write_bytes(path.read_bytes())
    changed = tmp_path / "changed.tif"
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    changed.write_bytes(data)
    first = fingerprint(path)
    assert len(first) == 32
    assert int(first, 16) >= 0
    assert fingerprint(copy) == first
    assert fingerprint(changed) != first
    with open_slide(path) as slide:
        assert slide.fingerprint == first


def test_fingerprint_of_a_large_file_sees_its_pixels(tmp_path):
    data = np.random.default_rng(0).integers(0, 255, 9_000_000, dtype=np.uint8)
    one, two = tmp_path / "a", tmp_path / "b"
    data.tofile(one)
    data[3_000_000:3_200_000] ^= 255
    data.tofile(two)
    assert fingerprint(one) != fingerprint(two)


def test_info_is_plain(path):
    with open_slide(path) as slide:
        info = slide.info()
    assert info["shape"] == (501, 733)
    assert info["extent_um"] == (250.5, 366.5)
    assert str(path.parent) not in str(info)


@pytest.mark.parametrize(
    ("file", "name"), [("a.ome.tif", "a"), ("A.1042.svs", "A.1042"), ("x.OME.TIFF", "x"), ("b.png", "b")]
)
def test_names(file, name, tmp_path):
    assert slide_name(tmp_path / file) == name


@pytest.mark.parametrize("shape", [(1, 1), (1, 2), (2, 1), (3, 3), (64, 64), (127, 64), (63, 129)])
def test_halves_of_any_size_are_means(shape):
    image = np.random.default_rng(0).integers(0, 256, (*shape, 3), dtype=np.uint8)
    image.setflags(write=False)
    assert np.array_equal(box_half(image), mean_2x2(image))
    assert np.array_equal(box_half(image[:, ::-1]), mean_2x2(image[:, ::-1]))


def test_box_half_rounds_half_to_even():
    image = np.array([[[0], [1]], [[0], [1]]], np.uint8).repeat(3, axis=2)
    assert box_half(image).tolist() == [[[0, 0, 0]]]
    assert box_half(image + 1).tolist() == [[[2, 2, 2]]]
    noise = np.random.default_rng(0).integers(0, 255, (512, 512, 3), dtype=np.uint8)
    small = noise
    for _ in range(4):
        small = box_half(small)
    # no drift in brightness over the levels
    assert small.mean() == pytest.approx(noise.mean(), abs=0.1)


def test_one_decoding_for_many_waiting_threads():
    from napari_batchfx.slides import TileCache

    cache = TileCache(10_000)
    calls = []
    start = threading.Barrier(6)
    go = threading.Event()

    def make():
        calls.append(1)
        go.wait(5)
        return np.zeros((10, 10, 3), np.uint8)

    def ask():
        start.wait()
        return cache.get(("s", 0, 0, 0), make)

    with ThreadPoolExecutor(6) as pool:
        futures = [pool.submit(ask) for _ in range(6)]
        go.set()
        tiles = [f.result() for f in futures]
    assert len(calls) == 1
    assert all(t is tiles[0] for t in tiles)


def test_cache_drops_the_oldest_and_survives_a_failed_decoding():
    from napari_batchfx.slides import TileCache

    cache = TileCache(700)
    tile = {k: (lambda: np.zeros((10, 10, 3), np.uint8)) for k in "abc"}
    cache.get(("a",), tile["a"])
    cache.get(("b",), tile["b"])
    cache.get(("a",), tile["a"])
    cache.get(("c",), tile["c"])
    assert ("b",) not in cache
    assert ("a",) in cache
    with pytest.raises(SlideError):
        cache.get(("d",), lambda: (_ for _ in ()).throw(SlideError("bad")))
    assert cache.get(("d",), tile["a"]).shape == (10, 10, 3)
    # larger than the whole cache: handed out, not kept
    assert cache.get(("e",), lambda: np.zeros((100, 100, 3), np.uint8)).shape == (100, 100, 3)
    assert ("e",) not in cache
    with pytest.raises(ValueError, match="read-only"):
        cache.get(("a",), tile["a"])[:] = 1


@pytest.fixture
def every_read_looks(monkeypatch):
    """As if a second passed between any two reads."""
    monkeypatch.setattr(_watch, "EVERY_S", 0.0)


@pytest.fixture
def own_copy(path, tmp_path):
    return shutil.copy(path, tmp_path / "own.tif")


@pytest.mark.usefixtures("every_read_looks")
def test_a_slide_that_vanishes_says_so_and_works_when_it_is_back(own_copy, image):
    with open_slide(own_copy) as slide:
        slide.read(0, 0, 0, 500, 700)
        own_copy.rename(own_copy.with_suffix(".moved"))
        for _ in range(2):
            # cached tiles don't hide it
            with pytest.raises(SlideError, match=r"^own\.tif: the file is gone"):
                slide.read(0, 0, 0, 20, 20)
        own_copy.with_suffix(".moved").rename(own_copy)
        assert np.array_equal(slide.read(0, 0, 0, 20, 20), image[:20, :20])


@pytest.mark.usefixtures("every_read_looks")
@pytest.mark.parametrize("how", ["replaced", "overwritten", "truncated", "a folder now"])
def test_a_slide_that_is_another_one_now_is_never_read(own_copy, image, how, tmp_path):
    with open_slide(own_copy) as slide:
        slide.read(0, 0, 0, 20, 20)
        if how == "replaced":
            other = write_pyramid(tmp_path / "x.tif", image[::-1], 0.5, tile=112, compression="deflate")
            os.replace(other, own_copy)
        elif how == "overwritten":
            own_copy.write_bytes(own_copy.read_bytes()[::-1])
        elif how == "truncated":
            os.truncate(own_copy, own_copy.stat().st_size // 2)
        else:
            own_copy.unlink()
            own_copy.mkdir()
        with pytest.raises(SlideError, match=r"^own\.tif: the file was changed or replaced.*open it again"):
            slide.read(0, 100, 100, 20, 20)


def test_the_file_is_looked_at_once_a_second_at_most(own_copy, monkeypatch):
    looks = []
    monkeypatch.setattr(_watch.FileWatch, "_is_unchanged", lambda self: looks.append(1) or True)
    with open_slide(own_copy) as slide:
        for k in range(200):
            slide.read(0, k, k, 5, 5)
    assert len(looks) <= 2


def test_reading_while_another_thread_closes(path, image):
    """Pixels or one sentence, never anything else; and nothing stays in the cache."""
    for k in range(15):
        slide = open_slide(path)
        go = threading.Barrier(3)
        problems = []

        def read(seed, slide=slide, go=go, problems=problems):
            rng = np.random.default_rng(seed)
            go.wait()
            try:
                for _ in range(40):
                    y, x = int(rng.integers(0, 400)), int(rng.integers(0, 600))
                    if not np.array_equal(slide.read(0, y, x, 80, 90), image[y : y + 80, x : x + 90]):
                        problems.append("wrong pixels")
                    slide.read(1, y // 2, x // 2, 40, 40)
            except SlideError as error:
                if "closed" not in str(error):
                    problems.append(error)
            except BaseException as error:  # noqa: BLE001 - whatever it is, it is what the test looks for
                problems.append(error)

        threads = [threading.Thread(target=read, args=(seed,)) for seed in (2 * k, 2 * k + 1)]
        for thread in threads:
            thread.start()
        go.wait()
        slide.close()
        for thread in threads:
            thread.join()
        assert problems == []
        assert not any(key[0] == slide._token for key in tile_cache()._tiles)


def test_opening_and_closing_leaves_nothing_behind(path):
    def handles():
        return len(os.listdir("/proc/self/fd")) if os.path.exists("/proc/self/fd") else 0

    def cycle():
        with open_slide(path) as slide:
            slide.read(1, 0, 0, 100, 100)
            # in this thread: a pool of dask's starts threads when it likes
            slide.pyramid(pending="blank")[2].compute(scheduler="synchronous")

    cycle()
    gc.collect()
    before = (handles(), threading.active_count(), tile_cache().nbytes, len(tile_cache()))
    for _ in range(200):
        cycle()
    assert (handles(), threading.active_count(), tile_cache().nbytes, len(tile_cache())) == before


def test_metadata_of_the_source(tmp_path, image):
    slide, _ = array_slide(
        tmp_path,
        [image],
        scan_date="2009-12-29T09:59:15",
        modality="fluorescence",
        private={"barcode": "S09-1234"},
    )
    assert (slide.scan_date, slide.modality) == ("2009-12-29T09:59:15", "fluorescence")
    assert slide.private() == {"barcode": "S09-1234"}
    assert "S09-1234" not in str(slide.info()) + repr(slide)
    assert slide.info()["scan_date"] == "2009-12-29T09:59:15"
    # a source without the optional members still makes a slide
    assert slide.associated == ()
    assert slide.damage == ()
    with pytest.raises(SlideError, match="has no image called 'label'; it has none"):
        slide.associated_image("label")


def test_label_and_macro_are_read_only_by_name(tmp_path, image):
    slide, source = array_slide(tmp_path, [image])
    asked = []
    source.associated = ("label", "macro")
    source.associated_image = lambda name: asked.append(name) or image[:50, :60]
    named = type(slide)(slide.path, source)
    named.read(0, 0, 0, 10, 10)
    assert named.info()["associated"] == ("label", "macro")
    assert asked == []
    assert named.associated_image("macro").shape == (50, 60, 3)
    assert asked == ["macro"]
    named.close()
    with pytest.raises(SlideError, match="is closed"):
        named.associated_image("macro")
