"""Features of other programs: each one's real layout, a real file, and files that mean harm."""

import json
import os
import resource
import shutil
import subprocess
import sys
from pathlib import Path

import anndata
import h5py
import numpy as np
import pandas as pd
import pytest

from napari_batchfx.errors import FeatureError
from napari_batchfx.features import (
    OBS_COLUMNS,
    SlideMeta,
    concat,
    import_features,
    imported_grid,
    read_h5ad,
    write_h5ad,
)
from napari_batchfx.features._hdf5 import open_hdf5
from napari_batchfx.slides import open_slide, write_pyramid

RNG = np.random.default_rng(0)


def append(path, assets, about=None, mode="w"):
    """Tables with one row a chunk that grow, as TRIDENT's and CLAM's own writers make them."""
    with h5py.File(path, mode) as file:
        for key, values in assets.items():
            if key not in file:
                made = file.create_dataset(
                    key,
                    shape=values.shape,
                    maxshape=(None, *values.shape[1:]),
                    chunks=(1, *values.shape[1:]),
                    dtype=values.dtype,
                )
                made[:] = values
                for name, value in (about or {}).get(key, {}).items():
                    made.attrs[name] = "None" if value is None else value
            else:
                file[key].resize(len(file[key]) + len(values), axis=0)
                file[key][-len(values) :] = values
    return path


def trident(
    folder, name="TCGA-A1", cells=((0, 0), (2, 1), (2, 3)), dim=8, encoder="uni_v1", size=256, **more
):
    """As TRIDENT writes it: ``20x_256px_0px_overlap/features_uni_v1/NAME.h5``; attributes on both tables."""
    folder = folder / "20x_256px_0px_overlap" / f"features_{encoder or 'uni_v1'}"
    folder.mkdir(parents=True, exist_ok=True)
    about = {
        "patch_size": size,
        "patch_size_level0": size * 2,
        "level0_magnification": 40,
        "target_magnification": 20,
        "overlap": 0,
        "name": name,
        "savetodir": "/home/somebody/trident/20x_256px_0px_overlap",
        "level0_width": 4000,
        "level0_height": 3000,
    } | more
    corners = np.array([(c * size * 2, r * size * 2) for r, c in cells], dtype=np.int64).reshape(-1, 2)
    features = np.random.default_rng(len(name)).normal(size=(len(corners), dim)).astype(np.float32)
    of_features = {"name": name, "savetodir": f"/home/somebody/features_{encoder}", "encoder": encoder}
    return append(
        folder / f"{name}.h5",
        {"features": features, "coords": corners},
        {"coords": about, "features": of_features},
    )


def clam(folder, name="slide-7", n=5, level=0, downsample=(1.0, 1.0), corners=None):
    """As CLAM writes it: features without any attribute, batch by batch, and the patches beside them."""
    (folder / "h5_files").mkdir(parents=True)
    (folder / "patches").mkdir()
    corners = np.array([(100 + 256 * i, 40) for i in range(n)]) if corners is None else np.asarray(corners)
    corners = corners.astype(np.int32)
    features = np.random.default_rng(3).normal(size=(len(corners), 4)).astype(np.float32)
    path = folder / "h5_files" / f"{name}.h5"
    append(path, {"features": features[:2], "coords": corners[:2]})
    append(path, {"features": features[2:], "coords": corners[2:]}, mode="a")
    about = {
        "patch_size": 256,
        "patch_level": level,
        "downsample": downsample,
        "downsampled_level_dim": (2000, 1500),
        "level_dim": (2000, 1500),
        "name": name,
        "save_path": "/home/somebody/patches",
    }
    patches = append(folder / "patches" / f"{name}.h5", {"coords": corners}, {"coords": about})
    return path, patches


def notes(table):
    (slide,) = table.uns["batchfx"]["slides"].values()
    return slide["imported"]["notes"]


