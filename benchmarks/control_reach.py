"""What a number of the control samples says about the accuracy that a correction on them gains or loses.

    python benchmarks/control_reach.py [--seeds 0,1,2,3] [--json FILE]

Phantom tissue on two scanners, another piece of tissue on each, colour-statistics on tiles of 64 px. Controls are
one class, two classes, 20 tiles of each class, 80 of stroma with 4 of each other, or 50 suggested tiles a slide;
trained on each of the scanners in turn. Of every set: the reach (docs/methods/controls.md), other candidates that
need no label, and the change of balanced accuracy on the other scanner's labelled tiles that are no controls.
"""

from __future__ import annotations

import argparse
import json
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.spatial import cKDTree
from scipy.stats import spearmanr

from napari_batchfx import Study, samples
from napari_batchfx.adapt import ERMHead, make_correction
from napari_batchfx.adapt.measures import effective_rank, reach
from napari_batchfx.jobs import run
from napari_batchfx.probe.columns import category_codes, feature_matrix
from napari_batchfx.study.truth import truth_annotations

SCANNERS = ("aperio_cs2", "nanozoomer_s210")
CLASSES = ("stroma", "tumour", "gland", "lymphoid", "fat")
BINS = ((0, 1.2), (1.2, 2), (2, 3), (3, 4.5), (4.5, 99))


def tables(seed: int, folder: Path) -> tuple[Any, NDArray[np.bool_]]:
    """All tiles with their true classes, and which were suggested."""
    slides = run(samples.demo_pair(folder / "a", seed=seed, size_um=1500.0, scanners=SCANNERS))
    other = run(samples.demo_pair(folder / "b", seed=seed + 100, size_um=1500.0, scanners=SCANNERS))
    used = [slides[0], other[1]]
    with Study.create() as study:
        study.settings.encode.size_px, study.settings.encode.mpp = 64, 0.5
        for number, slide in enumerate(used):
            study.add_slide(slide.path, name=f"S{number}", scanner=slide.scanner, patient=f"P{number}")
        run(study.encode_job())
        for entry, slide in zip(study.slides, used, strict=True):
            study.annotations += truth_annotations(study, entry, slide, controls=())
        study.put_controls(study.suggest_controls(per_slide=50).tiles)
        table = study.table()
    return table, table.obs["control"].to_numpy(dtype=bool)


def choices(
    label: NDArray[Any], y: NDArray[np.intp], suggested: NDArray[np.bool_], rng: np.random.Generator
) -> dict[str, NDArray[np.bool_]]:
    """Sets of controls by name."""

    def some(counts: dict[str, int]) -> NDArray[np.bool_]:
        out = np.zeros(len(y), dtype=bool)
        for name, n in counts.items():
            rows = [np.flatnonzero((label == name) & (y == b)) for b in (0, 1)]
            for own in rows:
                out[rng.permutation(own)[: min(n, *map(len, rows))]] = True
        return out

    found = {"suggested": suggested} | {f"only {name}": label == name for name in CLASSES}
    for other in ("tumour", "lymphoid"):
        found[f"stroma and {other}"] = (label == "stroma") | (label == other)
    found["20 of each"] = some(dict.fromkeys(CLASSES, 20))
    found["80 stroma, 4 of each"] = some(dict.fromkeys(CLASSES, 4) | {"stroma": 80})
    return {name: mask for name, mask in found.items() if min((mask & (y == b)).sum() for b in (0, 1)) >= 16}


def candidates(x: NDArray[Any], y: NDArray[np.intp], mask: NDArray[np.bool_]) -> dict[str, float]:
    """Numbers that need no label."""
    found = {
        "reach": reach(x, y, mask),
        "rank ratio": effective_rank(x[mask], y[mask]) / effective_rank(x, y),
    }
    within = x - np.array([x[y == b].mean(axis=0) for b in (0, 1)])[y]
    z = within / np.maximum(within.std(axis=0), 1e-9)
    own = z[mask] - np.array([z[mask & (y == b)].mean(axis=0) for b in (0, 1)])[y[mask]]
    _, s, vt = np.linalg.svd(own, full_matrices=False)
    k = int(np.searchsorted(np.cumsum(s**2) / np.sum(s**2), 0.95)) + 1
    found["variance in their span"] = float(((z[~mask] @ vt[:k].T) ** 2).sum() / (z[~mask] ** 2).sum())
    sd = [
        np.log(x[mask & (y == b)].std(axis=0) + 1e-9) - np.log(x[y == b].std(axis=0) + 1e-9) for b in (0, 1)
    ]
    found["scale ratios apart"] = float(np.sqrt(np.mean((sd[0] - sd[1]) ** 2)))
    far = []
    for b in (0, 1):
        tree = cKDTree(z[mask & (y == b)])
        usual = np.quantile(tree.query(tree.data, k=2)[0][:, 1], 0.95)
        far.append(float((tree.query(z[~mask & (y == b)])[0] > usual).mean()))
    return found | {"share not covered": max(far)}


def one(seed: int, folder: Path) -> list[dict[str, Any]]:
    table, suggested = tables(seed, folder)
    x = feature_matrix(table).astype(float)
    y, _ = category_codes(table, "scanner")
    label = table.obs["label"].astype(object).fillna("").to_numpy()
    rows = []
    for name, mask in choices(label, y, suggested, np.random.default_rng(seed)).items():
        numbers = candidates(x, y, mask)
        for source in (0, 1):
            train, test = (y == source) & (label != ""), (y != source) & (label != "") & ~mask
            plain = ERMHead().fit(table[train].copy())
            for method in ("standardize", "combat"):
                out = make_correction(method).fit(table, "scanner", mask).transform(table)
                heads = ((plain, table), (ERMHead(c=plain.c).fit(out[train].copy()), out))
                before, after = (
                    float(np.mean([np.mean(p[label[test] == c] == c) for c in np.unique(label[test])]))
                    for p in (head.predict(tiles).label[test] for head, tiles in heads)
                )
                rows.append(
                    {"seed": seed, "controls": name, "source": source, "method": method, "n": int(mask.sum())}
                    | numbers
                    | {"before": before, "after": after}
                )
        print(seed, name, {key: round(value, 2) for key, value in numbers.items()}, flush=True)
    return rows


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seeds", default="0,1,2,3")
    parser.add_argument("--json", type=Path)
    chosen = parser.parse_args()
    rows: list[dict[str, Any]] = []
    for seed in map(int, chosen.seeds.split(",")):
        with tempfile.TemporaryDirectory() as folder:
            rows += one(seed, Path(folder))
    for method in ("standardize", "combat"):
        mine = [row for row in rows if row["method"] == method]
        gain = np.array([row["after"] - row["before"] for row in mine])
        for key in (
            "reach",
            "rank ratio",
            "variance in their span",
            "scale ratios apart",
            "share not covered",
        ):
            value = np.array([row[key] for row in mine])
            print(f"{method}: {key} against the gain, Spearman {spearmanr(value, gain).statistic:.2f}")
        value = np.array([row["reach"] for row in mine])
        for low, high in BINS:
            inside = (value >= low) & (value < high)
            if inside.any():
                lost = int((gain[inside] < -0.02).sum())
                print(
                    f"{method}: reach {low} to {high}: {inside.sum()} runs, mean gain {gain[inside].mean():.3f}, "
                    f"{lost} lost more than 2 points, worst {gain[inside].min():.2f}"
                )
    if chosen.json:
        chosen.json.write_text(json.dumps(rows, indent=1))


if __name__ == "__main__":
    main()
