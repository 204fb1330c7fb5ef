"""Steps are recorded as they are done, read by a person, and done again: the same features, the same numbers."""

from __future__ import annotations

import json
import shlex
import shutil

import numpy as np
import pytest
from typer.testing import CliRunner

from napari_batchfx.cli import app
from napari_batchfx.errors import StudyError
from napari_batchfx.jobs import run
from napari_batchfx.study import EncodeSettings, Selection, Step, StepKind, Study, register_step
from napari_batchfx.study.selection import cells_of_text, text_of_cells

from .conftest import MPP, TILE, set_up


def afresh(folder, to, *, whole=False):
    """A copy of a study, without features and results: what a colleague gets who has the slides."""
    if whole:
        shutil.copytree(folder, to)
    to.mkdir(exist_ok=True)
    shutil.copy(folder / "annotations.geojson", to)
    data = json.loads((folder / "study.json").read_text())
    for slide in data["slides"]:
        slide["path"] = str((folder / slide["path"]).resolve())
    (to / "study.json").write_text(json.dumps(data))
    return to


def features(folder):
    """Every vector that is stored, by slide, encoder, grid, stain and cell."""
    from napari_batchfx.features import FeatureStore

    store = FeatureStore(folder / "features.zarr")
    found = {}
    for row in list(store.keys()):
        key = tuple(row[name] for name in ("fingerprint", "encoder", "grid", "stain"))
        array = store.array(*key)
        cells = array.done_cells()
        found[key] = (cells.tolist(), array.read(cells).tobytes())
    return found


def results(folder):
    """What was found, as it is kept, without when and where."""
    found = {}
    for path in sorted((folder / "results").glob("*.json")):
        found[path.name] = json.loads(path.read_text())
    return found


@pytest.fixture(scope="module")
def history(slide_files, tmp_path_factory):
    """A study with a history as docks make one: a part of the tiles, a probe, other tiles, two corrections."""
    with set_up(tmp_path_factory.mktemp("history") / "s", slide_files) as study:
        some = {name: np.argwhere(np.ones((5, 10), bool)) for name in ("A-1", "A-2", "B-1", "B-2")}
        some["A-1"] = some["A-1"][:33]
        run(study.encode_job(cells=some))
        run(study.probe_job())
        study.settings.encode.stride_px = TILE // 2
        run(study.encode_job())
        run(study.probe_job())
        run(study.adapt_job())
        study.settings.adapt.method = "tvn"
        run(study.adapt_job())
        study.save()
    return study.folder


@pytest.fixture
def worked(history, tmp_path):
    """A copy of it."""
    return afresh(history, tmp_path / "s.batchfx", whole=True)


def call(*words):
    done = CliRunner().invoke(app, [str(word) for word in words])
    assert done.exit_code == 0, done.output
    return done.stdout


def test_run_repeats_the_history_to_the_bit(worked, tmp_path):
    again = afresh(worked, tmp_path / "again.batchfx")
    call("run", again)
    assert features(again) == features(worked)
    assert results(again) == results(worked)
    assert len(results(again)) == 4
    # done again where everything is there, nothing is encoded and nothing changes
    assert "encoded: 0 tiles" in call("run", again)
    assert results(again) == results(worked)


def test_a_person_can_read_it(worked):
    text = (worked / "study.json").read_text()
    steps = json.loads(text)["steps"]
    assert [step["kind"] for step in steps] == [*["encode", "probe"] * 2, "controls", "adapt", "adapt"]
    assert steps[0]["selection"]["tiles"]["A-1"] == "0:0-9 1:0-9 2:0-9 3:0-2"
    assert steps[1]["selection"]["tiles"].keys() == {"A-1", "A-2", "B-1", "B-2"}
    assert steps[3]["selection"] == {"slides": [], "tiles": {}}  # everything: not spelled out
    assert steps[4]["found"] == "4 regions drawn on 4 slides."
    assert steps[5]["settings"]["adapt"]["method"] == "standardize"
    assert "tiles" in steps[0]["found"]
    listed = call("steps", worked).splitlines()
    assert len(listed) == 7
    assert listed[1].startswith("2. Site probe (20")


@pytest.mark.parametrize("number", range(1, 8))
def test_as_python_and_as_command_do_the_step(worked, tmp_path, number):
    by_python, by_command = (afresh(worked, tmp_path / f"{how}.batchfx") for how in ("python", "command"))
    with Study.open(worked) as study:
        step = study.steps[number - 1]
        python, command = step.as_python(by_python), step.as_command(by_command)
        assert str(worked) in step.as_python()
        assert str(worked) in step.as_command()
    exec(compile(python, "step", "exec"), {})
    words = shlex.split(command)
    assert words[0] == "napari-batchfx"
    call(*words[1:])
    assert features(by_python) == features(by_command)
    assert features(by_python).items() <= features(worked).items()
    assert results(by_python) == results(by_command)
    if step.kind not in ("encode", "controls"):
        (found,) = results(by_python).values()
        kept = [one for one in results(worked).values() if one["kind"] == step.kind]
        assert any(_same(found, one) for one in kept)


def _same(one, other):
    """Equal in what was found: the classifiers' digest stands with the probe run last only, whose file they are."""
    found, kept = ({key: value for key, value in each.items() if key != "fitted"} for each in (one, other))
    return json.dumps(found, sort_keys=True) == json.dumps(kept, sort_keys=True)


