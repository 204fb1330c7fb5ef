"""A tile's vector is the same however it was computed: batch size, order, readers, torch's threads, stops on the way."""

import itertools

import numpy as np
import pytest

from napari_batchfx.encoders import encode, load
from napari_batchfx.features import FeatureStore, embed_job
from napari_batchfx.slides import open_slide
from napari_batchfx.tiles import TileGrid, read_tiles

SVS = "slides/CMU-1-Small-Region.svs"
N = 24
# name for load, tile edge; the built-in encoder is tried at its own size
ENCODERS = {
    "colour statistics": ("colour-statistics", 96),
    "CNN with BatchNorm": ("test_resnet?pretrained=false", 96),
    "ViT": ("test_vit?pretrained=false", 160),
    "batchfx-mini": ("batchfx-mini", 224),
}


@pytest.fixture(scope="module", params=ENCODERS)
def encoder(request):
    name, size = ENCODERS[request.param]
    with load(name, device="cpu", precision="fp32") as loaded:
        loaded.tile_px = size
        yield loaded


@pytest.fixture
def place(real_data, encoder):
    """Grid and cells on a real slide; resampled, so that reading is more than a copy."""
    with open_slide(real_data(SVS)) as slide:
        grid = TileGrid(slide, encoder.tile_px, 0.5)
        yield grid, np.random.default_rng(0).permutation(grid.all_cells())[:N]


def vectors(grid, encoder, cells, **options):
    """Vector of each cell, by cell."""
    got = {}
    for step in encode(grid, encoder, cells, **options):
        if step.partial is not None:
            got |= zip(map(tuple, step.partial.cells.tolist()), step.partial.features, strict=True)
    return got


def same(got, expected):
    assert got.keys() == expected.keys()
    for cell, vector in expected.items():
        np.testing.assert_array_equal(got[cell], vector)


def test_bits_do_not_depend_on_batch_order_or_readers(place, encoder):
    grid, cells = place
    expected = vectors(grid, encoder, cells)
    assert len(expected) == N
    for size in (1, 2, 7, 32):
        same(vectors(grid, encoder, cells, batch_size=size), expected)
    same(vectors(grid, encoder, cells[::-1]), expected)
    same(vectors(grid, encoder, sorted(map(tuple, cells.tolist())), batch_size=7, workers=1), expected)
    same(vectors(grid, encoder, cells, workers=4), expected)
    alone = vectors(grid, encoder, cells[:3])
    same(alone, {cell: expected[cell] for cell in alone})


def test_bits_do_not_depend_on_torchs_threads(place, encoder):
    import torch

    grid, cells = place
    expected = vectors(grid, encoder, cells[:16])
    before = torch.get_num_threads()
    name, _ = next(v for v in ENCODERS.values() if v[0].split("?")[0] in encoder.key)
    try:
        for theirs, ours in ((1, None), (2, None), (2, 1), (1, 2)):
            torch.set_num_threads(theirs)
            with load(name, device="cpu", precision="fp32", threads=ours) as again:
                assert again.key == encoder.key
                same(vectors(grid, again, cells[:16]), expected)
    finally:
        torch.set_num_threads(before)


def test_many_cores_do_not_change_bits(encoder, real_data):
    """More cores than lanes: a lane keeps one torch thread, with two oneDNN adds in another order."""
    name, _ = next(v for v in ENCODERS.values() if v[0].split("?")[0] in encoder.key)
    with open_slide(real_data(SVS)) as slide:
        tiles = read_tiles(TileGrid(slide, encoder.tile_px, 0.5), [(2, 3), (3, 3), (4, 4)])
    with load(name, device="cpu", precision="fp32", threads=70) as many:
        np.testing.assert_array_equal(many.embed(tiles), encoder.embed(tiles))


def test_bits_do_not_depend_on_stops(place, encoder, tmp_path):
    """Closed after each second batch and begun again, another order and batch size each time."""
    grid, cells = place
    expected = vectors(grid, encoder, cells)
    store = FeatureStore(tmp_path / "features.zarr")
    orders = (cells, cells[::-1], np.roll(cells, N // 2, axis=0))
    for turn, size in zip(itertools.cycle(orders), (3, 1, 5, 2, 4, None), strict=False):
        job = embed_job(grid, encoder, cells=turn, store=store, batch_size=size)
        steps = (step for step in job if step.partial is not None)
        list(itertools.islice(steps, 3))
        job.close()
    entry = store.array(grid.slide.fingerprint, encoder.key, grid.key)
    assert entry.n > 0
    for _ in embed_job(grid, encoder, cells=cells, store=store):
        pass
    read = FeatureStore(tmp_path / "features.zarr").array(grid.slide.fingerprint, encoder.key, grid.key)
    same(dict(zip(map(tuple, cells.tolist()), read.read(cells), strict=True)), expected)


def test_another_precision_is_another_entry():
    """Numbers of two precisions never meet: their keys differ."""
    name = "test_vit?pretrained=false"
    with (
        load(name, device="cpu", precision="fp32") as exact,
        load(name, device="cpu", precision="bf16") as rounded,
    ):
        assert exact.key != rounded.key
