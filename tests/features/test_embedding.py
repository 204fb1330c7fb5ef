"""From a slide to a table: the store is filled as it goes and never asked twice; on a real slide, too."""

import threading

import numpy as np
import pytest

from napari_batchfx.encoders import ColourStatistics, EncodedBatch, load
from napari_batchfx.errors import Cancelled, EncoderError, TileError
from napari_batchfx.features import FeatureStore, SlideMeta, embed, embed_job
from napari_batchfx.jobs import run
from napari_batchfx.slides import open_slide, write_pyramid
from napari_batchfx.tiles import TileGrid, read_tiles


def list_entries(store):
    return store.keys()


class Counting(ColourStatistics):
    """Colour statistics that remember how many tiles they saw, and fail when told."""

    seen = 0
    fail_after = None

    def _embed(self, tiles):
        self.seen += len(tiles)
        if self.fail_after is not None and self.seen > self.fail_after:
            raise EncoderError("the model failed.")
        return super()._embed(tiles)


class Darker:
    key = "darker/1"

    def transform(self, tiles):
        return tiles // 2


def test_table_of_the_cells_asked_for_in_that_order(grid):
    cells = grid.all_cells()[[9, 2, 30, 2]]
    table = embed(grid, ColourStatistics(), cells=cells)
    assert table.obs[["row", "col"]].to_numpy().tolist() == cells[:3].tolist()
    np.testing.assert_array_equal(table.X, ColourStatistics().embed(read_tiles(grid, cells[:3])))
    assert table.obs["slide"].iloc[0] == "A-1042"
    assert table.uns["batchfx"]["slides"]["A-1042"]["fingerprint"] == grid.slide.fingerprint


def test_what_the_store_has_is_not_computed_again(grid, tmp_path):
    store = FeatureStore(tmp_path / "features.zarr")
    cells = grid.all_cells()
    first = Counting()
    part = embed(grid, first, cells=cells[10:50], store=store)
    assert first.seen == 40
    second, seen = Counting(), []
    whole = run(
        embed_job(grid, second, cells=cells, store=FeatureStore(tmp_path / "features.zarr")), seen.append
    )
    assert second.seen == len(cells) - 40
    np.testing.assert_array_equal(whole.X[10:50], part.X)
    np.testing.assert_array_equal(whole.X, ColourStatistics().embed(read_tiles(grid, cells)))
    batches = [p.partial for p in seen if p.partial is not None]
    assert all(isinstance(b, EncodedBatch) for b in batches)
    assert batches[0].cells.tolist() == cells[10:50].tolist()  # the known ones are shown at once
    assert sorted(map(tuple, np.concatenate([b.cells for b in batches]).tolist())) == sorted(
        map(tuple, cells.tolist())
    )
    assert [p.done for p in seen] == sorted(p.done for p in seen)
    assert seen[-1].done == seen[-1].total == len(cells)


def test_cancelled_in_the_middle_keeps_what_was_done(grid):
    store, cells, steps = FeatureStore(), grid.all_cells(), []
    with pytest.raises(Cancelled):
        run(
            embed_job(grid, Counting(), cells=cells, store=store, batch_size=4),
            steps.append,
            lambda: len(steps) > 5,
        )
    array = store.array(grid.slide.fingerprint, ColourStatistics().key, grid.key)
    assert array.n == 20
    assert not [t for t in threading.enumerate() if t.name.startswith("batchfx-tiles")]
    encoder = Counting()
    embed(grid, encoder, cells=cells, store=store)
    assert encoder.seen == len(cells) - 20


def test_a_failing_model_keeps_what_was_done(grid):
    store, cells, encoder = FeatureStore(), grid.all_cells(), Counting()
    encoder.fail_after = 30
    with pytest.raises(EncoderError, match="the model failed"):
        embed(grid, encoder, cells=cells, store=store)
    n = store.array(grid.slide.fingerprint, encoder.key, grid.key).n
    assert 0 < n <= 30


