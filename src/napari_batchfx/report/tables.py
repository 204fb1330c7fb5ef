"""The numbers of a report as CSV files."""

from __future__ import annotations

import csv
import io
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from napari_batchfx.errors import StudyError
from napari_batchfx.report.data import Estimate, ReportData
from napari_batchfx.report.identifiers import Masker

__all__ = ["csv_text", "predictions_csv", "tables_csv", "write_tables"]


def tables_csv(data: ReportData) -> dict[str, str]:
    """Return the tables of a report as CSV texts.

    Parameters
    ----------
    data : ReportData
        The report; identifiers are left out as there.

    Returns
    -------
    dict of str to str
        ``slides``, ``design``, ``probes``, ``stain`` and ``adaptation``; only those that have rows.

    Examples
    --------
    >>> from napari_batchfx.report import SlideRow
    >>> tables = tables_csv(ReportData("Two scanners", slides=[SlideRow("A-1042", scanner="CS2", mpp=0.25)]))
    >>> print(tables["slides"], end="")
    slide,site,scanner,stain,mpp_y,mpp_x,tiles
    Slide 1,,CS2,,0.25,0.25,0
    """
    masker = Masker.of(data)
    tables: dict[str, tuple[list[str], list[list[Any]]]] = {
        "slides": _slides(data, masker),
        "design": _design(data, masker),
        "probes": _probes(data, masker),
        "stain": _stain(data, masker),
        "adaptation": _adaptation(data, masker),
    }
    return {name: csv_text(header, rows) for name, (header, rows) in tables.items() if rows}


def write_tables(folder: Path | str, data: ReportData) -> list[Path]:
    """Write :func:`tables_csv` into a folder, one file a table.

    Raises
    ------
    StudyError
        If the folder can't be written to.

    Examples
    --------
    >>> from napari_batchfx.report import SlideRow
    >>> data = ReportData("Two scanners", slides=[SlideRow("A-1042")])
    >>> [path.name for path in write_tables("tables", data)]
    ['slides.csv']
    """
    folder = Path(folder)
    written = []
    try:
        folder.mkdir(parents=True, exist_ok=True)
        for name, text in tables_csv(data).items():
            path = folder / f"{name}.csv"
            path.write_text(text, encoding="utf-8", newline="")
            written.append(path)
    except OSError as error:
        raise StudyError(
            f"{folder.name}: the tables can't be written there ({error.strerror}); choose another place."
        ) from error
    return written


def predictions_csv(
    *,
    slide: Sequence[str],
    row: npt.ArrayLike,
    col: npt.ArrayLike,
    x_um: npt.ArrayLike,
    y_um: npt.ArrayLike,
    classes: Sequence[str],
    before: npt.ArrayLike,
    after: npt.ArrayLike | None = None,
    truth: Sequence[str | None] | None = None,
) -> str:
    """Return predictions as CSV, one line a tile.

    Parameters
    ----------
    slide : sequence of str (n,)
        Slide of each tile.
    row, col : int (n,)
        Cell in the slide's grid.
    x_um, y_um : float (n,)
        Centre of the tile in micrometres from the slide's top left corner.
    classes : sequence of str (c,)
        Names of the classes.
    before, after : float (n, c)
        Probabilities without and with the correction.
    truth : sequence (n,), optional
        Known classes, ``None`` or NaN where not known.

    Returns
    -------
    str
        CSV; empty where a probability is NaN.

    Examples
    --------
    >>> place = {"slide": ["A"], "row": [0], "col": [1], "x_um": [168], "y_um": [56]}
    >>> print(predictions_csv(**place, classes=["x", "y"], before=[[0.75, 0.25]]), end="")
    slide,row,col,x_um,y_um,class_before,p_before_x,p_before_y
    A,0,1,168,56,x,0.75,0.25
    """
    stages = {"before": np.asarray(before, np.float64)}
    if after is not None:
        stages["after"] = np.asarray(after, np.float64)
    header = ["slide", "row", "col", "x_um", "y_um"]
    for name in stages:
        header += [f"class_{name}", *(f"p_{name}_{one}" for one in classes)]
    if after is not None:
        header.append("changed")
    if truth is not None:
        header.append("truth")
    places = [np.asarray(v).reshape(-1) for v in (row, col, x_um, y_um)]
    rows = []
    for i, name in enumerate(slide):
        line: list[Any] = [name, *(_number(float(v[i])) for v in places)]
        winners = []
        for proba in stages.values():
            known = bool(np.isfinite(proba[i]).all())
            winners.append(str(classes[int(proba[i].argmax())]) if known else "")
            line += [winners[-1], *(_number(float(p)) for p in proba[i])]
        if after is not None:
            line.append(str(winners[0] != winners[1]).lower() if all(winners) else "")
        if truth is not None:
            one = truth[i]
            line.append("" if one is None or one != one else str(one))
        rows.append(line)
    return csv_text(header, rows)


def _number(value: float | None) -> str:
    return "" if value is None or not math.isfinite(value) else f"{value:.6g}"


