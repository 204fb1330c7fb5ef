"""Encoding the slides of a study: the store, the table, what happens when a slide fails."""

from __future__ import annotations

import numpy as np
import pytest

from napari_batchfx.encoders import load
from napari_batchfx.errors import StudyError
from napari_batchfx.jobs import run
from napari_batchfx.study import EncodedTiles, Study
from napari_batchfx.tiles import TileGrid, read_tiles

from .conftest import MPP, TILE, set_up


def test_the_table_holds_the_encoder_s_own_numbers(slides, tmp_path):
    with set_up(tmp_path / "s", slides) as study:
        outcome = run(study.encode_job())
        assert (outcome.tiles, outcome.kept, outcome.problems) == (4 * 80, 0, ())
        table = study.table("tissue")
        assert table.n_obs == 320
        assert table.obs.scanner.value_counts().to_dict() == {"A": 160, "B": 160}
        assert table.obs.label.value_counts().to_dict() == {"pale": 160, "dense": 160}
        np.testing.assert_array_equal(table.obs.control, table.obs.row < 4)
        np.testing.assert_array_equal(table.obs.label == "pale", table.obs.x_um < 160)
        grid = TileGrid(study.open_slide("B-2"), size_px=TILE, mpp=MPP)
        rows = (table.obs.slide == "B-2").to_numpy()
        cells = table.obs.loc[rows, ["row", "col"]].to_numpy()
        encoder = load("colour-statistics")
        expected = encoder.embed(read_tiles(grid, cells))
        np.testing.assert_array_equal(table.X[rows], expected)
        assert list(table.var_names) == list(encoder.feature_names)


def test_what_is_stored_is_not_done_again(slides, tmp_path):
    with set_up(tmp_path / "s", slides) as study:
        job = study.encode_job(["A-1", "B-1"])
        for progress in job:  # stopped in the middle of the first slide
            if isinstance(progress.partial, EncodedTiles):
                break
        job.close()
        study.save()
        done = len(progress.partial.cells)
        assert 0 < done < 160
    with Study.open(tmp_path / "s.batchfx") as again:
        seen = []
        outcome = run(again.encode_job(["A-1", "B-1"]), lambda p: seen.append(p))
        assert outcome.kept >= done
        assert outcome.tiles + outcome.kept == 160
        assert seen[-1].done == seen[-1].total == 160
        fractions = [p.done for p in seen if p.total == 160]
        assert fractions == sorted(fractions)
        assert run(again.encode_job(["A-1"])).tiles == 0


def test_named_cells_come_in_their_order_with_their_slide(slides, tmp_path):
    with set_up(tmp_path / "s", slides) as study:
        cells = {"B-1": np.array([[3, 3], [0, 1], [7, 9]])}
        batches = []
        outcome = run(study.encode_job(cells=cells), lambda p: batches.append(p.partial))
        got = [batch for batch in batches if isinstance(batch, EncodedTiles)]
        assert {batch.slide for batch in got} == {"B-1"}
        np.testing.assert_array_equal(np.concatenate([batch.cells for batch in got]), cells["B-1"])
        assert outcome.slides == ("B-1",)
        # a second time they come from the store, the same numbers
        again = []
        run(study.encode_job(cells=cells), lambda p: again.append(p.partial))
        stored = [batch for batch in again if isinstance(batch, EncodedTiles)]
        np.testing.assert_array_equal(stored[0].features, np.concatenate([batch.features for batch in got]))


def test_one_bad_slide_does_not_stop_the_others(slides, tmp_path):
    with set_up(tmp_path / "s", slides) as study:
        study.save()
    slides["A-2"].unlink()
    with Study.open(tmp_path / "s.batchfx") as study:
        outcome = run(study.encode_job())
        assert outcome.slides == ("A-1", "B-1", "B-2")
        assert [problem.subject for problem in outcome.problems] == ["A-2"]
        assert [problem.subject for problem in study.problems] == ["A-2"]
        assert set(study.table().obs.slide) == {"A-1", "B-1", "B-2"}


