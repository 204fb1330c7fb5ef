"""Small levels for slides whose file has none: made once, in the background, and kept on disk."""

from __future__ import annotations

import os
import re
import time
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from napari_batchfx.errors import SlideError
from napari_batchfx.jobs import Job, Progress, Ticker
from napari_batchfx.slides._bands import BAND_NAME, BandStore
from napari_batchfx.slides.levels import VIRTUAL_TILE, levels_to_prepare

if TYPE_CHECKING:
    from filelock import BaseFileLock

    from napari_batchfx.slides.damage import DamageLog
    from napari_batchfx.slides.slide import Slide

__all__ = ["clear_prepared", "prepare_pyramid_job", "prepared_bytes", "prepared_folder", "prepared_store"]

ENVIRONMENT = "BATCHFX_PREPARED"
LIMIT_BYTES = 20 * 10**9
_FOLDER_NAME = re.compile(r"[0-9a-f]{32}(-srgb-[0-9a-f]{8})?")
_BAND = re.compile(BAND_NAME)
_LOCK = "in use.lock"
WAIT_S = 0.1


def prepared_folder() -> Path:
    """Return the folder of prepared levels: ``BATCHFX_PREPARED``, else ``prepared`` in the cache folder.

    The cache folder is ``BATCHFX_CACHE`` or the user's own.

    Examples
    --------
    >>> prepared_folder().name
    'prepared'
    """
    if chosen := os.environ.get(ENVIRONMENT):
        return Path(chosen)
    if cache := os.environ.get("BATCHFX_CACHE"):
        return Path(cache) / "prepared"
    import platformdirs

    return Path(platformdirs.user_cache_dir("napari-batchfx", appauthor=False)) / "prepared"


def prepared_bytes(folder: Path | None = None) -> int:
    """Return how many bytes all prepared levels take on disk.

    Examples
    --------
    >>> prepared_bytes() >= 0
    True
    """
    return sum(size for _, _, size in _slides(folder or prepared_folder()))


def clear_prepared(keep_bytes: int = 0, folder: Path | None = None) -> int:
    """Drop prepared levels, longest unused slides first, until at most ``keep_bytes`` are left.

    Returns
    -------
    int
        Bytes freed. Only files written here are touched; slides that are open go on without them.

    Examples
    --------
    >>> _ = clear_prepared(keep_bytes=10**9)
    >>> prepared_bytes() <= 10**9
    True
    """
    return _drop(folder or prepared_folder(), keep_bytes, keep=None)


def _slides(root: Path) -> list[tuple[float, Path, int]]:
    """Return (last use, folder, bytes) of every prepared slide, longest unused first."""
    found = []
    try:
        folders = [one for one in root.iterdir() if _FOLDER_NAME.fullmatch(one.name) and one.is_dir()]
    except OSError:
        return []
    for one in folders:
        try:
            found.append((one.stat().st_mtime, one, sum(p.stat().st_size for p in _bands(one))))
        except OSError:  # another program is dropping it
            continue
    return sorted(found)


def _bands(folder: Path) -> Iterator[Path]:
    return (path for path in folder.iterdir() if _BAND.fullmatch(path.name))


def _drop(root: Path, keep_bytes: int, keep: Path | None) -> int:
    slides = _slides(root)
    total, freed = sum(size for _, _, size in slides), 0
    for _, folder, _ in slides:
        if total - freed <= keep_bytes:
            break
        if folder != keep:
            freed += _drop_one(folder)
    return freed


def _drop_one(folder: Path) -> int:
    from filelock import FileLock, Timeout

    freed = 0
    try:
        with FileLock(folder / _LOCK, timeout=0):
            for path in list(_bands(folder)):
                size = path.stat().st_size
                path.unlink()
                freed += size
        (folder / _LOCK).unlink(missing_ok=True)
        folder.rmdir()
    except (OSError, Timeout):  # being prepared or read elsewhere, or not ours to delete: it stays
        pass
    return freed


