"""Stain: estimate it, normalise it, preview it.

Statistics come from the tissue of a whole slide and are fitted once (:meth:`MacenkoNormalizer.for_slide`);
the resulting :class:`StainTransform` is a handful of numbers that can be applied to any tile, saved as JSON,
and told apart by its key.
"""

from __future__ import annotations

from napari_batchfx.errors import StainError
from napari_batchfx.stain.augment import HEDJitter, RandStainNA, StainAugmentation, StainJitter
from napari_batchfx.stain.channels import StainChannel, channel_image, separate
from napari_batchfx.stain.cohort import average
from napari_batchfx.stain.conditions import (
    CONDITIONS,
    StainingCondition,
    condition_from,
    load_conditions,
    save_conditions,
)
from napari_batchfx.stain.density import DensityNormalizer
from napari_batchfx.stain.estimate import StainEstimate, estimate
from napari_batchfx.stain.kernels import warm_up
from napari_batchfx.stain.lab import LabStatistics, lab_to_rgb, rgb_to_lab
from napari_batchfx.stain.macenko import MacenkoNormalizer, MultiTargetMacenkoNormalizer
from napari_batchfx.stain.methods import METHODS, StainMethod, method, methods
from napari_batchfx.stain.normalizer import Normalizer
from napari_batchfx.stain.preview import preview
from napari_batchfx.stain.reference import REFERENCE, REFERENCE_DAB, REFERENCE_LAB, reference
from napari_batchfx.stain.reinhard import ModifiedReinhardNormalizer, ReinhardNormalizer
from napari_batchfx.stain.ruifrok import RuifrokNormalizer
from napari_batchfx.stain.sample import estimate_slide
from napari_batchfx.stain.simulate import SimulatedStain, simulate
from napari_batchfx.stain.stability import (
    MinMaxAuc,
    PredictionSpread,
    feature_spread,
    min_max_auc,
    prediction_spread,
)
from napari_batchfx.stain.transform import StainTransform
from napari_batchfx.stain.vahadane import VahadaneNormalizer

__all__ = [
    "CONDITIONS",
    "METHODS",
    "REFERENCE",
    "REFERENCE_DAB",
    "REFERENCE_LAB",
    "DensityNormalizer",
    "HEDJitter",
    "LabStatistics",
    "MacenkoNormalizer",
    "MinMaxAuc",
    "ModifiedReinhardNormalizer",
    "MultiTargetMacenkoNormalizer",
    "Normalizer",
    "PredictionSpread",
    "RandStainNA",
    "ReinhardNormalizer",
    "RuifrokNormalizer",
    "SimulatedStain",
    "StainAugmentation",
    "StainChannel",
    "StainError",
    "StainEstimate",
    "StainJitter",
    "StainMethod",
    "StainTransform",
    "StainingCondition",
    "VahadaneNormalizer",
    "average",
    "channel_image",
    "condition_from",
    "estimate",
    "estimate_slide",
    "feature_spread",
    "lab_to_rgb",
    "load_conditions",
    "method",
    "methods",
    "min_max_auc",
    "prediction_spread",
    "preview",
    "reference",
    "rgb_to_lab",
    "save_conditions",
    "separate",
    "simulate",
    "warm_up",
]