def test_a_stain_variant_has_its_own_features(slides, tmp_path):
    with set_up(tmp_path / "s", slides) as study:
        cells = {"B-1": np.array([[0, 0], [1, 1]])}
        run(study.encode_job(cells=cells))
        plain = study.table().X.copy()
        study.settings.encode.normalizer = "macenko"
        study.settings.encode.target = "A-1"
        with pytest.raises(StudyError, match="no tile is encoded"):
            study.table()
        run(study.encode_job(cells=cells))
        normalised = study.table().X.copy()
        assert not np.allclose(plain, normalised)
        grid = study.grid("B-1")
        transform = study.encode_transform("B-1")
        expected = study.encoder().embed(transform.transform(read_tiles(grid, cells["B-1"])))
        np.testing.assert_array_equal(normalised, expected)
        study.settings.encode.normalizer = None
        np.testing.assert_array_equal(study.table().X, plain)
        study.settings.encode.normalizer = "macenko"
        study.settings.encode.target = "nobody"
        assert "no slide called nobody" in str(run(study.encode_job(["A-1"])).problems[0])


def test_another_pixel_size_is_another_grid(slides, tmp_path):
    with set_up(tmp_path / "s", slides) as study:
        before = study.grid("A-1")
        run(study.encode_job(["A-1"]))
        study.update_slide("A-1", mpp=1.0)
        assert study.grid("A-1").shape == (16, 20)
        assert study.grid("A-1").key != before.key
        with pytest.raises(StudyError, match="no tile is encoded"):
            study.table()


def test_an_empty_study_says_what_to_do():
    with Study.create() as study, pytest.raises(StudyError, match="add one"):
        run(study.encode_job())


def test_a_study_at_work_is_not_moved_away(slides, tmp_path):
    with set_up(tmp_path / "s", slides) as study:
        job = study.encode_job()
        assert not study.is_working
        next(job)
        assert study.is_working
        with pytest.raises(StudyError, match="work is going on"):
            study.save_as(tmp_path / "elsewhere")
        study.save()
        job.close()
        assert not study.is_working
        study.save_as(tmp_path / "elsewhere")


def test_settings_changed_in_the_middle_wait_for_the_next_run(slides, tmp_path):
    with set_up(tmp_path / "s", slides) as study:
        job = study.encode_job()
        next(job)  # loading
        next(job)  # the first slide is looked at
        study.settings.encode.encoder = "resnet10t?pretrained=false"
        study.settings.encode.size_px = 128
        study.settings.encode.min_tissue = 1.0
        assert run(job).tiles == 320
        study.settings.encode.encoder = "colour-statistics"
        study.settings.encode.size_px = TILE
        study.settings.encode.min_tissue = 0.25
        assert study.table().shape == (320, 63)


def test_another_encoder_leaves_a_running_job_its_own(slides, tmp_path):
    with set_up(tmp_path / "s", slides) as study:
        job = study.encode_job(["A-1"])
        for progress in job:
            if isinstance(progress.partial, EncodedTiles):
                break
        study.settings.encode.encoder = "resnet10t?pretrained=false"
        other = study.encoder()
        assert run(job).slides == ("A-1",)
        assert other.key != load("colour-statistics").key
        study.settings.encode.encoder = "colour-statistics"
        assert study.table().n_obs == 80


def test_without_any_file_the_files_are_named(slides, tmp_path):
    with set_up(tmp_path / "s", {name: slides[name] for name in ("A-1", "B-1")}) as study:
        run(study.encode_job())
        study.save()
    for name in ("A-1", "B-1"):
        slides[name] = slides[name].rename(tmp_path / f"{name} moved.tif")
    with Study.open(study.folder) as again:
        for job in (again.probe_job(), again.adapt_job()):
            with pytest.raises(
                StudyError, match=r"s: can't find A-1\.tif, B-1\.tif where the study had them"
            ):
                run(job)
        again.add_slide(slides["A-1"])
        assert again.table().obs["slide"].unique().tolist() == ["A-1"]


