"""Slides and what is known of them from a CSV: wrong rows are listed, the rest loads."""

from __future__ import annotations

import csv
import io
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from napari_batchfx.errors import BatchfxError, StudyError
from napari_batchfx.jobs import Job, Ticker
from napari_batchfx.study.inside import MAX_BYTES

if TYPE_CHECKING:
    from napari_batchfx.study.shelf import Shelf

__all__ = ["RowProblem", "SheetOutcome", "SheetRow", "add_sheet_job", "read_sheet"]

_META: Final = ("patient", "site", "scanner", "stain", "label")
_KNOWN: Final = ("path", "name", *_META, "mpp", "icc")
#: Other words for a column, lower case.
_ALSO: Final = {
    "file": "path",
    "filename": "path",
    "file_name": "path",
    "slide_path": "path",
    "slide": "name",
    "slide_name": "name",
    "patient_id": "patient",
    "hospital": "site",
    "center": "site",
    "centre": "site",
    "class": "label",
    "um_per_px": "mpp",
}
_MAX_ROWS: Final = 1_000_000
_MAX_TEXT: Final = 10_000


@dataclass(frozen=True)
class RowProblem:
    """A row that was left out.

    Parameters
    ----------
    line : int
        Line of the file, 1 = the header.
    text : str
        What is wrong and what to do.
    """

    line: int
    text: str

    def __str__(self) -> str:
        return f"line {self.line}: {self.text}"


