"""Control samples, corrections, heads, and predictions before and after."""

from __future__ import annotations

from napari_batchfx.adapt import controls
from napari_batchfx.adapt.combat import ComBat
from napari_batchfx.adapt.comparison import Comparison, Estimate, compare_predictions
from napari_batchfx.adapt.controls import ControlDiagnostics
from napari_batchfx.adapt.coral import Coral
from napari_batchfx.adapt.correction import Correction, load
from napari_batchfx.adapt.harmony import Harmony
from napari_batchfx.adapt.head import ERMHead, Prediction, load_head
from napari_batchfx.adapt.job import AdaptResult, adapt_job
from napari_batchfx.adapt.methods import METHODS, REGISTRY, Method, make_correction, method_named
from napari_batchfx.adapt.procrustes import Procrustes
from napari_batchfx.adapt.ridge import Ridge
from napari_batchfx.adapt.sphere import Sphere
from napari_batchfx.adapt.standardize import StandardizeOnControls
from napari_batchfx.adapt.tvn import TVN

__all__ = [
    "METHODS",
    "REGISTRY",
    "TVN",
    "AdaptResult",
    "ComBat",
    "Comparison",
    "ControlDiagnostics",
    "Coral",
    "Correction",
    "ERMHead",
    "Estimate",
    "Harmony",
    "Method",
    "Prediction",
    "Procrustes",
    "Ridge",
    "Sphere",
    "StandardizeOnControls",
    "adapt_job",
    "compare_predictions",
    "controls",
    "load",
    "load_head",
    "make_correction",
    "method_named",
]