def test_a_slide_named_twice_is_encoded_once(slides, tmp_path):
    with set_up(tmp_path / "s", {"A-1": slides["A-1"]}) as study:
        entry = study.slides[0]
        outcome = run(study.encode_job([entry, "A-1"]))
        assert (outcome.tiles, outcome.slides) == (80, ("A-1",))
        assert study.table(slides=["A-1", entry]).n_obs == 80


def test_damaged_tiles_are_left_out_and_counted(tmp_path):
    """A study stores nothing for tiles whose pixels are lost, and says how many there were."""
    from napari_batchfx.slides import open_slide, write_pyramid

    rng = np.random.default_rng(5)
    image = np.clip(rng.normal((180, 90, 150), 30, (512, 512, 3)), 0, 255).astype(np.uint8)
    path = write_pyramid(tmp_path / "a.tif", image, 0.5, tile=128, levels=1)
    with open_slide(path) as slide:
        segments = slide._source._segments[0]
        start, count = int(segments._offsets[5]), int(segments._counts[5])
    data = bytearray(path.read_bytes())
    data[start : start + count] = bytes(count)
    path.write_bytes(data)
    with Study.create() as study:
        study.settings.encode.encoder = "colour-statistics"
        study.settings.encode.size_px, study.settings.encode.mpp = 64, 0.5
        study.settings.encode.min_tissue = 0.0  # the mask alone leaves damaged places out
        entry = study.add_slide(path)
        outcome = run(study.encode_job())
        assert outcome.damaged == 4
        assert outcome.tiles == 64 - 4
        assert len(study.table("all")) == 60
        assert study.open_slide(entry).damage
        assert outcome.damage_said() == ["a: 4 tiles are damaged in the file and left out."]
        again = run(study.encode_job())  # known by now: said, not read again
        assert (again.tiles, again.kept, again.damaged) == (0, 60, 4)


@pytest.mark.parametrize("change", [{"icc": "auto"}, {"mpp": 0.6}])
def test_a_slide_changed_while_it_is_encoded_stores_nothing_wrong(slides, tmp_path, change):
    """Colours or pixel size changed in the middle: what is stored is right, the rest is asked for again."""
    import tifffile
    from tests.slides.profiles import matrix_profile

    from napari_batchfx.slides import open_slide, write_pyramid

    pixels = tifffile.imread(slides["A-1"])
    path = write_pyramid(
        tmp_path / "profiled.tif", pixels, MPP, compression="deflate", icc_profile=matrix_profile()
    )
    with Study.create(tmp_path / "s") as study:
        study.settings.encode.size_px, study.settings.encode.mpp = TILE, MPP
        study.settings.encode.min_tissue, study.settings.encode.batch_size = 0.0, 8
        entry = study.add_slide(path)
        seen = 0
        job = study.encode_job()
        try:
            while True:
                if next(job).partial is not None:
                    seen += 1
                    if seen == 1:
                        study.update_slide(entry, **change)
        except StopIteration as end:
            outcome = end.value
        assert outcome.slides == ()
        assert "changed meanwhile" in str(outcome.problems[0])
        assert "encode again" in str(outcome.problems[0])
        assert seen == 1
        run(study.encode_job())
        encoder = load("colour-statistics")
        after = study.table("all")
        if "icc" in change:
            study.update_slide(entry, icc="off")
            before = study.table("all")
            with open_slide(path) as slide:
                expected = encoder.embed(
                    read_tiles(TileGrid(slide, TILE, MPP), before.obs[["row", "col"]].to_numpy())
                )
            np.testing.assert_array_equal(before.X, expected)
            assert before.n_obs == 8
        with open_slide(path, **change) as slide:
            grid = TileGrid(slide, TILE, MPP)
            expected = encoder.embed(read_tiles(grid, after.obs[["row", "col"]].to_numpy()))
            assert after.n_obs == grid.n_cells
        np.testing.assert_array_equal(after.X, expected)


