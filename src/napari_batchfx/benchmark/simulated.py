"""Simulated scanners: two of eight left out, mixtures of classes, numbers of controls, sizes of a batch."""

from __future__ import annotations

from collections.abc import Generator
from typing import Any

import numpy as np
from numpy.typing import NDArray

from napari_batchfx.adapt import MILSettings, ScanGenMIL
from napari_batchfx.benchmark.on_features import FEATURE_METHODS, Fitted, as_table, reduce
from napari_batchfx.benchmark.simulated_data import CLASSES, Simulated
from napari_batchfx.jobs import Progress, Ticker

__all__ = ["ALPHAS", "run_scangen", "run_simulated"]

ALPHAS = ("balanced", "10", "1", "0.1", "0.01")
CONTROLS = (16, 32, 64, 128, 256)
BATCHES = (8, 16, 32, 64, 128, 256)
#: Methods whose predictions depend on how many controls and tiles there are.
_BY_CONTEXT = ("adabn", "armbn", "csarmbn")
_DRAWS = 4


def run_simulated(
    data: Simulated, seed: int, pair: int, *, only_pair: bool = False
) -> Generator[Progress, None, dict[str, Any]]:
    """One seed with one pair of scanners left out, or (``only_pair``) with none but these two trained on.

    Returns
    -------
    dict
        {"in": {method: accuracy}, "out": {condition: {method: accuracy}}}; a condition is
        "alpha/controls/batch".
    """
    ticker = Ticker(len(FEATURE_METHODS) + 1, "simulated scanners", unit="methods")
    rng = np.random.default_rng([seed, 3])
    order = rng.permutation(len(data.scanners))
    out = order[2 * pair : 2 * pair + 2]
    seen = [int(s) for s in order if s not in out]
    if only_pair:
        out, seen = np.array(seen), [int(s) for s in out]
    held = _held_units(data, rng)
    train_rows = np.flatnonzero(~held)
    test_rows = np.flatnonzero(held & ~data.control)
    control_rows = np.flatnonzero(data.control)
    near = reduce(np.concatenate([data.x[s][train_rows] for s in seen])[::2])
    x = np.stack([near(part) for part in data.x])
    parts = [(x[s][train_rows], data.scanners[s]) for s in seen]
    train = as_table(
        np.concatenate([p for p, _ in parts]),
        np.tile(data.label[train_rows], len(seen)),
        np.repeat([name for _, name in parts], len(train_rows)),
        np.tile(data.control[train_rows], len(seen)),
        np.tile(data.unit[train_rows], len(seen)),
    )
    fitted = Fitted(train, seed, FEATURE_METHODS)
    yield ticker.tick()
    conditions = [(a, 128, 64) for a in ALPHAS]
    conditions += [(a, c, 64) for a in ("balanced", "0.01") for c in CONTROLS if c != 128]
    conditions += [("balanced", 128, b) for b in BATCHES if b != 64]
    results: dict[str, Any] = {"in": {}, "out": {}}
    for method in FEATURE_METHODS:
        draws = np.random.default_rng([seed, pair, 11])
        right: list[float] = []
        for s in seen:
            table = _batch(data, x, int(s), test_rows, control_rows[:128], "balanced", 64, draws)
            right += [_accuracy(fitted, table, method, 64)]
        results["in"][method] = float(np.mean(right))
        for alpha, n_controls, size in conditions if method in _BY_CONTEXT else conditions[: len(ALPHAS)]:
            draws = np.random.default_rng([seed, pair, n_controls, size, ALPHAS.index(alpha)])
            right = []
            for s in out:
                chosen = draws.permutation(control_rows)[:n_controls]
                for _ in range(_DRAWS):
                    table = _batch(data, x, int(s), test_rows, chosen, alpha, size, draws)
                    right.append(_accuracy(fitted, table, method, size))
            results["out"].setdefault(f"{alpha}/{n_controls}/{size}", {})[method] = float(np.mean(right))
        yield ticker.tick()
    return results


