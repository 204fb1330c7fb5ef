"""``add`` slides to a study, ``run`` it and write its ``report``."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from napari_batchfx.cli._app import PROBLEM, command, count, drive, finish, note, open_or_create, out, wait
from napari_batchfx.cli.tissue import Icc
from napari_batchfx.errors import BatchfxError, StudyError

if TYPE_CHECKING:
    from rich.console import Console

__all__ = ["register"]

StudyPath = Annotated[Path, typer.Argument(help="A study (.batchfx).")]


def register(app: typer.Typer) -> None:
    """Add the commands."""

    @command(app)
    def run(
        study: StudyPath,
        report: Annotated[Path | None, typer.Option(help="Also write the report (.html).")] = None,
        identifiers: Annotated[
            bool, typer.Option("--identifiers", help="Names of slides and patients in the report.")
        ] = False,
    ) -> None:
        """Compute everything a study is set up for, as the viewer does: encode, probe, adapt."""
        from napari_batchfx.study import Study

        console = out()
        with Study.open(study) as work:
            problems = [str(problem) for problem in work.problems]
            done = drive(work.run_job())
            problems += [str(problem) for problem in done.problems]
            console.print(
                f"encoded: {count(done.encode.tiles, 'tile')} ({done.encode.kept:,} there already"
                f"{f', {done.encode.damaged:,} damaged and left out' if done.encode.damaged else ''}), "
                f"{count(len(done.encode.slides), 'slide')}",
                markup=False,
            )
            for said in done.encode.damage_said():
                console.print(said, markup=False)
            if done.probe is not None:
                console.print(f"probe: {done.probe.result.verdict}", markup=False)
                _mind(console, done.probe.result.warnings)
            if done.adapt is not None:
                console.print(f"adapt: {done.adapt.sentence}", markup=False)
                console.print(f"controls: {done.adapt.numbers['diagnostics']['verdict']}", markup=False)
                _mind(console, done.adapt.warnings)
            for what in done.skipped:
                console.print(f"left out: {what}", markup=False)
            _mind(console, work.encoder().warnings)
            # After the results: what was computed is said even where it can't be kept.
            try:
                work.save()
            except StudyError as error:
                problems.append(str(error))
            if report is not None:
                console.print(f"report: {work.report(report, with_identifiers=identifiers)}", markup=False)
            problems += [str(problem) for problem in work.problems]
        for problem in dict.fromkeys(problems):
            note(problem)
        if problems:
            raise typer.Exit(PROBLEM)

    @command(app)
    def add(
        study: Annotated[Path, typer.Argument(help="A study (.batchfx); made where there is none.")],
        slides: Annotated[list[Path], typer.Argument(help="Slide files.")],
        mpp: Annotated[
            float | None, typer.Option(help="Micrometres a pixel, where the files have none.", min=0.001)
        ] = None,
        icc: Icc = None,
    ) -> None:
        """Add slides to a study; one that it knows and whose file has moved is found again."""
        problems = []
        with open_or_create(study) as work:
            for path in slides:
                known = {entry.fingerprint: entry.path for entry in work.slides}
                try:
                    entry = work.add_slide(path, mpp=mpp, icc=icc or "off")
                    if mpp is not None and entry.mpp_given != (mpp, mpp):
                        work.update_slide(entry, mpp=mpp)
                    if icc is not None and entry.icc != icc:
                        work.update_slide(entry, icc=icc)
                except BatchfxError as error:
                    problems.append(str(error))
                    continue
                before = known.get(entry.fingerprint)
                what = (
                    "added" if before is None else "there already" if before == entry.path else "found again"
                )
                out().print(f"{entry.name}: {what}", markup=False)
            work.save()
        finish(problems, len(slides))

    @command(app)
    def report(
        study: StudyPath,
        out_file: Annotated[
            Path | None,
            typer.Option("--out", "-o", help="File to write; NAME.html beside the study otherwise."),
        ] = None,
        identifiers: Annotated[
            bool, typer.Option("--identifiers", help="Names of slides and patients in the report.")
        ] = False,
    ) -> None:
        """Write what a study found as one HTML file that needs nothing else."""
        from napari_batchfx.study import Study

        with Study.open(study) as work:
            path = work.folder.with_suffix(".html") if out_file is None else out_file
            with wait("writing the report"):
                written = work.report(path, with_identifiers=identifiers)
            for problem in work.problems:
                note(str(problem))
        out().print(str(written), markup=False)


def _mind(console: Console, warnings: Sequence[str]) -> None:
    for warning in warnings:
        console.print(f"  Mind: {warning}", markup=False)