@pytest.fixture
def one_slide(slides, tmp_path):
    """A slide's work of 80 tiles, nothing done, and vectors for them."""
    from napari_batchfx.encoders import EncodedBatch
    from napari_batchfx.study.recipe import Recipe
    from napari_batchfx.study.slide_work import SlideWork

    with set_up(tmp_path / "s", {"A-1": slides["A-1"]}) as study:
        recipe = run(Recipe.job(study))
        entry = study.slides[0]
        work = SlideWork(entry, recipe.place(entry), recipe.place(entry).grid.cells(0.0))
        cells = work.take()
        features = np.random.default_rng(0).standard_normal((len(cells), 63)).astype(np.float32)
        batches = [EncodedBatch(cells[i : i + 8], features[i : i + 8]) for i in range(0, len(cells), 8)]
        yield work, batches, features


def test_batches_that_come_soon_after_one_another_are_stored_together(one_slide, monkeypatch):
    from napari_batchfx.study import slide_work

    work, batches, features = one_slide
    calls = []
    append = type(work.place.array).append
    monkeypatch.setattr(
        type(work.place.array), "append", lambda *given: calls.append(len(given[1])) or append(*given)
    )
    monkeypatch.setattr(slide_work, "HOLD_S", 1e9)
    for batch in batches:
        work.hold(batch)
    assert (calls, work.done, work.n_encoded, work.is_done) == ([], 80, 0, False)
    work.store()
    assert (calls, work.done, work.n_encoded, work.is_done) == ([80], 80, 80, True)
    cells = np.concatenate([batch.cells for batch in batches])
    np.testing.assert_array_equal(work.place.array.read(cells), features)


def test_what_is_held_is_stored_after_a_moment_and_for_many_tiles(one_slide, monkeypatch):
    from napari_batchfx.study import slide_work

    work, batches, _ = one_slide
    monkeypatch.setattr(slide_work, "HOLD_S", 1e9)
    monkeypatch.setattr(slide_work, "HOLD_TILES", 16)
    work.hold(batches[0])
    assert work.place.array.n == 0
    work.hold(batches[1])
    assert work.place.array.n == 16
    monkeypatch.setattr(slide_work, "HOLD_S", 0.0)
    work.hold(batches[2])
    assert work.place.array.n == 24


def test_a_batch_that_went_wrong_costs_none_that_is_held(one_slide, monkeypatch):
    from napari_batchfx.errors import FeatureError
    from napari_batchfx.study import slide_work

    work, batches, _ = one_slide
    monkeypatch.setattr(slide_work, "HOLD_S", 1e9)
    for batch in batches[:4]:
        work.hold(batch)
    batches[4].features[0, 0] = np.nan
    work.hold(batches[4])
    with pytest.raises(FeatureError, match="not finite"):
        work.store()
    assert work.place.array.n == work.n_encoded == 32


def test_a_job_that_is_stopped_keeps_what_it_had_computed(slides, tmp_path, monkeypatch):
    from napari_batchfx.study import slide_work

    monkeypatch.setattr(slide_work, "HOLD_S", 1e9)
    with set_up(tmp_path / "s", slides) as study:
        study.settings.encode.batch_size = 4
        seen = 0
        job = study.encode_job(["A-1"])
        for progress in job:
            seen += len(progress.partial.cells) if isinstance(progress.partial, EncodedTiles) else 0
            if seen >= 24:
                break
        assert study.store().holds_any() is False
        job.close()
        assert study.table("tissue").n_obs == seen


@pytest.mark.parametrize("stopped", [False, True])
def test_memory_is_given_back_at_the_end_however_it_comes(slides, tmp_path, monkeypatch, stopped):
    given = []
    monkeypatch.setattr("napari_batchfx.study.encoding.give_back_memory", lambda: given.append(True))
    with set_up(tmp_path / "s", slides) as study:
        job = study.encode_job(["A-1", "B-1"])
        for progress in job:
            if stopped and isinstance(progress.partial, EncodedTiles):
                break
        assert given == ([] if stopped else [True])
        job.close()
    assert given == [True]
