"""The Ki-67 field on two scanners: trained on one, tested on the other, elsewhere in the field."""

from __future__ import annotations

from collections.abc import Generator
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from napari_batchfx.benchmark.encoding import mini_features
from napari_batchfx.benchmark.on_features import CORRECTIONS, Fitted, as_table, reduce
from napari_batchfx.errors import SampleError
from napari_batchfx.jobs import Progress, Ticker
from napari_batchfx.probe.folds import spatial_regions

__all__ = ["PAIR_METHODS", "Pair", "load_pair", "run_pair"]

PAIR_METHODS = ("erm", *CORRECTIONS, "mlp", "adabn", "armbn", "csarmbn")
SCANNERS = ("ndpi", "vsi")
_SIDE = 112
_BLOCKS = 4


class Pair:
    """Features of both scanners (2, n, d), class (n,) and quarter of the field (n,)."""

    def __init__(self, x: NDArray[np.float32], label: NDArray[Any], block: NDArray[np.intp]) -> None:
        self.x, self.label, self.block = x, label, block


def load_pair(data: Path) -> Pair:
    """Read and encode the matched tiles of three classes (Ki-67 low, mid, high).

    Raises
    ------
    SampleError
        If the folder isn't there.
    """
    import pandas as pd
    from PIL import Image

    from napari_batchfx.slides import open_slide

    folder = data / "scanners" / "ki67-two-scanners"
    if not (folder / "pair_tiles.csv").is_file():
        raise SampleError(f"{folder.name}: no such data; say with --data where the folder of real tiles is.")
    table = pd.read_csv(folder / "pair_tiles.csv")
    table = table[table["ki67_class"].isin(["low", "mid", "high"])].reset_index(drop=True)
    encode = mini_features()
    x = []
    for scanner in SCANNERS:
        tiles = []
        with open_slide(folder / f"OS-2-{scanner}.ome.tif") as slide:
            columns = [f"{scanner}_{c}" for c in ("y", "x", "size")]
            for top, left, size in table[columns].itertuples(index=False):
                image = Image.fromarray(slide.read(0, int(top), int(left), int(size), int(size)))
                tiles.append(np.asarray(image.resize((_SIDE, _SIDE), Image.Resampling.BICUBIC)))
        x.append(encode(np.stack(tiles)))
    place = table[["ndpi_y", "ndpi_x"]].to_numpy(float)
    return Pair(np.stack(x), table["ki67_class"].to_numpy(object), spatial_regions(place, _BLOCKS))


def run_pair(pair: Pair, seed: int, direction: int) -> Generator[Progress, None, dict[str, Any]]:
    """Train on one scanner, test on both, in turn on each quarter of the field.

    Controls are the training tiles' places on both scanners (aligned rescans), without their classes.

    Returns
    -------
    dict
        For each method {"natural": [[where, tile, right, block], ...]}.
    """
    ticker = Ticker(_BLOCKS, "Ki-67 on two scanners", unit="quarters")
    source, target = (0, 1) if direction == 0 else (1, 0)
    results: dict[str, Any] = {m: {"natural": []} for m in PAIR_METHODS}
    for block in range(_BLOCKS):
        train, test = np.flatnonzero(pair.block != block), np.flatnonzero(pair.block == block)
        near = reduce(pair.x[source][train], 32)
        x = [near(part) for part in pair.x]
        everything = np.concatenate([train, train])
        # tiles to learn from, and the same places again as controls without a class
        label = np.concatenate([pair.label[train], np.full(len(train), "", object)])
        control = np.repeat([False, True], len(train))
        fitted = Fitted(
            as_table(
                x[source][everything], label, SCANNERS[source], control, everything.astype(str).astype(object)
            ),
            seed,
            PAIR_METHODS,
        )
        for where, s in (("in", source), ("out", target)):
            rows = np.concatenate([test, train])
            mask = np.arange(len(rows)) >= len(test)
            table = as_table(x[s][rows], pair.label[rows], SCANNERS[s], mask, rows.astype(str).astype(object))
            for method in PAIR_METHODS:
                proba = fitted.predict(table, method)[: len(test)]
                names = np.array(["high", "low", "mid"], dtype=object)
                right = names[proba.argmax(axis=1)] == pair.label[test]
                results[method]["natural"] += [
                    [where, int(i), int(r), int(block)] for i, r in zip(test, right, strict=True)
                ]
        yield ticker.tick()
    return results