def test_trident(tmp_path):
    path = trident(tmp_path)
    table = import_features(path, mpp=0.25, meta=SlideMeta("", site="Graz", patient="P1"))
    assert tuple(table.obs.columns) == (*OBS_COLUMNS, "x_px", "y_px")
    assert table.obs[["row", "col"]].to_numpy().tolist() == [[0, 0], [2, 1], [2, 3]]
    # a tile of 512 px at 0.25 um is 128 um: the centre of row 2, column 3 lies 2.5 and 3.5 tiles from the corner
    assert table.obs[["y_um", "x_um"]].to_numpy().tolist() == [[64, 64], [320, 192], [320, 448]]
    assert table.obs_names.tolist() == ["TCGA-A1:0_0", "TCGA-A1:2_1", "TCGA-A1:2_3"]
    assert set(table.obs["slide"]) == {"TCGA-A1"}
    assert set(table.obs["site"]) == {"Graz"}
    with h5py.File(path) as file:
        np.testing.assert_array_equal(table.X, file["features"][:])
    about = table.uns["batchfx"]
    assert about["encoder"]["name"] == "uni_v1"
    grid = about["slides"]["TCGA-A1"]["grid"]
    assert (grid["size_px"], grid["mpp"], grid["stride_px"]) == (256, 0.5, 256)
    assert notes(table) == []
    assert "somebody" not in json.dumps(about)  # no folder of another machine goes with the table


def test_trident_overlap_older_files_and_16_bit(tmp_path):
    cells = np.array([(0, 0), (0, 3), (5, 1)])
    path = trident(tmp_path, cells=cells / 2, overlap=128, encoder=None)  # half a tile's step
    with h5py.File(path, "a") as file:
        halves = file["features"][:].astype(np.float16)
        about = dict(file["features"].attrs)
        del file["features"], file["coords"].attrs["patch_size_level0"]
        file["features"] = halves[None]  # (1, n, d), as slide encoders want it
        file["features"].attrs.update(about)
    table = import_features(path, mpp=0.25)
    assert table.obs[["row", "col"]].to_numpy().tolist() == cells.tolist()
    assert table.obs["x_um"].tolist() == [64, 256, 128]
    assert table.uns["batchfx"]["encoder"]["name"] == "uni_v1"  # older ones name it in the folder only
    np.testing.assert_array_equal(table.X, halves.astype(np.float32))


def test_clam_with_and_without_its_patches(tmp_path):
    path, patches = clam(tmp_path)
    alone = import_features(path, mpp=0.5, encoder="resnet50")
    assert alone.obs["col"].tolist() == [0, 1, 2, 3, 4]  # 100 px is less than a tile
    assert "taken for their spacing" in " ".join(notes(alone))
    assert alone.obs["x_px"].tolist() == [100, 356, 612, 868, 1124]
    with_patches = import_features(path, mpp=0.5, patches=patches)
    assert notes(with_patches) == []
    assert with_patches.obs["x_um"].tolist() == [(100 + 256 * i + 128) * 0.5 for i in range(5)]
    other, _ = clam(tmp_path / "other", n=4)
    with pytest.raises(FeatureError, match="they are of two slides"):
        import_features(other, patches=patches)
    assert import_features(path).uns["batchfx"]["encoder"]["name"] == "unknown"


def test_clam_on_a_coarser_level(tmp_path):
    corners = [(1024 * i, 0) for i in range(4)]
    path, patches = clam(tmp_path, level=1, downsample=(4.0, 4.0), corners=corners)
    table = import_features(path, patches=patches, mpp=0.25)
    assert table.obs["x_um"].tolist() == [128, 384, 640, 896]
    with h5py.File(patches, "a") as file:
        del file["coords"].attrs["downsample"]
    assert "taken for their spacing" in " ".join(notes(import_features(path, patches=patches, mpp=0.25)))
    image = np.full((1500, 4100, 3), 200, np.uint8)
    slide = write_pyramid(tmp_path / "s.tif", image, mpp=0.25, compression="deflate")
    with open_slide(slide) as opened:
        scale = [level for level in opened.levels if level.stored][1].downsample[1]
        table = import_features(path, patches=patches, slide=opened)
    assert table.uns["batchfx"]["slides"]["slide-7"]["imported"]["side"] == 256 * scale


def test_tiles_laid_from_each_piece_of_tissue_have_no_row(tmp_path):
    corners = [(0, 0), (256, 0), (1003, 777), (1259, 777)]
    path, patches = clam(tmp_path, corners=corners)
    table = import_features(path, patches=patches, mpp=0.5)
    assert set(table.obs["row"]) == set(table.obs["col"]) == {-1}
    assert table.obs["y_um"].tolist() == [64, 64, 452.5, 452.5]
    assert "no common grid" in notes(table)[0]
    assert table.obs_names.is_unique
    without = import_features(path)
    assert without.obs["x_um"].isna().all()
    assert without.obs["y_px"].tolist() == [0, 0, 777, 777]


