"""One entry of the feature store: the cells of one slide under one encoder, grid and stain."""

from __future__ import annotations

import contextlib
import errno
import threading
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import numpy as np
import numpy.typing as npt

from napari_batchfx.errors import FeatureError
from napari_batchfx.features._entry import Entry
from napari_batchfx.features._files import Files
from napari_batchfx.features.locks import SlideLock

__all__ = ["FeatureArray"]

Cells = npt.NDArray[np.int32]


class FeatureArray:
    """Vectors of cells, appended in any order, read in any order; made by :meth:`FeatureStore.array`.

    Attributes
    ----------
    dim : int
        Length of a vector.
    attributes : dict
        fingerprint, encoder, grid, stain.

    Notes
    -----
    Reading needs no lock and sees what other programs add. A cell whose vector is damaged on the disk (it
    has a checksum) isn't done any more: the next job encodes it again, and the others stay.

    Examples
    --------
    >>> from napari_batchfx.features import FeatureStore
    >>> array = FeatureStore().array("fingerprint", "encoder", "grid", dim=2)
    >>> array.append([(0, 0), (3, 1)], [[0.5, 1.0], [1.5, 2.0]])
    2
    >>> array.has([(3, 1), (9, 9)]).tolist(), array.read([(3, 1)]).tolist()
    ([True, False], [[1.5, 2.0]])
    """

    def __init__(
        self,
        files: Files,
        lock: SlideLock,
        store_name: str,
        name: str,
        attributes: Mapping[str, str] | None,
        dim: int | None,
        prepare: Callable[[], None],
    ) -> None:
        self._lock, self._shown = lock, f"{store_name}/{name}"
        self._state = threading.RLock()
        self._gone = False
        self._said: set[tuple[int, int]] = set()
        self._to_say = 0
        with self._named():
            self._entry = Entry(files, lock, attributes, dim, prepare)
        if self._entry.dim is None:
            raise FeatureError(
                f"{self._shown}: no features of this slide with this encoder, grid and stain yet; encode it "
                "first."
            )
        if self._entry.attributes is None:
            raise FeatureError(
                f"{self._shown}: these features don't say what they are of (damaged zarr.json); ask for them "
                "with the same settings again (encode), and they are used as they are, or clear them."
            )
        self.dim: int = self._entry.dim
        self.attributes: dict[str, str] = dict(self._entry.attributes)

    @contextlib.contextmanager
    def _named(self) -> Iterator[None]:
        """Turn what the system raises into one sentence that names the entry."""
        if self._gone:
            raise self._deleted()
        try:
            yield
        except PermissionError as error:
            raise FeatureError(
                f"{self._shown}: may not be read or written; check the rights of the folder."
            ) from error
        except OSError as error:
            if error.errno in (errno.ENOSPC, getattr(errno, "EDQUOT", errno.ENOSPC)):
                raise FeatureError(
                    f"{self._shown}: the disk is full; free some room, the features up to here are kept."
                ) from error
            raise FeatureError(
                f"{self._shown}: can't be read or written ({error.strerror or error}); check the disk, what "
                "is stored is kept."
            ) from error

    def _look(self) -> bool:
        """See what was added or deleted meanwhile; whether the entry is still there."""
        if not self._gone:
            with self._named():
                self._gone = not self._entry.refresh()
        return not self._gone

    @property
    def n(self) -> int:
        """Number of cells that are done."""
        with self._state:
            return self._entry.n if self._look() else 0

    @property
    def nbytes(self) -> int:
        """Bytes of the entry's files, or of its memory; cheap to ask."""
        with self._state:
            return self._entry.nbytes if self._look() else 0

    def done_cells(self) -> Cells:
        """Cells that are done, (n, 2) int32, row-major; as :meth:`has` without ``verify``."""
        with self._state:
            return self._entry.done_cells() if self._look() else np.zeros((0, 2), np.int32)

    def has(self, cells: npt.ArrayLike, *, verify: bool = True) -> npt.NDArray[np.bool_]:
        """Which cells are done.

        Parameters
        ----------
        cells : int array (n, 2)
        verify : bool
            Read the vectors once and compare their checksums, so that damaged ones count as not done; what
            was verified isn't read again until its file changes. Without, only the index is asked.

        Returns
        -------
        bool array (n,)
        """
        cells = _as_cells(cells)
        with self._state:
            there = self._entry.has(cells) if self._look() else np.zeros(len(cells), bool)
            known = self._entry.known_identity
        if verify and there.any():
            there[there] = self._whole(cells[there], None, known)
        return there

    def _whole(
        self, cells: Cells, out: npt.NDArray[np.float32] | None, known: object
    ) -> npt.NDArray[np.bool_]:
        """Which of these cells, all done, are whole; their vectors into ``out``. The others are lost.

        ``known`` is the identity of the entry whose index said that they are done.
        """
        with self._named():
            whole = self._entry.verify(cells) if out is None else self._entry.gather(cells, out)
            # files that were deleted meanwhile, and perhaps made anew, aren't damaged
            same = self._entry.is_still(known)
        if same and not whole.all():
            self._lose(cells[~whole])
        elif not whole.all() and out is not None:
            raise self._deleted()
        return whole

    def _deleted(self) -> FeatureError:
        return FeatureError(f"{self._shown}: these features were deleted; ask the store for the entry again.")

    def append(self, cells: npt.ArrayLike, features: npt.ArrayLike) -> int:
        """Add cells with their vectors; cells that are done already stay as they are.

        Parameters
        ----------
        cells : int array (n, 2)
        features : float32 array (n, dim)

        Returns
        -------
        int
            How many were new.

        Raises
        ------
        FeatureError
            If lengths don't fit, a number isn't finite, the disk doesn't take it, or another program writes
            this slide's features; then none of them was added.
        """
        cells = _as_cells(cells)
        values = np.asarray(features, dtype=np.float32)
        if values.shape != (len(cells), self.dim):
            raise FeatureError(
                f"{self._shown}: {len(cells)} cells need features ({len(cells)}, {self.dim}), not "
                f"{values.shape}."
            )
        if len(cells) and cells.min() < 0:
            raise FeatureError(f"{self._shown}: a cell has a negative row or column.")
        if not np.isfinite(values).all():
            raise FeatureError(
                f"{self._shown}: some features are not finite numbers and weren't kept; the encoder failed "
                "on these tiles."
            )
        if not len(cells) or self.has(cells, verify=False).all():
            return 0
        with self._named(), self._lock.hold(), self._lock.writing:
            with self._state:
                if self._look():
                    fresh = self._fresh(cells)
            with self._named():
                if len(fresh):
                    # readers go on meanwhile: files first, then the index
                    self._entry.write(cells[fresh], values[fresh], self._state)
            return len(fresh)

    def _fresh(self, cells: Cells) -> npt.NDArray[np.int64]:
        """Positions of cells that aren't done, each cell once, in the order given."""
        _, first = np.unique(cells, axis=0, return_index=True)
        first.sort()
        result: npt.NDArray[np.int64] = first[~self._entry.has(cells[first])]
        return result

    @contextlib.contextmanager
    def writing(self, slide: str = "") -> Iterator[None]:
        """Keep the right to write this slide's features for a whole job, and be seen doing so.

        Parameters
        ----------
        slide : str
            Its name, for the sentence that other programs get.

        Raises
        ------
        FeatureError
            On entering, if another program writes them: before anything is computed in vain.
        """
        with contextlib.ExitStack() as own:
            with self._named():
                own.enter_context(self._lock.hold(slide, job=True))
            yield

    def read(self, cells: npt.ArrayLike) -> npt.NDArray[np.float32]:
        """Vectors of cells, float32 (n, dim), in the order given.

        Raises
        ------
        FeatureError
            If a cell isn't done, or its vector is damaged; then it isn't done any more.
        """
        cells = _as_cells(cells)
        with self._state:
            there = self._entry.has(cells) if self._look() else np.zeros(len(cells), bool)
            known = self._entry.known_identity
        if not there.all():
            missing = cells[~there]
            raise FeatureError(
                f"{self._shown}: {len(missing)} of {len(cells)} tiles aren't encoded yet, the first at "
                f"row, col {tuple(missing[0].tolist())}."
            )
        out = np.empty((len(cells), self.dim), np.float32)
        whole = self._whole(cells, out, known)
        if not whole.all():
            raise FeatureError(self._damage(len(np.unique(cells[~whole], axis=0))))
        return out

    def _lose(self, cells: Cells) -> None:
        with self._state:
            if self._look():
                self._entry.lose(cells)
                new = set(map(tuple, cells.tolist())) - self._said
                self._said |= new
                self._to_say += len(new)

    def _damage(self, n: int) -> str:
        those, are = ("the features of 1 tile", "is") if n == 1 else (f"the features of {n:,} tiles", "are")
        return (
            f"{self._shown}: {those} {are} damaged on the disk and left out; encode again to fill them. The "
            "others aren't affected."
        )

    def damage_said(self) -> list[str]:
        """What was found damaged since this was last asked, in a sentence; each tile is said once."""
        n = self.damage_found()
        return [self._damage(n)] if n else []

    def damage_found(self) -> int:
        """How many tiles were found damaged since this, or the sentence of it, was last asked."""
        with self._state:
            n, self._to_say = self._to_say, 0
        return n

    @property
    def is_deleted(self) -> bool:
        """Whether the entry was cleared, here or by another program."""
        with self._state:
            return not self._look()

    def forget(self) -> None:
        """Marks the entry as deleted; using it afterwards is an error that says so."""
        with self._state:
            self._gone = True

    def __repr__(self) -> str:
        what = f"{self.n} tiles of {self.dim} numbers, {self.attributes['encoder']}"
        return f"<FeatureArray {self._shown}: {what}>"


def _as_cells(cells: npt.ArrayLike) -> Cells:
    array: npt.NDArray[Any] = np.asarray(cells)
    if array.size == 0:
        return np.zeros((0, 2), np.int32)
    if array.ndim != 2 or array.shape[1] != 2:
        raise FeatureError(f"Cells must be an array (n, 2) of row and column, not {array.shape}.")
    return array.astype(np.int32)
