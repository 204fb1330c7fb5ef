"""Parts of a report that stand by themselves: the control samples, and what carries the origin."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from napari_batchfx.report.estimates import Estimate

__all__ = ["ComponentsSection", "ControlsSection"]


@dataclass(frozen=True)
class ControlsSection:
    """Control samples and whether they can carry a correction.

    Parameters
    ----------
    batch : str
        What was corrected for ("scanner").
    verdict : str
        "usable", "weak" or "not usable".
    reasons : sequence of str
        Why, in words.
    counts : mapping of str to (int, int)
        Control tiles and their slides, for each batch.
    measures : sequence of (str, str, str)
        What was measured, its value, and how it is read.
    correction : str
        What they were judged with.
    """

    batch: str
    verdict: str
    reasons: Sequence[str] = ()
    counts: Mapping[str, tuple[int, int]] = field(default_factory=dict)
    measures: Sequence[tuple[str, str, str]] = ()
    correction: str = ""


@dataclass(frozen=True)
class ComponentsSection:
    """Along which principal components of the features the origin lies.

    Parameters
    ----------
    batch : str
        What is recognised ("scanner").
    explained_variance : sequence of float, length r
        Share of the variance of each component.
    auroc : mapping of str to sequence of float
        For each pair of batches ("A / B"), how well each component alone tells them apart, 0.5..1.
    level : sequence of float, length r
        What relabelled slides or groups reach by chance; NaN where it wasn't asked for.
    first : sequence of (int, Estimate)
        Balanced accuracy of the probe on the first so many components.
    chance : float
    tiles : int
        It rests on.
    encoder, stain : str
        Whose features.
    """

    batch: str
    explained_variance: Sequence[float]
    auroc: Mapping[str, Sequence[float]]
    level: Sequence[float] = ()
    first: Sequence[tuple[int, Estimate]] = ()
    chance: float = float("nan")
    tiles: int = 0
    encoder: str = ""
    stain: str = ""
