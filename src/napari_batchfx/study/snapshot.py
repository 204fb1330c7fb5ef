"""A study at one moment, ready to be written, and what was written last."""

from __future__ import annotations

import hashlib
import json
import threading
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from napari_batchfx.errors import StudyError
from napari_batchfx.study import files
from napari_batchfx.study.annotations import to_geojson

if TYPE_CHECKING:
    from napari_batchfx.study.annotations import Annotation
    from napari_batchfx.study.results import Results

__all__ = ["Saved", "Snapshot"]


class Saved:
    """What is on the disk, as far as this program wrote or read it."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._said: str | None = None
        self._regions: tuple[Annotation, ...] | None = None
        self._basket: str | None = None
        self._seen: str | None = None

    def look(self, folder: Path) -> None:
        """Remember the file as it was when it was read."""
        self._seen = _digest(folder)

    def is_outdated(self, folder: Path) -> bool:
        """Whether the file is another one than the one that was read; what was never read can't be."""
        return self._seen is not None and (there := _digest(folder)) is not None and there != self._seen

    def has(self, snapshot: Snapshot) -> bool:
        """Whether everything of a snapshot is on the disk."""
        with self._lock:
            return (
                self._said == snapshot.said
                and self._regions == snapshot.regions
                and self._basket == snapshot.basket
                and (snapshot.folder / files.STUDY_FILE).is_file()
            )

    def wrote(self, snapshot: Snapshot) -> None:
        """Remember what was written."""
        with self._lock:
            self._said, self._regions = snapshot.said, snapshot.regions
            self._basket = snapshot.basket
            self._seen = _digest(snapshot.folder)


@dataclass(frozen=True, eq=False)
class Snapshot:
    """Everything that a study writes, as it was at one moment.

    Parameters
    ----------
    folder : Path
    data : dict
        What ``study.json`` will say; nobody changes it.
    regions : tuple of Annotation
    basket : str
        Of the file of control samples; empty = no such file.
    results : Results
    saved : Saved
        Told when it is written.
    """

    folder: Path
    data: dict[str, Any]
    regions: tuple[Annotation, ...]
    basket: str
    results: Results
    saved: Saved

    @cached_property
    def said(self) -> str:
        """All of ``study.json`` on one line: made ten times as fast as the text for people."""
        return json.dumps(self.data, sort_keys=True)

    def write(self) -> None:
        """Write it; every file whole or not at all.

        Raises
        ------
        StudyError
            If the folder can't be written.
        """
        try:
            if self.saved._regions != self.regions or not (self.folder / files.ANNOTATIONS_FILE).is_file():
                files.write_text(self.folder / files.ANNOTATIONS_FILE, to_geojson(self.regions))
            self._write_basket(self.folder / files.CONTROLS_FILE)
            self.results.write(self.folder / files.RESULTS_FOLDER)
            files.write_study(self.folder, files.study_text(self.data))
        except OSError as error:
            raise StudyError(
                f"{self.folder.name}: the study can't be saved ({error.strerror}); choose another place."
            ) from error
        self.saved.wrote(self)

    def _write_basket(self, path: Path) -> None:
        if not self.basket:
            path.unlink(missing_ok=True)
        elif self.saved._basket != self.basket or not path.is_file():
            files.write_text(path, self.basket)


def _digest(folder: Path) -> str | None:
    try:
        return hashlib.sha256((folder / files.STUDY_FILE).read_bytes()).hexdigest()
    except OSError:
        return None
