"""A single new slide against what a head remembers."""

import anndata
import numpy as np
import pandas as pd
import pytest

from napari_batchfx.adapt import CompactReference, ERMHead, load_head
from napari_batchfx.errors import AdaptError


def known(offset=6.0, n=3000):
    rng = np.random.default_rng(0)
    x = rng.normal(size=(2 * n, 12)).astype(np.float32)
    x[n:, 3] += offset
    obs = pd.DataFrame({"scanner": np.repeat(["Aperio CS2", "S360"], n)})
    obs["slide"], obs["label"] = [f"secret-{i % 10}" for i in range(2 * n)], np.tile(["a", "b"], n)
    obs.index = obs.index.astype(str)
    return anndata.AnnData(x, obs=obs)


def test_a_slide_of_a_known_scanner_is_like_it():
    reference = CompactReference.of(known(), "scanner")
    new = np.random.default_rng(1).normal(size=(200, 12))
    found = reference.judge(new)
    assert found.nearest.name == "Aperio CS2"
    assert found.nearest.told_apart < 0.6
    assert found.nearest.percentile < 99
    assert not found.is_unlike
    assert found.sentence.startswith("Like Aperio CS2: a classifier can hardly tell them apart")
    assert {m.name: m.told_apart > 0.95 for m in found.matches} == {"Aperio CS2": False, "S360": True}


def test_a_slide_of_another_scanner_is_told_from_all_and_the_nearest_is_named():
    reference = CompactReference.of(known(), "scanner")
    new = np.random.default_rng(1).normal(size=(200, 12))
    new[:, 7] += 5
    found = reference.judge(new)
    assert found.nearest.name == "Aperio CS2"
    assert found.is_unlike
    assert found.nearest.told_apart > 0.97
    assert found.nearest.percentile == 100
    assert found.sentence.startswith("Most like Aperio CS2; a classifier still tells them apart in ")


def test_it_holds_two_thousand_vectors_a_domain_and_no_names_of_slides(tmp_path):
    table = known()
    head = ERMHead(c=1.0).fit(table)
    _, arrays = head.reference.to_state()
    assert arrays["reference.0"].shape == (2000, 12)
    assert arrays["reference.0"].dtype == np.float16
    path = head.save(tmp_path / "head")
    assert b"secret" not in path.read_bytes()
    new = np.random.default_rng(1).normal(size=(100, 12))
    assert load_head(path).reference.judge(new) == head.reference.judge(new)


def test_the_judgement_does_not_depend_on_the_order_of_tiles():
    reference = CompactReference.of(known(), "scanner")
    new = np.random.default_rng(2).normal(size=(150, 12))
    assert reference.judge(new[::-1]).nearest == reference.judge(new).nearest


def test_more_components_than_tiles_is_no_perfect_separation():
    # 30 tiles in 200 dimensions: a classifier without shrinkage would tell any two sets apart
    rng = np.random.default_rng(0)
    x = rng.normal(size=(400, 200)).astype(np.float32)
    table = anndata.AnnData(x, obs=pd.DataFrame({"scanner": ["A"] * 400}, index=[str(i) for i in range(400)]))
    found = CompactReference.of(table, "scanner").judge(rng.normal(size=(30, 200)))
    assert abs(found.nearest.told_apart - 0.5) < 0.2


def test_what_it_refuses():
    reference = CompactReference.of(known(n=100), "scanner")
    with pytest.raises(AdaptError, match="encode 20"):
        reference.judge(np.zeros((5, 12)))
    with pytest.raises(AdaptError, match="vectors of 12 numbers"):
        reference.judge(np.zeros((50, 3)))
