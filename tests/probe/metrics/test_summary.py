"""All metrics at once equal each by itself; the command says them and refuses in one sentence."""

from __future__ import annotations

import csv
import io
import json

import numpy as np
import pytest
from typer.testing import CliRunner

from napari_batchfx.cli import app
from napari_batchfx.features import write_h5ad
from napari_batchfx.jobs import run
from napari_batchfx.probe import metrics

from .made import made_table


def test_each_by_itself_gives_the_same():
    table = made_table()
    found = metrics.measure(table, k=[3, 9])
    alone = {
        "robustness_index": metrics.robustness_index(table, k=[3, 9]),
        "croma": metrics.croma(table),
        "ilisi": metrics.ilisi(table),
        "clisi": metrics.clisi(table),
        "kbet": metrics.kbet(table),
        "batch_asw": metrics.batch_asw(table),
        "graph_connectivity": metrics.graph_connectivity(table),
        "pcr": metrics.pcr(table),
        "cramers_v": metrics.cramers_v(table, "label", "site"),
    }
    for name, one in alone.items():
        assert found[name].value == pytest.approx(one.value, abs=1e-12), name
        assert found[name].interval == one.interval
        if one.per_tile is not None:
            np.testing.assert_array_equal(found[name].per_tile, one.per_tile)
        if name != "cramers_v":
            assert found[name].retention.value == pytest.approx(one.retention.value), name
    assert found["mari"].support["k"] == found["robustness_index"].support["k"]
    json.dumps({name: one.to_dict() for name, one in found.items()}, allow_nan=False)


def test_without_a_class_only_mixing():
    found = metrics.measure(made_table(), label=None)
    assert set(found) == {"ilisi", "kbet", "batch_asw", "pcr"}


def test_one_that_cannot_be_computed_leaves_the_others():
    found = metrics.measure(made_table(n=48, slides=24), k=3)
    assert "needs 90 tiles" in found["ilisi"].reason
    assert np.isfinite(found["robustness_index"].value)
    one_slide = made_table(n=300, slides=3)
    one_slide.obs["slide"] = "one"
    found = metrics.measure(one_slide)
    assert "All tiles are of one slide" in found["croma"].reason
    assert np.isfinite(found["ilisi"].value)


def test_the_job_can_be_stopped_between_pieces():
    seen = []
    run(metrics.measure_job(made_table(), k=3), seen.append)
    assert len(seen) > 6
    assert all(progress.what for progress in seen)


# ---- the command ---------------------------------------------------------------------------------


@pytest.fixture
def command(monkeypatch):
    monkeypatch.setenv("COLUMNS", "80")

    def call(*arguments):
        return CliRunner().invoke(app, ["metrics", *map(str, arguments)])

    return call


@pytest.fixture
def h5ad(tmp_path):
    return write_h5ad(made_table(n=240, slides=24), tmp_path / "tiles.h5ad")


def test_table_on_80_columns(command, h5ad):
    done = command(h5ad, "--k", 5)
    assert done.exit_code == 0, done.output
    lines = done.stdout.splitlines()
    assert lines[0] == "240 tiles, 24 features, batch: site (3), 3 classes, 24 slides, k 5"
    table = lines[1 : next(i for i, line in enumerate(lines) if line.startswith("class:"))]
    assert max(map(len, table)) <= 80
    assert sum("0 apart, 1 mixed" in line for line in table) == 3
    value = metrics.robustness_index(made_table(n=240, slides=24), k=5).value
    assert f"{value:.3f}" in next(line for line in table if line.startswith("robustness index"))


def test_json_and_csv_hold_the_same(command, h5ad):
    facts = json.loads(command(h5ad, "--k", 5, "--json").stdout)
    assert facts["batch"] == "site"
    rows = list(csv.DictReader(io.StringIO(command(h5ad, "--k", 5, "--csv").stdout)))
    assert [row["metric"] for row in rows] == list(facts["metrics"])
    for row in rows:
        assert float(row["value"]) == pytest.approx(facts["metrics"][row["metric"]]["value"], abs=1e-5)
    assert command(h5ad, "--json", "--csv").exit_code == 2


