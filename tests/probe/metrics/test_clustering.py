"""The clustering score: whether clusters follow class or batch, and where there is none."""

from __future__ import annotations

import numpy as np
import pytest
from sklearn.cluster import KMeans
from sklearn.metrics import adjusted_rand_score

from napari_batchfx.errors import ProbeError
from napari_batchfx.jobs import run
from napari_batchfx.probe.metrics import clustering_score, clustering_score_job

from .made import codes, made_table

FAST = {"most_clusters": 4, "starts": 3, "trials": 4}


def two_by_two(**effects):
    return made_table(n=240, slide_sd=0, classes=2, sites=2, **effects)


def test_class_site_and_neither():
    # the Rand index of unrelated columns is 0 but for chance
    assert clustering_score(two_by_two(biology=4, batch=0), **FAST).value == pytest.approx(1, abs=0.01)
    assert clustering_score(two_by_two(biology=0, batch=4), **FAST).value == pytest.approx(-1, abs=0.01)
    nothing = clustering_score(two_by_two(biology=0, batch=0), **FAST)
    assert abs(nothing.value) < 0.05
    assert nothing.retention.value < 0.6


def test_two_clusters_of_one_combination_by_scikit_learn():
    table = made_table(n=240, classes=2, sites=2, biology=1.0, batch=0.8)
    x = np.asarray(table.X, dtype=np.float32)
    x = x / np.linalg.norm(x, axis=1, keepdims=True)
    scores = []
    for trial in range(4):
        found = KMeans(2, init="random", n_init=5, random_state=1337 + trial).fit_predict(x)
        scores.append(
            adjusted_rand_score(codes(table, "label"), found)
            - adjusted_rand_score(codes(table, "site"), found)
        )
    got = clustering_score(table, most_clusters=2, starts=3, trials=4)
    assert got.value == pytest.approx(np.mean(scores), abs=1e-6)


def test_every_two_classes_in_every_two_sites():
    found = clustering_score(made_table(n=240), most_clusters=2, starts=1, trials=1)
    combinations = found.support["combinations"]
    assert len(combinations) == 9
    assert found.value == pytest.approx(np.mean([one["score"] for one in combinations]))


def test_drawing_tiles_is_said_and_progress_is_whole():
    seen = []
    job = clustering_score_job(made_table(n=240, classes=2, sites=2), max_tiles=60, **FAST)
    found = run(job, seen.append)
    assert seen[-1].done == seen[-1].total == 3 + 4
    assert found.support["combinations"][0]["tiles"] == 60
    assert any("60 were drawn" in text for text in found.warnings)


def test_no_value_and_errors():
    assert "two or more" in clustering_score(made_table(sites=1)).reason
    with pytest.raises(ProbeError, match="2 clusters"):
        clustering_score(made_table(), most_clusters=1)
