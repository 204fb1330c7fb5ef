"""Slides of a study laid on each other, and taken back."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING, Literal

import numpy as np
from numpy.typing import NDArray

from napari_batchfx.errors import BatchfxError, StudyError
from napari_batchfx.jobs import Job, Progress
from napari_batchfx.study.entries import IDENTITY, AlignmentRecord, SlideEntry

if TYPE_CHECKING:
    from napari_batchfx.slides import Alignment
    from napari_batchfx.study.bench import Bench
    from napari_batchfx.study.entries import Affine
    from napari_batchfx.study.shelf import Shelf

__all__ = [
    "align_job",
    "alignment_of",
    "forget_reference",
    "lying_on",
    "rename_reference",
    "root_of",
    "set_alignment",
    "undo_alignment",
    "undo_alignments",
]

Matrix = NDArray[np.float64]


def align_job(
    study: Bench,
    reference: SlideEntry | str,
    others: Sequence[SlideEntry | str] | None = None,
    model: Literal["translation", "similarity", "affine"] = "similarity",
    *,
    mirror: bool = True,
    apply: bool = True,
) -> Job[dict[str, Alignment]]:
    """Register slides onto a reference and, once all are done, keep it in the study.

    Parameters
    ----------
    study : Study
    reference : SlideEntry or str
        The slide the others are moved onto; it may itself be aligned onto another one.
    others : sequence of SlideEntry or str, optional
        All other slides where none are named.
    model : {"similarity", "translation", "affine"}
        See :func:`napari_batchfx.slides.register`.
    mirror : bool
        Whether a slide may show the tissue from its other side.
    apply : bool
        Whether the slides are laid in the study; else the caller does it with :func:`set_alignment`.

    Returns
    -------
    Job
        Returns an :class:`~napari_batchfx.slides.Alignment` for each slide, by name. "good" and "uncertain"
        ones are set (:func:`undo_alignment` takes them back), a failed one moves nothing. A slide that can't
        be read is reported in ``study.problems`` and left out. A job that is left before its end changes
        nothing.

    Raises
    ------
    SlideError, StudyError
        If none of the slides can be read.
    """
    from napari_batchfx.slides import register_job

    base = study.slide(reference)
    entries = (
        [e for e in study.slides if e is not base] if others is None else [study.slide(o) for o in others]
    )
    entries = [
        entry
        for number, entry in enumerate(entries)
        if entry is not base and all(entry is not other for other in entries[:number])
    ]
    total = 100 * len(entries)
    seen: list[tuple[SlideEntry, Alignment]] = []
    failures: list[BatchfxError | OSError] = []
    yield Progress(0, total, "aligning", "steps")
    for number, entry in enumerate(entries):
        try:
            _refuse_circle(study, base, entry)
            job = register_job(study.open_slide(base), study.open_slide(entry), model=model, mirror=mirror)
            try:
                while True:
                    step = next(job)
                    yield Progress(100 * number + step.done, total, f"aligning {entry.name}", "steps")
            except StopIteration as stop:
                alignment: Alignment = stop.value
            finally:
                job.close()
            seen.append((entry, alignment))
        except (BatchfxError, OSError) as error:
            failures.append(error)
            study.report_problem(entry.name, error)
        yield Progress(100 * (number + 1), total, f"aligning {entry.name}", "steps")
    if apply:
        for entry, alignment in seen:
            if alignment.verdict != "failed":
                set_alignment(study, base, entry, alignment)
    if failures and not seen:
        raise failures[0]
    return {entry.name: alignment for entry, alignment in seen}


def set_alignment(
    study: Bench, reference: SlideEntry | str, entry: SlideEntry | str, alignment: Alignment
) -> SlideEntry:
    """Lay a slide on a reference; slides aligned onto it move along.

    Parameters
    ----------
    study : Study
    reference, entry : SlideEntry or str
        The slide laid on, and the one that is moved.
    alignment : Alignment
        The entry's micrometres to the reference's: found, by hand, or from a file.

    Returns
    -------
    SlideEntry
        With ``affine_um`` and ``alignment`` set; what they were is kept in ``earlier_affines``.

    Raises
    ------
    StudyError
        If the alignment failed, or the reference is itself aligned onto the entry.
    """
    base, entry = study.slide(reference), study.slide(entry)
    if alignment.verdict == "failed":
        raise StudyError(f"{entry.name}: no alignment onto {base.name} was found, nothing is moved.")
    _refuse_circle(study, base, entry)
    record = AlignmentRecord(
        reference=base.name,
        method=alignment.method,
        model=alignment.model,
        residual_um=None if math.isnan(alignment.residual_um) else alignment.residual_um,
        correlation=0.0 if math.isnan(alignment.correlation) else alignment.correlation,
        verdict=alignment.verdict,
        n_windows=alignment.n_windows,
    )
    entry.earlier_affines = [*entry.earlier_affines, (entry.affine_um, entry.alignment)]
    _move(study, entry, _affine(np.asarray(base.affine_um, dtype=float) @ alignment.affine_um), record)
    return entry


def alignment_of(study: Bench, entry: SlideEntry | str) -> Alignment:
    """How a slide lies on the slide that it was aligned onto.

    Parameters
    ----------
    study : Study
    entry : SlideEntry or str

    Returns
    -------
    Alignment
        The entry's micrometres to the reference's, with what was measured of it.

    Raises
    ------
    StudyError
        If the slide isn't aligned onto one of the study.
    """
    from napari_batchfx.slides import Alignment

    entry = study.slide(entry)
    record = entry.alignment
    if record is None:
        raise StudyError(f"{entry.name}: it isn't aligned onto another slide.")
    base = np.asarray(study.slide(record.reference).affine_um, dtype=float)
    return Alignment(
        np.linalg.inv(base) @ np.asarray(entry.affine_um, dtype=float),
        math.nan if record.residual_um is None else record.residual_um,
        record.correlation,
        record.verdict,
        record.n_windows,
        record.model,
        record.method,
    )


def undo_alignment(study: Bench, entry: SlideEntry | str) -> bool:
    """Take the last alignment of a slide back; slides aligned onto it move along.

    Returns
    -------
    bool
        Whether there was something to take back.

    Raises
    ------
    StudyError
        If the slide that it lay on before is aligned onto it now.
    """
    entry = study.slide(entry)
    if entry.earlier_affines:
        *before, (affine, record) = entry.earlier_affines
        base = None if record is None else _named(study, record.reference)
        if base is None:
            record = None
        elif _leads_to(study, base, entry):
            raise StudyError(
                f"{entry.name}: it lay on {base.name}, which is aligned onto it now; take the alignment of "
                f"{base.name} back first."
            )
        entry.earlier_affines = before
    elif entry.is_aligned or entry.alignment is not None:
        affine, record = IDENTITY, None
    else:
        return False
    _move(study, entry, affine, record)
    return True


def undo_alignments(study: Bench, entries: Sequence[SlideEntry]) -> tuple[list[SlideEntry], list[StudyError]]:
    """Take the last alignment of each slide back, those first that others wait for.

    Returns
    -------
    undone : list of SlideEntry
        In the order given.
    refused : list of StudyError
        Why :func:`undo_alignment` refused the others that had one.
    """
    undone: list[SlideEntry] = []
    waiting = list(entries)
    while True:
        refused: list[tuple[SlideEntry, StudyError]] = []
        for entry in waiting:
            try:
                if undo_alignment(study, entry):
                    undone.append(entry)
            except StudyError as error:
                refused.append((entry, error))
        if not refused or len(refused) == len(waiting):
            break
        waiting = [entry for entry, _ in refused]
    return [entry for entry in entries if any(entry is one for one in undone)], [e for _, e in refused]


def root_of(study: Bench, entry: SlideEntry) -> SlideEntry | None:
    """The slide that an entry lies on in the end; None where it, or one between, isn't aligned well."""
    if entry.alignment is None:  # most slides, and the names of all take long where there are thousands
        return None
    names = {other.name: other for other in study.slides}
    here, seen = entry, {entry.name}
    while here.alignment is not None:
        if here.alignment.verdict != "good" or here.alignment.reference not in names:
            return None
        here = names[here.alignment.reference]
        if here.name in seen:
            return None
        seen.add(here.name)
    return None if here is entry else here


