"""Real tables: a published design, vectors of a real encoder, and tiles of three scanners."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from napari_batchfx.probe.metrics import class_retention, cramers_v, measure, robustness_index

from .made import codes, table_of


def test_the_published_camelyon_design_is_even_and_untied(real_data):
    """PathoROB's reduced Camelyon list: 1,000 patches in each of four cells, so V is 0 and nothing is warned of."""
    rows = pd.read_csv(real_data("tables/pathorob/camelyon_reduced.csv"))
    label, site = rows["biological_class"], rows["medical_center"]
    x = np.random.default_rng(0).normal(size=(len(rows), 8))
    x[:, 0] += 3 * (label == "tumor")
    table = table_of(x, label, site, rows["slide_id"])
    assert cramers_v(table, "label", "site").value == 0
    assert set(np.bincount(codes(table, "label") * 2 + codes(table, "site"))) == {1000}
    assert set(rows.groupby("subset")["slide_id"].nunique()) == {17}  # slides a cell, as published
    found = robustness_index(table, k=11)  # the k of the leaderboard
    assert found.support["tiles"] == 4000
    assert found.support["batches"] == found.support["classes"] == 2
    assert found.warnings == []


@pytest.fixture
def uni(real_data):
    x = pd.read_csv(real_data("tables/histolearn-uni/subset_embeddings.csv"))
    label = pd.read_csv(real_data("tables/histolearn-uni/subset_labels.csv"))["label_name"]
    x = x.select_dtypes("number").to_numpy()[:, -1024:]
    return x, label.to_numpy()


def test_a_shift_between_two_made_sites_lowers_robustness_and_leaves_biology(uni):
    """180 real UNI vectors of nine tissues; half of each tissue is moved along one direction, more and more."""
    x, label = uni
    site = np.arange(180) % 2
    direction = np.random.default_rng(0).normal(size=1024)
    direction *= np.linalg.norm(x, axis=1).mean() / np.linalg.norm(direction)
    values, kept = [], []
    for shift in (0.0, 0.5, 2.0):
        table = table_of(x + shift * site[:, None] * direction, label, site, np.arange(180))
        found = robustness_index(table, k=9, interval=False)
        values.append(found.value)
        kept.append(found.retention.value)
    assert values[0] > 0.9
    assert values[0] > values[1] > values[2]
    assert min(kept) > 0.8  # the classes are still there inside each site


def test_three_scanners_by_colour_alone(real_data):
    """Colour statistics of one hospital's tiles: the scanner rules, the class is hardly there."""
    from PIL import Image

    from napari_batchfx import encoders

    folder = real_data("tiles/mitoses-three-scanners/tiles.csv").parent
    rows = pd.read_csv(folder / "tiles.csv").iloc[::3]
    tiles = np.stack([np.asarray(Image.open(folder / name).convert("RGB")) for name in rows["file"]])
    x = encoders.load("colour-statistics").embed(tiles)
    table = table_of(x, rows["label"], rows["scanner"], rows["patient"])
    found = measure(table, k=11)
    assert found["robustness_index"].value < 0.15
    assert found["croma"].value < -0.5
    assert found["ilisi"].value < 0.05
    assert found["cramers_v"].value < 0.2
    assert found["class_retention"].value == pytest.approx(class_retention(table, "label", "slide").value)
    assert found["class_retention"].value < 0.6
