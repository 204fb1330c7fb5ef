"""Classifiers on frozen features, and whole networks, that adapt to the slide they meet."""

from __future__ import annotations

from napari_batchfx.adapt.heads.adabn import AdaBNHead
from napari_batchfx.adapt.heads.armbn import ARMBNHead
from napari_batchfx.adapt.heads.base import NeuralHead
from napari_batchfx.adapt.heads.csarmbn import CSARMBNHead
from napari_batchfx.adapt.heads.dann import DANNHead
from napari_batchfx.adapt.heads.job import HeadResult, adapt_head_job
from napari_batchfx.adapt.heads.mlp import MLPHead
from napari_batchfx.adapt.heads.network import NETWORK_METHODS, AdaptiveNetwork
from napari_batchfx.adapt.heads.offered import HEADS, OFFERED_HEADS, OfferedHead, make_head
from napari_batchfx.adapt.heads.settings import TrainingPoint, TrainingSettings
from napari_batchfx.adapt.heads.statistics import Statistics, blend, merge
from napari_batchfx.adapt.heads.ways import DomainContext, Ways

__all__ = [
    "HEADS",
    "NETWORK_METHODS",
    "OFFERED_HEADS",
    "ARMBNHead",
    "AdaBNHead",
    "AdaptiveNetwork",
    "CSARMBNHead",
    "DANNHead",
    "DomainContext",
    "HeadResult",
    "MLPHead",
    "NeuralHead",
    "OfferedHead",
    "Statistics",
    "TrainingPoint",
    "TrainingSettings",
    "Ways",
    "adapt_head_job",
    "blend",
    "make_head",
    "merge",
]