def _held_units(data: Simulated, rng: np.random.Generator) -> NDArray[np.bool_]:
    """Tissue that is tested on: two fifths of the phantoms and of the real places; no controls."""
    units = np.array(sorted({str(u) for u in data.unit[~data.control]}), dtype=object)
    chosen = set(rng.permutation(units)[: 2 * len(units) // 5])
    return np.array([u in chosen for u in data.unit]) & ~data.control


def _batch(
    data: Simulated,
    x: NDArray[np.float32],
    scanner: int,
    rows: NDArray[np.intp],
    controls: NDArray[np.intp],
    alpha: str,
    size: int,
    rng: np.random.Generator,
) -> Any:
    """A slide of ``size`` tiles whose classes are mixed by Dirichlet(alpha), with its controls."""
    n = len(CLASSES)
    share = np.full(n, 1.0 / n) if alpha == "balanced" else rng.dirichlet(np.full(n, float(alpha)))
    counts = rng.multinomial(size, share / share.sum())
    targets = np.concatenate(
        [
            rng.choice(members, k, replace=k > len(members))
            for c, k in zip(CLASSES, counts, strict=True)
            if k and len(members := rows[data.label[rows] == c])
        ]
    )
    both = np.concatenate([targets, controls])
    is_control = np.arange(len(both)) >= len(targets)
    return as_table(x[scanner][both], data.label[both], data.scanners[scanner], is_control, data.unit[both])


def _accuracy(fitted: Fitted, table: Any, method: str, context: int) -> float:
    truth = table.obs["label"].to_numpy()
    targets = ~table.obs["control"].to_numpy()
    proba = fitted.predict(table, method, context)[targets]
    names = np.array(sorted(set(fitted._train.obs["label"]) - {""}), dtype=object)
    return float((names[proba.argmax(axis=1)] == truth[targets]).mean())


def run_scangen(data: Simulated, seed: int) -> Generator[Progress, None, dict[str, Any]]:
    """Specimens of 16 tiles with or without tumour; trained on six scanners, tested on all eight.

    Returns
    -------
    dict
        For "plain" (no contrastive term) and "scangen" (chosen by validation): auc, cov, sd_ratio, and on
        the two
        scanners left out alone; "chosen": [lambda, tau].
    """
    rng = np.random.default_rng([seed, 21])
    held = _held_units(data, rng)
    order = rng.permutation(len(data.scanners))
    seen, out = order[2:], order[:2]
    near = reduce(np.concatenate([data.x[s][~held & ~data.control] for s in seen])[::2])
    x = [near(part) for part in data.x]
    train = _specimens(data, x, np.flatnonzero(~held & ~data.control), seen, 48, rng)
    test = _specimens(data, x, np.flatnonzero(held), np.arange(len(data.scanners)), 40, rng)
    settings = MILSettings(tiles=16, seed=seed, steps=120)
    results: dict[str, Any] = {}
    for name, head in (
        ("plain", ScanGenMIL(weight=0.0, tau=0.1, settings=settings)),
        ("scangen", ScanGenMIL(settings=settings)),
    ):
        yield from head.fit_job(train)
        prediction, bags = head.predict(test)
        k = head.classes.index("tumour")
        truth = np.array([b.label == "tumour" for b in bags])
        where = np.array([data.scanners.index(b.scanner) for b in bags])
        variation = head.variation(test)
        results[name] = {
            "auc": _auc(truth, prediction.proba[:, k], where, np.unique(where)),
            "auc_out": _auc(truth, prediction.proba[:, k], where, out),
            "cov": variation.value,
            "sd_ratio": variation.support["sd_ratio"],
        }
        if name == "scangen":
            results["chosen"] = [head.weight, head.tau]
    return results


def _auc(
    truth: NDArray[np.bool_], p: NDArray[np.float64], where: NDArray[np.intp], scanners: NDArray[np.intp]
) -> float:
    from sklearn.metrics import roc_auc_score

    return float(np.mean([roc_auc_score(truth[where == s], p[where == s]) for s in scanners]))


def _specimens(
    data: Simulated,
    x: list[NDArray[np.float32]],
    rows: NDArray[np.intp],
    scanners: NDArray[np.intp],
    n: int,
    rng: np.random.Generator,
) -> Any:
    """Half of the specimens hold 2 tumour tiles among 16, the others none."""
    import anndata
    import pandas as pd

    tumour = rows[data.label[rows] == "tumour"]
    rest = rows[data.label[rows] != "tumour"]
    parts, obs = [], []
    for i in range(n):
        tiles = rng.choice(rest, 16, replace=False)
        if i % 2:
            tiles[:2] = rng.choice(tumour, 2, replace=False)
        for s in scanners:
            parts.append(x[s][tiles])
            obs += [(f"{i:03d}", data.scanners[s], "tumour" if i % 2 else "none")] * 16
    frame = pd.DataFrame(obs, columns=["specimen", "scanner", "label"])
    frame.index = frame.index.astype(str)
    return anndata.AnnData(np.concatenate(parts), obs=frame)
