"""How good is batchfx-mini? The table of docs/methods/batchfx-mini.md, from the weights in the package.

    python benchmarks/encoders/mini_quality.py [--data ../shared/data] [--encoders batchfx-mini colour-statistics random-0]

Classes are told by a linear probe and by nearest neighbours (see protocol.py) on tiles that nothing was trained on or
chosen by: colorectal tissue (repeated stratified cross-validation), lymph nodes of two hospitals (trained on one slide,
tested on the other, both ways), phantoms (other seeds) under the two scanners that training never used. The scanner is
told by the site probe on mitoses, patients held out. ``random-K`` is the same network before training, seed K.
Intervals are 95 % of 1,000 bootstrap draws of what is independent: tiles, cells, phantoms, patients.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
from pathlib import Path

import numpy as np

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT))

from benchmarks.encoders import labelled  # noqa: E402
from benchmarks.encoders.protocol import PROBES, cross_validated  # noqa: E402

from napari_batchfx.samples import SCANNERS, STAIN_BATCHES  # noqa: E402

EVALUATION_SEED = 900_000
SEEN, UNSEEN = ("aperio_cs2", "neutral"), ("nanozoomer_s210", "pannoramic_1000")
REPEATS, DRAWS = 10, 1000


def interval(hits: np.ndarray, y: np.ndarray, unit: np.ndarray, seed: int = 0) -> dict:
    """Balanced accuracy of ``hits`` (n, repeats) with the 95 % of a bootstrap of units; its draws for differences."""
    units, index = np.unique(unit, return_inverse=True)
    k = int(y.max()) + 1
    found, total = np.zeros((len(units), k)), np.zeros((len(units), k))
    np.add.at(found, (index, y), hits.mean(1))
    np.add.at(total, (index, y), 1.0)
    rng = np.random.default_rng(seed)
    pure = (total > 0).sum(1).max() == 1
    draws = []
    for _ in range(DRAWS):
        if pure:  # a unit has one class: drawn within the classes, so that none is missing
            own = [np.flatnonzero(total[:, c] > 0) for c in range(k)]
            some = np.concatenate([rng.choice(rows, len(rows)) for rows in own if len(rows)])
        else:
            some = rng.integers(len(units), size=len(units))
        t = total[some].sum(0)
        draws.append(np.mean(found[some].sum(0)[t > 0] / t[t > 0]))
    t = total.sum(0)
    value = float(np.mean(found.sum(0)[t > 0] / t[t > 0]))
    low, high = np.percentile(draws, [2.5, 97.5])
    return {"value": value, "low": float(low), "high": float(high), "draws": np.array(draws)}


def mean_of(results: list[dict]) -> dict:
    """The mean of independent results, with its interval."""
    draws = np.mean([r["draws"] for r in results], axis=0)
    low, high = np.percentile(draws, [2.5, 97.5])
    value = float(np.mean([r["value"] for r in results]))
    return {"value": value, "low": float(low), "high": float(high), "draws": draws}


def difference(one: dict, other: dict) -> str:
    """One minus the other, with the interval of the same draws."""
    if "draws" not in one:
        return f"{one['value'] - other['value']:+.3f}"
    low, high = np.percentile(one["draws"] - other["draws"], [2.5, 97.5])
    return f"{one['value'] - other['value']:+.3f} ({low:+.3f} to {high:+.3f})"


def crc(x: np.ndarray, tiles: labelled.Labelled, probe, repeats: int = REPEATS) -> dict:
    """Stratified five-fold cross-validation, repeated."""
    y = tiles.y
    hits = [cross_validated(x, y, np.arange(len(y)), probe, seed=seed) == y for seed in range(repeats)]
    return interval(np.stack(hits, 1).astype(float), y, np.arange(len(y)))


def transfer(
    x: np.ndarray, tiles: labelled.Labelled, probe, train: np.ndarray, test: np.ndarray, unit: np.ndarray
) -> dict:
    """Trained on some rows, tested on others."""
    y = tiles.y
    hit = (probe(x[train], y[train], tiles.group[train], x[test]) == y[test]).astype(float)
    return interval(hit[:, None], y[test], unit[test])


def scanner_probe(x: np.ndarray, tiles: labelled.Labelled, permutations: int = 19):
    """The site probe of the package: can the scanner be told from the vectors of other patients' tiles?"""
    import anndata
    import pandas as pd

    from napari_batchfx.probe import site_probe

    obs = pd.DataFrame({"scanner": tiles.domain, "patient": tiles.group, "slide": tiles.group})
    obs.index = obs.index.astype(str)
    return site_probe(
        anndata.AnnData(x.astype(np.float32), obs=obs), "scanner", "patient", permutations=permutations
    )


