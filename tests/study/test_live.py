"""The job behind live mode: follows a view, computes nothing twice, shares the device, colours coarsely first."""

from __future__ import annotations

import threading
import time

import numpy as np
import pytest
from tests.counting import CountingEncoder, use

from napari_batchfx.jobs import run
from napari_batchfx.study.claims import STALE_S, Claim
from napari_batchfx.study.live import Pace, live_job
from napari_batchfx.study.live_view import LiveView, Look
from napari_batchfx.study.mapping import component_maps, encode_map_job
from napari_batchfx.study.overview import Overview, tissue_cells
from napari_batchfx.study.tables import feature_array
from napari_batchfx.tiles import read_tiles

from .conftest import MPP, SHAPE, set_up

ALL = (0.0, 0.0, SHAPE[0] * MPP, SHAPE[1] * MPP)
LEFT = (0.0, 0.0, SHAPE[0] * MPP, 130.0)
RIGHT = (0.0, 190.0, SHAPE[0] * MPP, SHAPE[1] * MPP)


def look(entry, box=ALL):
    return Look(entry, box, ((box[0] + box[2]) / 2, (box[1] + box[3]) / 2))


def array_of(study, entry):
    return feature_array(study, entry, study.grid(entry), None)


def cells_in(study, entry, box):
    return set(map(tuple, tissue_cells(study.grid(entry), box, study.settings.encode.min_tissue).tolist()))


def new_cells(progress):
    return [] if progress.partial is None else [tuple(c) for c in progress.partial.cells.tolist()]


@pytest.fixture
def study(slides, tmp_path):
    with set_up(tmp_path / "s", slides, labels=False) as study:
        study.settings.encode.min_tissue = 0.0
        yield study


def test_all_of_the_view_and_only_that_each_once_and_right(study):
    encoder, (entry, *_) = use(study, CountingEncoder()), study.slides
    view, overview = LiveView(), Overview()
    view.aim([look(entry, LEFT)])
    outcome = run(live_job(study, view, overview)).outcome
    wanted = cells_in(study, entry, LEFT)
    assert outcome.tiles == len(wanted) == sum(encoder.seen.values())
    assert max(encoder.seen.values()) == 1
    array = array_of(study, entry)
    assert {tuple(c) for c in array.done_cells().tolist()} == wanted
    cells = np.array(sorted(wanted))
    expected = CountingEncoder().embed(read_tiles(study.grid(entry), cells))
    np.testing.assert_array_equal(array.read(cells), expected)
    # and a second time nothing is computed
    view = LiveView()
    view.aim([look(entry, LEFT)])
    outcome = run(live_job(study, view, overview)).outcome
    assert (outcome.tiles, outcome.kept) == (0, len(wanted))
    assert sum(encoder.seen.values()) == len(wanted)


def test_memory_is_given_back_when_a_view_is_done(study, monkeypatch):
    encoder, (entry, *_) = use(study, CountingEncoder()), study.slides
    done: list[int] = []
    monkeypatch.setattr(
        "napari_batchfx.study.live.give_back_memory", lambda: done.append(sum(encoder.seen.values()))
    )
    view = LiveView()
    view.aim([look(entry, LEFT)])
    run(live_job(study, view, Overview()))
    assert done == [len(cells_in(study, entry, LEFT))]  # once, and not between batches


def test_a_view_that_moves_on_is_followed_by_the_same_job(study):
    encoder, (entry, *_) = use(study, CountingEncoder()), study.slides
    study.settings.encode.batch_size = 4
    view = LiveView()
    view.aim([look(entry, LEFT)])
    job, order, moved_at = live_job(study, view, Overview()), [], None
    try:
        while True:
            order += new_cells(next(job))
            if moved_at is None and len(order) >= 4:
                moved_at = len(order)
                assert view.aim([look(entry, RIGHT)])
    except StopIteration as stop:
        outcome = stop.value.outcome
    left, right = cells_in(study, entry, LEFT), cells_in(study, entry, RIGHT)
    late = [cell for cell in order[moved_at:] if cell in left]
    assert len(late) <= 4  # the batch that ran when the view moved is kept; none is begun after it
    assert right <= set(order)
    assert len(order) == len(set(order)) == outcome.tiles == sum(encoder.seen.values())
    assert not view.aim([look(entry, LEFT)])  # it has ended: another one has to be started


def test_nothing_is_begun_while_the_view_is_held(study):
    encoder, (entry, *_) = use(study, CountingEncoder()), study.slides
    study.settings.encode.batch_size = 2
    view = LiveView()
    view.aim([look(entry)])
    job, seen = live_job(study, view, Overview()), []
    while len(seen) < 2:
        seen += new_cells(next(job))
    view.hold()
    begun = len(encoder.begun)
    for _ in range(8):
        seen += new_cells(next(job))
    assert len(encoder.begun) <= begun + 1  # what was being handed over
    assert len(encoder.begun) * 2 == len(seen) == array_of(study, entry).n < 20
    view.hold(False)
    run(job)
    assert array_of(study, entry).n == 80
    assert max(encoder.seen.values()) == 1


