"""The shared cache: its bound, groups of tiles, and readers that meet on one tile."""

from __future__ import annotations

import threading

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from napari_batchfx.slides import TileCache


def tile(n=100):
    return np.zeros((n, 1, 3), np.uint8)


@given(
    st.integers(0, 2000),
    st.lists(st.tuples(st.integers(0, 9), st.integers(1, 200)), max_size=60),
)
def test_bytes_are_counted_and_never_over_the_bound(bound, steps):
    cache = TileCache(bound)
    for key, n in steps:
        cache.get(("s", key), lambda n=n: tile(n))
        assert cache.nbytes <= bound
        assert cache.nbytes == sum(t.nbytes for t in cache._tiles.values())


def test_a_group_is_decoded_once_for_all_its_tiles():
    cache, calls = TileCache(10_000), []

    def band():
        calls.append(1)
        for col in range(4):
            yield ("s", 0, 0, col), tile()

    for col in range(4):
        assert cache.get_group(("s", 0, 0, col), ("s", 0, 0, -1), band).shape == (100, 1, 3)
    assert len(calls) == 1
    assert len(cache) == 4


def test_a_group_that_fails_half_way_keeps_what_it_had_and_lets_the_next_try():
    cache = TileCache(10_000)

    def half():
        yield ("s", 0), tile()
        raise OSError("the disk is gone")

    with pytest.raises(OSError, match="gone"):
        cache.get_group(("s", 1), ("s", -1), half)
    assert ("s", 0) in cache
    assert cache.get_group(("s", 1), ("s", -1), lambda: [(("s", 1), tile())]).shape == (100, 1, 3)
    with pytest.raises(KeyError):
        cache.get_group(("s", 9), ("s", -1), lambda: [(("s", 8), tile())])


def test_dropping_one_slide_leaves_the_others():
    cache = TileCache(10_000)
    for token in "ab":
        for k in range(3):
            cache.get((token, k), tile)
    cache.drop("a")
    assert len(cache) == 3
    assert cache.nbytes == 900
    assert ("b", 2) in cache


def test_those_who_wait_for_a_failed_decoding_try_themselves():
    cache, go, calls = TileCache(10_000), threading.Event(), []

    def make():
        calls.append(1)
        if len(calls) == 1:
            go.wait(5)
            raise OSError("once")
        return tile()

    results = []

    def ask():
        try:
            results.append(cache.get(("s", 0), make).shape)
        except OSError as error:
            results.append(str(error))

    threads = [threading.Thread(target=ask) for _ in range(4)]
    for thread in threads:
        thread.start()
    go.set()
    for thread in threads:
        thread.join(10)
    assert sorted(map(str, results)) == ["(100, 1, 3)"] * 3 + ["once"]
    assert len(calls) == 2