def test_a_tile_that_comes_twice_is_taken_once(tmp_path):
    path, _ = clam(tmp_path, corners=[(0, 0), (256, 0), (256, 0), (512, 0)])
    table = import_features(path)
    assert table.n_obs == 3
    assert "1 of its tiles come twice" in " ".join(notes(table))
    with h5py.File(path) as file:
        np.testing.assert_array_equal(table.X, file["features"][[0, 1, 3]])


@pytest.mark.parametrize("says", ["unit", "tile_size_um", "nothing"])
def test_stamp_in_micrometres(tmp_path, says):
    with h5py.File(tmp_path / "case.h5", "w") as file:
        file["feats"] = RNG.normal(size=(3, 6)).astype(np.float16)
        file["coords"] = np.array([[0, 256], [256, 256], [1280, 0]], np.float32)
        file.attrs["extractor"] = "ctranspath"
        if says == "unit":
            file.attrs.update({"unit": "um", "tile_size": 256.0})
        elif says == "tile_size_um":
            file.attrs.update({"unit": "um", "tile_size_um": 256.0, "tile_size_px": 224})
    table = import_features(tmp_path / "case.h5")
    assert table.obs[["row", "col"]].to_numpy().tolist() == [[1, 0], [1, 1], [0, 5]]
    assert table.obs["x_um"].tolist() == [128, 384, 1408]  # no pixel size is needed
    assert table.obs["x_px"].isna().all()
    assert import_features(tmp_path / "case.h5", mpp=0.5).obs["x_px"].tolist() == [0, 512, 2560]
    assert table.uns["batchfx"]["encoder"]["name"] == "ctranspath"
    if says == "tile_size_um":
        assert table.uns["batchfx"]["slides"]["case"]["grid"]["mpp"] == pytest.approx(256 / 224)


def test_a_real_file(real_data):
    path = real_data("tables/mopadi/TCGA-AD-6964-01Z-00-DX1/features.h5")
    table = import_features(path)
    assert table.shape == (777, 512)
    assert set(table.obs["slide"]) == {"TCGA-AD-6964-01Z-00-DX1"}  # the folder's: "features" names no slide
    # tiles of 512 px edge to edge; the first three lie at (10240, 21504), (10240, 22016), (10240, 22528)
    assert table.obs[["row", "col"]].to_numpy()[:3].tolist() == [[42, 20], [43, 20], [44, 20]]
    assert not table.obs[["row", "col"]].duplicated().any()
    assert table.obs["x_um"].isna().all()
    with h5py.File(path) as file:
        np.testing.assert_array_equal(table.X, file["feats"][:])
    # three of its tiles lie beside it, named by their corner
    places = set(map(tuple, table.obs[["x_px", "y_px"]].astype(int).to_numpy().tolist()))
    named = [p.stem.removeprefix("Tile_(").rstrip(")").split(",") for p in path.parent.glob("Tile_*.jpg")]
    assert named
    assert {tuple(map(int, pair)) for pair in named} <= places


@pytest.fixture
def two_sites(tmp_path):
    """Two hospitals, two slides each; those of the second have another offset in half of the numbers."""
    tables = []
    for site in ("A", "B"):
        for number in (1, 2):
            cells = [(r, c) for r in range(5) for c in range(6)]
            path = trident(tmp_path, name=f"{site}-{number}", cells=cells)
            rng = np.random.default_rng(ord(site) * 10 + number)
            classes = np.arange(30) % 2
            values = rng.normal(size=(30, 8))
            values[:, :4] += 3 * (site == "B")
            values[:, 4:] += 4 * classes[:, None]
            with h5py.File(path, "a") as file:
                file["features"][:] = values.astype(np.float32)
            table = import_features(path, mpp=0.25, meta=SlideMeta("", site=site, patient=f"P{site}{number}"))
            table.obs["label"] = pd.Categorical(np.where(classes, "tumour", "stroma"))
            table.obs["control"] = np.arange(30) < 15
            tables.append(table)
    return concat(tables)


def test_probe_and_adapt_run_on_it_also_after_a_file(two_sites, tmp_path):
    from napari_batchfx.adapt import adapt_job
    from napari_batchfx.jobs import run
    from napari_batchfx.probe import site_probe

    table = read_h5ad(write_h5ad(two_sites, tmp_path / "all.h5ad"))
    assert table.shape == (120, 8)
    found = site_probe(table, batch="site", permutations=3, n_bootstrap=20)
    assert found.balanced_accuracy > 0.95
    train = (table.obs["site"] == "A").to_numpy()
    result = run(adapt_job(table, train_mask=train, batch="site", method="standardize", label="label"))
    assert result.target.sum() == 60


