"""Slides of a study laid on each other: kept, taken back, chained, paired; and the command line."""

from __future__ import annotations

import itertools
import json

import hypothesis.strategies as st
import numpy as np
import pytest
from hypothesis import given, settings
from typer.testing import CliRunner

from napari_batchfx.cli import app
from napari_batchfx.errors import BatchfxError, StudyError
from napari_batchfx.jobs import run
from napari_batchfx.slides import Alignment, write_pyramid
from napari_batchfx.study import Study
from napari_batchfx.study.alignment import align_job, root_of, set_alignment, undo_alignment, undo_alignments
from napari_batchfx.study.entries import SlideEntry
from napari_batchfx.study.settings import Settings
from napari_batchfx.study.shelf import Shelf

from .conftest import MPP, SHAPE, TILE, tissue

HALF_TURN = np.array([[-1, 0, SHAPE[0] * MPP], [0, -1, SHAPE[1] * MPP], [0, 0, 1.0]])


def found(matrix, verdict="good", residual=0.5):
    return Alignment(matrix, residual, 0.9, verdict, 20)


def shift(y, x):
    return np.array([[1, 0, y], [0, 1, x], [0, 0, 1.0]])


@pytest.fixture
def study(slides, tmp_path):
    """A-1, A-2, B-1, B-2 and "turned": A-1 turned by 180 degrees."""
    pixels = (tissue(1) * 230).astype(np.uint8)[::-1, ::-1]
    slides["turned"] = write_pyramid(
        tmp_path / "slides" / "turned.tif", np.ascontiguousarray(pixels), MPP, compression="deflate"
    )
    with Study.create(tmp_path / "s.batchfx") as work:
        for name, path in slides.items():
            work.add_slide(path, name=name)
        work.settings.encode.size_px = TILE
        work.settings.encode.mpp = MPP
        yield work


def test_the_job_lays_rescans_and_leaves_others(study):
    steps = []
    done = run(align_job(study, "A-1", ["B-1", "turned", "A-2"]), steps.append)
    assert {name: one.verdict for name, one in done.items()} == {
        "B-1": "good",
        "turned": "good",
        "A-2": "failed",
    }
    assert np.allclose(study.slide("turned").affine_um, HALF_TURN, atol=0.3)
    assert np.allclose(study.slide("B-1").affine_um, np.eye(3), atol=0.3)
    assert not study.slide("A-2").is_aligned
    assert study.slide("A-2").alignment is None
    record = study.slide("turned").alignment
    assert (record.reference, record.method, record.verdict) == ("A-1", "auto", "good")
    assert [p.done for p in steps] == sorted(p.done for p in steps)
    assert steps[-1].done == steps[-1].total


def test_kept_in_the_file_and_taken_back(study):
    set_alignment(study, "A-1", "B-1", found(shift(3, 4)))
    set_alignment(study, "A-1", "B-1", found(shift(5, 6), "uncertain", float("nan")))
    study.save()
    with Study.open(study.folder) as again:
        entry = again.slide("B-1")
        assert np.allclose(entry.affine_um, shift(5, 6))
        assert entry.alignment.residual_um is None
        assert undo_alignment(again, entry)
        assert np.allclose(entry.affine_um, shift(3, 4))
        assert entry.alignment.residual_um == 0.5
        assert undo_alignment(again, entry)
        assert not entry.is_aligned
        assert entry.alignment is None
        assert not undo_alignment(again, entry)


def test_chains_move_together(study):
    """turned lies on B-1, B-1 on A-1: who moves B-1 moves both, and taking it back takes both back."""
    set_alignment(study, "B-1", "turned", found(shift(10, 0)))
    set_alignment(study, "A-1", "B-1", found(HALF_TURN))
    child = study.slide("turned")
    assert np.allclose(child.affine_um, HALF_TURN @ shift(10, 0))
    set_alignment(study, "B-1", "turned", found(shift(0, 7)))
    assert np.allclose(child.affine_um, HALF_TURN @ shift(0, 7))
    undo_alignment(study, "B-1")
    assert np.allclose(child.affine_um, shift(0, 7))
    undo_alignment(study, child)
    assert np.allclose(child.affine_um, shift(10, 0))
    with pytest.raises(StudyError, match="other way round"):
        set_alignment(study, "turned", "B-1", found(shift(1, 1)))
    with pytest.raises(StudyError, match="itself"):
        set_alignment(study, "B-1", "B-1", found(shift(1, 1)))
    with pytest.raises(StudyError, match="nothing is moved"):
        set_alignment(study, "A-1", "A-2", Alignment.none_found())


