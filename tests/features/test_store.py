"""The store: any order, any batches, threads, other processes, damage."""

import threading

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from napari_batchfx.errors import FeatureError
from napari_batchfx.features import FeatureStore

SLIDE = "a" * 32


def list_entries(store):
    return store.keys()


def vectors(cells, dim=4):
    """Features that say which cell they are of."""
    cells = np.asarray(cells, dtype=np.float32).reshape(-1, 2)
    return np.stack([cells[:, 0], cells[:, 1], *([cells[:, 0] * 1000 + cells[:, 1]] * (dim - 2))], axis=1)


def entry(store, **more):
    return store.array(SLIDE, "encoder/key", "64px-0.5um-step64", dim=4, **more)


@pytest.fixture(params=["memory", "disk"])
def store(request, tmp_path):
    return FeatureStore(None if request.param == "memory" else tmp_path / "features.zarr")


@settings(max_examples=25, deadline=None)
@given(
    st.lists(st.lists(st.tuples(st.integers(0, 40), st.integers(0, 40)), max_size=30), max_size=12),
    st.booleans(),
)
def test_any_order_any_batches(tmp_path_factory, batches, on_disk):
    path = tmp_path_factory.mktemp("s") / "features.zarr" if on_disk else None
    store = FeatureStore(path)
    array = entry(store)
    done = set()
    for batch in batches:
        new = set(batch) - done
        assert array.append(np.array(batch, dtype=int).reshape(-1, 2), vectors(batch)) == len(new)
        done |= new
        assert array.n == len(done)
    for opened in (array, *([entry(FeatureStore(path))] if on_disk else [])):
        assert [tuple(c) for c in opened.done_cells().tolist()] == sorted(done)
        some = np.array(sorted(done, key=hash), dtype=int).reshape(-1, 2)
        np.testing.assert_array_equal(opened.read(some), vectors(some))
        everywhere = np.argwhere(np.ones((42, 42), bool))
        assert opened.has(everywhere).tolist() == [tuple(c) in done for c in everywhere.tolist()]


def test_many_rows_cross_chunks(store):
    array = entry(store)
    cells = np.random.default_rng(0).permutation(np.argwhere(np.ones((30, 40), bool)))
    for start in range(0, 1200, 170):
        array.append(cells[start : start + 170], vectors(cells[start : start + 170]))
    some = cells[::-7]
    np.testing.assert_array_equal(array.read(some), vectors(some))
    np.testing.assert_array_equal(array.read(some[[3, 3, 0]]), vectors(some[[3, 3, 0]]))
    assert 1200 * (16 + 4) < array.nbytes == store.nbytes < 1200 * (16 + 4) + 60_000


def test_what_is_done_stays_as_it_is(store, tmp_path):
    array = entry(store)
    array.append([[1, 2]], vectors([[1, 2]]))
    assert array.append([[1, 2], [1, 2]], np.zeros((2, 4))) == 0
    assert array.append([[5, 5], [1, 2], [5, 5]], np.array([[7] * 4, [8] * 4, [9] * 4])) == 1
    np.testing.assert_array_equal(array.read([[1, 2], [5, 5]]), [*vectors([[1, 2]]), [7] * 4])
    assert array.n == 2


def test_entries_do_not_mix(store):
    keys = [("a" * 32, "e1", "g1", "none"), ("a" * 32, "e2", "g1", "none"), ("a" * 32, "e1", "g2", "none")]
    keys += [("a" * 32, "e1", "g1", "macenko/1"), ("b" * 32, "e1", "g1", "none")]
    for i, key in enumerate(keys):
        store.array(*key, dim=i + 1).append([[i, i]], np.full((1, i + 1), i))
    for i, key in enumerate(keys):
        assert store.array(*key).done_cells().tolist() == [[i, i]]
        assert store.array(*key).read([[i, i]]).tolist() == [[i] * (i + 1)]
    listed = {
        (r["fingerprint"], r["encoder"], r["grid"], r["stain"]): (r["n"], r["dim"], r["damaged"])
        for r in list_entries(store)
    }
    assert listed == {key: (1, i + 1, None) for i, key in enumerate(keys)}
    store.clear("a" * 32)
    assert [r["fingerprint"] for r in list_entries(store)] == ["b" * 32]
    store.clear()
    assert store.keys() == []
    assert store.nbytes == 0
    assert store.array(*keys[0], dim=1).n == 0