@pytest.mark.parametrize("kind", ["npy", "npz", "csv", "h5"])
def test_features_and_a_csv(command, h5ad, tmp_path, kind):
    import h5py
    import pandas as pd

    table = made_table(n=240, slides=24)
    x, features, columns = np.asarray(table.X), tmp_path / f"features.{kind}", tmp_path / "columns.csv"
    table.obs.to_csv(columns, index=False)
    if kind == "npy":
        np.save(features, x)
    elif kind == "npz":
        np.savez(features, features=x, other=np.ones(3))
    elif kind == "csv":
        pd.DataFrame(x).to_csv(features)
    else:
        with h5py.File(features, "w") as file:
            file["feats"] = x[None]
            file["coords"] = np.zeros((240, 2))
    got = json.loads(command(features, columns, "--k", 5, "--json").stdout)["metrics"]
    wanted = json.loads(command(h5ad, "--k", 5, "--json").stdout)["metrics"]
    assert got["robustness_index"]["value"] == pytest.approx(wanted["robustness_index"]["value"])
    assert got["croma"]["value"] == pytest.approx(wanted["croma"]["value"], abs=1e-6)


def refused(done, said):
    assert done.exit_code == 1, done.output
    assert said in done.stderr
    assert len(done.stderr.strip().splitlines()) == 1
    assert "Traceback" not in done.output


def test_refusals_are_one_sentence(command, tmp_path):
    def saved(table, name="t.h5ad"):
        return write_h5ad(table, tmp_path / name)

    refused(
        command(saved(made_table(n=240, sites=1))),
        "t.h5ad: every tile is of site 0, and two or more are needed",
    )
    refused(command(saved(made_table(n=240)), "--k", 300), "take a smaller k")
    refused(
        command(saved(made_table(n=240)), "--batch", "hospital"),
        "has no column hospital; give --batch one of",
    )
    refused(command(tmp_path / "none.h5ad"), "there is no such file")
    nothing = made_table(n=240)
    nothing.X[:] = np.nan
    refused(command(saved(nothing)), "No tile has finite features")
    same = made_table(n=240)
    same.X[:] = 1
    refused(command(saved(same)), "the same features")
    (tmp_path / "x.npy").write_bytes(b"no")
    refused(command(tmp_path / "x.npy"), "give the CSV")
    (tmp_path / "c.csv").write_text("site\nA\n")
    refused(command(tmp_path / "x.npy", tmp_path / "c.csv"), "x.npy: holds no table of numbers")
    np.save(tmp_path / "x.npy", np.ones((3, 2)))
    refused(command(tmp_path / "x.npy", tmp_path / "c.csv"), "x.npy has 3 rows and c.csv 1")


def test_class_tied_to_site_says_so_and_gives_the_rest(command, tmp_path):
    table = made_table(n=240)
    table.obs["label"] = table.obs["site"]
    done = command(write_h5ad(table, tmp_path / "tied.h5ad"))
    assert done.exit_code == 0
    assert (
        "No robustness index, margin (CRoMa), weighted index (MaRI): Class and site are tied" in done.stdout
    )
    assert any(
        line.split()[:5] == ["class", "with", "batch", "(V)", "1.000"] for line in done.stdout.splitlines()
    )


def test_a_study_without_tiles_says_what_to_do(command, tmp_path):
    from napari_batchfx.study import Study

    with Study.create(tmp_path / "empty.batchfx") as study:
        study.save()
    refused(command(tmp_path / "empty.batchfx"), "encode")


def test_a_study_is_read(command, slide_files, tmp_path):
    """Four slides of two scanners and two patients, with classes drawn on them."""
    from tests.study.conftest import set_up

    with set_up(tmp_path / "s.batchfx", slide_files) as study:
        run(study.encode_job())
        wanted = metrics.robustness_index(study.table("tissue"), "label", "scanner", "slide", k=5)
        study.save()
    done = command(tmp_path / "s.batchfx", "--k", 5, "--json")
    assert done.exit_code == 0, done.stderr
    facts = json.loads(done.stdout)
    assert facts["batch"] == "scanner"  # the study has no sites
    assert facts["metrics"]["robustness_index"]["value"] == wanted.value
    assert facts["metrics"]["robustness_index"]["support"]["groups"] == 4
