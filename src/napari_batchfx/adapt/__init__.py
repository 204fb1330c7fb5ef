"""Control samples, corrections, heads, and predictions before and after."""

from __future__ import annotations

from napari_batchfx.adapt import controls
from napari_batchfx.adapt.combat import ComBat
from napari_batchfx.adapt.comparison import Comparison, Estimate, compare_predictions
from napari_batchfx.adapt.controls import ControlDiagnostics
from napari_batchfx.adapt.coral import Coral
from napari_batchfx.adapt.correction import Correction, load
from napari_batchfx.adapt.harmony import Harmony
from napari_batchfx.adapt.head import ERMHead, Prediction
from napari_batchfx.adapt.heads import (
    HEADS,
    OFFERED_HEADS,
    AdaBNHead,
    AdaptiveNetwork,
    ARMBNHead,
    CSARMBNHead,
    DANNHead,
    DomainContext,
    HeadResult,
    MLPHead,
    OfferedHead,
    TrainingPoint,
    TrainingSettings,
    Ways,
    adapt_head_job,
    make_head,
)
from napari_batchfx.adapt.heads.loading import load_head
from napari_batchfx.adapt.heads.onnx import ONNXHead
from napari_batchfx.adapt.job import AdaptResult, adapt_job
from napari_batchfx.adapt.methods import METHODS, REGISTRY, Method, make_correction, method_named
from napari_batchfx.adapt.mil import Bag, MILSettings, ScanGenMIL, bags_of, scanner_contrast
from napari_batchfx.adapt.procrustes import Procrustes
from napari_batchfx.adapt.reference import CompactReference, DomainMatch, SlideJudgement
from napari_batchfx.adapt.ridge import Ridge
from napari_batchfx.adapt.sphere import Sphere
from napari_batchfx.adapt.standardize import StandardizeOnControls
from napari_batchfx.adapt.tvn import TVN

__all__ = [
    "HEADS",
    "METHODS",
    "OFFERED_HEADS",
    "REGISTRY",
    "TVN",
    "ARMBNHead",
    "AdaBNHead",
    "AdaptResult",
    "AdaptiveNetwork",
    "Bag",
    "CSARMBNHead",
    "ComBat",
    "CompactReference",
    "Comparison",
    "ControlDiagnostics",
    "Coral",
    "Correction",
    "DANNHead",
    "DomainContext",
    "DomainMatch",
    "ERMHead",
    "Estimate",
    "Harmony",
    "HeadResult",
    "MILSettings",
    "MLPHead",
    "Method",
    "ONNXHead",
    "OfferedHead",
    "Prediction",
    "Procrustes",
    "Ridge",
    "ScanGenMIL",
    "SlideJudgement",
    "Sphere",
    "StandardizeOnControls",
    "TrainingPoint",
    "TrainingSettings",
    "Ways",
    "adapt_head_job",
    "adapt_job",
    "bags_of",
    "compare_predictions",
    "controls",
    "load",
    "load_head",
    "make_correction",
    "make_head",
    "method_named",
    "scanner_contrast",
]
