"""The corrections there are: what docks, command line and benchmarks call them, and what they need."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Any, Final, Literal, TypeAlias

from napari_batchfx.adapt.combat import ComBat
from napari_batchfx.adapt.coral import Coral
from napari_batchfx.adapt.correction import Correction
from napari_batchfx.adapt.harmony import Harmony
from napari_batchfx.adapt.procrustes import Procrustes
from napari_batchfx.adapt.ridge import Ridge
from napari_batchfx.adapt.sphere import Sphere
from napari_batchfx.adapt.standardize import StandardizeOnControls
from napari_batchfx.adapt.tvn import TVN
from napari_batchfx.errors import AdaptError

__all__ = ["METHODS", "REGISTRY", "Method", "Needs", "make_correction", "method_named"]

Needs: TypeAlias = Literal["controls", "pairs", "nothing"]


@dataclass(frozen=True)
class Method:
    """One correction as it is offered.

    Parameters
    ----------
    id : str
        Name for settings and the command line.
    label : str
        Name on the screen, a word or two.
    name : str
        Name within a sentence or a report.
    sentence : str
        What it does, for somebody who doesn't know it.
    kind : type of Correction
    needs : {"controls", "pairs", "nothing"}
        Control samples on every batch; tiles that show the same tissue on two batches (aligned rescans);
        or neither.
    is_offline : bool
        It looks at all slides at once, and a slide that comes later is not corrected by it: a baseline to
        compare with.
    settings : mapping
        Arguments of the class.
    works : tuple of str
        Keys of the works it comes from, in the report's list.

    Examples
    --------
    >>> method_named("tvn").label, method_named("tvn").needs
    ('TVN', 'controls')
    """

    id: str
    label: str
    name: str
    sentence: str
    kind: type[Correction]
    needs: Needs = "controls"
    is_offline: bool = False
    settings: Mapping[str, Any] = field(default_factory=dict)
    works: tuple[str, ...] = ()

    def make(self) -> Correction:
        """An unfitted correction."""
        return self.kind(**self.settings)


_OFFERED = (
    Method(
        "standardize",
        "Standardise",
        "standardise on controls",
        "Every feature gets mean 0 and spread 1 on each batch's control samples.",
        StandardizeOnControls,
        works=("caicedo2017",),
    ),
    Method(
        "standardize-robust",
        "Standardise, robust",
        "standardise on controls (median and MAD)",
        "The same with median and median absolute deviation: a few odd control tiles don't matter.",
        StandardizeOnControls,
        settings=MappingProxyType({"robust": True}),
        works=("caicedo2017",),
    ),
    Method(
        "sphere",
        "Sphering",
        "sphering on controls",
        "Centred on each batch's controls, then every direction in which ordinary tissue varies counts the "
        "same.",
        Sphere,
        works=("kessy2018",),
    ),
    Method(
        "tvn",
        "TVN",
        "TVN on controls",
        "Directions in which ordinary tissue varies are evened out, and made alike on every batch.",
        TVN,
        works=("ando2017",),
    ),
    Method(
        "coral",
        "CORAL",
        "CORAL on controls",
        "Every batch's control samples get the same mean and the same way of varying together.",
        Coral,
        works=("sun2016",),
    ),
    Method(
        "combat",
        "ComBat",
        "ComBat on controls",
        "Shift and spread of each feature, steadied by what all features say about the batch.",
        ComBat,
        works=("johnson2007",),
    ),
    Method(
        "procrustes",
        "Procrustes",
        "Procrustes on pairs",
        "Aligned rescans: the turn that lays a batch's tiles on the same tissue of the other.",
        Procrustes,
        needs="pairs",
        works=("schoenemann1966",),
    ),
    Method(
        "ridge",
        "Ridge map",
        "ridge map on pairs",
        "Aligned rescans: a linear map that predicts the features of the same tissue on the other batch.",
        Ridge,
        needs="pairs",
        works=("hoerl1970",),
    ),
    Method(
        "harmony",
        "Harmony",
        "Harmony on all tiles",
        "Mixes batches within clusters of all tiles, without controls: a baseline to compare with.",
        Harmony,
        needs="nothing",
        is_offline=True,
        works=("korsunsky2019",),
    ),
)

#: Every correction by its id, in the order it is offered.
REGISTRY: Final[Mapping[str, Method]] = MappingProxyType({one.id: one for one in _OFFERED})

#: Ids of the corrections.
METHODS: Final[tuple[str, ...]] = tuple(REGISTRY)


def method_named(method: str) -> Method:
    """The correction of that id.

    Raises
    ------
    AdaptError
        If there is none; the sentence says which there are.

    Examples
    --------
    >>> method_named("tvn").id
    'tvn'
    """
    if method not in REGISTRY:
        raise AdaptError(f"There is no correction called {method!r}; there are {', '.join(METHODS)}.")
    return REGISTRY[method]


def make_correction(method: str | Correction) -> Correction:
    """An unfitted correction of that id; a correction of your own is given back as it is."""
    return method if isinstance(method, Correction) else method_named(method).make()
