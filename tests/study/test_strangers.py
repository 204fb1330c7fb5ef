"""A study, a head or controls from somebody else run no code, read nothing outside, and can't fill the memory."""

from __future__ import annotations

import io
import json
import os
import pickle
import resource
import struct
import zipfile

import pytest

from napari_batchfx.errors import AdaptError, BatchfxError, FeatureError, SlideError, StudyError
from napari_batchfx.features import FeatureStore
from napari_batchfx.jobs import run
from napari_batchfx.study import Study
from napari_batchfx.study.sheet import read_sheet

from .conftest import set_up


@pytest.fixture
def saved(slides, tmp_path):
    with set_up(tmp_path / "s", slides) as study:
        study.save()
    return study.folder


KEYS = ("fingerprint", "encoder", "grid", "stain")


def edit(folder, change):
    data = json.loads((folder / "study.json").read_text())
    change(data)
    (folder / "study.json").write_text(json.dumps(data))


class Bomb:
    def __reduce__(self):
        return (os.system, ("touch exploded",))


@pytest.fixture
def bomb(tmp_path, monkeypatch):
    """A pickle that leaves a file where it is loaded."""
    monkeypatch.chdir(tmp_path)
    yield pickle.dumps(Bomb())
    assert not (tmp_path / "exploded").exists()


def test_pickles_are_never_loaded(saved, bomb):
    from napari_batchfx.adapt import load, load_head

    results = saved / "results"
    for name in ("head.safetensors", "correction.safetensors", "probe.json", "adapt.json"):
        (results / name).write_bytes(bomb)
    (saved / "annotations.geojson").write_bytes(bomb)
    (saved / "stain.json").write_bytes(bomb)
    with Study.open(saved) as study:
        assert len(study.problems) == 3
    for loader in (load, load_head):
        with pytest.raises(AdaptError):
            loader(results / "head.safetensors")
    (saved / "study.json").write_bytes(bomb)
    with pytest.raises(StudyError, match="damaged"):
        Study.open(saved)


def test_head_files_that_declare_too_much(tmp_path):
    from napari_batchfx.adapt import load, load_head

    huge = {"w": {"dtype": "F32", "shape": [2**40, 2**10], "data_offsets": [0, 2**52]}}
    for text, size in ((json.dumps(huge), None), ("{}", 2**60), ("[" * 100_000, None), ("{", 1)):
        path = tmp_path / "head.safetensors"
        path.write_bytes(struct.pack("<Q", len(text) if size is None else size) + text.encode())
        for loader in (load, load_head):
            with pytest.raises(AdaptError, match=r"head\.safetensors"):
                loader(path)


@pytest.mark.parametrize(
    "part", ["study.json", "annotations.geojson", "features.zarr", "results", "results/probe.json"]
)
def test_links_that_lead_out_are_not_followed(saved, tmp_path, part):
    """Neither read nor, worse, written or deleted."""
    with Study.open(saved) as study:
        run(study.encode_job())
        run(study.probe_job())
        study.save()
    away = tmp_path / "away"
    away.mkdir()
    secret = (saved / part).rename(away / "secret")
    (saved / part).symlink_to(secret)
    before = sorted(str(path) for path in away.rglob("*"))
    with pytest.raises(StudyError, match="link to another place"), Study.open(saved):
        pass
    assert sorted(str(path) for path in away.rglob("*")) == before
    (saved / part).unlink()
    (saved / part).symlink_to(part.rpartition("/")[2])  # to itself
    with pytest.raises(StudyError), Study.open(saved):
        pass


def test_features_that_are_links_deeper_down(saved, tmp_path):
    with Study.open(saved) as study:
        run(study.encode_job())
        fingerprint = study.slides[0].fingerprint
    entry = next((saved / "features.zarr" / fingerprint).glob("*/"))
    secret = entry.rename(tmp_path / "secret")
    entry.symlink_to(secret, target_is_directory=True)
    store = FeatureStore(saved / "features.zarr")
    (row,) = [one for one in list(store.keys()) if one["fingerprint"] == fingerprint]
    assert "link to another place" in row["damaged"]
    with pytest.raises(FeatureError, match="link to another place"):
        store.array(*(json.loads((secret / "zarr.json").read_text())["attributes"][key] for key in KEYS))
    assert secret.is_dir()


def test_a_slide_is_read_only_if_it_holds_what_the_study_says(saved, tmp_path):
    """A study can't make somebody's own pictures appear by guessing where they are."""
    private = tmp_path / "private.tif"
    private.write_bytes((tmp_path / "slides" / "B-1.tif").read_bytes() + b"!")
    pipe = tmp_path / "pipe.tif"
    os.mkfifo(pipe)
    for place in (str(private), "../private.tif", "../../../../../../etc/passwd", "/dev/zero", str(pipe)):
        edit(saved, lambda data, place=place: data["slides"][0].update(path=place))
        with Study.open(saved) as study:
            with pytest.raises(SlideError, match="A-1"):
                study.open_slide("A-1")
            assert not study.is_open(study.slide("A-1"))
    for place in ("//attacker/share/a.svs", "\\\\attacker\\share\\a.svs"):
        edit(saved, lambda data, place=place: data["slides"][0].update(path=place))
        with pytest.raises(StudyError, match="another machine"):
            Study.open(saved)


