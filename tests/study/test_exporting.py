"""Exports: what other programs open, with the right places and values, and without anybody's name."""

from __future__ import annotations

import csv
import json
import uuid

import numpy as np
import pytest
import tifffile
import zarr
from PIL import Image
from typer.testing import CliRunner

from napari_batchfx.errors import StudyError
from napari_batchfx.features import import_features, read_h5ad
from napari_batchfx.jobs import run
from napari_batchfx.report.exports import to_spatialdata
from napari_batchfx.study import Study, result_table

from .conftest import MPP, TILE, set_up

NAMES = ("Meier", "Schulze", "1951")
KINDS = ("geojson", "csv", "h5ad", "h5", "png", "ome-tiff", "ome-zarr")


@pytest.fixture(scope="module")
def exported(done, tmp_path_factory):
    """Everything, without names: the folder, the outcome and the table it should say."""
    folder = tmp_path_factory.mktemp("out")
    with Study.open(done) as study:
        return folder, run(study.export_job(folder, KINDS)), result_table(study)


def features_of(path):
    return json.loads(path.read_text("utf-8"))["features"]


def test_every_kind_is_written_and_nothing_failed(exported):
    folder, outcome, _ = exported
    assert outcome.problems == ()
    assert {path.name for path in outcome.files} >= {
        "tiles.csv",
        "tiles.h5ad",
        "slide-1.geojson",
        "slide-4.h5",
        "export.json",
    }
    assert sorted(path.name for path in outcome.files) == sorted(
        path.name for path in folder.iterdir()
    )  # no drafts left


def test_no_name_of_a_slide_or_patient_is_in_any_file(exported, done):
    folder, _, _ = exported
    files = [path for path in folder.rglob("*") if path.is_file()]
    assert len(files) > 20
    for path in files:
        content = path.read_bytes()
        for name in (*NAMES, done.parent.name):
            assert name.encode() not in content, (path.name, name)
            assert name not in path.name


def test_qupath_tiles_lie_where_the_tiles_were_cut_and_carry_their_values(exported):
    folder, outcome, table = exported
    name = next(slide for slide, number in outcome.slides.items() if number == "slide-2")
    obs = table.obs[table.obs["slide"] == name]
    tiles = [f for f in features_of(folder / "slide-2.geojson") if f["properties"]["objectType"] == "tile"]
    assert len(tiles) == len(obs) > 4
    for tile, (_, row) in zip(tiles, obs.iterrows(), strict=True):
        x, y = (
            row["col"] * TILE,
            row["row"] * TILE,
        )  # MPP is the slide's own: a tile is TILE pixels of level 0
        ring = tile["geometry"]["coordinates"][0]
        assert ring == [[x, y], [x + TILE, y], [x + TILE, y + TILE], [x, y + TILE], [x, y]]
        assert tile["properties"]["measurements"]["site probe: confidence"] == pytest.approx(
            row["probe_confidence"]
        )
        assert all(isinstance(value, float) for value in tile["properties"]["measurements"].values())
        assert uuid.UUID(tile["id"])
    assert len({tile["id"] for tile in tiles}) == len(tiles)
    shown = {
        tile["properties"]["classification"]["name"]
        for tile in tiles
        if "classification" in tile["properties"]
    }
    assert shown <= {"pale", "dense"}


def test_qupath_regions_hold_the_means_of_their_tiles(exported):
    folder, outcome, table = exported
    name = next(slide for slide, number in outcome.slides.items() if number == "slide-1")
    obs = table.obs[(table.obs["slide"] == name) & (table.obs["label"] == "pale")]
    regions = [
        f for f in features_of(folder / "slide-1.geojson") if f["properties"]["objectType"] == "annotation"
    ]
    pale = next(r for r in regions if r["properties"]["classification"]["name"] == "pale")["properties"][
        "measurements"
    ]
    assert pale["tiles"] == len(obs)
    assert pale["mean site probe: confidence"] == pytest.approx(obs["probe_confidence"].mean())
    assert {r["properties"]["classification"]["name"] for r in regions} == {"pale", "dense", "control"}


def test_an_export_is_the_same_twice(exported, done, tmp_path):
    folder, _, _ = exported
    with Study.open(done) as study:
        run(study.export_job(tmp_path, ["geojson", "csv"]))
    for path in tmp_path.glob("*.geojson"):
        assert path.read_text() == (folder / path.name).read_text()
    assert (tmp_path / "tiles.csv").read_text() == (folder / "tiles.csv").read_text()