def test_a_reference_keeps_its_slides_under_a_new_name(study):
    set_alignment(study, "A-1", "B-1", found(shift(3, 4)))
    study.update_slide("A-1", name="Meier 1")
    assert study.slide("B-1").alignment.reference == "Meier 1"


def test_a_slide_that_is_gone_is_reported_and_the_others_done(study):
    study.slide("B-1").path.unlink()
    study.close()
    done = run(align_job(study, "A-1", ["B-1", "turned"]))
    assert list(done) == ["turned"]
    assert any(problem.subject == "B-1" for problem in study.problems)
    with pytest.raises(BatchfxError, match="B-1"):
        run(align_job(study, "A-1", ["B-1"]))


def test_the_job_sets_all_at_the_end_or_nothing(study):
    job = align_job(study, "A-1", ["B-1", "turned"])
    for step in job:
        if step.text().startswith("aligning turned"):
            break
    assert not any(entry.is_aligned or entry.alignment for entry in study.slides)
    job.close()
    assert not any(entry.is_aligned or entry.alignment for entry in study.slides)
    done = run(align_job(study, "A-1", ["turned", "turned"], apply=False))
    assert {name: one.verdict for name, one in done.items()} == {"turned": "good"}
    assert not study.slide("turned").is_aligned


def test_taking_back_makes_no_circle(study):
    """B lay on A, lies on C; A lies on B: taking B back would lay both on each other."""
    set_alignment(study, "A-1", "B-1", found(shift(10, 0)))
    set_alignment(study, "A-2", "B-1", found(shift(20, 0)))
    set_alignment(study, "B-1", "A-1", found(shift(30, 0)))
    places = {entry.name: entry.affine_um for entry in study.slides}
    with pytest.raises(StudyError, match="B-1: it lay on A-1, which is aligned onto it now"):
        undo_alignment(study, "B-1")
    assert {entry.name: entry.affine_um for entry in study.slides} == places
    assert study.slide("B-1").alignment.reference == "A-2"
    # both together: the one that the other waits for goes first
    undone, refused = undo_alignments(study, [study.slide("B-1"), study.slide("A-1")])
    assert ([entry.name for entry in undone], refused) == (["B-1", "A-1"], [])
    assert not study.slide("A-1").is_aligned
    assert np.allclose(study.slide("B-1").affine_um, shift(10, 0))


def test_a_circle_in_a_damaged_file_ends(study):
    set_alignment(study, "A-1", "B-1", found(shift(10, 0)))
    a, b = study.slide("A-1"), study.slide("B-1")
    a.alignment = b.alignment.model_copy(update={"reference": "B-1"})
    assert root_of(study, a) is None
    undo_alignment(study, b)
    assert (b.alignment, b.is_aligned) == (None, False)


def test_a_reference_that_leaves_takes_its_name_along(study):
    """Another slide of that name is other tissue; who lay there stays, and can still be taken back."""
    set_alignment(study, "A-2", "turned", found(shift(7, 0)))
    set_alignment(study, "A-1", "turned", found(HALF_TURN))
    set_alignment(study, "A-1", "B-1", found(shift(3, 4)))
    set_alignment(study, "A-2", "B-1", found(shift(5, 6)))
    set_alignment(study, "turned", "B-2", found(shift(1, 1)))
    other = study.slide("B-2").path
    study.remove_slide("A-1")
    child = study.slide("turned")
    assert child.alignment is None
    assert np.allclose(child.affine_um, HALF_TURN)
    assert root_of(study, study.slide("B-2")) is child
    study.update_slide("B-2", name="was B-2")
    study.remove_slide("was B-2")
    study.add_slide(other, name="A-1")
    assert root_of(study, child) is None
    run(study.encode_job(["A-1", "turned"]))
    assert set(study.table(["A-1", "turned"]).obs["pair"]) == {""}
    undo_alignment(study, child)
    assert (child.alignment.reference, child.affine_um[0][2]) == ("A-2", 7.0)
    undo_alignment(study, "B-1")
    assert study.slide("B-1").alignment is None
    assert not study.slide("B-1").is_aligned


