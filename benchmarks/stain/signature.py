"""What normalisation does to the signature of Camelyon17's two slides: the table of docs/methods/stain.md.

    python benchmarks/stain/signature.py DATA [--encoder batchfx-mini]

DATA is the folder of test data. Only lymphoid tiles (256 px at about 0.25 um, labelled by eye) are probed, so
that tissue can't tell the slides apart; whole fields are held out. Each slide's stain is estimated once, over
its four fields. Beside it: how well lymphoid and tumour tiles are told apart, what normalisation must not cost.
"""

from __future__ import annotations

import argparse
import csv
from pathlib import Path

import anndata
import numpy as np
import pandas as pd
from skimage.io import imread

from napari_batchfx.encoders import load
from napari_batchfx.probe import site_probe
from napari_batchfx.stain import estimate, methods, rgb_to_lab


def read(data: Path) -> tuple[np.ndarray, pd.DataFrame, dict[str, np.ndarray]]:
    """Tiles, what is known of them, and all fields of each slide."""
    fields = {
        path.relative_to(data).as_posix(): np.ascontiguousarray(imread(path)[..., :3])
        for path in sorted((data / "tiles/camelyon17").glob("*/*.jpg"))
    }
    with (data / "tiles/camelyon17/tiles.csv").open(newline="") as file:
        rows = [row for row in csv.DictReader(file) if row["label"] in ("lymphoid", "tumour")]
    tiles = []
    for row in rows:
        x, y, size = (int(row[name]) for name in ("x", "y", "size"))
        tiles.append(fields[row["file"]][y : y + size, x : x + size])
    obs = pd.DataFrame({"slide": [r["slide"] for r in rows], "label": [r["label"] for r in rows]})
    obs["field"] = [r["file"] for r in rows]
    obs["patient"] = obs["field"]  # what is held out together
    obs.index = obs.index.astype(str)
    slides: dict[str, list[np.ndarray]] = {}
    for name, image in fields.items():
        slides.setdefault(name.split("/")[-2].split("_node")[0], []).append(image)
    return np.stack(tiles), obs, {name: np.stack(found) for name, found in slides.items()}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("data", type=Path)
    parser.add_argument("--encoder", default="batchfx-mini")
    options = parser.parse_args()
    tiles, obs, slides = read(options.data)
    encoders = [load("colour-statistics", device="cpu"), load(options.encoder, device="cpu")]
    print(f"{len(obs)} tiles: {obs.groupby(['slide', 'label']).size().to_dict()}")
    print(
        "| stain | slide, mean colour | slide, colour statistics | slide, encoder | lymphoid or tumour, encoder |"
    )
    print("|---|---|---|---|---|")
    for one in (None, *methods()):
        if one is None:
            stained, name = tiles, "as scanned"
        else:
            name, stained = one.label, tiles.copy()
            normalizer = one.normalizer()
            found = {slide: estimate(fields[:, ::3, ::3], one.id) for slide, fields in slides.items()}
            if one.several_targets:
                from napari_batchfx.stain import average

                normalizer = type(normalizer)(average(list(found.values())))
            for slide, source in found.items():
                rows = (obs["slide"] == slide).to_numpy()
                stained[rows] = normalizer.from_source(source).transform(tiles[rows])
        cells = []
        mean_colour = np.stack([rgb_to_lab(tile).mean(axis=(0, 1)) for tile in stained[:, ::4, ::4]])
        for vectors in (mean_colour, *(encoder.embed(stained) for encoder in encoders)):
            table = anndata.AnnData(np.asarray(vectors, np.float32), obs=obs.copy())
            lymphoid = table[(table.obs["label"] == "lymphoid").to_numpy()].copy()
            cells.append(said(site_probe(lymphoid, "slide", "patient", permutations=0)))
        cells.append(said(site_probe(table, "label", "patient", permutations=0)))
        print(f"| {name} | " + " | ".join(cells) + " |", flush=True)


def said(result: object) -> str:
    low, high = result.ci
    return f"{result.balanced_accuracy:.2f} ({low:.2f}-{high:.2f})"


if __name__ == "__main__":
    main()
