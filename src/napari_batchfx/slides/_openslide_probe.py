"""Try a slide with OpenSlide in a process of its own: a damaged file can crash the library, not only fail."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

from napari_batchfx.errors import SlideError

__all__ = ["require_no_crash"]

TIMEOUT_S = 30.0
# One pixel of each level decodes one tile of it; properties and names are read while opening.
_CODE = """
import sys, openslide
slide = openslide.OpenSlide(sys.argv[1])
for level in range(slide.level_count):
    width, height = slide.dimensions
    slide.read_region((width // 2, height // 2), level, (1, 1))
"""
# What an interpreter returns by itself: a clean end, an exception, wrong arguments.
_OWN_CODES = {0, 1, 2}


def require_no_crash(path: Path) -> None:
    """Raise :class:`SlideError` if OpenSlide crashes or hangs on a file.

    Notes
    -----
    OpenSlide 4.0.1 ends the process on some damaged DICOM files (segmentation fault while opening). What it
    merely refuses is left to the caller, who gets the reason. A crash on a tile further in isn't foreseen.
    """
    command = [sys.executable, "-c", _CODE, str(path)]
    try:
        done = subprocess.run(  # noqa: S603 - our own interpreter and code; the path is no part of the code
            command, stdin=subprocess.DEVNULL, capture_output=True, timeout=TIMEOUT_S, check=False
        )
    except subprocess.TimeoutExpired as error:
        raise SlideError(
            f"{path.name}: OpenSlide doesn't come to an end with it, it is probably damaged; copy or export "
            "it again."
        ) from error
    except OSError:
        # no interpreter to start (a frozen application): the file is opened without this precaution
        return
    if done.returncode not in _OWN_CODES:
        raise SlideError(f"{path.name}: OpenSlide crashes on it, so it is damaged; copy or export it again.")
