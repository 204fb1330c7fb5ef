"""Stores of version 1 open, read and go on; their writer is frozen here as it was."""

import json

import numpy as np
import pytest

from napari_batchfx.errors import FeatureError
from napari_batchfx.features import FeatureStore

from .test_store import list_entries, vectors

SLIDE, DIM = "a" * 32, 5
KEY = {"fingerprint": SLIDE, "encoder": "encoder/key", "grid": "64px-0.5um-step64", "stain": "none"}
N = 1500
CELLS = np.random.default_rng(5).permutation(np.argwhere(np.ones((45, 50), bool)))[:N]


def name_of(encoder, grid, stain):
    import hashlib

    return hashlib.sha256("\n".join((encoder, grid, stain)).encode()).hexdigest()[:24]


def write_version_1(folder, cells=CELLS, batch=170):
    """As version 1 did, with zarr: rows in the order they came in, 256 a chunk, 1,024 cells a chunk."""
    import zarr
    from zarr.codecs import Crc32cCodec

    root = zarr.create_group(str(folder), attributes={"format": "napari-batchfx features", "version": 1})
    entry = f"{SLIDE}/{name_of(KEY['encoder'], KEY['grid'], KEY['stain'])}"
    group = root.create_group(entry, attributes=KEY, overwrite=True)
    check = [Crc32cCodec()]
    features = group.create_array(
        "features", shape=(0, DIM), chunks=(256, DIM), dtype="float32", fill_value=np.nan, compressors=check
    )
    places = group.create_array(
        "cells", shape=(0, 2), chunks=(1024, 2), dtype="int32", fill_value=-1, compressors=check
    )
    for start in range(0, len(cells), batch):
        stop = min(start + batch, len(cells))
        for array in (features, places):
            if array.shape[0] < stop:
                array.resize((-(-stop // 4096) * 4096, array.shape[1]))
        features[start:stop] = vectors(cells[start:stop], DIM)
        places[start:stop] = cells[start:stop]
    return folder / entry


@pytest.fixture
def place(tmp_path):
    return write_version_1(tmp_path / "features.zarr")


def opened(tmp_path, dim=DIM):
    store = FeatureStore(tmp_path / "features.zarr")
    return store.array(*KEY.values(), dim=dim)


def test_it_is_read_where_it_lies(place, tmp_path):
    before = {p: p.read_bytes() for p in sorted(tmp_path.rglob("*")) if p.is_file()}
    array = opened(tmp_path, dim=None)
    assert (array.n, array.dim) == (N, DIM)
    assert array.has(CELLS).all()
    assert array.done_cells().tolist() == sorted(CELLS.tolist())
    np.testing.assert_array_equal(array.read(CELLS), vectors(CELLS, DIM))
    assert array.append(CELLS[:9], np.zeros((9, DIM))) == 0
    (row,) = list_entries(FeatureStore(tmp_path / "features.zarr"))
    assert {key: row[key] for key in KEY} == KEY
    assert (row["n"], row["dim"], row["damaged"]) == (N, DIM, None)
    assert row["nbytes"] == sum(p.stat().st_size for p in place.rglob("*") if p.is_file())
    assert {p: p.read_bytes() for p in sorted(tmp_path.rglob("*")) if p.is_file()} == before
    with pytest.raises(FeatureError, match="holds 5 numbers"):
        opened(tmp_path, dim=6)


def test_it_goes_on(place, tmp_path):
    old = {p: p.read_bytes() for p in sorted(place.rglob("*")) if p.is_file() and p.name != "zarr.json"}
    array = opened(tmp_path)
    everywhere = np.argwhere(np.ones((60, 60), bool))
    assert array.append(everywhere, vectors(everywhere, DIM)) == 3600 - N
    for one in (array, opened(tmp_path, dim=None)):
        assert one.n == 3600
        np.testing.assert_array_equal(one.read(everywhere), vectors(everywhere, DIM))
        assert one.done_cells().tolist() == everywhere.tolist()
    assert all(p.read_bytes() == data for p, data in old.items())
    store = FeatureStore(tmp_path / "features.zarr")
    assert store.nbytes == sum(p.stat().st_size for p in place.rglob("*") if p.is_file())
    # the version of before says "newer" and doesn't write into it
    assert json.loads((tmp_path / "features.zarr" / "zarr.json").read_text())["attributes"]["version"] == 2
    store.clear()
    assert store.keys() == []
    assert not place.exists()


@pytest.mark.parametrize(
    "what", ["features/c/1/0 flipped", "features/c/1/0 short", "features/c/1/0 gone", "cells/c/0/0 flipped"]
)
def test_a_damaged_chunk_is_filled_again(place, tmp_path, what):
    name, how = what.split()
    piece = place / name
    if how == "flipped":
        data = bytearray(piece.read_bytes())
        data[100] ^= 1
        piece.write_bytes(data)
    elif how == "short":
        piece.write_bytes(piece.read_bytes()[:50])
    else:
        piece.unlink()
    lost = CELLS[256:512] if name.startswith("features") else CELLS[:1024]
    array = opened(tmp_path)
    there = array.has(CELLS)
    assert sorted(CELLS[~there].tolist()) == sorted(lost.tolist())
    np.testing.assert_array_equal(array.read(CELLS[there]), vectors(CELLS[there], DIM))
    assert array.append(CELLS, vectors(CELLS, DIM)) == len(lost)
    for one in (array, opened(tmp_path)):
        assert one.has(CELLS).all()
        assert one.n == N
        np.testing.assert_array_equal(one.read(CELLS), vectors(CELLS, DIM))


@pytest.mark.parametrize("name", ["zarr.json", "cells/zarr.json", "features/zarr.json"])
def test_a_torn_description_loses_nothing(place, tmp_path, name):
    (place / name).write_text("{ torn")
    array = opened(tmp_path)
    assert array.n == N
    np.testing.assert_array_equal(array.read(CELLS), vectors(CELLS, DIM))
    array.append([[70, 70]], vectors([[70, 70]], DIM))
    assert opened(tmp_path).n == N + 1


def test_one_whose_making_was_cut_off_is_made_again(tmp_path):
    place = write_version_1(tmp_path / "features.zarr", cells=CELLS[:0])
    import shutil

    shutil.rmtree(place / "cells")
    array = opened(tmp_path)
    assert array.n == 0
    assert array.append(CELLS, vectors(CELLS, DIM)) == N
    assert opened(tmp_path).n == N


def test_killed_in_the_middle_of_a_row(tmp_path):
    """Version 1 wrote features, then cells: rows without a cell were never done."""
    place = write_version_1(tmp_path / "features.zarr", cells=CELLS[:300])
    import zarr

    features = zarr.open_array(str(tmp_path / "features.zarr"), path=f"{SLIDE}/{place.name}/features")
    features[300:310] = 7
    array = opened(tmp_path)
    assert array.n == 300
    assert array.append(CELLS, vectors(CELLS, DIM)) == N - 300
    np.testing.assert_array_equal(opened(tmp_path).read(CELLS), vectors(CELLS, DIM))