def test_refusals(store):
    with pytest.raises(FeatureError, match="encode it first"):
        store.array(SLIDE, "no", "such")
    array = entry(store)
    with pytest.raises(FeatureError, match="4 numbers"):
        store.array(SLIDE, "encoder/key", "64px-0.5um-step64", dim=5)
    with pytest.raises(FeatureError, match=r"need features \(1, 4\)"):
        array.append([[0, 0]], np.zeros((1, 5)))
    with pytest.raises(FeatureError, match="not finite"):
        array.append([[0, 0], [0, 1]], [[0, 0, 0, 0], [0, 0, np.nan, 0]])
    assert array.n == 0
    with pytest.raises(FeatureError, match="negative"):
        array.append([[-1, 0]], np.zeros((1, 4)))
    with pytest.raises(FeatureError, match=r"aren't encoded yet.*\(3, 4\)"):
        array.read([[3, 4]])
    with pytest.raises(FeatureError, match="row and column"):
        array.has([1, 2, 3])
    with pytest.raises(FeatureError, match="fingerprint"):
        store.array("../x", "e", "g", dim=1)
    assert array.read([]).shape == (0, 4)
    assert array.has([]).shape == (0,)
    assert array.append([], np.zeros((0, 4))) == 0


def test_a_deleted_entry_says_so(store):
    array = entry(store)
    array.append([[0, 0]], np.zeros((1, 4)))
    store.clear()
    with pytest.raises(FeatureError, match="deleted"):
        array.append([[0, 0]], np.zeros((1, 4)))
    assert not array.has([[0, 0]])[0]


def test_threads_fill_one_entry(store):
    cells = np.argwhere(np.ones((24, 25), bool))
    order = np.random.default_rng(0)
    parts = [order.permutation(cells) for _ in range(4)]
    problems = []

    def fill(part):
        try:
            array = entry(store)
            for start in range(0, len(part), 50):
                array.append(part[start : start + 50], vectors(part[start : start + 50]))
                array.read(array.done_cells()[:10])
        except FeatureError as error:
            problems.append(error)

    threads = [threading.Thread(target=fill, args=(p,)) for p in parts]
    for t in threads:
        t.start()
    for t in threads:
        t.join()
    assert not problems
    assert entry(store).n == 600
    np.testing.assert_array_equal(entry(store).read(cells), vectors(cells))


def test_two_stores_on_one_folder_see_each_other(tmp_path):
    """As two programs do: the window and the command line on the same study."""
    one, two = (entry(FeatureStore(tmp_path / "features.zarr")) for _ in range(2))
    for i in range(0, 300, 3):
        one.append([[i, 0]], vectors([[i, 0]]))
        assert two.append([[i, 0], [i, 1]], vectors([[i, 0], [i, 1]])) == 1
    for i in range(0, 300, 7):
        one.append([[i, 2]], vectors([[i, 2]]))
    fresh = entry(FeatureStore(tmp_path / "features.zarr"))
    cells = fresh.done_cells()
    assert len(cells) == 100 * 2 + 43
    np.testing.assert_array_equal(fresh.read(cells), vectors(cells))
    np.testing.assert_array_equal(one.read(one.done_cells()), vectors(one.done_cells()))


def test_a_folder_of_something_else(tmp_path):
    (tmp_path / "photos").mkdir()
    (tmp_path / "photos" / "cat.jpg").write_bytes(b"x")
    with pytest.raises(FeatureError, match=r"photos.*no feature store"):
        FeatureStore(tmp_path / "photos")
    (tmp_path / "file.zarr").write_text("x")
    with pytest.raises(FeatureError, match="is a file"):
        FeatureStore(tmp_path / "file.zarr")
    import zarr

    zarr.create_group(str(tmp_path / "other.zarr"))
    with pytest.raises(FeatureError, match="something else"):
        FeatureStore(tmp_path / "other.zarr")
    zarr.create_group(
        str(tmp_path / "newer.zarr"), attributes={"format": "napari-batchfx features", "version": 99}
    )
    with pytest.raises(FeatureError, match="newer"):
        FeatureStore(tmp_path / "newer.zarr")


def test_a_torn_zarr_json_of_the_store_is_made_again_and_one_killed_while_it_was_made(tmp_path):
    folder = tmp_path / "features.zarr"
    entry(FeatureStore(folder)).append([[2, 3]], vectors([[2, 3]]))
    (folder / "zarr.json").write_text("{ torn")
    assert entry(FeatureStore(folder)).read([[2, 3]]).tolist() == vectors([[2, 3]]).tolist()
    (tmp_path / "cut off" / ".writing").mkdir(parents=True)
    (tmp_path / "cut off" / ".writing" / "zarr.1").write_text("{")
    assert FeatureStore(tmp_path / "cut off").keys() == []


def test_it_is_a_plain_zarr(tmp_path):
    """Any zarr 3 reader sees the numbers, which tiles there are, and the spelled-out keys."""
    import zarr

    array = entry(FeatureStore(tmp_path / "features.zarr"))
    cells = np.array([[2, 3], [40, 1], [60, 300]])
    array.append(cells, vectors(cells))
    place = next(p for p in (tmp_path / "features.zarr" / SLIDE).iterdir() if p.is_dir())
    group = zarr.open_group(str(place), mode="r")
    assert group.attrs["encoder"] == "encoder/key"
    assert group["vectors"].dtype == np.float32
    assert group["vectors"].shape == (256, 512, 4)
    assert group["vectors"].shards == (32, 32, 4)
    for row, col in cells.tolist():
        some = group["vectors"][row - 1 : row + 2, col : col + 2]
        assert some[1, 0].tolist() == vectors([[row, col]])[0].tolist()
        assert np.isnan(some).sum() == 5 * 4
    assert np.argwhere(group["done"][:] == 1).tolist() == cells.tolist()
    store = zarr.open_group(str(tmp_path / "features.zarr"), mode="r")
    assert store[f"{SLIDE}/{place.name}/done"][2, 3] == 1


