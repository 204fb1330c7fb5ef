"""How slides, previews and tile maps become napari layers: names, colours and exact positions.

World coordinates are micrometres from the outer corner of the slide's first pixel. napari puts the *centre* of
an array's first pixel at ``translate``, so every layer is moved by half of its own pixel.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from napari_batchfx.report.figures import CLASS_COLOURS

if TYPE_CHECKING:
    from collections.abc import Sequence

    from napari.layers import Image, Layer
    from napari.utils.colormaps import Colormap

    from napari_batchfx.slides import Slide
    from napari_batchfx.tiles import TileMap

__all__ = [
    "KEY",
    "describe",
    "mask_layer",
    "overlay_layer",
    "slide_layer_data",
    "tag",
    "update_mask",
    "update_overlay",
]

KEY = "batchfx"
"""Where a layer's metadata say which slide it belongs to and what it shows."""


def slide_layer_data(slide: Slide, name: str | None = None) -> tuple[Any, dict[str, Any], str]:
    """A slide as napari layer data: one RGB multiscale dask image, in micrometres where the slide has a pixel size."""
    # Levels that the file lacks come blank until they are prepared: a view must never decode a whole slide.
    pyramid = slide.pyramid(pending="blank")
    scale = slide.mpp or (1.0, 1.0)
    options: dict[str, Any] = {
        "name": name or slide.name,
        "rgb": True,
        "multiscale": len(pyramid) > 1,
        "scale": scale,
        "translate": tuple(side / 2 for side in scale),
        # napari's own dask cache would keep a closed slide; ours is shared with the encoder and emptied with it.
        "cache": False,
        "metadata": {KEY: {"slide": slide.fingerprint, "kind": "slide", "path": str(slide.path)}},
    }
    if slide.mpp:
        options["units"] = ("um", "um")
    data = pyramid if len(pyramid) > 1 else pyramid[0]
    return data, options, "image"


def affine_to_napari(affine_um: Any) -> np.ndarray | None:
    """A slide's alignment (3 x 3, (y, x, 1), micrometres) as a layer affine; ``None`` for the identity."""
    matrix = np.asarray(affine_um, dtype=float)
    return None if np.allclose(matrix, np.eye(3)) else matrix


def tag(layer: Layer) -> dict[str, Any]:
    """What this package wrote about a layer: ``slide``, ``kind``; empty for foreign layers."""
    value = getattr(layer, "metadata", {}).get(KEY)
    return value if isinstance(value, dict) else {}


def confidence_colormap(low: float, high: float, chance: float | None) -> Colormap:
    """Blue (not recognisable), grey (chance), orange (recognisable), the grey exactly at ``chance``."""
    from napari.utils.colormaps import Colormap

    middle = 0.5 if chance is None else float(np.clip((chance - low) / (high - low), 0.02, 0.98))
    colours = np.array(
        [
            [0.10, 0.34, 0.60, 1.0],
            [0.45, 0.63, 0.78, 1.0],
            [0.75, 0.75, 0.75, 1.0],
            [0.93, 0.65, 0.35, 1.0],
            [0.80, 0.33, 0.02, 1.0],
        ]
    )
    controls = np.array([0.0, middle / 2, middle, (1 + middle) / 2, 1.0])
    return Colormap(colours, controls=controls, name="batchfx confidence", nan_color="transparent")


def doubt_colormap() -> Colormap:
    """Orange (sure of one) to grey (no idea): the grey is chance, as in :func:`confidence_colormap`."""
    from napari.utils.colormaps import Colormap

    colours = [[0.80, 0.33, 0.02, 1.0], [0.93, 0.65, 0.35, 1.0], [0.75, 0.75, 0.75, 1.0]]
    return Colormap(colours, controls=[0.0, 0.5, 1.0], name="batchfx doubt", nan_color="transparent")


def class_colormap(n: int) -> Colormap:
    """One flat colour a class, values 0 .. n - 1."""
    from napari.utils.colormaps import Colormap
    from napari.utils.colormaps.colormap_utils import ensure_colormap

    if n <= 0:
        return ensure_colormap("gray")
    colours = [CLASS_COLOURS[i % len(CLASS_COLOURS)] for i in range(n)]
    controls = np.linspace(0, 1, n + 1)
    return Colormap(
        colours, controls=controls, interpolation="zero", name=f"batchfx classes {n}", nan_color="transparent"
    )


def changed_colormap() -> Colormap:
    """Transparent where a prediction stayed, yellow where it changed."""
    from napari.utils.colormaps import Colormap

    return Colormap(
        [[0.0, 0.0, 0.0, 0.0], [1.0, 0.88, 0.1, 1.0]],
        controls=[0.0, 0.5, 1.0],
        interpolation="zero",
        name="batchfx changed",
        nan_color="transparent",
    )


