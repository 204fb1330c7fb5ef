"""The classifiers there are: what docks and command line call them, and what they need."""

from __future__ import annotations

from dataclasses import dataclass

from napari_batchfx.adapt.heads.adabn import AdaBNHead
from napari_batchfx.adapt.heads.armbn import ARMBNHead
from napari_batchfx.adapt.heads.base import NeuralHead
from napari_batchfx.adapt.heads.csarmbn import CSARMBNHead
from napari_batchfx.adapt.heads.dann import DANNHead
from napari_batchfx.adapt.heads.mlp import MLPHead
from napari_batchfx.adapt.heads.settings import TrainingSettings
from napari_batchfx.errors import AdaptError

__all__ = ["HEADS", "OFFERED_HEADS", "OfferedHead", "make_head"]


@dataclass(frozen=True)
class OfferedHead:
    """One trained classifier as it is offered.

    Attributes
    ----------
    id, label, sentence : str
        Name for settings and the command line, on the screen, and what it does for somebody who doesn't know
        it.
    kind : type of NeuralHead
    needs_controls : bool
        On every training domain and on the slide that is predicted.
    adapts : bool
        Whether its predictions depend on the slide it meets.
    """

    id: str
    label: str
    sentence: str
    kind: type[NeuralHead]
    needs_controls: bool
    adapts: bool


_ALL = (
    OfferedHead(
        "mlp",
        "Two layers",
        "A classifier with two hidden layers that stays as it was trained.",
        MLPHead,
        False,
        False,
    ),
    OfferedHead(
        "dann",
        "DANN",
        "Trained not to know the scanner; stays as it was trained: a baseline to compare with.",
        DANNHead,
        False,
        False,
    ),
    OfferedHead(
        "adabn",
        "AdaBN",
        "Takes mean and spread of the new slide's tiles; misled where its tissue is mixed otherwise.",
        AdaBNHead,
        False,
        True,
    ),
    OfferedHead(
        "armbn",
        "ARM-BN",
        "Trained to work with mean and spread of a single slide; misled where its tissue is mixed otherwise.",
        ARMBNHead,
        False,
        True,
    ),
    OfferedHead(
        "csarmbn",
        "CS-ARM-BN",
        "Trained as ARM-BN, its mean and spread held by control samples of each slide.",
        CSARMBNHead,
        True,
        True,
    ),
)
OFFERED_HEADS: dict[str, OfferedHead] = {offered.id: offered for offered in _ALL}
"""Trained classifiers by id, in the order they are offered."""

HEADS: dict[str, type[NeuralHead]] = {offered.id: offered.kind for offered in _ALL}
"""Their classes by id."""


def make_head(method: str, settings: TrainingSettings | None = None) -> NeuralHead:
    """An untrained classifier by its id.

    Raises
    ------
    AdaptError
        If there is none of that name.

    Examples
    --------
    >>> make_head("csarmbn").with_controls
    True
    """
    if method not in HEADS:
        raise AdaptError(f"There is no classifier called {method!r}; there are {', '.join(HEADS)}.")
    return HEADS[method](settings)
