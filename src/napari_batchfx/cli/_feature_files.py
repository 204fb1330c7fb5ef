"""Features in one file and their columns in another, as other programs leave them: a table out of both."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from napari_batchfx.errors import FeatureError

if TYPE_CHECKING:
    from anndata import AnnData

__all__ = ["FEATURE_FILES", "read_feature_rows", "read_features_with_columns"]

FEATURE_FILES = (".npy", ".npz", ".csv", ".tsv", ".h5", ".hdf5")
_MAX_BYTES = 64 * 10**9
_NAMES = ("features", "feats", "embeddings", "X")


def read_features_with_columns(features: Path, columns: Path) -> AnnData:
    """A table of features (.npy, .npz, .csv, .tsv, .h5) and the columns of a CSV, row by row."""
    import anndata
    import pandas as pd

    for path in (features, columns):
        if not path.is_file():
            raise FeatureError(f"{path.name}: there is no such file.")
    if features.suffix.lower() == ".h5ad":
        raise FeatureError(
            f"{features.name}: a table has its columns in itself; give it without {columns.name}."
        )
    x = _features(features)
    try:
        obs = pd.read_csv(columns, sep=_separator(columns), dtype=str, keep_default_na=True)
    except (ValueError, UnicodeDecodeError) as error:
        raise FeatureError(
            f"{columns.name}: can't be read as a CSV with a line of names at its top."
        ) from error
    if len(obs) != len(x):
        raise FeatureError(
            f"{features.name} has {len(x):,} rows and {columns.name} {len(obs):,}; a row of one must be "
            "a row of the other, in the same order."
        )
    obs.index = pd.Index([str(i) for i in range(len(obs))])
    return anndata.AnnData(x, obs=obs)


def read_feature_rows(path: Path) -> NDArray[np.float32]:
    """Features (n, d) of a file of one of :data:`FEATURE_FILES`."""
    if not path.is_file():
        raise FeatureError(f"{path.name}: there is no such file.")
    return _features(path)


def _features(path: Path) -> NDArray[np.float32]:
    kind = path.suffix.lower()
    if kind not in FEATURE_FILES:
        raise FeatureError(f"{path.name}: features are read from {', '.join(FEATURE_FILES)}.")
    try:
        read = {".csv": _text, ".tsv": _text, ".h5": _hdf5, ".hdf5": _hdf5}.get(kind, _numpy)
        x: NDArray[np.float32] = np.asarray(read(path), dtype=np.float32)
    except (OSError, ValueError, TypeError, EOFError) as error:
        raise FeatureError(f"{path.name}: holds no table of numbers, or it is damaged.") from error
    if x.ndim == 3 and len(x) == 1:
        x = x[0]
    if x.ndim != 2 or not x.size:
        raise FeatureError(
            f"{path.name}: has the shape {x.shape}; a row a tile and a column a feature is needed."
        )
    return x


def _separator(path: Path) -> str:
    """Tabs in a .tsv; else a comma or a semicolon, whichever the first line has more of."""
    if path.suffix.lower() == ".tsv":
        return "\t"
    with path.open(encoding="utf-8", errors="replace") as file:
        first = file.readline()
    return ";" if first.count(";") > first.count(",") else ","


def _text(path: Path) -> Any:
    import pandas as pd

    frame = pd.read_csv(path, sep=_separator(path))
    if str(frame.columns[0]).startswith("Unnamed"):  # the row numbers that pandas writes
        frame = frame.iloc[:, 1:]
    texts = [str(name) for name in frame.columns[[kind.kind not in "biuf" for kind in frame.dtypes]]]
    if texts:
        some = f"column {texts[0]}" if len(texts) == 1 else f"columns {', '.join(texts[:3])}"
        raise FeatureError(f"{path.name}: {some} can't be read as numbers; keep only features in it.")
    return frame.to_numpy()


def _numpy(path: Path) -> Any:
    found = np.load(path, allow_pickle=False)
    if isinstance(found, np.ndarray):
        return found
    with found:
        return found[_pick(path, list(found))]


def _hdf5(path: Path) -> Any:
    from napari_batchfx.features._hdf5 import open_hdf5, read_numbers

    with open_hdf5(path, _MAX_BYTES) as file:
        return read_numbers(path.name, file, _pick(path, list(file)))


def _pick(path: Path, names: list[str]) -> str:
    for name in _NAMES:
        if name in names:
            return name
    if len(names) == 1:
        return names[0]
    raise FeatureError(
        f"{path.name}: holds {', '.join(names[:5]) or 'nothing'}, and none is called {' or '.join(_NAMES)}; "
        "rename the one with the features."
    )
