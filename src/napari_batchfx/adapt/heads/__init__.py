"""Classifiers on frozen features, and whole networks, that adapt to the slide they meet."""

from __future__ import annotations

from napari_batchfx.adapt.heads.adabn import AdaBNHead
from napari_batchfx.adapt.heads.armbn import ARMBNHead
from napari_batchfx.adapt.heads.base import NeuralHead
from napari_batchfx.adapt.heads.csarmbn import CSARMBNHead
from napari_batchfx.adapt.heads.dann import DANNHead
from napari_batchfx.adapt.heads.mlp import MLPHead
from napari_batchfx.adapt.heads.network import NETWORK_METHODS, AdaptiveNetwork
from napari_batchfx.adapt.heads.settings import TrainingPoint, TrainingSettings
from napari_batchfx.adapt.heads.statistics import Statistics, blend, merge
from napari_batchfx.adapt.heads.ways import DomainContext, Ways

__all__ = [
    "HEADS",
    "NETWORK_METHODS",
    "ARMBNHead",
    "AdaBNHead",
    "AdaptiveNetwork",
    "CSARMBNHead",
    "DANNHead",
    "DomainContext",
    "MLPHead",
    "NeuralHead",
    "Statistics",
    "TrainingPoint",
    "TrainingSettings",
    "Ways",
    "blend",
    "merge",
]

HEADS: dict[str, type[NeuralHead]] = {
    head.method: head for head in (MLPHead, DANNHead, AdaBNHead, ARMBNHead, CSARMBNHead)
}
"""Heads by the name of their method."""
