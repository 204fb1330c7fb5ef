"""Control samples: which tiles to take, and whether they can carry a correction."""

from napari_batchfx.adapt.diagnosing import diagnose, diagnose_job
from napari_batchfx.adapt.diagnostics import ControlDiagnostics
from napari_batchfx.adapt.suggest import Suggestion, suggest

__all__ = ["ControlDiagnostics", "Suggestion", "diagnose", "diagnose_job", "suggest"]
