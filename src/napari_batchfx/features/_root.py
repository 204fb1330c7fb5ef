"""The folder of a feature store: made, recognised, or refused."""

from __future__ import annotations

import contextlib
from pathlib import Path

from napari_batchfx.errors import FeatureError
from napari_batchfx.features._files import replace_file
from napari_batchfx.features._layout import KEYS, group_json, read_json

__all__ = ["VERSION", "open_root", "write_root"]

FORMAT, VERSION = "napari-batchfx features", 2
_OWN = {".locks", ".trash", ".writing"}


def open_root(path: Path) -> int:
    """The version of the store there; 0 where there is none yet. Nothing is written: to look leaves no trace.

    Raises
    ------
    FeatureError
        If the path is something else or can't be read.
    """
    if path.is_file():
        raise FeatureError(f"{path.name}: is a file; features are kept in a folder, give another name.")
    try:
        # a process may have been killed while it made the store
        if not path.exists() or {file.name for file in path.iterdir()} <= _OWN:
            return 0
        data = (path / "zarr.json").read_bytes() if (path / "zarr.json").exists() else None
    except PermissionError as error:
        raise FeatureError(
            f"{path.name}: may not be read; choose a folder of yours for the features."
        ) from error
    except OSError as error:
        raise FeatureError(
            f"{path.name}: can't be opened ({error.strerror or error}); check the disk."
        ) from error
    root = read_json(data)
    if root is None and _looks_like_a_store(path):
        # its own zarr.json says nothing that the entries don't; the next tile that is added writes it anew
        return 0
    if root is None:
        raise FeatureError(
            f"{path.name}: is no feature store, or its zarr.json is damaged; move it away to start anew."
        )
    attributes = root.get("attributes") or {}
    if attributes.get("format") != FORMAT:
        raise FeatureError(
            f"{path.name}: is a folder with something else in it; give another name for the features."
        )
    if int(attributes.get("version", 0)) > VERSION:
        raise FeatureError(f"{path.name}: was written by a newer napari-batchfx; update to read it.")
    return int(attributes.get("version", 0))


def write_root(path: Path) -> None:
    """Say in the store's own zarr.json what it is; the folder is made where it is missing."""
    path.mkdir(parents=True, exist_ok=True)
    data = group_json({"format": FORMAT, "version": VERSION})
    replace_file(str(path / "zarr.json"), data, str(path / ".writing"), "zarr")


def _looks_like_a_store(path: Path) -> bool:
    """Whether an entry in it says what it is of."""
    for file in path.glob("*/*/zarr.json"):
        with contextlib.suppress(OSError):
            found = (read_json(file.read_bytes()) or {}).get("attributes") or {}
            if set(KEYS) <= set(found):
                return True
    return False
