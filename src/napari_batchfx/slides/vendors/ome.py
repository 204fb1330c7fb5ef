"""OME-TIFF: OME-XML in the first page, smaller levels in sub-IFDs, label and overview as further images."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from xml.etree.ElementTree import Element

from napari_batchfx.slides._layout import (
    Layout,
    associated_of,
    find_all,
    levels_of,
    local_name,
    number,
    objective,
    parse_xml,
    require_rgb,
)
from napari_batchfx.slides._tifffile import Page
from napari_batchfx.slides.dates import iso_date
from napari_batchfx.slides.metadata import SlideMetadata, plausible_mpp
from napari_batchfx.slides.private import private_fields

__all__ = ["matches", "parse"]

_UM = {"µm": 1.0, "um": 1.0, "nm": 1e-3, "mm": 1e3, "cm": 1e4, "m": 1e6, "pm": 1e-6, "\u03bcm": 1.0}
_OTHER = {"label": "label", "macro": "macro", "overview": "macro", "thumbnail": "thumbnail"}
_PEOPLE = ("Experimenter", "ExperimenterGroup", "Project", "Dataset", "Experiment", "Image", "Plate")


def matches(first: Page, pages: Sequence[Page]) -> bool:
    """Tell whether the first page holds OME-XML."""
    return "<OME" in first.description[:2000]


def parse(pages: Sequence[Page], name: str) -> Layout:
    """Take the largest image and its sub-IFDs; other images of the file (label, overview) are left alone."""
    root = parse_xml(pages[0].description)
    images = [] if root is None else find_all(root, "Image")
    names = {ifd: kind for image in images if (kind := _kind(image)) for ifd in _ifds(image)}
    fluorescence = root is not None and _is_fluorescence(root)
    slide = [p for p in pages if p.index[0] not in names] or list(pages)
    main = require_rgb(
        max(slide, key=lambda p: (p.is_rgb or fluorescence, p.height * p.width)),
        name,
        fluorescence=fluorescence,
    )
    # sub-images hang below their own image; some writers put the levels as reduced pages behind it
    family = [p for p in slide if p.index[0] == main.index[0] or (len(p.index) == 1 and p.subfiletype & 1)]
    kept, shapes = levels_of(main, family)
    metadata = SlideMetadata() if root is None else _metadata(root, main)
    if fluorescence:
        metadata = replace(metadata, modality="fluorescence")
    named = [
        (names[p.index[0]], p) for p in pages if len(p.index) == 1 and p.index[0] in names and p is not main
    ]
    return Layout(kept, shapes, metadata, associated_of(named))


def _metadata(root: Element, main: Page) -> SlideMetadata:
    shape = (str(main.height), str(main.width))
    image = next(
        (i for i in find_all(root, "Image") if any(_size(p) == shape for p in find_all(i, "Pixels"))), None
    )
    pixels = None if image is None else next(p for p in find_all(image, "Pixels") if _size(p) == shape)
    mpp = None if pixels is None else plausible_mpp(_length(pixels, "Y"), _length(pixels, "X"))
    scope = next(iter(find_all(root, "Microscope")), None)
    lens = next(iter(find_all(root, "Objective")), None)
    attributes = scope.attrib if scope is not None else {}
    dates = [] if image is None else find_all(image, "AcquisitionDate")
    return SlideMetadata(
        mpp=mpp,
        mpp_source="file" if mpp else "unknown",
        vendor=(attributes.get("Manufacturer") or "").lower() or None,
        scanner=attributes.get("Model") or None,
        scanner_serial=attributes.get("SerialNumber") or None,
        objective_power=None if lens is None else objective(lens.get("NominalMagnification")),
        scan_date=next((iso_date(e.text) for e in dates if e.text), None),
        private=_private(root),
    )


def _size(pixels: Element) -> tuple[str | None, str | None]:
    return pixels.get("SizeY"), pixels.get("SizeX")


def _length(pixels: Element, axis: str) -> float | None:
    value = number(pixels.get(f"PhysicalSize{axis}"))
    unit = _UM.get(pixels.get(f"PhysicalSize{axis}Unit", "µm"))
    return None if value is None or unit is None else value * unit


def _kind(image: Element) -> str:
    text = (image.get("Name") or "").lower()
    return next((kind for word, kind in _OTHER.items() if text.strip().startswith(word)), "")


def _ifds(image: Element) -> list[int]:
    values = [number(e.get("IFD")) for e in find_all(image, "TiffData")]
    return [int(v) for v in values if v is not None and v.is_integer()]


def _is_fluorescence(root: Element) -> bool:
    channels = find_all(root, "Channel")
    said = [f"{c.get('ContrastMethod', '')} {c.get('IlluminationType', '')}".lower() for c in channels]
    return any("fluorescence" in text for text in said)


def _private(root: Element) -> dict[str, str]:
    """Return who and what the XML names: people, images, descriptions, fields of the scanner's file."""
    people: dict[str, str] = {}
    pairs: list[tuple[str, str | None]] = []
    for element in root.iter():
        tag = local_name(element)
        if tag in _PEOPLE:
            people |= {
                f"{tag} {key}": value for key, value in element.attrib.items() if key != "ID" and value
            }
        if tag == "M":  # a pair of a MapAnnotation
            pairs.append((element.get("K", ""), element.text))
        elif tag == "OriginalMetadata":  # Bio-Formats copies every field of the scanner's file
            texts = {local_name(e): e.text for e in element}
            pairs.append((texts.get("Key") or "", texts.get("Value")))
        elif len(element) == 0:
            pairs.append((tag, element.text))
    return people | private_fields(pairs)