def lying_on(study: Shelf, entry: SlideEntry) -> list[SlideEntry]:
    """The slides aligned onto an entry, directly or over others; each once, whatever the records say."""
    found: list[SlideEntry] = []
    names = {entry.name}
    while more := [
        other
        for other in study.slides
        if other.name not in names and other.alignment is not None and other.alignment.reference in names
    ]:
        found += more
        names |= {other.name for other in more}
    return found


def _named(study: Shelf, name: str) -> SlideEntry | None:
    return next((entry for entry in study.slides if entry.name == name), None)


def _leads_to(study: Shelf, base: SlideEntry, entry: SlideEntry) -> bool:
    """Whether a slide is an entry, or lies on it, directly or over others."""
    return base is entry or any(base is other for other in lying_on(study, entry))


def _refuse_circle(study: Bench, base: SlideEntry, entry: SlideEntry) -> None:
    if base is entry:
        raise StudyError(f"{entry.name}: a slide can't be aligned onto itself.")
    if _leads_to(study, base, entry):
        raise StudyError(
            f"{entry.name}: {base.name} is aligned onto it; undo that before you align the other way round."
        )


def _move(study: Bench, entry: SlideEntry, affine: Affine, record: AlignmentRecord | None) -> None:
    """Set an entry's place; those aligned onto it, and their history, keep their place on it."""
    change = np.asarray(affine, dtype=float) @ np.linalg.inv(np.asarray(entry.affine_um, dtype=float))
    followers = lying_on(study, entry)
    moved = {entry.name, *(other.name for other in followers)}
    entry.affine_um, entry.alignment = affine, record
    for other in followers:
        other.affine_um = _affine(change @ np.asarray(other.affine_um, dtype=float))
    for other in study.slides:
        other.earlier_affines = [
            (_affine(change @ old), told) if told is not None and told.reference in moved else (old, told)
            for old, told in other.earlier_affines
        ]


def _affine(matrix: Matrix) -> Affine:
    (a, b, c), (d, e, f), _ = ((float(v) for v in row) for row in np.asarray(matrix, dtype=float))
    return ((a, b, c), (d, e, f), (0.0, 0.0, 1.0))


def rename_reference(entry: SlideEntry, old: str, new: str) -> None:
    """Let an entry's alignments follow a reference that gets another name."""

    def renamed(record: AlignmentRecord | None) -> AlignmentRecord | None:
        if record is None or record.reference != old:
            return record
        return record.model_copy(update={"reference": new})

    entry.alignment = renamed(entry.alignment)
    entry.earlier_affines = [(affine, renamed(record)) for affine, record in entry.earlier_affines]


def forget_reference(study: Shelf, name: str) -> None:
    """Let alignments onto a slide that left the study go: a name says nothing of the next slide called so.

    What lay on it stays where it is, aligned onto nothing, and :func:`undo_alignment` still takes it back to
    what was before.
    """
    for entry in study.slides:
        if entry.alignment is not None and entry.alignment.reference == name:
            entry.alignment = None
        entry.earlier_affines = [
            (affine, record)
            for affine, record in entry.earlier_affines
            if record is None or record.reference != name
        ]
