"""``export`` what a study holds for other programs."""

from __future__ import annotations

import contextlib
from pathlib import Path
from typing import Annotated

import typer

from napari_batchfx.cli._app import PARTIAL, PROBLEM, AsJson, command, count, drive, note, out, print_json
from napari_batchfx.errors import StudyError

__all__ = ["register"]


def register(app: typer.Typer) -> None:
    """Add the command."""
    command(app)(export)


def export(
    study: Annotated[Path, typer.Argument(help="A study (.batchfx).")],
    folder: Annotated[Path, typer.Argument(help="Folder to write into; made where there is none.")],
    kinds: Annotated[
        list[str] | None,
        typer.Option(
            "--as",
            help="geojson (QuPath), csv, h5ad (scanpy), h5 (TRIDENT), spatialdata, png, ome-tiff or "
            "ome-zarr; may be given several times. geojson, csv and h5ad otherwise.",
        ),
    ] = None,
    with_identifiers: Annotated[
        bool,
        typer.Option(
            "--with-identifiers",
            help="Keep the names of slides and patients; numbers stand for them otherwise.",
        ),
    ] = False,
    as_json: AsJson = False,
) -> None:
    """Write tiles, values, regions and overlays of a study for QuPath, scanpy, TRIDENT and others."""
    from napari_batchfx.study import EXPORTS, Study

    asked = kinds or ["geojson", "csv", "h5ad"]
    for kind in asked:
        if kind not in EXPORTS:
            raise typer.BadParameter(f"{kind}: choose of {', '.join(EXPORTS)}", param_hint="--as")
    with Study.open(study) as work:
        problems = [str(problem) for problem in work.problems]
        done = drive(work.export_job(folder, asked, with_identifiers=with_identifiers))
        with contextlib.suppress(StudyError):  # the step is kept where the study can be written
            work.save()
        problems += [str(problem) for problem in (*done.problems, *work.problems)]
    if as_json:
        said = {"folder": str(folder), "files": [path.name for path in done.files], "slides": done.slides}
        print_json({**said, "problems": list(dict.fromkeys(problems))})
    else:
        for path in done.files:
            out().print(path.name, markup=False)
        if not with_identifiers:
            for name, number in done.slides.items():
                note(f"{number} is {name}; this is said here only, not in the files.")
        note(f"{folder}: {count(len(done.files), 'file')}")
    for problem in dict.fromkeys(problems):
        note(problem)
    if problems:
        raise typer.Exit(PARTIAL if done.files else PROBLEM)
