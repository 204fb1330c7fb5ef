"""Writing as a job: it tells how far it is, and closing it leaves no file."""

from __future__ import annotations

import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor, wait
from pathlib import Path
from typing import Any

from napari_batchfx.jobs import Job, Ticker
from napari_batchfx.slides.write import write_pyramid
from napari_batchfx.slides.write_zarr import write_ome_zarr

__all__ = ["write_slide_job"]

_STEP_S = 0.1


class _StoppedError(Exception):
    """Ends the writing from inside."""


def write_slide_job(
    path: str | Path, source: Any, mpp: float | tuple[float, float] | None, **options: Any
) -> Job[Path]:
    """:func:`write_pyramid`, or for a name ending in ``.zarr`` :func:`write_ome_zarr`, as a job.

    Parameters
    ----------
    path, source, mpp, **options
        As the function that writes takes them.

    Yields
    ------
    Progress
        Tiles written, of all levels.

    Returns
    -------
    Path
        The file. A job that is closed before its end leaves nothing under that name; what was there stays.

    Examples
    --------
    >>> import numpy as np, tempfile
    >>> from napari_batchfx.jobs import run
    >>> path = Path(tempfile.mkdtemp()) / "c.ome.tif"
    >>> run(write_slide_job(path, np.full((64, 64, 3), 220, np.uint8), 0.25, flavour="ome")).name
    'c.ome.tif'
    """
    path = Path(path)
    write: Callable[..., Path] = write_ome_zarr if path.suffix.lower() == ".zarr" else write_pyramid
    stop = threading.Event()
    far = [0, 0]

    def tell(done: int, total: int) -> None:
        far[:] = done, total
        if stop.is_set():
            raise _StoppedError

    ticker = Ticker(0, f"writing {path.name}")
    yield ticker.tick(0)
    # tifffile pulls its tiles and can't be left half-way: it works in a thread of its own
    with ThreadPoolExecutor(1, thread_name_prefix="batchfx-write") as pool:
        future = pool.submit(write, path, source, mpp, on_tiles=tell, **options)
        try:
            while not wait([future], _STEP_S).done:
                done, ticker.total = far
                yield ticker.tick(done - ticker.done)
        finally:
            stop.set()
        return future.result()
