"""Features on disk: filled cell by cell in any order, never half a cell, resumed after a kill."""

from __future__ import annotations

import contextlib
import hashlib
import os
import threading
from pathlib import Path
from typing import Any

from napari_batchfx.errors import FeatureError
from napari_batchfx.features._files import DiskFiles, Files, MemoryFiles, replace_file
from napari_batchfx.features._layout import group_json
from napari_batchfx.features._lock_files import FOLDER, folder_clock, read_lock
from napari_batchfx.features._root import VERSION, open_root, write_root
from napari_batchfx.features.array import FeatureArray
from napari_batchfx.features.locks import LockInfo, SlideLock, read_locks, slide_lock

__all__ = ["FeatureStore"]


class FeatureStore:
    """Features of many slides, encoders, grids and stain variants, in one zarr.

    Parameters
    ----------
    path : str or Path, optional
        Folder (``features.zarr``), made with the first tile that is added; None keeps everything in memory.

    Raises
    ------
    FeatureError
        If the path is something else or can't be read.

    Notes
    -----
    One zarr 3 group an entry, ``FINGERPRINT/HASH``, with the encoder, grid and stain keys spelled out in its
    attributes, and two arrays over (row, col) of the tiles: ``vectors`` (rows, cols, dim) float32, a shard a
    block of neighbours and a checksum a tile, and ``done`` (rows, cols) uint8. A file is replaced as a
    whole, vectors before ``done``: a process killed at any moment loses at most the batch it was writing.
    Any number of programs may read; one at a time writes a slide (:meth:`locks`), with any number of threads.
    Stores of version 1 are read and gone on with; what they hold stays where it is.

    Examples
    --------
    >>> import numpy as np
    >>> store = FeatureStore()
    >>> entry = store.array("0" * 32, "colour-statistics/v1/fp32", "224px@0.5", dim=3)
    >>> entry.append([[0, 1], [4, 2]], np.ones((2, 3), np.float32))
    2
    >>> entry.has([[4, 2], [9, 9]])
    array([ True, False])
    """

    def __init__(self, path: str | Path | None = None) -> None:
        self.path = Path(path) if path is not None else None
        self._lock = threading.RLock()
        self._open: dict[str, FeatureArray] = {}
        self._memory: dict[str, MemoryFiles] = {}
        self._locks: dict[str, SlideLock] = {}
        if self.path is not None:
            self._version = open_root(self.path)

    def _prepare(self, fingerprint: str) -> None:
        """Before anything is written under a slide: the groups above it, in the present version."""
        if self.path is None:
            return
        if self._version < VERSION or not (self.path / "zarr.json").exists():
            write_root(self.path)
            self._version = VERSION
        group = self.path / fingerprint / "zarr.json"
        if not group.exists():
            replace_file(str(group), group_json({}), str(self.path / ".writing"), fingerprint)

    def _slide_lock(self, fingerprint: str) -> SlideLock:
        if fingerprint not in self._locks:
            self._locks[fingerprint] = slide_lock(self.path, fingerprint)
        return self._locks[fingerprint]

    def _files(self, name: str) -> Files:
        if self.path is not None:
            return DiskFiles(self.path, name)
        return self._memory.setdefault(name, MemoryFiles())

    def array(
        self,
        fingerprint: str,
        encoder_key: str,
        grid_key: str,
        stain_key: str = "none",
        dim: int | None = None,
    ) -> FeatureArray:
        """The entry of a slide, encoder, grid and stain variant; a new one where ``dim`` is given.

        Nothing is written before the first tile is added.

        Parameters
        ----------
        fingerprint : str
            Content fingerprint of the slide.
        encoder_key, grid_key, stain_key : str
            ``Encoder.key``, ``TileGrid.key``, and the key of the stain transform or ``"none"``.
        dim : int, optional
            Length of a vector; needed to make an entry, checked where there is one.

        Raises
        ------
        FeatureError
            If the entry is missing and ``dim`` isn't given, or holds vectors of another length.
        """
        if not fingerprint or "/" in fingerprint or fingerprint.startswith("."):
            raise FeatureError(
                f'"{fingerprint}" is no slide fingerprint; open the slide and take slide.fingerprint.'
            )
        if dim is not None and dim < 1:
            raise FeatureError(f"A vector needs at least one number, not {dim}.")
        digest = hashlib.sha256("\n".join((encoder_key, grid_key, stain_key)).encode()).hexdigest()[:24]
        name = f"{fingerprint}/{digest}"
        attributes = {
            "fingerprint": fingerprint,
            "encoder": encoder_key,
            "grid": grid_key,
            "stain": stain_key,
        }
        with self._lock:
            entry = self._open.get(name)
            if entry is None or entry.is_deleted:
                entry = self._opened(name, attributes, dim)
                self._open[name] = entry
            if dim is not None and dim != entry.dim:
                raise FeatureError(
                    f"{self._shown}: holds {entry.dim} numbers a tile for {encoder_key}, but {dim} were to "
                    "be added."
                )
            return entry

    def _opened(self, name: str, attributes: dict[str, str] | None, dim: int | None) -> FeatureArray:
        slide = name.split("/")[0]
        # one of somebody else must not make this program read, write or delete elsewhere
        if (
            self.path is not None
            and os.environ.get("BATCHFX_FOLLOW_LINKS") != "1"
            and not (self.path / name).resolve().is_relative_to(self.path.resolve())
        ):
            raise FeatureError(
                f"{self._shown}/{name}: is a link to another place and isn't followed; if you made it "
                "yourself, set BATCHFX_FOLLOW_LINKS=1."
            )
        return FeatureArray(
            self._files(name),
            self._slide_lock(slide),
            self._shown,
            name,
            attributes,
            dim,
            lambda: self._prepare(slide),
        )

    def put_away(self, fingerprint: str) -> None:
        """Let go of what is in memory of a slide on disk; it is read again when it is asked for."""
        if self.path is not None:
            with self._lock:
                for name in [name for name in self._open if name.startswith(f"{fingerprint}/")]:
                    del self._open[name]

    @property
    def _shown(self) -> str:
        return self.path.name if self.path is not None else "features in memory"

    def keys(self) -> list[dict[str, Any]]:
        """What the store holds, one dict an entry.

        Keys: fingerprint, encoder, grid, stain, n, dim, nbytes, and damaged (None or what is wrong).
        """
        rows: list[dict[str, Any]] = []
        with self._lock:
            for name in self._names():
                row: dict[str, Any] = {"fingerprint": name.split("/")[0], "encoder": "", "grid": ""}
                row |= {"stain": "", "n": 0, "dim": 0, "nbytes": 0, "damaged": None}
                try:
                    entry = self._known(name)
                    row |= {k: entry.attributes[k] for k in ("encoder", "grid", "stain")}
                    row |= {"n": entry.n, "dim": entry.dim, "nbytes": entry.nbytes}
                except FeatureError as error:
                    row |= {"damaged": str(error), "nbytes": self._weight(name)}
                rows.append(row)
        return rows

    def _known(self, name: str) -> FeatureArray:
        entry = self._open.get(name)
        if entry is None or entry.is_deleted:
            # kept: asking for the size again and again must not read the index each time
            entry = self._open[name] = self._opened(name, None, None)
        return entry

    def _names(self) -> list[str]:
        if self.path is None:
            return sorted(name for name, files in self._memory.items() if files.exists())
        # the folders themselves, so that an entry without a readable zarr.json is listed too
        names = []
        for slide in _folders(self.path):
            if not slide.startswith("."):
                names += [f"{slide}/{name}" for name in _folders(self.path / slide)]
        return sorted(names)

    def _weight(self, name: str) -> int:
        """Bytes of an entry, file by file: without its index."""
        return 0 if self.path is None else _bytes_below(os.path.join(self.path, name))

    def holds_any(self) -> bool:
        """Whether any tile is stored; looks no further than the first."""
        with self._lock:
            for entry in self._open.values():
                with contextlib.suppress(FeatureError):
                    if entry.n:
                        return True
            for name in self._names():
                with contextlib.suppress(FeatureError):
                    if self._known(name).n:
                        return True
        return False

    @property
    def nbytes(self) -> int:
        """Bytes that all entries take, on disk or in memory; cheap to ask often.

        Of entries in use from their indexes. Those of other slides aren't opened for it: a study of a
        thousand slides asks when it is shown.
        """
        total = 0
        with self._lock:
            for name in self._names():
                entry = self._open.get(name)
                try:
                    if entry is None and self.path is not None:
                        total += self._weight(name)
                    else:
                        total += self._known(name).nbytes
                except FeatureError:
                    total += self._weight(name)
        return total

    def locks(self) -> list[LockInfo]:
        """Who is writing, one entry a slide, here and on other machines; see :class:`LockInfo`."""
        return read_locks(self.path) if self.path is not None else []

    def lock_of(self, fingerprint: str) -> LockInfo | None:
        """Who is writing one slide."""
        if self.path is None:
            return None
        folder = self.path / FOLDER
        found = read_lock(folder / f"{fingerprint}.json", folder_clock(folder / ".clock"))
        return None if found is None else found[0]

    def damage_said(self) -> list[str]:
        """What was found damaged since this was last asked, one sentence an entry; each tile is said once."""
        with self._lock:
            entries = list(self._open.values())
        return [sentence for entry in entries for sentence in entry.damage_said()]

    def clear(self, fingerprint: str | None = None, encoder: str | None = None) -> None:
        """Delete the features of one slide, of one encoder, of both, or all; also damaged entries.

        A reader or a job of this process that is at it gets a sentence that says so. What other programs
        write is left.

        Parameters
        ----------
        fingerprint : str, optional
            Of a slide; all unless given.
        encoder : str, optional
            An encoder's key, or what it begins with up to a slash (``"colour-statistics"``); all unless
            given.

        Raises
        ------
        FeatureError
            If another program writes one of the slides; all others were cleared.
        """
        busy: list[FeatureError] = []
        names: dict[str, list[str]] = {}
        for name in self._names():
            slide = name.split("/")[0]
            if fingerprint in (None, slide) and (encoder is None or self._is_of(name, encoder)):
                names.setdefault(slide, []).append(name)
        for slide, entries in names.items():
            lock = self._slide_lock(slide)
            try:
                with lock.hold(patience_s=0), lock.writing, self._lock:
                    for name in entries:
                        self._remove(name)
                    lock.turn += 1
            except FeatureError as error:
                busy.append(error)
            except OSError as error:
                busy.append(
                    FeatureError(
                        f"{self._shown}/{slide}: can't be deleted ({error.strerror or error}); check the "
                        "rights of the folder."
                    )
                )
        if busy:
            raise busy[0]

    def _is_of(self, name: str, encoder: str) -> bool:
        try:
            key = self._known(name).attributes["encoder"]
        except FeatureError:
            return False
        return key == encoder or key.startswith(f"{encoder}/")

    def _remove(self, name: str) -> None:
        if name in self._open:
            self._open.pop(name).forget()
        self._files(name).remove()
        self._memory.pop(name, None)
        slide = name.split("/")[0]
        if self.path is not None and not _folders(self.path / slide):
            with contextlib.suppress(OSError):
                (self.path / slide / "zarr.json").unlink(missing_ok=True)
                (self.path / slide).rmdir()

    def __repr__(self) -> str:
        return f"<FeatureStore {self._shown}: {len(self._names())} entries, {self.nbytes / 1e6:.1f} MB>"


def _bytes_below(folder: str) -> int:
    """Bytes of all files of a folder and those in it; links aren't followed."""
    total = 0
    with contextlib.suppress(FileNotFoundError, NotADirectoryError), os.scandir(folder) as found:
        for item in found:
            with contextlib.suppress(OSError):  # another process may replace it meanwhile
                if item.is_dir(follow_symlinks=False):
                    total += _bytes_below(item.path)
                elif item.is_file(follow_symlinks=False):
                    total += item.stat(follow_symlinks=False).st_size
    return total


def _folders(path: Path) -> list[str]:
    with contextlib.suppress(FileNotFoundError, NotADirectoryError), os.scandir(path) as found:
        return [item.name for item in found if item.is_dir()]
    return []
