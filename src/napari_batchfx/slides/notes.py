"""Key-value pairs that this package wrote into an OME-TIFF."""

from __future__ import annotations

from pathlib import Path

from napari_batchfx.slides._layout import find_all, parse_xml
from napari_batchfx.slides._tifffile import Tiff

__all__ = ["read_notes"]


def read_notes(path: str | Path) -> dict[str, str]:
    """Return the pairs that :func:`write_pyramid` was given as ``notes``; of foreign files nothing.

    Raises
    ------
    SlideError
        If it is no TIFF.

    Examples
    --------
    >>> import numpy as np
    >>> from napari_batchfx.slides import write_pyramid
    >>> image = np.full((64, 64, 3), 220, np.uint8)
    >>> read_notes(write_pyramid("n.ome.tif", image, 0.5, flavour="ome", notes={"key": "a < b"}))
    {'key': 'a < b'}
    """
    tiff = Tiff(Path(path))
    try:
        root = parse_xml(tiff.pages[0].description)
    finally:
        tiff.close()
    own = [] if root is None else find_all(root, "MapAnnotation")
    return {
        pair.get("K", ""): pair.text or ""
        for annotation in own
        if annotation.get("Namespace") == "napari-batchfx"
        for pair in find_all(annotation, "M")
    }