def test_a_long_list_of_tiles_is_named_by_its_step(worked):
    with Study.open(worked) as study:
        step = study.steps[0]
        cells = np.argwhere(np.indices((80, 80)).sum(axis=0) % 2 == 0)
        long = step.model_copy(update={"selection": Selection(tiles={"A-1": text_of_cells(cells)})})
        long.bind(worked, 1)
        assert shlex.split(long.as_command())[-2:] == ["--step", "1"]


def test_steps_follow_a_slide_to_its_new_name(worked):
    with Study.open(worked) as study:
        study.update_slide("A-1", name="Scan, of 'A'")
        study.save()
        assert "Scan, of 'A'" in study.steps[0].selection.tiles
    call("run", worked)


def test_the_same_question_is_one_step(slides, tmp_path):
    with set_up(tmp_path / "s", slides) as study:
        for _ in range(2):
            run(study.encode_job())
            run(study.probe_job())
        assert [step.kind for step in study.steps] == ["encode", "probe"]
        study.run()
        assert [step.kind for step in study.steps] == ["encode", "probe", "adapt"]
        before = study.settings.model_dump()
        study.settings.probe.batch = "patient"
        outcome = study.run()
        assert [step.kind for step, _ in outcome.done] == ["encode", "probe", "adapt", "probe"]
        assert outcome.probe.result.batch == "patient"
        assert study.settings.model_dump() == {**before, "probe": {**before["probe"], "batch": "patient"}}


def test_what_a_program_does_not_know_is_kept_and_said(worked, tmp_path):
    path = worked / "study.json"
    data = json.loads(path.read_text())
    data["steps"].append({"kind": "dream", "version": "9.0", "settings": {"dreams": {"colour": 3}}})
    path.write_text(json.dumps(data))
    with Study.open(worked) as study:
        assert "does not know" in study.steps[-1].as_python()
        with pytest.raises(StudyError, match=r"'dream' was recorded by napari-batchfx 9\.0"):
            run(study.run_job([study.steps[-1]]))
        outcome = study.run()
        assert [problem.subject for problem in outcome.problems] == ["dream"]
        study.save()
    assert json.loads(path.read_text())["steps"][-1]["settings"] == {"dreams": {"colour": 3}}


def test_another_package_registers_its_work(slides, tmp_path):
    def count_job(study, least=0):
        yield from study.encode_job()
        return [slide.name for slide in study.slides][least:]

    from napari_batchfx.study import step as module

    kind = StepKind("count", "Count", ("encode",), job=count_job, call="count_job(study, {options})")
    try:
        register_step(kind)
        with set_up(tmp_path / "s", slides) as study:
            outcome = study.run_job([Step(kind="count", options={"least": 2})])
            assert run(outcome).done[0][1] == ["A-2", "B-2"]
            assert "run(count_job(study, least=2))" in study.steps[-1].as_python()
            study.save()
        call("run", study.folder, "--do", "count", "--set", "least=1")
        with pytest.raises(ValueError, match="no settings called nothing"):
            register_step(StepKind("x", "X", ("nothing",)))
    finally:
        module._kinds.pop("count", None)


def test_an_encoding_of_some_slides(slides, tmp_path):
    with set_up(tmp_path / "s", slides) as study:
        run(study.encode_job(["A-1", "B-1"]))
        assert study.steps[0].selection.slides == ["A-1", "B-1"]
        run(study.probe_job())
        assert study.steps[1].selection.slides == ["A-1", "B-1"]
        study.save()
    text = call("run", study.folder, "--step", 1, "--json")
    assert json.loads(text)["encode"]["slides"] == 2


def test_options_that_can_t_be(worked):
    def code(*words):
        return CliRunner().invoke(app, ["run", str(worked), *map(str, words)]).exit_code

    assert code("--step", 99) == 1
    assert code("--do", "dream") == 2
    assert code("--set", "probe.batch=site") == 2
    assert code("--do", "probe", "--set", "probe.batch=hospital") == 2
    assert code("--do", "probe", "--set", "adapt.batch=site") == 2
    assert code("--do", "encode", "--tiles", "A-1") == 2
    assert code("--do", "encode", "--tiles", "A-1=x") == 1
    assert code("--do", "encode", "--slide", "nobody") == 1


def test_cells_as_text():
    rng = np.random.default_rng(0)
    for _ in range(50):
        cells = np.unique(rng.integers(0, 12, (rng.integers(0, 60), 2)), axis=0)
        assert np.array_equal(cells_of_text(text_of_cells(cells)), cells)
    for wrong in ("1", "1:", "1:2-", "1:3-2", "-1:2", "1:0-99999999999", "1:0-999999999", "1:2;3"):
        with pytest.raises(StudyError, match="A"):
            cells_of_text(wrong, "A")


def test_settings_of_the_time_are_recorded(slides, tmp_path):
    with set_up(tmp_path / "s", slides) as study:
        job = study.encode_job()
        next(job)
        study.settings.encode = EncodeSettings(size_px=128, mpp=MPP)  # the person goes on meanwhile
        run(job)
        assert study.steps[0].settings["encode"]["size_px"] == TILE