def _cell(value: Any) -> str:
    if isinstance(value, float):
        return _number(value)
    text = "" if value is None else str(value)
    # A spreadsheet runs a cell that starts like a formula.
    return (
        f"'{text}"
        if text[:1] in ("=", "+", "@", "\t", "\r") or (text[:1] == "-" and not _is_number(text))
        else text
    )


def _is_number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return True


def csv_text(header: Sequence[str], rows: Sequence[Sequence[Any]]) -> str:
    """Return rows as CSV; no cell starts like a formula, and no number is longer than six digits."""
    buffer = io.StringIO()
    writer = csv.writer(buffer, lineterminator="\n")
    writer.writerow([_cell(name) for name in header])
    writer.writerows([[_cell(value) for value in row] for row in rows])
    return buffer.getvalue()


def _slides(data: ReportData, masker: Masker) -> tuple[list[str], list[list[Any]]]:
    header = ["slide", "site", "scanner", "stain", "mpp_y", "mpp_x", "tiles"]
    rows: list[list[Any]] = []
    for slide in data.slides:
        y, x = slide.mpp if isinstance(slide.mpp, tuple) else (slide.mpp, slide.mpp)
        line = [masker.name(slide.name), slide.site, slide.scanner, slide.stain, y, x, slide.tiles]
        rows.append([*line, slide.patient, slide.file] if data.with_identifiers else line)
    return ([*header, "patient", "file"] if data.with_identifiers else header), rows


def _design(data: ReportData, masker: Masker) -> tuple[list[str], list[list[Any]]]:
    design = data.design
    if design is None:
        return [], []
    counts = np.asarray(design.counts)
    return ["class", *(masker.name(str(name)) for name in design.batches)], [
        [str(name), *(int(n) for n in row)] for name, row in zip(design.classes, counts, strict=True)
    ]


def _probes(data: ReportData, masker: Masker) -> tuple[list[str], list[list[Any]]]:
    header = [
        "recognised",
        "encoder",
        "tile_size",
        "stain",
        "balanced_accuracy",
        "ci_low",
        "ci_high",
        "chance",
        "permutation_p",
        "tiles",
        "current",
        "verdict",
    ]
    rows: list[list[Any]] = []
    for probe in data.probes:
        r = probe.result
        low, high = (float("nan") if v is None else float(v) for v in r.ci)
        p = float("nan") if r.permutation_p is None else float(r.permutation_p)
        score, chance = float(r.balanced_accuracy), float(r.chance)
        verdict = masker.text(r.verdict)
        stain, n = masker.text(probe.stain), int(np.asarray(r.confusion).sum())
        numbers = [score, low, high, chance, p, n]
        rows.append([probe.batch, probe.encoder, probe.tiles, stain, *numbers, probe.is_current, verdict])
    return header, rows


def _stain(data: ReportData, masker: Masker) -> tuple[list[str], list[list[Any]]]:
    header = ["slide", "method", "stain", "red", "green", "blue", "intensity", "tissue_pixels"]
    rows: list[list[Any]] = []
    for one in data.stains:
        if one.matrix is None or one.max_concentration is None:
            continue
        for name, vector, most in zip(
            ("haematoxylin", "eosin"), one.matrix, one.max_concentration, strict=True
        ):
            rows.append(
                [
                    masker.name(one.slide),
                    one.method,
                    name,
                    *(float(v) for v in vector),
                    float(most),
                    one.n_pixels,
                ]
            )
    return header, rows


def _adaptation(data: ReportData, masker: Masker) -> tuple[list[str], list[list[Any]]]:
    scores: Mapping[str, str] = {
        "balanced_accuracy_before": "before",
        "balanced_accuracy_after": "after",
        "balanced_accuracy_difference": "difference",
        "macro_f1_before": "f1_before",
        "macro_f1_after": "f1_after",
        "class_structure_before": "retention_before",
        "class_structure_after": "retention_after",
    }
    asked = ("head", "correction", "encoder", "tiles", "stain", "trained_on", "applied_to")
    header = ["tile_size" if name == "tiles" else name for name in asked]
    for name in scores:
        header += [name, f"{name}_low", f"{name}_high"]
    header += ["chance", "labelled_tiles", "tiles", "changed", "controls", "controls_verdict", "current"]
    rows: list[list[Any]] = []
    for row in data.adaptations:
        line: list[Any] = [masker.text(getattr(row, name)) for name in asked]
        for attribute in scores.values():
            estimate: Estimate | None = getattr(row, attribute)
            low, high = (None, None) if estimate is None or estimate.ci is None else estimate.ci
            line += [None if estimate is None else float(estimate.value), low, high]
        n_truth = next((one.n for one in (row.after, row.before) if one is not None and one.n), None)
        counts = [n_truth, row.n_tiles, row.n_changed, row.n_controls]
        rows.append([*line, row.chance, *counts, row.controls_verdict, row.is_current])
    return header, rows
