"""Tables from features that other programs computed: TRIDENT, CLAM, STAMP, and h5ad."""

from __future__ import annotations

import hashlib
import os
from contextlib import ExitStack
from dataclasses import asdict, dataclass, replace
from importlib import metadata
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from napari_batchfx.errors import FeatureError
from napari_batchfx.features._lattice import Lattice, find_lattice
from napari_batchfx.features.table import CATEGORIES, OBS_COLUMNS, SlideMeta
from napari_batchfx.features.tables_io import concat

if TYPE_CHECKING:
    from anndata import AnnData

    from napari_batchfx.features._layouts import TileFile
    from napari_batchfx.slides import Slide

__all__ = ["import_features"]

_MAX_BYTES = 16 * 10**9


def import_features(
    path: str | os.PathLike[str],
    *,
    slide: Slide | str | os.PathLike[str] | None = None,
    mpp: float | None = None,
    meta: SlideMeta | None = None,
    encoder: str = "",
    tile_px: float | None = None,
    patches: str | os.PathLike[str] | None = None,
    max_bytes: int = _MAX_BYTES,
) -> AnnData:
    """Read a slide's features, computed elsewhere, as a table like those of :func:`make_table`.

    Parameters
    ----------
    path : path
        An h5 file of TRIDENT, CLAM or STAMP (``features`` or ``feats``, (n, d) or (1, n, d); ``coords``,
        (n, 2), x and y of the top-left corners in level-0 pixels, or in micrometres where a STAMP file says
        so), or an h5ad with the corners in ``obsm["spatial"]`` or ``obs["x"]``, ``obs["y"]``.
    slide : Slide or path, optional
        The slide: gives pixel size, scanner and fingerprint, and must be large enough for the coordinates.
    mpp : float, optional
        Micrometres a level-0 pixel, where there is no slide or it doesn't say.
    meta : SlideMeta, optional
        Name, site, scanner ... of the slide; an empty name is taken from the file.
    encoder : str, optional
        Name of the encoder, where the file doesn't say.
    tile_px : float, optional
        Side of a tile in level-0 pixels, where the file doesn't say.
    patches : path, optional
        CLAM's own file of patches (``patches/NAME.h5``), which has the size of the tiles.
    max_bytes : int
        Most that is read.

    Returns
    -------
    AnnData
        ``X`` float32 (n, d); ``obs`` as of :func:`make_table` and ``x_px``, ``y_px`` (corners, level-0
        pixels, NaN where not known). row and col are -1 where the corners lie on no common grid; x_um and
        y_um (centres) NaN where the pixel size isn't known; tissue NaN (it was not measured). A tile that
        comes twice is taken once. ``uns["batchfx"]["slides"][name]["imported"]`` says what was read.

    Raises
    ------
    FeatureError
        One sentence: no such file, not HDF5, parts of it in other files, too large, wrong shapes, NaN, or
        coordinates outside the slide.

    Notes
    -----
    Nothing in a file is run: HDF5 holds numbers and texts, and links to other files are refused.

    Examples
    --------
    >>> import h5py
    >>> with h5py.File("A-1042.h5", "w") as file:
    ...     file["features"] = np.ones((2, 4), np.float32)
    ...     file["coords"] = np.array([[0, 512], [1024, 512]])
    ...     file["coords"].attrs.update({"patch_size": 256, "patch_size_level0": 512, "name": "A-1042"})
    >>> table = import_features("A-1042.h5", mpp=0.25)
    >>> table.obs[["row", "col", "x_um", "y_um"]].to_numpy().tolist()
    [[1.0, 0.0, 64.0, 192.0], [1.0, 2.0, 320.0, 192.0]]
    """
    from napari_batchfx.features._hdf5 import check_hdf5, open_hdf5
    from napari_batchfx.features._layouts import read_layout
    from napari_batchfx.slides import Slide, open_slide

    path = Path(path)
    if mpp is not None and not 0 < mpp < 1000:
        raise FeatureError(f"{path.name}: the pixel size must be micrometres above 0; got {mpp:g}.")
    if tile_px is not None and not 0 < tile_px < 1e6:
        raise FeatureError(f"{path.name}: the side of a tile must be pixels above 0; got {tile_px:g}.")
    with ExitStack() as own:
        if slide is not None and not isinstance(slide, Slide):
            slide = own.enter_context(open_slide(Path(slide)))
        if path.suffix.lower() == ".h5ad":
            from napari_batchfx.features._h5ad_layout import read_foreign

            check_hdf5(path, max_bytes)  # anndata opens it itself
            parts = read_foreign(path)
            if len(parts) > 1 and (slide is not None or (meta is not None and meta.name)):
                raise FeatureError(
                    f"{path.name}: holds {len(parts)} slides, so one slide's name or file can't be given."
                )
        else:
            file = own.enter_context(open_hdf5(path, max_bytes))
            beside = own.enter_context(open_hdf5(Path(patches), max_bytes)) if patches is not None else None
            parts = [read_layout(path, file, beside)]
        options = _Options(path, slide, mpp, meta or SlideMeta(""), encoder, tile_px)
        tables = [_table(part, options) for part in parts]
    return tables[0] if len(tables) == 1 else concat(tables)