def test_the_size_is_that_of_the_files(tmp_path):
    store = FeatureStore(tmp_path / "features.zarr")
    assert store.nbytes == 0
    rng = np.random.default_rng(0)
    for n, name in ((3, "a"), (700, "b")):
        cells = rng.integers(0, 400, (n, 2))
        array = store.array(SLIDE, name, "grid", dim=40)
        array.append(cells[: n // 2], vectors(cells[: n // 2], 40))
        array.append(cells[n // 2 :], vectors(cells[n // 2 :], 40))
        files = (tmp_path / "features.zarr" / SLIDE).glob("*/**/*")
        assert store.nbytes == sum(file.stat().st_size for file in files if file.is_file())
        assert FeatureStore(tmp_path / "features.zarr").nbytes == store.nbytes
    assert store.nbytes == sum(row["nbytes"] for row in store.keys())  # noqa: SIM118 - no dict
    assert not any((tmp_path / "features.zarr" / ".writing").iterdir())


def test_looking_writes_nothing(tmp_path):
    store = FeatureStore(tmp_path / "features.zarr")
    before = sorted(tmp_path.rglob("*"))
    array = entry(store)
    assert array.n == array.nbytes == store.nbytes == 0
    assert not array.has([[0, 0]])[0]
    assert store.keys() == store.locks() == []
    assert sorted(tmp_path.rglob("*")) == before


def test_a_reader_sees_what_another_adds_and_deletes(tmp_path):
    one, two = (FeatureStore(tmp_path / "features.zarr") for _ in range(2))
    reader = entry(two)
    assert reader.n == 0
    for i in range(5):
        entry(one).append([[i, 300 * i]], vectors([[i, 300 * i]]))
        assert reader.has([[i, 300 * i]])[0]
        assert reader.n == i + 1
    np.testing.assert_array_equal(reader.read(reader.done_cells()), vectors(reader.done_cells()))
    one.clear()
    assert reader.n == 0
    with pytest.raises(FeatureError, match="deleted"):
        reader.append([[0, 0]], vectors([[0, 0]]))
    entry(two).append([[9, 9]], vectors([[9, 9]]))
    assert entry(one).done_cells().tolist() == [[9, 9]]


def test_clear_one_encoder(store):
    for slide in ("a" * 32, "b" * 32):
        for encoder in ("colour-statistics/v1/fp32", "colour-statistics/v2/fp32", "timm/x/fp32"):
            store.array(slide, encoder, "grid", dim=4).append([[0, 0]], vectors([[0, 0]]))
    store.clear(encoder="timm/x/fp32")
    assert {row["encoder"] for row in list_entries(store)} == {
        "colour-statistics/v1/fp32",
        "colour-statistics/v2/fp32",
    }
    store.clear("a" * 32, "colour-statistics/v2")
    assert [(r["fingerprint"][0], r["encoder"][18:20]) for r in list_entries(store)] in (
        [("a", "v1"), ("b", "v1"), ("b", "v2")],
        [("a", "v1"), ("b", "v2"), ("b", "v1")],
    )
    store.clear(encoder="colour")
    assert len(list_entries(store)) == 3


def test_cleared_while_threads_read_and_write(tmp_path):
    """Each gets all of it, or a sentence that it was deleted; never half a vector, never another error."""
    store = FeatureStore(tmp_path / "features.zarr")
    cells = np.argwhere(np.ones((40, 40), bool))
    stop, wrong = threading.Event(), []

    def write():
        while not stop.is_set():
            try:
                entry(store).append(cells, vectors(cells))
            except FeatureError as error:
                if "deleted" not in str(error):
                    wrong.append(error)

    def read():
        other = FeatureStore(tmp_path / "features.zarr")
        while not stop.is_set():
            try:
                array = entry(other)
                some = array.done_cells()
                if len(some) and not np.array_equal(array.read(some), vectors(some)):
                    wrong.append("another vector")
            except FeatureError as error:
                if "deleted" not in str(error) and "aren't encoded" not in str(error):
                    wrong.append(error)

    threads = [threading.Thread(target=work) for work in (write, read, read)]
    for thread in threads:
        thread.start()
    for _ in range(25):
        store.clear()
        stop.wait(0.02)
    stop.set()
    for thread in threads:
        thread.join()
    assert not wrong, wrong[0]
    store.clear()
    assert sorted(p.name for p in (tmp_path / "features.zarr").iterdir()) == [
        ".locks",
        ".writing",
        "zarr.json",
    ]
