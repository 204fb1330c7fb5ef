"""The mitoses on frozen features: one scanner left out, every method."""

from __future__ import annotations

from collections.abc import Generator
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from napari_batchfx.benchmark.encoding import mini_features, normalised
from napari_batchfx.benchmark.mitoses_data import Mitoses, Split
from napari_batchfx.benchmark.mitoses_network import middle, shifted_batches
from napari_batchfx.benchmark.on_features import FEATURE_METHODS, Fitted, as_table, reduce
from napari_batchfx.encoders.built_in import mini_version
from napari_batchfx.jobs import Progress, Ticker

__all__ = ["STAINS", "mitoses_features", "run_features"]

STAINS = ("raw", "macenko", "reinhard")


def mitoses_features(data: Mitoses, cache: Path) -> Generator[Progress, None, dict[str, NDArray[np.float32]]]:
    """Features of the middle 64 px of each tile, raw and with their stain normalised; kept in ``cache``."""
    file = cache / f"mitoses-mini-{mini_version()}.npz"
    if file.is_file():
        with np.load(file, allow_pickle=False) as kept:
            return {name: kept[name] for name in STAINS}
    ticker = Ticker(len(STAINS), "encoding the mitoses", unit="stains")
    encode = mini_features()
    found = {}
    for stain in STAINS:
        tiles = data.tiles if stain == "raw" else normalised(data.tiles, data.slide, stain)
        found[stain] = encode(middle(tiles))
        yield ticker.tick()
    cache.mkdir(parents=True, exist_ok=True)
    np.savez(file, **found)  # type: ignore[arg-type]
    return found


def run_features(
    data: Mitoses, at: Split, features: dict[str, NDArray[np.float32]]
) -> Generator[Progress, None, dict[str, dict[str, Any]]]:
    """One seed, one scanner left out; as :func:`~.mitoses_network.run_network` returns it."""
    ticker = Ticker(len(FEATURE_METHODS) + 2, "mitoses on features", unit="methods")
    results = {}
    for stain, methods in (("raw", FEATURE_METHODS), ("macenko", ("erm",)), ("reinhard", ("erm",))):
        train = np.flatnonzero(at.train)
        near = reduce(features[stain][train])
        x = near(features[stain])
        normal = data.label == "normal"
        fitted = Fitted(
            as_table(x[train], data.label[train], data.scanner[train], normal[train], data.patient[train]),
            at.seed,
            methods,
        )
        for method in methods:
            name = method if stain == "raw" else f"{stain}, erm"
            results[name] = _test(data, at, x, fitted, method)
            yield ticker.tick()
    return results


def _test(data: Mitoses, at: Split, x: NDArray[np.float32], fitted: Fitted, method: str) -> dict[str, Any]:
    y = (data.label == "atypical").astype(np.intp)
    natural: list[list[Any]] = []
    shifted: list[list[Any]] = []
    for where, test, controls in at.domains:
        natural += _rows(data, x, fitted, method, test, controls, where)
        for batch in shifted_batches(y, test, at.seed) if where == "out" else ():
            shifted += _rows(data, x, fitted, method, batch, controls, where)
    return {"natural": natural, "shifted": shifted}


def _rows(
    data: Mitoses,
    x: NDArray[np.float32],
    fitted: Fitted,
    method: str,
    test: NDArray[np.intp],
    controls: NDArray[np.intp],
    where: str,
) -> list[list[Any]]:
    rows = np.concatenate([test, controls])
    mask = np.arange(len(rows)) >= len(test)
    table = as_table(x[rows], data.label[rows], data.scanner[rows], mask, data.patient[rows])
    proba = fitted.predict(table, method, 128)[: len(test)]
    # classes are in the order of their names: atypical, normal
    return [[where, int(r), round(float(p), 5)] for r, p in zip(test, proba[:, 0], strict=True)]