def _colormap(tile_map: TileMap) -> Any:
    if tile_map.colormap == "confidence":
        return confidence_colormap(tile_map.vmin, tile_map.vmax, tile_map.chance)
    if tile_map.colormap == "doubt":
        return doubt_colormap()
    if tile_map.colormap == "classes":
        return class_colormap(round(tile_map.vmax - tile_map.vmin + 1))
    if tile_map.colormap == "changed":
        return changed_colormap()
    return tile_map.colormap


def _limits(tile_map: TileMap) -> tuple[float, float]:
    if tile_map.colormap == "classes":
        return tile_map.vmin - 0.5, tile_map.vmax + 0.5
    return tile_map.vmin, tile_map.vmax


def overlay_layer(
    tile_map: TileMap, *, name: str, fingerprint: str, kind: str, affine_um: Any = None
) -> Image:
    """A tile map as a small image layer, one pixel a tile, exactly over its tiles."""
    from napari.layers import Image

    values = np.array(tile_map.values, dtype=np.float32)
    return Image(
        values,
        name=name,
        rgb=False,
        multiscale=False,
        scale=tile_map.scale_um,
        translate=tile_map.translate_um,
        affine=affine_to_napari(affine_um) if affine_um is not None else None,
        units=("um", "um"),
        colormap=_colormap(tile_map),
        contrast_limits=_limits(tile_map),
        opacity=0.5,
        blending="translucent",
        interpolation2d="nearest",
        metadata={KEY: {"slide": fingerprint, "kind": kind, **_meaning(tile_map)}},
    )


def _meaning(tile_map: TileMap) -> dict[str, Any]:
    """What a map's values mean: for the status bar, and for whoever asks the layer."""
    return {
        "description": tile_map.description,
        "unit": tile_map.unit,
        "chance": tile_map.chance,
        "labels": tuple(tile_map.labels),
    }


def update_overlay(layer: Image, tile_map: TileMap) -> None:
    """Show a tile map in a layer that is there already; what the user set (opacity, visibility) stays."""
    values = np.array(tile_map.values, dtype=np.float32)
    geometry = (tuple(layer.scale), tuple(layer.translate))
    wanted = (tile_map.scale_um, tile_map.translate_um)
    layer.data = values
    if not np.allclose(geometry, wanted):
        layer.scale, layer.translate = wanted
    limits = _limits(tile_map)
    if not np.allclose(layer.contrast_limits, limits):
        layer.contrast_limits_range = limits
        layer.contrast_limits = limits
    layer.metadata[KEY].update(_meaning(tile_map))
    if tile_map.colormap in ("confidence", "doubt", "classes", "changed"):
        layer.colormap = _colormap(tile_map)


def _mask_colormap(colours: Sequence[str]) -> Colormap:
    """Transparent where there is nothing, then one flat colour a label."""
    from napari.utils.colormaps import Colormap

    n = len(colours)
    return Colormap(
        ["#00000000", *colours],
        controls=np.linspace(0, 1, n + 2),
        interpolation="zero",
        name=f"batchfx mask {n}",  # short: napari's layer controls grow with it
    )


def mask_layer(
    labels: Any, colours: Sequence[str], mpp: tuple[float, float], *, name: str, affine_um: Any = None
) -> Image:
    """A mask from a slide's top left corner as an image layer: 0 is transparent, label k has colour k - 1."""
    from napari.layers import Image

    return Image(
        np.asarray(labels, dtype=np.uint8),
        name=name,
        rgb=False,
        multiscale=False,
        scale=mpp,
        translate=tuple(side / 2 for side in mpp),
        affine=affine_to_napari(affine_um) if affine_um is not None else None,
        units=("um", "um"),
        colormap=_mask_colormap(colours),
        contrast_limits=(-0.5, len(colours) + 0.5),
        opacity=0.45,
        blending="translucent",
        interpolation2d="nearest",
    )


def update_mask(layer: Image, labels: Any, colours: Sequence[str], mpp: tuple[float, float]) -> None:
    """Show another mask in a layer that is there; opacity and visibility stay."""
    layer.data = np.asarray(labels, dtype=np.uint8)
    if not np.allclose(layer.scale, mpp):
        layer.scale = mpp
        layer.translate = tuple(side / 2 for side in mpp)
    limits = (-0.5, len(colours) + 0.5)
    if tuple(layer.contrast_limits) != limits:
        layer.contrast_limits_range = limits
        layer.contrast_limits = limits
    wanted = _mask_colormap(colours)
    if layer.colormap.colors.shape != wanted.colors.shape or not np.allclose(
        layer.colormap.colors, wanted.colors
    ):
        layer.colormap = wanted


def describe(layer: Layer) -> str:
    """What a layer of this package shows, in words."""
    return str(tag(layer).get("description", ""))
