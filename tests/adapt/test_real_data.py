"""Real tissue: two scanners of one section, and mitoses of 129 patients on three scanners."""

import anndata
import numpy as np
import pandas as pd
import pytest

from napari_batchfx import encoders, jobs, open_slide
from napari_batchfx.adapt import METHODS, REGISTRY, TVN, StandardizeOnControls, adapt_job, make_correction
from napari_batchfx.probe import site_probe

pytestmark = pytest.mark.real_data
PAIR = "scanners/ki67-two-scanners"


@pytest.fixture
def pair(real_data):
    from skimage.transform import resize

    boxes = pd.read_csv(real_data(f"{PAIR}/pair_tiles.csv"), dtype={"pair": str})
    boxes = boxes[boxes["ki67_class"] != "air"]
    encoder = encoders.load("colour-statistics")
    features, obs = [], []
    for key in ("ndpi", "vsi"):
        with open_slide(real_data(f"{PAIR}/OS-2-{key}.ome.tif")) as slide:
            tiles = []
            for b in boxes.itertuples():
                x, y, size = (int(getattr(b, f"{key}_{k}")) for k in ("x", "y", "size"))
                # 84 px = 41.6 um at about 0.5 um a pixel on both
                tile = resize(slide.read(0, y, x, size, size), (84, 84), anti_aliasing=True)
                tiles.append((tile * 255).round().astype(np.uint8))
        features.append(encoder.embed(np.stack(tiles)))
        rc = boxes["pair"].str.split("_", expand=True).astype(int)
        label = boxes["ki67_class"].where(boxes["ki67_class"] != "mixed")
        part = pd.DataFrame({"label": label, "row": rc[0], "col": rc[1]})
        part["slide"] = part["scanner"] = key
        part["patient"] = "OS-2"
        part["y_um"], part["x_um"] = rc[0] * 41.6, rc[1] * 41.6
        obs.append(part)
    obs = pd.concat(obs, ignore_index=True)
    obs.index = obs.index.astype(str)
    return anndata.AnnData(np.concatenate(features), obs=obs)


def test_the_scanner_of_the_pair_is_recognised(pair):
    result = site_probe(pair, "scanner")
    assert result.balanced_accuracy >= 0.95
    assert result.grouped_by == "spatial block"
    assert any("One slide a scanner" in w for w in result.warnings)


@pytest.mark.parametrize("method", [StandardizeOnControls(), TVN()], ids=["standardize", "tvn"])
def test_ki67_classes_carry_over_to_the_other_scanner(pair, method):
    # controls: all tissue of the left half of the field; judged on the right half
    left = (pair.obs["col"] < 6).to_numpy()
    result = jobs.run(
        adapt_job(pair, train_slides=["ndpi"], batch="scanner", method=method, controls=left, n_bootstrap=200)
    )
    c = result.comparison
    assert c.n_truth == 58
    assert c.balanced_accuracy_after.value > c.balanced_accuracy_before.value + 0.08
    assert result.retention_after.value > result.retention_before.value - 0.05


def test_the_scanner_of_mitoses_is_recognised_across_patients(real_data):
    from PIL import Image

    tiles = pd.read_csv(real_data("tiles/mitoses-three-scanners/tiles.csv"))
    x = []
    for name in tiles["file"]:
        rgb = np.asarray(
            Image.open(real_data(f"tiles/mitoses-three-scanners/{name}")).convert("RGB")
        ).reshape(-1, 3)
        x.append(np.r_[rgb.mean(axis=0), rgb.std(axis=0)])
    obs = tiles[["slide", "patient", "scanner", "label"]].astype(str)
    obs.index = obs.index.astype(str)
    result = site_probe(anndata.AnnData(np.array(x, dtype=np.float32), obs=obs), "scanner", permutations=3)
    assert result.grouped_by == "patient"
    assert result.balanced_accuracy > 0.98
    assert result.ci[0] > 0.97


@pytest.fixture(scope="module")
def plate():
    """A Cell Painting plate with 24 DMSO wells, and the same plate as another microscope might have seen it."""
    from tests.conftest import real_path

    wells = pd.read_csv(real_path("tables/lincs-plate/SQ00015054_normalized_feature_select.csv.gz"))
    features = wells.loc[:, ~wells.columns.str.startswith("Metadata_")]
    x = features.loc[:, features.notna().all() & (features.std() > 0)].to_numpy(dtype=float)
    rng = np.random.default_rng(0)
    d = x.shape[1]
    mixing = np.eye(d) + 0.3 * rng.normal(size=(d, d)) / np.sqrt(d)
    twin = (x @ mixing) * rng.uniform(0.7, 1.4, d) + rng.normal(size=d) * x.std(axis=0)
    compound = wells["Metadata_broad_sample"].where(wells["Metadata_broad_sample_type"] == "trt")
    obs = pd.DataFrame({"site": np.repeat(["plate", "twin"], len(x)), "label": np.tile(compound, 2)})
    obs["slide"], obs["patient"] = obs["site"], np.tile(wells["Metadata_Well"], 2)
    obs["control"] = np.tile(wells["Metadata_broad_sample_type"] == "control", 2)
    obs.index = obs.index.astype(str)
    return anndata.AnnData(np.vstack([x, twin]).astype(np.float32), obs=obs)


@pytest.mark.parametrize("method", [key for key in METHODS if REGISTRY[key].needs == "controls"])
def test_dmso_controls_bring_a_plate_back(plate, method):
    """Fitted on 24 real negative controls of each plate; judged on the 360 treated wells."""
    from napari_batchfx.probe.metrics import class_retention

    treated = ~plate.obs["control"].to_numpy()
    first = treated & (plate.obs["site"] == "plate").to_numpy()
    out = make_correction(method).fit_transform(plate)

    def twin_gap(table):
        x = table.X.astype(float)
        scale = x[first].std(axis=0) + 1e-9
        a, b = x[first] / scale, x[treated & ~first] / scale
        return np.linalg.norm(a - b) / np.linalg.norm(a - a.mean(axis=0))

    # the twin of a well is much nearer than before, and compounds are told apart as well as on the raw plate
    assert twin_gap(out) < 0.75 * twin_gap(plate)
    before = class_retention(plate[first].copy(), "label", n_bootstrap=0).value
    after = class_retention(out[first].copy(), "label", n_bootstrap=0).value
    assert after > before - 0.02
