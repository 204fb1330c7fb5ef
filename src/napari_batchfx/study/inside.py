"""Files of a study are read only where they lie in its folder, and only as large as they can be."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any, Final

from napari_batchfx.errors import StudyError

__all__ = ["MAX_BYTES", "check_inside", "read_json", "refuse_links", "safe_slide_path"]

#: A study of 10,000 slides has 20 MB; what is far beyond is no study of anybody.
MAX_BYTES: Final = 512 * 2**20
FOLLOW = "BATCHFX_FOLLOW_LINKS"


def check_inside(path: Path, folder: Path) -> None:
    """Refuse a file of a study that is a link to another place.

    A study of somebody else must not make this program read, overwrite or delete what lies elsewhere. Who
    keeps features on another disk sets ``BATCHFX_FOLLOW_LINKS=1``.

    Raises
    ------
    StudyError
        If it leads out of the folder.
    """
    if os.environ.get(FOLLOW) == "1":
        return
    try:
        inside = path.resolve().is_relative_to(folder.resolve())
    except (OSError, RuntimeError):  # a link to itself
        inside = False
    if not inside:
        raise StudyError(
            f"{folder.name}: {path.name} is a link to another place and isn't followed; if you made it "
            f"yourself, set {FOLLOW}=1, else don't trust the study."
        )


def refuse_links(folder: Path, names: tuple[str, ...]) -> None:
    """:func:`check_inside` for the parts of a study, and for what lies right in them."""
    for name in names:
        part = folder / name
        if part.is_symlink() or part.exists():
            check_inside(part, folder)
        if part.is_dir():
            for child in part.iterdir():
                if child.is_symlink():
                    check_inside(child, folder)


def read_json(path: Path) -> Any:
    """The JSON of a file that isn't larger than any study's.

    Raises
    ------
    ValueError
        If it is no JSON, too large or too deeply nested.
    OSError
        If it can't be read.
    """
    if not path.is_file():
        raise ValueError("it is no file")
    size = path.stat().st_size
    if size > MAX_BYTES:
        raise ValueError(f"it has {size / 1e6:,.0f} MB, more than any study")
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except RecursionError as error:
        raise ValueError("it is nested too deeply") from error


def safe_slide_path(said: Path, folder: Path, name: str) -> Path:
    """Where the slide of a study is: beside the folder or anywhere on this machine, but a file or folder.

    Raises
    ------
    StudyError
        If it names another machine (which would be told who asks) while the study lies on this one.
    """
    text = str(said)
    if text.startswith(("\\\\", "//")) and not str(folder).startswith(text[:2]):
        raise StudyError(
            f"{folder.name}: the slide {name} is said to be on another machine ({text[:60]}); correct its "
            "path in study.json if that is right."
        )
    return Path(os.path.normpath(folder / said))