def test_while_it_moves_what_is_stored_is_shown_and_nothing_computed(study):
    encoder, (entry, *_) = use(study, CountingEncoder()), study.slides
    stored = np.array([[0, 0], [3, 1], [5, 2]])
    run(study.encode_job(cells={entry.name: stored}))
    n = len(encoder.begun)
    view, overview = LiveView(), Overview()
    view.aim([look(entry, LEFT)], held=True)
    job, shown = live_job(study, view, overview), []
    for _ in range(6):
        shown += new_cells(next(job))
    assert sorted(shown) == [tuple(c) for c in stored.tolist()]
    assert len(encoder.begun) == n
    job.close()
    assert np.isfinite(overview.take_changed()[entry.fingerprint].values).sum() == 3


def test_the_view_hears_when_what_is_stored_is_on_the_picture(study):
    use(study, CountingEncoder())
    entry = study.slides[0]
    run(study.encode_job(cells={entry.name: np.array([[0, 0], [3, 1]])}))
    view, overview = LiveView(), Overview()
    view.aim([look(entry, LEFT)], held=True)
    job = live_job(study, view, overview)
    for _ in range(20):
        if view.wait_shown(0):
            break
        next(job)
    assert view.wait_shown(0)
    assert np.isfinite(overview.take_changed()[entry.fingerprint].values).sum() == 2
    view.aim([look(entry, RIGHT)], held=True)
    assert not view.wait_shown(0)  # that was another view
    job.close()
    assert view.wait_shown(60)  # nobody waits for a job that has ended


def test_slides_take_turns(study):
    use(study, CountingEncoder())
    study.settings.encode.batch_size = 4
    view, done = LiveView(), {}
    view.aim([look(entry) for entry in study.slides])
    for step in live_job(study, view, Overview()):
        if step.partial is not None:
            done[step.partial.fingerprint] = done.get(step.partial.fingerprint, 0) + len(step.partial.cells)
            counts = [done.get(entry.fingerprint, 0) for entry in study.slides]
            assert max(counts) - min(counts) <= 2 * 4
    assert set(done.values()) == {80}


