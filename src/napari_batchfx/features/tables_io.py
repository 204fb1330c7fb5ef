"""Stack tables of several slides, write them, read them."""

from __future__ import annotations

import errno
import json
import os
import uuid
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from napari_batchfx.errors import FeatureError
from napari_batchfx.features.table import CATEGORIES, OBS_COLUMNS, provenance_of

if TYPE_CHECKING:
    from anndata import AnnData

__all__ = ["check_writable", "concat", "read_h5ad", "write_h5ad"]

#: Of one's own tables: what they say has to be there, however large.
_ANY_SIZE = 2**63


def concat(tables: Sequence[AnnData]) -> AnnData:
    """Stack tables of several slides.

    Parameters
    ----------
    tables : sequence of AnnData
        Tables of one encoder, as :func:`make_table` makes them.

    Returns
    -------
    AnnData
        All rows in the order given, unique ``obs_names``, categories merged; ``uns["batchfx"]["slides"]``
        describes every slide.

    Raises
    ------
    FeatureError
        If there is no table, the encoders differ, or the same tile comes twice.

    Examples
    --------
    >>> import numpy as np
    >>> from napari_batchfx.features import embed
    >>> from napari_batchfx.slides import open_slide, write_pyramid
    >>> tables = []
    >>> for name, grey in (("a.tif", 200), ("b.tif", 190)):
    ...     pixels = np.full((300, 400, 3), grey, np.uint8)
    ...     with open_slide(write_pyramid(name, pixels, mpp=0.5, compression="deflate")) as slide:
    ...         tables.append(embed(slide, "colour-statistics", cells=[(0, 0)]))
    >>> concat(tables).obs["slide"].tolist()
    ['a', 'b']
    """
    import anndata
    import pandas as pd

    tables = list(tables)
    if not tables:
        raise FeatureError("There is no table to stack; encode at least one slide.")
    first = provenance_of(tables[0])
    merged: dict[str, Any] = {
        "version": first.get("version", ""),
        "encoder": first.get("encoder", {}),
        "slides": {},
    }
    for table in tables:
        here = provenance_of(table)
        key, wanted = here.get("encoder", {}).get("key", ""), merged["encoder"].get("key", "")
        if key != wanted:
            raise FeatureError(
                f"These tables hold features of two encoders ({wanted or 'unknown'} and {key or 'unknown'}), "
                "which can't be compared; encode all slides with one."
            )
        if list(table.var_names) != list(tables[0].var_names):
            raise FeatureError(
                f"These tables have {tables[0].n_vars} and {table.n_vars} columns, or other names; encode "
                "all slides with one encoder."
            )
        for name, slide in here.get("slides", {}).items():
            known = merged["slides"].setdefault(name, slide)
            if known.get("fingerprint") != slide.get("fingerprint"):
                raise FeatureError(
                    f'Two different slides are called "{name}"; give one of them another name.'
                )
    names = [str(name) for table in tables for name in table.obs_names]
    if len(set(names)) != len(names):
        twice = pd.Index(names)[pd.Index(names).duplicated()][0]
        raise FeatureError(f"The tile {twice} is in two of the tables; each tile may come once.")
    frames: dict[str, Any] = {}
    for column in tables[0].obs.columns:
        parts = [table.obs[column] for table in tables]
        if all(isinstance(p.dtype, pd.CategoricalDtype) for p in parts):
            kinds = pd.Index(list(dict.fromkeys(c for p in parts for c in p.cat.categories)), dtype=object)
            values = [v for p in parts for v in p.astype(object)]
            frames[column] = pd.Categorical(values, categories=kinds)
        else:
            frames[column] = np.concatenate([p.to_numpy() for p in parts])
    obs = pd.DataFrame(frames, index=pd.Index(names, dtype=object))
    stacked = anndata.AnnData(
        X=np.concatenate([np.asarray(t.X) for t in tables]), obs=obs, var=tables[0].var.copy()
    )
    stacked.uns["batchfx"] = merged
    return stacked


