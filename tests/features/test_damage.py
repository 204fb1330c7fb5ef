"""What is damaged on the disk is found, counts as not done, and is filled again; the rest stays as it is."""

import numpy as np
import pytest

from napari_batchfx.encoders import ColourStatistics
from napari_batchfx.errors import FeatureError
from napari_batchfx.features import FeatureStore, embed, embed_job
from napari_batchfx.features._blocks import index_bytes

from .test_store import SLIDE, list_entries, vectors

DIM = 40  # 32 x 32 tiles would be 160 kB a file
CELLS = np.argwhere(np.ones((70, 70), bool))
RECORD = 4 * DIM + 4
BLOCK = CELLS[(CELLS // 32 == [1, 0]).all(axis=1)]


def entry(folder, encoder="one"):
    return FeatureStore(folder).array(SLIDE, encoder, "grid", dim=DIM)


@pytest.fixture
def folder(tmp_path):
    for name in ("one", "two"):
        entry(tmp_path / "features.zarr", name).append(CELLS, vectors(CELLS, DIM))
    return tmp_path / "features.zarr"


def place(folder, encoder="one"):
    """The entry's own folder."""
    rows = [p for p in folder.glob("*/*/zarr.json") if f'"encoder": "{encoder}"' in p.read_text()]
    assert len(rows) == 1
    return rows[0].parent


def flip(file, at):
    data = bytearray(file.read_bytes())
    data[at] ^= 1
    file.write_bytes(data)


def spoil(folder, how):
    """Damage the block of rows 32.., columns 0..; how many of its tiles are lost."""
    file = place(folder) / "vectors/c/1/0/0"
    if how == "a number flipped":
        flip(file, 5 * RECORD + 100)
        return BLOCK[5:6]
    if how == "a checksum flipped":
        flip(file, 6 * RECORD - 1)
        return BLOCK[5:6]
    if how == "the index flipped":
        flip(file, len(file.read_bytes()) - index_bytes(32) + 3)
    elif how == "truncated":
        file.write_bytes(file.read_bytes()[: 500 * RECORD])
    elif how == "empty":
        file.write_bytes(b"")
    else:
        file.unlink()
    return BLOCK


HOW = ["a number flipped", "a checksum flipped", "the index flipped", "truncated", "empty", "gone"]


@pytest.mark.parametrize("how", HOW)
@pytest.mark.parametrize("asked", ["has", "read"])
def test_damaged_vectors_count_as_not_done_and_are_filled(folder, how, asked):
    watching = entry(folder)
    assert watching.has(CELLS).all()
    lost = spoil(folder, how)
    array = entry(folder)
    assert array.n == len(CELLS)  # nothing was read yet
    if asked == "has":
        there = array.has(CELLS)
    else:
        with pytest.raises(FeatureError, match="damaged on the disk and left out; encode again") as error:
            array.read(CELLS)
        assert f"{len(lost):,} tile" in str(error.value)
        assert "\n" not in str(error.value)
        there = array.has(CELLS, verify=False)
    assert CELLS[~there].tolist() == lost.tolist()
    assert array.n == len(CELLS) - len(lost)
    assert len(array.done_cells()) == array.n
    said = array.damage_said()
    assert len(said) == 1
    assert f"{len(lost):,} tile" in said[0]
    assert array.damage_said() == []
    # a reader that had verified it before the damage finds it, too
    assert (~watching.has(CELLS)).sum() == len(lost)
    # the others are right, also in the same block
    np.testing.assert_array_equal(array.read(CELLS[there]), vectors(CELLS[there], DIM))
    assert array.append(CELLS, vectors(CELLS, DIM)) == len(lost)
    for opened in (array, watching, entry(folder)):
        assert opened.has(CELLS).all()
        np.testing.assert_array_equal(opened.read(CELLS), vectors(CELLS, DIM))
        assert opened.n == len(CELLS)
    assert watching.append(CELLS, vectors(CELLS, DIM)) == 0
    two = entry(folder, "two")
    assert two.has(CELLS).all()
    assert two.damage_said() == []


def test_adding_to_a_damaged_block_keeps_what_is_whole(folder):
    """Nobody looked before the next batch came: no vector gets a new checksum that had none that fits."""
    array = entry(folder)
    array.append([[71, 3]], vectors([[71, 3]], DIM))
    block = place(folder) / "vectors/c/2/0/0"
    flip(block, 100)  # of tile (64, 0)
    assert entry(folder).append([[71, 4]], vectors([[71, 4]], DIM)) == 1
    again = entry(folder)
    assert not again.has([[64, 0]], verify=False)[0]
    assert again.n == len(CELLS) + 2 - 1
    cells = again.done_cells()
    np.testing.assert_array_equal(again.read(cells), vectors(cells, DIM))


@pytest.mark.parametrize("name", ["done/c.0.0", "zarr.json", "vectors/zarr.json", "done/zarr.json"])
@pytest.mark.parametrize("how", ["torn", "gone", "flipped"])
def test_a_damaged_index_or_description_loses_nothing(folder, name, how):
    file = place(folder) / name
    if how == "torn":
        file.write_bytes(file.read_bytes()[: file.stat().st_size // 2])
    elif how == "flipped":
        flip(file, 20)
    else:
        file.unlink()
    array = entry(folder)
    assert array.n == len(CELLS)
    np.testing.assert_array_equal(array.read(CELLS), vectors(CELLS, DIM))
    assert array.append([[80, 80]], vectors([[80, 80]], DIM)) == 1
    again = FeatureStore(folder).array(SLIDE, "one", "grid")
    assert again.n == len(CELLS) + 1
    assert [row["damaged"] for row in list_entries(FeatureStore(folder))] == [None, None]
    import zarr

    assert zarr.open_group(str(place(folder)), mode="r")["done"][:].sum() == len(CELLS) + 1


def test_an_entry_that_does_not_say_what_it_is_of_is_listed_and_can_be_cleared(folder):
    (place(folder) / "zarr.json").write_text("{ torn")
    store = FeatureStore(folder)
    rows = sorted(list_entries(store), key=lambda row: row["damaged"] is None)
    assert "damaged zarr.json" in rows[0]["damaged"]
    assert rows[0]["nbytes"] > 4 * DIM * len(CELLS)
    assert (rows[1]["damaged"], rows[1]["n"]) == (None, len(CELLS))
    store.clear(SLIDE)
    assert store.array(SLIDE, "one", "grid", dim=DIM).n == 0


def test_a_job_fills_what_is_damaged_and_says_it_once(grid, tmp_path):
    folder = tmp_path / "features.zarr"
    clean = embed(grid, "colour-statistics", cells=grid.all_cells(), store=FeatureStore(folder))
    file = next(folder.glob("*/*/vectors/c/0/0/0"))
    flip(file, 3 * (63 * 4 + 4) + 9)
    flip(file, 7 * (63 * 4 + 4) + 9)
    store, texts, n = FeatureStore(folder), [], 0
    job = embed_job(grid, ColourStatistics(), cells=grid.all_cells(), store=store)
    for progress in job:
        texts.append(progress.what)
        n += len(progress.partial) if progress.partial is not None else 0
    assert n == len(grid.all_cells())
    said = [text for text in texts if "damaged on the disk" in text]
    assert len(said) == 1
    assert "2 tiles" in said[0]
    assert said[0].startswith("A-1042: ")
    assert store.damage_said() == []
    again = embed(grid, "colour-statistics", cells=grid.all_cells(), store=FeatureStore(folder))
    np.testing.assert_array_equal(again.X, clean.X)
