"""``--json``: one JSON object on standard output and nothing else there, with the exit codes of every command."""

from __future__ import annotations

import json
import os

import numpy as np
import pytest
import typer
from typer.testing import CliRunner

from napari_batchfx.cli import app
from napari_batchfx.slides import write_pyramid


@pytest.fixture
def command():
    def run(*arguments):
        return CliRunner().invoke(app, [str(argument) for argument in arguments])

    return run


@pytest.fixture
def slide(tmp_path):
    """A slide of noise, 160 um wide."""
    image = np.random.default_rng(0).integers(90, 200, (320, 320, 3)).astype(np.uint8)
    return write_pyramid(tmp_path / "A.tif", image, 0.5, compression="deflate")


def said(result) -> dict:
    found = json.loads(result.stdout)
    assert isinstance(found, dict)
    return found


def commands(found, path: tuple[str, ...] = ()):
    if hasattr(found, "commands"):
        for name, one in found.commands.items():
            yield from commands(one, (*path, name))
    else:
        yield " ".join(path), found


def test_every_command_can_answer_as_json():
    without = {
        name
        for name, one in commands(typer.main.get_command(app))
        if not any("--json" in parameter.opts for parameter in one.params)
    }
    assert not without


def test_report(command, slide, tmp_path):
    from napari_batchfx.study import Study

    with Study.create(tmp_path / "s") as study:
        study.add_slide(slide)
        study.save()
    done = command("report", study.folder, "--json")
    assert done.exit_code == 0, done.stderr
    found = said(done)
    assert found == {
        "report": str(tmp_path / "s.html"),
        "bytes": os.stat(found["report"]).st_size,
        "problems": [],
    }
    slide.rename(tmp_path / "elsewhere.tif")
    part = command("report", study.folder, "--json")
    assert part.exit_code == 3
    assert [problem for problem in said(part)["problems"] if "A.tif is not where it was" in problem]
    assert "A.tif is not where it was" in part.stderr
    nowhere = command("report", study.folder, "--json", "--out", tmp_path / "none" / "r.html")
    assert (nowhere.exit_code, nowhere.stdout) == (1, "")
    assert len(nowhere.stderr.strip().splitlines()) == 1


def test_samples(command, tmp_path):
    from napari_batchfx import samples

    for how in (("samples", "--json"), ("samples", "list", "--json")):
        found = said(command(*how))["samples"]
        assert [one["name"] for one in found] == samples.names()
        assert {one["name"]: one["bytes"] for one in found}["CMU-1-Small-Region.svs"] == 1_938_955
    got = command("samples", "get", "immunohistochemistry", "--out", tmp_path, "--json")
    assert got.exit_code == 0, got.stderr
    (file,) = said(got)["files"]
    assert os.path.isfile(file)
    unknown = command("samples", "get", "none", "--json")
    assert (unknown.exit_code, unknown.stdout) == (1, "")


def test_stain(command, slide):
    done = command("stain", slide, "--json", "--method", "ruifrok")
    assert done.exit_code == 0, done.stderr
    assert "quality" in said(done)


def test_demo_without_a_display(command, tmp_path, monkeypatch):
    for name in ("DISPLAY", "WAYLAND_DISPLAY"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr("sys.platform", "linux")
    done = command("demo", "--json", "--out", tmp_path / "d")
    assert (done.exit_code, done.stdout) == (1, "")
    assert "There is no display" in done.stderr
    assert not (tmp_path / "d").exists()


def test_what_a_demo_left_is_said_by_its_files(tmp_path):
    from napari_batchfx.viewer.demo import Told

    told = Told(tmp_path, [{"key": "1", "said": "seen", "picture": "1.png"}], ["went wrong"])
    assert told.to_dict()["report"] is None
    (tmp_path / "report.html").write_text("")
    facts = told.to_dict()
    assert facts["report"] == str(tmp_path / "report.html")
    assert (facts["study"], facts["problems"], facts["steps"]) == (None, ["went wrong"], told.steps)


def test_small_commands(command, slide, tmp_path, monkeypatch):
    monkeypatch.setenv("BATCHFX_PREPARED", str(tmp_path / "kept"))
    prepared = command("prepare", slide, tmp_path / "none.tif", "--json")
    assert prepared.exit_code == 3
    facts = said(prepared)
    assert list(facts["slides"]) == ["A"]
    assert len(facts["problems"]) == 1
    normal = command("normalize", slide, "--out", tmp_path / "n.ome.tif", "--method", "ruifrok", "--json")
    assert normal.exit_code == 0, normal.stderr
    assert said(normal)["width_px"] == 320
    assert said(normal)["bytes"] == os.stat(tmp_path / "n.ome.tif").st_size


def test_controls_of_other_slides_are_a_part_that_failed(command, slide, tmp_path):
    from napari_batchfx.study import ControlTile, Study

    with Study.create(tmp_path / "s") as study:
        name = study.add_slide(slide).name
        study.put_controls([ControlTile(name, 56.0, 56.0, 112.0)])
        study.save()
    out = tmp_path / "c.csv"
    written = command("controls", "export", study.folder, out, "--json")
    assert said(written) == {"file": str(out), "tiles": 1}
    rows = out.read_text().splitlines()
    new = rows[1].replace(",56.0,", ",20.0,", 1)
    out.write_text("\n".join([rows[0], new, "0" * 32 + new[new.index(",") :]]) + "\n")
    read = command("controls", "import", study.folder, out, "--json")
    assert read.exit_code == 3, read.stderr
    facts = said(read)
    assert (facts["tiles"], facts["new"], len(facts["problems"])) == (2, 1, 1)
    (step,) = json.loads(command("steps", study.folder, "--json").stdout)[:1]
    assert (step["kind"], step["found"]) == ("controls", "2 tiles (2 by hand) on 1 slide.")
