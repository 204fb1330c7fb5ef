"""Classifiers that are kept: each tile from the one that has not seen its group."""

import numpy as np
import pytest

from napari_batchfx.errors import ProbeError
from napari_batchfx.probe import PROBES, FittedProbe, site_probe


@pytest.mark.parametrize("probe", PROBES)
def test_the_same_probabilities_again_also_from_a_file(make_batches, tmp_path, probe):
    table = make_batches(shift=0.5, sites=3, slides=12, tiles=15)
    found = site_probe(table, probe=probe, permutations=0, n_bootstrap=20, n_splits=3)
    back = FittedProbe.load(found.fitted.save(tmp_path / "probe"))
    for fitted in (found.fitted, back):
        again = fitted.apply(table.X, table.obs["patient"])
        np.testing.assert_allclose(again, found.proba, atol=1e-5)
    assert back.batches == tuple(found.batches)
    assert back.group == "patient"


def test_a_group_that_was_never_seen_gets_the_mean_of_all(make_batches):
    table = make_batches(tiles=15)
    fitted = site_probe(table, permutations=0, n_bootstrap=20).fitted
    each = [
        fitted.apply(table.X[:3], [name] * 3) for name in {k: g for g, k in fitted.fold_of.items()}.values()
    ]
    np.testing.assert_allclose(fitted.apply(table.X[:3], ["new"] * 3), np.mean(each, axis=0))


def test_pieces_of_a_slide_need_a_place(make_batches, tmp_path):
    table = make_batches(one_slide_a_site=True, tiles=100)
    found = site_probe(table, permutations=0, n_bootstrap=20)
    fitted = FittedProbe.load(found.fitted.save(tmp_path / "p.safetensors"))
    slides, yx = table.obs["slide"], table.obs[["y_um", "x_um"]].to_numpy()
    np.testing.assert_allclose(fitted.apply(table.X, slides=slides, yx=yx), found.proba, atol=1e-5)
    assert np.isnan(fitted.apply(table.X, slides=slides)).all()  # all classifiers have seen a part of it
    assert np.isfinite(fitted.apply(table.X, slides=["new"] * len(slides))).all()


def test_what_does_not_fit_is_said(make_batches, tmp_path):
    table = make_batches(tiles=15)
    fitted = site_probe(table, permutations=0, n_bootstrap=20).fitted
    with pytest.raises(ProbeError, match="fitted on 12 features a tile, these have 5"):
        fitted.apply(np.zeros((2, 5)), ["P1", "P2"])
    with pytest.raises(ProbeError, match="Give the patient of each tile"):
        fitted.apply(table.X)
    with pytest.raises(ProbeError, match="one each is needed"):
        fitted.apply(table.X, ["P1"])
    assert np.isnan(fitted.apply(np.full((1, 12), np.nan), ["P1"])).all()
    with pytest.raises(ProbeError, match="no such file"):
        FittedProbe.load(tmp_path / "none.safetensors")
    (tmp_path / "bad.safetensors").write_bytes(b"nothing")
    with pytest.raises(ProbeError, match=r"bad\.safetensors is damaged"):
        FittedProbe.load(tmp_path / "bad.safetensors")
