"""Encoders that need no network x stain normalisation: scanner's signature, robustness and class, in one table.

    python benchmarks/probe/encoder_table.py [--data ../shared/data] [--encoders ...] [--write docs/results.md]

1,094 breast tiles of 129 patients on three scanners (mitoses-three-scanners). Stain is estimated once a patient, from
all of the patient's tiles, and brought to the built-in reference; scanner and class are told with patients held out;
neighbours of the own patient don't count. With --write the table goes between the marks "encoder table" of a page.
Vectors are kept in a temporary folder (--cache) by the encoder's key and the tiles' content: a second run, or one after
another encoder was trained anew, computes only what is new.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import sys
import tempfile
import time
from pathlib import Path

import anndata
import numpy as np
import pandas as pd

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT))

from benchmarks.encoders.labelled import Labelled, mitoses  # noqa: E402

from napari_batchfx import encoders, stain  # noqa: E402
from napari_batchfx.probe import metrics, site_probe  # noqa: E402

SIX = "six numbers"  # mean and deviation of red, green and blue
OFFLINE = (SIX, "colour-statistics", "batchfx-mini", "mobilenetv4_conv_small?pretrained=false")
NORMALISERS = {"raw": None, "Reinhard": stain.ReinhardNormalizer, "Macenko": stain.MacenkoNormalizer}
K = 11
BEGIN, END = "<!-- encoder table: begin -->", "<!-- encoder table: end -->"


def normalised(tiles: Labelled, method: str) -> tuple[np.ndarray, int]:
    """Tiles (n, h, w, 3) brought to the built-in reference, and how many patients could not be."""
    maker = NORMALISERS[method]
    if maker is None:
        return tiles.tiles, 0
    normaliser, out, refused = maker(), tiles.tiles.copy(), 0
    for patient in np.unique(tiles.group):
        mine = tiles.group == patient
        try:
            source = stain.estimate(tiles.tiles[mine], normaliser.method)
        except stain.StainError:
            refused += 1
            continue
        out[mine] = normaliser.from_source(source).transform(tiles.tiles[mine])
    return out, refused


def vectors(encoder: encoders.Encoder | SixNumbers, tiles: np.ndarray, cache: Path) -> np.ndarray:
    """Features (n, d), from the cache where they are there."""
    key = hashlib.sha256(encoder.key.encode())
    key.update(np.ascontiguousarray(tiles).data)
    kept = cache / f"{key.hexdigest()[:24]}.npy"
    if kept.is_file():
        return np.load(kept)
    x = np.asarray(encoder.embed(tiles), dtype=np.float32)
    part = kept.with_suffix(f".{os.getpid()}.part")
    with part.open("wb") as file:
        np.save(file, x)
    part.replace(kept)
    return x


class SixNumbers:
    """Mean and standard deviation of red, green and blue: what a scanner's colour is at its simplest."""

    key = SIX

    def embed(self, tiles: np.ndarray) -> np.ndarray:
        pixels = tiles.reshape(len(tiles), -1, 3)
        return np.hstack([pixels.mean(axis=1), pixels.std(axis=1)])


def measure(x: np.ndarray, tiles: Labelled, permutations: int) -> dict[str, dict]:
    """Every number of a row: value and 95 % interval."""
    obs = pd.DataFrame(
        {"scanner": tiles.domain, "patient": tiles.group, "slide": tiles.group, "label": tiles.label}
    )
    obs.index = obs.index.astype(str)
    table = anndata.AnnData(x, obs=obs)
    scanner = site_probe(table, "scanner", "patient", permutations=permutations)
    label = site_probe(table, "label", "patient", permutations=0)
    index = metrics.robustness_index(table, "label", "scanner", "patient", k=K)
    margin = metrics.croma(table, "label", "scanner", "patient")
    vote = metrics.class_retention(table, "label", "patient", k=5)

    def probed(found) -> dict:
        low, high = map(float, found.ci)
        return {
            "value": found.balanced_accuracy,
            "low": low,
            "high": high,
            "p": found.permutation_p,
            "finding": found.finding,
            "warnings": found.warnings,
        }

    def measured(found) -> dict:
        low, high = found.interval
        return {"value": found.value, "low": low, "high": high, "warnings": found.warnings}

    return {
        "probe": {**probed(scanner), "inside": scanner.by_class, "ece": scanner.ece},
        "RI": {**measured(index), "telling": index.support["telling"]},
        "CRoMa": {**measured(margin), "fragile": margin.support["fragile"]},
        "class": probed(label),
        "vote": measured(vote),
    }


