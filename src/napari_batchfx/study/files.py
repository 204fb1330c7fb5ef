"""The folder ``NAME.batchfx`` on disk: reading and writing ``study.json`` whole or not at all."""

from __future__ import annotations

import contextlib
import json
import os
import re
import shutil
import tempfile
import threading
from pathlib import Path, PurePath
from typing import Any

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from napari_batchfx.errors import SlideError, StudyError
from napari_batchfx.study.entries import SlideEntry
from napari_batchfx.study.inside import read_json, refuse_links, safe_slide_path
from napari_batchfx.study.migrations import VERSION, migrate
from napari_batchfx.study.settings import Settings
from napari_batchfx.study.step import Step

__all__ = [
    "SUFFIX",
    "StudyModel",
    "read_study",
    "relative_path",
    "size_bytes",
    "study_data",
    "study_text",
    "write_study",
    "write_text",
]

SUFFIX = ".batchfx"
STUDY_FILE = "study.json"
ANNOTATIONS_FILE = "annotations.geojson"
CONTROLS_FILE = "controls.csv"
FEATURES_FOLDER = "features.zarr"
RESULTS_FOLDER = "results"

_FORMAT = "napari-batchfx study"


class StudyModel(BaseModel):
    """What ``study.json`` holds (the present version; earlier ones: :mod:`migrations`)."""

    model_config = ConfigDict(extra="forbid")

    format: str = _FORMAT
    version: int = VERSION
    name: str = Field(min_length=1)
    slides: list[SlideEntry] = Field(default_factory=list)
    settings: Settings = Field(default_factory=Settings)
    steps: list[Step] = Field(default_factory=list)


def write_text(path: Path, text: str) -> None:
    """Write a text file whole or not at all: into a file beside it, to the disk, then in its place."""
    handle, name = tempfile.mkstemp(prefix=f".{path.name}.", suffix=".part", dir=path.parent)
    try:
        with os.fdopen(handle, "w", encoding="utf-8", newline="\n") as file:
            file.write(text)
            file.flush()
            os.fsync(file.fileno())
        os.chmod(name, 0o666 & ~_umask())  # as any file of the user: colleagues may read a shared study
        os.replace(name, path)
    except BaseException:
        Path(name).unlink(missing_ok=True)
        raise


def _umask() -> int:
    """What the user takes from others' rights; asking for it means setting it."""
    with _umask_lock:
        os.umask(mask := os.umask(0o077))
    return mask


_umask_lock = threading.Lock()


def relative_path(path: Path, folder: Path) -> str:
    """The path as seen from the folder, with forward slashes; absolute where it lies on another drive."""
    try:
        return PurePath(os.path.relpath(path, folder)).as_posix()
    except ValueError:
        return path.as_posix()


def size_bytes(path: Path) -> int:
    """Bytes of a slide's file, or of the slide's own files in a folder (DICOM, OME-Zarr).

    Raises
    ------
    SlideError
        If the folder is no slide.
    OSError
        If the file is gone.
    """
    from napari_batchfx.slides.fingerprint import slide_bytes

    return slide_bytes(path) if path.is_dir() else path.stat().st_size


def study_data(folder: Path, model: StudyModel) -> dict[str, Any]:
    """What ``study.json`` says, as plain values; the paths of slides are relative to the folder."""
    data: dict[str, Any] = model.model_dump(mode="json")
    for entry, slide in zip(model.slides, data["slides"], strict=True):
        slide["path"] = relative_path(entry.path, folder)
    return data


def study_text(data: dict[str, Any]) -> str:
    """The text of ``study.json``, as a person reads it."""
    text = json.dumps(data, ensure_ascii=False, indent=2, sort_keys=True)
    # Rows of numbers on one line each; a line break never stands inside a JSON string.
    text = re.sub(r"\[\n\s*([-+.\deE,\s]+?)\n\s*\]", lambda row: f"[{' '.join(row[1].split())}]", text)
    return text + "\n"


def write_study(folder: Path, text: str) -> None:
    """Write ``study.json``; one of an earlier version is kept beside it, once."""
    path = folder / STUDY_FILE
    before = _version_of(path)
    kept = path.with_name(f"{path.stem}.version-{before}{path.suffix}")
    if before is not None and before < VERSION and not kept.exists():
        shutil.copyfile(path, kept)
    write_text(path, text)


def _version_of(path: Path) -> int | None:
    """The version a file says; ``None`` where there is none or it can't be read."""
    try:
        with path.open("rb") as file:  # keys are sorted: it is the last one
            file.seek(max(0, path.stat().st_size - 200))
            found = re.findall(rb'"version": (\d+)\n\}', file.read())
        return int(found[-1]) if found else None
    except OSError:
        return None