@pytest.mark.parametrize("name", ["../../outside", "/tmp/outside", "a/../../b", "..", "."])
def test_a_fingerprint_is_no_path(saved, tmp_path, name):
    edit(saved, lambda data: data["slides"][0].update(fingerprint=name))
    with Study.open(saved) as study:
        outcome = run(study.encode_job())
        assert [problem.subject for problem in outcome.problems] == ["A-1"]
        with pytest.raises(FeatureError, match="no slide fingerprint"):
            study.store().array(name, "e", "g", dim=2)
    assert not (tmp_path / "outside").exists()


def test_files_that_are_nested_or_named_to_exhaust(saved):
    for text in ("[" * 100_000, '{"format":' * 50_000):
        (saved / "study.json").write_text(text)
        with pytest.raises(StudyError, match="damaged"):
            Study.open(saved)


def test_regions_and_results_that_are_nested_or_declare_too_much(saved):
    (saved / "annotations.geojson").write_text("[" * 100_000)
    (saved / "results" / "probe.json").write_text('{"a":' * 50_000)
    edit(
        saved,
        lambda data: data["steps"].append(
            {"kind": "encode", "selection": {"slides": [], "tiles": {"A-1": "0:0-999999999"}}}
        ),
    )
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    with Study.open(saved) as study:
        assert {problem.subject for problem in study.problems} == {"annotations.geojson", "probe.json"}
        outcome = run(study.encode_job())
        assert outcome.problems == ()
        with pytest.raises(BatchfxError, match="at most"):
            study.steps[0].selection.cells("A-1")
    assert (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) * 1024 < 300e6


def test_a_store_that_declares_too_much(saved):
    """10**12 rows of 10**9 numbers, in a file of a few hundred bytes."""
    with Study.open(saved) as study:
        run(study.encode_job())
    (path,) = list((saved / "features.zarr").glob("*/*/vectors/zarr.json"))[:1]
    data = json.loads(path.read_text())
    data["shape"] = [10**12, 10**12, 10**9]
    path.write_text(json.dumps(data))
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    with Study.open(saved) as study:
        outcome = run(study.encode_job())  # said in a sentence, or made anew
        for problem in outcome.problems:
            assert "Error" not in str(problem)
        with pytest.raises(BatchfxError) if len(outcome.problems) == 4 else _nothing():
            study.table("tissue")
    assert (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) * 1024 < 500e6


def _nothing():
    import contextlib

    return contextlib.nullcontext()


def test_a_zip_is_no_study(tmp_path):
    """Nothing of ours unpacks archives, so none can write outside."""
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w") as file:
        file.writestr("../../outside.txt", "slipped")
        file.writestr("study.json", "{}")
    (tmp_path / "z.batchfx").write_bytes(packed.getvalue())
    with pytest.raises(StudyError, match="not a study"):
        Study.open(tmp_path / "z.batchfx")
    assert not list(tmp_path.rglob("outside.txt"))


def test_code_in_names_stays_text(saved, tmp_path, monkeypatch):
    """Copied text runs: a name from a stranger must not become code in it."""
    monkeypatch.chdir(tmp_path)
    evil = "x'); import os; os.system('touch exploded') #\n$(touch exploded) `touch exploded`"
    with Study.open(saved) as study:
        run(study.encode_job(["A-1"]))
        study.update_slide("A-1", name=evil)
        study.save()
    edit(saved, lambda data: data["steps"][0]["options"].update({evil: 1, "note": evil}))
    with Study.open(saved) as study:
        step = study.steps[0]
        with pytest.raises(StudyError, match="option"):
            step.as_python()
        step.options = {"note": evil}
        python = step.as_python()
        assert repr(evil) in python
        compile(python, "step", "exec")
        import shlex

        assert evil in shlex.split(step.as_command())
    assert not (tmp_path / "exploded").exists()


def test_a_csv_of_a_stranger(tmp_path):
    (tmp_path / "a.csv").write_text("path,note\n" + "x" * 200_000 + ",y\n")
    _, problems = read_sheet(tmp_path / "a.csv")
    assert len(problems) == 1
    (tmp_path / "b.csv").write_bytes(b"path\n\x00\x01")
    with pytest.raises(StudyError, match="no text"):
        read_sheet(tmp_path / "b.csv")


CONTROL = "slide,y_um,x_um,size_um,reason\n"


@pytest.mark.parametrize("name", ["controls.csv", "controls.geojson"])
@pytest.mark.parametrize(
    "attack", ["one line of a gigabyte", "deep nesting", "millions of parts", "a long field"]
)
def test_control_samples_of_a_stranger(saved, tmp_path, name, attack):
    path = tmp_path / name
    is_json = name.endswith("json")
    start = '{"batchfx": {"unit": "micrometre"}, "features": ' if is_json else CONTROL
    if attack == "one line of a gigabyte":
        path.write_text(start)
        os.truncate(path, 10**9)  # takes no room on the disk
    elif attack == "deep nesting":
        path.write_text(start + "[" * 1_000_000)
    elif attack == "millions of parts":
        path.write_text(start + "[" + ",".join(["[]"] * 3_000_000) + "]}")
    else:
        path.write_text(start + '"' + "x" * 2_000_000 + '",1,1,1,\n')
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    with Study.open(saved) as study:
        with pytest.raises(StudyError) as caught:
            study.import_controls(path)
        assert str(caught.value).startswith(f"{name}: ")
        assert str(caught.value).endswith((".", "wrote."))
        assert not study.controls
    # the same as a part of a study: said, set aside, and the study opens
    os.replace(path, saved / "controls.csv")
    with Study.open(saved) as study:
        assert [problem.subject for problem in study.problems] == ["controls.csv"]
        assert (saved / "controls-damaged.csv").exists()
    assert (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) * 1024 < 200e6