def test_on_its_slide(tmp_path):
    rng = np.random.default_rng(0)
    image = rng.integers(0, 255, (300, 400, 3)).astype(np.uint8)
    file = write_pyramid(tmp_path / "S.tif", image, mpp=0.25, compression="deflate")
    size = {"level0_width": 400, "level0_height": 300}
    path = trident(tmp_path, name="S", cells=[(0, 0), (1, 2)], size=32, **size)
    with open_slide(file) as slide:
        table = import_features(path, slide=slide, meta=SlideMeta("", scanner="XR"))
        assert set(table.obs["scanner"]) == {"XR"}
        assert table.uns["batchfx"]["slides"]["S"]["fingerprint"] == slide.fingerprint
        assert table.obs["x_um"].tolist() == [8, 40]
        grid = imported_grid(table, slide)
        cells = table.obs[["row", "col"]].to_numpy()
        np.testing.assert_allclose(grid.center_um(cells), table.obs[["y_um", "x_um"]].to_numpy())
        # the pixels that the other program cut from (128, 64), 64 px wide
        np.testing.assert_array_equal(
            np.asarray(slide.read(0, y=64, x=128, h=64, w=64)), image[64:128, 128:192]
        )
        outside = trident(tmp_path / "o", name="S", cells=[(0, 0), (9, 9)], size=32, **size)
        with pytest.raises(FeatureError, match=r"outside S\.tif"):
            import_features(outside, slide=slide)
        other = trident(tmp_path / "p", name="S", cells=[(0, 0)], size=32)
        with pytest.raises(FeatureError, match=r"4,000 x 3,000 px, but S\.tif has 400 x 300"):
            import_features(other, slide=slide)
        path, patches = clam(tmp_path / "c", corners=[(3, 3), (131, 3), (259, 3)])
        loose = import_features(path, slide=slide, patches=patches)
        with pytest.raises(FeatureError, match="corner"):
            imported_grid(loose, slide)


def test_h5ad_of_another_program(tmp_path):
    obs = pd.DataFrame(
        {"slide_id": ["a", "a", "b"], "site": ["X", "X", "Y"], "label": ["t", None, "s"]}, index=list("123")
    )
    table = anndata.AnnData(RNG.normal(size=(3, 4)).astype(np.float32), obs=obs)
    table.obsm["spatial"] = np.array([[0, 0], [64, 128], [32, 64]])
    table.write_h5ad(tmp_path / "other.h5ad")
    found = import_features(tmp_path / "other.h5ad", mpp=0.5, tile_px=64)
    assert found.obs["slide"].tolist() == ["a", "a", "b"]
    assert found.obs["site"].tolist() == ["X", "X", "Y"]
    assert found.obs["label"].isna().tolist() == [False, True, False]
    assert found.obs["x_um"].tolist() == [16, 48, 32]
    np.testing.assert_array_equal(found.X, table.X)
    with pytest.raises(FeatureError, match="already"):
        import_features(write_h5ad(found, tmp_path / "own.h5ad"))
    del table.obsm["spatial"]
    table.write_h5ad(tmp_path / "nowhere.h5ad")
    with pytest.raises(FeatureError, match="where its tiles lie"):
        import_features(tmp_path / "nowhere.h5ad")


def put(path, **tables):
    with h5py.File(path, "w") as file:
        for key, values in tables.items():
            file[key] = values
    return path


FEATURES, CORNERS = np.ones((4, 3), np.float32), np.arange(8).reshape(4, 2) * 64
NAN = FEATURES.copy()
NAN[2, 1] = np.nan