@dataclass(frozen=True)
class _Options:
    path: Path
    slide: Slide | None
    mpp: float | None
    meta: SlideMeta
    encoder: str
    tile_px: float | None


def _table(found: TileFile, options: _Options) -> AnnData:
    import anndata
    import pandas as pd

    meta = _meta(found, options)
    scale = _scale(options)
    corners, features, rows = _each_once(found)
    side = _side(found, options)
    lattice = find_lattice(corners, found.step or side)
    if lattice is None:
        found.notes.append("its tiles lie on no common grid, so they have no row and column")
    elif side is None:
        side = lattice.step
        found.notes.append(
            f"the side of its tiles isn't in the file: taken for their spacing, {side:g} {found.unit}"
        )
    if found.unit == "px" and scale is None:
        found.notes.append("its pixel size isn't known, so places are in pixels only: give mpp or the slide")
    if found.unit == "px" and scale is not None and side is None:
        found.notes.append("the side of its tiles isn't known, so their centres aren't: give tile_px")
    _fits_slide(found, options, corners, scale)
    cells = np.full((len(corners), 2), -1, np.int32) if lattice is None else lattice.cells
    per_unit = np.ones(2) if found.unit == "um" else scale
    nowhere = np.full(corners.shape, np.nan)
    centres = nowhere if side is None or per_unit is None else (corners + side / 2) * per_unit
    pixels = corners if found.unit == "px" else nowhere if scale is None else corners / scale
    n = len(corners)
    columns: dict[str, Any] = {
        key: pd.Categorical([getattr(meta, "name" if key == "slide" else key)] * n) for key in CATEGORIES
    }
    columns |= {"row": cells[:, 0], "col": cells[:, 1], "x_um": centres[:, 0], "y_um": centres[:, 1]}
    columns |= {"tissue": np.full(n, np.nan, np.float32), "control": np.zeros(n, bool)}
    columns["label"] = pd.Categorical([None] * n, categories=pd.Index([], dtype=object))
    columns |= {"x_px": pixels[:, 0], "y_px": pixels[:, 1]}
    columns |= {key: values[rows] for key, values in found.columns.items()}
    if lattice is not None:
        names = [f"{meta.name}:{r}_{c}" for r, c in cells.tolist()]
    else:
        names = [f"{meta.name}:x{x:g}_y{y:g}" for x, y in corners.tolist()]
    table = anndata.AnnData(
        X=features,
        obs=pd.DataFrame(columns, index=pd.Index(names, dtype=object))[[*OBS_COLUMNS, "x_px", "y_px"]],
        var=pd.DataFrame(index=pd.Index([f"f{i:04d}" for i in range(features.shape[1])], dtype=object)),
    )
    table.uns["batchfx"] = _provenance(found, options, meta, lattice, side, scale, features.shape[1])
    return table


def _meta(found: TileFile, options: _Options) -> SlideMeta:
    meta, slide, path = options.meta, options.slide, options.path
    stem = path.parent.name if path.stem in ("features", "feats") and path.parent.name else path.stem
    name = meta.name or found.name or (slide.name if slide is not None else "") or stem
    if slide is None:
        # what is in the file stands for the slide, whose content isn't known
        digest = hashlib.sha256(found.corners.tobytes() + found.features.tobytes()).hexdigest()[:32]
        return replace(meta, name=name, fingerprint=meta.fingerprint or digest)
    return replace(
        meta,
        name=name,
        scanner=meta.scanner or slide.scanner or "",
        fingerprint=meta.fingerprint or slide.fingerprint,
    )


