"""What a report says, as plain values: the study fills it, :func:`write_report` lays it out."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol, runtime_checkable

import numpy as np
import numpy.typing as npt

from napari_batchfx.report.estimates import Estimate
from napari_batchfx.report.sections import (
    AfterSection,
    ComponentsSection,
    ControlsSection,
    RobustnessSection,
)
from napari_batchfx.tiles import TileMap

__all__ = [
    "AdaptationRow",
    "DesignTable",
    "Estimate",
    "Overlay",
    "ProbeLike",
    "ProbeSection",
    "ReportData",
    "SlideRow",
    "StainRow",
]


@dataclass(frozen=True)
class SlideRow:
    """One slide of the study. ``patient`` and ``file`` appear only in a report with identifiers.

    Parameters
    ----------
    name, site, scanner, stain : str
        Empty where not known.
    mpp : float, (float, float) or None
        Micrometres a pixel, (y, x).
    tiles : int
        Tiles that were encoded.
    patient, file : str
        Identifiers.
    note : str
        For example where the pixel size comes from.
    """

    name: str
    site: str = ""
    scanner: str = ""
    stain: str = ""
    mpp: float | tuple[float, float] | None = None
    tiles: int = 0
    patient: str = ""
    file: str = ""
    note: str = ""


@dataclass(frozen=True)
class DesignTable:
    """How many tiles of each class come from each batch.

    Parameters
    ----------
    classes, batches : sequence of str
        Rows and columns.
    counts : int (classes, batches)
        Tiles.
    batch : str
        What the columns are ("site", "scanner").
    cramers_v : float, optional
        0: class and batch are independent; 1: one tells the other.
    note : str
        What follows from it.
    """

    classes: Sequence[str]
    batches: Sequence[str]
    counts: npt.NDArray[np.integer[Any]]
    batch: str = "site"
    cramers_v: float | None = None
    note: str = ""


@runtime_checkable
class ProbeLike(Protocol):
    """What the report reads of a :class:`napari_batchfx.probe.SiteProbeResult`."""

    @property
    def verdict(self) -> str: ...  # noqa: D102
    @property
    def balanced_accuracy(self) -> float: ...  # noqa: D102
    @property
    def ci(self) -> Any: ...  # noqa: D102
    @property
    def chance(self) -> float: ...  # noqa: D102
    @property
    def permutation_p(self) -> float: ...  # noqa: D102
    @property
    def confusion(self) -> Any: ...  # noqa: D102
    @property
    def batches(self) -> Sequence[str]: ...  # noqa: D102
    @property
    def warnings(self) -> Sequence[str]: ...  # noqa: D102
    @property
    def support(self) -> Mapping[str, Any]: ...  # noqa: D102


@dataclass(frozen=True)
class ProbeSection:
    """A site probe and what it was asked.

    Parameters
    ----------
    result : SiteProbeResult
        Or anything with the same attributes.
    batch : str
        What was to be recognised ("scanner").
    encoder : str
        Whose features.
    stain : str
        Stain variant of the features ("as scanned", "Macenko").
    tiles : str
        Size of the tiles ("224 px at 0.5 µm").
    is_current : bool
        Whether slides and regions are still what they were.
    """

    result: ProbeLike
    batch: str = "site"
    encoder: str = ""
    stain: str = "as scanned"
    tiles: str = ""
    is_current: bool = True


@dataclass(frozen=True)
class Overlay:
    """A slide's thumbnail and values over it.

    Parameters
    ----------
    slide : str
        Name as in :class:`SlideRow`.
    thumbnail : uint8 (h, w, 3)
        The whole slide; kept under about 1,000 px a side.
    thumbnail_um : (float, float)
        Micrometres a thumbnail pixel, (y, x).
    tiles : TileMap
        Values, their range, chance level and description.
    categories : sequence of str
        Where the values are class numbers 0, 1, ...: the names of the classes.
    scale_bar_um : float, optional
        Length of the scale bar; a round number is chosen by default.
    """

    slide: str
    thumbnail: npt.NDArray[np.uint8]
    thumbnail_um: tuple[float, float]
    tiles: TileMap
    categories: Sequence[str] = ()
    scale_bar_um: float | None = None


@dataclass(frozen=True)
class StainRow:
    """The stain of one slide and what normalisation makes of it.

    Parameters
    ----------
    slide : str
        Name as in :class:`SlideRow`.
    matrix : float (2, 3), optional
        Rows haematoxylin and eosin, in optical density.
    max_concentration : float (2,), optional
        Intensity of each.
    before, after : uint8 (h, w, 3), optional
        Thumbnails.
    method : str
        "Macenko", "Reinhard".
    n_pixels : int
        Tissue pixels.
    warnings : sequence of str
        What could mislead.
    """

    slide: str
    matrix: npt.NDArray[np.float64] | None = None
    max_concentration: npt.NDArray[np.float64] | None = None
    before: npt.NDArray[np.uint8] | None = None
    after: npt.NDArray[np.uint8] | None = None
    method: str = "Macenko"
    n_pixels: int = 0
    warnings: Sequence[str] = ()


@dataclass(frozen=True)
class AdaptationRow:
    """One way of adapting: a line in the table of before and after.

    Parameters
    ----------
    head, correction : str
        The classifier, and what was done to the features ("standardise on controls").
    encoder : str
        Whose features.
    trained_on, applied_to : str
        Sites or slides.
    before, after : Estimate, optional
        Balanced accuracy; ``None`` where there is no truth to compare with.
    chance : float, optional
        Balanced accuracy of guessing.
    n_tiles, n_changed : int
        Tiles predicted, and how many changed class.
    retention_before, retention_after : Estimate, optional
        How well nearest neighbours still tell the classes apart: what the correction costs in biology.
    n_controls : int
        Control tiles.
    controls_verdict : str
        "usable", "weak" or "not usable".
    sentence : str
        The comparison in words.
    warnings : sequence of str
        What could mislead.
    stain, tiles : str
        Stain variant of the features ("as scanned", "Macenko"), and size of the tiles.
    batch : str
        What was corrected for ("scanner").
    difference : Estimate, optional
        Balanced accuracy after minus before, on the same tiles.
    f1_before, f1_after : Estimate, optional
        Macro F1.
    is_current : bool
        Whether slides and regions are still what they were.
    is_chosen : bool
        Whether the report shows the predictions of this row; where no row is chosen, all are told in short.
    signature_after : Estimate, optional
        Balanced accuracy with which the batch is still recognised on control tiles that the correction was
        not fitted on; ``signature_chance`` is what guessing gets there.
    """

    head: str
    correction: str
    encoder: str = ""
    trained_on: str = ""
    applied_to: str = ""
    before: Estimate | None = None
    after: Estimate | None = None
    chance: float | None = None
    n_tiles: int = 0
    n_changed: int = 0
    retention_before: Estimate | None = None
    retention_after: Estimate | None = None
    n_controls: int = 0
    controls_verdict: str = ""
    sentence: str = ""
    warnings: Sequence[str] = ()
    stain: str = ""
    tiles: str = ""
    batch: str = ""
    difference: Estimate | None = None
    f1_before: Estimate | None = None
    f1_after: Estimate | None = None
    is_current: bool = True
    is_chosen: bool = False
    signature_after: Estimate | None = None
    signature_chance: float | None = None


@dataclass(frozen=True)
class ReportData:
    """Everything a report holds. Sections without content are left out.

    Parameters
    ----------
    title : str
        Name of the study.
    created : str
        Date as it is to be printed; passed in, so that the same data give the same file.
    versions : mapping of str to str
        Packages.
    slides : sequence of SlideRow
    design : DesignTable, optional
    probes : sequence of ProbeSection
    overlays : sequence of Overlay
    stains : sequence of StainRow
    adaptations : sequence of AdaptationRow
    problems : sequence of str
        What went wrong or was left out, one sentence each.
    methods : sequence of str
        How it was computed, beyond what the sections say themselves.
    steps : sequence of str
        Commands that repeat it.
    settings : mapping of str to object
        What was set.
    citations : sequence of str
        Keys of :data:`napari_batchfx.report.CITATIONS`; by default those that fit what is in the report.
    with_identifiers : bool
        Whether names of slides, patients and files are printed; otherwise slides and patients are numbered,
        in free text too.
    former_names : mapping of str to str
        Names of slides (or patients) that results still use, and the slide's name now ("" where it left).
    controls : ControlsSection, optional
        Of the adaptation that is shown.
    components : ComponentsSection, optional
        Of the probe that was run last.
    robustness : RobustnessSection, optional
        Of the same, where it was measured.
    comparisons : sequence of AfterSection
        The same probe on other features, where they were compared.

    Examples
    --------
    >>> from napari_batchfx.report import render_report
    >>> slide = SlideRow("A-1042", scanner="CS2", mpp=0.25, tiles=1480)
    >>> "A-1042" in render_report(ReportData("Two scanners", "2026-01-31", slides=[slide]))
    False
    """

    title: str
    created: str = ""
    versions: Mapping[str, str] = field(default_factory=dict)
    slides: Sequence[SlideRow] = ()
    design: DesignTable | None = None
    probes: Sequence[ProbeSection] = ()
    overlays: Sequence[Overlay] = ()
    stains: Sequence[StainRow] = ()
    adaptations: Sequence[AdaptationRow] = ()
    problems: Sequence[str] = ()
    methods: Sequence[str] = ()
    steps: Sequence[str] = ()
    settings: Mapping[str, Any] = field(default_factory=dict)
    citations: Sequence[str] | None = None
    with_identifiers: bool = False
    former_names: Mapping[str, str] = field(default_factory=dict)
    controls: ControlsSection | None = None
    components: ComponentsSection | None = None
    robustness: RobustnessSection | None = None
    comparisons: Sequence[AfterSection] = ()