@pytest.mark.parametrize(
    ("tables", "says"),
    [
        ({"features": NAN, "coords": CORNERS}, "1 of 4 vectors hold something that is no number"),
        ({"features": np.full((4, 3), 1e300), "coords": CORNERS}, "4 of 4 vectors"),
        ({"features": FEATURES, "coords": CORNERS[:3]}, "4 vectors and 3 coordinates"),
        ({"features": FEATURES[0], "coords": CORNERS}, "one vector for the whole slide"),
        ({"features": FEATURES[:1], "coords": CORNERS}, "one vector for the whole slide"),
        ({"features": np.empty((0,), np.float32), "coords": np.empty((0, 2), int)}, "holds no tile"),
        ({"features": np.empty((0, 3), np.float32), "coords": np.empty((0, 2), int)}, "holds no tile"),
        ({"features": FEATURES, "coords": np.ones((4, 3))}, "(4, 3) and (4, 3)"),
        ({"features": FEATURES, "coords": CORNERS - 1}, "positions on a slide"),
        ({"features": FEATURES, "coords": CORNERS * 1e300}, "positions on a slide"),
        ({"features": np.array([b"a"] * 4), "coords": CORNERS}, "no table of numbers"),
        ({"features": FEATURES}, 'no "coords"'),
        ({"vectors": FEATURES, "coords": CORNERS}, "(there is coords, vectors)"),
        ({"features/deep": FEATURES, "coords": CORNERS}, "no table of numbers"),
        ({"features": np.ones((2, 70_000), np.float32), "coords": CORNERS[:2]}, "no vector of an encoder"),
    ],
)
def test_what_is_no_table_of_tiles(tmp_path, tables, says):
    with pytest.raises(FeatureError) as error:
        import_features(put(tmp_path / "f.h5", **tables))
    assert str(error.value).startswith("f.h5: ")
    assert says in str(error.value)


