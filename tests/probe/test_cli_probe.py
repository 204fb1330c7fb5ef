"""The command: a table, features with a CSV, and what it writes."""

import csv
import io
import json

import numpy as np
import pytest
from typer.testing import CliRunner

from napari_batchfx.probe import FittedProbe, site_probe


@pytest.fixture
def command():
    from napari_batchfx.cli import app

    def run(*arguments):
        return CliRunner().invoke(app, ["probe", *map(str, arguments)])

    return run


@pytest.fixture
def files(make_batches, tmp_path):
    table = make_batches(slides=12, tiles=12, shift=0.8)
    table.write_h5ad(tmp_path / "t.h5ad")
    np.save(tmp_path / "x.npy", table.X)
    table.obs.to_csv(tmp_path / "columns.csv", index=False)
    np.save(tmp_path / "colour.npy", table.X[:, :3])
    return table, tmp_path


HOW = ("--batch", "site", "--permutations", 2, "--classifier", "centroid")


def test_the_same_from_a_table_and_from_features_with_columns(command, files):
    table, folder = files
    wanted = site_probe(table, permutations=2, probe="centroid")
    for source in ((folder / "t.h5ad",), (folder / "x.npy", folder / "columns.csv")):
        ran = command(*source, *HOW, "--json")
        assert ran.exit_code == 0, ran.stderr
        facts = json.loads(ran.stdout)
        assert facts["balanced_accuracy"] == pytest.approx(wanted.balanced_accuracy)
        assert facts["ci"] == pytest.approx(list(wanted.ci))
        assert facts["probe"] == "centroid"
        assert facts["calibration"]["ece"] == pytest.approx(wanted.ece, abs=1e-6)


def test_csv_of_measures_and_of_tiles(command, files):
    table, folder = files
    wanted = site_probe(table, permutations=2, probe="centroid")
    written = ("--tiles", folder / "tiles.csv", "--fitted", folder / "probe.safetensors")
    ran = command(folder / "t.h5ad", *HOW, "--csv", *written)
    assert ran.exit_code == 0, ran.stderr
    rows = {(row["measure"], row["of"]): row for row in csv.DictReader(io.StringIO(ran.stdout))}
    first = rows["balanced accuracy", "site"]
    assert float(first["value"]) == pytest.approx(wanted.balanced_accuracy, abs=1e-5)
    assert float(first["low"]) == pytest.approx(wanted.ci[0], abs=1e-5)
    assert int(rows["taken for", "AMC > AMC"]["tiles"]) == wanted.confusion[0, 0]
    assert ("balanced accuracy inside class", "tumour") in rows
    tiles = list(csv.DictReader((folder / "tiles.csv").open(encoding="utf-8")))
    np.testing.assert_allclose([float(t["confidence"]) for t in tiles], wanted.confidence, atol=1e-5)
    np.testing.assert_allclose([float(t["margin"]) for t in tiles], wanted.margin, atol=1e-5)
    np.testing.assert_allclose([float(t["p_AMC"]) for t in tiles], wanted.proba[:, 0], atol=1e-5)
    again = FittedProbe.load(folder / "probe.safetensors").apply(table.X, table.obs["patient"])
    np.testing.assert_allclose(again, wanted.proba, atol=1e-5)


def test_the_signature_is_printed_and_given(command, files):
    _, folder = files
    how = (*HOW, "--signature", "--colour", folder / "colour.npy")
    ran = command(folder / "t.h5ad", *how, "--json")
    assert ran.exit_code == 0, ran.stderr
    found = json.loads(ran.stdout)["signature"]
    assert set(found["colour"]) == {"features", "colour", "without_colour", "colour_share", "left_share"}
    text = " ".join(command(folder / "t.h5ad", *how).stdout.split())
    assert "strongest: component" in text
    assert "colour taken out" in text
    assert "distance, other site, same class" in text


def test_what_is_missing_is_one_sentence(command, files):
    _, folder = files
    ran = command(folder / "x.npy")
    assert ran.exit_code == 1
    assert "give the CSV with batch, slide and patient" in " ".join(ran.stderr.split())
    assert command(folder / "t.h5ad", "--json", "--csv").exit_code == 2
    assert command(folder / "t.h5ad", "--colour", folder / "colour.npy").exit_code == 2
    unknown = command(folder / "t.h5ad", "--batch", "site", "--classifier", "forest")
    assert unknown.exit_code == 1
    assert "no probe forest" in " ".join(unknown.stderr.split())


def said(ran, text):
    assert ran.exit_code == 1, ran.output
    assert text in " ".join(ran.stderr.split())
    assert "Traceback" not in ran.output


def test_the_batch_is_taken_from_what_there_is(command, files):
    _, folder = files
    ran = command(folder / "t.h5ad", "--permutations", 2, "--classifier", "centroid", "--json")
    assert json.loads(ran.stdout)["batch"] == "site"  # there is no scanner


def test_wrong_columns_and_files_name_what_to_do(command, files):
    import anndata
    import pandas as pd

    table, folder = files
    obs = table.obs.drop(columns=["label"])
    obs.to_csv(folder / "semi.csv", index=False, sep=";")
    ran = command(folder / "x.npy", folder / "semi.csv", *HOW, "--json")  # as Excel writes it in Europe
    assert ran.exit_code == 0, ran.stderr
    said(
        command(folder / "x.npy", folder / "semi.csv", "--batch", "label"),
        "semi.csv: has no column label; give --batch",
    )
    obs.assign(hospital="").to_csv(folder / "empty.csv", index=False)
    said(
        command(folder / "x.npy", folder / "empty.csv", "--batch", "hospital"),
        "holds nothing in column hospital",
    )
    one = table.copy()
    one.obs["site"] = "A"
    one.write_h5ad(folder / "one.h5ad")
    said(command(folder / "one.h5ad"), "one.h5ad: every tile is of site A, and two or more are needed")
    table[:0].copy().write_h5ad(folder / "none.h5ad")
    said(command(folder / "none.h5ad", "--batch", "site"), "none.h5ad: has no tiles")
    named = pd.DataFrame(table.X)
    named.insert(0, "tile", table.obs_names)
    named.to_csv(folder / "named.csv", index=False)
    said(
        command(folder / "named.csv", folder / "columns.csv"),
        "named.csv: column tile can't be read as numbers",
    )
    np.savez(folder / "two.npz", a=table.X, b=table.X)
    said(
        command(folder / "two.npz", folder / "columns.csv"),
        "two.npz: holds a, b, and none is called features",
    )
    said(command(folder / "t.h5ad", folder / "columns.csv"), "give it without columns.csv")
    anndata.AnnData(table.X).write_h5ad(folder / "bare.h5ad")
    said(command(folder / "bare.h5ad"), "bare.h5ad: has no column slide")
