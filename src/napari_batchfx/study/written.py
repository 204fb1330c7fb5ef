"""Reports, exports and the control set as steps: written down when they are made, made again by ``run``."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from napari_batchfx.errors import StudyError
from napari_batchfx.jobs import Job, Progress
from napari_batchfx.study import files
from napari_batchfx.study.exporting import ExportOutcome, export_job
from napari_batchfx.study.inside import check_inside
from napari_batchfx.study.recording import add_step, made_step
from napari_batchfx.study.reporting import write_study_report
from napari_batchfx.study.step import LeftOut, StepKind, register_step

if TYPE_CHECKING:
    from napari_batchfx.study.bench import Bench

__all__ = [
    "CONTROLS",
    "EXPORT",
    "REPORT",
    "choose_controls_job",
    "exported_job",
    "record_controls",
    "report_job",
    "reported",
]

_REPORT_MARK = b'name="generator" content="napari-batchfx"'
_LOOK = 4096


def reported(study: Bench, path: Path | str, *, with_identifiers: bool = False) -> Path:
    """Write the report of a study and write that down (see :meth:`Study.report`)."""
    written = write_study_report(study, Path(path), with_identifiers=with_identifiers)
    options = {"path": _place(study, written), "with_identifiers": with_identifiers}
    _record(study, REPORT, written, options)
    return written


def exported_job(
    study: Bench, folder: Path | str, kinds: Sequence[str], *, with_identifiers: bool = False
) -> Job[ExportOutcome]:
    """Export a study and write that down (see :meth:`Study.export_job`)."""
    outcome = yield from export_job(study, folder, kinds, with_identifiers=with_identifiers)
    options = {
        "folder": _place(study, outcome.folder),
        "kinds": list(kinds),
        "with_identifiers": with_identifiers,
    }
    _record(study, EXPORT, outcome, options)
    return outcome


def report_job(study: Bench, path: str, with_identifiers: bool = False) -> Job[Path]:
    """Write a recorded report again, with what the study holds now.

    Parameters
    ----------
    study : Study
    path : str
        As it was recorded: seen from the study's folder, or absolute.
    with_identifiers : bool

    Raises
    ------
    StudyError
        If something else is there, or the place is not one that a study of somebody else may write to.
    """
    target = _target(study, path)
    if target.suffix.lower() not in (".html", ".htm"):
        raise StudyError(f"{target.name}: a report ends in .html; write it again under such a name.")
    if not _is_report(target):
        _refuse(study, target, is_taken=os.path.lexists(target), what="report")
    yield Progress(0, 0, "writing the report", "steps")
    return write_study_report(study, target, with_identifiers=bool(with_identifiers))


def repeated_export_job(
    study: Bench, folder: str, kinds: list[str], with_identifiers: bool = False
) -> Job[ExportOutcome]:
    """Write a recorded export again, with what the study holds now.

    Raises
    ------
    StudyError
        As :func:`report_job`: only over an earlier export, or beside the study where nothing is.
    """
    target = _target(study, folder)
    if target.is_symlink() or not (target / "export.json").is_file():
        is_taken = os.path.lexists(target) and (not target.is_dir() or any(target.iterdir()))
        _refuse(study, target, is_taken=is_taken, what="export")
    return (
        yield from export_job(
            study, target, [str(kind) for kind in kinds], with_identifiers=bool(with_identifiers)
        )
    )


def choose_controls_job(study: Bench, file: str = files.CONTROLS_FILE) -> Job[Counter[str]]:
    """Take the control samples of a file in the study's folder as the basket; its own stays as it is.

    Parameters
    ----------
    study : Study
    file : str
        In the study's folder, as :meth:`Study.export_controls` writes it.

    Returns
    -------
    Job
        Returns how many tiles came from where, and of how many slides (``"slides"``).

    Raises
    ------
    StudyError
        If the file lies elsewhere, is gone or is none.
    """
    yield Progress(0, 0, "reading control samples", "steps")
    path = Path(os.path.normpath(study.folder / file))
    if not path.is_relative_to(study.folder):
        raise StudyError(
            f"{study.name}: control samples are taken from the study's own folder; read others with "
            "`controls import`."
        )
    if path != study.folder / files.CONTROLS_FILE:
        from napari_batchfx.study.control_tiles import read_file

        check_inside(path, study.folder)
        study.controls, left = read_file(path, study.slides)
        for said in left:
            study.report_problem(path.name, said)
    return _counted(study)


def record_controls(study: Bench) -> None:
    """Write down which control samples there are, where any is: called by what works with them."""
    found = _counted(study)
    if found["slides"]:
        _record(study, CONTROLS, found, {})


def _counted(study: Bench) -> Counter[str]:
    """Tiles by where they came from, control regions, and slides that have any."""
    counted: Counter[str] = Counter(str(tile.source) for tile in study.controls if tile.is_taken)
    counted["left out"] = sum(not tile.is_taken for tile in study.controls)
    regions = [one for one in study.annotations if one.is_control]
    counted["regions"] = len(regions)
    counted["slides"] = len(
        {tile.slide for tile in study.controls if tile.is_taken} | {one.slide for one in regions}
    )
    return counted


_SOURCES = {
    "suggested": "suggested",
    "class": "of a class",
    "pair": "on the same tissue",
    "clicked": "by hand",
    "file": "from a file",
}


def _controls_said(found: Counter[str]) -> str:
    tiles = sum(found[source] for source in _SOURCES)
    said = [f"{found[source]:,} {words}" for source, words in _SOURCES.items() if found[source]]
    parts = [f"{_n(tiles, 'tile')} ({', '.join(said)})"] if tiles else []
    parts += [_n(found["regions"], "region") + " drawn"] if found["regions"] else []
    left = f"; {_n(found['left out'], 'tile')} taken out" if found["left out"] else ""
    return f"{' and '.join(parts) or 'none'} on {_n(found['slides'], 'slide')}{left}."


def _n(n: int, what: str) -> str:
    return f"{n:,} {what}" + ("" if n == 1 else "s")


def _export_said(outcome: ExportOutcome) -> str:
    failed = f"; {len(outcome.problems):,} could not be written" if outcome.problems else ""
    return f"{_n(len(outcome.files), 'file')} in {outcome.folder.name}{failed}."


_IMPORT = "from napari_batchfx.study import written"
REPORT = register_step(
    StepKind(
        "report",
        "Report",
        (),
        needs_tiles=False,
        said=lambda path: f"{path.name}.",
        job=report_job,
        call="written.report_job(study, {options})",
        imports=_IMPORT,
        comes_last=True,
    )
)
EXPORT = register_step(
    StepKind(
        "export",
        "Export",
        (),
        needs_tiles=False,
        said=_export_said,
        job=repeated_export_job,
        call="written.repeated_export_job(study, {options})",
        imports=_IMPORT,
        comes_last=True,
    )
)
CONTROLS = register_step(
    StepKind(
        "controls",
        "Control samples",
        (),
        needs_tiles=False,
        said=_controls_said,
        job=choose_controls_job,
        call="written.choose_controls_job(study, {options})",
        imports=_IMPORT,
    )
)


def _record(study: Bench, kind: StepKind, outcome: Any, options: dict[str, Any]) -> None:
    if not study.is_repeating:
        add_step(study, made_step(study, kind.name, outcome, study.settings, options))


def _place(study: Bench, path: Path) -> str:
    """Where something was written, as seen from the study where it is in or beside its folder."""
    folder = study.folder.absolute()
    is_near = path.is_relative_to(folder.parent) and not getattr(study, "is_temporary", False)
    return files.relative_path(path, folder) if is_near else path.as_posix()


def _target(study: Bench, said: str) -> Path:
    return Path(os.path.normpath(study.folder.absolute() / str(said)))


def _is_report(path: Path) -> bool:
    if path.is_symlink() or not path.is_file():
        return False
    with path.open("rb") as file:
        return _REPORT_MARK in file.read(_LOOK)


def _refuse(study: Bench, target: Path, *, is_taken: bool, what: str) -> None:
    """Steps of somebody else's study must not write over, or somewhere among, what is here."""
    folder = study.folder.absolute()
    if is_taken:
        raise LeftOut(f"{target.name}: there is something that is no {what} of this program; move it away.")
    if not (target.is_relative_to(folder) or target.parent == folder.parent):
        raise LeftOut(
            f"{target.name}: the {what} of before is gone from {target.parent.name or 'its folder'}, and "
            f"`run` begins none away from the study; write it with `napari-batchfx {what}`."
        )
