"""Parts of a report that stand by themselves: the control samples, and what carries the origin."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from napari_batchfx.report.estimates import Estimate

__all__ = ["AfterSection", "ComponentsSection", "ControlsSection", "RobustnessSection"]


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
    is_current : bool
        Whether slides and regions are still what they were.
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
    is_current: bool = True


@dataclass(frozen=True)
class RobustnessSection:
    """Robustness metrics of the features of a probe, biology first.

    Parameters
    ----------
    batch : str
    rows : sequence of (str, Estimate, str, str)
        Name, value, what the ends of its scale mean, and what it says, or why there is no value.
    warnings : sequence of str
        What could mislead.
    encoder, stain : str
        Whose features.
    is_current : bool
        Whether slides and regions are still what they were.
    """

    batch: str
    rows: Sequence[tuple[str, Estimate, str, str]]
    warnings: Sequence[str] = ()
    encoder: str = ""
    stain: str = ""
    is_current: bool = True


@dataclass(frozen=True)
class AfterSection:
    """A probe beside the same probe on other features of the same tiles.

    Parameters
    ----------
    batch : str
    after : str
        What was done to tiles or features, in words.
    sentence : str
        What came out.
    rows : sequence of (str, Estimate or None, Estimate or None, Estimate or None, float or None, str)
        Measure, before, after, change, what guessing gets, and why there is no number.
    warnings : sequence of str
        What could mislead.
    encoder, stain : str
        Whose features, before.
    is_current : bool
        Whether slides, regions and control samples are still what they were.
    """

    batch: str
    after: str
    sentence: str
    rows: Sequence[tuple[str, Estimate | None, Estimate | None, Estimate | None, float | None, str]]
    warnings: Sequence[str] = ()
    encoder: str = ""
    stain: str = ""
    is_current: bool = True
