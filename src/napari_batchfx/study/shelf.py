"""The slides of a study: adding, naming, finding and opening them."""

from __future__ import annotations

import contextlib
import threading
import time
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from pydantic import ValidationError

from napari_batchfx.errors import SlideError, StudyError
from napari_batchfx.study import files
from napari_batchfx.study.alignment import forget_reference
from napari_batchfx.study.annotations import Annotation
from napari_batchfx.study.control_tiles import ControlTile
from napari_batchfx.study.entries import SlideEntry
from napari_batchfx.study.pixel_sizes import recall_pixel_size, remember_pixel_size
from napari_batchfx.study.problems import Problem
from napari_batchfx.study.renaming import rename_slide
from napari_batchfx.study.settings import Settings
from napari_batchfx.study.slide_size import own_pixel_size, set_pixel_size, use_own_pixel_size
from napari_batchfx.study.step import Step

if TYPE_CHECKING:
    from napari_batchfx.slides import Slide

__all__ = ["KEPT_OPEN", "Shelf"]

#: How often, in seconds, a slide whose file is gone or changed is looked for again.
_AGAIN_S = 1.0
#: Slides that stay open after they were worked on.
KEPT_OPEN = 16
_META = ("site", "scanner", "stain", "patient", "label")


class Shelf:
    """The slides of a study, the regions drawn on them and the choices: what needs no folder."""

    def __init__(self, name: str, slides: list[SlideEntry], settings: Settings) -> None:
        self.name = name
        self.slides = slides
        self.settings = settings
        self.annotations: list[Annotation] = []
        #: Control samples put in or taken out tile by tile; see :meth:`put_controls`.
        self.controls: list[ControlTile] = []
        self.problems: list[Problem] = []
        self.steps: list[Step] = []
        self._open_slides: dict[str, Slide] = {}
        #: Fingerprints of slides that had to be opened anew: pyramids made of them before show nothing.
        self.reopened: set[str] = set()
        self._looked: dict[str, float] = {}
        self._lock = threading.RLock()

    def add_slide(
        self,
        path: Path | str,
        *,
        mpp: float | tuple[float, float] | None = None,
        name: str | None = None,
        icc: str = "off",
        **meta: str,
    ) -> SlideEntry:
        """Add a slide; the same slide (same content) a second time gives its first entry.

        Where the file of that entry is gone or holds something else now, the slide is found again: the entry
        keeps its name, regions and features, and its path is the one given. Where it is open it reads on from
        there.

        Parameters
        ----------
        path : path
            The file, or the folder of a DICOM slide.
        mpp : float or (y, x), optional
            Micrometres a pixel, where the file has none or a wrong one. Without it, what was given for this
            slide in an earlier study is used where the file has none or only an estimate.
        name : str, optional
            Name in the study; the file's name otherwise. A number is added where it is taken.
        icc : {"off", "auto", "on"}
            Colour profile, see :func:`napari_batchfx.open_slide`.
        **meta : str
            ``site``, ``scanner``, ``stain``, ``patient``, ``label``; the scanner is filled from the file
            where it says so.

        Raises
        ------
        SlideError
            If the file can't be opened.
        StudyError
            If ``meta`` names something a slide doesn't have.
        """
        from napari_batchfx.slides import open_slide

        path = _slide_path(path)
        _check_meta(meta)
        slide = open_slide(path, icc=icc)
        is_stated = slide.mpp_source in ("file", "tiff resolution")
        try:
            if mpp is not None:
                slide.with_mpp(mpp)
        except SlideError:
            slide.close()
            raise
        given = None if mpp is None else slide.mpp
        with self._lock:
            known = next((entry for entry in self.slides if entry.fingerprint == slide.fingerprint), None)
            if known is not None:
                if path != known.path and not files.is_there(known):
                    known.path, known.size_bytes = path, files.size_bytes(path)
                self._go_on(known, slide)
                self._forget_problems(known)
                return known
            if given is None and not is_stated:
                given = recall_pixel_size(slide.fingerprint)
                if given is not None:
                    slide.with_mpp(given)
            meta.setdefault("scanner", slide.scanner or "")
            try:
                entry = SlideEntry(
                    name=self._free_name(name or slide.name),
                    path=path,
                    fingerprint=slide.fingerprint,
                    size_bytes=files.size_bytes(path),
                    mpp_given=given,
                    icc=icc,
                    **meta,
                )
            except (ValidationError, OSError) as error:
                slide.close()
                raise StudyError(f"{path.name}: {_first(error)}.") from error
            self.slides.append(entry)
            self._open_slides[entry.fingerprint] = slide
            if mpp is not None and given is not None and not is_stated:
                remember_pixel_size(entry.fingerprint, given)
        return entry

    def update_slide(
        self,
        entry: SlideEntry | str,
        *,
        name: str | None = None,
        mpp: float | tuple[float, float] | Literal["file"] | None = None,
        icc: str | None = None,
        **meta: str,
    ) -> SlideEntry:
        """Change what is known of a slide; its regions, alignment and features stay with it.

        Everything is looked at first: where something isn't possible nothing is changed. A pixel size is also
        remembered for other studies, which use it where the file states none. ``mpp="file"`` goes back to the
        size that the file itself states, and forgets the other.

        Raises
        ------
        StudyError
            If the name is empty or taken, or a value isn't possible.
        SlideError
            If the colour profile is asked for and the file has none, or the pixel size isn't possible, or
            the file's own is asked for and it states none.
        """
        from napari_batchfx.slides.metadata import given_mpp

        entry = self.slide(entry)
        _check_meta(meta)
        if name is not None and name != entry.name:
            if not name.strip():
                raise StudyError(f"{entry.name}: a slide needs a name; give it one.")
            if any(other.name == name for other in self.slides):
                raise StudyError(
                    f"{entry.name}: another slide is called {name} already; choose another name."
                )
        given = None if mpp is None or mpp == "file" else given_mpp(entry.path.name, mpp)
        own = own_pixel_size(self, entry) if mpp == "file" else None
        try:
            trial = entry.model_copy()
            for key, value in meta.items():
                setattr(trial, key, value)
        except ValidationError as error:
            raise StudyError(f"{entry.name}: {_first(error)}.") from error
        if icc is not None and icc != entry.icc:
            # the slide before the entry: it refuses what its file can't give
            self.open_slide(entry).with_icc(icc)
            entry.__dict__["icc"] = icc
            self._slide_changed(entry)
        if given is not None:
            set_pixel_size(self, entry, given)
        if own is not None:
            use_own_pixel_size(self, entry, own)
        for key, value in meta.items():
            setattr(entry, key, value)
        if name is not None and name != entry.name:
            old = entry.name
            entry.__dict__["name"] = name  # frozen for everybody else: regions and settings refer to it
            rename_slide(self, old, name)
        return entry

    def remove_slide(self, entry: SlideEntry | str) -> None:
        """Take a slide and its regions out of the study; its file and its features stay on the disk.

        Slides aligned onto it stay where they are, aligned onto nothing.
        """
        entry = self.slide(entry)
        with self._lock:
            self.slides.remove(entry)
            forget_reference(self, entry.name)
            self.annotations = [
                annotation for annotation in self.annotations if annotation.slide != entry.name
            ]
            self.controls = [tile for tile in self.controls if tile.slide != entry.name]
            slide = self._open_slides.pop(entry.fingerprint, None)
            self._forget_problems(entry)
            self._slide_changed(entry)
        if slide is not None:
            slide.close()

    def relocate(self, entry: SlideEntry | str, path: Path | str) -> SlideEntry:
        """Say where the file of a slide is now; where it is open it reads on from there.

        Raises
        ------
        StudyError
            If the file there holds another slide.
        SlideError
            If the file can't be opened.
        """
        from napari_batchfx.slides import open_slide

        entry = self.slide(entry)
        path = _slide_path(path)
        with open_slide(path, mpp=entry.mpp_given) as slide:
            if slide.fingerprint != entry.fingerprint:
                raise StudyError(
                    f"{entry.name}: {path.name} holds another slide than the one in the study; choose its "
                    "own file or add it as a new slide."
                )
            with self._lock:
                entry.path, entry.size_bytes = path, files.size_bytes(path)
                self._go_on(entry, slide)
        self._forget_problems(entry)
        return entry

    def slide(self, name: SlideEntry | str) -> SlideEntry:
        """The entry of that name (an entry of this study is given back as it is).

        Raises
        ------
        StudyError
            If the study has no such slide.
        """
        for entry in self.slides:
            if entry is name or entry.name == name:
                return entry
        raise StudyError(f"{self.name}: the study has no slide called {getattr(name, 'name', name)}.")

    def open_slide(self, entry: SlideEntry | str) -> Slide:
        """The slide itself; opened once and kept until :meth:`close`.

        Where its file was replaced or taken away and put back, the same slide reads on.

        Raises
        ------
        SlideError
            If the file is gone, can't be read, or holds other content than when it was added.
        """
        from napari_batchfx.slides import open_slide
        from napari_batchfx.slides._moved import still_reads

        entry = self.slide(entry)
        with self._lock:
            slide = self._open_slides.get(entry.fingerprint)
            if slide is not None and not slide.is_closed and not still_reads(slide):
                self._look_again(entry)
                slide = self._open_slides.get(entry.fingerprint)
            if slide is not None and not slide.is_closed:
                return slide
            if not entry.path.exists():
                raise SlideError(files.moved_text(entry))
            # Before it is read any further: a study names slides by their content, and reads nothing else.
            if not files.is_there(entry):
                raise SlideError(files.changed_text(entry))
            slide = open_slide(entry.path, mpp=entry.mpp_given, icc=entry.icc)
            if slide.fingerprint != entry.fingerprint:
                slide.close()
                raise SlideError(files.changed_text(entry))
            self._open_slides[entry.fingerprint] = slide
            return slide

    def is_open(self, entry: SlideEntry) -> bool:
        """Whether a slide's file is open; never opens it."""
        slide = self._open_slides.get(entry.fingerprint)
        return slide is not None and not slide.is_closed

    def _look_again(self, entry: SlideEntry) -> None:
        """Go on with a slide whose file was put back; else leave it: when it is read it says why."""
        from napari_batchfx.slides import open_slide

        clock = time.monotonic()
        if clock < self._looked.get(entry.fingerprint, clock):
            return
        self._looked[entry.fingerprint] = clock + _AGAIN_S
        if files.is_there(entry):
            with contextlib.suppress(SlideError):
                self._go_on(entry, open_slide(entry.path))

    def _go_on(self, entry: SlideEntry, found: Slide) -> None:
        """Let a slide that is open read on from its file as it was just found; closes what was found."""
        from napari_batchfx.slides._moved import carry_on, still_reads

        slide = self._open_slides.get(entry.fingerprint)
        if slide is not None and (slide.path != found.path or not still_reads(slide, now=True)):
            if carry_on(slide, found):
                return
            # Read by another reader now (its suffix was changed): what was made from it can't go on.
            slide.close()
            del self._open_slides[entry.fingerprint]
            self.reopened.add(entry.fingerprint)
            self._slide_changed(entry)
        found.close()

    def tidy(self, entry: SlideEntry) -> None:
        """Close a slide again where many are open: thousands are added one by one."""
        with self._lock:
            if len(self._open_slides) <= KEPT_OPEN:
                return
            slide = self._open_slides.pop(entry.fingerprint, None)
            self._slide_changed(entry)
        if slide is not None:
            slide.close()

    def _slide_changed(self, entry: SlideEntry) -> None:
        """Called when what was made from a slide no longer holds; a study drops its grids here."""

    def report_problem(self, subject: str, error: Exception | str) -> Problem:
        """Keep what went wrong with one slide in :attr:`problems`, once, so that the rest can go on."""
        problem = Problem(subject, str(error))
        if problem not in self.problems:
            self.problems.append(problem)
        return problem

    def _find_file(self, entry: SlideEntry) -> None:
        """Report a slide whose file is gone or has another size."""
        try:
            size = files.size_bytes(entry.path)
        except OSError:  # gone, or on a drive that is away
            self.report_problem(entry.name, files.moved_text(entry))
            return
        except SlideError:  # a folder that holds no slide any more
            size = -1
        if not entry.size_bytes or size == entry.size_bytes:
            return
        # Studies of before counted whatever lay in the folder.
        if entry.path.is_dir() and files.is_there(entry):
            entry.size_bytes = size
        else:
            self.report_problem(entry.name, files.changed_text(entry))

    def _forget_problems(self, entry: SlideEntry) -> None:
        self.problems = [problem for problem in self.problems if problem.subject != entry.name]

    def _free_name(self, name: str) -> str:
        taken = {entry.name for entry in self.slides}
        name = name.strip() or "slide"
        free, number = name, 2
        while free in taken:
            free, number = f"{name} ({number})", number + 1
        return free


def _slide_path(path: Path | str) -> Path:
    try:
        return Path(path).expanduser().absolute()
    except TypeError as error:
        raise StudyError(f"A slide is added by the path of its file, not by {path!r:.60}.") from error


def _check_meta(meta: Mapping[str, str]) -> None:
    for key in meta:
        if key not in _META:
            raise StudyError(f"a slide has no {key}; give {', '.join(_META)}.")


def _first(error: ValidationError | OSError) -> str:
    """The first thing wrong, for the user."""
    if isinstance(error, OSError):
        return error.strerror or str(error)
    first = error.errors()[0]
    return f"{'.'.join(str(part) for part in first['loc'])}: {first['msg']}"
