"""How sure the predictions of an adaptation are, as one value a tile."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from napari_batchfx.study.maps import slides_of

if TYPE_CHECKING:
    from napari_batchfx.study.bench import Bench
    from napari_batchfx.tiles import TileMap

__all__ = ["class_map", "uncertainty", "uncertainty_map"]


def uncertainty(proba: NDArray[np.floating]) -> NDArray[np.float64]:
    """Entropy of each row of class probabilities (n, classes), as a share of the largest there is: 0 to 1.

    NaN where there is no prediction.

    Examples
    --------
    >>> uncertainty(np.array([[1.0, 0.0], [0.5, 0.5], [np.nan, np.nan]])).tolist()
    [0.0, 1.0, nan]
    """
    p = np.asarray(proba, dtype=np.float64)
    with np.errstate(divide="ignore", invalid="ignore"):
        terms = np.where(p > 0, p * np.log(p), np.where(np.isnan(p), np.nan, 0.0))
    return np.asarray(np.abs(terms.sum(axis=1)) / np.log(max(2, p.shape[1])))


def uncertainty_map(study: Bench) -> dict[str, TileMap]:
    """How undecided the classifier of the last adaptation is on each tile, by fingerprint of the slide."""
    outcome = study.results.adapt
    if outcome is None:
        return {}
    return _maps(
        study,
        uncertainty(outcome.after.proba),
        "uncertainty",
        "entropy",
        "How undecided the classifier is: 0 is sure of one class, 1 no idea. It may be sure and wrong.",
    )


def class_map(study: Bench, class_name: str) -> dict[str, TileMap]:
    """Probability of one class after the last adaptation, by fingerprint of the slide."""
    outcome = study.results.adapt
    names = [] if outcome is None else [str(name) for name in outcome.after.classes]
    if outcome is None or class_name not in names:
        return {}
    return _maps(
        study,
        outcome.after.proba[:, names.index(class_name)],
        f"probability of {class_name}",
        "probability",
        f"Probability of {class_name} after the correction, as the classifier says it.",
    )


def _maps(
    study: Bench, values: NDArray[np.float64], name: str, unit: str, description: str
) -> dict[str, TileMap]:
    from napari_batchfx.tiles import TileMap

    outcome = study.results.adapt
    assert outcome is not None
    return {
        fingerprint: TileMap.from_cells(
            grid,
            cells,
            np.asarray(values[rows], dtype=np.float32),
            name=name,
            unit=unit,
            vmin=0.0,
            vmax=1.0,
            colormap="viridis",
            description=description,
        )
        for fingerprint, grid, rows, cells in slides_of(study, outcome.tiles, outcome.computed_from)
    }
