"""From predictions to numbers with intervals."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

__all__ = ["balanced_draws", "mean_interval", "mitoses_table", "out_of_scanner_bar"]

N_BOOTSTRAP = 2000


def balanced_draws(
    runs: Sequence[dict[str, Any]],
    method: str,
    where: str,
    y: NDArray[np.intp],
    patient: NDArray[Any],
    key: str,
) -> tuple[float, NDArray[np.float64], float]:
    """Balanced accuracy over all runs, its bootstrap over patients (draws,), and the AUC (mean of runs).

    The draws of patients are the same for every method, so differences are paired. A run counts each of its
    tiles
    once; tiles of several runs (seeds) are pooled within their patient.
    """
    names = np.unique(patient)
    right = np.zeros((len(names), 2))
    total = np.zeros((len(names), 2))
    aucs = []
    for run in runs:
        rows = [r for r in run[method][key] if r[0] == where]
        if not rows:
            continue
        tile = np.array([r[1] for r in rows])
        p = np.array([r[2] for r in rows])
        who = np.searchsorted(names, patient[tile])
        hit = (p > 0.5) == (y[tile] == 1)
        np.add.at(total, (who, y[tile]), 1.0)
        np.add.at(right, (who, y[tile]), hit.astype(float))
        aucs.append(_auc(y[tile], p))
    used = total.sum(axis=1) > 0
    right, total = right[used], total[used]
    rng = np.random.default_rng(0)
    times = rng.multinomial(len(total), np.full(len(total), 1 / len(total)), size=N_BOOTSTRAP)
    draws = ((times @ right) / np.maximum(times @ total, 1e-9)).mean(axis=1)
    value = float((right.sum(axis=0) / total.sum(axis=0)).mean())
    return value, draws, float(np.mean(aucs))


def mitoses_table(
    runs: Sequence[dict[str, Any]], y: NDArray[np.intp], patient: NDArray[Any]
) -> dict[str, dict[str, Any]]:
    """For every method: balanced accuracy and AUC in and out of scanner, under shift, difference to ERM."""
    table: dict[str, dict[str, Any]] = {}
    for method in runs[0]:
        line: dict[str, Any] = {}
        for name, where, key in (
            ("in", "in", "natural"),
            ("out", "out", "natural"),
            ("shifted", "out", "shifted"),
        ):
            value, draws, auc = balanced_draws(runs, method, where, y, patient, key)
            _, reference, _ = balanced_draws(runs, "erm", where, y, patient, key)
            line[name] = {
                "value": value,
                "ci": _ci(draws),
                "auc": auc,
                "minus_erm": float(value - balanced_draws(runs, "erm", where, y, patient, key)[0]),
                "minus_erm_ci": _ci(draws - reference),
            }
        table[method] = line
    return table


def out_of_scanner_bar(table: dict[str, dict[str, Any]], adapting: Sequence[str]) -> dict[str, Any]:
    """The best adapting method out of scanner, whether it meets the bar, and all those that do."""
    there = [m for m in adapting if m in table]
    best = max(there, key=lambda m: table[m]["out"]["value"])
    out, inside = table[best]["out"], table[best]["in"]
    return {
        "method": best,
        "gain": out["minus_erm"],
        "gain_ci": out["minus_erm_ci"],
        "in": inside["minus_erm"],
        "in_ci": inside["minus_erm_ci"],
        "met": _meets(table[best]),
        "all_that_meet": [m for m in there if _meets(table[m])],
    }


def _meets(line: dict[str, Any]) -> bool:
    out = line["out"]
    return bool(out["minus_erm"] >= 0.04 and out["minus_erm_ci"][0] > 0 and line["in"]["minus_erm"] >= 0)


def mean_interval(values: Sequence[float]) -> list[float]:
    """Mean and 95 % t interval over runs: [mean, low, high]."""
    from scipy.stats import t

    v = np.asarray(values, dtype=float)
    if len(v) < 2:
        return [float(v.mean()), float("nan"), float("nan")]
    half = float(t.ppf(0.975, len(v) - 1) * v.std(ddof=1) / len(v) ** 0.5)
    return [float(v.mean()), float(v.mean()) - half, float(v.mean()) + half]


def _ci(draws: NDArray[np.float64]) -> list[float]:
    low, high = np.quantile(draws, [0.025, 0.975])
    return [float(low), float(high)]


def _auc(y: NDArray[np.intp], p: NDArray[np.float64]) -> float:
    from sklearn.metrics import roc_auc_score

    return float(roc_auc_score(y, p)) if 0 < y.sum() < len(y) else float("nan")