def test_csv_has_a_line_a_tile(exported):
    folder, outcome, table = exported
    with (folder / "tiles.csv").open(encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == table.n_obs
    assert {row["slide"] for row in rows} == set(outcome.slides.values())
    wanted = table.obs["probe_confidence"].to_numpy()
    assert np.allclose([float(row["probe_confidence"]) for row in rows], wanted, rtol=1e-5)


def test_h5ad_has_what_scanpy_and_scib_look_for(exported):
    folder, _, table = exported
    found = read_h5ad(folder / "tiles.h5ad")
    assert np.array_equal(found.X, table.X)
    assert np.array_equal(found.obsm["spatial"], table.obs[["x_um", "y_um"]])
    assert found.obsm["X_pca"].shape[0] == table.n_obs
    assert found.obsm["proba_after"].shape == (table.n_obs, 2)
    for column in ("slide", "patient", "scanner", "label", "prediction_after"):
        assert found.obs[column].dtype == "category", column
    assert set(found.obs["patient"]) == {"patient-1", "patient-2"}
    assert found.uns["batchfx"]["results"]["probe"]["is_current"] is True


def test_trident_files_come_back_as_the_same_tiles(exported):
    folder, outcome, table = exported
    for name, number in outcome.slides.items():
        rows = (table.obs["slide"] == name).to_numpy()
        back = import_features(folder / f"{number}.h5", mpp=MPP)
        assert np.array_equal(back.X, table.X[rows])
        assert np.array_equal(back.obs[["row", "col"]], table.obs.loc[rows, ["row", "col"]])
        assert np.allclose(back.obs[["x_um", "y_um"]], table.obs.loc[rows, ["x_um", "y_um"]])


def test_overlays_as_numbers_keep_values_size_and_place(exported, done):
    folder, _, _ = exported
    with Study.open(done) as study:
        from napari_batchfx.study.maps import probe_maps

        wanted = probe_maps(study)[study.slides[0].fingerprint]
    with tifffile.TiffFile(folder / "slide-1-site-probe.ome.tif") as file:
        assert np.array_equal(file.asarray(), wanted.values, equal_nan=True)
        assert file.is_ome
        size = tifffile.xml2dict(file.ome_metadata)["OME"]["Image"]["Pixels"]
        assert (size["PhysicalSizeX"], size["Plane"]["PositionX"]) == (
            wanted.stride_um,
            wanted.translate_um[1],
        )
    group = zarr.open_group(folder / "slide-1-site-probe.ome.zarr", mode="r")
    assert np.array_equal(group["0"][:], wanted.values, equal_nan=True)
    scale, shift = group.attrs["ome"]["multiscales"][0]["datasets"][0]["coordinateTransformations"]
    assert (tuple(scale["scale"]), tuple(shift["translation"])) == (wanted.scale_um, wanted.translate_um)


def test_pictures_open(exported):
    folder, _, _ = exported
    with Image.open(folder / "slide-1-site-probe.png") as picture:
        assert picture.width > 800


def test_names_stay_where_they_are_asked_for(done, tmp_path):
    with Study.open(done) as study:
        outcome = run(study.export_job(tmp_path, ["geojson", "csv"], with_identifiers=True))
        name = study.slides[0].name
    assert tmp_path / f"{name}.geojson" in outcome.files
    assert "Meier 1951" in (tmp_path / "tiles.csv").read_text("utf-8")


def test_slides_with_hostile_names_are_exported_safely(slide_files, tmp_path):
    names = ["../../evil", "<script>alert(1)</script>", "=1+1", "true"]
    with set_up(tmp_path / "s.batchfx", slide_files) as study:
        for entry, name in zip(list(study.slides), names, strict=True):
            study.update_slide(entry, name=name, patient=f"{name} 2")
        run(study.encode_job())
        for named in (False, True):
            folder = tmp_path / f"out-{named}"
            outcome = run(study.export_job(folder, ["geojson", "csv", "h5"], with_identifiers=named))
            assert outcome.problems == ()
            assert all(path.parent == folder and path.is_file() for path in outcome.files)
            assert len(set(outcome.files)) == 10
            json.loads((folder / "export.json").read_text("utf-8"))
    assert not (tmp_path.parent / "evil.geojson").exists()
    assert "\n'=1+1:" in (tmp_path / "out-True" / "tiles.csv").read_text(
        "utf-8"
    )  # no formula for a spreadsheet


def test_a_result_of_other_tiles_says_nothing_of_these(slide_files, tmp_path):
    with set_up(tmp_path / "s.batchfx", slide_files) as study:
        study.run()
        study.settings.encode.size_px = TILE // 2
        run(study.encode_job())
        table = result_table(study)
    assert table.n_obs > 0
    assert table.obs["probe_confidence"].isna().all()
    assert table.obs["prediction_after"].isna().all()
    assert not table.obs["prediction_changed"].any()


def test_what_cannot_be_written_is_named_and_the_rest_is(done, tmp_path):
    (tmp_path / "tiles.h5ad").mkdir()
    with Study.open(done) as study:
        outcome = run(study.export_job(tmp_path, ["h5ad", "csv"]))
    assert [problem.subject for problem in outcome.problems] == ["tiles.h5ad"]
    assert (tmp_path / "tiles.csv").is_file()


def test_an_export_that_does_not_exist_is_refused_with_those_that_do(done, tmp_path):
    with (
        Study.open(done) as study,
        pytest.raises(StudyError, match="there is no such export; choose of geojson, csv"),
    ):
        run(study.export_job(tmp_path, ["qpdata"]))


def test_spatialdata_is_one_table_with_a_square_a_tile(exported):
    spatialdata = pytest.importorskip("spatialdata", reason="needs the extra 'spatialdata'")
    found = to_spatialdata(exported[2])
    assert isinstance(found, spatialdata.SpatialData)
    assert found["tiles"].n_obs == sum(len(shapes) for shapes in found.shapes.values()) == exported[2].n_obs


def test_command(done, tmp_path):
    from napari_batchfx.cli import app

    result = CliRunner().invoke(app, ["export", str(done), str(tmp_path / "out"), "--as", "csv", "--json"])
    assert result.exit_code == 0, result.output
    assert json.loads(result.stdout)["files"] == ["tiles.csv", "export.json"]
    result = CliRunner().invoke(app, ["export", str(done), str(tmp_path / "out"), "--as", "qpdata"])
    assert result.exit_code == 2
