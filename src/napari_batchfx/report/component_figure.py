"""The figure of the principal components that carry the origin of tiles."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from napari_batchfx.report.sections import ComponentsSection

if TYPE_CHECKING:
    from matplotlib.figure import Figure

__all__ = ["component_figure"]

_INK, _SOFT = "#1d2429", "#5c666d"
_MOST_PAIRS, _MOST = 6, 20


def component_figure(found: ComponentsSection) -> Figure:
    """Draw how well each component alone tells batches apart, above the share of the variance it holds.

    Parameters
    ----------
    found : ComponentsSection
        The first 20 components; with more than six pairs of batches the six that are told apart best.

    Returns
    -------
    matplotlib.figure.Figure
    """
    from matplotlib.figure import Figure

    figure = Figure(figsize=(5.2, 4.0), dpi=144, layout="constrained", facecolor="white")
    upper, lower = figure.subplots(2, 1, sharex=True, height_ratios=(3, 2))
    variance = np.asarray(found.explained_variance, dtype=float)[:_MOST]
    n = len(variance)
    x = np.arange(1, n + 1)
    pairs = sorted(found.auroc.items(), key=lambda item: -max(item[1], default=0.0))[:_MOST_PAIRS]
    colours = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9")
    for colour, (name, values) in zip(colours, pairs, strict=False):
        label = name.replace("$", r"\$")
        upper.plot(x, values[:n], color=colour, marker="o", markersize=4, linewidth=1.4, label=label)
    level = np.asarray(found.level, dtype=float)[:n]
    if len(level) == n and np.isfinite(level).any():
        upper.plot(x, level, color=_SOFT, linestyle="--", linewidth=1.1, label="slides relabelled")
    upper.set_ylim(0.48, 1.02)
    upper.set_ylabel("AUROC", fontsize=9, color=_INK)
    upper.legend(
        frameon=False, fontsize=8, labelcolor=_INK, loc="lower left", bbox_to_anchor=(0.0, 1.0), ncols=2
    )
    lower.bar(x, 100 * variance, color="#9aa5ad", width=0.7)
    lower.set_ylabel("variance, %", fontsize=9, color=_INK)
    lower.set_xlabel("principal component", fontsize=9, color=_INK)
    lower.set_xticks(x if n <= 10 else [1, *range(5, n + 1, 5)])
    for axes in (upper, lower):
        axes.tick_params(labelsize=8.5, colors=_INK, length=3)
        for side in ("top", "right"):
            axes.spines[side].set_visible(False)
    return figure
