"""Features of one slide as an h5 file in TRIDENT's layout, for programs that train on such files."""

from __future__ import annotations

import os
import uuid
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from napari_batchfx.errors import FeatureError
from napari_batchfx.features.table import provenance_of

if TYPE_CHECKING:
    from anndata import AnnData

__all__ = ["TilePlace", "tile_place", "write_trident_h5"]


@dataclass(frozen=True)
class TilePlace:
    """Where a slide's tiles lie in the pixels of its level 0.

    Parameters
    ----------
    corners : float64 array (n, 2)
        (x, y) of the top left corners.
    side : (float, float)
        Width and height of a tile.
    mpp : (float, float)
        Micrometres a pixel, (y, x).
    size_px : int
        Side of a tile in the pixels that the encoder was given.
    """

    corners: NDArray[np.float64]
    side: tuple[float, float]
    mpp: tuple[float, float]
    size_px: int


def tile_place(table: AnnData, slide: str) -> TilePlace:
    """Where the tiles of a slide lie in its level-0 pixels, from what the table says about itself.

    Parameters
    ----------
    table : AnnData
        As of :func:`make_table`; only the rows of ``slide`` are used, in their order.
    slide : str
        Its name in ``obs["slide"]``.

    Raises
    ------
    FeatureError
        If the table doesn't say how large its tiles or the slide's pixels are.

    Examples
    --------
    >>> import numpy as np
    >>> from napari_batchfx.features import embed
    >>> from napari_batchfx.slides import open_slide, write_pyramid
    >>> from napari_batchfx.tiles import TileGrid
    >>> grey = np.full((300, 400, 3), 200, np.uint8)
    >>> with open_slide(write_pyramid("a.tif", grey, mpp=0.25, compression="deflate")) as slide:
    ...     grid = TileGrid(slide, size_px=64, mpp=0.5)
    ...     table = embed(grid, "colour-statistics", cells=[(0, 1)])
    >>> place = tile_place(table, "a")
    >>> place.corners.tolist(), place.side
    ([[128.0, 0.0]], (128.0, 128.0))
    """
    about = provenance_of(table).get("slides", {}).get(slide)
    rows = (table.obs["slide"].astype(str) == slide).to_numpy()
    if about is None or not rows.any():
        raise FeatureError(f"{slide}: no slide of that name is in the table.")
    grid, mpp = about.get("grid", {}), about.get("slide_mpp") or []
    size_um = float(grid.get("size_px") or 0) * float(grid.get("mpp") or 0)
    if len(mpp) != 2 or not size_um > 0:
        raise FeatureError(
            f"{slide}: the table doesn't say how large its tiles and the slide's pixels are, so they have no "
            "place on the slide; import the features again with the slide, or with mpp."
        )
    scale = np.array([mpp[1], mpp[0]], dtype=np.float64)
    centres = table.obs.loc[rows, ["x_um", "y_um"]].to_numpy(dtype=np.float64)
    corners = (centres - size_um / 2) / scale
    # Tiles are cut on whole pixels of their grid: what is left over is rounding of the table's micrometres.
    nearest = np.rint(corners)
    corners = np.where(np.abs(corners - nearest) < 1e-3, nearest, corners) + 0.0
    side = size_um / scale
    return TilePlace(
        corners, (float(side[0]), float(side[1])), (float(mpp[0]), float(mpp[1])), int(grid["size_px"])
    )


def write_trident_h5(table: AnnData, path: str | os.PathLike[str], slide: str | None = None) -> Path:
    """Write one slide's features as programs around TRIDENT and CLAM read them.

    Parameters
    ----------
    table : AnnData
        As of :func:`make_table`.
    path : path
        File to write; it appears when it is complete.
    slide : str, optional
        Which slide, where the table holds several.

    Returns
    -------
    Path
        The file: ``features`` float32 (n, d) and ``coords`` int64 (n, 2), (x, y) of the top left corners in
        level-0 pixels, with ``patch_size``, ``patch_size_level0``, ``overlap``, ``level0_mpp`` and what the
        features are as attributes. :func:`import_features` reads it back.

    Raises
    ------
    FeatureError
        If the slide isn't in the table, its tiles have no place in pixels, or the file can't be written.

    Examples
    --------
    >>> import numpy as np
    >>> from napari_batchfx.features import embed, import_features
    >>> from napari_batchfx.slides import open_slide, write_pyramid
    >>> from napari_batchfx.tiles import TileGrid
    >>> grey = np.full((300, 400, 3), 200, np.uint8)
    >>> with open_slide(write_pyramid("a.tif", grey, mpp=0.5, compression="deflate")) as slide:
    ...     grid = TileGrid(slide, size_px=64, mpp=0.5)
    ...     table = embed(grid, "colour-statistics", cells=[(0, 0), (1, 1)])
    >>> back = import_features(write_trident_h5(table, "a.h5"), mpp=0.5)
    >>> back.obs[["row", "col"]].to_numpy().tolist(), bool((back.X == table.X).all())
    ([[0, 0], [1, 1]], True)
    """
    import h5py  # type: ignore[import-untyped]  # has no types

    path = Path(path)
    names = list(dict.fromkeys(table.obs["slide"].astype(str)))
    if slide is None:
        if len(names) != 1:
            raise FeatureError(
                f"{path.name}: such a file holds one slide and the table {len(names)}; name one."
            )
        slide = names[0]
    place = tile_place(table, slide)
    rows = np.flatnonzero((table.obs["slide"].astype(str) == slide).to_numpy())
    origin = provenance_of(table)
    about = origin["slides"][slide]
    stride = float(about["grid"].get("stride_px") or place.size_px)
    attributes: dict[str, Any] = {
        "name": slide,
        "patch_size": place.size_px,
        "patch_size_level0": round(place.side[0]),
        "overlap": max(0, round(place.size_px - stride)),
        "level0_mpp": place.mpp[1],
        "target_mpp": float(about["grid"]["mpp"]),
        "software": f"napari-batchfx {origin.get('version', '')}".strip(),
    }
    encoder = origin.get("encoder", {})
    part = path.with_name(f".{path.name}.{uuid.uuid4().hex[:8]}.part")
    try:
        with h5py.File(part, "w") as file:
            features = file.create_dataset(
                "features", data=np.asarray(table.X, dtype=np.float32)[rows], compression="gzip"
            )
            features.attrs["encoder"] = str(encoder.get("name", "unknown"))
            features.attrs["encoder_key"] = str(encoder.get("key", ""))
            features.attrs["stain"] = str(about.get("stain_key", "none"))
            coords = file.create_dataset("coords", data=np.rint(place.corners).astype(np.int64))
            coords.attrs.update(attributes)
        part.replace(path)
    except OSError as error:
        raise FeatureError(
            f"{path.name}: can't be written ({os.strerror(error.errno) if error.errno else 'disk full?'}); "
            "choose another folder."
        ) from error
    finally:
        part.unlink(missing_ok=True)
    return path
