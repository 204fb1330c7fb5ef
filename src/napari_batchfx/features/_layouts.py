"""What TRIDENT, CLAM and STAMP write beside the vectors, told in one way."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import h5py  # type: ignore[import-untyped]  # has no types
import numpy as np
from numpy.typing import NDArray

from napari_batchfx.errors import FeatureError
from napari_batchfx.features._hdf5 import attributes, read_numbers

__all__ = ["TileFile", "checked", "read_layout"]

_MOST_DIM = 65_536


@dataclass
class TileFile:
    """What a file of features says.

    Parameters
    ----------
    features : float32 array (n, d)
    corners : float64 array (n, 2)
        (x, y) of the top-left corners.
    layout : str
        ``"TRIDENT"``, ``"CLAM"``, ``"STAMP"``, ``"h5"`` or ``"h5ad"``.
    unit : {"px", "um"}
        Of corners, side and step: level-0 pixels or micrometres.
    name, encoder : str
        Of the slide and of the encoder, empty where the file doesn't say.
    side, step : float or None
        Side of a tile, and from one tile to the next.
    size_px : int or None
        Side of a tile in the pixels that were cut.
    shape : (int, int) or None
        Height and width of the slide in level-0 pixels.
    patch_level : int or None
        Level the size counts in, where ``side`` can't be known without the slide.
    notes : list of str
        What a user should know.
    columns : dict of str to array (n,)
        Columns of the table that the file has itself (an h5ad: site, label ...).
    """

    features: NDArray[np.float32]
    corners: NDArray[np.float64]
    layout: str = "h5"
    unit: str = "px"
    name: str = ""
    encoder: str = ""
    side: float | None = None
    step: float | None = None
    size_px: int | None = None
    shape: tuple[int, int] | None = None
    patch_level: int | None = None
    notes: list[str] = field(default_factory=list)
    columns: dict[str, Any] = field(default_factory=dict)


def read_layout(path: Path, file: h5py.File, patches: h5py.File | None = None) -> TileFile:
    """Read an h5 of TRIDENT, CLAM or STAMP.

    Parameters
    ----------
    path : Path
        Where it lies; its folder may name the encoder.
    file : h5py.File
    patches : h5py.File, optional
        The file of patches that goes with it: CLAM leaves the size of tiles there.
    """
    key = next((k for k in ("features", "feats") if k in file), "")
    if not key:
        kinds = ", ".join(sorted(map(str, list(file)[:8]))) or "nothing"
        raise FeatureError(
            f'{path.name}: has no table called "features" or "feats" (there is {kinds[:120]}); '
            "choose the file with the vectors of the tiles."
        )
    if "coords" not in file:
        raise FeatureError(f'{path.name}: has no "coords", so where the tiles lie isn\'t known.')
    features, corners = checked(
        path.name, read_numbers(path.name, file, key), read_numbers(path.name, file, "coords")
    )
    of_file, of_features = attributes(file), attributes(file[key])
    about = attributes(file["coords"])
    if patches is not None:
        if "coords" not in patches:
            raise FeatureError(f'{path.name}: the file of patches has no "coords"; it is another file.')
        about |= attributes(patches["coords"])
        if len(patches["coords"]) != len(corners):
            raise FeatureError(
                f"{path.name}: has {len(corners):,} vectors, but the file of patches has "
                f"{len(patches['coords']):,}; they are of two slides."
            )
    found = TileFile(features, corners)
    found.name = _text(about.get("name") or of_features.get("name"))
    found.encoder = _text(of_features.get("encoder") or of_file.get("extractor")) or _encoder_of_folder(
        path, of_features.get("savetodir")
    )
    if "extractor" in of_file or "tile_size_um" in of_file or key == "feats":
        _stamp(found, of_file, is_float=file["coords"].dtype.kind == "f")
    elif "level0_magnification" in about or "patch_size_level0" in about:
        _trident(found, about)
    else:
        _clam(found, about)
    return found


def _trident(found: TileFile, about: dict[str, Any]) -> None:
    found.layout = "TRIDENT"
    size = _number(about.get("patch_size"))
    found.side = _number(about.get("patch_size_level0"))
    high, target = _number(about.get("level0_magnification")), _number(about.get("target_magnification"))
    if found.side is None and size and high and target:
        found.side = size * high / target
    if size and found.side:
        overlap = _number(about.get("overlap"), least=0.0) or 0.0
        found.size_px = round(size)
        found.step = found.side - round(overlap * found.side / size)
    height, width = _number(about.get("level0_height")), _number(about.get("level0_width"))
    found.shape = (round(height), round(width)) if height and width else None


def _clam(found: TileFile, about: dict[str, Any]) -> None:
    found.layout = "CLAM" if "patch_level" in about or "save_path" in about else "h5"
    size = _number(about.get("patch_size"))
    level = _number(about.get("patch_level"), least=0.0)
    scale = about.get("downsample")
    scale = _number(scale[0] if isinstance(scale, list) and scale else scale)
    if level == 0:
        scale = scale or 1.0
    if size is None:
        return
    found.size_px = round(size)
    size *= _number(about.get("custom_downsample")) or 1.0
    if scale is not None:
        found.side = size * scale
    elif level is not None:
        found.side, found.patch_level = size, round(level)


def _stamp(found: TileFile, of_file: dict[str, Any], *, is_float: bool) -> None:
    found.layout = "STAMP"
    size = _number(of_file.get("tile_size_px"))
    found.size_px = None if size is None else round(size)
    in_um = of_file.get("unit") == "um" or "tile_size_um" in of_file
    if not in_um and "extractor" in of_file and "unit" not in of_file and is_float:
        in_um = True  # the first files of STAMP 2 don't say so
        found.notes.append("its coordinates are taken for micrometres, as STAMP writes them")
    if in_um:
        found.unit = "um"
        found.side = _number(of_file.get("tile_size_um")) or _number(of_file.get("tile_size"))
        found.step = found.side


def checked(
    name: str, features: NDArray[Any], corners: NDArray[Any]
) -> tuple[NDArray[np.float32], NDArray[np.float64]]:
    """Vectors (n, d) and corners (n, 2), or :class:`FeatureError` that says what they are instead."""
    if features.ndim == 3 and features.shape[0] == 1:
        features = features[0]
    if corners.ndim == 3 and corners.shape[0] == 1:
        corners = corners[0]
    n = len(corners) if corners.ndim == 2 else 0
    if features.ndim == 1 or (features.ndim == 2 and len(features) == 1 and n > 1):
        if features.size == 0:
            raise FeatureError(f"{name}: holds no tile.")
        raise FeatureError(
            f"{name}: holds one vector for the whole slide; choose the file with those of the tiles."
        )
    if features.ndim != 2 or corners.ndim != 2 or corners.shape[1] != 2:
        raise FeatureError(
            f"{name}: vectors must be a table (tiles, numbers) and coordinates (tiles, 2); they are "
            f"{features.shape} and {corners.shape}."
        )
    if len(features) != n:
        raise FeatureError(
            f"{name}: has {len(features):,} vectors and {n:,} coordinates; there must be one each."
        )
    if n == 0 or features.shape[1] == 0:
        raise FeatureError(f"{name}: holds no tile.")
    if features.shape[1] > _MOST_DIM:
        raise FeatureError(f"{name}: {features.shape[1]:,} numbers a tile are no vector of an encoder.")
    places = corners.astype(np.float64)
    if not np.isfinite(places).all() or places.min() < 0 or places.max() >= 2**31:
        raise FeatureError(f"{name}: coordinates must be positions on a slide, from 0; some are not.")
    with np.errstate(over="ignore"):
        values = np.ascontiguousarray(features, dtype=np.float32)
    bad = ~np.isfinite(values).all(axis=1)
    if bad.any():
        raise FeatureError(
            f"{name}: {int(bad.sum()):,} of {n:,} vectors hold something that is no number (the first: row "
            f"{int(bad.argmax()):,}); compute these features again."
        )
    return values, places


def _number(value: Any, least: float = 1e-9) -> float | None:
    """A finite number of at least ``least``, else None."""
    if isinstance(value, (bool, str, list)) or value is None:
        return None
    return float(value) if least <= value < 1e9 else None


def _text(value: Any) -> str:
    return value.strip() if isinstance(value, str) else ""


def _encoder_of_folder(path: Path, saved_to: Any) -> str:
    """TRIDENT writes into ``features_uni_v1``, wherever that folder lay."""
    for folder in (path.absolute().parent.name, *_text(saved_to).replace("\\", "/").split("/")[::-1]):
        if folder.startswith("features_"):
            return folder.removeprefix("features_")
    return ""
