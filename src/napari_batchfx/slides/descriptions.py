"""The text that a written slide carries about itself: Aperio-like fields or OME-XML."""

from __future__ import annotations

from collections.abc import Mapping
from html import escape
from typing import Any

__all__ = ["page_description"]


def page_description(
    flavour: str,
    size: tuple[int, int],
    shape: tuple[int, int],
    tile: int,
    quality: int,
    mpp: tuple[float, float] | None,
    facts: dict[str, Any],
    text: str,
    index: int,
    notes: Mapping[str, str] | None = None,
) -> str:
    """Return the description of one page: free text, Aperio's fields, or OME-XML (first page only)."""
    if flavour == "generic":
        return text if index == 0 else ""
    if flavour == "svs":
        smaller = "" if index == 0 else f" -> {shape[1]}x{shape[0]}"
        fields = [
            f"Aperio Image Library v12.0.16\r\n{size[1]}x{size[0]} ({tile}x{tile}){smaller} JPEG/RGB "
            f"Q={quality}"
        ]
        values = {
            "AppMag": None if facts["power"] is None else f"{facts['power']:g}",
            "ScannerType": facts["scanner"],
            "ScanScope ID": facts["serial"],
            "MPP": None if mpp is None else f"{(mpp[0] + mpp[1]) / 2:.6g}",
        }
        return "|".join(fields + [f"{key} = {value}" for key, value in values.items() if value])
    return _ome_xml(size, mpp, facts, text, notes or {}) if index == 0 else ""


def _ome_xml(
    size: tuple[int, int],
    mpp: tuple[float, float] | None,
    facts: dict[str, Any],
    text: str,
    notes: Mapping[str, str],
) -> str:
    names = {"Manufacturer": facts["vendor"], "Model": facts["scanner"], "SerialNumber": facts["serial"]}
    scope = "".join(f' {key}="{escape(str(value))}"' for key, value in names.items() if value)
    power = (
        ""
        if facts["power"] is None
        else f'<Objective ID="Objective:0" NominalMagnification="{facts["power"]:g}"/>'
    )
    instrument = (
        f'<Instrument ID="Instrument:0"><Microscope{scope}/>{power}</Instrument>' if scope or power else ""
    )
    pixel = "" if mpp is None else f' PhysicalSizeX="{mpp[1]!r}" PhysicalSizeY="{mpp[0]!r}"'
    about = f"<Description>{escape(text, quote=False)}</Description>" if text else ""
    reference = annotation = ""
    if notes:
        pairs = "".join(
            f'<M K="{escape(key)}">{escape(value, quote=False)}</M>' for key, value in notes.items()
        )
        reference = '<AnnotationRef ID="Annotation:0"/>'
        annotation = (
            '<StructuredAnnotations><MapAnnotation ID="Annotation:0" Namespace="napari-batchfx">'
            f"<Value>{pairs}</Value></MapAnnotation></StructuredAnnotations>"
        )
    return (
        '<?xml version="1.0" encoding="UTF-8"?>'
        '<OME xmlns="http://www.openmicroscopy.org/Schemas/OME/2016-06" Creator="napari-batchfx">'
        f'{instrument}<Image ID="Image:0">{about}'
        '<Pixels ID="Pixels:0" DimensionOrder="XYCZT" Type="uint8" Interleaved="true" BigEndian="false" '
        f'SizeX="{size[1]}" '
        f'SizeY="{size[0]}" SizeC="3" SizeZ="1" SizeT="1"{pixel}>'
        '<Channel ID="Channel:0" SamplesPerPixel="3"/><TiffData IFD="0" PlaneCount="1"/>'
        f"</Pixels>{reference}</Image>{annotation}</OME>"
    )
