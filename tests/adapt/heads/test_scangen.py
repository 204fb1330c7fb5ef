"""Slide-level heads over several scanners."""

import anndata
import numpy as np
import pandas as pd
import pytest
import torch

from napari_batchfx.adapt import MILSettings, ScanGenMIL, bags_of, load_head, scanner_contrast
from napari_batchfx.errors import AdaptError

OFFSETS = (0, 0.25, 0.5, 1, 2, 4)
GOLDEN = (
    0.004,
    0.008,
    0.069,
    2.64,
    8.22,
    10.97,
)  # ALGORITHMS.md, G8: one draw of the simulation of section 3.3


def simulated(offset, seed):
    """16 specimens, 32 dimensions, two scanners: specimen + offset of the scanner, length 1."""
    rng = np.random.default_rng(seed)
    z = rng.normal(size=(16, 1, 32)) + offset * rng.normal(size=(1, 2, 32))
    return torch.nn.functional.normalize(torch.from_numpy(z), dim=-1)


def test_loss_rises_with_the_offset_of_the_scanner_as_in_the_golden_simulation():
    losses = np.array([[float(scanner_contrast(simulated(o, s), 0.1)) for o in OFFSETS] for s in range(20)])
    assert (np.diff(losses, axis=1) > 0).all()
    assert (losses.min(0) <= GOLDEN).all()
    assert (losses.max(0) >= GOLDEN).all()


def test_loss_is_that_of_the_equation():
    """Against a loop over anchors written from the equation."""
    z, tau = simulated(0.7, 3), 0.2
    terms = []
    for i in range(16):
        for s, other in ((0, 1), (1, 0)):
            positive = np.exp(float(z[i, s] @ z[i, other]) / tau)
            negatives = sum(np.exp(float(z[i, s] @ z[j, s]) / tau) for j in range(16) if j != i)
            terms.append(-np.log(positive / (positive + negatives)))
    assert float(scanner_contrast(z, tau)) == pytest.approx(np.mean(terms), rel=1e-9)


def test_the_other_orientation_would_hardly_notice_the_offset():
    z = simulated(2, 0)
    swapped = torch.stack([z[:, 1], z[:, 0]], 1)
    tau = 0.1
    own = torch.einsum("isp,jsp->sij", swapped, z) / tau  # candidates of the other scanner than the anchor's
    wrong = -own.log_softmax(-1).diagonal(dim1=1, dim2=2).mean()
    assert float(wrong) < 0.5 * float(scanner_contrast(z, tau))


def test_missing_scans_and_specimens_of_the_same_class():
    z = simulated(0.5, 1)
    holed = z.clone()
    holed[3, 1] = float("nan")
    assert torch.isfinite(scanner_contrast(holed))
    label = torch.arange(16) % 2
    assert float(scanner_contrast(z, 0.1, label)) < float(scanner_contrast(z, 0.1))
    assert float(scanner_contrast(z, 0.1, torch.zeros(16))) == pytest.approx(0.0, abs=1e-9)
    holed.requires_grad_(True)
    scanner_contrast(holed).backward()
    assert torch.isfinite(holed.grad[0]).all()


def cohort(n=24, scanners=("A", "B", "C"), tiles=24, seed=0, offset=2.5, signal=1.2):
    """Specimens whose class shows in a third of the tiles, under scanners with an offset and gain of their own."""
    rng = np.random.default_rng(seed)
    looks = {s: (np.random.default_rng([7, i]).normal(size=10) * offset) for i, s in enumerate(scanners)}
    x, obs = [], []
    for i in range(n):
        base = rng.normal(size=(tiles, 10)) + 0.7 * rng.normal(size=10)
        base[: tiles // 3, 0] += signal * (2 * (i % 2) - 1) * 2
        for s in scanners:
            x.append(base + looks[s] + 0.1 * rng.normal(size=base.shape))
            obs += [{"specimen": f"s{i:02d}", "scanner": s, "label": "mutant" if i % 2 else "wild"}] * tiles
    frame = pd.DataFrame(obs)
    frame.index = frame.index.astype(str)
    return anndata.AnnData(np.concatenate(x).astype("float32"), obs=frame)


def test_contrast_makes_predictions_vary_less_over_scanners():
    train, test = cohort(seed=0), cohort(n=12, seed=1)
    settings = MILSettings(steps=60, specimens=12, tiles=16)
    plain = ScanGenMIL(weight=0.0, settings=settings).fit(train).variation(test)
    contrast = ScanGenMIL(weight=1.0, settings=settings).fit(train).variation(test)
    assert contrast.value < 0.75 * plain.value


def test_settings_are_chosen_by_validation_and_kept_in_the_file(tmp_path):
    table = cohort(n=16, tiles=12)
    head = ScanGenMIL(settings=MILSettings(steps=25, specimens=8, tiles=8)).fit(table)
    assert len(head.tried) == 6
    enough = max(t.auc for t in head.tried) - 0.01
    best = min((t for t in head.tried if t.auc >= enough), key=lambda t: t.cov)
    assert (head.weight, head.tau) == (best.weight, best.tau)
    again = load_head(head.save(tmp_path / "mil"))
    assert isinstance(again, ScanGenMIL)
    assert np.array_equal(again.predict(table)[0].proba, head.predict(table)[0].proba)
    assert again.tried == head.tried


def test_attention_is_high_on_the_tiles_that_hold_the_class_and_averages_one():
    table = cohort(seed=0)
    head = ScanGenMIL(weight=0.5, settings=MILSettings(steps=60, specimens=12, tiles=16)).fit(table)
    attention = head.attention(table)
    for bag in bags_of(table):
        assert attention[bag.rows].mean() == pytest.approx(1.0)
    telling = np.arange(table.n_obs) % 24 < 8
    assert attention[telling].mean() > 1.1 * attention[~telling].mean()


def test_cancelled_training_keeps_what_it_has():
    table = cohort(n=12, tiles=8)
    head = ScanGenMIL(weight=0.5, settings=MILSettings(steps=200, specimens=6, tiles=8))
    job = head.fit_job(table)
    for step, _ in enumerate(job):
        if step == 60:
            break
    job.close()
    assert head.predict(table)[0].predicted.all()


def test_same_seed_same_numbers_and_labels_are_not_read_at_prediction():
    table = cohort(n=12, tiles=8)
    settings = MILSettings(steps=20, specimens=6, tiles=8)
    one, two = (ScanGenMIL(weight=0.5, settings=settings).fit(table) for _ in range(2))
    planted = table.copy()
    planted.obs["label"] = ""
    assert np.array_equal(one.predict(table)[0].proba, two.predict(planted)[0].proba)


def test_what_it_refuses():
    table = cohort(n=12, tiles=8)
    with pytest.raises(AdaptError, match="align rescans, or simulate"):
        ScanGenMIL().fit(table[table.obs["scanner"] == "A"].copy())
    with pytest.raises(AdaptError, match="three specimens"):
        ScanGenMIL().fit(table[table.obs["specimen"].isin(["s00", "s01"])].copy())
    with pytest.raises(AdaptError, match="No tile has a plate"):
        bags_of(table, scanner="plate")
