"""``napari-batchfx import``: features of other programs become a table that `probe` takes."""

from __future__ import annotations

import json

import pytest
from tests.features.test_imports import clam, trident
from typer.testing import CliRunner

from napari_batchfx.cli import app
from napari_batchfx.features import read_h5ad


@pytest.fixture
def command():
    def run(*arguments):
        return CliRunner().invoke(app, [str(argument) for argument in arguments])

    return run


CELLS = [(r, c) for r in range(4) for c in range(5)]


def test_import_then_probe(command, tmp_path):
    files = [trident(tmp_path, name=f"{site}-{n}", cells=CELLS) for site in "AB" for n in (1, 2, 3)]
    out = tmp_path / "all.h5ad"
    sites = [part for site in "AAABBB" for part in ("--site", site)]
    done = command("import", *files, "--out", out, "--mpp", 0.25, *sites)
    assert done.exit_code == 0, done.output
    assert "120 tiles, 6 slides, 8 features" in done.stderr
    table = read_h5ad(out)
    assert table.obs.groupby("site", observed=True).size().to_dict() == {"A": 60, "B": 60}
    assert table.uns["batchfx"]["encoder"]["name"] == "uni_v1"
    probed = command("probe", out, "--batch", "site", "--group", "slide", "--permutations", 3, "--json")
    assert probed.exit_code == 0, probed.output
    assert 0 <= json.loads(probed.stdout)["balanced_accuracy"] <= 1


def test_clam_with_its_patches_and_what_is_missing_is_said(command, tmp_path):
    path, patches = clam(tmp_path)
    done = command("import", path, "--patches", patches, "--encoder", "resnet50", "-o", tmp_path / "t.h5ad")
    assert done.exit_code == 0, done.output
    assert "Mind: slide-7: its pixel size isn't known" in done.stderr
    assert read_h5ad(tmp_path / "t.h5ad").uns["batchfx"]["encoder"]["key"] == "imported:resnet50:4"


def test_one_bad_file_is_said_and_the_others_are_written(command, tmp_path):
    good, bad = trident(tmp_path, cells=CELLS), tmp_path / "bad.h5"
    bad.write_text("no")
    done = command("import", good, bad, "--out", tmp_path / "t.h5ad")
    assert done.exit_code == 3  # the other was written
    assert "bad.h5: can't be read as HDF5" in done.stderr
    assert "Traceback" not in done.output
    assert read_h5ad(tmp_path / "t.h5ad").n_obs == 20
    other = trident(tmp_path, name="other", cells=CELLS, encoder="virchow2", dim=5)
    done = command("import", good, other, "--out", tmp_path / "two.h5ad")
    assert done.exit_code == 1
    assert "features of two encoders" in done.stderr
    assert not (tmp_path / "two.h5ad").exists()


def test_options_that_do_not_fit(command, tmp_path):
    path = trident(tmp_path)
    assert command("import", path, "--out", tmp_path / "t.h5ad", "--site", "A", "--site", "B").exit_code == 2
    assert command("import", path, "--out", tmp_path / "t.csv").exit_code == 1
    assert command("import", path, "--out", tmp_path / "none" / "t.h5ad").exit_code == 1
    assert command("import", path, path, "--out", tmp_path / "t.h5ad", "--slide", path).exit_code == 2