def write_h5ad(table: AnnData, path: str | os.PathLike[str]) -> Path:
    """Write a table as ``.h5ad``, whole or not at all; scanpy and its relatives read it.

    Parameters
    ----------
    table : AnnData
    path : path
        File to write; one that is there is replaced when the new one is complete.

    Raises
    ------
    FeatureError
        If the file can't be written, or its name ends in something else than ``.h5ad``.

    Examples
    --------
    >>> import anndata, numpy
    >>> write_h5ad(anndata.AnnData(numpy.ones((2, 3), numpy.float32)), "tiles.h5ad").name
    'tiles.h5ad'
    """
    path = Path(path)
    check_writable(path)
    # h5ad has no lists of mappings and no None: the provenance travels as one JSON string
    copy = table.copy()
    if "batchfx" in copy.uns:
        copy.uns["batchfx"] = json.dumps(provenance_of(table), sort_keys=True)
    part = path.with_name(f".{path.name}.{uuid.uuid4().hex[:8]}.part")
    try:
        copy.write_h5ad(part)
        part.replace(path)
    except OSError as error:
        raise FeatureError(
            f"{path.name}: can't be written ({os.strerror(error.errno) if error.errno else 'disk full?'}); "
            "choose another folder."
        ) from error
    finally:
        part.unlink(missing_ok=True)
    return path


def check_writable(path: str | os.PathLike[str]) -> None:
    """Raise :class:`FeatureError` if a table can't be written there: known before the tiles are encoded.

    HDF5 says why in its own words; here the system says it.
    """
    path = Path(path)
    if path.suffix.lower() != ".h5ad":
        raise FeatureError(f"{path.name}: the table is written as .h5ad; end the file's name so.")
    part = path.with_name(f".{path.name}.{uuid.uuid4().hex[:8]}.part")
    try:
        if path.is_dir():
            raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR))
        part.touch()
        part.unlink()
    except OSError as error:
        name = path.name if len(path.name) < 80 else f"{path.name[:60]}….h5ad"
        raise FeatureError(
            f"{name}: can't be written ({error.strerror or error}); choose another name or folder."
        ) from error


def read_h5ad(path: str | os.PathLike[str]) -> AnnData:
    """Read a table of tiles written by :func:`write_h5ad` or by another program.

    Raises
    ------
    FeatureError
        If there is no such file, it is no h5ad, it has no features, parts of it lie in other files, or it
        declares far more than it holds.

    Examples
    --------
    >>> import anndata, numpy, pandas
    >>> obs = pandas.DataFrame({"slide": ["a", "a"]}, index=["0", "1"])
    >>> _ = write_h5ad(anndata.AnnData(numpy.ones((2, 3), numpy.float32), obs=obs), "tiles.h5ad")
    >>> read_h5ad("tiles.h5ad").shape
    (2, 3)
    """
    import anndata
    import pandas as pd

    path = Path(path)
    if not path.is_file():
        raise FeatureError(f"{path.name}: there is no such file.")
    from napari_batchfx.features._hdf5 import check_hdf5, is_hdf5

    if not is_hdf5(path):
        raise FeatureError(f"{path.name}: is no h5ad table, or it is damaged; write it again.")
    check_hdf5(path, _ANY_SIZE)
    try:
        table = anndata.read_h5ad(path)
    except (OSError, KeyError, ValueError, TypeError, AttributeError) as error:
        raise FeatureError(f"{path.name}: is no h5ad table, or it is damaged; write it again.") from error
    if table.X is None:
        raise FeatureError(f"{path.name}: holds no features (X is empty).")
    if "batchfx" in table.uns:
        table.uns["batchfx"] = provenance_of(table)
    for column in (*CATEGORIES, "label"):
        if column in table.obs and not isinstance(table.obs[column].dtype, pd.CategoricalDtype):
            table.obs[column] = pd.Categorical(table.obs[column])
    for column, kind in (("row", np.int32), ("col", np.int32), ("tissue", np.float32), ("control", bool)):
        if column in table.obs and table.obs[column].dtype != kind:
            table.obs[column] = table.obs[column].to_numpy().astype(kind)
    missing = [c for c in OBS_COLUMNS if c in ("slide",) and c not in table.obs]
    if missing:
        raise FeatureError(
            f"{path.name}: has no column {missing[0]} in obs; a table of tiles says which slide each row is "
            "from."
        )
    return table
