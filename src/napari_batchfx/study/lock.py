"""One window writes a study at a time; the others read it, and know who writes."""

from __future__ import annotations

import contextlib
from pathlib import Path

from napari_batchfx.errors import FeatureError, StudyError
from napari_batchfx.features.locks import SlideLock, read_locks

__all__ = ["StudyBusyError", "StudyLock", "held_by"]

_KEY = "study"


class StudyBusyError(StudyError):
    """Another window or program has the study."""


class StudyLock:
    """The right to write a study's folder.

    A lock says who has it and since when. That of an owner who is gone is taken over: on this machine when
    its process has ended, on another one when it gave no sign of life for three minutes.

    Parameters
    ----------
    folder : Path
        ``NAME.batchfx``.

    Examples
    --------
    >>> Path("s.batchfx").mkdir()
    >>> one, other = StudyLock(Path("s.batchfx")), StudyLock(Path("s.batchfx"))
    >>> one.take()
    >>> other.take()  # doctest: +ELLIPSIS
    Traceback (most recent call last):
    ...
    napari_batchfx.study.lock.StudyBusyError: s.batchfx: read-only here, ... has it open; close it there...
    >>> one.drop()
    >>> other.take()
    >>> other.drop()
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._held: contextlib.ExitStack | None = None

    @property
    def is_held(self) -> bool:
        """Whether it is ours."""
        return self._held is not None

    def take(self) -> None:
        """Have it from now on; nothing happens where it is ours already.

        Raises
        ------
        StudyBusyError
            If another window or program has it.
        StudyError
            If the folder can't be written.
        """
        if self._held is not None:
            return
        held = contextlib.ExitStack()
        try:
            held.enter_context(SlideLock(self.folder, _KEY).hold(_KEY, patience_s=0, job=True))
        except FeatureError as error:
            who = held_by(self.folder) or "another program"
            raise StudyBusyError(
                f"{self.folder.name}: read-only here, {who} has it open; close it there, or save it under "
                "another name."
            ) from error
        except OSError as error:
            raise StudyError(
                f"{self.folder.name}: read-only here, its folder can't be written "
                f"({error.strerror or error}); save it in another place."
            ) from error
        self._held = held

    def drop(self) -> None:
        """Give it back."""
        held, self._held = self._held, None
        if held is not None:
            held.close()


def held_by(folder: Path) -> str | None:
    """Who has a study open now, as ``napari on HOST (process 1234, since 3 min)``; None where nobody has."""
    for lock in read_locks(folder):
        if lock.fingerprint == _KEY and lock.alive:
            return lock.who
    return None
