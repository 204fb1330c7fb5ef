"""A disk that is really full: one sentence, what was stored stays right, and it goes on when there is room."""

import contextlib
import shutil
import subprocess
import sys

import numpy as np
import pytest

from napari_batchfx.encoders import ColourStatistics
from napari_batchfx.errors import FeatureError
from napari_batchfx.features import FeatureStore, embed

from .test_store import SLIDE, vectors

DIM = 1024


@pytest.fixture
def small_disk(tmp_path):
    """A file system of 3 MB."""
    place = tmp_path / "disk"
    place.mkdir()
    mount = shutil.which("mount")
    if mount is None or not sys.platform.startswith("linux"):
        pytest.skip("a small file system can be mounted on Linux only")
    done = subprocess.run(
        [mount, "-t", "tmpfs", "-o", "size=3m", "tmpfs", str(place)], capture_output=True, text=True
    )
    if done.returncode:
        pytest.skip(f"may not mount here: {done.stderr.strip()}")
    yield place
    subprocess.run(["umount", str(place)], check=True)


def fill_up(place):
    """Another file takes all there is."""
    film = place / "film.mov"
    with film.open("wb", buffering=0) as file, contextlib.suppress(OSError):
        while True:
            file.write(bytes(4096))
    return film


def test_full_then_room_again(small_disk):
    other = small_disk / "film.mov"
    other.write_bytes(bytes(1_000_000))
    store = FeatureStore(small_disk / "features.zarr")
    array = store.array(SLIDE, "encoder", "grid", dim=DIM)
    cells = np.argwhere(np.ones((40, 40), bool))
    stored, said = 0, ""
    while not said:
        some = cells[stored : stored + 10]
        try:
            stored += array.append(some, vectors(some, DIM))
        except FeatureError as error:
            said = str(error)
    assert said.endswith(": the disk is full; free some room, the features up to here are kept.")
    assert 200 < stored < 500
    for opened in (array, FeatureStore(small_disk / "features.zarr").array(SLIDE, "encoder", "grid")):
        assert opened.n == stored
        assert opened.has(cells).sum() == stored
        np.testing.assert_array_equal(opened.read(opened.done_cells()), vectors(opened.done_cells(), DIM))
    assert store.locks() == []
    assert not any((small_disk / "features.zarr" / ".writing").iterdir())
    with pytest.raises(FeatureError, match="the disk is full"):
        array.append(cells[stored:], vectors(cells[stored:], DIM))
    other.unlink()
    more = cells[stored : stored + 100]
    assert array.append(more, vectors(more, DIM)) == 100
    again = FeatureStore(small_disk / "features.zarr").array(SLIDE, "encoder", "grid")
    assert again.n == stored + 100
    np.testing.assert_array_equal(again.read(cells[: stored + 100]), vectors(cells[: stored + 100], DIM))


def test_a_job_on_a_full_disk_stops_and_goes_on(small_disk, grid):
    store, cells = FeatureStore(small_disk / "features.zarr"), grid.all_cells()
    clean = embed(grid, ColourStatistics(), cells=cells)
    embed(grid, ColourStatistics(), cells=cells[:40], store=store)
    film = fill_up(small_disk)
    with pytest.raises(FeatureError, match="the disk is full"):
        embed(grid, ColourStatistics(), cells=cells, store=store)
    array = store.array(grid.slide.fingerprint, ColourStatistics().key, grid.key)
    np.testing.assert_array_equal(array.read(cells[:40]), clean.X[:40])
    assert store.locks() == []
    film.unlink()
    np.testing.assert_array_equal(embed(grid, ColourStatistics(), cells=cells, store=store).X, clean.X)


def test_a_store_cannot_be_made_on_a_full_disk(small_disk):
    film = fill_up(small_disk)
    entry = FeatureStore(small_disk / "features.zarr").array(SLIDE, "e", "g", dim=3)
    with pytest.raises(FeatureError, match=r"features.zarr.*: the disk is full"):
        entry.append([[0, 0]], np.ones((1, 3), np.float32))
    film.unlink()
    entry.append([[0, 0]], np.ones((1, 3), np.float32))
    assert FeatureStore(small_disk / "features.zarr").array(SLIDE, "e", "g").has([[0, 0]]).all()


def test_a_look_makes_no_store(tmp_path):
    store = FeatureStore(tmp_path / "features.zarr")
    entry = store.array(SLIDE, "e", "g", dim=3)
    assert not entry.has([[0, 0]]).any()
    assert (store.keys(), store.nbytes, store.locks(), entry.n) == ([], 0, [], 0)
    store.clear()
    assert not store.path.exists()
    entry.append([[0, 0]], np.ones((1, 3), np.float32))
    assert FeatureStore(store.path).array(SLIDE, "e", "g").n == 1
