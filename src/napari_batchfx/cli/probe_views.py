"""``probe-after`` and ``probe-tiles``: a probe beside one on other features, and its tiles one by one."""

from __future__ import annotations

import csv
import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from napari_batchfx.cli._app import AsJson, command, count, drive, note, out, print_json

if TYPE_CHECKING:
    from napari_batchfx.study.scatter import Scatter

__all__ = ["register"]


def register(app: typer.Typer) -> None:
    """Add the commands."""
    command(app, "probe-after")(probe_after)
    command(app, "probe-tiles")(probe_tiles)


def probe_after(
    study: Annotated[Path, typer.Argument(help="A study (.batchfx) that was probed.")],
    method: Annotated[
        str,
        typer.Argument(
            help="A stain method (macenko, reinhard, ...) or a correction (standardize, tvn, ...)."
        ),
    ],
    as_json: Annotated[bool, typer.Option("--json", help="As JSON.")] = False,
) -> None:
    """Run a study's probe again, same folds and tiles, on normalised or corrected features, and compare.

    What is found is kept in the study; the other findings about a probe are made with `run STUDY --do
    components` and `--do robustness`.
    """
    from napari_batchfx.study import Study
    from napari_batchfx.study.autosave import autosaving
    from napari_batchfx.study.scatter import last_probe

    with Study.open(study) as work:
        found = drive(autosaving(work, work.probe_after_job(method, last_probe(work)))).found
    if as_json:
        print(json.dumps(found.to_dict(), ensure_ascii=False, indent=2))
        return
    console = out()
    console.print(found.comparison.sentence, markup=False)
    for measure in found.comparison.measures:
        text = f"{measure.name}: {measure.text()}"
        if measure.is_known and measure.change_interval is not None:
            low, high = measure.change_interval
            text += f"; change {measure.change:+.2f} ({low:+.2f} to {high:+.2f})"
        console.print(text, markup=False)
    for warning in found.warnings:
        console.print(f"Mind: {warning}", markup=False)


def probe_tiles(
    study: Annotated[Path, typer.Argument(help="A study (.batchfx) that was probed.")],
    sheet: Annotated[
        Path | None, typer.Option(help="Write the strongest and weakest tiles of each batch as one PNG.")
    ] = None,
    points: Annotated[
        Path | None,
        typer.Option(help="Write a CSV with a row a tile: its place in a plane, its columns, confidence."),
    ] = None,
    layout: Annotated[
        str, typer.Option(help="Of the points: pca, or umap where umap-learn is installed.")
    ] = "pca",
    n: Annotated[int, typer.Option(help="Tiles a batch and side on the sheet.", min=1)] = 6,
    names: Annotated[
        bool,
        typer.Option("--names", help="Also names of slides and patients in the CSV: they can name a person."),
    ] = False,
    as_json: AsJson = False,
) -> None:
    """Look at the tiles of a study's probe: what gives a batch away, and where they lie among each other."""
    from napari_batchfx.probe.projection import PROJECTIONS
    from napari_batchfx.study import Study
    from napari_batchfx.study.gallery import gallery_job, save_sheet
    from napari_batchfx.study.scatter import scatter_job

    if sheet is None and points is None:
        raise typer.BadParameter("give --sheet, --points or both")
    kind = next((one for one in PROJECTIONS if one == layout), None)
    if kind is None:
        raise typer.BadParameter(f"choose of {', '.join(PROJECTIONS)}", param_hint="--layout")
    facts: dict[str, Any] = {}
    with Study.open(study) as work:
        if sheet is not None:
            tiles = drive(gallery_job(work, n=n))
            note(f"{save_sheet(tiles, sheet)}: {count(len(tiles), 'tile')}")
            facts["sheet"] = {"file": str(sheet), "tiles": len(tiles)}
        if points is not None:
            found = drive(scatter_job(work, kind=kind))
            _write_points(points, found, names=names)
            note(f"{points}: {count(len(found.xy), 'tile')}")
            for warning in found.warnings:
                note(f"Mind: {warning}")
            facts["points"] = {
                "file": str(points),
                "tiles": len(found.xy),
                "warnings": list(found.warnings),
            }
    if as_json:
        print_json(facts)


def _write_points(path: Path, found: Scatter, *, names: bool) -> None:
    hidden = () if names else ("slide", "patient")
    columns = {name: one for name, one in found.columns.items() if name not in hidden}
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(["x", "y", "slide_number", "row", "col", "confidence", *columns])
        for i, (x, y) in enumerate(found.xy.tolist()):
            row, col = found.cells[i].tolist()
            value = found.confidence[i]
            said = [values[codes[i]] if codes[i] >= 0 else "" for codes, values in columns.values()]
            number = f"{value:.6g}" if value == value else ""
            writer.writerow([f"{x:.6g}", f"{y:.6g}", int(found.slide[i]) + 1, row, col, number, *said])
