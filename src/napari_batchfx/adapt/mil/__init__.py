"""Slide-level classifiers: attention over tiles, trained to agree over scanners."""

from __future__ import annotations

from napari_batchfx.adapt.mil._training import MILSettings
from napari_batchfx.adapt.mil.bags import Bag, bags_of
from napari_batchfx.adapt.mil.contrast import scanner_contrast
from napari_batchfx.adapt.mil.scangen import ScanGenMIL, Tried

__all__ = ["Bag", "MILSettings", "ScanGenMIL", "Tried", "bags_of", "scanner_contrast"]
