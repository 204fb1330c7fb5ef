"""A study: slides, labels, choices and results of one piece of work, saved in one folder."""

from napari_batchfx.study.adapted import AdaptOutcome
from napari_batchfx.study.annotations import Annotation, TileLabels, annotate_cells, tile_labels
from napari_batchfx.study.cluster import Cluster
from napari_batchfx.study.control_tiles import ControlTile
from napari_batchfx.study.encoding import EncodedTiles, EncodeOutcome
from napari_batchfx.study.entries import SlideEntry
from napari_batchfx.study.exporting import EXPORTS, ExportOutcome
from napari_batchfx.study.files import study_folder
from napari_batchfx.study.inspection import SeenTile, saw
from napari_batchfx.study.problems import Problem
from napari_batchfx.study.repeat import RunOutcome
from napari_batchfx.study.result_table import result_table
from napari_batchfx.study.results import ProbeOutcome, Results
from napari_batchfx.study.selection import Selection
from napari_batchfx.study.settings import (
    AdaptSettings,
    EncodeSettings,
    ProbeSettings,
    Settings,
    StainSettings,
    TissueChoice,
)
from napari_batchfx.study.sheet import RowProblem, SheetOutcome, add_sheet_job, read_sheet
from napari_batchfx.study.step import Step, StepKind, register_step
from napari_batchfx.study.study import Study
from napari_batchfx.study.suggesting import ControlSuggestion
from napari_batchfx.study.tile_rows import TileRows

__all__ = [
    "EXPORTS",
    "AdaptOutcome",
    "AdaptSettings",
    "Annotation",
    "Cluster",
    "ControlSuggestion",
    "ControlTile",
    "EncodeOutcome",
    "EncodeSettings",
    "EncodedTiles",
    "ExportOutcome",
    "ProbeOutcome",
    "ProbeSettings",
    "Problem",
    "Results",
    "RowProblem",
    "RunOutcome",
    "SeenTile",
    "Selection",
    "Settings",
    "SheetOutcome",
    "SlideEntry",
    "StainSettings",
    "Step",
    "StepKind",
    "Study",
    "TileLabels",
    "TileRows",
    "TissueChoice",
    "add_sheet_job",
    "annotate_cells",
    "read_sheet",
    "register_step",
    "result_table",
    "saw",
    "study_folder",
    "tile_labels",
]