def cell(one: dict) -> str:
    return f"{one['value']:.3f} ({one['low']:.3f} to {one['high']:.3f})"


def markdown(rows: list[dict]) -> str:
    """The table for the page."""
    lines = [
        f"| encoder | stain | scanner, probe | RI, k = {K} | CRoMa | class, probe | class, vote of 5 |",
        "|---|---|---|---|---|---|---|",
    ]
    for row in rows:
        found = row["found"]
        numbers = " | ".join(cell(found[name]) for name in ("probe", "RI", "CRoMa", "class", "vote"))
        lines.append(f"| {row['encoder']} | {row['stain']} | {numbers} |")
    return "\n".join(lines)


def write(page: Path, table: str) -> None:
    text = page.read_text(encoding="utf-8")
    if text.count(BEGIN) != 1 or text.count(END) != 1:
        sys.exit(f"{page}: needs the marks {BEGIN} and {END}, once each.")
    before, rest = text.split(BEGIN)
    after = rest.split(END)[1]
    page.write_text(f"{before}{BEGIN}\n{table}\n{END}{after}", encoding="utf-8")


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    data = os.environ.get("BATCHFX_TEST_DATA") or ROOT.parent / "shared" / "data"
    parser.add_argument("--data", type=Path, default=Path(data))
    parser.add_argument("--encoders", nargs="+", default=OFFLINE)
    parser.add_argument("--cache", type=Path, default=Path(tempfile.gettempdir()) / "batchfx-encoder-table")
    parser.add_argument("--stains", nargs="+", default=list(NORMALISERS), choices=list(NORMALISERS))
    parser.add_argument("--permutations", type=int, default=19)
    parser.add_argument("--json", type=Path, help="write every number, warnings too")
    parser.add_argument("--write", type=Path, help="put the table into this page")
    chosen = parser.parse_args()
    chosen.cache.mkdir(parents=True, exist_ok=True)
    tiles = mitoses(chosen.data)
    looks = {method: normalised(tiles, method) for method in chosen.stains}
    for method, (_, refused) in looks.items():
        if refused:
            print(
                f"{method}: the stain of {refused} patients can't be estimated; their tiles stay as they are"
            )
    rows = []
    for name in chosen.encoders:
        encoder = SixNumbers() if name == SIX else encoders.load(name)
        for method, (images, _) in looks.items():
            start = time.perf_counter()
            x = vectors(encoder, images, chosen.cache)
            encoded = time.perf_counter() - start
            found = measure(x, tiles, chosen.permutations)
            rows.append(
                {"encoder": name.partition("?")[0], "stain": method, "key": encoder.key, "found": found}
            )
            if "pretrained=false" in name:
                rows[-1]["encoder"] += ", untrained"
            print(
                f"{rows[-1]['encoder']}, {method}: {encoded:.0f} s encoding, "
                f"{time.perf_counter() - start - encoded:.0f} s measuring; "
                + ", ".join(f"{what} {cell(one)}" for what, one in found.items()),
                flush=True,
            )
    table = markdown(rows)
    print(table)
    if chosen.json:
        chosen.json.write_text(json.dumps(rows, indent=1), encoding="utf-8")
    if chosen.write:
        write(chosen.write, table)


if __name__ == "__main__":
    main()
