"""Drawn controls against suggested ones, for every correction, where the truth is known.

    python benchmarks/suggested_controls.py [--seeds 2] [--json FILE]

Phantom tissue on two scanners, another piece of tissue on each. Controls are the phantom's stroma (drawn), or
`study.suggest_controls(per_slide=50)`, which sees pixels only. Printed is the balanced accuracy on the other
scanner without and with the correction, on tiles that are no controls, and how far apart the mixtures of true
classes are among the controls of the two scanners (total variation, 0 = the same).
"""

from __future__ import annotations

import argparse
import json
import tempfile
from pathlib import Path
from typing import Any

import numpy as np

from napari_batchfx import Study, samples
from napari_batchfx.adapt import METHODS, REGISTRY
from napari_batchfx.errors import BatchfxError
from napari_batchfx.jobs import run
from napari_batchfx.study.truth import truth_annotations

SCANNERS = ("aperio_cs2", "nanozoomer_s210")
TILE_PX, MPP, SIZE_UM = 64, 0.5, 1500.0


def mixture(study: Study, scanner: str) -> dict[str, float]:
    """Shares of the true classes among the controls of a scanner."""
    table = study.table()
    rows = table.obs[(table.obs["scanner"] == scanner) & table.obs["control"]]
    counts = rows["label"].astype(object).fillna("unclear").value_counts(normalize=True)
    return {str(key): float(value) for key, value in counts.items()}


def one(seed: int, folder: Path) -> list[dict[str, Any]]:
    slides = run(samples.demo_pair(folder / "a", seed=seed, size_um=SIZE_UM, scanners=SCANNERS))
    other = run(samples.demo_pair(folder / "b", seed=seed + 100, size_um=SIZE_UM, scanners=SCANNERS))
    used = [slides[0], other[1]]  # different tissue on each scanner: no rescans
    out = []
    with Study.create() as study:
        study.settings.encode.size_px, study.settings.encode.mpp = TILE_PX, MPP
        for number, slide in enumerate(used):
            study.add_slide(slide.path, name=f"S{number}", scanner=slide.scanner, patient=f"P{number}")
        run(study.encode_job())
        for entry, slide in zip(study.slides, used, strict=True):
            study.annotations += truth_annotations(study, entry, slide)
        drawn = list(study.annotations)
        for kind in ("drawn", "suggested"):
            study.annotations, study.controls = drawn, []
            if kind == "suggested":
                study.annotations = [a for a in drawn if not a.is_control]
                found = study.suggest_controls(per_slide=50)
                study.put_controls(found.tiles)
            shares = [mixture(study, slide.scanner) for slide in used]
            names = set(shares[0]) | set(shares[1])
            apart = 0.5 * sum(abs(shares[0].get(n, 0) - shares[1].get(n, 0)) for n in names)
            for method in METHODS:
                if REGISTRY[method].needs != "controls":
                    continue
                study.settings.adapt.method = method
                study.settings.adapt.train_on = [used[0].scanner]
                row = {"seed": seed, "controls": kind, "method": method, "mixture_apart": apart}
                try:
                    numbers = run(study.adapt_job()).numbers
                except BatchfxError as error:
                    out.append({**row, "refused": str(error)})
                    continue
                c, d = numbers["comparison"], numbers["diagnostics"]
                row |= {
                    "before": c["balanced_accuracy_before"]["value"],
                    "after": c["balanced_accuracy_after"]["value"],
                    "judged_on": c["n_truth"],
                    "n": sum(d["n"].values()),
                    "verdict": d["verdict"],
                    "direction": d["direction"],
                    "reach": d["reach"],
                }
                out.append(row)
                print(
                    f"{seed}  {kind:<9} ({row['n']} tiles, classes apart {apart:.2f})  {method:<18} "
                    f"{row['before']:.3f} -> {row['after']:.3f}  {row['verdict']}, reach {row['reach']:.1f}",
                    flush=True,
                )
    return out


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seeds", type=int, default=2)
    parser.add_argument("--json", type=Path)
    chosen = parser.parse_args()
    rows: list[dict[str, Any]] = []
    for seed in range(chosen.seeds):
        with tempfile.TemporaryDirectory() as folder:
            rows += one(seed, Path(folder))
    for kind in ("drawn", "suggested"):
        for method in METHODS:
            mine = [r for r in rows if r["controls"] == kind and r["method"] == method and "after" in r]
            if mine:
                before, after = (np.array([r[key] for r in mine]) for key in ("before", "after"))
                print(f"{kind:<9} {method:<18} {before.mean():.3f} -> {after.mean():.3f} ({len(mine)} runs)")
    if chosen.json:
        chosen.json.write_text(json.dumps(rows, indent=1))


if __name__ == "__main__":
    main()
