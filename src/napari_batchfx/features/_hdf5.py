"""Opening HDF5 files that others wrote: nothing outside the file is read, no more than there is room for."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import h5py  # type: ignore[import-untyped]  # has no types
import numpy as np
from numpy.typing import NDArray

from napari_batchfx.errors import FeatureError

__all__ = ["attributes", "open_hdf5", "read_numbers"]

_MOST_OBJECTS = 10_000
_LONGEST_TEXT = 300
#: What no packing reaches: deflate makes a thousandth of nothing but zeros. Little is believed as it is said.
_MOST_PACKED, _LITTLE = 1_200, 256 * 2**20


@contextmanager
def open_hdf5(path: Path, max_bytes: int) -> Iterator[h5py.File]:
    """Open a file for reading, after a look at everything in it.

    Parameters
    ----------
    path : Path
    max_bytes : int
        Most bytes that all its datasets may come to, unpacked.

    Raises
    ------
    FeatureError
        If there is no such file, it is no HDF5 or damaged, parts of it lie in other files (external links,
        external or virtual data), it is larger than ``max_bytes``, or it declares far more than it holds.
    """
    if not path.is_file():
        raise FeatureError(f"{path.name}: there is no such file.")
    try:
        with h5py.File(path, "r") as file:
            _check(path.name, file, max_bytes)
            yield file
    except FeatureError:
        raise
    except (OSError, RuntimeError, KeyError, TypeError, ValueError, OverflowError) as error:
        # what h5py raises for a file that is none, cut off, or packed in a way this machine can't unpack
        raise FeatureError(
            f"{path.name}: can't be read as HDF5 ({_short(error)}); it is another kind of file, or damaged."
        ) from error


def is_hdf5(path: Path) -> bool:
    """Whether a file begins as an HDF5 file does."""
    return bool(h5py.is_hdf5(path))


def check_hdf5(path: Path, max_bytes: int) -> None:
    """Look at a file that another library will open: what :func:`open_hdf5` refuses is refused."""
    with open_hdf5(path, max_bytes) as file:
        file.close()


def _short(error: BaseException) -> str:
    text = " ".join(str(error).split())
    return text if len(text) <= 120 else f"{text[:120]} …"


def _check(name: str, file: h5py.File, max_bytes: int) -> None:
    waiting: list[h5py.Group] = [file]
    seen: set[int] = set()
    total, stored, links = 0, 0, 0
    while waiting:
        group = waiting.pop()
        for key in group:
            links += 1
            if links > _MOST_OBJECTS:
                raise FeatureError(
                    f"{name}: holds more than {_MOST_OBJECTS:,} parts; it is no file of features."
                )
            link = group.get(key, getlink=True)
            if isinstance(link, h5py.SoftLink):
                continue  # leads to another place in this file, which is looked at there
            if not isinstance(link, h5py.HardLink):
                raise FeatureError(
                    f"{name}: parts of it lie in other files (link {str(key)[:40]!r}), which are not opened; "
                    "write everything into one file."
                )
            part = group[key]
            address = h5py.h5o.get_info(part.id).addr
            if address in seen:
                continue
            seen.add(address)
            if isinstance(part, h5py.Group):
                waiting.append(part)
            elif isinstance(part, h5py.Dataset):
                if part.is_virtual or part.external:
                    raise FeatureError(
                        f"{name}: the data of {str(key)[:40]!r} lie in other files, which are not opened; "
                        "write everything into one file."
                    )
                if part.shape is not None:  # Python's integers: the product may be beyond 64 bits
                    size = part.dtype.itemsize
                    for length in part.shape:
                        size *= int(length)
                    total += size
                    stored += int(part.id.get_storage_size())
    if total > max_bytes:
        raise FeatureError(
            f"{name}: its tables come to {total / 1e9:,.1f} GB, more than the {max_bytes / 1e9:,.1f} GB that "
            "are read at once; split it, or allow more with max_bytes."
        )
    if total > _LITTLE and total > _MOST_PACKED * stored:
        raise FeatureError(
            f"{name}: says that it has {total / 1e9:,.1f} GB of numbers and holds {stored / 1e6:,.1f} MB; it "
            "is damaged, or made to fill the memory, and isn't read."
        )


def read_numbers(name: str, file: h5py.File, key: str) -> NDArray[Any]:
    """A dataset of real numbers as an array; :class:`FeatureError` where it holds anything else."""
    part = file[key]
    if not isinstance(part, h5py.Dataset) or part.dtype.kind not in "fiu" or part.shape is None:
        raise FeatureError(f'{name}: "{key}" is no table of numbers.')
    return np.asarray(part[()])


def attributes(part: h5py.HLObject) -> dict[str, Any]:
    """Attributes as plain values: numbers, short texts, short lists of numbers; others are left out."""
    found: dict[str, Any] = {}
    for key in list(part.attrs)[:100]:
        try:
            value = part.attrs[key]
        except (OSError, TypeError, ValueError, RuntimeError):
            continue  # of a type that h5py doesn't know: none that is wanted here
        if isinstance(value, bytes):
            value = value.decode("utf-8", "replace")
        if isinstance(value, (np.ndarray, np.generic)) and value.size <= 8 and value.dtype.kind in "fiub":
            value = value.tolist()
        if isinstance(value, str):
            # TRIDENT writes None as text
            value = (
                None
                if value in ("", "None")
                else "".join(c for c in value if c.isprintable())[:_LONGEST_TEXT]
            )
        if isinstance(value, (str, int, float, list)):
            found[str(key)] = value
    return found
