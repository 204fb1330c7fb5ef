"""A small picture of numbers as OME-TIFF: one value a pixel, in micrometres."""

from __future__ import annotations

import json
import os
import uuid
from collections.abc import Mapping
from html import escape
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from napari_batchfx.errors import SlideError
from napari_batchfx.slides._tifffile import open_writer
from napari_batchfx.slides.write import resolution_ratio

__all__ = ["write_values"]


def write_values(
    path: str | os.PathLike[str],
    values: npt.ArrayLike,
    mpp: tuple[float, float],
    *,
    origin_um: tuple[float, float] = (0.0, 0.0),
    name: str = "",
    description: str = "",
    extra: Mapping[str, Any] | None = None,
) -> Path:
    """Write numbers as a float32 OME-TIFF with their pixel size and place.

    Parameters
    ----------
    path : path
        File to write; it appears when it is complete.
    values : float array (h, w)
        NaN where there is none.
    mpp : (float, float)
        Micrometres a pixel, (y, x).
    origin_um : (float, float)
        Centre of the first pixel, (y, x) in micrometres.
    name, description : str
        Of the image, in the OME-XML.
    extra : mapping, optional
        Plain values, kept as a JSON annotation.

    Returns
    -------
    Path
        The file.

    Raises
    ------
    SlideError
        If ``values`` is no picture.
    OSError
        If the file can't be written.

    Examples
    --------
    >>> write_values("a.ome.tif", [[0.5, float("nan")]], (112.0, 112.0)).name
    'a.ome.tif'
    """
    path = Path(path)
    picture = np.ascontiguousarray(values, dtype=np.float32)
    if picture.ndim != 2 or not picture.size:
        raise SlideError(f"{path.name}: values are written as (height, width), got {picture.shape}.")
    text = _ome_xml((picture.shape[0], picture.shape[1]), mpp, origin_um, name, description, extra)
    draft = path.with_name(f".{path.name}.{uuid.uuid4().hex[:8]}.part")
    try:
        with open_writer(draft, bigtiff=False, ome=False) as writer:
            writer.write(
                picture,
                photometric="minisblack",
                compression=8,
                resolution=(resolution_ratio(mpp[1]), resolution_ratio(mpp[0])),
                resolutionunit=3,
                metadata=None,
                software="napari-batchfx",
                description=text.encode(),
            )
        draft.replace(path)
    finally:
        draft.unlink(missing_ok=True)
    return path


def _ome_xml(
    shape: tuple[int, int],
    mpp: tuple[float, float],
    origin_um: tuple[float, float],
    name: str,
    description: str,
    extra: Mapping[str, Any] | None,
) -> str:
    said = f"<Description>{escape(description)}</Description>" if description else ""
    reference, annotations = "", ""
    if extra:
        kept = escape(json.dumps(dict(extra), ensure_ascii=False, allow_nan=False))
        reference = '<AnnotationRef ID="Annotation:0"/>'
        annotations = (
            '<StructuredAnnotations><CommentAnnotation ID="Annotation:0" Namespace="napari-batchfx">'
            f"<Value>{kept}</Value></CommentAnnotation></StructuredAnnotations>"
        )
    return (
        '<?xml version="1.0" encoding="UTF-8"?>'
        '<OME xmlns="http://www.openmicroscopy.org/Schemas/OME/2016-06" Creator="napari-batchfx">'
        f'<Image ID="Image:0" Name="{escape(name)}">{said}'
        '<Pixels ID="Pixels:0" DimensionOrder="XYCZT" Type="float" BigEndian="false" '
        f'SizeX="{shape[1]}" SizeY="{shape[0]}" SizeC="1" SizeZ="1" SizeT="1" '
        f'PhysicalSizeX="{mpp[1]!r}" PhysicalSizeY="{mpp[0]!r}">'
        '<Channel ID="Channel:0" SamplesPerPixel="1"/><TiffData IFD="0" PlaneCount="1"/>'
        f'<Plane TheC="0" TheZ="0" TheT="0" PositionX="{origin_um[1]!r}" PositionXUnit="µm" '
        f'PositionY="{origin_um[0]!r}" PositionYUnit="µm"/></Pixels>{reference}</Image>{annotations}</OME>'
    )
