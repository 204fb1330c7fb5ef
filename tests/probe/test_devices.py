"""The probe's path through torch tensors: the same answer as numpy's, and a sentence where it can't be taken."""

from __future__ import annotations

import json
import subprocess
import sys

import numpy as np
import pytest

from napari_batchfx.errors import ProbeError
from napari_batchfx.probe import site_probe
from napari_batchfx.probe.devices import FLAG, TorchRows, fit_device
from napari_batchfx.probe.probes import Scaler

# In a process of its own: scipy reads the flag when it is first imported. Two and three sites, by patients and by
# place, with tiles enough that the penalty is chosen on a part of them.
BOTH = """
import json
from napari_batchfx.probe.devices import allow_gpu
allow_gpu("torch:cpu")  # as the command line does
from tests.probe.batch_tables import make_batches
from napari_batchfx.probe import crossfit, site_probe
from napari_batchfx.probe.devices import fit_device
assert fit_device("auto", 10**9) in (None, "cuda") and fit_device("torch:cpu") == "cpu"
cases = [dict(sites=3, shift=0.5, slides=18, tiles=30), dict(shift=0.4), dict(one_slide_a_site=True, tiles=100)]
found = []
for i, how in enumerate(cases):
    crossfit.MAX_INNER_ROWS = 150 if i == 0 else 8_000
    table = make_batches(**how)
    table.X[:, 3] = 7.0  # a constant feature
    one, other = (site_probe(table, permutations=3, n_bootstrap=50, device=d) for d in ("cpu", "torch:cpu"))
    fits = [x.fitted.scorers[0].coef for x in (one, other)]
    found.append({
        "proba": float(abs(one.proba - other.proba).max()),
        "coef": float(abs(fits[0] - fits[1]).max() / abs(fits[0]).max()),
        "C": [one.settings["C"], other.settings["C"]],
        "temperature": [one.settings["temperature"], other.settings["temperature"]],
        "accuracy": [one.balanced_accuracy, other.balanced_accuracy],
        "p": [one.permutation_p, other.permutation_p],
        "device": [one.settings.get("device"), other.settings.get("device")],
    })
print(json.dumps(found))
"""


def test_torch_tensors_give_what_numpy_gives():
    """To 5e-3 in every probability: L-BFGS stops at a gradient of 1e-4, and a low temperature makes much of it."""
    done = subprocess.run(
        [sys.executable, "-c", BOTH], capture_output=True, text=True, timeout=300, check=False
    )
    assert done.returncode == 0, done.stderr
    for found in json.loads(done.stdout.splitlines()[-1]):
        assert found["device"] == [None, "cpu"]
        assert found["proba"] < 5e-3
        assert found["coef"] < 5e-3
        assert found["C"][0] == found["C"][1]
        np.testing.assert_allclose(*found["temperature"], rtol=1e-2)
        assert found["accuracy"][0] == pytest.approx(found["accuracy"][1], abs=5e-3)  # a tile
        assert found["p"][0] == found["p"][1]


def test_rows_on_a_device_are_those_of_numpy():
    rng = np.random.default_rng(0)
    x = (rng.normal(size=(500, 7)) * 10 + 100).astype(np.float32)
    x[:, 2] = 5.0
    weight = rng.uniform(0.5, 2, 500)
    rows = TorchRows.put(x, "cpu")
    mask = x[:, 0] > 100
    np.testing.assert_array_equal(rows[mask].tensor.numpy(), x[mask])
    np.testing.assert_array_equal(rows[np.array([3, 1])].tensor.numpy(), x[[3, 1]])
    one, other = Scaler.fit(x, weight), Scaler.fit(rows, weight)
    np.testing.assert_allclose(other.mean, one.mean, rtol=1e-6)
    np.testing.assert_allclose(other.scale, one.scale, rtol=1e-6)
    assert np.isinf(other.scale[2])
    kept = x.copy()
    z = one.apply_inplace(x.copy())
    np.testing.assert_allclose(other.apply_inplace(rows[np.arange(500)]).tensor.numpy(), z, atol=1e-5)
    np.testing.assert_array_equal(rows.tensor.numpy(), kept)  # a part is a copy


def test_a_device_that_can_t_be_used_is_said(make_batches, monkeypatch):
    with pytest.raises(ProbeError, match="There is no device gpu; choose"):
        fit_device("gpu", 10)
    monkeypatch.delenv(FLAG, raising=False)
    with pytest.raises(
        ProbeError, match=f"set {FLAG}=1 before the program is started; or take the device cpu"
    ):
        site_probe(make_batches(), permutations=0, n_bootstrap=1, device="cuda")
    assert fit_device("auto", 10**9) is None
    assert "device" not in site_probe(make_batches(), permutations=0, n_bootstrap=1).settings
    monkeypatch.setenv(FLAG, "1")  # too late: scipy is there already
    with pytest.raises(ProbeError, match="before the program is started"):
        fit_device("torch:cpu")