def test_a_large_view_gets_colour_all_over_early(study):
    use(study, CountingEncoder())
    entry = study.slides[0]
    pace = Pace(each=1.5 / 16, _skipped=True)  # 16 tiles in the time that counts as early, of 80
    view, order = LiveView(), []
    view.aim([look(entry)])
    for step in live_job(study, view, Overview(), pace):
        order += new_cells(step)
        pace.each = 1.5 / 16
    early = {(row // 4, col // 5) for row, col in order[:16]}
    assert early == {(0, 0), (0, 1), (1, 0), (1, 1)}
    rows, cols = np.array(order[:16]).T
    assert (np.ptp(rows), np.ptp(cols)) >= (4, 7)
    assert len(set(order)) == 80


def test_a_small_view_begins_at_its_centre(study):
    use(study, CountingEncoder())
    study.settings.encode.batch_size = 4
    entry, order = study.slides[0], []
    view = LiveView()
    view.aim([look(entry)])
    for step in live_job(study, view, Overview(), Pace(each=1e-3, _skipped=True)):
        order += new_cells(step)
    middle = np.array([SHAPE[0] * MPP / 2, SHAPE[1] * MPP / 2])
    distance = np.hypot(*(study.grid(entry).center_um(np.array(order)) - middle).T)
    assert (np.diff(distance) >= -1e-6).all()


@pytest.mark.parametrize("width", [1, 2])
def test_what_runs_when_it_is_cancelled_is_kept(study, width):
    encoder, (entry, *_) = use(study, CountingEncoder(0.005, width)), study.slides
    study.settings.encode.batch_size = 8
    view, seen = LiveView(), 0
    view.aim([look(entry)])
    before = set(threading.enumerate())  # the pool for stain is shared, and stays
    job = live_job(study, view, Overview())
    while seen < 16 or sum(encoder.seen.values()) <= seen:  # until another one runs
        seen += len(new_cells(next(job)))
    job.close()
    assert array_of(study, entry).n == sum(encoder.seen.values()) > seen
    assert not [t for t in threading.enumerate() if t.name.startswith("batchfx") and t not in before]
    view = LiveView()
    view.aim([look(entry)])
    run(live_job(study, view, Overview()))
    assert sum(encoder.seen.values()) == 80
    assert max(encoder.seen.values()) == 1


def test_two_jobs_at_once_compute_nothing_twice(study):
    encoder, (entry, *_) = use(study, CountingEncoder(0.002)), study.slides
    study.settings.encode.batch_size = 4
    outcomes = []
    view = LiveView()
    view.aim([look(entry)])
    other = threading.Thread(target=lambda: outcomes.append(run(study.encode_job([entry]))))
    other.start()
    live = run(live_job(study, view, Overview())).outcome
    other.join()
    assert live.tiles + outcomes[0].tiles == sum(encoder.seen.values()) == array_of(study, entry).n == 80
    assert max(encoder.seen.values()) == 1
    assert live.kept + live.tiles == outcomes[0].kept + outcomes[0].tiles == 80


def test_a_job_that_was_put_aside_keeps_nobody_waiting(study):
    use(study, CountingEncoder())
    entry = study.slides[0]
    aside = study.encode_job([entry])
    while next(aside).partial is None and array_of(study, entry).n == 0:
        pass
    began = time.monotonic()
    assert run(study.encode_job([entry])).slides == (entry.name,)
    assert time.monotonic() - began > STALE_S / 2
    assert array_of(study, entry).n == 80
    assert run(aside).slides == (entry.name,)


def test_claims_of_others_stay_theirs(study):
    use(study, CountingEncoder())
    array = array_of(study, study.slides[0])
    one, two = Claim(array), Claim(array)
    cells = np.array([[0, 0], [0, 1], [1, 0]])
    assert one.take(cells[:2]).all()
    np.testing.assert_array_equal(two.take(cells), [False, False, True])
    one.give(cells[:1])
    np.testing.assert_array_equal(two.take(cells[:2]), [True, False])
    two.drop()
    assert one.take(cells[2:]).all()


def test_one_bad_slide_does_not_stop_the_others(study, slides):
    use(study, CountingEncoder())
    first, second = study.slides[:2]
    view = LiveView()
    view.aim([look(first), look(second)])
    job = live_job(study, view, Overview())
    while not new_cells(next(job)):
        pass
    study.update_slide(first, mpp=1.0)
    outcome = run(job).outcome
    assert outcome.slides == (second.name,)
    assert [problem.subject for problem in outcome.problems] == [first.name]
    assert "changed meanwhile" in str(outcome.problems[0])
    assert array_of(study, second).n == 80


def test_beyond_the_view_what_is_stored_joins_the_picture(study):
    use(study, CountingEncoder())
    entry = study.slides[0]
    run(study.encode_job([entry]))
    view, overview = LiveView(), Overview()
    view.aim([look(entry, LEFT)])
    assert run(live_job(study, view, overview)).outcome.tiles == 0
    assert np.isfinite(overview.take_changed()[entry.fingerprint].values).all()
    assert overview.covers(look(entry, RIGHT), 0.0)


def test_the_picture_is_of_one_axis_however_the_tiles_came(study):
    """Every value is the score on the axis of now, also of tiles that came when it was another one."""
    use(study, CountingEncoder())
    study.settings.encode.batch_size = 4
    view, overview = LiveView(), Overview()
    view.aim([look(entry) for entry in study.slides])
    run(live_job(study, view, overview))
    axis = overview._axis
    for entry in study.slides:
        grid = study.grid(entry)
        cells = grid.all_cells()
        scores = axis.scores(array_of(study, entry).read(cells))
        shown = overview.take_changed().get(entry.fingerprint) or overview._slides[entry.fingerprint].tiles
        np.testing.assert_allclose(shown.values[cells[:, 0], cells[:, 1]], scores, rtol=1e-6)
    # the map of everything agrees up to where the axis was fitted last
    whole = component_maps(study)
    for entry in study.slides:
        ours = overview._slides[entry.fingerprint].tiles.values.ravel()
        assert abs(np.corrcoef(ours, whole[entry.fingerprint].values.ravel())[0, 1]) > 0.99


def test_a_whole_slide_job_leaves_its_axis_to_the_picture(study):
    use(study, CountingEncoder())
    overview = Overview()
    done = run(encode_map_job(study, study.slides[:1], None, overview))
    taken = overview.take_changed()
    np.testing.assert_array_equal(
        taken[study.slides[0].fingerprint].values, done.maps[study.slides[0].fingerprint].values
    )
    assert overview.take_changed() == {}


def test_tissue_alone_is_wanted(study):
    study.settings.encode.min_tissue = 0.25
    use(study, CountingEncoder())
    entry = study.slides[0]
    view = LiveView()
    view.aim([look(entry)])
    outcome = run(live_job(study, view, Overview())).outcome
    assert outcome.tiles == len(study.grid(entry).cells(0.25))


def test_too_large_batches_become_smaller(study):
    from napari_batchfx.encoders import EncoderMemoryError

    class Small(CountingEncoder):
        def _embed(self, tiles):
            if len(tiles) > 3:
                raise EncoderMemoryError("counting: not enough memory.")
            return super()._embed(tiles)

    encoder, (entry, *_) = use(study, Small()), study.slides
    view = LiveView()
    view.aim([look(entry)])
    outcome = run(live_job(study, view, Overview())).outcome
    assert (outcome.tiles, outcome.problems) == (80, ())
    assert max(encoder.seen.values()) == 1
