"""Bags: the tiles of one specimen on one scanner, with the specimen's class."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from napari_batchfx.errors import AdaptError
from napari_batchfx.probe.columns import category_codes, feature_matrix

if TYPE_CHECKING:
    from anndata import AnnData

__all__ = ["Bag", "bags_of"]


@dataclass(frozen=True)
class Bag:
    """Tiles of one slide.

    Attributes
    ----------
    features : float32 (n, d)
    specimen, scanner : str
        The same specimen on two scanners makes two bags.
    label : str
        Class of the specimen, "" where it isn't known.
    rows : int (n,)
        Rows of the table.
    """

    features: NDArray[np.float32]
    specimen: str
    scanner: str
    label: str
    rows: NDArray[np.intp]


def bags_of(
    table: AnnData, label: str = "label", specimen: str = "specimen", scanner: str = "scanner"
) -> list[Bag]:
    """Bags of a table: one for each specimen and scanner, of all its tiles with features.

    Parameters
    ----------
    table : anndata.AnnData
    label : str
        Column of the specimen's class; it must be the same on all tiles that have one.
    specimen, scanner : str
        Columns. The specimen is what was scanned: rescans of one glass share it (from aligned rescans, or
        from
        simulated scanners).

    Raises
    ------
    AdaptError
        If a column is missing, or a specimen has two classes.

    Examples
    --------
    >>> import anndata, pandas
    >>> obs = pandas.DataFrame({"specimen": ["1", "1", "2"], "scanner": ["A", "B", "A"]})
    >>> obs["label"] = ["x", "x", "y"]
    >>> obs.index = obs.index.astype(str)
    >>> table = anndata.AnnData(np.zeros((3, 2)), obs=obs)
    >>> [(bag.specimen, bag.scanner, bag.label) for bag in bags_of(table)]
    [('1', 'A', 'x'), ('1', 'B', 'x'), ('2', 'A', 'y')]
    """
    x = feature_matrix(table)
    finite = np.isfinite(x).all(axis=1)
    who, names = category_codes(table, specimen)
    where, scanners = category_codes(table, scanner)
    what, classes = category_codes(table, label)
    for column, found in ((specimen, names), (scanner, scanners)):
        if not found:
            raise AdaptError(
                f"No tile has a {column}: bags need to know what was scanned and on which scanner."
            )
    bags = []
    for i, name in enumerate(names):
        mine = who == i
        labels = np.unique(what[mine & (what >= 0)])
        if len(labels) > 1:
            raise AdaptError(f"{specimen} {name} has {len(labels)} classes; a specimen has one.")
        for s, other in enumerate(scanners):
            rows = np.flatnonzero(mine & (where == s) & finite)
            if len(rows):
                text = classes[labels[0]] if len(labels) else ""
                bags.append(Bag(np.asarray(x[rows], np.float32), name, other, text, rows))
    return bags
