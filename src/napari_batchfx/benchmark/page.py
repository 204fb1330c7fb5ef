"""The page of results, made from the pieces; every sentence with a number comes from them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from napari_batchfx.benchmark.simulated import ALPHAS, BATCHES, CONTROLS
from napari_batchfx.benchmark.summary import mean_interval, mitoses_table, out_of_scanner_bar
from napari_batchfx.encoders.built_in import mini_version

__all__ = ["results_of", "results_page"]

ADAPTING = (
    "standardize",
    "tvn",
    "coral",
    "combat",
    "tent",
    "adabn",
    "armbn",
    "csarmbn",
    "csarmbn, controls only",
)
NAMES = {
    "erm": "ERM (linear on features; as it is through the network)",
    "macenko, erm": "Macenko, then ERM",
    "reinhard, erm": "Reinhard, then ERM",
    "mlp": "ERM, two hidden layers",
    "standardize": "Standardise on controls",
    "tvn": "TVN",
    "coral": "CORAL",
    "combat": "ComBat",
    "dann": "DANN",
    "tent": "Entropy minimisation",
    "adabn": "AdaBN",
    "armbn": "ARM-BN",
    "csarmbn": "CS-ARM-BN",
    "csarmbn, controls only": "CS-ARM-BN, statistics of the controls only",
    "csarmbn, classes as they come": "CS-ARM-BN, trained on even classes",
}
PLANNED = {
    "mitoses-features": 15,
    "mitoses-network": 15,
    "pair": 10,
    "simulated": 20,
    "simulated-colour": 20,
    "two-scanners": 10,
    "two-scanners-colour": 10,
    "scangen": 5,
    "scangen-colour": 5,
}
#: Parts on simulated scanners: what they are features of, and whether two scanners only were trained on.
SIMULATED = {
    "simulated": ("batchfx-mini", False),
    "simulated-colour": ("colour-statistics", False),
    "two-scanners": ("batchfx-mini", True),
    "two-scanners-colour": ("colour-statistics", True),
}
SCANGEN = {"scangen": "batchfx-mini", "scangen-colour": "colour-statistics"}


def results_of(pieces: dict[str, dict[str, Any]], data: Path) -> dict[str, Any]:
    """Numbers of every part that has pieces."""
    found: dict[str, Any] = {"pieces": {part: len(done) for part, done in pieces.items()}}
    found["batchfx-mini"] = mini_version()
    if pieces["mitoses-features"] or pieces["mitoses-network"]:
        from napari_batchfx.benchmark.mitoses_data import load_mitoses

        mitoses = load_mitoses(data)
        y = (mitoses.label == "atypical").astype(np.intp)
        for part in ("mitoses-features", "mitoses-network"):
            if pieces[part]:
                table = mitoses_table(list(pieces[part].values()), y, mitoses.patient)
                found[part] = {"methods": table, "bar": out_of_scanner_bar(table, ADAPTING)}
    if pieces["pair"]:
        found["pair"] = _pair(list(pieces["pair"].values()))
    for part in SIMULATED:
        if pieces[part]:
            found[part] = _simulated(list(pieces[part].values()))
    for part in SCANGEN:
        if pieces[part]:
            found[part] = _scangen(list(pieces[part].values()))
    return found


def _pair(runs: list[dict[str, Any]]) -> dict[str, Any]:
    """Accuracy, with a bootstrap over tiles (a tile keeps its runs together)."""
    found: dict[str, Any] = {}
    for method in runs[0]:
        for where in ("in", "out"):
            rows = [r for run in runs for r in run[method]["natural"] if r[0] == where]
            tile = np.unique([r[1] for r in rows], return_inverse=True)[1]
            right = np.bincount(tile, weights=[r[2] for r in rows]) / np.bincount(tile)
            draws = np.random.default_rng(0).integers(len(right), size=(2000, len(right)))
            low, high = np.quantile(right[draws].mean(axis=1), [0.025, 0.975])
            found.setdefault(method, {})[where] = [float(right.mean()), float(low), float(high)]
    return found


def _simulated(runs: list[dict[str, Any]]) -> dict[str, Any]:
    methods = list(runs[0]["in"])
    conditions = list(runs[0]["out"])
    table = {
        m: {
            "in": mean_interval([r["in"][m] for r in runs]),
            "out": {
                c: mean_interval([r["out"][c][m] for r in runs])
                for c in conditions
                if all(m in r["out"][c] for r in runs)
            },
        }
        for m in methods
    }

    def over(value: Any) -> list[float]:
        return mean_interval([value(r) for r in runs])

    even, skewed = "balanced/128/64", "0.01/128/64"
    inside = float(np.mean([r["in"]["erm"] for r in runs]))
    out = float(np.mean([r["out"][even]["erm"] for r in runs]))
    adapted = float(np.mean([r["out"][even]["csarmbn"] for r in runs]))
    gap = inside - out

    def closed(method: str) -> float:
        reached = float(np.mean([r["out"][even][method] for r in runs]))
        return (reached - out) / gap if gap > 0 else float("nan")

    def closed_of_same(method: str) -> float:
        """Against the same layers without adaptation, which are what the paper calls ERM."""
        low = float(np.mean([r["out"][even]["mlp"] for r in runs]))
        own_gap = float(np.mean([r["in"]["mlp"] for r in runs])) - low
        reached = float(np.mean([r["out"][even][method] for r in runs]))
        return (reached - low) / own_gap if own_gap > 0 else float("nan")

    bars = {
        "closed_of_same": {
            m: closed_of_same(m) for m in ("csarmbn", "csarmbn, classes as they come") if m in methods
        }
        if "mlp" in methods
        else {},
        "closed": {m: closed(m) for m in methods if m in ADAPTING},
        "erm_drop": over(lambda r: r["in"]["erm"] - r["out"][even]["erm"]),
        "gap_closed": (adapted - out) / (inside - out) if inside > out else float("nan"),
        "csarmbn_loss": over(lambda r: r["out"][even]["csarmbn"] - r["out"][skewed]["csarmbn"]),
        "armbn_loss": over(lambda r: r["out"][even]["armbn"] - r["out"][skewed]["armbn"]),
    }
    return {"methods": table, "bars": bars}


def _scangen(runs: list[dict[str, Any]]) -> dict[str, Any]:
    found: dict[str, Any] = {
        name: {
            key: mean_interval([r[name][key] for r in runs]) for key in ("auc", "auc_out", "cov", "sd_ratio")
        }
        for name in ("plain", "scangen")
    }
    found["cov_change"] = mean_interval([r["scangen"]["cov"] / r["plain"]["cov"] - 1 for r in runs])
    found["sd_ratio_change"] = mean_interval(
        [r["scangen"]["sd_ratio"] / r["plain"]["sd_ratio"] - 1 for r in runs]
    )
    found["auc_change"] = mean_interval([r["scangen"]["auc"] - r["plain"]["auc"] for r in runs])
    found["chosen"] = [r["chosen"] for r in runs]
    return found


def results_page(results: dict[str, Any]) -> str:
    """Markdown."""
    done = results["pieces"]
    lines = [
        "# What adaptation reaches: the benchmark",
        "",
        "Made by `napari-batchfx benchmark adapt`; every number is from the files beside it. Out: a "
        "scanner that was not "
        "trained on. In: other patients (other tissue) on scanners that were. No label of what is tested "
        f"is read. batchfx-mini is version {results['batchfx-mini']}.",
        "",
        "| part | runs done | of |",
        "|---|---|---|",
        *[f"| {part} | {done[part]} | {PLANNED[part]} |" for part in PLANNED],
        "",
    ]
    if any(done[part] < PLANNED[part] for part in PLANNED):
        lines += [
            "Not every run is done yet: the command goes on where it stopped. Intervals of parts with few "
            "runs are wide, and bars judged on them are provisional.",
            "",
        ]
    for part, title in (
        ("mitoses-network", "Mitoses on three scanners, a whole network trained end to end"),
        ("mitoses-features", "Mitoses on three scanners, features of batchfx-mini"),
    ):
        if part in results:
            lines += _mitoses_lines(results[part], title)
    if "pair" in results:
        lines += [
            "## Ki-67, one field on two scanners",
            "",
            "Three classes (chance 0.33), 110 tiles, a quarter of the field held out in turn, both ways. "
            "Controls: the places of the training tiles on both scanners. Accuracy, 95 % over tiles.",
            "",
            "| method | in | out |",
            "|---|---|---|",
            *[f"| {NAMES[m]} | {_three(v['in'])} | {_three(v['out'])} |" for m, v in results["pair"].items()],
            "",
        ]
    for part, (encoder, few) in SIMULATED.items():
        if part in results:
            lines += _simulated_lines(results[part], encoder, few)
    for part, encoder in SCANGEN.items():
        if part in results:
            lines += _scangen_lines(results[part], encoder)
    return "\n".join(lines).rstrip() + "\n"


def _mitoses_lines(part: dict[str, Any], title: str) -> list[str]:
    bar = part["bar"]
    lines = [
        f"## {title}",
        "",
        "Atypical against normal, one scanner left out in turn, patients apart. Controls: normal mitoses "
        "of other patients. "
        "Balanced accuracy (AUC), 95 % over patients; *shifted*: batches of 64 whose classes are mixed by "
        "Dirichlet(0.1).",
        "",
        "| method | in scanner | out of scanner | out, minus ERM | out, shifted |",
        "|---|---|---|---|---|",
    ]
    for m, v in part["methods"].items():
        out = v["out"]
        lines.append(
            f"| {NAMES[m]} | {v['in']['value']:.3f} ({v['in']['auc']:.3f}) | {out['value']:.3f} "
            f"({out['auc']:.3f}) | "
            f"{out['minus_erm']:+.3f} ({out['minus_erm_ci'][0]:+.3f} to {out['minus_erm_ci'][1]:+.3f}) | "
            f"{v['shifted']['value']:.3f} |"
        )
    verdict = "met" if bar["met"] else "not met"
    others = ", ".join(NAMES[m] for m in bar["all_that_meet"]) or "none"
    return [
        *lines,
        "",
        "Bar (best adapting method out of scanner at least 4 points above ERM, interval above 0, no worse in "
        f"scanner): **{verdict}**. Best out of scanner is {NAMES[bar['method']]}: "
        f"{_signed(bar['gain'], bar['gain_ci'])} points out, {_signed(bar['in'], bar['in_ci'])} in. "
        f"Methods that meet all three conditions: {others}.",
        "",
    ]


def _simulated_lines(part: dict[str, Any], encoder: str, few: bool) -> list[str]:
    methods, bars = part["methods"], part["bars"]
    lines = [
        f"## Simulated scanners on real tissue and phantom, {encoder}"
        + (", trained on two scanners" if few else ""),
        "",
        "Camelyon17, colorectal and phantom tiles of five classes, seen through eight scanners, "
        + ("two trained on and six left out; " if few else "two left out in turn; ")
        + f"features of {encoder}. Accuracy, mean over runs (95 % t interval where given). Batches of 64 "
        "tiles with 128 controls; classes even, or mixed by Dirichlet.",
        "",
        "| method | in | " + " | ".join(f"out, {a}" for a in ALPHAS) + " |",
        "|---|---|" + "---|" * len(ALPHAS),
    ]
    for m, v in methods.items():
        cells = " | ".join(f"{v['out'][f'{a}/128/64'][0]:.3f}" for a in ALPHAS)
        lines.append(f"| {NAMES[m]} | {v['in'][0]:.3f} | {cells} |")
    own = methods["csarmbn"]["out"]
    lines += [
        "",
        "CS-ARM-BN by number of controls (batches of 64):",
        "",
        "| | " + " | ".join(str(c) for c in CONTROLS) + " |",
        "|---|" + "---|" * len(CONTROLS),
        "| even | " + " | ".join(f"{own[f'balanced/{c}/64'][0]:.3f}" for c in CONTROLS) + " |",
        "| Dirichlet 0.01 | " + " | ".join(f"{own[f'0.01/{c}/64'][0]:.3f}" for c in CONTROLS) + " |",
        "",
        "By tiles in the batch (128 controls, even classes):",
        "",
        "| | " + " | ".join(str(b) for b in BATCHES) + " |",
        "|---|" + "---|" * len(BATCHES),
    ]
    for m in ("adabn", "armbn", "csarmbn"):
        cells = " | ".join(f"{methods[m]['out'][f'balanced/128/{b}'][0]:.3f}" for b in BATCHES)
        lines.append(f"| {NAMES[m]} | {cells} |")
    drop, cs, arm = bars["erm_drop"], bars["csarmbn_loss"], bars["armbn_loss"]
    closed = bars["gap_closed"]
    return [
        *lines,
        "",
        f"- ERM drops by {_points(drop)} points out of domain; bar 5: {_met(drop[0] >= 0.05)}.",
        "- There is no gap between in and out that CS-ARM-BN could close; bar 90 %: **not met**."
        if not np.isfinite(closed)
        else f"- CS-ARM-BN closes {100 * closed:.0f} % of the gap when classes are even; bar 90 %: "
        f"{_met(closed >= 0.9)}.",
        *_closed_of_same(bars.get("closed_of_same", {})),
        *_closed_by_others(bars.get("closed", {})),
        f"- CS-ARM-BN loses {_points(cs)} points at Dirichlet 0.01; bar at most 6: {_met(cs[0] <= 0.06)}.",
        f"- ARM-BN loses {_points(arm)} points there; bar at least 20: {_met(arm[0] >= 0.2)}.",
        "",
    ]


def _closed_of_same(closed: dict[str, float]) -> list[str]:
    said = [f"{NAMES[m]} {100 * v:.0f} %" for m, v in closed.items() if np.isfinite(v)]
    return (
        [
            "- Of the gap of the same layers without adaptation (ERM, two hidden layers): "
            + ", ".join(said)
            + "."
        ]
        if said
        else []
    )


def _closed_by_others(closed: dict[str, float]) -> list[str]:
    """The two others that close most of the gap."""
    others = {m: v for m, v in closed.items() if not m.startswith("csarmbn") and np.isfinite(v)}
    best = sorted(others, key=others.__getitem__, reverse=True)[:2]
    return (
        [
            "- Of the others, most of the gap is closed by "
            + " and ".join(f"{NAMES[m]} ({100 * others[m]:.0f} %)" for m in best)
            + "."
        ]
        if best
        else []
    )


def _scangen_lines(part: dict[str, Any], encoder: str) -> list[str]:
    rows = [
        f"| {title} | {_three(part[n]['auc'])} | {_three(part[n]['auc_out'])} | "
        f"{_three(part[n]['cov'], np.inf)} | {_three(part[n]['sd_ratio'], np.inf)} |"
        for n, title in (("plain", "attention alone"), ("scangen", "with the contrastive term"))
    ]
    cov, auc = part["cov_change"], part["auc_change"]
    spread = part.get("sd_ratio_change")
    return [
        f"## ScanGen on simulated scanners, {encoder}",
        "",
        "Specimens of 16 tiles, 2 of them tumour or none; trained on six scanners, tested on other "
        "specimens on all eight. Mean over seeds (95 % t interval).",
        "",
        "| | AUC | AUC, scanners left out | CoV over scanners | sd ratio |",
        "|---|---|---|---|---|",
        *rows,
        "",
        f"CoV changes by {100 * cov[0]:+.0f} % ({100 * cov[1]:+.0f} to {100 * cov[2]:+.0f}); bar -25 %: "
        f"{_met(cov[0] <= -0.25)}. "
        + (
            f"The sd ratio by {100 * spread[0]:+.0f} % ({100 * spread[1]:+.0f} to {100 * spread[2]:+.0f}). "
            if spread
            else ""
        )
        + f"AUC by {auc[0]:+.3f} ({auc[1]:+.3f} to {auc[2]:+.3f}); bar not below "
        f"-0.01: {_met(auc[0] >= -0.01)}. Chosen (weight, temperature): "
        + ", ".join(f"{w:g}/{t:g}" for w, t in part["chosen"])
        + ".",
        "",
    ]


def _three(v: list[float], most: float = 1.0) -> str:
    """A share, or what else lies above 0, with its interval."""
    if not np.isfinite(v[1]):
        return f"{v[0]:.3f}"
    return f"{v[0]:.3f} ({max(v[1], 0.0):.3f}–{min(v[2], most):.3f})"


def _points(v: list[float]) -> str:
    return (
        f"{100 * v[0]:.1f}"
        if not np.isfinite(v[1])
        else f"{100 * v[0]:.1f} ({100 * v[1]:.1f} to {100 * v[2]:.1f})"
    )


def _signed(value: float, ci: list[float]) -> str:
    return f"{100 * value:+.1f} ({100 * ci[0]:+.1f} to {100 * ci[1]:+.1f})"


def _met(yes: bool) -> str:
    return "met" if yes else "**not met**"