@dataclass(frozen=True)
class SheetRow:
    """A row that can be used.

    Parameters
    ----------
    line : int
        Line of the file, 1 = the header.
    path : Path
        Absolute; relative paths are taken from the CSV's folder.
    meta : dict of str to str
        ``patient``, ``site``, ``scanner``, ``stain``, ``label``; only what the row says.
    name : str
        Empty = the file's own.
    mpp : float or None
        Micrometres a pixel.
    icc : str
        "off", "auto", "on", or empty.
    more : dict of str to str
        Further columns.
    """

    line: int
    path: Path
    meta: dict[str, str] = field(default_factory=dict)
    name: str = ""
    mpp: float | None = None
    icc: str = ""
    more: dict[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class SheetOutcome:
    """What became of a CSV.

    Parameters
    ----------
    added, known : tuple of str
        Names of slides that are new in the study, and of those it had (their columns are updated).
    problems : tuple of RowProblem
        Rows that were left out.
    """

    added: tuple[str, ...]
    known: tuple[str, ...]
    problems: tuple[RowProblem, ...]


def read_sheet(path: Path | str) -> tuple[list[SheetRow], list[RowProblem]]:
    r"""Read a CSV of slides: ``path`` and any of ``name, patient, site, scanner, stain, label, mpp, icc``.

    Comma, semicolon or tab; a header in any case and order; UTF-8, with or without a mark at the start. Other
    columns are kept with the slide. No slide is opened here.

    Parameters
    ----------
    path : path

    Returns
    -------
    rows : list of SheetRow
    problems : list of RowProblem
        Rows that can't be used, with their line.

    Raises
    ------
    StudyError
        If it is no such table at all.

    Examples
    --------
    >>> text = "path;site\nA.tif;AMC\n;UMC\n"
    >>> _ = Path("A.tif").write_bytes(b""), Path("slides.csv").write_text(text)
    >>> rows, problems = read_sheet("slides.csv")
    >>> rows[0].meta, str(problems[0])
    ({'site': 'AMC'}, 'line 3: there is no path; write the file of the slide.')
    """
    path = Path(path).expanduser().absolute()
    reader = _reader(path)
    try:
        header: list[str] = next(reader, [])
    except csv.Error as error:
        raise StudyError(f"{path.name}: it can't be read as a table ({error}); save it as CSV.") from error
    columns = [_column(text) for text in header]
    if "path" not in columns:
        raise StudyError(
            f"{path.name}: it has no column path; its first line must name the columns: "
            f"{', '.join(_KNOWN[:7])} and any others."
        )
    doubled = [name for name in columns if name and columns.count(name) > 1]
    if doubled:
        raise StudyError(f"{path.name}: the column {doubled[0]} is there twice; keep one.")
    rows: list[SheetRow] = []
    problems: list[RowProblem] = []
    seen: dict[Path, int] = {}
    while True:
        line = reader.line_num + 1
        try:
            cells = next(reader, None)
            if cells is None:
                break
            if not any(cell.strip() for cell in cells):
                continue
            row = _row(line, columns, cells, path.parent)
            if row.path in seen:
                raise StudyError(f"{row.path.name} is in line {seen[row.path]} already; keep one of them.")
            seen[row.path] = line
            rows.append(row)
        except (StudyError, csv.Error) as error:
            problems.append(RowProblem(line, str(error)))
        if len(rows) + len(problems) > _MAX_ROWS:
            raise StudyError(f"{path.name}: it has more than {_MAX_ROWS:,} rows; split it.")
    if not rows and not problems:
        raise StudyError(f"{path.name}: it has a header and no slides.")
    return rows, problems


def add_sheet_job(study: Shelf, path: Path | str, *, icc: str = "off") -> Job[SheetOutcome]:
    r"""Add the slides of a CSV to a study; a slide that it has gets the columns that the row fills.

    Parameters
    ----------
    study : Study
    path : path
        See :func:`read_sheet`.
    icc : {"off", "auto", "on"}
        Colour profile where the row says none.

    Returns
    -------
    Job
        Returns a :class:`SheetOutcome`; a row that fails is listed with its line, the rest is added.

    Examples
    --------
    >>> import numpy as np
    >>> from napari_batchfx import Study
    >>> from napari_batchfx.jobs import run
    >>> from napari_batchfx.slides import write_pyramid
    >>> _ = write_pyramid("A.tif", np.full((64, 64, 3), 200, np.uint8), mpp=0.5, compression="deflate")
    >>> _ = Path("slides.csv").write_text("path,site\nA.tif,AMC\nB.tif,UMC\n")
    >>> with Study.create() as study:
    ...     outcome = run(add_sheet_job(study, "slides.csv"))
    >>> outcome.added, [str(problem) for problem in outcome.problems]
    (('A',), ['line 3: B.tif: there is no such file; correct the path.'])
    """
    path = Path(path)
    rows, problems = read_sheet(path)
    added, known = [], []
    ticker = Ticker(len(rows), f"adding the slides of {path.name}", "slides")
    for row in rows:
        before = {entry.fingerprint for entry in study.slides}
        try:
            entry = study.add_slide(
                row.path, mpp=row.mpp, name=row.name or None, icc=row.icc or icc, **row.meta
            )
            if entry.fingerprint in before:
                study.update_slide(
                    entry,
                    name=row.name or None,
                    mpp=row.mpp if entry.mpp_given != _pair(row.mpp) else None,
                    icc=row.icc if row.icc and row.icc != entry.icc else None,
                    **row.meta,
                )
                known.append(entry.name)
            else:
                added.append(entry.name)
            entry.more = {**entry.more, **row.more}
            if entry.fingerprint not in before:
                study.tidy(entry)
        except (BatchfxError, OSError) as error:
            problems.append(RowProblem(row.line, str(error)))
        yield ticker.tick()
    return SheetOutcome(tuple(added), tuple(known), tuple(sorted(problems, key=lambda one: one.line)))


def _reader(path: Path) -> Any:
    try:
        if path.stat().st_size > MAX_BYTES:
            raise StudyError(
                f"{path.name}: it has {path.stat().st_size / 1e6:,.0f} MB; a list of slides is smaller."
            )
        text = path.read_bytes().decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise StudyError(f"{path.name}: it isn't UTF-8 text; save it as CSV UTF-8.") from error
    except OSError as error:
        raise StudyError(f"{path.name}: it can't be read ({error.strerror or error}).") from error
    if "\0" in text:
        raise StudyError(f"{path.name}: it is no text; save it as CSV UTF-8.")
    first = text.split("\n", 1)[0]
    delimiter = max(",;\t", key=first.count)
    return csv.reader(io.StringIO(text, newline=""), delimiter=delimiter, strict=True)


def _column(text: str) -> str:
    name = "_".join(text.strip().lower().split())
    return _ALSO.get(name, name)


def _row(line: int, columns: Sequence[str], cells: Sequence[str], folder: Path) -> SheetRow:
    if len(cells) > len(columns) and any(cell.strip() for cell in cells[len(columns) :]):
        raise StudyError(
            f"it has {len(cells)} cells and the header {len(columns)}; put texts with a comma in quotes."
        )
    values = {name: cell.strip() for name, cell in zip(columns, cells, strict=False) if name}
    if long := [name for name, value in values.items() if len(value) > _MAX_TEXT]:
        raise StudyError(f"{long[0]} has more than {_MAX_TEXT:,} characters; a quote may be missing.")
    if not values.get("path"):
        raise StudyError("there is no path; write the file of the slide.")
    try:
        at = Path(values["path"]).expanduser()
        at = at if at.is_absolute() else folder / at
        exists = at.exists()
    except (OSError, ValueError, RuntimeError):
        exists = False
    if not exists:
        raise StudyError(f"{Path(values['path']).name}: there is no such file; correct the path.")
    mpp = None
    if values.get("mpp"):
        try:
            mpp = float(values["mpp"].replace(",", "."))
        except ValueError:
            mpp = -1.0
        if not 0.01 <= mpp <= 100:
            raise StudyError(f"mpp is {values['mpp'][:30]!r}; write micrometres a pixel, such as 0.25.")
    icc = values.get("icc", "").lower()
    if icc not in ("", "off", "auto", "on"):
        raise StudyError(f"icc is {icc[:30]!r}; write off, auto or on.")
    meta = {key: values[key] for key in _META if values.get(key)}
    more = {key: value for key, value in values.items() if key not in _KNOWN and value}
    return SheetRow(line, at, meta, values.get("name", ""), mpp, icc, more)


def _pair(mpp: float | None) -> tuple[float, float] | None:
    return None if mpp is None else (mpp, mpp)