def test_stain_variants_are_kept_apart(grid):
    store, cells = FeatureStore(), grid.all_cells()[:6]
    plain = embed(grid, ColourStatistics(), cells=cells, store=store)
    dark = embed(grid, ColourStatistics(), cells=cells, store=store, normalizer=Darker())
    np.testing.assert_array_equal(dark.X, ColourStatistics().embed(read_tiles(grid, cells) // 2))
    assert np.abs(dark.X - plain.X).max() > 0.1
    assert sorted(r["stain"] for r in list_entries(store)) == ["darker/1", "none"]
    assert dark.uns["batchfx"]["slides"]["A-1042"]["stain_key"] == "darker/1"


def test_meta_and_nothing_to_do(grid):
    meta = SlideMeta("S1", site="Utrecht", fingerprint=grid.slide.fingerprint)
    table = embed(grid, ColourStatistics(), cells=[], meta=meta)
    assert table.shape == (0, 63)
    assert embed(grid, ColourStatistics(), cells=[[0, 0]], meta=meta).obs["site"].tolist() == ["Utrecht"]


def test_a_real_slide(real_data, tmp_path):
    """CMU-1-Small-Region.svs: tiles of 112 um with tissue, encoded, stored and read again."""
    path = real_data("slides/CMU-1-Small-Region.svs")
    store = FeatureStore(tmp_path / "features.zarr")
    with open_slide(path) as slide:
        table = embed(slide, "colour-statistics", store=store)
        grid = TileGrid(slide, 224, 0.5)
        cells = grid.cells(0.25)
        assert 40 <= table.n_obs == len(cells) <= grid.shape[0] * grid.shape[1]
        assert table.obs[["row", "col"]].to_numpy().tolist() == cells.tolist()
        named = {n: table.X[:, i] for i, n in enumerate(table.var_names)}
        # H&E on white: stained, pink to violet (a > 0, green absorbs most), sharp
        assert np.median(named["stained_share"]) > 0.2
        assert (named["lab_a_mean"] > 0).mean() > 0.95
        assert (named["od_green_mean"] > named["od_red_mean"]).mean() > 0.95
        # the tile's own pixels give the row of the table
        some = cells[len(cells) // 2][None]
        np.testing.assert_array_equal(
            load("colour-statistics").embed(read_tiles(grid, some))[0], table.X[len(cells) // 2]
        )
        tiny = embed(slide, load("test_vit?pretrained=false"), cells=[[2, 2], [3, 3]])
        assert tiny.shape == (2, 64)
        assert tiny.uns["batchfx"]["slides"][slide.name]["grid"]["size_px"] == 160
    fingerprint = table.uns["batchfx"]["slides"]["CMU-1-Small-Region"]["fingerprint"]
    again = FeatureStore(tmp_path / "features.zarr").array(fingerprint, "colour-statistics/v1/fp32", grid.key)
    np.testing.assert_array_equal(again.read(cells), table.X)


def test_two_real_scanners_in_one_table(real_data):
    """OS-2, the same tissue on two scanners: one table, and plain colour tells the scanners apart."""
    from napari_batchfx.features import concat

    folder = real_data("scanners/ki67-two-scanners")
    paths = [folder / "OS-2-ndpi.ome.tif", folder / "OS-2-vsi.ome.tif"]
    tables = []
    for path, scanner in zip(paths, ("A", "B"), strict=True):
        with open_slide(path) as slide:
            meta = SlideMeta(slide.name, scanner=scanner, fingerprint=slide.fingerprint)
            tables.append(embed(TileGrid(slide, 112, 0.5), ColourStatistics(), meta=meta))
    both = concat(tables)
    assert both.obs_names.is_unique
    assert both.obs["scanner"].value_counts().min() >= 20
    a, b = (np.asarray(both.X[(both.obs["scanner"] == s).to_numpy()], dtype=float) for s in "AB")
    effect = np.abs(a.mean(0) - b.mean(0)) / np.sqrt(a.var(0) / 2 + b.var(0) / 2 + 1e-9)
    assert effect.max() > 2


def test_a_path_is_opened_and_something_else_is_a_sentence(grid):
    from napari_batchfx.errors import FeatureError, SlideError

    path = grid.slide.path
    by_slide = embed(grid.slide, "colour-statistics")
    for given in (path, str(path)):
        np.testing.assert_array_equal(embed(given, "colour-statistics").X, by_slide.X)
    with pytest.raises(SlideError, match="no such file"):
        embed("missing.svs", "colour-statistics")
    with pytest.raises(FeatureError, match="a slide, its path or a TileGrid, not NoneType"):
        embed(None, "colour-statistics")
    with pytest.raises(FeatureError, match="not int"):
        embed(grid.slide, 3)


def test_damaged_tiles_are_left_out_counted_and_not_tried_again(tissue_file, tmp_path):
    """A tile of the file is spoilt: the tiles on it have no vector; the others have the one they had before."""
    import tifffile

    path = tmp_path / "spoilt.tif"
    path.write_bytes(tissue_file.read_bytes())
    with tifffile.TiffFile(path) as tif:
        offset, count = tif.pages[0].dataoffsets[1], tif.pages[0].databytecounts[1]
    with path.open("r+b") as file:
        file.seek(offset)
        file.write(b"\x55" * count)
    store, texts = FeatureStore(tmp_path / "features.zarr"), []
    with open_slide(path) as slide, open_slide(tissue_file) as sound:
        grid, model = TileGrid(slide, size_px=64, mpp=0.5), Counting()
        cells = grid.all_cells()
        # the file's second tile: columns 256 to 511, rows 0 to 255
        bad = {(r, c) for r in range(4) for c in range(4, 8)}
        table = embed(grid, model, cells=cells, store=store, on_progress=lambda p: texts.append(p.text()))
        there = set(zip(table.obs["row"], table.obs["col"], strict=True))
        assert there == {tuple(cell) for cell in cells.tolist()} - bad
        assert table.uns["damaged_tiles"] == 16
        assert any("(16 damaged tiles left out)" in text for text in texts)
        expected = embed(TileGrid(sound, 64, 0.5), ColourStatistics(), cells=table.obs[["row", "col"]])
        np.testing.assert_array_equal(table.X, expected.X)
        # known now: the model sees none of them again
        seen = model.seen
        assert embed(grid, model, cells=cells, store=store).uns["damaged_tiles"] == 16
        assert model.seen == seen


@pytest.mark.parametrize("change", ["colours", "pixel size"])
def test_a_slide_changed_meanwhile_ends_the_job_and_stores_nothing_wrong(tmp_path, change):
    """What the store has under the old key is of the old state; there is no table of both."""
    from tests.slides.profiles import matrix_profile

    rng = np.random.default_rng(4)
    pixels = rng.integers(90, 250, (512, 640, 3), dtype=np.uint8)
    path = write_pyramid(tmp_path / "a.tif", pixels, 0.5, compression="deflate", icc_profile=matrix_profile())
    encoder, store = load("colour-statistics"), FeatureStore(tmp_path / "store")
    with open_slide(path) as slide:
        grid = TileGrid(slide, 64, 0.5)
        cells = grid.all_cells()
        job = embed_job(grid, encoder, cells=cells, store=store, batch_size=8)
        next(job), next(job)
        if change == "colours":
            slide.with_icc("on")
        else:
            slide.with_mpp(0.6)
        with pytest.raises(TileError, match=rf"^a: its {change} .*encode again"):
            list(job)
        other = TileGrid(slide, 64, 0.5)
        assert other.key != grid.key
        assert (
            not store.array(slide.fingerprint, encoder.key, other.key, "none", dim=encoder.dim)
            .has(cells)
            .any()
        )
        kept = store.array(slide.fingerprint, encoder.key, grid.key, "none", dim=encoder.dim)
        there = cells[kept.has(cells)]
        assert 0 < len(there) < len(cells)
    with open_slide(path) as slide:
        expected = encoder.embed(read_tiles(TileGrid(slide, 64, 0.5), there))
    np.testing.assert_array_equal(kept.read(there), expected)