def read_study(folder: Path) -> StudyModel:
    """Read ``study.json``; the paths of slides come back absolute.

    Raises
    ------
    StudyError
        If the folder is no study, comes from a newer version, or its file is damaged.
    """
    path = folder / STUDY_FILE
    if not path.is_file():
        what = "there is no such folder" if not folder.exists() else f"it holds no {STUDY_FILE}"
        raise StudyError(f"{folder.name}: not a study, {what}; choose a folder that ends in {SUFFIX}.")
    refuse_links(
        folder, (STUDY_FILE, ANNOTATIONS_FILE, CONTROLS_FILE, FEATURES_FOLDER, RESULTS_FOLDER, "stain.json")
    )
    try:
        data = read_json(path)
    except (OSError, ValueError) as error:
        raise StudyError(
            f"{folder.name}: {STUDY_FILE} is damaged and can't be read ({error}); restore it from a copy."
        ) from error
    if not isinstance(data, dict) or data.get("format") != _FORMAT:
        raise StudyError(
            f"{folder.name}: {STUDY_FILE} is not a study of napari-batchfx; choose another folder."
        )
    version = data.get("version")
    if isinstance(version, int) and version > VERSION:
        raise StudyError(
            f"{folder.name}: the study was written by a newer napari-batchfx (format {version}, this one "
            f"reads {VERSION}); update napari-batchfx."
        )
    try:
        model = StudyModel.model_validate(migrate(data))
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(str(part) for part in first["loc"]) or "the whole file"
        raise StudyError(
            f"{folder.name}: {STUDY_FILE} is damaged at {where} ({first['msg']}); correct it or restore a "
            "copy."
        ) from error
    if len({entry.name for entry in model.slides}) < len(model.slides):
        raise StudyError(
            f"{folder.name}: {STUDY_FILE} names two slides the same; give each its own name in the file."
        )
    for entry in model.slides:
        entry.path = safe_slide_path(entry.path, folder, entry.name)
    return model


def study_folder(path: Path | str) -> Path:
    """The folder meant by a path the user gave: absolute, ending in ``.batchfx``."""
    folder = Path(path).expanduser().absolute()
    return folder if folder.suffix == SUFFIX else folder.with_name(folder.name + SUFFIX)


def refuse_used(folder: Path) -> None:
    """Raise :class:`StudyError` if a new study can't go there because something is there."""
    if (folder / STUDY_FILE).exists():
        raise StudyError(f"{folder.name}: there is a study already; open it, or choose another name.")
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise StudyError(f"{folder.name}: there is something else already; choose another name.")


def copy_study(old: Path, new: Path) -> None:
    """Copy a study's folder beside the new place, then put it there in one step; what was there goes last.

    Raises
    ------
    StudyError
        If the new place can't be written.
    """
    part = new.with_name(f".{new.name}.part")
    aside = new.with_name(f".{new.name}.old")
    try:
        new.parent.mkdir(parents=True, exist_ok=True)
        shutil.rmtree(part, ignore_errors=True)
        shutil.copytree(old, part, ignore=shutil.ignore_patterns(".locks", ".writing", ".*.part"))
        if new.exists():
            shutil.rmtree(aside, ignore_errors=True)
            new.rename(aside)
        part.rename(new)
    except OSError as error:
        shutil.rmtree(part, ignore_errors=True)
        if aside.exists() and not new.exists():
            aside.rename(new)
        raise StudyError(
            f"{new.name}: the study can't be saved there ({error.strerror}); choose another place."
        ) from error
    shutil.rmtree(aside, ignore_errors=True)


def set_aside(path: Path) -> Path:
    """Keep a file that can't be read under another name, so that the next save doesn't write over it."""
    kept = path.with_name(f"{path.stem}-damaged{path.suffix}")
    with contextlib.suppress(OSError):
        os.replace(path, kept)
    return kept


def is_there(entry: SlideEntry) -> bool:
    """Whether a slide's file is where the study has it, with the content it had."""
    from napari_batchfx.slides.fingerprint import fingerprint

    try:
        if not entry.path.is_dir() and not entry.path.is_file():
            return False  # a device or a pipe never ends
        return fingerprint(entry.path) == entry.fingerprint
    except (SlideError, OSError):
        return False


def moved_text(entry: SlideEntry) -> str:
    """One sentence on a slide whose file is gone."""
    return (
        f"{entry.name}: its file {entry.path.name} is not where it was; add the file from where it is now "
        "(its regions and features are kept), or put it back."
    )


def changed_text(entry: SlideEntry) -> str:
    """One sentence on a slide whose file holds something else now."""
    return (
        f"{entry.name}: its file {entry.path.name} has changed since it was added; put the old one back, "
        "or add it as a new slide."
    )