def rigid(seed):
    rng = np.random.default_rng(seed)
    t = rng.uniform(-3, 3)
    turn = [[np.cos(t), -np.sin(t)], [np.sin(t), np.cos(t)]]
    return np.vstack([np.c_[turn, rng.uniform(-100, 100, 2)], [0, 0, 1]])


STEPS = st.tuples(
    st.sampled_from(["set", "set", "set", "undo", "undo", "rename", "remove"]),
    st.integers(0, 4),
    st.integers(0, 4),
    st.integers(0, 99),
)


@settings(max_examples=150, deadline=None)
@given(st.lists(STEPS, max_size=25))
def test_slides_keep_their_place_on_their_reference_whatever_is_done(steps):
    """Against a plain model: stacks of (reference, matrix on it); the model knows no absolute place but the root's."""
    work = Shelf("s", [], Settings())
    told: dict[
        str, list
    ] = {}  # by fingerprint: what was set, oldest first; (reference's fingerprint, matrix)

    numbers = itertools.count()

    def add():
        number = next(numbers)
        work.slides.append(
            SlideEntry(name=work._free_name("slide"), path="/none", fingerprint=f"{number:032d}")
        )
        told[work.slides[-1].fingerprint] = [(None, np.eye(3))]

    def leads_to(here, there):
        while here != there and here is not None:
            here = told[here][-1][0]
        return here is not None

    for _ in range(5):
        add()
    for number, (what, first, second, seed) in enumerate(steps):
        a, b = work.slides[first], work.slides[second]
        if what == "set":
            if leads_to(a.fingerprint, b.fingerprint):
                with pytest.raises(StudyError):
                    set_alignment(work, a, b, found(rigid(seed)))
            else:
                set_alignment(work, a, b, found(rigid(seed)))
                told[b.fingerprint].append((a.fingerprint, rigid(seed)))
        elif what == "undo":
            before = told[a.fingerprint][-2] if len(told[a.fingerprint]) > 1 else None
            if before is not None and leads_to(before[0], a.fingerprint):
                with pytest.raises(StudyError):
                    undo_alignment(work, a)
            else:
                assert undo_alignment(work, a) == (before is not None)
                if before is not None:
                    told[a.fingerprint].pop()
        elif what == "rename":
            work.update_slide(a, name=f"name {number}")
        else:
            work.remove_slide(a)
            del told[a.fingerprint]
            for entry in work.slides:
                *stack, last = told[entry.fingerprint]
                if last[0] == a.fingerprint:
                    last = (None, np.array(entry.affine_um))
                kept = [one for one in stack if one[0] != a.fingerprint]
                told[entry.fingerprint] = [*kept, last]
            add()  # under a name that may be the removed one's
        present = {entry.fingerprint: entry for entry in work.slides}
        for fingerprint, entry in present.items():
            said = [*entry.earlier_affines, (entry.affine_um, entry.alignment)]
            assert len(said) == len(told[fingerprint])
            for (affine, record), (reference, matrix) in zip(said, told[fingerprint], strict=True):
                assert (record is None) == (reference is None)
                if record is not None:
                    assert record.reference == present[reference].name
                    matrix = np.array(present[reference].affine_um) @ matrix
                assert np.allclose(affine, matrix, atol=1e-6)


def test_tiles_carry_the_reference_tile(study):
    run(study.encode_job(["A-1", "B-1", "turned", "A-2"]))
    assert set(study.table().obs["pair"]) == {""}
    set_alignment(study, "A-1", "B-1", found(shift(0, TILE * MPP)))
    set_alignment(study, "B-1", "turned", found(HALF_TURN))
    set_alignment(study, "A-1", "A-2", found(shift(1, 1), "uncertain"))
    obs = study.table().obs
    pair = {
        (s, r, c): p for s, r, c, p in zip(obs["slide"], obs["row"], obs["col"], obs["pair"], strict=True)
    }
    rows, cols = study.grid("A-1").shape
    # B-1 lies one tile to the right; its last column lies off A-1, A-1's first is shown by nobody
    for r in range(rows):
        for c in range(cols):
            if ("B-1", r, c) in pair:
                assert pair["B-1", r, c] == (f"A-1 r{r} c{c + 1}" if c + 1 < cols else "")
            if ("turned", r, c) in pair:
                assert pair["turned", r, c] == (f"A-1 r{rows - 1 - r} c{cols - c}" if c > 0 else "")
            if ("A-1", r, c) in pair:
                assert pair["A-1", r, c] == (f"A-1 r{r} c{c}" if c > 0 else "")
            assert pair.get(("A-2", r, c), "") == ""
    groups = obs[obs["pair"] != ""].groupby("pair", observed=True)["slide"].nunique()
    assert groups.max() == 3


