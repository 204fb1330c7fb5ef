"""Regions that say what is tissue: drawn like any other, they correct the mask and are never labels."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    from napari_batchfx.study.annotations import Annotation

__all__ = ["NO_TISSUE", "TISSUE", "is_tissue_class", "tissue_regions"]

TISSUE = "tissue"
NO_TISSUE = "no tissue"


def is_tissue_class(name: str | None) -> bool:
    """Whether a class says what is tissue ("tissue", "no tissue"; in any case) and is no label.

    Examples
    --------
    >>> is_tissue_class("No  Tissue"), is_tissue_class("tumour"), is_tissue_class(None)
    (True, False, False)
    """
    return _plain(name) in (TISSUE, NO_TISSUE)


def tissue_regions(
    annotations: Iterable[Annotation], slide: str
) -> tuple[tuple[NDArray[np.float64], ...], tuple[NDArray[np.float64], ...]]:
    """Polygons drawn as tissue, and as no tissue, on a slide.

    Parameters
    ----------
    annotations : iterable of Annotation
    slide : str
        Name of the slide in the study.

    Returns
    -------
    include, exclude : tuple of array (k, 2)
        (y, x) in micrometres, for :class:`napari_batchfx.tiles.TileGrid`.
    """
    own = [a for a in annotations if a.slide == slide]
    return (
        tuple(a.polygon_um for a in own if _plain(a.class_name) == TISSUE),
        tuple(a.polygon_um for a in own if _plain(a.class_name) == NO_TISSUE),
    )


def tissue_said(settings: Any, annotations: Iterable[Annotation]) -> list[Any]:
    """What decides about tissue besides the pixels, as plain values; empty where nobody said anything.

    It goes into the digest of a result's inputs. Empty for the defaults, so that results of studies from
    before there were tissue settings stay current.
    """
    regions = [
        [a.slide, _plain(a.class_name), a.polygon_um.tolist()]
        for a in annotations
        if is_tissue_class(a.class_name)
    ]
    chosen = {} if settings == type(settings)() else settings.model_dump(mode="json")
    return [chosen, regions] if chosen or regions else []


def _plain(name: str | None) -> str:
    return " ".join((name or "").lower().replace("_", " ").replace("-", " ").split())
