"""Philips TIFF: DICOM-like XML in the first page, levels padded to whole tiles, label in pages or XML."""

from __future__ import annotations

import base64
import binascii
import re
from collections.abc import Sequence
from xml.etree.ElementTree import Element

from napari_batchfx.slides._layout import (
    Layout,
    associated_of,
    find_all,
    local_name,
    number,
    objective,
    parse_xml,
    require_rgb,
    same_pixels,
)
from napari_batchfx.slides._tifffile import Page
from napari_batchfx.slides.dates import iso_date
from napari_batchfx.slides.metadata import SlideMetadata, plausible_mpp
from napari_batchfx.slides.private import decoded_barcode, private_fields

__all__ = ["matches", "parse"]

_NAMES = {"LABELIMAGE": "label", "MACROIMAGE": "macro"}


def matches(first: Page, pages: Sequence[Page]) -> bool:
    """Tell whether Philips' software wrote it."""
    return first.software.startswith("Philips") or "PIM_DP_" in first.description


def parse(pages: Sequence[Page], name: str) -> Layout:
    """Take the tiled pages as levels; what counts of each is level 0 divided by its power of two."""
    root = parse_xml(pages[0].description)
    slide = [p for p in pages if p.is_tiled and not _other(p)]
    main = require_rgb((slide or list(pages))[0], name)
    kept, shapes = _levels(slide or [main], _factors(root))
    general = {} if root is None else _fields(root)
    scan = general if root is None else {**general, **_fields(_image(root, "WSI"))}
    spacing = _spacing(scan.get("DICOM_PIXEL_SPACING", ""))
    mpp = plausible_mpp(*(1000 * v for v in spacing[:2])) if len(spacing) >= 2 else None
    metadata = SlideMetadata(
        mpp=mpp,
        mpp_source="file" if mpp else "unknown",
        vendor="philips",
        scanner=general.get("DICOM_MANUFACTURERS_MODEL_NAME") or general.get("DICOM_MANUFACTURER") or None,
        scanner_serial=general.get("DICOM_DEVICE_SERIAL_NUMBER") or None,
        objective_power=_power(scan.get("DICOM_DERIVATION_DESCRIPTION", "")),
        scan_date=iso_date(scan.get("DICOM_ACQUISITION_DATETIME")),
        private=_private(root, scan),
    )
    named = [(n, p) for p in pages if p is not main and (n := _other(p))]
    encoded = () if root is None else tuple(_encoded(root, {n for n, _ in named}))
    return Layout(kept, shapes, metadata, associated_of(named), encoded)


def _levels(
    slide: Sequence[Page], factors: Sequence[int]
) -> tuple[tuple[Page, ...], tuple[tuple[int, int], ...]]:
    """Return the levels and what counts of each: Philips pads them to whole tiles, the last ones to one tile.

    The factors are those of the XML where it has one a page; else each page takes the next power of two
    whose content, padded, is as large as the page. Sizes are rounded down, as OpenSlide has it.
    """
    main = slide[0]
    kept, last = {(main.height, main.width): main}, 1
    for index, page in enumerate(slide[1:], 1):
        stated = [factors[index]] if len(factors) == len(slide) else [last * 2**k for k in range(1, 32)]
        for factor in stated if same_pixels(page, main) else []:
            shape = (max(1, main.height // factor), max(1, main.width // factor))
            padding = (page.height - shape[0], page.width - shape[1])
            if factor > last and all(0 <= p < s for p, s in zip(padding, page.segment, strict=True)):
                kept.setdefault(shape, page)
                last = factor
                break
    return tuple(kept.values()), tuple(kept)


def _factors(root: Element | None) -> list[int]:
    """Return how much smaller each level is, from the pixel spacings that the XML lists."""
    scan = None if root is None else _image(root, "WSI")
    spacings: list[list[float]] = []
    for entry in [] if scan is None else find_all(scan, "DataObject"):
        if entry.get("ObjectType") == "PixelDataRepresentation":
            spacings.append(_spacing(_fields(entry).get("DICOM_PIXEL_SPACING", "")))
    if not spacings or not all(len(s) == 2 and min(s) > 0 for s in spacings):
        return []
    return [round((a / spacings[0][0] + b / spacings[0][1]) / 2) for a, b in spacings]


def _spacing(text: str) -> list[float]:
    return [v for part in re.findall(r"[\d.eE+-]+", text) if (v := number(part)) is not None]


def _other(page: Page) -> str:
    match = re.match(r"\s*(label|macro)", page.description, re.IGNORECASE)
    return match.group(1).lower() if match else ""


def _image(root: Element, kind: str) -> Element | None:
    """Return the scanned image of a kind: the slide ("WSI"), the label or the macro."""
    for entry in find_all(root, "DataObject"):
        if any(a.get("Name") == "PIM_DP_IMAGE_TYPE" and (a.text or "").strip() == kind for a in entry):
            return entry
    return None


def _fields(element: Element | None) -> dict[str, str]:
    """Return the plain attributes of an object, else those inside of it; the first of a name counts."""
    found: dict[str, str] = {}
    own = [] if element is None else [a for a in element if local_name(a) == "Attribute"]
    inside = [] if element is None else find_all(element, "Attribute")
    for attribute in [*own, *inside]:
        if len(attribute) == 0 and attribute.text:
            found.setdefault(attribute.get("Name", ""), attribute.text.strip().strip('"') or "")
    return found


def _power(derivation: str) -> float | None:
    match = re.search(r"-levels=(\d+)", derivation.split("sourceFilename")[0])
    return objective(match.group(1)) if match else None


def _private(root: Element | None, scan: dict[str, str]) -> dict[str, str]:
    pairs: list[tuple[str, str | None]] = []
    for attribute in [] if root is None else find_all(root, "Attribute"):
        if len(attribute) == 0 and attribute.get("Name") != "PIM_DP_IMAGE_DATA":
            pairs.append((attribute.get("Name", ""), (attribute.text or "").strip().strip('"')))
    source = re.search(r'sourceFilename="?([^"]+)', scan.get("DICOM_DERIVATION_DESCRIPTION", ""))
    pairs.append(("sourceFilename", source.group(1) if source else None))
    found = private_fields(pairs)
    return {k: decoded_barcode(v) if "BARCODE" in k.upper() else v for k, v in found.items()}


def _encoded(root: Element, have: set[str]) -> list[tuple[str, bytes]]:
    """Return label and macro that lie in the XML as Base64 JPEG, where the file has no page of them."""
    found = []
    for kind, name in _NAMES.items():
        entry = _image(root, kind)
        data = (
            None if entry is None else next((a for a in entry if a.get("Name") == "PIM_DP_IMAGE_DATA"), None)
        )
        if name in have or data is None or not data.text:
            continue
        try:
            found.append((name, base64.b64decode("".join(data.text.split()))))
        except (binascii.Error, ValueError):
            continue
    return found