def test_results_stay_current_when_slides_are_aligned(study):
    from napari_batchfx.study.tables import inputs_digest, material_digest

    before = material_digest(study), inputs_digest(study, study.settings.encode, {})
    set_alignment(study, "A-1", "B-1", found(shift(3, 4)))
    assert (material_digest(study), inputs_digest(study, study.settings.encode, {})) == before


def test_the_command(study, tmp_path):
    def call(*arguments):
        done = CliRunner().invoke(app, [str(argument) for argument in arguments])
        assert done.exit_code == 0, done.output
        return done.stdout

    study.save()
    folder, a, b, other = study.folder, *(study.slide(name).path for name in ("A-1", "turned", "A-2"))
    study.close()
    kept = tmp_path / "found.json"
    answer = json.loads(call("align", a, b, "--json", "--save", kept))["turned"]
    assert answer["verdict"] == "good"
    assert abs(answer["rotation_deg"]) == pytest.approx(180, abs=0.1)
    call("align", folder, "--reference", "A-1", "--slide", "turned", "--from", kept)
    with Study.open(folder) as again:
        assert np.allclose(again.slide("turned").affine_um, answer["affine_um"])
    call("align", folder, "--undo")
    with Study.open(folder) as again:
        assert not again.slide("turned").is_aligned
    assert "Turned by" in call("align", folder, "--reference", "A-1", "--slide", "turned")
    with Study.open(folder) as again:
        assert again.slide("turned").alignment.verdict == "good"
    refused = CliRunner().invoke(app, ["align", str(a), str(other)])
    assert refused.exit_code == 1
    assert "No alignment found" in refused.stdout


def test_the_command_counts_a_slide_once(study):
    """A-2 is other tissue, B-2 is gone, turned is laid: two of three."""
    study.save()
    study.slide("B-2").path.unlink()
    study.close()
    asked = ["--slide", "A-2", "--slide", "B-2", "--slide", "turned", "--slide", "turned"]
    done = CliRunner().invoke(app, ["align", str(study.folder), "--reference", "A-1", *asked])
    assert done.exit_code == 3
    assert "2 of 3 slides failed; the others are done" in done.output
    assert done.output.count("A-2: not aligned") == 1
    alone = CliRunner().invoke(app, ["align", str(study.folder), "--reference", "A-1", "--slide", "A-2"])
    assert alone.exit_code == 1
    assert "of 2" not in alone.output


def test_controls_of_rescans_look_at_no_more_places_than_asked_for(study, monkeypatch):
    """Of very large rescans a part is looked at, and on both the same places."""
    run(study.encode_job(["A-1", "B-1"]))
    set_alignment(study, "A-1", "B-1", found(shift(0, TILE * MPP)))
    study.update_slide("A-1", site="A")
    study.update_slide("B-1", site="B")
    for entry in [entry for entry in study.slides if entry.name not in ("A-1", "B-1")]:
        study.remove_slide(entry)
    study.settings.adapt.batch = "site"
    whole = study.suggest_controls(pairs=True)
    monkeypatch.setattr("napari_batchfx.study.suggesting._A_SLIDE", 20)
    part = study.suggest_controls(pairs=True)
    moved = {"A-1": 0.0, "B-1": TILE * MPP}
    places = {
        name: {(t.y_um, round(t.x_um + by, 6)) for t in part.tiles if t.slide == name}
        for name, by in moved.items()
    }
    assert places["A-1"] == places["B-1"]
    assert 0 < len(places["A-1"]) <= 20
    assert len(whole.tiles) > len(part.tiles)
    assert study.suggest_controls(pairs=True, seed=0) == part
    assert study.suggest_controls(pairs=True, seed=1) != part