def prepared_store(
    slide: Slide, colour_key: str, damage: DamageLog, folder: Path | None = None
) -> BandStore | None:
    """Return where a slide's prepared levels lie in these colours; None if it needs none."""
    runs = levels_to_prepare(slide.levels)
    if not slide.needs_pyramid:
        return None
    shapes = {level: slide.levels[level].shape for run in runs for level in run}
    identity = {
        "slide": slide.fingerprint,
        "colour": colour_key,
        "reader": type(slide._source).__name__,
        "levels": [[*level.shape, level.stored] for level in slide.levels],
        "tile": VIRTUAL_TILE,
    }
    name = f"{slide.fingerprint}-{colour_key}" if colour_key else slide.fingerprint
    return BandStore(
        (folder or prepared_folder()) / name, identity, shapes, (VIRTUAL_TILE, VIRTUAL_TILE), damage
    )


def prepare_pyramid_job(
    slide: Slide, folder: Path | None = None, limit_bytes: int = LIMIT_BYTES
) -> Job[Path]:
    """Make the levels that a slide's file lacks, and keep them on disk.

    Parameters
    ----------
    slide : Slide
        In the colours that it is read in now.
    folder : Path, optional
        In place of :func:`prepared_folder`; the slide reads from there from now on.
    limit_bytes : int
        What the folder may hold; the longest unused other slides are dropped for it.

    Yields
    ------
    Progress
        Tiles made; ``partial`` is (level, row) when a row of tiles is ready to be seen.

    Returns
    -------
    Path
        The slide's own folder. Nothing is made for a slide that doesn't need it.

    Raises
    ------
    SlideError
        If the folder can't be written or is full, or the slide can't be read. The slide works as before.

    Notes
    -----
    Rows of tiles are made one after the other and are whole or not there: a job that was stopped or killed
    goes on where it was. Two programs take turns.

    Examples
    --------
    >>> import numpy as np
    >>> from napari_batchfx.jobs import run
    >>> from napari_batchfx.slides import open_slide, write_pyramid
    >>> _ = write_pyramid("one-level.tif", np.full((2100, 2100, 3), 200, np.uint8), 0.5, levels=1)
    >>> with open_slide("one-level.tif") as slide:
    ...     slide.needs_pyramid, run(prepare_pyramid_job(slide)).name == slide.fingerprint, slide.is_prepared
    (True, True, True)
    """
    from napari_batchfx.slides._making import Maker

    slide._require_open()
    pixels = slide._pixels
    if folder is not None:
        pixels.store = prepared_store(slide, slide.colour_key, slide._damage, Path(folder))
    store = pixels.store
    if store is None or store.is_complete:
        return (folder or prepared_folder()) / slide.fingerprint if store is None else store.folder
    maker = Maker(pixels, store, slide._watch)
    ticker = Ticker(maker.n_tiles, f"preparing {slide.name}")
    room = _Room(store.folder, limit_bytes, slide.path.name)
    try:
        store.folder.mkdir(parents=True, exist_ok=True)
        lock = yield from _turn(store.folder, slide.name)
        try:
            yield from maker.make(ticker, room.take)
        finally:
            lock.release()
    except OSError as error:
        raise SlideError(
            f"{slide.path.name}: its small levels can't be kept in {store.folder.parent} "
            f"({error.strerror or error}); the slide works, only zooming out stays slow. Make room there, or "
            f"set {ENVIRONMENT} to another folder."
        ) from error
    return store.folder


def _turn(folder: Path, name: str) -> Job[BaseFileLock]:
    """Wait, in small steps, until no other program prepares this slide."""
    from filelock import FileLock, Timeout

    # the parts of a job may run in different threads
    lock = FileLock(folder / _LOCK, thread_local=False)
    while True:
        try:
            lock.acquire(timeout=0)
        except Timeout:
            yield Progress(0, 0, f"waiting: {name} is being prepared by another program")
            time.sleep(WAIT_S)
        else:
            return lock


class _Room:
    """Keeps the folder under its limit while one slide's levels grow."""

    def __init__(self, folder: Path, limit: int, name: str) -> None:
        self._folder, self._limit, self._name = folder, limit, name
        self._total = prepared_bytes(folder.parent)

    def take(self, size: int) -> None:
        self._total += size
        if self._total <= self._limit:
            return
        _drop(self._folder.parent, self._limit, keep=self._folder)
        self._total = prepared_bytes(self._folder.parent)
        if self._total > self._limit:
            raise SlideError(
                f"{self._name}: its small levels need more than the {self._limit / 1e9:.3g} GB that prepared "
                "levels may take; the slide works, only zooming out stays slow. Raise the limit, or clear "
                "the prepared levels."
            )