def _scale(options: _Options) -> NDArray[np.float64] | None:
    """Micrometres a level-0 pixel as (x, y)."""
    if options.mpp is not None:
        return np.full(2, float(options.mpp))
    slide = options.slide
    return None if slide is None or slide.mpp is None else np.array([slide.mpp[1], slide.mpp[0]])


def _each_once(found: TileFile) -> tuple[NDArray[np.float64], NDArray[np.float32], NDArray[np.intp]]:
    """Corners, vectors and their rows in the file; of tiles at one place the first."""
    _, first = np.unique(found.corners, axis=0, return_index=True)
    rows = np.sort(first)
    twice = len(found.corners) - len(rows)
    if twice:
        found.notes.append(f"{twice:,} of its tiles come twice and are taken once")
    return found.corners[rows], found.features[rows], rows


def _side(found: TileFile, options: _Options) -> float | None:
    if options.tile_px is not None and found.unit == "px":
        return float(options.tile_px)
    if found.patch_level is None or found.side is None:
        return found.side
    stored = [] if options.slide is None else [level for level in options.slide.levels if level.stored]
    if found.patch_level >= len(stored):
        return None  # how much larger that level's pixels are isn't known without the slide
    return found.side * stored[found.patch_level].downsample[1]


def _fits_slide(
    found: TileFile, options: _Options, corners: NDArray[np.float64], scale: NDArray[np.float64] | None
) -> None:
    slide, name = options.slide, options.path.name
    if slide is None:
        return
    if found.shape is not None and found.shape != slide.shape:
        raise FeatureError(
            f"{name}: its slide has {found.shape[1]:,} x {found.shape[0]:,} px, but {slide.path.name} has "
            f"{slide.shape[1]:,} x {slide.shape[0]:,}; give the slide it was computed from."
        )
    if found.unit == "um" and scale is None:
        return
    last = corners.max(axis=0) / (1.0 if found.unit == "px" or scale is None else scale)
    if last[0] >= slide.shape[1] or last[1] >= slide.shape[0]:
        raise FeatureError(
            f"{name}: has tiles at {last[0]:,.0f}, {last[1]:,.0f} px, outside {slide.path.name} with "
            f"{slide.shape[1]:,} x {slide.shape[0]:,} px; give the slide it was computed from."
        )


def _provenance(
    found: TileFile,
    options: _Options,
    meta: SlideMeta,
    lattice: Lattice | None,
    side: float | None,
    scale: NDArray[np.float64] | None,
    dim: int,
) -> dict[str, Any]:
    """As :func:`make_table` has it; the folder a file lay in stays out of it."""
    encoder = options.encoder or found.encoder
    per_unit = 1.0 if found.unit == "um" else None if scale is None else float(scale[0])
    size_px = found.size_px or (round(side) if side is not None and found.unit == "px" else 0)
    grid: dict[str, Any] = {"key": "imported", "size_px": size_px, "mpp": 0.0, "stride_px": 0.0, "shape": []}
    if lattice is not None and side is not None:
        if size_px and per_unit is not None:
            grid["mpp"] = side * per_unit / size_px
        grid["stride_px"] = lattice.step * size_px / side
        grid["shape"] = [int(v) + 1 for v in lattice.cells.max(axis=0)]
        grid["offset"] = list(lattice.offset)
    slide = options.slide
    source = "given" if options.mpp is not None else slide.mpp_source if slide is not None else "unknown"
    about: dict[str, Any] = {k: v for k, v in asdict(meta).items() if k != "name"}
    about |= {
        "grid": grid,
        "slide_mpp": [] if scale is None else [float(scale[1]), float(scale[0])],
        "slide_mpp_source": source,
        "stain_key": "none",
        "imported": {
            "file": options.path.name,
            "layout": found.layout,
            "unit": found.unit,
            "side": 0.0 if side is None else float(side),
            "notes": list(found.notes),
        },
    }
    return {
        "version": metadata.version("napari-batchfx"),
        "encoder": {
            "name": encoder or "unknown",
            "key": f"imported:{encoder or 'unknown'}:{dim}",
            "kind": "imported",
            "dim": dim,
        },
        "slides": {meta.name: about},
    }
