"""napari reader for slides: looks into the file, declines what is no slide, and never raises while asked."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

__all__ = ["get_reader"]

ReaderFunction = Callable[[Any], list[tuple[Any, ...]]]


def get_reader(path: str | list[str]) -> ReaderFunction | None:
    """A reader for ``path``, or ``None`` where it is no slide (napari then asks the next plugin).

    Parameters
    ----------
    path : str or list of str
        One file, or several, which must all be slides.
    """
    from napari_batchfx.errors import BatchfxError
    from napari_batchfx.slides import open_slide

    paths = [path] if isinstance(path, str) else list(path)
    if not paths:
        return None
    try:
        for one in paths:
            with open_slide(one) as slide:
                # A picture without a pixel size is more likely somebody's photo than a slide: napari's own readers fit better.
                if slide.mpp is None:
                    return None
    except (BatchfxError, OSError):
        return None
    return read_slides


def read_slides(path: str | list[str]) -> list[tuple[Any, ...]]:
    """Open slides as RGB multiscale dask layers in micrometres, in the study of the viewer in front."""
    from napari_batchfx.slides import open_slide
    from napari_batchfx.viewer import seam
    from napari_batchfx.viewer.layers import affine_to_napari, slide_layer_data
    from napari_batchfx.viewer.session import session_for

    paths = [path] if isinstance(path, (str, Path)) else list(path)
    viewer = seam.current_viewer()
    layers: list[tuple[Any, ...]] = []
    for one in paths:
        if viewer is None:
            layers.append(slide_layer_data(open_slide(one)))
        else:
            session = session_for(viewer)
            entry = session.study.add_slide(one)
            if session.layer(entry, "slide") is not None:
                continue  # it is shown already
            data, options, kind = slide_layer_data(session.study.open_slide(entry), entry.name)
            layers.append((data, {**options, "affine": affine_to_napari(entry.affine_um)}, kind))
    return layers or [(None,)]  # what napari takes for "read, nothing to add"
