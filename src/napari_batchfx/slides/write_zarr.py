"""Write OME-Zarr pyramids from anything that can be sliced by rows; memory holds a few rows of chunks."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from napari_batchfx.errors import SlideError
from napari_batchfx.slides.halving import box_half
from napari_batchfx.slides.levels import COARSEST_PIXELS

__all__ = ["write_ome_zarr"]

Rgb = NDArray[np.uint8]
_AXES = (("c", "channel"), ("y", "space"), ("x", "space"))


def write_ome_zarr(
    path: str | Path,
    source: Any,
    mpp: float | tuple[float, float] | None,
    *,
    chunk: int = 512,
    notes: Mapping[str, Any] | None = None,
    on_tiles: Callable[[int, int], None] | None = None,
) -> Path:
    """Write an OME-Zarr image, NGFF 0.4 (Zarr 2), lossless.

    Each level is the 2x2 box mean of the level before, until one has at most 1 MPix.

    Parameters
    ----------
    path : path
        Folder to make (``.zarr``); it appears when it is complete, in place of one that was there.
    source : array (h, w, 3) uint8
        The image: anything that can be sliced by rows.
    mpp : float, (float, float) or None
        Micrometres a pixel, (y, x); None writes no unit.
    chunk : int
        Chunk edge in pixels, even; a chunk holds the three colours.
    notes : mapping, optional
        Plain values, kept as ``napari-batchfx`` beside the image's own attributes.
    on_tiles : callable, optional
        Called with (chunks written, chunks in all), of all levels; what it raises stops the writing, and no
        folder is left.

    Returns
    -------
    Path
        The folder.

    Raises
    ------
    SlideError
        If the source is no RGB image.

    Examples
    --------
    >>> import tempfile
    >>> path = Path(tempfile.mkdtemp()) / "b.ome.zarr"
    >>> write_ome_zarr(path, np.full((64, 64, 3), 220, np.uint8), 0.25).name
    'b.ome.zarr'
    """
    import zarr

    path = Path(path)
    shape = tuple(getattr(source, "shape", ()))
    if len(shape) != 3 or shape[2] != 3 or min(shape) < 1 or source.dtype != np.uint8:
        raise SlideError(f"{path.name}: a slide is written from uint8 (height, width, 3), got {shape}.")
    if chunk < 16 or chunk % 2:
        raise SlideError(f"{path.name}: chunks have an even edge of at least 16 px, got {chunk}.")
    sizes = [(int(shape[0]), int(shape[1]))]
    while sizes[-1][0] * sizes[-1][1] > COARSEST_PIXELS:
        sizes.append((-(-sizes[-1][0] // 2), -(-sizes[-1][1] // 2)))
    total = sum(-(-h // chunk) * -(-w // chunk) for h, w in sizes)
    partial = path.with_name(f".{path.name}.{os.getpid()}.part")
    shutil.rmtree(partial, ignore_errors=True)
    try:
        group = zarr.open_group(str(partial), mode="w", zarr_format=2)
        arrays = [
            group.create_array(
                str(k),
                shape=(3, h, w),
                chunks=(3, chunk, chunk),
                dtype="uint8",
                fill_value=255,
                chunk_key_encoding={"name": "v2", "separator": "/"},
            )
            for k, (h, w) in enumerate(sizes)
        ]
        done = 0
        for level, y, band in _bands(source, chunk, len(sizes)):
            arrays[level][:, y : y + band.shape[0], :] = np.ascontiguousarray(band.transpose(2, 0, 1))
            done += -(-band.shape[1] // chunk)
            if on_tiles is not None:
                on_tiles(done, total)
        group.attrs.update(_attributes(path.name, mpp, len(sizes), notes))
        _put_in_place(partial, path)
    finally:
        shutil.rmtree(partial, ignore_errors=True)
    return path


def _put_in_place(partial: Path, path: Path) -> None:
    """Rename; what was there before leaves only once the new folder is complete."""
    old = partial.with_suffix(".old")
    if path.exists():
        path.replace(old)
    try:
        partial.replace(path)
    except OSError:
        if old.exists():
            old.replace(path)
        raise
    if old.is_dir():
        shutil.rmtree(old, ignore_errors=True)
    else:
        old.unlink(missing_ok=True)


def _bands(source: Any, chunk: int, n_levels: int) -> Iterator[tuple[int, int, Rgb]]:
    """Yield (level, first row, rows), ``chunk`` rows each; a level fills while the one before is read."""
    waiting: list[list[Rgb]] = [[] for _ in range(n_levels)]
    start = [0] * n_levels

    def put(level: int, band: Rgb, last: bool) -> Iterator[tuple[int, int, Rgb]]:
        yield level, start[level], band
        start[level] += band.shape[0]
        if level + 1 < n_levels:
            waiting[level + 1].append(box_half(band))
            rows = sum(part.shape[0] for part in waiting[level + 1])
            if rows >= chunk or last:
                whole = np.concatenate(waiting[level + 1])
                waiting[level + 1].clear()
                yield from put(level + 1, whole, last)

    height = source.shape[0]
    for y in range(0, height, chunk):
        yield from put(0, np.asarray(source[y : y + chunk], np.uint8), y + chunk >= height)


def _attributes(
    name: str, mpp: float | tuple[float, float] | None, n_levels: int, notes: Mapping[str, Any] | None
) -> dict[str, Any]:
    axes: list[dict[str, str]] = [{"name": axis, "type": kind} for axis, kind in _AXES]
    if mpp is not None:
        for axis in axes[1:]:
            axis["unit"] = "micrometer"
    my, mx = (1.0, 1.0) if mpp is None else (mpp, mpp) if isinstance(mpp, (int, float)) else mpp
    steps = [[1.0, float(my) * 2**k, float(mx) * 2**k] for k in range(n_levels)]
    # a coarser pixel's centre lies off that of the first: NGFF counts from centres
    shifts = [[0.0, float(my) * (2**k - 1) / 2, float(mx) * (2**k - 1) / 2] for k in range(n_levels)]
    datasets = [
        {
            "path": str(k),
            "coordinateTransformations": [
                {"type": "scale", "scale": steps[k]},
                {"type": "translation", "translation": shifts[k]},
            ],
        }
        for k in range(n_levels)
    ]
    channels = [
        {
            "label": label,
            "color": colour,
            "active": True,
            "window": {"min": 0, "max": 255, "start": 0, "end": 255},
        }
        for label, colour in (("red", "FF0000"), ("green", "00FF00"), ("blue", "0000FF"))
    ]
    found: dict[str, Any] = {
        "multiscales": [{"version": "0.4", "axes": axes, "datasets": datasets, "type": "2x2 mean"}],
        "omero": {"channels": channels, "rdefs": {"model": "color"}},
    }
    if notes:
        found["napari-batchfx"] = dict(notes)
    return found
