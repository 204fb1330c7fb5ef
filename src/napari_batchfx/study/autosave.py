"""Saving while work goes on, so that a crash loses next to nothing."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Final, TypeVar

from napari_batchfx.errors import StudyError
from napari_batchfx.jobs import Job

if TYPE_CHECKING:
    from napari_batchfx.study.study import Study

__all__ = ["EVERY_S", "autosaving"]

T = TypeVar("T")

#: How often, in seconds, a study that changed is saved; a crash loses nothing older than twice this.
EVERY_S: Final = 10.0


def autosaving(study: Study, job: Job[T], every_s: float = EVERY_S) -> Job[T]:
    """Drive a job and save its study now and then, and at the end; where it can't be saved the job goes on.

    Parameters
    ----------
    study : Study
    job : generator
    every_s : float
        Seconds between two looks whether something changed.

    Returns
    -------
    Job
        The same job. What could not be saved is in ``study.problems``.
    """
    saved = time.monotonic()
    try:
        while True:
            progress = next(job)
            if time.monotonic() - saved >= every_s:
                _save(study)
                saved = time.monotonic()
            yield progress
    except StopIteration as stop:
        result: T = stop.value
        return result
    finally:
        job.close()
        _save(study)


def _save(study: Study) -> None:
    try:
        write = study.autosave()
        if write is not None:
            write()
    except StudyError as error:
        study.report_problem(study.name, error)
