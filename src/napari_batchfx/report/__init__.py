"""The report: one self-contained HTML file, its figures, and its tables as CSV."""

from __future__ import annotations

from napari_batchfx.report.citations import CITATIONS, Citation
from napari_batchfx.report.compared import ComparedRow, compared_rows
from napari_batchfx.report.data import (
    AdaptationRow,
    DesignTable,
    Estimate,
    Overlay,
    ProbeLike,
    ProbeSection,
    ReportData,
    SlideRow,
    StainRow,
)
from napari_batchfx.report.methods_text import methods_paragraph
from napari_batchfx.report.sections import (
    AfterSection,
    ComponentsSection,
    ControlsSection,
    RobustnessSection,
)
from napari_batchfx.report.tables import predictions_csv, tables_csv, write_tables
from napari_batchfx.report.write import render_report, write_report

__all__ = [
    "CITATIONS",
    "AdaptationRow",
    "AfterSection",
    "Citation",
    "ComparedRow",
    "ComponentsSection",
    "ControlsSection",
    "DesignTable",
    "Estimate",
    "Overlay",
    "ProbeLike",
    "ProbeSection",
    "ReportData",
    "RobustnessSection",
    "SlideRow",
    "StainRow",
    "compared_rows",
    "methods_paragraph",
    "predictions_csv",
    "render_report",
    "tables_csv",
    "write_report",
    "write_tables",
]
