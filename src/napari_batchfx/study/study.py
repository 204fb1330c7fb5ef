"""The study: slides, labels, choices and results of one piece of work, in one folder."""

from __future__ import annotations

import contextlib
import shutil
import tempfile
import weakref
from collections.abc import Callable
from pathlib import Path
from typing import Self

from napari_batchfx.errors import StudyError
from napari_batchfx.study import files
from napari_batchfx.study.annotations import from_geojson
from napari_batchfx.study.control_bench import ControlBench
from napari_batchfx.study.control_tiles import read_file, to_csv
from napari_batchfx.study.inside import MAX_BYTES
from napari_batchfx.study.lock import StudyLock, held_by
from napari_batchfx.study.problems import Problem
from napari_batchfx.study.results import Results
from napari_batchfx.study.snapshot import Saved, Snapshot

__all__ = ["Study"]


class Study(ControlBench):
    """Slides, labels, choices and results of one piece of work.

    Made by :meth:`create` or :meth:`open`. Nothing is written until :meth:`save`, except features (as they
    are computed) and
    results (when a job is done).

    Attributes
    ----------
    name : str
    folder : Path
        ``NAME.batchfx``; a temporary folder until :meth:`save_as`.
    slides : list of SlideEntry
        In the order they were added. Use :meth:`add_slide`, :meth:`update_slide`, :meth:`remove_slide` to
        change it.
    settings : Settings
        ``settings.encode``, ``.probe``, ``.stain``, ``.adapt``.
    annotations : list of Annotation
        Regions in the order they were drawn.
    controls : list of ControlTile
        The basket: control samples put in or taken out tile by tile (:meth:`put_controls`).
    results : Results
        What the jobs found: ``results.probe`` and ``results.adapt`` last, ``results.probes`` and
        ``results.adaptations`` side by side.
    steps : list of Step
        What was done, in order; :meth:`run` does it again.
    problems : list of Problem
        What went wrong with single slides since the study was opened.

    Examples
    --------
    >>> from napari_batchfx.study import Study
    >>> with Study.create(name="lymph nodes") as study:
    ...     study.settings.probe.batch = "site"
    ...     len(study.slides)
    0
    """

    def __init__(self, folder: Path, model: files.StudyModel, *, temporary: bool = False) -> None:
        super().__init__(model.name, list(model.slides), model.settings, folder)
        self.steps = list(model.steps)
        for number, step in enumerate(self.steps, start=1):
            step.bind(folder, number)
        self.is_temporary = temporary
        self.is_closed = False
        self._own = StudyLock(folder)
        self._saved = Saved()
        # A study that is thrown away without close() must not stay locked.
        self._unlock = weakref.finalize(self, self._own.drop)

    # ---------------------------------------------------------------- the folder

    @classmethod
    def create(
        cls, path: Path | str | None = None, *, name: str | None = None, unsaved_in: Path | None = None
    ) -> Self:
        """Make a new, empty study.

        Parameters
        ----------
        path : path, optional
            Folder to make (``.batchfx`` is added where it is missing). ``None`` = a temporary folder, gone
            at :meth:`close`
            unless :meth:`save_as` was called.
        name : str, optional
            Name shown to the user; the folder's name otherwise.
        unsaved_in : Path, optional
            Where a temporary folder is made, so that it is found again after a crash.

        Raises
        ------
        StudyError
            If the folder exists and isn't empty, or can't be made.
        """
        if path is None:
            if unsaved_in is not None:
                unsaved_in.mkdir(parents=True, exist_ok=True)
            folder = Path(tempfile.mkdtemp(prefix="study-", suffix=files.SUFFIX, dir=unsaved_in))
            return cls(folder, files.StudyModel(name=name or "untitled"), temporary=True)
        folder = files.study_folder(path)
        files.refuse_used(folder)
        try:
            folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise StudyError(
                f"{folder.name}: the study can't be made there ({error.strerror}); choose another place."
            ) from error
        study = cls(folder, files.StudyModel(name=name or folder.stem))
        study.save()
        return study

    @classmethod
    def open(cls, path: Path | str) -> Self:
        """Open a study from its folder (with or without ``.batchfx``) or its ``study.json``.

        A slide that is gone or changed is reported in :attr:`problems`; everything else opens.

        Raises
        ------
        StudyError
            If the folder is no study, comes from a newer version, or its main file is damaged.
        """
        folder = Path(path).expanduser().absolute()
        if folder.name == files.STUDY_FILE:
            folder = folder.parent
        if not folder.exists() and files.study_folder(folder).exists():
            folder = files.study_folder(folder)
        study = cls(folder, files.read_study(folder))
        study._saved.look(folder)
        study._read_annotations()
        study._read_controls()
        study.results, broken = Results.read(folder / files.RESULTS_FOLDER)
        study.problems += broken
        for entry in study.slides:
            study._find_file(entry)
        return study

    def claim(self) -> None:
        """Have the right to write the study, until :meth:`close`; :meth:`save` and jobs ask for it.

        Raises
        ------
        StudyBusyError
            If another window or program has the study open and works on it.
        StudyError
            If the folder can't be written, or another program saved the study since it was opened here.
        """
        if self._own.is_held or (self.is_temporary and not self.folder.exists()):
            return
        self._own.take()
        if self._saved.is_outdated(self.folder):
            self._own.drop()
            raise StudyError(
                f"{self.folder.name}: another program has saved the study since it was opened here; open it "
                "again, or save this one under another name."
            )

    @property
    def read_only_because(self) -> str:
        """Why nothing can be saved here, in a sentence; empty where it can."""
        try:
            self.claim()
        except StudyError as error:
            return str(error)
        return ""

    def save(self) -> None:
        """Write the study to its folder; every file whole or not at all.

        Raises
        ------
        StudyError
            If the folder can't be written, or another window has the study.
        """
        if not self.folder.is_dir():
            self._own.drop()
            with contextlib.suppress(OSError):
                self.folder.mkdir(parents=True, exist_ok=True)
        self.claim()
        self._snapshot().write()

    def autosave(self) -> Callable[[], None] | None:
        """What has to be written now, as a function for another thread; None where nothing has changed.

        Steps, slides, settings and regions are as they are at this moment. Cheap where nothing changed.

        Raises
        ------
        StudyError
            If another window has the study.
        """
        if self.is_closed:
            return None
        snapshot = self._snapshot()
        if self._saved.has(snapshot):
            return None
        self.claim()
        return snapshot.write

    def _snapshot(self) -> Snapshot:
        model = files.StudyModel(name=self.name, slides=self.slides, settings=self.settings, steps=self.steps)
        data = files.study_data(self.folder, model)
        basket = to_csv(self.controls, self.slides, with_identifiers=True) if self.controls else ""
        return Snapshot(self.folder, data, tuple(self.annotations), basket, self.results, self._saved)

    def save_as(self, path: Path | str, *, overwrite: bool = False) -> Path:
        """Save the study, with its features and results, in another folder and go on there.

        Parameters
        ----------
        path : path
            Folder to make (``.batchfx`` is added where it is missing).
        overwrite : bool
            Whether another study at that place is replaced.

        Returns
        -------
        Path
            The folder.

        Raises
        ------
        StudyError
            If something is there already and ``overwrite`` is false, a job is running, or the folder can't be
            written.
        """
        folder = files.study_folder(path)
        if folder == self.folder:
            self.save()
            return folder
        if self.is_working:
            raise StudyError(
                f"{self.name}: work is going on; save elsewhere when it is done, or cancel it first."
            )
        if not overwrite:
            files.refuse_used(folder)
        elif (who := held_by(folder)) is not None:
            raise StudyError(
                f"{folder.name}: {who} has that study open; close it there, or choose another name."
            )
        elif folder.exists() and any(folder.iterdir()) and not (folder / files.STUDY_FILE).is_file():
            raise StudyError(
                f"{folder.name}: the folder holds something that is no study; choose another place."
            )
        old, was_temporary = self.folder, self.is_temporary
        if was_temporary and self.name == "untitled":
            self.name = folder.stem
        with self._lock:
            self._store = None
            files.copy_study(old, folder)
            self._own.drop()
            self._own, self._saved = StudyLock(folder), Saved()
            self._unlock.detach()
            self._unlock = weakref.finalize(self, self._own.drop)
            self.folder, self.is_temporary = folder, False
            for number, step in enumerate(self.steps, start=1):
                step.bind(folder, number)
            self.save()
        if was_temporary:
            shutil.rmtree(old, ignore_errors=True)
        return folder

    def close(self) -> None:
        """Close all slides and the encoder; a study that was never saved somewhere is thrown away."""
        with self._lock:
            for slide in self._open_slides.values():
                slide.close()
            self._open_slides = {}
            self.instruments.close()
            self._store = None
            self._own.drop()
            if self.is_temporary and not self.is_closed:
                shutil.rmtree(self.folder, ignore_errors=True)
            self.is_closed = True

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def __repr__(self) -> str:
        return f"<Study {self.name!r}, {len(self.slides)} slides, {self.folder.name}>"

    def _read_annotations(self) -> None:
        path = self.folder / files.ANNOTATIONS_FILE
        if not path.is_file():
            return
        try:
            if path.stat().st_size > MAX_BYTES:
                raise StudyError(f"it has {path.stat().st_size / 1e6:,.0f} MB, more than anybody draws")
            self.annotations = from_geojson(path.read_text(encoding="utf-8"), path.name)
        except (OSError, UnicodeDecodeError, RecursionError, StudyError) as error:
            kept = files.set_aside(path)
            self.problems.append(
                Problem(
                    path.name,
                    f"{path.name}: the drawn regions can't be read; the file is kept as {kept.name} "
                    f"({error}).",
                )
            )

    def _read_controls(self) -> None:
        path = self.folder / files.CONTROLS_FILE
        if not path.is_file():
            return
        try:
            self.controls, left = read_file(path, self.slides)
            self.problems += [Problem(path.name, text) for text in left]
        except (OSError, StudyError) as error:
            kept = files.set_aside(path)
            self.problems.append(
                Problem(
                    path.name,
                    f"{path.name}: the control samples can't be read; the file is kept as {kept.name} "
                    f"({error}).",
                )
            )
