"""The biology beside a mixing metric: features that are all alike mix perfectly."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from napari_batchfx.probe.columns import has_values
from napari_batchfx.probe.metrics.class_retention import class_retention
from napari_batchfx.probe.metrics.result import MetricResult
from napari_batchfx.probe.metrics.tiles import Group

if TYPE_CHECKING:
    from anndata import AnnData

__all__ = ["retention_beside"]

_LOW = 0.05


def retention_beside(
    table: AnnData, label: str | None, group: Group, n_bootstrap: int = 0
) -> tuple[MetricResult | None, list[str]]:
    """Class retention where the table has classes, and what to mind about it."""
    if label is None or not has_values(table, label):
        return None, [
            "No class is given, so what mixing costs in biology can't be shown: features that are all alike "
            "mix perfectly."
        ]
    if isinstance(group, str) and not has_values(table, group):
        group = None
    codes: str | NDArray[np.intp] = np.arange(table.n_obs)
    if group is not None:
        codes = group if isinstance(group, str) else np.asarray(group, dtype=np.intp)
    found = class_retention(table, label, codes, n_bootstrap=n_bootstrap)
    chance = found.support.get("chance")
    if chance is not None and found.value < chance + _LOW:
        return found, [
            f"Classes are hardly told apart by their neighbours ({found.value:.2f}, chance {chance:.2f}): "
            "good mixing says nothing then."
        ]
    return found, []