def test_files_that_are_no_hdf5(tmp_path):
    with pytest.raises(FeatureError, match="no such file"):
        import_features(tmp_path / "none.h5")
    (tmp_path / "text.h5").write_text("hello")
    whole = trident(tmp_path).read_bytes()
    (tmp_path / "cut.h5").write_bytes(whole[: len(whole) // 2])
    (tmp_path / "empty.h5").write_bytes(b"")
    for name in ("text.h5", "cut.h5", "empty.h5"):
        with pytest.raises(FeatureError, match="can't be read as HDF5"):
            import_features(tmp_path / name)


def test_nothing_outside_the_file_is_read(tmp_path):
    secret = put(tmp_path / "secret.h5", features=FEATURES, coords=CORNERS)
    with h5py.File(tmp_path / "link.h5", "w") as file:
        file["features"] = h5py.ExternalLink(secret.name, "/features")
        file["coords"] = CORNERS
    with h5py.File(tmp_path / "virtual.h5", "w") as file:
        layout = h5py.VirtualLayout((4, 3), np.float32)
        layout[:] = h5py.VirtualSource(str(secret), "features", (4, 3))
        file.create_virtual_dataset("features", layout)
        file["coords"] = CORNERS
    (tmp_path / "passwd").write_bytes(FEATURES.tobytes())
    with h5py.File(tmp_path / "external.h5", "w") as file:
        file.create_dataset(
            "features", (4, 3), np.float32, external=[(str(tmp_path / "passwd"), 0, FEATURES.nbytes)]
        )
        file["coords"] = CORNERS
    # also deep inside, where nothing is wanted: anndata would read it
    table = anndata.AnnData(FEATURES, obs=pd.DataFrame({"slide": ["a"] * 4}, index=list("1234")))
    table.obsm["spatial"] = CORNERS
    table.write_h5ad(tmp_path / "deep.h5ad")
    with h5py.File(tmp_path / "deep.h5ad", "a") as file:
        file["uns"]["more"] = h5py.ExternalLink(secret.name, "/features")
    for name in ("link.h5", "virtual.h5", "external.h5", "deep.h5ad"):
        with pytest.raises(FeatureError, match="other files"):
            import_features(tmp_path / name)


def test_tables_beyond_all_measure(tmp_path):
    with h5py.File(tmp_path / "huge.h5", "w") as file:  # some hundred bytes on the disk
        file.create_dataset("features", (10**12, 10**6), np.float32, chunks=(1, 1024))
        file["coords"] = CORNERS
    assert (tmp_path / "huge.h5").stat().st_size < 100_000
    with pytest.raises(FeatureError, match=r"more than the 16\.0 GB"):
        import_features(tmp_path / "huge.h5")
    with pytest.raises(FeatureError, match=r"more than the 0\.0 GB"):
        import_features(trident(tmp_path), max_bytes=10)
    with h5py.File(tmp_path / "round.h5", "w") as file:  # a group that holds itself, and a link to nowhere
        file["features"], file["coords"] = FEATURES, CORNERS
        file["loop"] = file["/"]
        file["away"] = h5py.SoftLink("/nowhere")
    assert import_features(tmp_path / "round.h5").n_obs == 4


@pytest.mark.parametrize("key", ["features", "coords"])
def test_tables_that_say_more_than_they_hold(tmp_path, key):
    """A few kilobytes that would unpack to gigabytes of nothing, just below what may be read at once."""
    with h5py.File(tmp_path / "empty.h5", "w") as file:
        file["features"], file["coords"] = FEATURES, CORNERS
        del file[key]
        file.create_dataset(key, (15 * 10**8, 2), np.float32, chunks=(1024, 2))
    assert (tmp_path / "empty.h5").stat().st_size < 100_000
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    with pytest.raises(
        FeatureError, match=r"empty\.h5: says that it has 12\.0 GB of numbers and holds 0\.0 MB"
    ):
        import_features(tmp_path / "empty.h5")
    assert (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) * 1024 < 100e6


def test_an_h5ad_that_says_more_than_it_holds(tmp_path):
    import anndata

    path = tmp_path / "empty.h5ad"
    anndata.AnnData(FEATURES, obs={"slide": ["a"] * len(FEATURES)}).write_h5ad(path)
    assert read_h5ad(path).n_obs == len(FEATURES)
    with h5py.File(path, "a") as file:
        kept = dict(file["X"].attrs)
        del file["X"]
        file.create_dataset("X", (10**12, 1024), np.float32, chunks=(64, 1024))
        file["X"].attrs.update(kept)
    with pytest.raises(FeatureError, match=r"empty\.h5ad: says that it has 4,096,000\.0 GB of numbers"):
        read_h5ad(path)
    with h5py.File(path, "a") as file:
        del file["X"]
        file["X"] = h5py.ExternalLink(str(tmp_path / "other.h5"), "/X")
    with pytest.raises(FeatureError, match="other files"):
        read_h5ad(path)


def test_zeros_that_are_there_are_read(tmp_path):
    """Nothing but zeros, packed a thousand times: more than is said without being there, and no attack."""
    with h5py.File(tmp_path / "zeros.h5", "w") as file:
        rows = 70_000
        file.create_dataset(
            "features", data=np.zeros((rows, 1024), np.float32), compression="gzip", chunks=(rows // 10, 1024)
        )
        file["coords"] = np.stack([np.arange(rows) % 300 * 256, np.arange(rows) // 300 * 256], axis=1)
    with open_hdf5(tmp_path / "zeros.h5", 10**9) as file:
        assert file["features"].shape == (rows, 1024)


def test_odd_attributes_do_no_harm(tmp_path):
    path = trident(tmp_path)
    with h5py.File(path, "a") as file:
        about = file["coords"].attrs
        about["patch_size"] = np.array([np.nan, 2.0])
        about["patch_size_level0"] = -5
        about["level0_magnification"] = "forty"
        about["overlap"] = np.inf
        about["name"] = "x\n\x07" * 2000
        about["what"] = file["features"].ref
    table = import_features(path)
    assert table.obs["col"].tolist() == [0, 1, 3]
    (name,) = set(table.obs["slide"])
    assert set(name) == {"x"}
    assert len(name) <= 300


def test_damaged_bytes_end_in_a_sentence(tmp_path):
    """One byte after another is another; in a process of its own, as the HDF5 library may not survive it."""
    path = trident(tmp_path, cells=[(0, 0), (1, 1)], dim=2)
    script = """
import sys
import numpy as np
from napari_batchfx.errors import FeatureError
from napari_batchfx.features import import_features
whole = np.fromfile(sys.argv[1], np.uint8)
rng, told = np.random.default_rng(0), 0
for place in rng.integers(0, len(whole), 150):
    changed = whole.copy()
    changed[place] ^= rng.integers(1, 256)
    changed.tofile(sys.argv[2])
    try:
        import_features(sys.argv[2])
    except FeatureError as error:
        told += 1
        assert "\\n" not in str(error)
print("told", told)
"""
    done = subprocess.run(
        [sys.executable, "-c", script, path, tmp_path / "bad.h5"],
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
        env=os.environ | {"HDF5_USE_FILE_LOCKING": "FALSE"},
    )
    assert done.returncode == 0, done.stderr[-2000:]
    assert done.stdout.startswith("told")


def test_a_folder_that_can_only_be_read(tmp_path):
    path = Path(shutil.copy(trident(tmp_path), tmp_path / "ro.h5"))
    path.chmod(0o444)
    assert import_features(path).n_obs == 3