def phantom_tiles() -> labelled.Labelled:
    """Phantoms of the evaluation under all four scanners."""
    return labelled.phantom(dict(SCANNERS), dict(STAIN_BATCHES), EVALUATION_SEED, n_phantoms=16, per_class=2)


def measure(embed, sets: dict[str, labelled.Labelled], repeats: int = REPEATS) -> dict[str, dict]:
    """Every number of the table for one encoder."""
    out: dict[str, dict] = {}
    vectors = {name: embed(tiles.tiles) for name, tiles in sets.items()}
    for kind, probe in PROBES.items():
        if "colorectal" in sets:
            out[f"colorectal, 7 classes: {kind}"] = crc(
                vectors["colorectal"], sets["colorectal"], probe, repeats
            )
        if "lymph nodes" in sets:
            tiles = sets["lymph nodes"]
            both = []
            for slide in np.unique(tiles.domain):
                name = f"lymph nodes, lymphoid or not, tested on {slide}: {kind}"
                rows = tiles.domain != slide
                out[name] = transfer(vectors["lymph nodes"], tiles, probe, rows, ~rows, np.arange(len(rows)))
                both.append(out[name])
            out[f"lymph nodes, mean of both: {kind}"] = mean_of(both)
        if "phantom" in sets:
            tiles = sets["phantom"]
            early = np.isin(tiles.group, np.unique(tiles.group)[::2])
            train = early & np.isin(tiles.domain, SEEN)
            test = ~early & np.isin(tiles.domain, UNSEEN)
            out[f"phantom, 5 classes, unseen scanners: {kind}"] = transfer(
                vectors["phantom"], tiles, probe, train, test, tiles.group
            )
    if "mitoses" in sets:
        found = scanner_probe(vectors["mitoses"], sets["mitoses"])
        out["scanner of mitoses: site probe"] = {
            "value": found.balanced_accuracy,
            "low": found.ci[0],
            "high": found.ci[1],
        }
    return out


def load_encoder(name: str, threads: int = 2):
    """An encoder by name; ``random-K`` is batchfx-mini before training."""
    from napari_batchfx.encoders import load

    if name.startswith("random-"):
        return load("batchfx-mini", pretrained=False, seed=int(name.partition("-")[2]), threads=threads)
    return load(name, threads=threads)


def in_batches(encoder, size: int = 64):
    """``embed`` of many tiles, a batch at a time."""
    return lambda tiles: np.concatenate(
        [encoder.embed(tiles[i : i + size]) for i in range(0, len(tiles), size)]
    )


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "--data",
        type=Path,
        default=Path(os.environ.get("BATCHFX_TEST_DATA", ROOT.parent / "shared" / "data")),
    )
    parser.add_argument(
        "--encoders",
        nargs="+",
        default=["batchfx-mini", "colour-statistics", "random-0", "random-1", "random-2"],
    )
    parser.add_argument("--json", type=Path, help="write the numbers there too")
    options = parser.parse_args()
    sets = {
        "colorectal": labelled.colorectal(options.data),
        "lymph nodes": labelled.lymph_nodes(options.data),
        "phantom": phantom_tiles(),
        "mitoses": labelled.mitoses(options.data),
    }
    print({name: (len(tiles.tiles), sorted(set(tiles.label))) for name, tiles in sets.items()})
    results = {}
    for name in options.encoders:
        with load_encoder(name) as encoder:
            results[name] = measure(in_batches(encoder), sets)
        print(f"measured {name}", flush=True)
    print("\n| | " + " | ".join(results) + " |\n|---|" + "---|" * len(results))
    first = next(iter(results.values()))
    for row in first:
        cells = []
        for name in results:
            r = results[name][row]
            cells.append(f"{r['value']:.3f} ({r['low']:.3f}–{r['high']:.3f})")
        print(f"| {row} | " + " | ".join(cells) + " |")
    mini, *others = results
    print(
        f"\n{mini} minus each of the others\n\n| | " + " | ".join(others) + " |\n|---|" + "---|" * len(others)
    )
    for row in first:
        print(
            f"| {row} | " + " | ".join(difference(results[mini][row], results[o][row]) for o in others) + " |"
        )
    if options.json:
        plain = {
            n: {k: {a: b for a, b in v.items() if a != "draws"} for k, v in r.items()}
            for n, r in results.items()
        }
        options.json.write_text(json.dumps(plain, indent=1), encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
