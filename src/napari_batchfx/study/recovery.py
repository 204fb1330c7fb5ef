"""Work that was never saved under a name, found again after a crash."""

from __future__ import annotations

import contextlib
import os
import shutil
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from napari_batchfx.errors import BatchfxError
from napari_batchfx.study import files
from napari_batchfx.study.lock import held_by

__all__ = ["Unsaved", "discard", "unsaved_folder", "unsaved_studies"]

#: Older ones are thrown away.
_KEEP_DAYS: Final = 14


@dataclass(frozen=True)
class Unsaved:
    """A study that nobody saved and nobody has open.

    Parameters
    ----------
    folder : Path
    when : float
        Last change, seconds since 1970.
    slides, regions_bytes : int
        Slides in it, and bytes of its drawn regions.
    """

    folder: Path
    when: float
    slides: int
    regions_bytes: int

    def sentence(self) -> str:
        """``4 slides, last changed 30 Nov 12:31``."""
        slides = "slide" if self.slides == 1 else "slides"
        return (
            f"{self.slides} {slides}, last changed {time.strftime('%d %b %H:%M', time.localtime(self.when))}"
        )


def unsaved_folder() -> Path:
    """Where studies lie that have no name yet: ``unsaved`` in ``BATCHFX_CACHE``, or in the user's cache."""
    from platformdirs import user_cache_path

    given = os.environ.get("BATCHFX_CACHE")
    root = Path(given) if given else user_cache_path("napari-batchfx", appauthor=False)
    return root / "unsaved"


def unsaved_studies(folder: Path | None = None) -> list[Unsaved]:
    """Studies that were not saved when their program ended, the last one first; old ones are thrown away.

    Parameters
    ----------
    folder : path, optional
        :func:`unsaved_folder` otherwise.

    Examples
    --------
    >>> unsaved_studies(Path("nowhere"))
    []
    """
    root = unsaved_folder() if folder is None else folder
    found = []
    for path in root.glob(f"*{files.SUFFIX}"):
        with contextlib.suppress(OSError, BatchfxError):
            if held_by(path) is not None:
                continue
            main = path / files.STUDY_FILE
            if not main.is_file():
                if time.time() - path.stat().st_mtime > 3600:  # never worked in
                    discard(path)
                continue
            when = main.stat().st_mtime
            if time.time() - when > _KEEP_DAYS * 86400:
                discard(path)
                continue
            regions = path / files.ANNOTATIONS_FILE
            size = regions.stat().st_size if regions.is_file() else 0
            found.append(Unsaved(path, when, len(files.read_study(path).slides), size))
    return sorted((one for one in found if one.slides), key=lambda one: -one.when)


def discard(folder: Path) -> None:
    """Throw an unsaved study away."""
    shutil.rmtree(folder, ignore_errors=True)
