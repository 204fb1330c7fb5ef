"""``add`` slides to a study, and write its ``report``."""

from __future__ import annotations

import contextlib
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from napari_batchfx.cli._app import (
    PARTIAL,
    AsJson,
    command,
    count,
    drive,
    fail,
    finish,
    note,
    open_or_create,
    out,
    print_json,
    wait,
)
from napari_batchfx.cli.tissue import Icc
from napari_batchfx.errors import BatchfxError, StudyError
from napari_batchfx.jobs import Job, Ticker

if TYPE_CHECKING:
    from napari_batchfx.study import Study

__all__ = ["Added", "add_job", "is_sheet", "register"]

#: More slides than these are counted, not named.
_LISTED = 40

StudyPath = Annotated[Path, typer.Argument(help="A study (.batchfx).")]


def register(app: typer.Typer) -> None:
    """Add the commands."""

    @command(app)
    def add(
        study: Annotated[Path, typer.Argument(help="A study (.batchfx); made where there is none.")],
        slides: Annotated[
            list[Path],
            typer.Argument(help="Slide files, or a CSV: path, patient, site, scanner, stain, label, ..."),
        ],
        mpp: Annotated[
            float | None, typer.Option(help="Micrometres a pixel, where the files have none.", min=0.001)
        ] = None,
        own_mpp: Annotated[
            bool, typer.Option("--own-mpp", help="Go back to the pixel size that the file itself states.")
        ] = False,
        icc: Icc = None,
        as_json: AsJson = False,
    ) -> None:
        """Add slides to a study; one that it knows and whose file has moved is found again."""
        from napari_batchfx.study.autosave import autosaving

        if own_mpp and mpp is not None:
            raise fail("--mpp gives a pixel size and --own-mpp takes it back; leave one of them out.")
        with open_or_create(study) as work:
            work.claim()
            wanted: float | Literal["file"] | None = "file" if own_mpp else mpp
            found = drive(autosaving(work, add_job(work, slides, mpp=wanted, icc=icc)))
            work.save()
        if as_json:
            print_json({"slides": found.said, "problems": found.problems})
        elif len(found.said) <= _LISTED:
            for name, what in found.said.items():
                out().print(f"{name}: {what}", markup=False)
        else:
            for what in dict.fromkeys(found.said.values()):
                n = sum(one == what for one in found.said.values())
                out().print(f"{count(n, 'slide')}: {what}", markup=False)
        finish(found.problems, len(found.said) + len(found.problems))

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
        as_json: AsJson = False,
    ) -> None:
        """Write what a study found as one HTML file that needs nothing else."""
        from napari_batchfx.study import Study

        with Study.open(study) as work:
            path = work.folder.with_suffix(".html") if out_file is None else out_file
            with wait("writing the report"):
                written = work.report(path, with_identifiers=identifiers)
            with contextlib.suppress(StudyError):  # the step is kept where the study can be written
                work.save()
            problems = list(dict.fromkeys(str(problem) for problem in work.problems))
        if as_json:
            print_json({"report": str(written), "bytes": written.stat().st_size, "problems": problems})
        else:
            out().print(str(written), markup=False)
        for problem in problems:
            note(problem)
        if problems:  # it is written, without what they name
            raise typer.Exit(PARTIAL)


@dataclass
class Added:
    """What became of files that were added."""

    said: dict[str, str] = field(default_factory=dict)
    problems: list[str] = field(default_factory=list)


def add_job(
    study: Study, paths: Sequence[Path], *, mpp: float | Literal["file"] | None, icc: str | None
) -> Job[Added]:
    """Add slide files, and those that CSV files list; each that can't be added is a sentence."""
    from napari_batchfx.study import add_sheet_job

    found = Added()
    ticker = Ticker(len(paths), "adding slides", "slides")
    for path in paths:
        try:
            if is_sheet(path):
                rows = yield from add_sheet_job(study, path, icc=icc or "off")
                found.said |= dict.fromkeys(rows.added, "added") | dict.fromkeys(rows.known, "there already")
                found.problems += [f"{path.name}, {problem}" for problem in rows.problems]
            else:
                known = {entry.fingerprint: entry.path for entry in study.slides}
                entry = study.add_slide(path, mpp=None if mpp == "file" else mpp, icc=icc or "off")
                if mpp == "file":
                    if entry.mpp_given is not None:
                        study.update_slide(entry, mpp=mpp)
                elif mpp is not None and entry.mpp_given != (mpp, mpp):
                    study.update_slide(entry, mpp=mpp)
                if icc is not None and entry.icc != icc:
                    study.update_slide(entry, icc=icc)
                before = known.get(entry.fingerprint)
                found.said[entry.name] = (
                    "added" if before is None else "there already" if before == entry.path else "found again"
                )
                study.tidy(entry)
        except BatchfxError as error:
            found.problems.append(str(error))
        yield ticker.tick()
    return found


def is_sheet(path: Path) -> bool:
    """Whether a path is a list of slides and no slide."""
    return path.suffix.lower() in (".csv", ".tsv")
